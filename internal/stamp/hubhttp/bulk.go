package hubhttp

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
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
	failed := []bulkError{}
	for _, item := range items {
		if err := e.bulkOne(c, item); err != nil {
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

// bulkOne applies one line; without a mode it creates or updates.
func (e *Edge) bulkOne(c *call, item bulkItem) error {
	id, etag := item.identityID(), item.ETag
	if etag == "" {
		etag = anyEdition
	}
	switch strings.ToLower(item.ImportMode) {
	case "", "createorupdate", "createorupdateifmatchetag":
		err := e.bulkCreate(c, id, item)
		if problem.Is(err, problem.Conflict) {
			return e.bulkUpdate(c, id, item, etag)
		}
		return err
	case "create":
		return e.bulkCreate(c, id, item)
	case "update":
		return e.bulkUpdate(c, id, item, anyEdition)
	case "updateifmatchetag":
		return e.bulkUpdate(c, id, item, etag)
	case "delete":
		return missing(id, e.Hub.DeleteIdentity(c.ctx, id, anyEdition, c.actor))
	case "deleteifmatchetag":
		return missing(id, e.Hub.DeleteIdentity(c.ctx, id, etag, c.actor))
	case "updatetwin":
		return e.bulkTwin(c, id, item, anyEdition)
	case "updatetwinifmatchetag":
		return e.bulkTwin(c, id, item, item.TwinETag)
	}
	return problem.New(problem.Invalid, "there is no import mode %q", item.ImportMode).At("importMode")
}

func (e *Edge) bulkCreate(c *call, id string, item bulkItem) error {
	spec, err := item.spec(id)
	if err != nil {
		return err
	}
	_, err = e.Hub.CreateIdentity(c.ctx, spec, &link.TwinContent{Tags: item.Tags, Desired: item.Properties.Desired}, c.actor)
	return taken(id, err)
}

// bulkUpdate changes an identity; status and credentials it does not name stay.
func (e *Edge) bulkUpdate(c *call, id string, item bulkItem, etag string) error {
	entry, err := e.Hub.Devices.Entry(c.ctx, id)
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
	_, err = e.Hub.ChangeIdentity(c.ctx, spec, etag, c.actor)
	return missing(id, err)
}

func (e *Edge) bulkTwin(c *call, id string, item bulkItem, etag string) error {
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
	_, err = e.Hub.PatchTwin(c.ctx, link.PatchTwin{DeviceID: id, IfMatch: etag, Patch: text})
	return missing(id, err)
}
