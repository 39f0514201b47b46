package software

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/query"
)

// What holds where control says nothing else.
const (
	defaultDeadline = 24 * time.Hour
	defaultAttempts = 1
	baseAttempts    = 3
)

// course is how far the stamp has come with a document.
type course struct {
	Edition int64     `json:"edition"` // grows with every change
	Version int64     `json:"version"` // of the document it was made for
	Rollout string    `json:"rollout,omitempty"`
	BeganAt time.Time `json:"beganAt,omitzero"` // the rollout, on this stamp
	Stretch Stretch   `json:"stretch"`
	Reached int64     `json:"reached,omitempty"` // the version that the stretch was worked out for
	Halted  string    `json:"halted,omitempty"`  // until the next version
}

// plan is the document as the stamp follows it. It is never changed in place.
type plan struct {
	link.Releases
	course course
	where  *query.Condition // of the rollout's reach; nil reaches nobody
}

// rolloutID is empty where no rollout is on its way.
func (p *plan) rolloutID() string {
	if p.Rollout == nil {
		return ""
	}
	return p.Rollout.ID
}

func (p *plan) baseDigest() string {
	if p.Base == nil {
		return ""
	}
	return p.Base.Digest
}

// reaches reports whether the rollout is for a device: it reached it before, or
// its stretch holds it. What else it is for, its condition says.
func (p *plan) reaches(s Standing) bool {
	return p.Rollout != nil && (s.Wave > 0 && s.Rollout == p.Rollout.ID || p.course.Stretch.Holds(s.Spot))
}

// target is what a device is to run. ready says whether the stamp has the files
// of the release.
func (p *plan) target(s Standing, reached, ready bool, room int64) Target {
	if !reached {
		return Target{Release: p.Base, Attempts: baseAttempts, Deadline: defaultDeadline, Open: ready}
	}
	r := p.Rollout
	t := Target{
		Release: &r.Release, Rollout: r.ID, Wave: s.Wave, Attempts: max(r.Attempts, defaultAttempts), Deadline: defaultDeadline,
		Open: ready && !r.Paused && p.course.Halted == "" && room > 0,
	}
	if s.Rollout != r.ID || s.Wave == 0 {
		t.Wave = max(r.Wave, 1)
	}
	if r.DeadlineSeconds > 0 {
		t.Deadline = time.Duration(min(r.DeadlineSeconds, int64(maxDeadline/time.Second))) * time.Second
	}
	return t
}

const maxDeadline = 365 * 24 * time.Hour

// follow is the course of a document that a stamp was on another course before.
func (p *plan) follow(now time.Time) course {
	c := p.course
	if id := p.rolloutID(); c.Rollout != id {
		c = course{Edition: c.Edition, Rollout: id, BeganAt: now, Stretch: Stretch{Start: Place(id)}}
	}
	c.Version, c.Halted = p.Version, ""
	return c
}

// halts says why a rollout is to stop by itself after what became of a wave's
// devices; empty where it is not.
func halts(h *link.Halt, wave link.UpdateCensus) string {
	tried, failed := wave.Attempted(), wave.Failures()
	if h == nil || tried == 0 || tried < h.MinDevices || float64(failed) <= h.Failures*float64(tried) {
		return ""
	}
	return problem.New(problem.Conflict, "%d of the %d devices of the wave that tried have failed, more than the %g allowed", failed, tried, h.Failures).Message
}

// check refuses a document that cannot be followed.
func check(d link.Releases) (where *query.Condition, err error) {
	if d.Base != nil && d.Base.Digest == "" {
		return nil, problem.New(problem.Invalid, "a release has a digest").At("base.digest")
	}
	if d.Rollout == nil {
		return nil, nil
	}
	if d.Rollout.ID == "" || d.Rollout.Release.Digest == "" {
		return nil, problem.New(problem.Invalid, "a rollout has an id, and its release a digest").At("rollout")
	}
	if d.Rollout.Reach.Where == "" {
		return nil, nil
	}
	where, err = query.Parse(d.Rollout.Reach.Where)
	if err != nil {
		return nil, problem.Of(err).At("rollout.reach.where")
	}
	return where, nil
}

// Put takes what control wants to run; documents may come late, twice or out of
// order.
func (e *Engine) Put(ctx context.Context, document link.Releases) (link.None, error) {
	if p := e.plan.Load(); p != nil && document.Version <= p.Version {
		return link.None{}, nil
	}
	if _, err := check(document); err != nil {
		return link.None{}, err
	}
	text, err := json.Marshal(document)
	if err != nil {
		return link.None{}, err
	}
	err = e.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		changed, err := tx.Exec(ctx, `INSERT INTO releases (id, version, document, course) VALUES (1, ?, ?, '{}')
			ON CONFLICT (id) DO UPDATE SET version = excluded.version, document = excluded.document WHERE excluded.version > releases.version`, document.Version, string(text))
		if err != nil || changed == 0 {
			return err
		}
		return keep(ctx, tx, document)
	})
	if err == nil {
		err = e.Load(ctx)
	}
	if err == nil && e.Changed != nil {
		e.Changed()
	}
	return link.None{}, err
}

// keep keeps the releases of a document for as long as a twin tells of them.
func keep(ctx context.Context, tx *sqldb.Tx, document link.Releases) error {
	var all []*link.Release
	if document.Base != nil {
		all = append(all, document.Base)
	}
	if document.Rollout != nil {
		all = append(all, &document.Rollout.Release)
	}
	for _, r := range all {
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO release (digest, document) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING", r.Digest, string(text)); err != nil {
			return err
		}
	}
	return nil
}

// forget drops the releases that no document and no twin speaks of any more.
func (e *Engine) forget(ctx context.Context, p *plan) error {
	rollout := ""
	if p.Rollout != nil {
		rollout = p.Rollout.Release.Digest
	}
	return e.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM release WHERE digest NOT IN (?, ?) AND (SELECT version FROM releases WHERE id = 1) = ?
			AND NOT EXISTS (SELECT 1 FROM software s WHERE s.given = digest)`, p.baseDigest(), rollout, p.Version)
		return err
	})
}

// Load reads what control said last, which another process may have heard.
func (e *Engine) Load(ctx context.Context) error {
	type stored struct{ document, course []byte }
	kept, found, err := sqldb.Row(ctx, e.db, func(rows *sql.Rows) (s stored, err error) { return s, rows.Scan(&s.document, &s.course) },
		"SELECT document, course FROM releases WHERE id = 1")
	if err != nil || !found {
		return err
	}
	p := &plan{}
	if err := json.Unmarshal(kept.document, &p.Releases); err != nil {
		return err
	}
	if err := json.Unmarshal(kept.course, &p.course); err != nil {
		return err
	}
	if p.where, err = check(p.Releases); err != nil {
		return err
	}
	e.take(p)
	return nil
}

// Held names the releases that are to run, as is stored: the base, and the one
// that a rollout brings.
func (e *Engine) Held(ctx context.Context) (base, rollout string, err error) {
	text, found, err := sqldb.Row(ctx, e.db, func(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s) }, "SELECT document FROM releases WHERE id = 1")
	if err != nil || !found {
		return "", "", err
	}
	var document link.Releases
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		return "", "", err
	}
	if document.Base != nil {
		base = document.Base.Name
	}
	if document.Rollout != nil {
		rollout = document.Rollout.Release.Name
	}
	return base, rollout, nil
}

// take puts a plan into force, unless a newer one is.
func (e *Engine) take(p *plan) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if before := e.plan.Load(); before != nil && (p.Version < before.Version || p.Version == before.Version && p.course.Edition < before.course.Edition) {
		return
	}
	e.plan.Store(p)
	wake(e.fetch)
	e.hurry()
}

// chart writes down a course, unless the document has changed meanwhile.
func (e *Engine) chart(ctx context.Context, p *plan, c course) (*plan, error) {
	c.Edition++
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	err = e.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE releases SET course = ? WHERE id = 1 AND version = ?", string(text), p.Version)
		if err == nil && n == 0 {
			err = errOvertaken
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	charted := *p
	charted.course = c
	e.take(&charted)
	if e.Changed != nil {
		e.Changed()
	}
	return &charted, nil
}

// release returns a release that the document or a twin speaks of; nil where
// that is unknown.
func (e *Engine) release(ctx context.Context, p *plan, digest string) (*link.Release, error) {
	switch {
	case digest == "":
		return nil, nil
	case p.Rollout != nil && p.Rollout.Release.Digest == digest:
		return &p.Rollout.Release, nil
	case p.baseDigest() == digest:
		return p.Base, nil
	}
	if known, ok := e.earlier.Load(digest); ok {
		return known.(*link.Release), nil
	}
	text, found, err := sqldb.Row(ctx, e.db, scanText, "SELECT document FROM release WHERE digest = ?", digest)
	if err != nil || !found {
		return nil, err
	}
	var r link.Release
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return nil, err
	}
	e.earlier.Store(digest, &r)
	return &r, nil
}

// releases are all that the document or a twin speaks of.
func (e *Engine) releases(ctx context.Context) ([]link.Release, error) {
	return sqldb.Rows(ctx, e.db, func(rows *sql.Rows) (r link.Release, err error) {
		var text []byte
		if err := rows.Scan(&text); err != nil {
			return r, err
		}
		return r, json.Unmarshal(text, &r)
	}, "SELECT document FROM release")
}
