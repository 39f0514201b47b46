package rehearsal

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// Options are what rehearsals need.
type Options struct {
	DB    *sqldb.DB
	Audit *audit.Log
	// Seed is of the key that signs, which only this installation has.
	Seed []byte
	// Environment and Stamps tell what is declared, Release finds one by its name.
	Environment func(ctx context.Context, name string) (resource.Environment, error)
	Stamps      func(ctx context.Context) ([]resource.Stamp, error)
	Release     func(ctx context.Context, name string) (link.Release, error)
	// Running names the release that runs on a stamp; empty is none.
	Running func(ctx context.Context, environment, stamp string) (string, error)
	// Schema is the last migration of a stamp's tables, as its newest backup has
	// it; 0 is not known.
	Schema func(ctx context.Context, stamp string) (int64, error)
	Now    func() time.Time
}

// Rehearsals are the rehearsals of an installation.
type Rehearsals struct {
	Options
	key ed25519.PrivateKey
}

// New returns the rehearsals kept in a database.
func New(o Options) *Rehearsals {
	return &Rehearsals{o, ed25519.NewKeyFromSeed(o.Seed[:ed25519.SeedSize])}
}

// record is a rehearsal as it is stored.
type record struct {
	version int64
	Rehearsal
}

func scan(rows *sql.Rows) (r record, err error) {
	var text string
	if err = rows.Scan(&r.version, &text); err != nil {
		return r, err
	}
	return r, json.Unmarshal([]byte(text), &r.Rehearsal)
}

const selectAll = "SELECT version, document FROM rehearsal"

func read(ctx context.Context, q sqldb.Querier, id string) (record, error) {
	r, found, err := sqldb.Row(ctx, q, scan, selectAll+" WHERE id = ?", id)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no rehearsal %q", id)
	}
	return r, err
}

func active(r Rehearsal) int {
	if r.State == Ended {
		return 0
	}
	return 1
}

func insert(ctx context.Context, tx *sqldb.Tx, r Rehearsal) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "INSERT INTO rehearsal (id, environment, release, digest, active, at, version, document) VALUES (?, ?, ?, ?, ?, ?, 1, ?)",
		r.ID, r.Environment, r.Release, r.Digest, active(r), sqldb.Micros(r.CreatedAt), string(text))
	return err
}

func save(ctx context.Context, tx *sqldb.Tx, r record) error {
	text, err := json.Marshal(r.Rehearsal)
	if err != nil {
		return err
	}
	n, err := tx.Exec(ctx, "UPDATE rehearsal SET active = ?, version = version + 1, document = ? WHERE id = ? AND version = ?", active(r.Rehearsal), string(text), r.ID, r.version)
	if err == nil && n == 0 {
		err = problem.New(problem.Stale, "the rehearsal has changed meanwhile; look again")
	}
	return err
}

// note records who did something.
func (rs *Rehearsals) note(ctx context.Context, tx *sqldb.Tx, actor access.Actor, action, id, detail string) error {
	return rs.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: action, Object: "rehearsal/" + id, Outcome: audit.Done, Detail: detail})
}

// Step does what time does to rehearsals.
func (rs *Rehearsals) Step(ctx context.Context) error {
	left, err := sqldb.Rows(ctx, rs.DB, scan, selectAll+" WHERE active = 1")
	if err != nil {
		return err
	}
	for _, r := range left {
		next, changed := step(rs.Now(), r.Rehearsal)
		if !changed {
			continue
		}
		if r.Rehearsal = next; next.State == Ended {
			r.Rehearsal = rs.sign(next)
		}
		err := rs.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return save(ctx, tx, r) })
		if err != nil && !problem.Is(err, problem.Stale) {
			return err
		}
	}
	return nil
}

// finding is what is signed of a rehearsal.
type finding struct {
	Rehearsal   string                  `json:"rehearsal"`
	Environment string                  `json:"environment"`
	Stamp       string                  `json:"stamp"`
	Release     string                  `json:"release"`
	Digest      string                  `json:"digest"`
	Verdict     string                  `json:"verdict"`
	Reasons     []string                `json:"reasons,omitempty"`
	EndedAt     time.Time               `json:"endedAt"`
	Limits      link.RehearsalLimits    `json:"limits"`
	Evidence    *link.RehearsalEvidence `json:"evidence,omitempty"`
}

func (rs *Rehearsals) sign(r Rehearsal) Rehearsal {
	text, err := json.Marshal(finding{r.ID, r.Environment, r.Stamp, r.Release, r.Digest, r.Verdict, r.Reasons, *r.EndedAt, r.Limits, r.Evidence})
	if err != nil {
		panic(err) // of plain fields
	}
	r.Signed, r.Signature = string(text), base64.StdEncoding.EncodeToString(ed25519.Sign(rs.key, text))
	r.Key = base64.StdEncoding.EncodeToString(rs.key.Public().(ed25519.PublicKey))
	return r
}

// List returns the newest rehearsals created before a time (zero: all), of one
// environment and one release if they are named.
func (rs *Rehearsals) List(ctx context.Context, environment, release string, before time.Time, limit int) ([]Rehearsal, error) {
	where, args := " WHERE at < ?", []any{int64(1) << 62}
	if !before.IsZero() {
		args[0] = sqldb.Micros(before)
	}
	if environment != "" {
		where, args = where+" AND environment = ?", append(args, environment)
	}
	if release != "" {
		where, args = where+" AND release = ?", append(args, release)
	}
	all, err := sqldb.Rows(ctx, rs.DB, scan, selectAll+where+" ORDER BY at DESC LIMIT ?", append(args, limit)...)
	list := make([]Rehearsal, len(all))
	for i, r := range all {
		list[i] = r.Rehearsal
	}
	return list, err
}

// Get tells of a rehearsal, and whether it still says anything.
func (rs *Rehearsals) Get(ctx context.Context, id string) (Rehearsal, error) {
	r, err := read(ctx, rs.DB, id)
	if err != nil {
		return r.Rehearsal, err
	}
	return rs.held(ctx, r.Rehearsal)
}

// Newest is the newest rehearsal of a release on an environment's data that has
// ended and was not cancelled, with why it says nothing any more; nil where
// there is none.
func (rs *Rehearsals) Newest(ctx context.Context, environment, digest string) (*Rehearsal, error) {
	all, err := sqldb.Rows(ctx, rs.DB, scan, selectAll+" WHERE environment = ? AND digest = ? AND active = 0 ORDER BY at DESC LIMIT 20", environment, digest)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Verdict != Cancelled {
			held, err := rs.held(ctx, r.Rehearsal)
			return &held, err
		}
	}
	return nil, nil
}

// held holds a rehearsal against what is there now.
func (rs *Rehearsals) held(ctx context.Context, r Rehearsal) (Rehearsal, error) {
	if r.Evidence == nil {
		return r, nil
	}
	environment, err := rs.Environment(ctx, r.Environment)
	if err != nil {
		if problem.Is(err, problem.NotFound) {
			r.Void = []string{"the environment is not there any more"}
			return r, nil
		}
		return r, err
	}
	live := Live{}
	live.MaxAge, live.Change = environment.Spec.Rehearsal.Validity()
	stamps, err := rs.Stamps(ctx)
	if err != nil {
		return r, err
	}
	there := false
	for _, s := range stamps {
		if s.Metadata.Name == r.Stamp && s.Status != nil {
			there, live.Devices = true, int64(s.Status.Assigned)
		}
	}
	if !there {
		r.Void = []string{"the stamp whose data it was is not there any more"}
		return r, nil
	}
	if live.Schema, err = rs.Schema(ctx, r.Stamp); err != nil {
		return r, err
	}
	running, err := rs.running(ctx, r.Environment, r.Stamp)
	if err != nil {
		return r, err
	}
	if running != nil {
		live.Running = running.Digest
		if running.Digest == r.Digest {
			live.Running = r.Evidence.Running // it is there itself by now
		}
	}
	r.Void = void(rs.Now(), r, live)
	return r, nil
}

// running is the release that runs on a stamp; nil is none.
func (rs *Rehearsals) running(ctx context.Context, environment, stamp string) (*link.Release, error) {
	name, err := rs.Running(ctx, environment, stamp)
	if err != nil || name == "" {
		return nil, err
	}
	r, err := rs.Release(ctx, name)
	if err != nil {
		return nil, err
	}
	return &r, nil
}
