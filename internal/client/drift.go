package client

import (
	"context"
	"net/url"
	"time"

	"github.com/slipway/slipway/internal/control/drift"
)

func onlyOf(key, value string) url.Values {
	if value == "" {
		return nil
	}
	return url.Values{key: {value}}
}

// Drift tells where what is so is not what is declared, in one environment or
// all.
func (c *Client) Drift(ctx context.Context, environment string) (drift.Page, error) {
	return do[drift.Page](ctx, c, request{method: "GET", path: path("drift"), query: onlyOf("environment", environment)})
}

// DeviceDrift tells how twins are, by stamp and model.
func (c *Client) DeviceDrift(ctx context.Context, environment string) ([]drift.Rollup, error) {
	page, err := do[Page[drift.Rollup]](ctx, c, request{method: "GET", path: path("drift", "devices"), query: onlyOf("environment", environment)})
	return page.Items, err
}

func answering(owner, reason string, lasting time.Duration) map[string]any {
	return map[string]any{"owner": owner, "reason": reason, "seconds": int64(lasting.Seconds())}
}

// AcceptDrift answers for a difference of an environment, for a time.
func (c *Client) AcceptDrift(ctx context.Context, environment, id, owner, reason string, lasting time.Duration) (drift.Acceptance, error) {
	body := answering(owner, reason, lasting)
	if environment != "" {
		body["environment"] = environment
	}
	return do[drift.Acceptance](ctx, c, request{method: "POST", path: path("drift", id, "accept"), body: body})
}

// Acceptances are the differences that somebody answers for.
func (c *Client) Acceptances(ctx context.Context) ([]drift.Acceptance, error) {
	page, err := do[Page[drift.Acceptance]](ctx, c, request{method: "GET", path: path("acceptances")})
	return page.Items, err
}

// RetractAcceptance takes an acceptance back.
func (c *Client) RetractAcceptance(ctx context.Context, id string) error {
	_, err := do[struct{}](ctx, c, request{method: "DELETE", path: path("acceptances", id)})
	return err
}

// Parity tells how alike two environments are, and why not.
func (c *Client) Parity(ctx context.Context, from, to string) (drift.Report, error) {
	return do[drift.Report](ctx, c, request{method: "GET", path: path("parity"), query: url.Values{"from": {from}, "to": {to}}})
}

// AcceptParity answers for a place in which two environments differ.
func (c *Client) AcceptParity(ctx context.Context, from, to, at, owner, reason string, lasting time.Duration) (drift.Acceptance, error) {
	body := answering(owner, reason, lasting)
	body["from"], body["to"], body["path"] = from, to, at
	return do[drift.Acceptance](ctx, c, request{method: "POST", path: path("parity", "accept"), body: body})
}
