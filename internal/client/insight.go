package client

import (
	"context"
	"net/url"
	"strconv"

	"github.com/slipway/slipway/internal/control/insight"
)

// Insight tells how often and how well releases reach an environment and its
// stamps, or all of them.
func (c *Client) Insight(ctx context.Context, environment string, days int) ([]insight.Figures, error) {
	query := url.Values{"days": {strconv.Itoa(days)}}
	if environment != "" {
		query.Set("environment", environment)
	}
	page, err := do[Page[insight.Figures]](ctx, c, request{method: "GET", path: path("insight"), query: query})
	return page.Items, err
}
