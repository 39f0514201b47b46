package client

import (
	"context"
	"net/url"

	"github.com/slipway/slipway/internal/control/rehearsal"
	"github.com/slipway/slipway/internal/link"
)

// Rehearsals returns the newest rehearsals, of one environment and one release
// if they are named.
func (c *Client) Rehearsals(ctx context.Context, environment, release string) ([]rehearsal.Rehearsal, error) {
	query := url.Values{}
	for key, value := range map[string]string{"environment": environment, "release": release} {
		if value != "" {
			query.Set(key, value)
		}
	}
	page, err := do[Page[rehearsal.Rehearsal]](ctx, c, request{method: "GET", path: path("rehearsals"), query: query})
	return page.Items, err
}

// Rehearsal returns a rehearsal with its evidence.
func (c *Client) Rehearsal(ctx context.Context, id string) (rehearsal.Rehearsal, error) {
	return do[rehearsal.Rehearsal](ctx, c, request{method: "GET", path: path("rehearsals", id)})
}

// StartRehearsal has the migrations of a release rehearsed on the data of a
// stamp; none named is the one with the most devices.
func (c *Client) StartRehearsal(ctx context.Context, environment, stamp, release string) (rehearsal.Rehearsal, error) {
	body := map[string]string{"environment": environment, "release": release}
	if stamp != "" {
		body["stamp"] = stamp
	}
	return do[rehearsal.Rehearsal](ctx, c, request{method: "POST", path: path("rehearsals"), body: body})
}

// CancelRehearsal ends a rehearsal that waits or runs.
func (c *Client) CancelRehearsal(ctx context.Context, id string) (rehearsal.Rehearsal, error) {
	return do[rehearsal.Rehearsal](ctx, c, request{method: "POST", path: path("rehearsals", id, "cancel")})
}

// ClaimRehearsal takes up a rehearsal that is due: one, or the oldest.
func (c *Client) ClaimRehearsal(ctx context.Context, host, id string) (link.RehearsalWork, error) {
	body := map[string]string{"host": host}
	if id != "" {
		body["rehearsal"] = id
	}
	return do[link.RehearsalWork](ctx, c, request{method: "POST", path: path("claim-rehearsal"), body: body})
}

// AdvanceRehearsal tells how far a rehearsal is, and hears whether it was
// cancelled.
func (c *Client) AdvanceRehearsal(ctx context.Context, id, phase string) (cancelled bool, err error) {
	word, err := do[struct{ Cancelled bool }](ctx, c, request{method: "POST", path: path("rehearsals", id, "advance"), body: map[string]string{"phase": phase}})
	return word.Cancelled, err
}

// ConcludeRehearsal hands in the evidence of a rehearsal.
func (c *Client) ConcludeRehearsal(ctx context.Context, id string, e link.RehearsalEvidence) (rehearsal.Rehearsal, error) {
	return do[rehearsal.Rehearsal](ctx, c, request{method: "POST", path: path("rehearsals", id, "conclude"), body: e})
}
