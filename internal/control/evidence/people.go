package evidence

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/grant"
	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/readiness"
	"github.com/slipway/slipway/internal/resource"
)

// unusedAfter is how many days a right may go unused.
const unusedAfter = 90

func (s *scene) rights(ctx context.Context) error {
	f := readiness.Rights{Controlled: s.spec.Access == resource.AccessControlled}
	held, err := s.People.Held(ctx, s.name, unusedAfter)
	if err != nil {
		return err
	}
	accounts, err := s.People.Accounts(ctx)
	if err != nil {
		return err
	}
	for _, h := range held {
		who := h.Account
		if who == "" {
			who = "group " + h.Binding.Group
		}
		if writes(h.Binding.Role) {
			f.Writers = append(f.Writers, who+" as "+h.Binding.Role)
		}
		i := slices.IndexFunc(accounts, func(a access.Account) bool { return a.ID == h.Account && h.Account != "" })
		if i >= 0 && left(accounts[i], accounts, s.facts.At) {
			f.Leavers = append(f.Leavers, who)
		}
	}
	if err := s.tokens(ctx, &f); err != nil {
		return err
	}
	unused, err := s.People.UnusedRights(ctx, unusedAfter)
	if err != nil {
		return err
	}
	for _, u := range unused {
		if u.Whole && (len(u.Binding.Bounds.Environments) == 0 || slices.Contains(u.Binding.Bounds.Environments, s.name)) {
			f.Unused = append(f.Unused, u.Account+" as "+u.Binding.Role)
		}
	}
	review, found, err := s.Grants.LastReview(ctx, s.name)
	if found && review.DoneAt != nil {
		f.ReviewedAt = *review.DoneAt
		s.date(readiness.DateReview, s.name, review.DoneAt.Add(grant.ReviewLife), "who may do what in "+s.name+" must be looked at again", review.By)
	}
	slices.Sort(f.Leavers)
	f.Leavers = slices.Compact(f.Leavers)
	s.facts.Rights = &f
	return err
}

// tokens finds tokens that stand for themselves and may change things, and notes
// when tokens run out.
func (s *scene) tokens(ctx context.Context, f *readiness.Rights) error {
	all, err := s.People.List(ctx)
	for _, t := range all {
		if len(t.Bounds.Environments) > 0 && !slices.Contains(t.Bounds.Environments, s.name) || t.ExpiresAt != nil && !s.facts.At.Before(*t.ExpiresAt) {
			continue
		}
		if t.ExpiresAt != nil {
			s.facts.Dates = append(s.facts.Dates, readiness.Date{Kind: readiness.DateToken, Name: t.Name, At: *t.ExpiresAt, What: "token " + t.Name + " counts no more", Owner: t.Account})
		}
		if t.Account == "" && t.Tenant == "" && (t.Role == "" || writes(t.Role)) {
			f.Writers = append(f.Writers, "token "+t.Name)
		}
	}
	return err
}

// writes reports whether a role may change anything.
func writes(role string) bool {
	return slices.ContainsFunc(access.PermissionsOf(role), func(p access.Permission) bool { return !p.Standing() })
}

// left reports whether somebody is gone for longer than a day: the identity
// provider vouches for them no more, or a program's sponsor is disabled.
func left(a access.Account, all []access.Account, now time.Time) bool {
	if a.VouchedUntil != nil && now.Sub(*a.VouchedUntil) > 24*time.Hour {
		return true
	}
	return a.Sponsor != "" && slices.ContainsFunc(all, func(other access.Account) bool { return other.ID == a.Sponsor && other.Disabled })
}

func (s *scene) grants(ctx context.Context) error {
	policy := s.spec.GrantPolicy()
	f := readiness.GrantFacts{Approvals: policy.Approvals, BreakGlass: policy.BreakGlass, WaiversNeed: 1}
	if s.spec.Promotion != nil {
		f.WaiversNeed = max(s.spec.Promotion.Waivers, 1)
	}
	f.SelfRefused, f.SelfAnswer = triedSelf(s.facts.At, policy)
	f.WaiverSelf = waivedSelf(s.facts.At)
	for before, more := int64(0), true; more; more = before != 0 {
		all, next, err := s.Grants.List(ctx, grant.Filter{Environment: s.name, Before: before, Limit: 1000})
		if err != nil {
			return err
		}
		for _, g := range all {
			if g.Overdue(s.facts.At) {
				f.Overdue = append(f.Overdue, g.ID)
			}
			if g.BreakGlass && g.ActiveAt != nil && g.ActiveAt.After(f.BrokenAt) {
				f.BrokenAt = *g.ActiveAt
			}
			if g.On(s.facts.At) {
				f.ActiveGrants++
				s.date(readiness.DateGrant, g.ID, *g.Until, "grant "+g.ID+" ends", g.Name)
			}
			if g.State == grant.ReviewDue && g.ReviewBy != nil {
				s.date(readiness.DateReview, g.ID, *g.ReviewBy, "grant "+g.ID+" must have been looked at", "")
			}
		}
		before = next
	}
	s.facts.Grants = &f
	return nil
}

// triedSelf asks for a grant and agrees to it as the same person, by the rules
// that hold; nothing of that is kept.
func triedSelf(now time.Time, policy resource.GrantPolicy) (refused bool, answer string) {
	nobody := func(string) bool { return false }
	facts := grant.Facts{Now: now, Policy: policy, Eligible: func(string) bool { return true }, Owes: nobody, Broken: nobody}
	who := grant.Party{Person: "somebody", Name: "somebody"}
	asked, err := grant.Make(grant.Request{Purpose: policy.Purposes[0], Reason: "a try", Scope: grant.Extent{Permissions: []string{string(access.DeviceWrite)}}, Seconds: 60}, who, who, false, facts)
	if err != nil {
		return false, fmt.Sprintf("nothing could be asked for: %s", err)
	}
	said, err := grant.Say(asked, grant.Word{Verb: grant.Approve, By: who}, facts)
	if err != nil {
		return true, err.Error()
	}
	return false, "it was taken, and the grant is " + string(said.State)
}

// waivedSelf reports whether a waiver counts to which only its requester agreed.
func waivedSelf(now time.Time) bool {
	w := promotion.Waiver{By: "somebody", Until: now.Add(time.Hour), Needs: 1, Approvals: []promotion.Agreed{{By: "somebody", At: now}}}
	return w.Valid(now)
}

func (s *scene) audit(ctx context.Context) error {
	c, err := s.Audit.ProveLast(ctx)
	f := readiness.AuditFacts{Size: c.Size, Proven: err == nil && c.Size > 0, At: s.facts.At}
	if err != nil {
		f.Problem = err.Error()
	}
	states, err := s.Audit.WitnessStates(ctx)
	for _, w := range states {
		f.Witnesses++
		if w.Problem != "" || w.At == nil || c.Size > w.Size && s.facts.At.Sub(*w.At) > behindAfter {
			f.Behind = append(f.Behind, w.Name)
		}
	}
	s.facts.Audit = &f
	return err
}

// behindAfter is how long a witness may be without the newest checkpoint: two
// rounds of publishing.
const behindAfter = 10 * time.Minute
