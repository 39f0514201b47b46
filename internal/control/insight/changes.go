package insight

import (
	"slices"
	"time"

	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/rollout"
)

// Records are what is kept of one environment.
type Records struct {
	Environment string
	Promotions  []promotion.Promotion
	Rollouts    []rollout.Rollout
	Made        map[string]time.Time // when each release was made
	Bad         []promotion.Verification
}

// Changes are the changes of an environment as a whole and of each of its stamps,
// as its records tell them.
func Changes(r Records) (all []Change) {
	rollouts := map[string]rollout.Rollout{}
	for _, one := range r.Rollouts {
		rollouts[one.ID] = one
	}
	for _, p := range r.Promotions {
		way, ran := rollouts[p.Rollout]
		if p.Back || !ran || p.EndedAt == nil {
			continue
		}
		c := Change{Environment: r.Environment, Release: p.Release, Made: r.Made[p.Release], Began: way.CreatedAt, Ended: *p.EndedAt, Arrived: p.State == promotion.Succeeded}
		c.Failed, c.Restored = r.badness(p, way)
		all = append(all, c)
		for _, s := range way.Stamps {
			if s.BeganAt != nil {
				all = append(all, stampChange(c, s, way))
			}
		}
	}
	return all
}

// badness is when a release was found bad, and when all was well again.
func (r Records) badness(p promotion.Promotion, way rollout.Rollout) (failed, restored time.Time) {
	switch p.State {
	case promotion.RolledBack:
		failed, restored = *p.EndedAt, *p.EndedAt
		if way.Cause != nil {
			failed = way.Cause.At
		}
		if way.ReturnedAt != nil && way.ReturnedAt.Before(failed) {
			failed = *way.ReturnedAt
		}
		return failed, restored
	case promotion.Failed:
		return *p.EndedAt, r.nextGood(*p.EndedAt, p.ID)
	case promotion.Succeeded:
		return r.foundBadLater(p)
	}
	return failed, restored
}

// foundBadLater is when a release that had arrived was gone back from, or was
// found wanting by a later verification.
func (r Records) foundBadLater(p promotion.Promotion) (failed, restored time.Time) {
	until := r.replaced(p)
	for _, back := range r.Promotions {
		if back.Back && back.From == p.Release && back.CreatedAt.After(*p.EndedAt) && (until.IsZero() || !back.CreatedAt.After(until)) {
			if failed.IsZero() || back.CreatedAt.Before(failed) {
				failed, restored = back.CreatedAt, time.Time{}
				if back.State == promotion.Succeeded && back.EndedAt != nil {
					restored = *back.EndedAt
				}
			}
		}
	}
	for _, v := range r.Bad {
		if v.Release == p.Release && !v.Passed && v.At.After(*p.EndedAt) && (until.IsZero() || v.At.Before(until)) && (failed.IsZero() || v.At.Before(failed)) {
			failed = v.At
		}
	}
	if !failed.IsZero() && restored.IsZero() {
		restored = r.nextGood(failed, p.ID)
	}
	return failed, restored
}

// replaced is when another promotion that arrived took the place of one.
func (r Records) replaced(p promotion.Promotion) (at time.Time) {
	for _, next := range r.Promotions {
		if !next.Back && next.ID != p.ID && next.State == promotion.Succeeded && next.EndedAt != nil && next.EndedAt.After(*p.EndedAt) && (at.IsZero() || next.EndedAt.Before(at)) {
			at = *next.EndedAt
		}
	}
	return at
}

// nextGood is when something next arrived well, forward or back.
func (r Records) nextGood(after time.Time, not string) (at time.Time) {
	for _, p := range r.Promotions {
		if p.ID != not && p.State == promotion.Succeeded && p.EndedAt != nil && p.EndedAt.After(after) && (at.IsZero() || p.EndedAt.Before(at)) {
			at = *p.EndedAt
		}
	}
	return at
}

// stampChange is a change as one stamp saw it: it arrives when its last wave is
// done, and fails where its own wave did, or with the environment.
func stampChange(whole Change, s rollout.Stamp, way rollout.Rollout) Change {
	c := whole
	c.Stamp, c.Began = s.Name, *s.BeganAt
	if whole.Arrived && s.DoneAt != nil {
		c.Ended = *s.DoneAt
	}
	if way.Cause != nil && way.Cause.Failed && way.Cause.Stamp != "" && !slices.Contains([]string{s.Name, ""}, way.Cause.Stamp) && !s.Failed {
		// Another stamp found it bad; this one was taken back with it.
		c.Failed, c.Restored = time.Time{}, time.Time{}
	}
	return c
}
