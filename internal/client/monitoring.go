package client

import (
	"context"
	"encoding/json"
	"net/url"
	"time"

	"github.com/slipway/slipway/internal/control/alert"
)

// Alerts returns what is not as it should be.
func (c *Client) Alerts(ctx context.Context) ([]alert.Alert, error) {
	page, err := do[Page[alert.Alert]](ctx, c, request{method: "GET", path: path("alerts")})
	return page.Items, err
}

// TestAlert sends an alert that means nothing, to all receivers if none is named.
func (c *Client) TestAlert(ctx context.Context, receiver string) ([]alert.Tested, error) {
	page, err := do[Page[alert.Tested]](ctx, c, request{method: "POST", path: path("alerts", "test"), body: map[string]string{"receiver": receiver}})
	return page.Items, err
}

// RuleFile returns every rule as a file for a Prometheus.
func (c *Client) RuleFile(ctx context.Context) (string, error) {
	file, err := do[struct{ YAML string }](ctx, c, request{method: "GET", path: path("alerts", "rules")})
	return file.YAML, err
}

// Silences returns silences in force or to come.
func (c *Client) Silences(ctx context.Context) ([]alert.Silence, error) {
	page, err := do[Page[alert.Silence]](ctx, c, request{method: "GET", path: path("silences")})
	return page.Items, err
}

// Silence tells nobody of some alerts for a time.
func (c *Client) Silence(ctx context.Context, match map[string]string, reason string, length time.Duration) (alert.Silence, error) {
	return do[alert.Silence](ctx, c, request{method: "POST", path: path("silences"), body: map[string]any{"match": match, "reason": reason, "seconds": int64(length.Seconds())}})
}

// EndSilence ends a silence now.
func (c *Client) EndSilence(ctx context.Context, id string) error {
	_, err := do[struct{}](ctx, c, request{method: "DELETE", path: path("silences", id)})
	return err
}

// QueryAnswer is what a query about metrics gave.
type QueryAnswer struct {
	Type   string          `json:"resultType"`
	Result json.RawMessage `json:"result"`
}

// QueryMetrics asks about metrics in PromQL: now, or over a length of time in
// even steps if one is given.
func (c *Client) QueryMetrics(ctx context.Context, expression string, since, step time.Duration, now time.Time) (QueryAnswer, error) {
	at, ask := "/prometheus/api/v1/query", url.Values{"query": {expression}}
	if since > 0 {
		at = "/prometheus/api/v1/query_range"
		ask.Set("start", now.Add(-since).UTC().Format(time.RFC3339))
		ask.Set("end", now.UTC().Format(time.RFC3339))
		ask.Set("step", step.String())
	}
	answer, err := do[struct{ Data QueryAnswer }](ctx, c, request{method: "GET", path: at, query: ask})
	return answer.Data, err
}
