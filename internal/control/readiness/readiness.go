// Package readiness says, with evidence, whether an environment is ready for
// production and why not. Each check is a pure function of facts and the time;
// whoever gathers facts does so elsewhere. Nothing passes without evidence, and
// evidence grows old: what passed once decays to stale, never to a pass. People
// may answer where there is no evidence, with an owner, a reason and an end; what
// was found wrong no answer makes right.
package readiness

import (
	"fmt"
	"slices"
	"time"
)

// State is what a check comes to.
type State string

// The states.
const (
	Green         State = "green"
	Amber         State = "amber"         // it passes, with something to know
	Red           State = "red"           // the evidence says no
	Stale         State = "stale"         // it passed, and the evidence has grown old
	Unknown       State = "unknown"       // there is no evidence
	Manual        State = "manual"        // somebody answers for it, until a time
	NotApplicable State = "notApplicable" // it is about something that is not there
)

// States are all of them, the best first.
var States = []State{Green, Manual, Amber, NotApplicable, Unknown, Stale, Red}

// Passes reports whether a state keeps nothing from production.
func (s State) Passes() bool {
	return slices.Contains([]State{Green, Amber, Manual, NotApplicable}, s)
}

// Level is what a check that does not pass means.
type Level string

// The levels.
const (
	Blocks Level = "blocks" // the environment is not ready
	Warns  Level = "warns"  // it is, with something left to do
)

// Evidence is one thing that a finding rests on.
type Evidence struct {
	What  string     `json:"what"`
	Value string     `json:"value"`
	At    *time.Time `json:"at,omitempty" doc:"When it was so, where that is not the time of the finding"`
}

// Finding is what a check makes of the facts.
type Finding struct {
	State    State
	Summary  string
	At       time.Time // of the evidence; that of a thing done once is when it was done
	Evidence []Evidence
}

// Check is one thing that must be so before production.
type Check struct {
	ID    string
	Topic Topic
	Level Level
	Title string        // what must be so
	Fresh time.Duration // how long its evidence counts
	Do    string        // what makes it so
	Doc   string        // that shows how, below docs
	Page  string        // of the console, where that is done
	judge func(Facts) Finding
}

// Result is a check in one environment, at a time.
type Result struct {
	ID       string     `json:"id"`
	Topic    Topic      `json:"topic"`
	Level    Level      `json:"level" enum:"blocks,warns"`
	Title    string     `json:"title"`
	State    State      `json:"state" enum:"green,amber,red,stale,unknown,manual,notApplicable"`
	Summary  string     `json:"summary" doc:"What was found"`
	Evidence []Evidence `json:"evidence,omitempty"`
	At       *time.Time `json:"at,omitempty" doc:"When the evidence is of"`
	Age      int64      `json:"ageSeconds,omitempty"`
	StaleAt  *time.Time `json:"staleAt,omitempty" doc:"When it will be too old to count"`
	Owner    string     `json:"owner,omitempty" doc:"Who answers for the topic"`
	Do       string     `json:"do,omitempty" doc:"What makes it right"`
	Doc      string     `json:"doc" doc:"Where that is described, below docs/"`
	Page     string     `json:"page,omitempty" doc:"Where the console shows what it is about"`
	Answer   *Answer    `json:"answer,omitempty" doc:"What somebody said where there was no evidence"`
}

// Evaluate holds facts against every check.
func Evaluate(now time.Time, f Facts, answers []Answer, owners map[Topic]string) []Result {
	results := make([]Result, len(checks))
	for i, c := range checks {
		results[i] = c.evaluate(now, f, answers, owners)
	}
	return results
}

func (c Check) evaluate(now time.Time, f Facts, answers []Answer, owners map[Topic]string) Result {
	found := settled(now, c, c.judge(f))
	r := Result{
		ID: c.ID, Topic: c.Topic, Level: c.Level, Title: c.Title, State: found.State, Summary: found.Summary, Evidence: found.Evidence,
		Owner: owners[c.Topic], Doc: c.Doc, Page: c.Page,
	}
	if !found.At.IsZero() {
		at, stale := found.At.UTC(), found.At.Add(c.Fresh).UTC()
		r.At, r.Age = &at, int64(max(now.Sub(at), 0)/time.Second)
		if found.State == Green || found.State == Amber {
			r.StaleAt = &stale
		}
	}
	for _, a := range answers {
		if a.Check == c.ID {
			r.answered(now, a)
		}
	}
	if r.State != Green && r.State != NotApplicable {
		r.Do = c.Do
	}
	return r
}

// settled is a finding that nothing unsound can make a pass: one that passes
// rests on evidence, which is of a time that is not too long ago.
func settled(now time.Time, c Check, found Finding) Finding {
	if found.State != Green && found.State != Amber {
		return found
	}
	switch {
	case found.At.IsZero() || len(found.Evidence) == 0:
		found.State, found.Summary = Unknown, "there is no evidence: "+found.Summary
	case now.Sub(found.At) > c.Fresh:
		found.State = Stale
		found.Summary = fmt.Sprintf("the evidence is %s old and counts for %s: %s", aged(now.Sub(found.At)), aged(c.Fresh), found.Summary)
	}
	return found
}

// answered takes what somebody said where there is no evidence. What was found
// wrong stays wrong.
func (r *Result) answered(now time.Time, a Answer) {
	r.Answer = &a
	if r.State != Unknown && r.State != Stale || !now.Before(a.Until) {
		return
	}
	r.State = Manual
	if !a.Applies {
		r.State = NotApplicable
	}
	r.Summary = fmt.Sprintf("%s, until %s: %s", a.Owner, a.Until.UTC().Format("2006-01-02"), a.Reason)
}

// aged is a length of time as people say it.
func aged(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d/(24*time.Hour)))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d/time.Hour))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", int(d/time.Minute))
	}
	return fmt.Sprintf("%d seconds", int(d/time.Second))
}

// Find returns a check.
func Find(id string) (Check, bool) {
	i := slices.IndexFunc(checks, func(c Check) bool { return c.ID == id })
	if i < 0 {
		return Check{}, false
	}
	return checks[i], true
}

// All are the checks in the order in which people read them.
func All() []Check { return slices.Clone(checks) }
