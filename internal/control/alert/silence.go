package alert

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/alertmanager/silence/silencepb"
	"github.com/prometheus/common/model"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// Silence keeps people from being told of some alerts for a time.
type Silence struct {
	ID        string            `json:"id"`
	Match     map[string]string `json:"match" doc:"The alerts it is about, by label; a value may name several, a|b"`
	Reason    string            `json:"reason"`
	CreatedBy string            `json:"createdBy"`
	CreatedAt time.Time         `json:"createdAt"`
	StartsAt  time.Time         `json:"startsAt"`
	EndsAt    time.Time         `json:"endsAt"`
}

// ActiveAt reports whether it is in force.
func (s Silence) ActiveAt(now time.Time) bool { return !now.Before(s.StartsAt) && now.Before(s.EndsAt) }

func (s Silence) covers(l map[string]string) bool { return covers(s.Match, l) }

// theirs are its matchers as Alertmanager has them.
func (s Silence) theirs() (all []*silencepb.Matcher) {
	for name, value := range s.Match {
		m := matcher(name, value)
		all = append(all, &silencepb.Matcher{Type: silencepb.Matcher_REGEXP, Name: m.Name, Pattern: m.Value})
	}
	slices.SortFunc(all, func(a, b *silencepb.Matcher) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// The limits of silences.
const (
	maxSilences = 1000
	maxSilent   = 31 * 24 * time.Hour
)

var silenceLabel = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]{0,99}$`)

func scanSilence(rows *sql.Rows) (s Silence, err error) {
	var text string
	var created, starts, ends int64
	if err = rows.Scan(&s.ID, &text, &s.Reason, &s.CreatedBy, &created, &starts, &ends); err != nil {
		return s, err
	}
	s.CreatedAt, s.StartsAt, s.EndsAt = sqldb.Time(created), sqldb.Time(starts), sqldb.Time(ends)
	return s, json.Unmarshal([]byte(text), &s.Match)
}

const selectSilences = "SELECT id, matchers, reason, created_by, created_at, starts_at, ends_at FROM silence"

// Silences are those that are in force or will be, those that end first first.
func (a *Alerts) Silences(ctx context.Context) ([]Silence, error) {
	return sqldb.Rows(ctx, a.DB, scanSilence, selectSilences+" WHERE ends_at > ? ORDER BY ends_at, id LIMIT ?", sqldb.Micros(a.Now()), maxSilences)
}

// Silence keeps people from being told of alerts with some labels, for a time
// and a reason.
func (a *Alerts) Silence(ctx context.Context, actor access.Actor, match map[string]string, reason string, from time.Time, length time.Duration) (Silence, error) {
	now := a.Now().UTC().Truncate(time.Microsecond)
	if from.IsZero() || from.Before(now) {
		from = now
	}
	s := Silence{ID: strings.ToLower(rand.Text()[:12]), Match: match, Reason: strings.TrimSpace(reason), CreatedBy: actor.Name, CreatedAt: now, StartsAt: from.UTC(), EndsAt: from.Add(length).UTC()}
	if err := s.check(length); err != nil {
		return s, err
	}
	text, err := json.Marshal(match)
	if err != nil {
		return s, err
	}
	err = a.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, _, err := sqldb.Row(ctx, tx, func(r *sql.Rows) (n int, err error) { return n, r.Scan(&n) }, "SELECT count(*) FROM silence WHERE ends_at > ?", sqldb.Micros(now))
		if err != nil {
			return err
		}
		if n >= maxSilences {
			return problem.New(problem.Conflict, "there are %d silences, the most there may be; end some", n)
		}
		if _, err := tx.Exec(ctx, "INSERT INTO silence (id, matchers, reason, created_by, created_at, starts_at, ends_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
			s.ID, string(text), s.Reason, s.CreatedBy, sqldb.Micros(s.CreatedAt), sqldb.Micros(s.StartsAt), sqldb.Micros(s.EndsAt)); err != nil {
			return err
		}
		return a.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "alert.silence", Object: s.ID, Outcome: audit.Done, Detail: string(text) + ": " + s.Reason})
	})
	if err == nil {
		a.changed.Ring()
	}
	return s, err
}

func (s Silence) check(length time.Duration) error {
	switch {
	case len(s.Match) == 0:
		return problem.New(problem.Invalid, "say which alerts, such as alertname=IngestSlow; all of them cannot be silenced").At("match")
	case len(s.Match) > 20:
		return problem.New(problem.Invalid, "at most 20 labels").At("match")
	case s.Reason == "" || len(s.Reason) > 2000:
		return problem.New(problem.Invalid, "a reason has 1 to 2000 characters").At("reason")
	case length < time.Minute || length > maxSilent:
		return problem.New(problem.Invalid, "a silence lasts from 1m to %s, not %s", maxSilent, length).At("duration")
	}
	for name, value := range s.Match {
		if !silenceLabel.MatchString(name) || value == "" || len(value) > 1000 {
			return problem.New(problem.Invalid, "a label reads name=value, and %s=%q does not", name, value).At("match")
		}
	}
	return nil
}

// EndSilence ends a silence now.
func (a *Alerts) EndSilence(ctx context.Context, actor access.Actor, id string) error {
	err := a.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now := sqldb.Micros(a.Now())
		n, err := tx.Exec(ctx, "UPDATE silence SET ends_at = ? WHERE id = ? AND ends_at > ?", now, id, now)
		if err != nil {
			return err
		}
		if n == 0 {
			return problem.New(problem.NotFound, "there is no silence %s in force", id)
		}
		return a.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "alert.unsilence", Object: id, Outcome: audit.Done})
	})
	if err == nil {
		a.changed.Ring()
	}
	return err
}

// Tested is how a receiver took a test alert.
type Tested struct {
	Receiver string `json:"receiver"`
	Kind     string `json:"kind"`
	OK       bool   `json:"ok"`
	Problem  string `json:"problem,omitempty"`
}

// Test sends an alert that means nothing to a receiver, or to all, and tells how
// they took it.
func (a *Alerts) Test(ctx context.Context, actor access.Actor, receiver string) ([]Tested, error) {
	all, err := listed[resource.ReceiverSpec, resource.ReceiverStatus](ctx, a.DB, resource.KindReceiver)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(r resource.Receiver) bool {
		return receiver != "" && r.Metadata.Name != receiver || receiver == "" && r.Spec.Disabled
	})
	if len(all) == 0 {
		return nil, problem.New(problem.NotFound, "there is no receiver to tell; declare one: docs/how-to/monitor.md")
	}
	now := a.Now().UTC()
	var results []Tested
	for _, r := range all {
		o := outgoing{
			Status: "firing", StartsAt: now, EndsAt: now.Add(5 * time.Minute), GeneratorURL: a.Address,
			Labels:      model.LabelSet{model.AlertNameLabel: "TestAlert", "severity": resource.Info, "test": "true"},
			Annotations: model.LabelSet{"summary": model.LabelValue("A test by " + actor.Name + ": nothing is wrong"), "runbook_url": model.LabelValue(a.Address + "/runbooks/test-alert")},
		}
		err := a.tell(ctx, r.Metadata.Name, compose(r.Metadata.Name, "test/"+r.Metadata.Name, a.Address, model.LabelSet{model.AlertNameLabel: "TestAlert"}, []outgoing{o}))
		t := Tested{Receiver: r.Metadata.Name, Kind: kindOf(r.Spec), OK: err == nil}
		if err != nil {
			t.Problem = problem.Of(err).Message
		}
		results = append(results, t)
	}
	text, err := json.Marshal(results)
	if err != nil {
		return nil, err
	}
	return results, a.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return a.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "alert.test", Object: receiver, Outcome: audit.Done, Detail: string(text)})
	})
}
