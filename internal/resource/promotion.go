package resource

import (
	"fmt"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// The most of each that an environment declares.
const (
	maxGates    = 30
	maxFreezes  = 50
	maxWebhooks = 10
)

// DefaultVerifyWithin is how long the verification of a release may take in an
// environment that does not say.
const DefaultVerifyWithin = 24 * time.Hour

// PromotionSpec is how releases enter an environment.
type PromotionSpec struct {
	Automatic    bool               `json:"automatic,omitempty" doc:"A release that is verified in the environment before enters without being asked for"`
	Gates        []Gate             `json:"gates,omitempty" maxItems:"30" doc:"What must be true before a release enters"`
	Freeze       []Freeze           `json:"freeze,omitempty" maxItems:"50" doc:"When releases may enter, and when not"`
	Rollout      *RolloutSpec       `json:"rollout,omitempty" doc:"How a release comes onto stamps and devices"`
	Verify       []Gate             `json:"verify,omitempty" maxItems:"30" doc:"What must be true once a release is everywhere, before it counts as verified here"`
	VerifyWithin Span               `json:"verifyWithin,omitempty" doc:"How long that may take; default 24h"`
	Waivers      int                `json:"waivers,omitempty" minimum:"0" maximum:"20" doc:"How many people must agree to a waiver; default 1"`
	Webhooks     []PromotionWebhook `json:"webhooks,omitempty" maxItems:"10" doc:"Who is told what becomes of promotions"`
}

// PromotionWebhook is told each state of each promotion into an environment.
type PromotionWebhook struct {
	Name   string `json:"name" maxLength:"63" doc:"Unique among the environment's webhooks"`
	URL    string `json:"url" maxLength:"2000"`
	Format string `json:"format,omitempty" enum:"event,status" doc:"event (default) tells the promotion, status what a commit status holds: state, context, description"`
}

// The formats of a webhook.
const (
	WebhookEvent  = "event"
	WebhookStatus = "status"
)

func (w PromotionWebhook) check() error {
	if err := CheckURL(w.URL); err != nil {
		return problem.Of(err).At("url")
	}
	if !slices.Contains([]string{"", WebhookEvent, WebhookStatus}, w.Format) {
		return problem.New(problem.Invalid, "must be %s or %s, not %q", WebhookEvent, WebhookStatus, w.Format).At("format")
	}
	return nil
}

// Check holds it against the rules that need nothing else.
func (s PromotionSpec) Check() error {
	if len(s.Gates) > maxGates || len(s.Freeze) > maxFreezes {
		return problem.New(problem.Invalid, "an environment has at most %d gates and %d freezes, not %d and %d", maxGates, maxFreezes, len(s.Gates), len(s.Freeze)).At("spec.promotion")
	}
	if err := each("spec.promotion.gates", s.Gates, func(g Gate) string { return g.Name }, Gate.Check); err != nil {
		return err
	}
	if err := each("spec.promotion.freeze", s.Freeze, func(f Freeze) string { return f.Name }, Freeze.Check); err != nil {
		return err
	}
	return s.checkEntry()
}

// checkEntry checks what comes once the gates have let a release in.
func (s PromotionSpec) checkEntry() error {
	switch {
	case len(s.Verify) > maxGates:
		return problem.New(problem.Invalid, "an environment has at most %d gates to verify by, not %d", maxGates, len(s.Verify)).At("spec.promotion.verify")
	case s.Waivers < 0 || s.Waivers > 20:
		return problem.New(problem.Invalid, "1 to 20 people agree to a waiver, not %d", s.Waivers).At("spec.promotion.waivers")
	case len(s.Webhooks) > maxWebhooks:
		return problem.New(problem.Invalid, "an environment has at most %d webhooks, not %d", maxWebhooks, len(s.Webhooks)).At("spec.promotion.webhooks")
	}
	if err := s.VerifyWithin.check("spec.promotion.verifyWithin", time.Second, maxSpan); err != nil {
		return err
	}
	if err := each("spec.promotion.verify", s.Verify, func(g Gate) string { return g.Name }, Gate.Check); err != nil {
		return err
	}
	if err := each("spec.promotion.webhooks", s.Webhooks, func(w PromotionWebhook) string { return w.Name }, PromotionWebhook.check); err != nil {
		return err
	}
	if s.Rollout == nil {
		return nil
	}
	if err := s.Rollout.Check(); err != nil {
		p := problem.Of(err)
		return p.At("spec.promotion.rollout." + p.Field)
	}
	return nil
}

// each checks every member of a list, and that no two have one name.
func each[T any](at string, all []T, nameOf func(T) string, check func(T) error) error {
	seen := map[string]bool{}
	for i, one := range all {
		field, self := fmt.Sprintf("%s[%d]", at, i), nameOf(one)
		if !name.MatchString(self) {
			return problem.New(problem.Invalid, "a name has 1 to 63 of a-z, 0-9 and '-', not at its ends, which %q does not", self).At(field + ".name")
		}
		if seen[self] {
			return problem.New(problem.Invalid, "%s is declared twice", self).At(field + ".name")
		}
		seen[self] = true
		if err := check(one); err != nil {
			p := problem.Of(err)
			return problem.New(problem.Invalid, "%s: %s", self, p.Message).At(field + "." + p.Field)
		}
	}
	return nil
}
