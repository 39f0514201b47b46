package promotion

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/rollout"
)

// Facts are what is so beside a promotion.
type Facts struct {
	// Gone says what it speaks of that is not there any more; empty is nothing.
	Gone string
	// Upstream is the last verdict on its release upstream; nil is none.
	Upstream *Verification
	Rejected *Rejection
	Holds    []Hold
	Opening  gate.Opening
	// Gates are the verdicts on what must be true before it enters; Unknown says
	// that they are not known yet.
	Gates   []gate.Result
	Unknown bool
	Waiver  *Waiver // one that can be used; nil is none
	Busy    string  // the promotion that runs in the environment
	// Signed says why its release is not among what devices may install yet.
	Signed string
	// Rollout is its own; nil before it runs.
	Rollout *rollout.Rollout
	// Verify says that there are gates to verify by, Verdicts theirs.
	Verify       bool
	Verdicts     []gate.Result
	VerifyWithin time.Duration
}

// Action is what a step asks to be done in the same change.
type Action string

// The actions.
const (
	StartRollout Action = "startRollout"
	UseWaiver    Action = "useWaiver"
	Admit        Action = "admit"    // devices may install the release
	Withdraw     Action = "withdraw" // they may not any more
	Confirm      Action = "confirm"  // the rollout's release is what stamps run
	FailRollout  Action = "fail"     // it goes back, or stops
	Verified     Action = "verified" // the release passed here
	Unverified   Action = "unverified"
	Reject       Action = "reject"   // the release may not enter again until that is lifted
	EndHolds     Action = "endHolds" // those that earlier promotions set
)

// Step is what becomes of a promotion at a moment, and what is to be done
// about it.
func Step(p Promotion, f Facts, now time.Time) (Promotion, []Action) {
	switch {
	case p.State.Over():
		return p, nil
	case p.State.Waits():
		return wait(p, f, now)
	case p.State == Running:
		return run(p, f, now)
	}
	return verify(p, f, now)
}

// wait takes a promotion that has not begun as far as it may come.
func wait(p Promotion, f Facts, now time.Time) (Promotion, []Action) {
	if f.Gone != "" {
		p.become(Errored, Robot, f.Gone, now)
		return p, []Action{Withdraw}
	}
	passed := f.Upstream != nil && f.Upstream.Passed
	if p.Eligible && f.Upstream != nil && !passed && f.Waiver == nil {
		p.become(Aborted, Robot, fmt.Sprintf("its verification in %s was revoked by %s: %s", p.Upstream, f.Upstream.By, f.Upstream.Reason), now)
		return p, []Action{Withdraw}
	}
	p.Eligible = p.Eligible || passed
	f.Gates = waived(f.Gates, f.Waiver)
	p.Gates = f.Gates
	if p.Blocks = Blocks(p, f, now); len(p.Blocks) > 0 {
		if p.State != Blocked {
			p.become(Blocked, Robot, p.Blocks[0].Reason, now)
		}
		return p, nil
	}
	if p.State == Requested || p.State == Blocked {
		p.become(Approved, Robot, "everything it needs is so", now)
		if f.Signed != "" {
			return p, []Action{Admit}
		}
	}
	if p.Blocks = queue(f); len(p.Blocks) > 0 {
		if p.State != Queued {
			p.become(Queued, Robot, p.Blocks[0].Reason, now)
		}
		return p, nil
	}
	actions := []Action{StartRollout}
	if needs(p, f) {
		p.Waiver, actions = f.Waiver.ID, append(actions, UseWaiver)
	}
	p.become(Running, Robot, "", now)
	return p, actions
}

// waived are verdicts with those that a waiver covers taken for good.
func waived(results []gate.Result, w *Waiver) []gate.Result {
	out := slices.Clone(results)
	for i := range out {
		if !out[i].Verdict.Lets() && w.waives(out[i].Gate) {
			out[i].Reason = fmt.Sprintf("waived by %s (%s): it was %s: %s", w.ID, w.Reason, out[i].Verdict, out[i].Reason)
			out[i].Verdict = gate.Waived
		}
	}
	return out
}

// needs reports whether a promotion enters by its waiver alone.
func needs(p Promotion, f Facts) bool {
	if f.Waiver == nil {
		return false
	}
	unverified := p.Upstream != "" && (f.Upstream == nil || !f.Upstream.Passed)
	for _, g := range f.Gates {
		unverified = unverified || g.Verdict == gate.Waived
	}
	return unverified
}

// Blocks are the rules that keep a promotion from entering.
func Blocks(p Promotion, f Facts, now time.Time) (blocks []Block) {
	if r := f.Rejected; r != nil {
		blocks = append(blocks, Block{Rule: RuleRejection, Object: p.Environment + "/" + p.Release, Reason: fmt.Sprintf("%s rejected %s in %s: %s; slipway promotion lift %s --environment %s lifts that", r.By, p.Release, p.Environment, r.Reason, p.Release, p.Environment)})
	}
	if b, blocked := upstream(p, f); blocked {
		blocks = append(blocks, b)
	}
	for _, h := range f.Holds {
		if h.on(now) && (h.All || p.Automatic) {
			blocks = append(blocks, Block{Rule: RuleHold, Object: h.ID, Reason: fmt.Sprintf("%s holds %s: %s", h.Owner, p.Environment, h.Reason), Next: h.Until})
		}
	}
	if !f.Opening.Open {
		blocks = append(blocks, Block{Rule: RuleFreeze, Object: p.Environment, Reason: f.Opening.Reason, Next: f.Opening.Next})
	}
	return append(blocks, gates(f)...)
}

// upstream is the rule that a release has passed in the environment before,
// by its latest verdict there.
func upstream(p Promotion, f Facts) (Block, bool) {
	switch v := f.Upstream; {
	case p.Upstream == "" || f.Waiver != nil || v != nil && v.Passed:
		return Block{}, false
	case v == nil:
		return Block{Rule: RuleUpstream, Object: p.Upstream, Reason: fmt.Sprintf("%s is not verified in %s; promote it there first", p.Release, p.Upstream)}, true
	default:
		return Block{Rule: RuleUpstream, Object: cmp.Or(v.Promotion, p.Upstream), Reason: fmt.Sprintf("%s failed its last verification in %s: %s", p.Release, p.Upstream, v.Reason)}, true
	}
}

// gates is the rule that what the environment declares is so. Without any, the
// verification upstream is what lets a release in.
func gates(f Facts) []Block {
	if f.Unknown {
		return []Block{{Rule: RuleGate, Object: "gates", Reason: "its gates are being looked at"}}
	}
	var blocks []Block
	for _, g := range gate.Stopping(f.Gates) {
		blocks = append(blocks, Block{Rule: RuleGate, Object: g.Gate, Reason: fmt.Sprintf("gate %s: %s", g.Gate, g.Reason), Next: g.Next})
	}
	return blocks
}

// queue is what a promotion waits for that has everything else.
func queue(f Facts) (blocks []Block) {
	if f.Busy != "" {
		blocks = append(blocks, Block{Rule: RuleQueue, Object: f.Busy, Reason: f.Busy + " runs in the environment"})
	}
	if f.Signed != "" {
		blocks = append(blocks, Block{Rule: RuleSigning, Object: "signing", Reason: f.Signed})
	}
	return blocks
}

// run follows a promotion's rollout.
func run(p Promotion, f Facts, now time.Time) (Promotion, []Action) {
	if next, actions, over := ended(p, f, now); over {
		return next, actions
	}
	p.Blocks = stopped(f.Rollout)
	if f.Rollout != nil && f.Rollout.State == rollout.Complete {
		p.VerifyAt, p.Blocks = &now, nil
		p.become(Verifying, Robot, "", now)
	}
	return p, nil
}

// stopped is what keeps a rollout that pauses or goes back.
func stopped(r *rollout.Rollout) []Block {
	if r == nil || r.Cause == nil {
		return nil
	}
	return []Block{{Rule: RuleWave, Object: r.ID, Reason: fmt.Sprintf("%s: %s", r.State, r.Cause.Reason)}}
}

// ended is what becomes of a promotion whose rollout is over. A release that
// was taken back is rejected there, and was not verified.
func ended(p Promotion, f Facts, now time.Time) (Promotion, []Action, bool) {
	r := f.Rollout
	if r == nil || !r.State.Over() {
		return p, nil, false
	}
	by, reason := Robot, ""
	if r.Cause != nil {
		by, reason = r.Cause.By, r.Cause.Reason
	}
	switch r.State {
	case rollout.Succeeded:
		p.become(Succeeded, by, reason, now)
		return p, nil, true
	case rollout.RolledBack:
		p.become(RolledBack, by, reason, now)
		return p, []Action{Unverified, Reject, Withdraw}, true
	case rollout.Left:
		p.become(Failed, by, reason, now)
		return p, []Action{Unverified}, true
	}
	p.become(Aborted, by, reason, now)
	return p, []Action{Withdraw}, true
}

// verify looks at a release that is everywhere.
func verify(p Promotion, f Facts, now time.Time) (Promotion, []Action) {
	if next, actions, over := ended(p, f, now); over {
		return next, actions
	}
	p.Verdicts, p.Blocks = f.Verdicts, stopped(f.Rollout)
	if f.Rollout != nil && f.Rollout.State == rollout.Running {
		p.become(Running, Robot, "its rollout goes on", now) // it was resumed after a failure
		return p, nil
	}
	if f.Rollout == nil || f.Rollout.State != rollout.Complete || f.Verify && len(f.Verdicts) == 0 {
		return p, nil
	}
	verdict, reasons := gate.Combine(f.Verdicts, !f.Verify)
	due := p.VerifyAt.Add(f.VerifyWithin)
	switch {
	case verdict.Lets():
		p.become(Succeeded, Robot, "", now)
		actions := []Action{Confirm, Verified}
		if !p.Automatic {
			actions = append(actions, EndHolds)
		}
		return p, actions
	case verdict == gate.Fail || !now.Before(due):
		return p, []Action{FailRollout}
	}
	p.Blocks = []Block{{Rule: RuleVerification, Object: p.Environment, Reason: strings.Join(reasons, "; "), Next: &due}}
	return p, nil
}

// FailReason is why a promotion's rollout is to fail.
func FailReason(p Promotion) string {
	_, reasons := gate.Combine(p.Verdicts, true)
	return "not verified: " + cmp.Or(strings.Join(reasons, "; "), "no verdict in time")
}

// Sight is what decides whether a release enters an environment by itself.
type Sight struct {
	Automatic bool
	Candidate *Candidate // what runs upstream, or the newest release where nothing comes before
	Verified  bool       // it has passed there
	Current   int64      // counter of what the environment runs; 0 is nothing
	Waiting   *Promotion
	Last      *Promotion // the last one of the candidate into the environment
	Rejected  bool
	Held      bool
}

// Candidate is a release that may enter an environment by itself.
type Candidate struct {
	Release, Digest string
	Counter         int64
}

// Chooses reports whether the candidate is to enter by itself: it is newer than
// what runs, nobody keeps it out, it has not been tried in vain, and it takes
// no place that somebody asked for.
func Chooses(s Sight) bool {
	switch {
	case !s.Automatic || s.Candidate == nil || !s.Verified || s.Rejected || s.Held:
		return false
	case s.Candidate.Counter <= s.Current:
		return false
	case s.Last != nil && s.Last.State != Superseded:
		return false
	case s.Waiting != nil && (!s.Waiting.Automatic || s.Waiting.Counter >= s.Candidate.Counter):
		return false
	}
	return true
}
