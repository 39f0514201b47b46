package drift

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// load reads what was known before this process began, so that what is old is
// not taken for new.
func (d *Drift) load(ctx context.Context) error {
	kept, err := sqldb.Rows(ctx, d.o.DB, func(rows *sql.Rows) (f Finding, err error) {
		var text []byte
		if err := rows.Scan(&text); err != nil {
			return f, err
		}
		return f, json.Unmarshal(text, &f)
	}, "SELECT finding FROM drift ORDER BY id")
	d.mu.Lock()
	defer d.mu.Unlock()
	d.found = kept
	return err
}

// keep writes down what has changed since the last look.
func (d *Drift) keep(ctx context.Context, before, found []Finding) error {
	same := func(a, b Finding) bool { return a.ID == b.ID && a.Class == b.Class && string(a.Live) == string(b.Live) }
	if slices.EqualFunc(before, found, same) {
		return nil
	}
	return d.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM drift"); err != nil {
			return err
		}
		for _, f := range found {
			text, err := json.Marshal(f)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "INSERT INTO drift (id, environment, class, finding) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING", f.ID, f.Environment, string(f.Class), string(text)); err != nil {
				return err
			}
		}
		return nil
	})
}

// parityEvery is how often a score that has not changed is written down, and
// parityKept how long scores are.
const (
	parityEvery = time.Hour
	parityKept  = 400 * 24 * time.Hour
)

// nearly is how far a score may be from one that was kept and be the same: not
// every database keeps all of its digits.
const nearly = 1e-6

// Score is how alike two environments were at a time.
type Score struct {
	From        string    `json:"from"`
	To          string    `json:"to"`
	Score       float64   `json:"score"`
	Compared    int       `json:"compared"`
	Unexplained int       `json:"unexplained"`
	At          time.Time `json:"at"`
}

func scanScore(rows *sql.Rows) (s Score, err error) {
	var at int64
	err = rows.Scan(&s.From, &s.To, &s.Score, &s.Compared, &s.Unexplained, &at)
	s.At = sqldb.Time(at)
	return s, err
}

const selectScores = "SELECT from_environment, to_environment, score, compared, unexplained, at FROM parity"

// keepParity writes down how alike neighbours are, where that has changed.
func (d *Drift) keepParity(ctx context.Context, now time.Time) error {
	var reports []Report
	for _, p := range d.pairs() {
		r, err := d.Parity(ctx, p[0], p[1])
		if err != nil {
			return err
		}
		reports = append(reports, r)
	}
	d.mu.Lock()
	d.reports = reports
	d.mu.Unlock()
	for _, r := range reports {
		p := [2]string{r.From, r.To}
		last, known, err := d.NewestParity(ctx, p[0], p[1])
		if err != nil {
			return err
		}
		if known && math.Abs(last.Score-r.Score) < nearly && last.Compared == r.Compared() && now.Sub(last.At) < parityEvery {
			continue
		}
		err = d.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			if _, err := tx.Exec(ctx, "DELETE FROM parity WHERE at < ?", sqldb.Micros(now.Add(-parityKept))); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "INSERT INTO parity (from_environment, to_environment, score, compared, unexplained, at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (from_environment, to_environment, at) DO NOTHING",
				p[0], p[1], r.Score, r.Compared(), len(r.Unexplained()), sqldb.Micros(now))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// NewestParity is the last score of two environments that was written down,
// which is at most an hour old while control runs.
func (d *Drift) NewestParity(ctx context.Context, from, to string) (Score, bool, error) {
	return sqldb.Row(ctx, d.o.DB, scanScore, selectScores+" WHERE from_environment = ? AND to_environment = ? ORDER BY at DESC LIMIT 1", from, to)
}

// Scores are the scores of two environments, newest first.
func (d *Drift) Scores(ctx context.Context, from, to string, limit int) ([]Score, error) {
	return sqldb.Rows(ctx, d.o.DB, scanScore, selectScores+" WHERE from_environment = ? AND to_environment = ? ORDER BY at DESC LIMIT ?", from, to, limit)
}

func scanAcceptance(rows *sql.Rows) (a Acceptance, err error) {
	var text []byte
	if err := rows.Scan(&text); err != nil {
		return a, err
	}
	return a, json.Unmarshal(text, &a)
}

// Acceptances are all that were not taken back, those whose time is over too.
func (d *Drift) Acceptances(ctx context.Context) ([]Acceptance, error) {
	return sqldb.Rows(ctx, d.o.DB, scanAcceptance, "SELECT acceptance FROM drift_acceptance ORDER BY id")
}

// maxAcceptance is how long somebody may answer for a difference at once.
const maxAcceptance = 366 * 24 * time.Hour

// AcceptOf is what somebody says of a difference.
type AcceptOf struct {
	Owner  string        // who answers for it
	Reason string        //
	For    time.Duration // how long
}

func (o AcceptOf) check() error {
	switch {
	case strings.TrimSpace(o.Owner) == "" || len(o.Owner) > 200:
		return problem.New(problem.Invalid, "say who answers for it, in 1 to 200 characters").At("owner")
	case strings.TrimSpace(o.Reason) == "" || len(o.Reason) > 2000:
		return problem.New(problem.Invalid, "say why it may be, in 1 to 2000 characters").At("reason")
	case o.For < time.Minute || o.For > maxAcceptance:
		return problem.New(problem.Invalid, "a difference is accepted for a minute up to 366 days, not %s", o.For).At("seconds")
	}
	return nil
}

// Accept has somebody answer for a difference that was found, with the value
// that it has now, for a time. Whoever asks has said of which environment it is.
func (d *Drift) Accept(ctx context.Context, actor access.Actor, id, environment string, of AcceptOf) (Acceptance, error) {
	d.mu.Lock()
	i := slices.IndexFunc(d.found, func(f Finding) bool { return f.ID == id })
	var f Finding
	if i >= 0 {
		f = d.found[i]
	}
	d.mu.Unlock()
	switch {
	case i < 0:
		return Acceptance{}, problem.New(problem.NotFound, "there is no difference %q; slipway drift lists them", id)
	case f.Environment != environment:
		return Acceptance{}, problem.New(problem.Invalid, "difference %s is of %s, not of %s", id, cmp.Or(f.Environment, "the whole installation"), cmp.Or(environment, "the whole installation")).At("environment")
	case f.Class == Stale:
		return Acceptance{}, problem.New(problem.Conflict, "nobody can answer for what was not seen; see why %s cannot be looked at", f.Object)
	}
	return d.accept(ctx, actor, Acceptance{Environment: f.Environment, Object: f.Object, Path: f.Path, Value: f.Live}, of)
}

// AcceptParity has somebody answer for a place in which two environments
// differ, with the values that it has now.
func (d *Drift) AcceptParity(ctx context.Context, actor access.Actor, from, to, path string, of AcceptOf) (Acceptance, error) {
	r, err := d.Parity(ctx, from, to)
	if err != nil {
		return Acceptance{}, err
	}
	i := slices.IndexFunc(r.Items, func(item Item) bool { return item.Path == path })
	if i < 0 {
		return Acceptance{}, problem.New(problem.NotFound, "%s and %s do not differ at %q", from, to, path)
	}
	value := text([]json.RawMessage{orNull(r.Items[i].From), orNull(r.Items[i].To)})
	return d.accept(ctx, actor, Acceptance{Object: pair(from, to), Path: path, Value: value}, of)
}

func (d *Drift) accept(ctx context.Context, actor access.Actor, a Acceptance, of AcceptOf) (Acceptance, error) {
	if err := of.check(); err != nil {
		return a, err
	}
	a.At = d.o.Now().UTC().Truncate(time.Microsecond)
	a.ID, a.Owner, a.Reason, a.By, a.Until = "acceptance-"+strings.ToLower(rand.Text()[:10]), of.Owner, of.Reason, actor.Name, a.At.Add(of.For)
	document, err := json.Marshal(a)
	if err != nil {
		return a, err
	}
	err = d.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO drift_acceptance (id, environment, acceptance) VALUES (?, ?, ?)", a.ID, a.Environment, string(document)); err != nil {
			return err
		}
		return d.o.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "drift.accept", Object: "drift/" + a.ID, Environment: a.Environment, Outcome: audit.Done, Detail: fmt.Sprintf("%s %s until %s: %s", a.Object, a.Path, a.Until.Format(time.RFC3339), a.Reason)})
	})
	if err != nil {
		return a, err
	}
	return a, d.again(ctx)
}

// Retract takes an acceptance back: what it was of alarms again.
func (d *Drift) Retract(ctx context.Context, actor access.Actor, id string) error {
	err := d.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		a, found, err := sqldb.Row(ctx, tx, scanAcceptance, "SELECT acceptance FROM drift_acceptance WHERE id = ?", id)
		if err == nil && !found {
			err = problem.New(problem.NotFound, "there is no acceptance %q", id)
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM drift_acceptance WHERE id = ?", id); err != nil {
			return err
		}
		return d.o.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "drift.retract", Object: "drift/" + id, Environment: a.Environment, Outcome: audit.Done, Detail: a.Object + " " + a.Path})
	})
	if err != nil {
		return err
	}
	return d.again(ctx)
}

// again judges what is known anew, after somebody has answered for some of it.
func (d *Drift) again(ctx context.Context) error {
	accepted, err := d.Acceptances(ctx)
	if err != nil {
		return err
	}
	now := d.o.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.found = slices.Clone(d.found)
	for i := range d.found {
		f := &d.found[i]
		if f.Was != "" {
			f.Class, f.Was = f.Was, ""
		}
		f.Acceptance = nil
		f.settle(Subject{}, accepted, now)
	}
	return nil
}

// Declare notes what an enrolment is declared as: what provisioning holds is
// held against it. Nil takes it away.
func Declare(ctx context.Context, tx *sqldb.Tx, kind link.EnrollmentKind, name string, spec *link.EnrollmentSpec, now time.Time) error {
	if spec == nil {
		_, err := tx.Exec(ctx, "DELETE FROM declared_enrollment WHERE kind = ? AND name = ?", string(kind), name)
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO declared_enrollment (kind, name, spec, declared_at) VALUES (?, ?, ?, ?)
		ON CONFLICT (kind, name) DO UPDATE SET spec = excluded.spec, declared_at = excluded.declared_at`, string(kind), name, string(text(withoutKeys(*spec))), sqldb.Micros(now))
	return err
}
