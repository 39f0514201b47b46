package client

import (
	"context"
	"net/url"
	"time"

	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/release"
	"github.com/slipway/slipway/internal/control/rollout"
)

// StartPromotion asks for a release to enter an environment.
func (c *Client) StartPromotion(ctx context.Context, environment, name, reason string) (promotion.Promotion, error) {
	return do[promotion.Promotion](ctx, c, request{method: "POST", path: path("promotions"), body: map[string]string{"environment": environment, "release": name, "reason": reason}})
}

// Promotions returns the newest promotions, into an environment if one is named.
func (c *Client) Promotions(ctx context.Context, environment string) ([]promotion.Promotion, error) {
	page, err := do[Page[promotion.Promotion]](ctx, c, request{method: "GET", path: path("promotions"), query: named("environment", environment)})
	return page.Items, err
}

// named is a query of one parameter, if it has a value.
func named(key, value string) url.Values {
	if value == "" {
		return nil
	}
	return url.Values{key: {value}}
}

// Promotion returns a promotion with everything that is known of it.
func (c *Client) Promotion(ctx context.Context, id string) (promotion.Dossier, error) {
	return do[promotion.Dossier](ctx, c, request{method: "GET", path: path("promotions", id)})
}

// SayOfPromotion approves, rejects or retries a promotion.
func (c *Client) SayOfPromotion(ctx context.Context, id, verb, reason string) (promotion.Promotion, error) {
	return do[promotion.Promotion](ctx, c, request{method: "POST", path: path("promotions", id, verb), body: map[string]string{"reason": reason}})
}

// Abortion is how something is ended.
type Abortion struct {
	Reason string `json:"reason"`
	Leave  bool   `json:"leave,omitempty"`
	Force  bool   `json:"force,omitempty"`
}

// AbortPromotion ends a promotion.
func (c *Client) AbortPromotion(ctx context.Context, id string, how Abortion) (promotion.Promotion, error) {
	return do[promotion.Promotion](ctx, c, request{method: "POST", path: path("promotions", id, "abort"), body: how})
}

// Rollback takes an environment back, to a release if one is named.
func (c *Client) Rollback(ctx context.Context, environment, to, reason string, force bool) (promotion.Promotion, error) {
	body := map[string]any{"reason": reason, "force": force}
	if to != "" {
		body["to"] = to
	}
	return do[promotion.Promotion](ctx, c, request{method: "POST", path: path("environments", environment, "rollback"), body: body})
}

// VerifyEnvironment has what an environment runs looked at once more, or says
// that it was found wanting.
func (c *Client) VerifyEnvironment(ctx context.Context, environment, reason string, failed bool) (promotion.Verification, error) {
	return do[promotion.Verification](ctx, c, request{method: "POST", path: path("environments", environment, "verify"), body: map[string]any{"reason": reason, "failed": failed}})
}

// SetHold keeps releases out of an environment, for good if life is 0.
func (c *Client) SetHold(ctx context.Context, environment, reason string, all bool, life time.Duration) (promotion.Hold, error) {
	return do[promotion.Hold](ctx, c, request{method: "POST", path: path("environments", environment, "holds"), body: map[string]any{"reason": reason, "all": all, "expiresInSeconds": int64(life / time.Second)}})
}

// EndHold ends a hold.
func (c *Client) EndHold(ctx context.Context, id string) (promotion.Hold, error) {
	return do[promotion.Hold](ctx, c, request{method: "DELETE", path: path("holds", id)})
}

// Holds returns the holds that hold.
func (c *Client) Holds(ctx context.Context, environment string) ([]promotion.Hold, error) {
	page, err := do[Page[promotion.Hold]](ctx, c, request{method: "GET", path: path("holds"), query: named("environment", environment)})
	return page.Items, err
}

// Rejections returns the releases that are kept out of environments.
func (c *Client) Rejections(ctx context.Context, environment string) ([]promotion.Rejection, error) {
	page, err := do[Page[promotion.Rejection]](ctx, c, request{method: "GET", path: path("rejections"), query: named("environment", environment)})
	return page.Items, err
}

// LiftRejection lets a rejected release enter an environment again.
func (c *Client) LiftRejection(ctx context.Context, environment, name, reason string) (promotion.Rejection, error) {
	return do[promotion.Rejection](ctx, c, request{method: "POST", path: path("environments", environment, "lift"), body: map[string]string{"release": name, "reason": reason}})
}

// WaiverRequest asks that a release may enter though it was not verified.
type WaiverRequest struct {
	Release          string   `json:"release"`
	Class            string   `json:"class"`
	Ticket           string   `json:"ticket"`
	Reason           string   `json:"reason"`
	Gates            []string `json:"gates,omitempty"`
	ExpiresInSeconds int64    `json:"expiresInSeconds,omitempty"`
}

// AskWaiver asks for a waiver.
func (c *Client) AskWaiver(ctx context.Context, environment string, r WaiverRequest) (promotion.Waiver, error) {
	return do[promotion.Waiver](ctx, c, request{method: "POST", path: path("environments", environment, "waivers"), body: r})
}

// ApproveWaiver agrees to a waiver.
func (c *Client) ApproveWaiver(ctx context.Context, id string) (promotion.Waiver, error) {
	return do[promotion.Waiver](ctx, c, request{method: "POST", path: path("waivers", id, "approve")})
}

// ReviewWaiver says what was found when a waiver was looked at.
func (c *Client) ReviewWaiver(ctx context.Context, id, found string) (promotion.Waiver, error) {
	return do[promotion.Waiver](ctx, c, request{method: "POST", path: path("waivers", id, "review"), body: map[string]string{"reason": found}})
}

// Waivers returns waivers, those alone that owe a review if owed.
func (c *Client) Waivers(ctx context.Context, environment string, owed bool) ([]promotion.Waiver, error) {
	query := url.Values{}
	if environment != "" {
		query.Set("environment", environment)
	}
	if owed {
		query.Set("owed", "true")
	}
	page, err := do[Page[promotion.Waiver]](ctx, c, request{method: "GET", path: path("waivers"), query: query})
	return page.Items, err
}

// Board returns environments with what runs there and what wants to.
func (c *Client) Board(ctx context.Context) ([]promotion.Lane, error) {
	page, err := do[Page[promotion.Lane]](ctx, c, request{method: "GET", path: path("board")})
	return page.Items, err
}

// Matrix returns what runs on each stamp, of one release if it is named.
func (c *Client) Matrix(ctx context.Context, name string) ([]rollout.Cell, error) {
	page, err := do[Page[rollout.Cell]](ctx, c, request{method: "GET", path: path("matrix"), query: named("release", name)})
	return page.Items, err
}

// EnvironmentDiff is how what two environments run differs.
type EnvironmentDiff struct {
	From    string           `json:"from,omitempty"`
	To      string           `json:"to,omitempty"`
	Changes []release.Change `json:"changes"`
}

// DiffEnvironments tells how what one environment runs differs from another.
func (c *Client) DiffEnvironments(ctx context.Context, from, to string) (EnvironmentDiff, error) {
	return do[EnvironmentDiff](ctx, c, request{method: "GET", path: path("environments", to, "diff"), query: named("from", from)})
}

// Rollouts returns the newest rollouts, in an environment if one is named.
func (c *Client) Rollouts(ctx context.Context, environment string) ([]rollout.Rollout, error) {
	page, err := do[Page[rollout.Rollout]](ctx, c, request{method: "GET", path: path("rollouts"), query: named("environment", environment)})
	return page.Items, err
}

// Rollout returns a rollout with what its stamps tell now.
func (c *Client) Rollout(ctx context.Context, id string) (rollout.View, error) {
	return do[rollout.View](ctx, c, request{method: "GET", path: path("rollouts", id)})
}

// SayOfRollout pauses or resumes a rollout, or has it skip ahead on a stamp.
func (c *Client) SayOfRollout(ctx context.Context, id, verb, stamp, reason string) (rollout.Rollout, error) {
	body := map[string]string{"reason": reason}
	if stamp != "" {
		body["stamp"] = stamp
	}
	return do[rollout.Rollout](ctx, c, request{method: "POST", path: path("rollouts", id, verb), body: body})
}

// AbortRollout takes a rollout back.
func (c *Client) AbortRollout(ctx context.Context, id string, how Abortion) (rollout.Rollout, error) {
	return do[rollout.Rollout](ctx, c, request{method: "POST", path: path("rollouts", id, "abort"), body: how})
}
