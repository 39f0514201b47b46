package client

import (
	"context"
	"net/url"

	"github.com/slipway/slipway/internal/link"
)

// Updates returns a page of a stamp's census, from after a device on; an empty
// state is every one.
func (c *Client) Updates(ctx context.Context, stamp string, state link.UpdateState, after string) (Page[link.Update], error) {
	query := url.Values{"limit": {"1000"}}
	if state != "" {
		query.Set("state", string(state))
	}
	if after != "" {
		query.Set("after", after)
	}
	return do[Page[link.Update]](ctx, c, request{method: "GET", path: path("stamps", stamp, "updates"), query: query})
}

// Update returns where a device stands with what it is to run.
func (c *Client) Update(ctx context.Context, device string) (link.Update, error) {
	return do[link.Update](ctx, c, request{method: "GET", path: path("devices", device, "update")})
}
