// Package promotion takes a release from environment to environment: it asks
// to enter, waits for what must be true, comes onto stamps and devices by a
// rollout, is verified there, and so may enter the next. A promotion is a
// document that a pure function steps; rules that say no say which they are,
// what they go by, and when that may change.
package promotion

import (
	"cmp"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/rollout"
)

// State is where a promotion stands.
type State string

// The states. Those from Succeeded on are for good.
const (
	Requested  State = "requested"
	Blocked    State = "blocked"  // something it needs is not so
	Approved   State = "approved" // everything it needs is so
	Queued     State = "queued"   // another promotion runs in the environment
	Running    State = "running"
	Verifying  State = "verifying" // it is everywhere, and is looked at
	Succeeded  State = "succeeded"
	Failed     State = "failed"  // it did not do well, and devices were left as they are
	Errored    State = "errored" // what it speaks of is gone
	Aborted    State = "aborted"
	Superseded State = "superseded" // a newer one took its place
	RolledBack State = "rolledBack"
)

// Over reports whether the state is for good.
func (s State) Over() bool {
	return slices.Contains([]State{Succeeded, Failed, Errored, Aborted, Superseded, RolledBack}, s)
}

// Waits reports whether the promotion has not begun to run.
func (s State) Waits() bool {
	return slices.Contains([]State{Requested, Blocked, Approved, Queued}, s)
}

// Runs reports whether its release is on its way, or being verified.
func (s State) Runs() bool { return s == Running || s == Verifying }

// Promotion is a release asking to enter an environment.
type Promotion struct {
	ID          string        `json:"id"`
	Environment string        `json:"environment"`
	Upstream    string        `json:"upstream,omitempty" doc:"The environment it comes from"`
	Release     string        `json:"release"`
	Digest      string        `json:"digest"`
	Counter     int64         `json:"counter" doc:"Of its release; grows with each release made"`
	Kind        string        `json:"kind" doc:"What the release is made for: feature, security or mixed"`
	State       State         `json:"state"`
	Automatic   bool          `json:"automatic,omitempty" doc:"Nobody asked for it: the environment takes what is verified"`
	Back        bool          `json:"back,omitempty" doc:"It leads to an earlier release"`
	From        string        `json:"from,omitempty" doc:"What the environment ran when it was asked for"`
	By          string        `json:"by"`
	Person      string        `json:"person,omitempty" doc:"Who answers for that, where a program asked"`
	Maker       string        `json:"maker,omitempty" doc:"Who made the token by which it was asked for, if that is another person"`
	Reason      string        `json:"reason,omitempty"`
	RetryOf     string        `json:"retryOf,omitempty" doc:"The promotion it repeats"`
	Waiver      string        `json:"waiver,omitempty" doc:"The waiver it used up"`
	Eligible    bool          `json:"eligible,omitempty" doc:"Its release was verified upstream since it asked"`
	Blocks      []Block       `json:"blocks,omitempty" doc:"What keeps it"`
	Gates       []gate.Result `json:"gates,omitempty" doc:"The last verdicts on what must be true before it enters"`
	Verdicts    []gate.Result `json:"verdicts,omitempty" doc:"The last verdicts on what must be true once it is everywhere"`
	Rollout     string        `json:"rollout,omitempty"`
	CreatedAt   time.Time     `json:"createdAt"`
	UpdatedAt   time.Time     `json:"updatedAt" doc:"When its state last changed"`
	VerifyAt    *time.Time    `json:"verifyAt,omitempty" doc:"When its verification began"`
	EndedAt     *time.Time    `json:"endedAt,omitempty"`
	Outcome     string        `json:"outcome,omitempty" doc:"Why it ended as it did"`
	Log         []StateChange `json:"log" doc:"The states it went through, oldest first"`
	Changes     int           `json:"changes" doc:"How many there were, of which log may have fewer"`
}

// Block is a rule that is not met.
type Block struct {
	Rule   string     `json:"rule" enum:"rejection,upstream,hold,freeze,gate,queue,signing,wave,verification"`
	Object string     `json:"object" doc:"What decides: a promotion, a hold, a gate, a rollout…"`
	Reason string     `json:"reason"`
	Next   *time.Time `json:"next,omitempty" doc:"When that may change by itself; absent where a person decides"`
}

// The rules.
const (
	RuleRejection    = "rejection"
	RuleUpstream     = "upstream"
	RuleHold         = "hold"
	RuleFreeze       = "freeze"
	RuleGate         = "gate"
	RuleQueue        = "queue"
	RuleSigning      = "signing"
	RuleWave         = "wave"
	RuleVerification = "verification"
)

// StateChange is a state a promotion came to.
type StateChange struct {
	At     time.Time `json:"at"`
	State  State     `json:"state"`
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
}

// maxLog is how many changes are kept.
const maxLog = 300

// Robot is who acts where nobody did.
const Robot = rollout.Robot

// become gives a promotion its next state.
func (p *Promotion) become(s State, by, reason string, now time.Time) {
	p.State, p.UpdatedAt = s, now
	if s.Over() {
		p.EndedAt, p.Outcome, p.Blocks = &now, reason, nil
	}
	if len(p.Log) >= maxLog {
		p.Log = slices.Delete(slices.Clone(p.Log), 1, 2)
	}
	p.Log = append(p.Log[:len(p.Log):len(p.Log)], StateChange{At: now, State: s, By: by, Reason: reason})
	p.Changes++
}

// Verification is a verdict on a release in an environment where it ran.
type Verification struct {
	Environment string        `json:"environment"`
	Release     string        `json:"release"`
	Digest      string        `json:"digest"`
	Passed      bool          `json:"passed"`
	At          time.Time     `json:"at"`
	By          string        `json:"by"`
	Promotion   string        `json:"promotion,omitempty"`
	Reason      string        `json:"reason,omitempty"`
	Results     []gate.Result `json:"results,omitempty" doc:"What it rests on"`
}

// Rejection keeps a release out of an environment until it is lifted.
type Rejection struct {
	Environment string     `json:"environment"`
	Release     string     `json:"release"`
	Digest      string     `json:"digest"`
	At          time.Time  `json:"at"`
	By          string     `json:"by"`
	Reason      string     `json:"reason"`
	LiftedAt    *time.Time `json:"liftedAt,omitempty"`
	LiftedBy    string     `json:"liftedBy,omitempty"`
	LiftReason  string     `json:"liftReason,omitempty"`
}

// Hold keeps releases out of an environment: those that nobody asked for, or
// all.
type Hold struct {
	ID          string     `json:"id"`
	Environment string     `json:"environment"`
	Owner       string     `json:"owner"`
	Reason      string     `json:"reason"`
	All         bool       `json:"all,omitempty" doc:"Of those that somebody asks for, too"`
	Promotion   string     `json:"promotion,omitempty" doc:"The promotion that set it, so that it is not undone"`
	At          time.Time  `json:"at"`
	Until       *time.Time `json:"until,omitempty" doc:"When it ends by itself"`
	EndedAt     *time.Time `json:"endedAt,omitempty"`
	EndedBy     string     `json:"endedBy,omitempty"`
}

// on reports whether a hold holds at a moment.
func (h Hold) on(now time.Time) bool {
	return h.EndedAt == nil && (h.Until == nil || now.Before(*h.Until))
}

// Waiver lets one release enter one environment, once, though it was not
// verified before: a hotfix. Somebody answers for it, and it is looked at
// afterwards.
type Waiver struct {
	ID          string     `json:"id"`
	Environment string     `json:"environment"`
	Release     string     `json:"release"`
	Digest      string     `json:"digest"`
	Class       string     `json:"class" enum:"incident,security,data-loss,compliance,other" doc:"What made it needed"`
	Ticket      string     `json:"ticket"`
	Reason      string     `json:"reason"`
	Gates       []string   `json:"gates,omitempty" doc:"The gates it waives, beside the verification upstream"`
	By          string     `json:"by"`
	Person      string     `json:"person,omitempty" doc:"Who answers for that, where a program asked"`
	Maker       string     `json:"maker,omitempty" doc:"Who made the token by which it was asked for, if that is another person"`
	At          time.Time  `json:"at"`
	Until       time.Time  `json:"until"`
	Needs       int        `json:"needs" doc:"How many people must agree"`
	Approvals   []Agreed   `json:"approvals"`
	UsedBy      string     `json:"usedBy,omitempty" doc:"The promotion that used it"`
	UsedAt      *time.Time `json:"usedAt,omitempty"`
	Review      string     `json:"review,omitempty" doc:"What was found when it was looked at afterwards"`
	ReviewedBy  string     `json:"reviewedBy,omitempty"`
	ReviewedAt  *time.Time `json:"reviewedAt,omitempty"`
}

// Agreed is somebody's word for a waiver.
type Agreed struct {
	By    string    `json:"by"`
	At    time.Time `json:"at"`
	Maker string    `json:"maker,omitempty" doc:"Who made the token by which they agreed, if that is another person"`
}

// Classes are what may make a waiver needed.
var Classes = []string{"incident", "security", "data-loss", "compliance", "other"}

// Valid reports whether a waiver can be used: enough people other than who
// asked for it agree, it was not used, and its time is not over.
func (w Waiver) Valid(now time.Time) bool {
	var people []string
	for _, a := range w.Approvals {
		if a.By != w.By && !slices.Contains(people, a.By) {
			people = append(people, a.By)
		}
	}
	return w.UsedBy == "" && now.Before(w.Until) && len(people) >= max(w.Needs, 1)
}

// Owed reports whether a waiver was used and nobody has looked at it since.
func (w Waiver) Owed() bool { return w.UsedAt != nil && w.ReviewedAt == nil }

// waives reports whether a waiver covers a gate.
func (w *Waiver) waives(name string) bool { return w != nil && slices.Contains(w.Gates, name) }

// requester is the person who counts as having asked.
func (p Promotion) requester() string { return cmp.Or(p.Person, p.By) }

// requester is the person who counts as having asked.
func (w Waiver) requester() string { return cmp.Or(w.Person, w.By) }
