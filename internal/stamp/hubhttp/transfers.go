package hubhttp

import (
	"context"
	"encoding/json"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/hub"
	"github.com/slipway/slipway/internal/stamp/transfer"
	"github.com/slipway/slipway/internal/stamp/twin"
)

// transferView is an import or export as SDKs read it. A container's address
// comes without its token.
type transferView struct {
	ID          string          `json:"jobId"`
	StartTime   time.Time       `json:"startTimeUtc"`
	EndTime     *time.Time      `json:"endTimeUtc"`
	Type        transfer.Type   `json:"type"`
	Status      transfer.Status `json:"status"`
	Progress    int             `json:"progress"` // percent; 0 until the end, as nobody knows how much there is
	Lines       int64           `json:"processedCount"`
	Refused     int64           `json:"failedCount"`
	Input       string          `json:"inputBlobContainerUri,omitempty"`
	Output      string          `json:"outputBlobContainerUri"`
	ExcludeKeys bool            `json:"excludeKeysInExport"`
	Failure     string          `json:"failureReason,omitempty"`
}

func showTransfer(t transfer.Transfer) transferView {
	v := transferView{
		ID: t.ID, StartTime: t.CreatedAt, EndTime: t.EndAt, Type: t.Type, Status: t.Status, Lines: t.Lines, Refused: t.Refused,
		Input: t.Input, Output: t.Output, ExcludeKeys: t.ExcludeKeys, Failure: t.Failure,
	}
	if t.Status == transfer.Completed {
		v.Progress = 100
	}
	return v
}

func (e *Edge) createTransfer(c *call) (answer, error) {
	var sent transfer.Spec
	if err := c.decode(&sent); err != nil {
		return answer{}, err
	}
	t, err := e.Transfers.Create(c.ctx, sent, string(c.actor))
	return answer{body: showTransfer(t)}, err
}

func (e *Edge) listTransfers(c *call) (answer, error) {
	all, err := e.Transfers.List(c.ctx)
	views := []transferView{}
	for _, t := range all {
		views = append(views, showTransfer(t))
	}
	return answer{body: views}, err
}

func (e *Edge) getTransfer(c *call) (answer, error) {
	t, err := e.Transfers.Get(c.ctx, c.args[0])
	return answer{body: showTransfer(t)}, unknownJob(err)
}

func (e *Edge) cancelTransfer(c *call) (answer, error) {
	t, err := e.Transfers.Cancel(c.ctx, c.args[0])
	return answer{body: showTransfer(t)}, unknownJob(err)
}

// ImportLine applies a line of an import, which reads like one of a bulk change.
func (e *Edge) ImportLine(ctx context.Context, line []byte, actor string) (id string, err error) {
	var item bulkItem
	if err := json.Unmarshal(line, &item); err != nil {
		return "", problem.New(problem.Invalid, "the line is not a JSON object of an identity: %w", err)
	}
	return item.identityID(), e.apply(ctx, item, hub.Actor(actor))
}

// exportPage is how many identities are read at once.
const exportPage = 500

// ExportLines returns identities the way an import takes them.
func (e *Edge) ExportLines(ctx context.Context, after string, keys bool) (lines [][]byte, last string, err error) {
	page, err := e.Hub.Devices.Wholes(ctx, after, exportPage)
	if err != nil {
		return nil, "", err
	}
	for _, whole := range page {
		line, err := twin.Encode(exported(whole, keys))
		if err != nil {
			return nil, "", err
		}
		lines, last = append(lines, line), whole.ID
	}
	return lines, last, nil
}

func exported(whole device.Whole, keys bool) twin.Document {
	line := twin.Document{
		"eTag": whole.ETag(), "twinETag": whole.Document.ETag(), "tags": whole.Document.Tags,
		"properties": twin.Document{"desired": whole.Document.Desired.Values, "reported": whole.Document.Reported.Values},
	}
	identity := whole.Identity()
	for _, name := range []string{"moduleId", "managedBy", "status", "statusReason", "capabilities", "deviceScope", "parentScopes", "authentication"} {
		if value, ok := identity[name]; ok {
			line[name] = value
		}
	}
	line["id"] = identity["deviceId"]
	if auth, ok := line["authentication"].(twin.Document); ok && !keys {
		auth["symmetricKey"] = twin.Document{"primaryKey": nil, "secondaryKey": nil}
	}
	return line
}
