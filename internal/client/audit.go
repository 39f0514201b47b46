package client

import (
	"context"
	"errors"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/gateway"
)

// AuditEntries returns a page of the audit log, newest first, and the Before
// of the next. That it was read is recorded.
func (c *Client) AuditEntries(ctx context.Context, f audit.Filter) ([]audit.Entry, string, error) {
	query := url.Values{}
	for name, value := range map[string]string{"actor": f.Actor, "action": f.Action, "object": f.Object, "environment": f.Environment, "grant": f.Grant, "request": f.Request} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{"from": f.From, "to": f.To} {
		if !at.IsZero() {
			query.Set(name, at.UTC().Format(time.RFC3339))
		}
	}
	for name, n := range map[string]int64{"before": f.Before, "limit": int64(f.Limit)} {
		if n > 0 {
			query.Set(name, strconv.FormatInt(n, 10))
		}
	}
	page, err := do[Page[audit.Entry]](ctx, c, request{method: "GET", path: path("audit"), query: query})
	return page.Items, page.Next, err
}

// ProvenEntry is an entry of the audit log with its proof.
type ProvenEntry struct {
	Entry    audit.Entry    `json:"entry"`
	Proof    audit.Proof    `json:"proof"`
	Recorded []gateway.Mark `json:"recorded,omitempty"` // the lines of recorded sessions by which it came
}

// AuditEntry returns an entry with the proof that it is in the signed log.
func (c *Client) AuditEntry(ctx context.Context, sequence int64) (ProvenEntry, error) {
	return do[ProvenEntry](ctx, c, request{method: "GET", path: path("audit", "entries", strconv.FormatInt(sequence, 10))})
}

// SignedLog is a checkpoint of the audit log, and how far its witnesses are.
type SignedLog struct {
	audit.Checkpoint
	Witnesses []audit.WitnessState `json:"witnesses"`
}

// AuditCheckpoint returns the newest checkpoint, or signs one.
func (c *Client) AuditCheckpoint(ctx context.Context, sign bool) (SignedLog, error) {
	if sign {
		return do[SignedLog](ctx, c, request{method: "POST", path: path("audit", "checkpoints")})
	}
	return do[SignedLog](ctx, c, request{method: "GET", path: path("audit", "checkpoint")})
}

// AuditCheckpoints lists those that were signed, newest first.
func (c *Client) AuditCheckpoints(ctx context.Context, limit int) ([]audit.Checkpoint, error) {
	page, err := do[Page[audit.Checkpoint]](ctx, c, request{method: "GET", path: path("audit", "checkpoints"), query: url.Values{"limit": {strconv.Itoa(limit)}}})
	return page.Items, err
}

// AuditContinuation proves that the newest checkpoint goes on from an earlier.
func (c *Client) AuditContinuation(ctx context.Context, from int64) (audit.Continuation, error) {
	return do[audit.Continuation](ctx, c, request{method: "GET", path: path("audit", "consistency"), query: url.Values{"from": {strconv.FormatInt(from, 10)}}})
}

// EraseAudit has the log forget who somebody was, or what an object was, and
// tells in how many entries.
func (c *Client) EraseAudit(ctx context.Context, e audit.Erasure) (int64, error) {
	said, err := do[struct{ Entries int64 }](ctx, c, request{method: "POST", path: path("audit", "erasures"), body: map[string]string{"actor": e.Actor, "object": e.Object, "reason": e.Reason}})
	return said.Entries, err
}

// ExportAudit writes the whole log as lines of JSON; that is recorded.
func (c *Client) ExportAudit(ctx context.Context, to io.Writer) (err error) {
	resp, err := c.send(ctx, request{method: "GET", path: path("audit", "export")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	_, err = io.Copy(to, resp.Body)
	return err
}
