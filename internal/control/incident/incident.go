// Package incident keeps what goes wrong: incidents, opened by alerts that
// somebody is to look at now, or by people; what was said and done about each;
// and one timeline that shows what changed before: releases, configuration,
// flags, access, alerts and what happened to devices.
package incident

import (
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// State is where an incident stands.
type State string

// The states: open until it hurts no more, mitigated until it is known what it
// was, and resolved for good.
const (
	Open      State = "open"
	Mitigated State = "mitigated"
	Resolved  State = "resolved"
)

// Incident is something that went wrong.
type Incident struct {
	ID          string     `json:"id"`
	Title       string     `json:"title"`
	Severity    string     `json:"severity" doc:"page, ticket or info"`
	State       State      `json:"state"`
	Environment string     `json:"environment,omitempty"`
	Stamp       string     `json:"stamp,omitempty"`
	Owner       string     `json:"owner,omitempty" doc:"Who looks after it"`
	OpenedBy    string     `json:"openedBy" doc:"A person, or alert/NAME"`
	BeganAt     time.Time  `json:"beganAt"`
	OpenedAt    time.Time  `json:"openedAt"`
	ChangedAt   time.Time  `json:"changedAt"`
	ResolvedAt  *time.Time `json:"resolvedAt,omitempty"`
	Resolution  string     `json:"resolution,omitempty" doc:"What it was, and what was done"`
}

// The kinds of notes.
const (
	KindNote  = "note"
	KindState = "state"
	KindOwner = "owner"
	KindAlert = "alert"
)

// Note is one thing said or done about an incident.
type Note struct {
	At    time.Time `json:"at"`
	Actor string    `json:"actor"`
	Kind  string    `json:"kind" doc:"note, state, owner or alert"`
	Text  string    `json:"text"`
}

// The most that may be said.
const (
	maxTitle = 200
	maxText  = 4000
	maxOwner = 200
)

// opened checks an incident that somebody opens, and fills in the rest.
func (i Incident) opened(now time.Time) (Incident, error) {
	i.Title = strings.TrimSpace(i.Title)
	if i.Severity == "" {
		i.Severity = resource.Page
	}
	if i.BeganAt.IsZero() {
		i.BeganAt = now
	}
	switch {
	case i.Title == "" || len(i.Title) > maxTitle:
		return i, problem.New(problem.Invalid, "a title has 1 to %d characters", maxTitle).At("title")
	case i.Severity != resource.Page && i.Severity != resource.Ticket && i.Severity != resource.Info:
		return i, problem.New(problem.Invalid, "a severity is page, ticket or info, not %q", i.Severity).At("severity")
	case len(i.Owner) > maxOwner:
		return i, problem.New(problem.Invalid, "an owner has at most %d characters", maxOwner).At("owner")
	case i.BeganAt.After(now):
		return i, problem.New(problem.Invalid, "it cannot have begun later than now").At("began")
	}
	i.State, i.OpenedAt, i.ChangedAt = Open, now, now
	return i, nil
}

// to takes an incident to a state. What is resolved stays so: what comes again
// is another incident. To resolve one says what it was.
func (i Incident) to(s State, text string, now time.Time) (Incident, error) {
	switch {
	case s != Open && s != Mitigated && s != Resolved:
		return i, problem.New(problem.Invalid, "a state is open, mitigated or resolved, not %q", s).At("state")
	case len(text) > maxText:
		return i, problem.New(problem.Invalid, "a text has at most %d characters", maxText).At("text")
	case i.State == Resolved:
		return i, problem.New(problem.Conflict, "incident %s is resolved; open another, if it comes again", i.ID)
	case i.State == s:
		return i, problem.New(problem.Conflict, "incident %s is %s already", i.ID, s)
	case s == Resolved && strings.TrimSpace(text) == "":
		return i, problem.New(problem.Invalid, "say what it was and what was done about it").At("text")
	}
	i.State, i.ChangedAt = s, now
	if s == Resolved {
		i.Resolution, i.ResolvedAt = text, &now
	}
	return i, nil
}

// Episode is a time in which an alert fired.
type Episode struct {
	Fingerprint string     `json:"fingerprint"`
	Name        string     `json:"name"`
	Severity    string     `json:"severity"`
	Environment string     `json:"environment,omitempty"`
	Stamp       string     `json:"stamp,omitempty"`
	Summary     string     `json:"summary,omitempty"`
	OnCall      string     `json:"-"` // who answers for it now
	Incident    string     `json:"incident,omitempty"`
	BeganAt     time.Time  `json:"beganAt"`
	EndedAt     *time.Time `json:"endedAt,omitempty"`
}

// opens reports whether an alert that has begun is an incident: one that
// somebody is to look at now.
func (e Episode) opens() bool { return e.Severity == resource.Page && e.EndedAt == nil }

// belongs reports whether an alert that has begun is a part of an incident that
// an alert has opened and that is not resolved: about the same environment.
func (e Episode) belongs(i Incident) bool {
	return i.State != Resolved && i.Environment == e.Environment && strings.HasPrefix(i.OpenedBy, alertActor)
}

// alertActor is what alerts sign with.
const alertActor = "alert/"
