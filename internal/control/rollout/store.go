package rollout

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// record is a rollout as it is stored.
type record struct {
	version int64
	text    string
	Rollout
}

const selectRollouts = "SELECT version, document FROM rollout"

func scanRecord(rows *sql.Rows) (r record, err error) {
	if err = rows.Scan(&r.version, &r.text); err != nil {
		return r, err
	}
	return r, json.Unmarshal([]byte(r.text), &r.Rollout)
}

const selectStandings = "SELECT stamp, environment, version, base, rollout, since FROM stamp_release"

func scanStanding(rows *sql.Rows) (s Standing, err error) {
	return s, rows.Scan(&s.Stamp, &s.Environment, &s.Version, &s.Base, &s.Rollout, &s.Since)
}

// Number is the next number of a thing.
func Number(ctx context.Context, tx *sqldb.Tx, thing string) (int64, error) {
	if _, err := tx.Exec(ctx, "INSERT INTO promotion_counter (thing, value) VALUES (?, 1) ON CONFLICT (thing) DO UPDATE SET value = promotion_counter.value + 1", thing); err != nil {
		return 0, err
	}
	n, _, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }, "SELECT value FROM promotion_counter WHERE thing = ?", thing)
	return n, err
}

// documents is the thing by which the documents of stamps are numbered.
const documents = "document"

// ID is the id of a new thing, such as rollout-7.
func ID(ctx context.Context, tx *sqldb.Tx, thing string) (string, error) {
	n, err := Number(ctx, tx, thing)
	return fmt.Sprintf("%s-%d", thing, n), err
}

func readRollout(ctx context.Context, q sqldb.Querier, id string) (record, error) {
	r, found, err := sqldb.Row(ctx, q, scanRecord, selectRollouts+" WHERE id = ?", id)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no rollout %q", id)
	}
	return r, err
}

// errMoved says that a rollout has changed since it was read.
var errMoved = problem.New(problem.Stale, "the rollout has changed meanwhile; look again")

func flag(set bool) int {
	if set {
		return 1
	}
	return 0
}

// stands reports whether the rollout's release is what its environment is to
// run from now on.
func (r Rollout) stands() bool { return r.State == Succeeded || r.Back }

// insert stores a new rollout.
func (rs *Rollouts) insert(ctx context.Context, tx *sqldb.Tx, r Rollout) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO rollout (id, environment, state, active, standing, version, document, created_at) VALUES (?, ?, ?, ?, ?, 1, ?, ?)",
		r.ID, r.Environment, string(r.State), flag(!r.State.Over()), flag(r.stands()), string(text), sqldb.Micros(r.CreatedAt)); err != nil {
		return err
	}
	return rs.settled(ctx, tx, Rollout{ID: r.ID}, r)
}

// save stores what became of a rollout if nobody else has changed it: its
// state, what each stamp is to run, and an entry in the audit log for each
// thing that happened, together.
func (rs *Rollouts) save(ctx context.Context, tx *sqldb.Tx, before record, next Rollout) error {
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	n, err := tx.Exec(ctx, "UPDATE rollout SET state = ?, active = ?, standing = ?, version = version + 1, document = ? WHERE id = ? AND version = ?",
		string(next.State), flag(!next.State.Over()), flag(next.stands()), string(text), next.ID, before.version)
	if err != nil {
		return err
	}
	if n == 0 {
		return errMoved
	}
	return rs.settled(ctx, tx, before.Rollout, next)
}

// settled writes what follows from a change of a rollout.
func (rs *Rollouts) settled(ctx context.Context, tx *sqldb.Tx, before, next Rollout) error {
	all, err := sqldb.Rows(ctx, tx, scanStanding, selectStandings+" WHERE environment = ?", next.Environment)
	if err != nil {
		return err
	}
	raise := false
	for _, old := range all {
		was, err := rs.shapeBefore(ctx, tx, old, before)
		if err != nil {
			return err
		}
		s := Settle(old, next)
		is := shapeOf(s, &next)
		if s == old && (was == is || s.Rollout != "" && s.Rollout != next.ID) {
			continue
		}
		raise = raise || was.runs() != is.runs()
		if err := rs.stand(ctx, tx, old, s, was != is); err != nil {
			return err
		}
	}
	if raise {
		if err := rs.o.Raise(ctx, tx); err != nil {
			return err
		}
	}
	for _, m := range newEvents(before, next) {
		if err := rs.o.Audit.Record(ctx, tx, entryOf(next, m)); err != nil {
			return err
		}
	}
	return nil
}

// shapeBefore is the shape of the document that a stamp has now: another
// rollout may be in effect, one that was left.
func (rs *Rollouts) shapeBefore(ctx context.Context, tx *sqldb.Tx, s Standing, before Rollout) (shape, error) {
	if s.Rollout == "" || s.Rollout == before.ID {
		return shapeOf(s, &before), nil
	}
	other, err := readRollout(ctx, tx, s.Rollout)
	return shapeOf(s, &other.Rollout), err
}

// stand stores a stamp's standing; one whose document is another now has it
// under the next version.
func (rs *Rollouts) stand(ctx context.Context, tx *sqldb.Tx, old, s Standing, changed bool) error {
	if changed {
		n, err := Number(ctx, tx, documents)
		if err != nil {
			return err
		}
		s.Version = n
	}
	if s.Base != old.Base {
		s.Since = sqldb.Micros(rs.o.Now())
	}
	_, err := tx.Exec(ctx, "UPDATE stamp_release SET version = ?, base = ?, rollout = ?, since = ? WHERE stamp = ?", s.Version, s.Base, s.Rollout, s.Since, s.Stamp)
	return err
}

func newEvents(before, next Rollout) []Event {
	n := min(next.Events-before.Events, len(next.Log))
	return next.Log[len(next.Log)-n:]
}

func entryOf(r Rollout, m Event) audit.Entry {
	e := audit.Entry{Actor: m.By, Action: "rollout." + m.What, Object: "rollout/" + r.ID, Environment: r.Environment, Outcome: audit.Done, Reason: m.Reason}
	if e.Actor == "" {
		e.Actor = Robot
	}
	if m.Stamp != "" {
		e.Detail = "stamp " + m.Stamp
		if m.Wave > 0 {
			e.Detail += ", wave " + strconv.Itoa(m.Wave)
		}
	}
	return e
}

// enrol keeps a row for each stamp there is: a new one is to run what its
// environment runs.
func (rs *Rollouts) enrol(ctx context.Context, environments map[string]string) error {
	known, err := sqldb.Rows(ctx, rs.o.DB, scanStanding, selectStandings)
	if err != nil {
		return err
	}
	here := func(s Standing) bool { return environments[s.Stamp] == s.Environment }
	missing := false
	for name := range environments {
		missing = missing || !slices.ContainsFunc(known, func(s Standing) bool { return s.Stamp == name && here(s) })
	}
	if !missing && !slices.ContainsFunc(known, func(s Standing) bool { return !here(s) }) {
		return nil
	}
	return rs.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		known, err := sqldb.Rows(ctx, tx, scanStanding, selectStandings)
		if err != nil {
			return err
		}
		for _, s := range known {
			if here(s) {
				continue
			}
			if _, err := tx.Exec(ctx, "DELETE FROM stamp_release WHERE stamp = ?", s.Stamp); err != nil {
				return err
			}
		}
		for name, environment := range environments {
			if slices.ContainsFunc(known, func(s Standing) bool { return s.Stamp == name && here(s) }) {
				continue
			}
			if err := rs.newcomer(ctx, tx, name, environment); err != nil {
				return err
			}
		}
		return rs.o.Raise(ctx, tx)
	})
}

func (rs *Rollouts) newcomer(ctx context.Context, tx *sqldb.Tx, stamp, environment string) error {
	current, _, err := standing(ctx, tx, environment)
	if err != nil {
		return err
	}
	n, err := Number(ctx, tx, documents)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "INSERT INTO stamp_release (stamp, environment, version, base, rollout, since) VALUES (?, ?, ?, ?, '', ?)",
		stamp, environment, n, current.Release, sqldb.Micros(rs.o.Now()))
	return err
}

// standing is the rollout that brought what an environment is to run.
func standing(ctx context.Context, q sqldb.Querier, environment string) (Rollout, bool, error) {
	r, found, err := sqldb.Row(ctx, q, scanRecord, selectRollouts+" WHERE environment = ? AND standing = 1 ORDER BY created_at DESC, id DESC LIMIT 1", environment)
	return r.Rollout, found, err
}

// history are the rollouts that brought what an environment ran, newest first.
func history(ctx context.Context, q sqldb.Querier, environment string, limit int) ([]Rollout, error) {
	all, err := sqldb.Rows(ctx, q, scanRecord, selectRollouts+" WHERE environment = ? AND standing = 1 ORDER BY created_at DESC, id DESC LIMIT ?", environment, limit)
	return rolloutsOf(all), err
}

func rolloutsOf(all []record) []Rollout {
	out := make([]Rollout, len(all))
	for i, r := range all {
		out[i] = r.Rollout
	}
	return out
}

// Stood is a stretch in which an environment was to run a release.
type Stood struct {
	Release string    `json:"release"`
	Digest  string    `json:"digest"`
	From    time.Time `json:"from"`
	Back    bool      `json:"back,omitempty" doc:"It was gone back to"`
}

// Stood returns what an environment was to run, newest first; the first is
// what it is to run now.
func (rs *Rollouts) Stood(ctx context.Context, q sqldb.Querier, environment string) ([]Stood, error) {
	all, err := history(ctx, q, environment, maxStood)
	out := make([]Stood, len(all))
	for i, r := range all {
		out[i] = Stood{Release: r.Release, Digest: r.Digest, From: r.CreatedAt, Back: r.Back}
		if r.EndedAt != nil && !r.Back {
			out[i].From = *r.EndedAt
		}
	}
	return out, err
}

// maxStood is how far back in an environment's history anybody looks.
const maxStood = 100

// Count is how many rollouts there are of an environment in a state.
type Count struct {
	Environment string
	State       State
	Count       int64
}

// Counts says how many rollouts stand where.
func (r *Rollouts) Counts(ctx context.Context) ([]Count, error) {
	return sqldb.Rows(ctx, r.o.DB, func(rows *sql.Rows) (c Count, err error) { return c, rows.Scan(&c.Environment, &c.State, &c.Count) },
		"SELECT environment, state, count(*) FROM rollout GROUP BY environment, state ORDER BY environment, state")
}
