// Package gate says what must be true before a release enters an environment,
// and while a wave of it runs. A gate's verdict comes with what it rests on,
// and is kept. Nothing passes without evidence: no samples, a source that
// cannot be read, or a value that is no number never count as success.
package gate

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/link"
)

// Verdict is what a gate says.
type Verdict string

// The verdicts.
const (
	Pass         Verdict = "pass"
	Warn         Verdict = "warn"         // lets through, with something to know
	Fail         Verdict = "fail"         // the condition does not hold
	Inconclusive Verdict = "inconclusive" // there is not enough to tell
	Error        Verdict = "error"        // it could not be looked at
	Waived       Verdict = "waived"       // somebody took it upon themselves
	Pending      Verdict = "pending"      // it is a matter of time, or of people
)

// Lets reports whether a verdict lets a release through.
func (v Verdict) Lets() bool { return v == Pass || v == Warn || v == Waived }

// Result is one verdict with what it rests on.
type Result struct {
	Gate      string          `json:"gate"`
	Kind      string          `json:"kind"`
	Key       bool            `json:"key,omitempty" doc:"It must pass; where none is key, all must"`
	Verdict   Verdict         `json:"verdict" enum:"pass,warn,fail,inconclusive,error,waived,pending"`
	Reason    string          `json:"reason" doc:"Which rule is met or not, by what, and when that may change"`
	At        time.Time       `json:"at"`
	Samples   int64           `json:"samples" doc:"What it rests on: tests, values, people, devices, components or answers"`
	Value     *float64        `json:"value,omitempty" doc:"What was measured"`
	Threshold string          `json:"threshold,omitempty" doc:"What it was held against"`
	Window    string          `json:"window,omitempty" doc:"How far back it looked"`
	Query     string          `json:"query,omitempty" doc:"What was asked, with every name filled in"`
	Evidence  json.RawMessage `json:"evidence,omitempty" doc:"What was found, by the gate's kind"`
	Evaluator string          `json:"evaluator" doc:"What worked it out, with its version"`
	// Next is when the verdict can change by itself, where that is known.
	Next *time.Time `json:"next,omitempty" doc:"When it may change by itself"`
}

// evaluator names the rules of this package; it changes when they do.
const evaluator = "slipway/gate/1"

// Subject is the release that asks to enter an environment, with the facts
// that only its promotion knows.
type Subject struct {
	Environment string       // it asks to enter
	Stamp       string       // where it is judged for one stamp alone
	Release     link.Release //
	Promotion   string       // its id; results and approvals are kept by it
	Requester   string       // who asks, and so cannot approve
	Maker       string       // who made the token by which that was asked, if that is another
	Since       time.Time    // when it was asked for
	Upstream    string       // the environment it comes from; empty for the first of a path
	// Ran is when the release was current upstream, in stretches.
	Ran []Stretch
	// VerifiedAt is when it was last verified upstream; nil means never, or
	// that its verification was revoked.
	VerifiedAt *time.Time
}

// Stretch is a time in which a release ran somewhere, all of it well or all
// of it not.
type Stretch struct {
	From    time.Time `json:"from"`
	To      time.Time `json:"to"` // zero: it still lasts
	Healthy bool      `json:"healthy"`
}

// settled is a result that nothing unsound can make a success: a verdict that
// lets through rests on samples and on numbers. A warning may say that there
// was no data, for that is what it warns of.
func settled(r Result) Result {
	if r.Value != nil && (math.IsNaN(*r.Value) || math.IsInf(*r.Value, 0)) {
		r.Reason = fmt.Sprintf("the value is %g, which is no evidence; %s", *r.Value, r.Reason)
		r.Value = nil
		if r.Verdict == Pass || r.Verdict == Warn {
			r.Verdict = Error
		}
	}
	if r.Verdict == Pass && r.Samples <= 0 {
		r.Verdict, r.Reason = Inconclusive, "there are no samples; "+r.Reason
	}
	return r
}

// severity orders the verdicts that stop, the worst last.
var severity = map[Verdict]int{Pending: 1, Inconclusive: 2, Error: 3, Fail: 4}

// Stopping are those of all results that do not let through and count: key
// gates, or all where none is key, as a forgotten word opens nothing.
func Stopping(results []Result) (stopping []Result) {
	anyKey := slices.ContainsFunc(results, func(r Result) bool { return r.Key })
	for _, r := range results {
		if r = settled(r); stops(r) && (r.Key || !anyKey) {
			stopping = append(stopping, r)
		}
	}
	return stopping
}

func stops(r Result) bool { return severity[r.Verdict] > 0 || !r.Verdict.Lets() }

// Combine is what all gates of an environment say together, with the reasons.
// The worst of those that stop is the verdict; the others only warn.
// No gates at all let a release only into the first environment of a path,
// one that promotes from none.
func Combine(results []Result, first bool) (verdict Verdict, reasons []string) {
	if len(results) == 0 {
		if first {
			return Pass, []string{"the environment promotes from none and has no gates"}
		}
		return Fail, []string{"the environment has no gates; declare one in spec.promotion.gates"}
	}
	verdict = Pass
	because := Stopping(results)
	for _, r := range because {
		verdict = worse(verdict, r.Verdict)
	}
	switch verdict {
	case Fail: // what has not failed is not why
		because = slices.DeleteFunc(because, func(r Result) bool { return r.Verdict != Fail })
	case Pass:
		for _, r := range results {
			if r = settled(r); r.Verdict != Pass {
				because = append(because, r)
			}
			if stops(r) || r.Verdict == Warn {
				verdict = worse(verdict, Warn)
			}
		}
	}
	for _, r := range because {
		reasons = append(reasons, fmt.Sprintf("%s: %s", r.Gate, r.Reason))
	}
	return verdict, reasons
}

// worse is the worse of two verdicts; one that is none of ours is an error.
func worse(a, b Verdict) Verdict {
	rank := func(v Verdict) int {
		switch v {
		case Pass, Waived:
			return -1
		case Warn:
			return 0
		}
		return severity[v]
	}
	if rank(b) == 0 && b != Warn {
		b = Error
	}
	if rank(b) > rank(a) {
		return b
	}
	return a
}
