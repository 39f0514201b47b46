package client

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/control/journal"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Logs returns lines of the logs of all processes, newest first, and the Before
// of the next page.
func (c *Client) Logs(ctx context.Context, f journal.Filter) ([]journal.Entry, string, error) {
	page, err := do[Page[journal.Entry]](ctx, c, request{method: "GET", path: path("logs"), query: journalQuery(f)})
	return page.Items, page.Next, err
}

// FollowLogs calls each for the last lines, the oldest first, and then for those
// that come, until ctx ends.
func (c *Client) FollowLogs(ctx context.Context, f journal.Filter, each func(journal.Entry) error) error {
	query := journalQuery(f)
	query.Set("follow", "true")
	return c.stream(ctx, request{method: "GET", path: path("logs"), query: query}, func(line []byte) error {
		var told struct {
			journal.Entry
			Status int
			Detail string
		}
		if err := json.Unmarshal(line, &told); err != nil {
			return err
		}
		if told.Status != 0 {
			return problem.New(kinds[told.Status], "%s", told.Detail)
		}
		return each(told.Entry)
	})
}

func journalQuery(f journal.Filter) url.Values {
	query := url.Values{}
	for name, value := range map[string]string{
		"text": f.Text, "level": f.Level, "plane": f.Plane, "stamp": f.Stamp, "environment": f.Environment, "tenant": f.Tenant, "device": f.Device, "release": f.Release, "trace": f.Trace,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{"from": f.From, "to": f.To} {
		if !at.IsZero() {
			query.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	for name, n := range map[string]int64{"before": f.Before, "limit": int64(f.Limit)} {
		if n > 0 {
			query.Set(name, strconv.FormatInt(n, 10))
		}
	}
	return query
}

// Traces returns the newest traces, by what began them.
func (c *Client) Traces(ctx context.Context, limit int) ([]link.Span, error) {
	page, err := do[Page[link.Span]](ctx, c, request{method: "GET", path: path("traces"), query: url.Values{"limit": {strconv.Itoa(limit)}}})
	return page.Items, err
}

// Trace returns what was done in a trace, in order.
func (c *Client) Trace(ctx context.Context, id string) ([]journal.Step, error) {
	page, err := do[Page[journal.Step]](ctx, c, request{method: "GET", path: path("traces", id)})
	return page.Items, err
}
