package resource

import (
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// Purposes are what somebody may want to act in an environment for.
var Purposes = []string{"troubleshooting", "hotfix", "performance", "security", "data", "compliance", "support", "red-team"}

// The limits of grants, whatever an environment declares.
const (
	MaxGrant      = 7 * 24 * time.Hour
	MaxBreakGlass = time.Hour
	MaxReviewWait = 24 * time.Hour // of a review that breaking the glass owes
	maxApprovals  = 10
	maxRole       = 63
)

// GrantPolicy says how people come to act in an environment for a while.
type GrantPolicy struct {
	Approvals         int         `json:"approvals,omitempty" minimum:"0" maximum:"10" doc:"How many people must agree, none of whom asked; default 1"`
	Approver          string      `json:"approver,omitempty" maxLength:"63" doc:"The role whose holders may agree; default whoever may approve grants there"`
	Maximum           Span        `json:"maximum,omitempty" doc:"How long a grant may last; default 8h, at most 7d"`
	RequestLife       Span        `json:"requestLife,omitempty" doc:"How long a request waits before it expires; default 24h, at most 7d"`
	ReviewWithin      Span        `json:"reviewWithin,omitempty" doc:"How soon somebody looks at what a grant was used for; default 7d"`
	Purposes          []string    `json:"purposes,omitempty" maxItems:"8" doc:"What may be asked for: troubleshooting, hotfix, performance, security, data, compliance, support, red-team; default all"`
	BreakGlass        bool        `json:"breakGlass,omitempty" doc:"In an emergency people may act at once; all who could have agreed are alarmed, and a review is owed within 24h"`
	BreakGlassMaximum Span        `json:"breakGlassMaximum,omitempty" doc:"How long that may last; default and at most 1h"`
	Alarms            []AlarmHook `json:"alarms,omitempty" maxItems:"10" doc:"Who is told when the glass is broken"`
}

// GrantPolicy is an environment's policy of grants, with defaults.
func (s EnvironmentSpec) GrantPolicy() GrantPolicy {
	p := GrantPolicy{}
	if s.Grants != nil {
		p = *s.Grants
	}
	p.Approvals = max(p.Approvals, 1)
	if len(p.Purposes) == 0 {
		p.Purposes = Purposes
	}
	return p
}

// Longest is how long a grant may last.
func (p GrantPolicy) Longest(breakGlass bool) time.Duration {
	if breakGlass {
		return min(p.BreakGlassMaximum.Duration(MaxBreakGlass), MaxBreakGlass)
	}
	return min(p.Maximum.Duration(8*time.Hour), MaxGrant)
}

// Wait is how long a request waits before it expires.
func (p GrantPolicy) Wait() time.Duration { return min(p.RequestLife.Duration(24*time.Hour), MaxGrant) }

// ReviewWait is how soon a grant that was active must be looked at.
func (p GrantPolicy) ReviewWait(breakGlass bool) time.Duration {
	wait := p.ReviewWithin.Duration(7 * 24 * time.Hour)
	if breakGlass {
		return min(wait, MaxReviewWait)
	}
	return wait
}

// check holds a policy against the rules.
func (p *GrantPolicy) check() error {
	if p == nil {
		return nil
	}
	switch {
	case p.Approvals < 0 || p.Approvals > maxApprovals:
		return problem.New(problem.Invalid, "1 to %d people agree to a grant, not %d", maxApprovals, p.Approvals).At("spec.grants.approvals")
	case len(p.Approver) > maxRole:
		return problem.New(problem.Invalid, "a role's name has at most %d characters", maxRole).At("spec.grants.approver")
	case len(p.Alarms) > maxWebhooks:
		return problem.New(problem.Invalid, "at most %d are told of an alarm, not %d", maxWebhooks, len(p.Alarms)).At("spec.grants.alarms")
	}
	for _, purpose := range p.Purposes {
		if !slices.Contains(Purposes, purpose) {
			return problem.New(problem.Invalid, "a purpose is one of %s, not %q", strings.Join(Purposes, ", "), purpose).At("spec.grants.purposes")
		}
	}
	for _, span := range []struct {
		of    Span
		field string
		most  time.Duration
	}{{p.Maximum, "maximum", MaxGrant}, {p.RequestLife, "requestLife", MaxGrant}, {p.ReviewWithin, "reviewWithin", 90 * 24 * time.Hour}, {p.BreakGlassMaximum, "breakGlassMaximum", MaxBreakGlass}} {
		if err := span.of.check("spec.grants."+span.field, time.Minute, span.most); err != nil {
			return err
		}
	}
	return each("spec.grants.alarms", p.Alarms, func(w AlarmHook) string { return w.Name }, AlarmHook.check)
}

// AlarmHook is told when somebody breaks the glass.
type AlarmHook struct {
	Name string `json:"name" maxLength:"63" doc:"Unique among the environment's alarms"`
	URL  string `json:"url" maxLength:"2000" doc:"Takes a POST of JSON"`
}

func (h AlarmHook) check() error {
	if err := CheckURL(h.URL); err != nil {
		return problem.Of(err).At("url")
	}
	return nil
}
