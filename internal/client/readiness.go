package client

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/control/readiness"
)

// Readiness tells how ready every environment is.
func (c *Client) Readiness(ctx context.Context) ([]readiness.Verdict, error) {
	page, err := do[Page[readiness.Verdict]](ctx, c, request{method: "GET", path: path("readiness")})
	return page.Items, err
}

// EnvironmentReadiness tells how ready an environment is.
func (c *Client) EnvironmentReadiness(ctx context.Context, environment string) (readiness.Verdict, error) {
	return do[readiness.Verdict](ctx, c, request{method: "GET", path: path("environments", environment, "readiness")})
}

// ReadinessHistory tells how ready an environment was.
func (c *Client) ReadinessHistory(ctx context.Context, environment string, days int) ([]readiness.Point, error) {
	page, err := do[Page[readiness.Point]](ctx, c, request{method: "GET", path: path("environments", environment, "readiness", "history"), query: url.Values{"days": {strconv.Itoa(days)}}})
	return page.Items, err
}

// ReadinessAnswer is what somebody says of a check.
type ReadinessAnswer struct {
	Applies bool      `json:"applies"`
	Owner   string    `json:"owner"`
	Reason  string    `json:"reason"`
	Until   time.Time `json:"until"`
}

// AnswerReadiness answers a check for which there is no evidence.
func (c *Client) AnswerReadiness(ctx context.Context, environment, check string, a ReadinessAnswer) (readiness.Answer, error) {
	return do[readiness.Answer](ctx, c, request{method: "PUT", path: path("environments", environment, "readiness", "answers", check), body: a})
}

// WithdrawReadiness takes an answer back.
func (c *Client) WithdrawReadiness(ctx context.Context, environment, check string) error {
	_, err := do[struct{}](ctx, c, request{method: "DELETE", path: path("environments", environment, "readiness", "answers", check)})
	return err
}

// OwnReadiness says who answers for a topic of readiness.
func (c *Client) OwnReadiness(ctx context.Context, topic, owner string) error {
	_, err := do[struct{}](ctx, c, request{method: "PUT", path: path("readiness-owners", topic), body: map[string]any{"owner": owner}})
	return err
}

// Calendar tells what is known to run out or to come.
func (c *Client) Calendar(ctx context.Context, environment string, days int) ([]readiness.Date, error) {
	query := url.Values{"days": {strconv.Itoa(days)}}
	if environment != "" {
		query.Set("environment", environment)
	}
	page, err := do[Page[readiness.Date]](ctx, c, request{method: "GET", path: path("calendar"), query: query})
	return page.Items, err
}
