package rollout

import (
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// Word is what somebody says of a rollout, and why.
type Word struct {
	By     string
	Reason string
}

// Pause has no further device be told anything until Resume.
func Pause(r Rollout, w Word, now time.Time) (Rollout, error) {
	if r.State != Running && r.State != Complete {
		return r, r.refused("paused")
	}
	next := r.clone()
	next.pause(Cause{By: w.By, Reason: w.Reason, At: now}, now)
	return next, nil
}

// Resume goes on after a pause. A wave that had failed is judged anew, and
// fails again if nothing has changed. The pause counts for no wave's time.
func Resume(r Rollout, w Word, now time.Time) (Rollout, error) {
	if r.State != Paused {
		return r, r.refused("resumed")
	}
	next := r.clone()
	rested := now.Sub(*next.PausedAt)
	for i := range next.Stamps {
		s := &next.Stamps[i]
		if s.Failed = false; s.State == Moving {
			at := s.WaveAt.Add(rested)
			s.WaveAt = &at
		}
	}
	next.State, next.PausedAt, next.Cause = Running, nil, nil
	next.log(Event{At: now, What: "resumed", By: w.By, Reason: w.Reason})
	return next, nil
}

// Abort takes a rollout back. One that does not lead back safely needs force.
func Abort(r Rollout, w Word, force bool, now time.Time) (Rollout, error) {
	if r.State.Over() || r.State == RollingBack {
		return r, r.refused("aborted")
	}
	if !r.Returns() && !force && r.begun() {
		return r, problem.New(problem.Conflict, "release %s is %s, so going back from it may lose data; leave the devices as they are (--leave) and promote a release that mends it, or say --force", r.Release, r.Class)
	}
	next := r.clone()
	next.turnBack(Cause{By: w.By, Reason: w.Reason, At: now}, Aborted, now)
	return next, nil
}

// begun reports whether any stamp has been told of the release.
func (r Rollout) begun() bool {
	for _, s := range r.Stamps {
		if s.BeganAt != nil {
			return true
		}
	}
	return false
}

// Leave ends a rollout and leaves devices as they are: those that run its
// release go on with it until another rollout reaches them.
func Leave(r Rollout, w Word, now time.Time) (Rollout, error) {
	if r.State.Over() || r.State == RollingBack {
		return r, r.refused("left")
	}
	next := r.clone()
	next.State, next.EndedAt, next.PausedAt = Left, &now, nil
	next.Cause = &Cause{By: w.By, Reason: w.Reason, At: now, Failed: r.Cause != nil && r.Cause.Failed}
	next.log(Event{At: now, What: string(Left), By: w.By, Reason: w.Reason})
	return next, nil
}

// Skip does not wait any longer: for the wave of a stamp, of all that are
// moving if none is named, or for the next ring. A wave that has failed cannot
// be skipped.
func Skip(r Rollout, stamp string, f Facts, w Word, now time.Time) (Rollout, error) {
	if r.State != Running && !(r.State == Paused && !r.failedYet()) {
		return r, r.refused("skipped ahead")
	}
	next := r
	if r.State == Paused {
		var err error
		if next, err = Resume(r, w, now); err != nil {
			return r, err
		}
	}
	next = next.clone()
	moved := false
	for i := range next.Stamps {
		s := &next.Stamps[i]
		if s.State != Moving || stamp != "" && stamp != s.Name {
			continue
		}
		weight := next.weigh(*s, f[s.Name], now)
		if weight.failed {
			return r, problem.New(problem.Conflict, "the wave on stamp %s has failed and cannot be skipped: %s", s.Name, weight.why)
		}
		weight.outcome, weight.why = Skipped, w.Reason
		next.pass(i, weight, w.By, now)
		moved = true
	}
	if !moved && stamp == "" {
		moved = next.open(w, now)
	}
	if !moved {
		return r, problem.New(problem.Conflict, "rollout %s waits for nothing that could be skipped", r.ID).At("stamp")
	}
	return next, nil
}

// failedYet reports whether a wave has failed that nobody has resumed.
func (r Rollout) failedYet() bool { return r.Cause != nil && r.Cause.Failed }

// open lets the next ring begin.
func (r *Rollout) open(w Word, now time.Time) bool {
	ring, moving := r.ring()
	if moving > 0 || r.Opened > ring || r.ringHeld(ring, now).why == "" {
		return false
	}
	r.Opened = ring + 1
	r.log(Event{At: now, What: "ringOpened", By: w.By, Reason: w.Reason})
	return true
}

// Confirm makes the release of a complete rollout what its stamps run.
func Confirm(r Rollout, now time.Time) (Rollout, error) {
	if r.State != Complete {
		return r, r.refused("confirmed")
	}
	next := r.clone()
	next.State, next.EndedAt = Succeeded, &now
	next.log(Event{At: now, What: string(Succeeded)})
	return next, nil
}

// Fail is what becomes of a complete rollout whose release has failed its
// verification.
func Fail(r Rollout, reason string, now time.Time) (Rollout, error) {
	if r.State != Complete {
		return r, r.refused("failed")
	}
	next := r.clone()
	next.log(Event{At: now, What: "failed", Reason: reason})
	next.failed(Cause{By: Robot, Reason: reason, At: now, Failed: true}, now)
	return next, nil
}

// Whole is the policy of an environment with its defaults; first says that no
// other environment comes before it.
func Whole(spec *resource.PromotionSpec, first bool) resource.RolloutSpec {
	if spec == nil || spec.Rollout == nil {
		return resource.RolloutSpec{}.Whole(first)
	}
	return spec.Rollout.Whole(first)
}
