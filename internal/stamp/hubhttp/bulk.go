package hubhttp

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/hub"
	"github.com/slipway/slipway/internal/stamp/throttle"
)

// maxBulk is how many identities one request changes.
const maxBulk = 100

// bulkItem is one line of a bulk change. encoding/json matches names without
// regard to letter case, which covers "etag" and "eTag".
type bulkItem struct {
	identity
	ID         string          `json:"id"`
	ETag       string          `json:"eTag"`
	TwinETag   string          `json:"twinETag"`
	ImportMode string          `json:"importMode"`
	Tags       json.RawMessage `json:"tags"`
	Properties struct {
		Desired json.RawMessage `json:"desired"`
	} `json:"properties"`
}

type bulkError struct {
	DeviceID    string `json:"deviceId"`
	ModuleID    string `json:"moduleId,omitempty"`
	ErrorCode   any    `json:"errorCode"`
	ErrorStatus string `json:"errorStatus"`
	Operation   string `json:"operation,omitempty"`
}

func bulkErrorOf(id, operation string, err error) bulkError {
	device, module := link.SplitIdentity(id)
	return bulkError{device, module, faultOf(err).name, problem.Of(err).Error(), operation}
}

func (e *Edge) bulk(c *call) (answer, error) {
	var items []bulkItem
	if err := c.decode(&items); err != nil {
		return answer{}, err
	}
	if n := len(items); n == 0 || n > maxBulk {
		return answer{}, problem.New(problem.Invalid, "one request changes 1 to %d devices, not %d", maxBulk, n)
	}
	if err := e.Hub.Operations.Allow(throttle.Registry, len(items)-1, e.Now()); err != nil {
		return answer{}, err
	}
	failed := []bulkError{}
	for _, item := range items {
		if err := e.apply(c.ctx, item, c.actor); err != nil {
			failed = append(failed, bulkErrorOf(item.identityID(), item.ImportMode, err))
		}
	}
	a := answer{body: map[string]any{"isSuccessful": len(failed) == 0, "errors": failed, "warnings": []any{}}}
	if len(failed) > 0 {
		a.status = http.StatusBadRequest
	}
	return a, nil
}

func (i bulkItem) identityID() string {
	id := i.ID
	if id == "" {
		id = i.DeviceID
	}
	if i.ModuleID != "" {
		id = link.ModuleIdentity(id, i.ModuleID)
	}
	return id
}

const anyEdition = "*"

// apply changes one identity; without a mode it creates or updates it.
func (e *Edge) apply(ctx context.Context, item bulkItem, actor hub.Actor) error {
	id, etag := item.identityID(), item.ETag
	if etag == "" {
		etag = anyEdition
	}
	switch strings.ToLower(item.ImportMode) {
	case "", "createorupdate":
		return e.bulkPut(ctx, id, item, anyEdition, actor)
	case "createorupdateifmatchetag":
		return e.bulkPut(ctx, id, item, etag, actor)
	case "create":
		return e.bulkCreate(ctx, id, item, actor)
	case "update":
		return e.bulkUpdate(ctx, id, item, anyEdition, actor)
	case "updateifmatchetag":
		return e.bulkUpdate(ctx, id, item, etag, actor)
	case "delete":
		return missing(id, e.Hub.DeleteIdentity(ctx, id, anyEdition, actor))
	case "deleteifmatchetag":
		return missing(id, e.Hub.DeleteIdentity(ctx, id, etag, actor))
	case "updatetwin":
		return e.bulkTwin(ctx, id, item, anyEdition)
	case "updatetwinifmatchetag":
		return e.bulkTwin(ctx, id, item, item.TwinETag)
	}
	return problem.New(problem.Invalid, "there is no import mode %q", item.ImportMode).At("importMode")
}

func (e *Edge) bulkCreate(ctx context.Context, id string, item bulkItem, actor hub.Actor) error {
	spec, err := item.spec(id)
	if err != nil {
		return err
	}
	_, err = e.Hub.CreateIdentity(ctx, spec, &link.TwinContent{Tags: item.Tags, Desired: item.Properties.Desired}, actor)
	return taken(id, err)
}

func (e *Edge) bulkPut(ctx context.Context, id string, item bulkItem, etag string, actor hub.Actor) error {
	err := e.bulkCreate(ctx, id, item, actor)
	if problem.Is(err, problem.Conflict) {
		return e.bulkUpdate(ctx, id, item, etag, actor)
	}
	return err
}

// bulkUpdate changes an identity; status and credentials it does not name stay.
func (e *Edge) bulkUpdate(ctx context.Context, id string, item bulkItem, etag string, actor hub.Actor) error {
	entry, err := e.Hub.Devices.Entry(ctx, id)
	if err != nil {
		return missing(id, err)
	}
	spec, err := item.spec(id)
	if err != nil {
		return err
	}
	if item.Authentication == nil {
		spec.Auth = entry.Auth
	}
	if spec.Status == "" {
		spec.Status = entry.Status
	}
	_, err = e.Hub.ChangeIdentity(ctx, spec, etag, actor)
	return missing(id, err)
}

func (e *Edge) bulkTwin(ctx context.Context, id string, item bulkItem, etag string) error {
	patch := map[string]any{}
	if len(item.Tags) > 0 {
		patch["tags"] = item.Tags
	}
	if len(item.Properties.Desired) > 0 {
		patch["properties"] = map[string]any{"desired": item.Properties.Desired}
	}
	text, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	_, err = e.Hub.PatchTwin(ctx, link.PatchTwin{DeviceID: id, IfMatch: etag, Patch: text})
	return missing(id, err)
}
