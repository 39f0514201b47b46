package drift

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Class is what a difference is.
type Class string

// The classes.
const (
	Changed   Class = "changed"   // it is another value than is declared
	Missing   Class = "missing"   // it is declared, and is not there
	Unmanaged Class = "unmanaged" // it is there, and nothing declares it
	Stale     Class = "stale"     // it was not seen lately, so nobody knows
	Pending   Class = "pending"   // it has just been changed, or whom it is about is away
	Accepted  Class = "accepted"  // somebody answers for it, for a time
)

// Classes are all of them, the worst first.
var Classes = []Class{Changed, Missing, Unmanaged, Stale, Pending, Accepted}

// Open reports whether a class is one that somebody has to do something about.
func (c Class) Open() bool { return c == Changed || c == Missing || c == Unmanaged || c == Stale }

// Subject is one thing that is declared, or is so, or both.
type Subject struct {
	Environment string
	Kind        string // environment, stamp, route, tenant, flags, release, enrolment, configuration, version, directory, devices
	Object      string // which, for people, such as route/orders on production-eu-1
	Stamp       string
	Declared    json.RawMessage // nil: nothing declares it
	Live        json.RawMessage // nil: it is not there
	// SeenAt is when Live was so; zero says that it could not be looked at, and
	// Unseen why.
	SeenAt time.Time
	Unseen string
	// ChangedAt is when what is declared last changed.
	ChangedAt time.Time
	Sets      []string // lists whose order says nothing
	// Count is how many devices it is about; Text says what in words.
	Count int64
	Text  string
}

// Finding is one difference with what is known of it.
type Finding struct {
	ID          string          `json:"id"`
	Environment string          `json:"environment,omitempty" doc:"Absent where it is of the whole installation"`
	Kind        string          `json:"kind"`
	Object      string          `json:"object"`
	Stamp       string          `json:"stamp,omitempty"`
	Path        string          `json:"path,omitempty" doc:"Where in the object, as a JSON pointer"`
	Class       Class           `json:"class" enum:"changed,missing,unmanaged,stale,pending,accepted"`
	Was         Class           `json:"was,omitempty" doc:"What it is apart from being pending or accepted"`
	Declared    json.RawMessage `json:"declared,omitempty"`
	Live        json.RawMessage `json:"live,omitempty"`
	Count       int64           `json:"count,omitempty" doc:"How many devices it is about"`
	Text        string          `json:"text" doc:"In words"`
	Since       time.Time       `json:"since" doc:"When it was first seen"`
	SeenAt      time.Time       `json:"seenAt" doc:"When it was last seen"`
	Acceptance  *Acceptance     `json:"acceptance,omitempty" doc:"Who answers for it, and until when; or answered, where that is over"`
}

// Acceptance is somebody's word that a difference may be, for a time. Another
// value than the one that was accepted is another difference.
type Acceptance struct {
	ID          string          `json:"id"`
	Environment string          `json:"environment,omitempty"`
	Object      string          `json:"object"`
	Path        string          `json:"path,omitempty"`
	Value       json.RawMessage `json:"value,omitempty" doc:"What it may be; absent where it may be missing"`
	Owner       string          `json:"owner" doc:"Who answers for it"`
	Reason      string          `json:"reason"`
	By          string          `json:"by" doc:"Who said so"`
	At          time.Time       `json:"at"`
	Until       time.Time       `json:"until" doc:"When it alarms again"`
}

// covers reports whether an acceptance is of a finding.
func (a Acceptance) covers(f Finding) bool {
	if a.Environment != f.Environment || a.Object != f.Object || a.Path != f.Path {
		return false
	}
	want, wanted := decoded(a.Value)
	have, there := decoded(f.Live)
	return wanted == there && (!there || Same(want, have))
}

const (
	// grace is how long a difference may last before it counts: what was just
	// declared needs time to get where it goes.
	grace = 15 * time.Second
	// staleAfter is how old what was seen may be.
	staleAfter = 2 * time.Minute
)

// identity names a difference, whatever its values.
func identity(s Subject, path string) string {
	sum := sha256.Sum256([]byte(s.Environment + "\x00" + s.Kind + "\x00" + s.Object + "\x00" + path))
	return hex.EncodeToString(sum[:6])
}

// Judge returns the differences of all subjects at a moment. Since is when
// each that is known was first seen, by its id.
func Judge(subjects []Subject, accepted []Acceptance, since map[string]time.Time, now time.Time) (all []Finding) {
	for _, s := range subjects {
		for _, c := range changes(s, now) {
			f := Finding{
				ID: identity(s, c.Path), Environment: s.Environment, Kind: s.Kind, Object: s.Object, Stamp: s.Stamp, Path: c.Path,
				Class: c.Class, Declared: c.Declared, Live: c.Live, Count: s.Count, Since: now, SeenAt: s.SeenAt,
			}
			if at, known := since[f.ID]; known {
				f.Since = at
			}
			f.Text = words(s, f)
			f.settle(s, accepted, now)
			all = append(all, f)
		}
	}
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Environment, b.Environment), cmp.Compare(slices.Index(Classes, a.Class), slices.Index(Classes, b.Class)), cmp.Compare(a.Object, b.Object), cmp.Compare(a.Path, b.Path))
	})
	return all
}

// changes are the differences of one subject.
func changes(s Subject, now time.Time) []Change {
	if s.SeenAt.IsZero() || now.Sub(s.SeenAt) > staleAfter {
		return []Change{{Class: Stale, Declared: s.Declared}}
	}
	all, err := Compare(s.Declared, s.Live, s.Sets)
	if err != nil {
		return []Change{{Class: Changed, Declared: s.Declared, Live: s.Live}}
	}
	return all
}

// settle says whether a difference counts: not while it is new, nor while
// somebody answers for it.
func (f *Finding) settle(s Subject, accepted []Acceptance, now time.Time) {
	for _, a := range accepted {
		if !a.covers(*f) || f.Acceptance != nil && f.Acceptance.Until.After(a.Until) {
			continue
		}
		f.Acceptance = &a
	}
	switch {
	case f.Acceptance != nil && now.Before(f.Acceptance.Until):
		f.Was, f.Class = f.Class, Accepted
	case now.Sub(s.ChangedAt) < grace || now.Sub(f.Since) < grace:
		f.Was, f.Class = f.Class, Pending
	}
	if f.Acceptance != nil && f.Class != Accepted {
		f.Text += fmt.Sprintf("; %s answered for it until %s", f.Acceptance.Owner, f.Acceptance.Until.UTC().Format(time.RFC3339))
	}
}

// words tell of a difference.
func words(s Subject, f Finding) string {
	at := ""
	if f.Path != "" {
		at = " at " + strings.ReplaceAll(strings.TrimPrefix(f.Path, "/"), "/", ".")
	}
	switch {
	case s.Text != "" && f.Class != Stale:
		return s.Text
	case f.Class == Stale && s.Unseen != "":
		return s.Object + " could not be looked at: " + s.Unseen
	case f.Class == Stale:
		return s.Object + " was not seen lately"
	case f.Class == Missing && f.Path == "":
		return s.Object + " is declared, and is not there"
	case f.Class == Missing:
		return fmt.Sprintf("%s%s is to be %s, and is not there", s.Object, at, shortly(f.Declared))
	case f.Class == Unmanaged && f.Path == "":
		return s.Object + " is there, and nothing declares it"
	case f.Class == Unmanaged:
		return fmt.Sprintf("%s%s has %s, which nothing declares", s.Object, at, shortly(f.Live))
	}
	return fmt.Sprintf("%s%s is %s, and is to be %s", s.Object, at, shortly(f.Live), shortly(f.Declared))
}

// shortly is a value in a sentence.
func shortly(value json.RawMessage) string {
	const most = 80
	if letters := []rune(string(value)); len(letters) > most {
		return string(letters[:most]) + "…"
	}
	return cmp.Or(string(value), "nothing")
}

// Count is how many differences of a class an environment has.
type Count struct {
	Environment string `json:"environment"`
	Class       Class  `json:"class"`
	Count       int    `json:"count"`
}

// Counts adds findings up by environment and class.
func Counts(all []Finding) (counts []Count) {
	for _, f := range all {
		i := slices.IndexFunc(counts, func(c Count) bool { return c.Environment == f.Environment && c.Class == f.Class })
		if i < 0 {
			counts = append(counts, Count{Environment: f.Environment, Class: f.Class})
			i = len(counts) - 1
		}
		counts[i].Count++
	}
	return counts
}
