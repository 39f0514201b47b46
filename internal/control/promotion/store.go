package promotion

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// record is a promotion as it is stored.
type record struct {
	version int64
	text    string
	Promotion
}

const selectPromotions = "SELECT version, document FROM promotion"

func scanRecord(rows *sql.Rows) (r record, err error) {
	if err = rows.Scan(&r.version, &r.text); err != nil {
		return r, err
	}
	return r, json.Unmarshal([]byte(r.text), &r.Promotion)
}

// scanned reads a document that stands in the only column.
func scanned[T any](rows *sql.Rows) (one T, err error) {
	var text []byte
	if err = rows.Scan(&text); err != nil {
		return one, err
	}
	return one, json.Unmarshal(text, &one)
}

func readPromotion(ctx context.Context, q sqldb.Querier, id string) (record, error) {
	r, found, err := sqldb.Row(ctx, q, scanRecord, selectPromotions+" WHERE id = ?", id)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no promotion %q", id)
	}
	return r, err
}

// first is the newest promotion that a condition finds; nil if none is.
func first(ctx context.Context, q sqldb.Querier, where string, args ...any) (*Promotion, error) {
	r, found, err := sqldb.Row(ctx, q, scanRecord, selectPromotions+" WHERE "+where+" ORDER BY created_at DESC, id DESC LIMIT 1", args...)
	if err != nil || !found {
		return nil, err
	}
	return &r.Promotion, nil
}

func flag(set bool) int {
	if set {
		return 1
	}
	return 0
}

func (ps *Promotions) insert(ctx context.Context, tx *sqldb.Tx, p Promotion) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO promotion (id, environment, digest, state, waiting, running, version, document, created_at) VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?)",
		p.ID, p.Environment, p.Digest, string(p.State), flag(p.State.Waits()), flag(p.State.Runs()), string(text), sqldb.Micros(p.CreatedAt)); err != nil {
		return err
	}
	return ps.tellOf(ctx, tx, Promotion{}, p)
}

// errMoved says that a promotion has changed since it was read.
var errMoved = problem.New(problem.Stale, "the promotion has changed meanwhile; look again")

// save stores what became of a promotion if nobody else has changed it, with
// an entry in the audit log and the words for webhooks of each state it came to.
func (ps *Promotions) save(ctx context.Context, tx *sqldb.Tx, before record, next Promotion) error {
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if string(text) == before.text {
		return nil
	}
	n, err := tx.Exec(ctx, "UPDATE promotion SET state = ?, waiting = ?, running = ?, version = version + 1, document = ? WHERE id = ? AND version = ? AND (waiting = 1 OR running = 1)",
		string(next.State), flag(next.State.Waits()), flag(next.State.Runs()), string(text), next.ID, before.version)
	if err == nil && n == 0 {
		err = errMoved
	}
	if err != nil {
		return err
	}
	return ps.tellOf(ctx, tx, before.Promotion, next)
}

// tellOf records the states that a promotion came to.
func (ps *Promotions) tellOf(ctx context.Context, tx *sqldb.Tx, before, next Promotion) error {
	n := min(next.Changes-before.Changes, len(next.Log))
	for _, c := range next.Log[len(next.Log)-n:] {
		entry := audit.Entry{Actor: c.By, Action: "promotion." + string(c.State), Object: "promotion/" + next.ID, Environment: next.Environment, Outcome: audit.Done, Detail: next.Release + " to " + next.Environment, Reason: c.Reason}
		if err := ps.o.Audit.Record(ctx, tx, entry); err != nil {
			return err
		}
		if err := ps.notice(ctx, tx, next, c); err != nil {
			return err
		}
	}
	return nil
}

// verdict is the last verification of a release in an environment; nil if it
// has none.
func verdict(ctx context.Context, q sqldb.Querier, environment, digest string) (*Verification, error) {
	v, found, err := sqldb.Row(ctx, q, scanned[Verification], "SELECT document FROM verification WHERE environment = ? AND digest = ? ORDER BY sequence DESC LIMIT 1", environment, digest)
	if err != nil || !found {
		return nil, err
	}
	return &v, nil
}

// verify records a verdict on a release.
func (ps *Promotions) record(ctx context.Context, tx *sqldb.Tx, v Verification) error {
	if ps.o.Evidence != nil {
		v.Results = append(slices.Clone(v.Results), ps.o.Evidence(v.Environment, v.At)...)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO verification (environment, digest, passed, at, document) VALUES (?, ?, ?, ?, ?)", v.Environment, v.Digest, flag(v.Passed), sqldb.Micros(v.At), string(text)); err != nil {
		return err
	}
	action := "verification.failed"
	if v.Passed {
		action = "verification.passed"
	}
	return ps.o.Audit.Record(ctx, tx, audit.Entry{Actor: v.By, Action: action, Object: "release/" + v.Release, Environment: v.Environment, Outcome: audit.Done, Reason: v.Reason})
}

// rejected is what keeps a release out of an environment; nil if nothing does.
func rejected(ctx context.Context, q sqldb.Querier, environment, digest string) (*Rejection, error) {
	r, found, err := sqldb.Row(ctx, q, scanned[Rejection], "SELECT document FROM rejection WHERE environment = ? AND digest = ? AND lifted = 0 ORDER BY sequence DESC LIMIT 1", environment, digest)
	if err != nil || !found {
		return nil, err
	}
	return &r, nil
}

// reject keeps a release out of an environment.
func (ps *Promotions) reject(ctx context.Context, tx *sqldb.Tx, r Rejection) error {
	known, err := rejected(ctx, tx, r.Environment, r.Digest)
	if err != nil || known != nil {
		return err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO rejection (environment, digest, lifted, document) VALUES (?, ?, 0, ?)", r.Environment, r.Digest, string(text)); err != nil {
		return err
	}
	return ps.o.Audit.Record(ctx, tx, audit.Entry{Actor: r.By, Action: "release.reject", Object: "release/" + r.Release, Environment: r.Environment, Outcome: audit.Done, Reason: r.Reason})
}

// holds are those that hold in an environment, or all if none is named.
func holds(ctx context.Context, q sqldb.Querier, environment string, now time.Time) ([]Hold, error) {
	all, err := sqldb.Rows(ctx, q, scanned[Hold], "SELECT document FROM hold WHERE ended = 0 AND (? = '' OR environment = ?) ORDER BY id", environment, environment)
	var on []Hold
	for _, h := range all {
		if h.on(now) {
			on = append(on, h)
		}
	}
	return on, err
}

func (ps *Promotions) putHold(ctx context.Context, tx *sqldb.Tx, h Hold, actor, action string) error {
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO hold (id, environment, ended, document) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET ended = excluded.ended, document = excluded.document",
		h.ID, h.Environment, flag(h.EndedAt != nil), string(text)); err != nil {
		return err
	}
	return ps.o.Audit.Record(ctx, tx, audit.Entry{Actor: actor, Action: action, Object: "hold/" + h.ID, Environment: h.Environment, Outcome: audit.Done, Reason: h.Reason})
}

func (ps *Promotions) putWaiver(ctx context.Context, tx *sqldb.Tx, w Waiver, actor, action, detail string) error {
	text, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO waiver (id, environment, digest, document) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET document = excluded.document",
		w.ID, w.Environment, w.Digest, string(text)); err != nil {
		return err
	}
	return ps.o.Audit.Record(ctx, tx, audit.Entry{Actor: actor, Action: action, Object: "waiver/" + w.ID, Environment: w.Environment, Outcome: audit.Done, Detail: detail})
}

// waiver is one that lets a release enter an environment now; nil if none is.
func waiver(ctx context.Context, q sqldb.Querier, environment, digest string, now time.Time) (*Waiver, error) {
	all, err := sqldb.Rows(ctx, q, scanned[Waiver], "SELECT document FROM waiver WHERE environment = ? AND digest = ? ORDER BY id", environment, digest)
	for _, w := range all {
		if w.Valid(now) {
			return &w, err
		}
	}
	return nil, err
}

// stretches are when a release ran in an environment.
func stretches(ctx context.Context, q sqldb.Querier, environment, digest string) ([]gate.Stretch, error) {
	return sqldb.Rows(ctx, q, func(rows *sql.Rows) (s gate.Stretch, err error) {
		var from, to int64
		var healthy bool
		err = rows.Scan(&from, &to, &healthy)
		return gate.Stretch{From: sqldb.Time(from), To: sqldb.Time(to), Healthy: healthy}, err
	}, "SELECT from_at, to_at, healthy <> 0 FROM stretch WHERE environment = ? AND digest = ? ORDER BY sequence DESC LIMIT 1000", environment, digest)
}

// stretch notes that a release has run well, or not, until now. One look is
// joined to the one before if that is not long ago: what nobody saw is no time
// in which it ran well.
func (ps *Promotions) stretch(ctx context.Context, environment, digest string, healthy bool, now time.Time) error {
	return ps.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE stretch SET to_at = ? WHERE to_at >= ? AND digest = ? AND healthy = ? AND sequence = (SELECT max(sequence) FROM stretch WHERE environment = ?)`,
			sqldb.Micros(now), sqldb.Micros(now.Add(-3*stretchEvery)), digest, flag(healthy), environment)
		if err != nil || n > 0 {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO stretch (environment, digest, from_at, to_at, healthy) VALUES (?, ?, ?, ?, ?)", environment, digest, sqldb.Micros(now), sqldb.Micros(now), flag(healthy))
		return err
	})
}

func jsonOf(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}

// Count is how many promotions there are of an environment in a state.
type Count struct {
	Environment string
	State       State
	Count       int64
}

// Counts says how many promotions stand where.
func (p *Promotions) Counts(ctx context.Context) ([]Count, error) {
	return sqldb.Rows(ctx, p.o.DB, func(rows *sql.Rows) (c Count, err error) { return c, rows.Scan(&c.Environment, &c.State, &c.Count) },
		"SELECT environment, state, count(*) FROM promotion GROUP BY environment, state ORDER BY environment, state")
}
