package client

import (
	"context"

	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/link"
)

// QueryOptions say where a query runs.
type QueryOptions struct {
	Environment string `json:"environment,omitempty"`
	Stamp       string `json:"stamp,omitempty"`
	After       string `json:"after,omitempty"`
	Limit       int    `json:"limit,omitempty"`
}

// Query runs a query on each stamp.
func (c *Client) Query(ctx context.Context, text string, o QueryOptions) ([]fleet.Answer, error) {
	page, err := do[Page[fleet.Answer]](ctx, c, request{method: "POST", path: path("query"), body: struct {
		Query string `json:"query"`
		QueryOptions
	}{text, o}})
	return page.Items, err
}

// SavedQueries returns the queries people keep.
func (c *Client) SavedQueries(ctx context.Context) ([]fleet.SavedQuery, error) {
	page, err := do[Page[fleet.SavedQuery]](ctx, c, request{method: "GET", path: path("saved-queries")})
	return page.Items, err
}

// SaveQuery keeps a query under a name.
func (c *Client) SaveQuery(ctx context.Context, name, text string) error {
	_, err := do[struct{}](ctx, c, request{method: "PUT", path: path("saved-queries", name), body: map[string]string{"query": text}})
	return err
}

// ForgetQuery deletes a saved query.
func (c *Client) ForgetQuery(ctx context.Context, name string) error {
	_, err := do[struct{}](ctx, c, request{method: "DELETE", path: path("saved-queries", name)})
	return err
}

// Jobs returns the jobs of back ends on all stamps.
func (c *Client) Jobs(ctx context.Context) ([]link.Job, error) {
	page, err := do[Page[link.Job]](ctx, c, request{method: "GET", path: path("jobs")})
	return page.Items, err
}

// CancelJob ends a job.
func (c *Client) CancelJob(ctx context.Context, stamp, id string) (link.Job, error) {
	return do[link.Job](ctx, c, request{method: "POST", path: path("stamps", stamp, "jobs", id, "cancel")})
}

// Configurations returns the configurations of back ends on all stamps.
func (c *Client) Configurations(ctx context.Context) ([]link.Configuration, error) {
	page, err := do[Page[link.Configuration]](ctx, c, request{method: "GET", path: path("configurations")})
	return page.Items, err
}
