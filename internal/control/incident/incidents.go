package incident

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/monitor"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Options are what incidents are built from.
type Options struct {
	DB    *sqldb.DB
	Audit *audit.Log
	// Lines asks about metrics, and Events about what happened to a device, for
	// the timeline.
	Lines  func(ctx context.Context, expression string, from, to time.Time, step time.Duration) ([]monitor.Line, bool, error)
	Events func(ctx context.Context, stamp string, req link.ReadLog) (link.LogPage, error)
	// Where is where a device is, and Environment fails where there is no such one.
	Where       func(ctx context.Context, device string) (access.Place, error)
	Environment func(ctx context.Context, name string) error
	Logger      *slog.Logger
	Now         func() time.Time
}

// Incidents are those of an installation.
type Incidents struct{ Options }

// New returns the incidents kept in a database.
func New(o Options) *Incidents { return &Incidents{o} }

func (is *Incidents) now() time.Time { return is.Now().UTC().Truncate(time.Microsecond) }

// Open opens an incident for a person.
func (is *Incidents) Open(ctx context.Context, actor access.Actor, i Incident, text string) (Incident, error) {
	i, err := i.opened(is.now())
	if err != nil {
		return i, err
	}
	if len(text) > maxText {
		return i, problem.New(problem.Invalid, "a text has at most %d characters", maxText).At("text")
	}
	if i.Environment != "" {
		if err := is.Environment(ctx, i.Environment); err != nil {
			return i, problem.Of(err).At("environment")
		}
	}
	i.ID, i.OpenedBy = newID(), actor.Name
	err = is.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := insert(ctx, tx, i); err != nil {
			return err
		}
		if text != "" {
			if err := note(ctx, tx, i.ID, Note{i.OpenedAt, actor.Name, KindNote, text}); err != nil {
				return err
			}
		}
		return is.record(ctx, tx, actor.Name, "incident.open", i, i.Title)
	})
	return i, err
}

func newID() string { return "i-" + strings.ToLower(rand.Text()[:10]) }

func (is *Incidents) record(ctx context.Context, tx *sqldb.Tx, actor, action string, i Incident, detail string) error {
	return is.Audit.Record(ctx, tx, audit.Entry{Actor: actor, Action: action, Object: "incident/" + i.ID, Environment: i.Environment, Outcome: audit.Done, Detail: detail})
}

// change applies what somebody does to an incident, with a note of it.
func (is *Incidents) change(ctx context.Context, actor access.Actor, id, action string, apply func(Incident, time.Time) (Incident, Note, error)) (changed Incident, err error) {
	err = is.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now := is.now()
		i, err := get(ctx, tx, id)
		if err != nil {
			return err
		}
		next, said, err := apply(i, now)
		if err != nil {
			return err
		}
		changed, said.At, said.Actor = next, now, actor.Name
		changed.ChangedAt = now
		if err := save(ctx, tx, changed); err != nil {
			return err
		}
		if err := note(ctx, tx, id, said); err != nil {
			return err
		}
		return is.record(ctx, tx, actor.Name, action, changed, said.Text)
	})
	return changed, err
}

// Note says something about an incident.
func (is *Incidents) Note(ctx context.Context, actor access.Actor, id, text string) (Incident, error) {
	return is.change(ctx, actor, id, "incident.note", func(i Incident, _ time.Time) (Incident, Note, error) {
		if text = strings.TrimSpace(text); text == "" || len(text) > maxText {
			return i, Note{}, problem.New(problem.Invalid, "a note has 1 to %d characters", maxText).At("text")
		}
		return i, Note{Kind: KindNote, Text: text}, nil
	})
}

// Set takes an incident to a state; the text says why, and for one that is
// resolved what it was.
func (is *Incidents) Set(ctx context.Context, actor access.Actor, id string, s State, text string) (Incident, error) {
	return is.change(ctx, actor, id, "incident."+string(s), func(i Incident, now time.Time) (Incident, Note, error) {
		next, err := i.to(s, text, now)
		return next, Note{Kind: KindState, Text: strings.TrimSuffix(string(s)+": "+text, ": ")}, err
	})
}

// Own gives an incident to somebody.
func (is *Incidents) Own(ctx context.Context, actor access.Actor, id, owner string) (Incident, error) {
	return is.change(ctx, actor, id, "incident.own", func(i Incident, _ time.Time) (Incident, Note, error) {
		if owner = strings.TrimSpace(owner); owner == "" || len(owner) > maxOwner {
			return i, Note{}, problem.New(problem.Invalid, "an owner has 1 to %d characters", maxOwner).At("owner")
		}
		if i.State == Resolved {
			return i, Note{}, problem.New(problem.Conflict, "incident %s is resolved", i.ID)
		}
		i.Owner = owner
		return i, Note{Kind: KindOwner, Text: owner}, nil
	})
}

// Dossier is an incident with all that belongs to it.
type Dossier struct {
	Incident
	Notes  []Note    `json:"notes"`
	Alerts []Episode `json:"alerts"`
}

// Show returns an incident with what was said and which alerts belong to it.
func (is *Incidents) Show(ctx context.Context, id string) (d Dossier, err error) {
	if d.Incident, err = get(ctx, is.DB, id); err != nil {
		return d, err
	}
	if d.Notes, err = notes(ctx, is.DB, id); err != nil {
		return d, err
	}
	d.Alerts, err = episodes(ctx, is.DB, "incident = ?", id)
	return d, err
}

// Filter selects incidents; what is empty selects all.
type Filter struct {
	State       string // open also means mitigated: not resolved
	Environment string
	Limit       int
}

// List returns incidents, the newest first.
func (is *Incidents) List(ctx context.Context, f Filter) ([]Incident, error) {
	where, args := "1 = 1", []any{}
	switch f.State {
	case "":
	case "unresolved":
		where, args = where+" AND state <> ?", append(args, string(Resolved))
	case string(Open), string(Mitigated), string(Resolved):
		where, args = where+" AND state = ?", append(args, f.State)
	default:
		return nil, problem.New(problem.Invalid, "a state is open, mitigated, resolved or unresolved, not %q", f.State).At("state")
	}
	if f.Environment != "" {
		where, args = where+" AND environment = ?", append(args, f.Environment)
	}
	if f.Limit <= 0 || f.Limit > maxListed {
		f.Limit = maxListed
	}
	return list(ctx, is.DB, where+" ORDER BY sequence DESC LIMIT ?", append(args, f.Limit)...)
}

const maxListed = 200

// Alerted takes down that alerts fire, or have ended. Each alert that somebody
// is to look at now opens an incident, unless one about the same environment is
// under way. An incident whose alerts have all ended is mitigated: it hurts no
// more, and somebody has still to say what it was.
func (is *Incidents) Alerted(ctx context.Context, all []Episode) error {
	return is.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, e := range all {
			if err := is.alerted(ctx, tx, e); err != nil {
				return err
			}
		}
		return forget(ctx, tx, is.now().Add(-episodesKept))
	})
}

// episodesKept is how long it is known when alerts fired.
const episodesKept = 180 * 24 * time.Hour

func (is *Incidents) alerted(ctx context.Context, tx *sqldb.Tx, e Episode) error {
	before, err := episodes(ctx, tx, "fingerprint = ? AND began_at = ?", e.Fingerprint, sqldb.Micros(e.BeganAt))
	if err != nil {
		return err
	}
	if len(before) > 0 {
		if e.EndedAt == nil || before[0].EndedAt != nil {
			return nil // told again
		}
		return is.ended(ctx, tx, before[0], *e.EndedAt)
	}
	if e.EndedAt == nil && e.opens() {
		if e.Incident, err = is.incidentOf(ctx, tx, e); err != nil {
			return err
		}
	}
	return insertEpisode(ctx, tx, e)
}

// incidentOf finds the incident that an alert is a part of, or opens one.
func (is *Incidents) incidentOf(ctx context.Context, tx *sqldb.Tx, e Episode) (string, error) {
	under, err := list(ctx, tx, "state <> ? AND environment = ? ORDER BY sequence DESC LIMIT ?", string(Resolved), e.Environment, maxListed)
	if err != nil {
		return "", err
	}
	now := is.now()
	for _, i := range under {
		if !e.belongs(i) {
			continue
		}
		if i.State == Mitigated {
			i.State = Open
		}
		i.ChangedAt = now
		if err := save(ctx, tx, i); err != nil {
			return "", err
		}
		return i.ID, note(ctx, tx, i.ID, Note{now, alertActor + e.Name, KindAlert, "fires: " + e.Summary})
	}
	title := e.Summary
	if title == "" {
		title = e.Name
	}
	began := e.BeganAt
	if began.After(now) {
		began = now
	}
	i, err := Incident{Title: title[:min(len(title), maxTitle)], Severity: e.Severity, Environment: e.Environment, Stamp: e.Stamp, Owner: e.OnCall, BeganAt: began}.opened(now)
	if err != nil {
		return "", err
	}
	i.ID, i.OpenedBy = newID(), alertActor+e.Name
	if err := insert(ctx, tx, i); err != nil {
		return "", err
	}
	return i.ID, is.record(ctx, tx, i.OpenedBy, "incident.open", i, i.Title)
}

// ended notes that an alert fires no more.
func (is *Incidents) ended(ctx context.Context, tx *sqldb.Tx, e Episode, at time.Time) error {
	if err := endEpisode(ctx, tx, e, at); err != nil || e.Incident == "" {
		return err
	}
	i, err := get(ctx, tx, e.Incident)
	if err != nil || i.State != Open {
		return err
	}
	now := is.now()
	if err := note(ctx, tx, i.ID, Note{now, alertActor + e.Name, KindAlert, "fires no more"}); err != nil {
		return err
	}
	rest, err := episodes(ctx, tx, "incident = ? AND ended_at IS NULL", i.ID)
	if err != nil || len(rest) > 0 {
		return err
	}
	if i, err = i.to(Mitigated, "", now); err != nil {
		return err
	}
	if err := save(ctx, tx, i); err != nil {
		return err
	}
	return note(ctx, tx, i.ID, Note{now, alertActor + e.Name, KindState, fmt.Sprintf("%s: no alert of it fires any more", Mitigated)})
}
