package client

import (
	"context"
	"net/url"
	"strconv"

	"github.com/slipway/slipway/internal/control/featureflag"
	"github.com/slipway/slipway/internal/flag"
)

// Flags returns every feature flag with what it is in each environment.
func (c *Client) Flags(ctx context.Context) ([]featureflag.Overview, error) {
	page, err := do[Page[featureflag.Overview]](ctx, c, request{method: "GET", path: path("flag-matrix")})
	return page.Items, err
}

// SetFlag has an environment say something of a flag.
func (c *Client) SetFlag(ctx context.Context, environment, key string, overlay flag.Overlay, reason, ifMatch string) (featureflag.Said, error) {
	return do[featureflag.Said](ctx, c, request{
		method: "PUT", path: path("environments", environment, "flags", key), body: map[string]any{"overlay": overlay, "reason": reason}, header: map[string]string{"If-Match": ifMatch},
	})
}

// KillFlag gives everybody in an environment one variant of a flag.
func (c *Client) KillFlag(ctx context.Context, environment, key, variant, reason string) (featureflag.Said, error) {
	body := map[string]any{"reason": reason}
	if variant != "" {
		body["variant"] = variant
	}
	return do[featureflag.Said](ctx, c, request{method: "POST", path: path("environments", environment, "flags", key, "kill"), body: body})
}

// ReviveFlag takes a kill switch back.
func (c *Client) ReviveFlag(ctx context.Context, environment, key, reason string) (featureflag.Said, error) {
	return do[featureflag.Said](ctx, c, request{method: "POST", path: path("environments", environment, "flags", key, "revive"), body: map[string]any{"reason": reason}})
}

// EvaluateFlag tells what somebody gets for a flag.
func (c *Client) EvaluateFlag(ctx context.Context, environment, stamp, key string, who map[string]any) (flag.Evaluation, error) {
	query := url.Values{}
	if stamp != "" {
		query.Set("stamp", stamp)
	}
	return do[flag.Evaluation](ctx, c, request{method: "POST", path: path("environments", environment, "flags", key, "evaluate"), query: query, body: map[string]any{"context": who}})
}

// DiffFlags tells how the flags of an environment differ from another's.
func (c *Client) DiffFlags(ctx context.Context, from, to string) ([]featureflag.Variance, error) {
	page, err := do[Page[featureflag.Variance]](ctx, c, request{method: "GET", path: path("environments", to, "flags", "diff"), query: url.Values{"from": {from}}})
	return page.Items, err
}

// PromoteFlags carries the state of flags over to another environment.
func (c *Client) PromoteFlags(ctx context.Context, from, to string, keys []string, reason string, force bool) ([]featureflag.Said, error) {
	page, err := do[Page[featureflag.Said]](ctx, c, request{
		method: "POST", path: path("environments", to, "flags", "promote"), body: map[string]any{"from": from, "flags": keys, "reason": reason, "force": force},
	})
	return page.Items, err
}

// FlagHistory returns what environments said of a flag, newest first.
func (c *Client) FlagHistory(ctx context.Context, key string) ([]featureflag.Turn, error) {
	page, err := do[Page[featureflag.Turn]](ctx, c, request{method: "GET", path: path("flags", key, "history")})
	return page.Items, err
}

// FlagExposures returns how often variants of a flag were given out, by day.
func (c *Client) FlagExposures(ctx context.Context, key string, days int) ([]featureflag.Exposure, error) {
	page, err := do[Page[featureflag.Exposure]](ctx, c, request{method: "GET", path: path("flags", key, "exposures"), query: url.Values{"days": {strconv.Itoa(days)}}})
	return page.Items, err
}
