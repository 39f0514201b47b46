// Package drill tries backups as whoever recovers would: with the recovery
// role's credentials alone it restores the newest and an older moment where
// nothing can be reached from, looks through what came, has a device connect,
// shows that a damaged copy is refused, and takes all of it away again.
package drill

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/recovery"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/vault"
)

// Runner runs drills on a host that recovers.
type Runner struct {
	Keys     vault.Keys
	Scratch  string // directory in which targets are made, and destroyed
	Database string // PostgreSQL for planes that were kept there; empty otherwise
	// SealingKeys says where keys come from that are in no backup; see
	// seal.ParseSource. Empty: they are in the backups.
	SealingKeys string
	Program     string // this program, which looks through a target in a process of its own
	Version     string
	Host        string
	Logger      *slog.Logger
	// Advance is told how far it is; may be nil.
	Advance func(phase string)
}

// target is the directory that a drill restores into.
const target = "drill-target"

// Run carries a drill through and returns what it has shown.
func (r *Runner) Run(ctx context.Context, id string) link.DrillEvidence {
	begun := time.Now()
	e := link.DrillEvidence{Drill: id, Host: r.Host, Version: r.Version, BegunAt: begun.UTC(), Trials: []link.Trial{}}
	if err := r.run(ctx, &e); err != nil {
		e.Failure = err.Error()
	}
	e.EndedAt = time.Now().UTC()
	var restoring int64
	for _, t := range e.Trials {
		for _, one := range t.Restored {
			e.Bytes += one.Bytes
		}
		for _, p := range t.Phases {
			if p.Name == "restore" {
				restoring += p.Milliseconds
			}
		}
	}
	if restoring > 0 {
		e.BytesPerSec = float64(e.Bytes) / (float64(restoring) / 1000)
	}
	return e
}

func (r *Runner) phase(name string) {
	if r.Advance != nil {
		r.Advance(name)
	}
}

func (r *Runner) run(ctx context.Context, e *link.DrillEvidence) error {
	r.phase("choosing")
	newest, err := recovery.Choose(ctx, r.Keys, nil, time.Time{})
	if err != nil {
		return err
	}
	trial, err := r.trial(ctx, "newest", newest, e.BegunAt)
	e.Trials = append(e.Trials, trial)
	if err != nil {
		return err
	}
	at, found, err := r.older(ctx, newest)
	if err != nil {
		return err
	}
	if found {
		older, err := recovery.Choose(ctx, r.Keys, nil, at)
		if err != nil {
			return err
		}
		trial, err := r.trial(ctx, "older", older, at)
		e.Trials = append(e.Trials, trial)
		if err != nil {
			return err
		}
	}
	r.phase("a damaged copy")
	e.Negative = r.negative(ctx, newest)
	return nil
}

// older chooses a moment at random at which control was backed up, before the
// newest.
func (r *Runner) older(ctx context.Context, newest []recovery.Chosen) (time.Time, bool, error) {
	last := map[string]string{}
	for _, one := range newest {
		last[one.Index.Peer] = one.Index.ID
	}
	var moments []time.Time
	for _, v := range r.Keys.Vaults {
		ids, err := v.List(ctx)
		if err != nil {
			return time.Time{}, false, err
		}
		for _, id := range ids {
			at, peer, err := vault.ParseID(id)
			if err == nil && peer == link.ControlPeer && id < last[peer] {
				moments = append(moments, at)
			}
		}
	}
	if len(moments) == 0 {
		return time.Time{}, false, nil
	}
	return moments[rand.IntN(len(moments))], true, nil
}

// trial restores to a moment, looks, and destroys.
func (r *Runner) trial(ctx context.Context, of string, chosen []recovery.Chosen, now time.Time) (t link.Trial, err error) {
	t = link.Trial{Of: of, At: now, Checks: []link.DrillCheck{}}
	dir := filepath.Join(r.Scratch, target)
	if err := r.destroy(ctx, dir, nil); err != nil { // what a drill that died has left
		return t, err
	}
	var planes []recovery.Plane
	defer func() {
		err = errors.Join(err, r.destroy(context.WithoutCancel(ctx), dir, planes))
		t.Destroyed = gone(dir)
	}()
	begun := time.Now()
	planes, err = recovery.Restore(ctx, r.Keys, chosen, recovery.Target{
		Dir: dir, Database: r.Database, Logger: r.Logger,
		Progress: func(peer string, n int64) {
			r.phase(fmt.Sprintf("restoring the %s: %s, %d bytes", of, peer, n))
		},
	})
	t.Phases = append(t.Phases, link.Timing{Name: "restore", Milliseconds: time.Since(begun).Milliseconds()})
	if err != nil {
		t.Checks = append(t.Checks, link.DrillCheck{Name: "storage", Verdict: link.Fail, Detail: err.Error()})
		return t, nil // that is what the drill has found
	}
	t.Checks = append(t.Checks, link.DrillCheck{Name: "storage", Verdict: link.Pass, Detail: "every file is what was signed"})
	r.phase("looking through the " + of)
	looking := time.Now()
	var newest time.Time
	for _, p := range planes {
		x := p.Index
		t.Restored = append(t.Restored, link.Restored{Backup: x.ID, Digest: x.Digest(), Plane: x.Peer, TakenAt: x.TakenAt, AgeSeconds: int64(now.Sub(x.TakenAt) / time.Second), Bytes: p.Bytes})
		t.Checks = append(t.Checks, examine(ctx, p)...)
		if newest.IsZero() || x.Canary.At.Before(newest) {
			newest = x.Canary.At // the worst of the planes counts
		}
	}
	t.RPOSeconds = max(0, now.Sub(newest).Seconds())
	t.Phases = append(t.Phases, link.Timing{Name: "examine", Milliseconds: time.Since(looking).Milliseconds()})
	r.phase("running the " + of)
	running := time.Now()
	f, isolation, err := r.inspect(ctx, dir)
	if err != nil {
		return t, err
	}
	t.Isolation, t.Checks = isolation, append(t.Checks, f.Checks...)
	t.Phases = append(t.Phases, link.Timing{Name: "boot", Milliseconds: f.BootMillis}, link.Timing{Name: "application", Milliseconds: time.Since(running).Milliseconds() - f.BootMillis})
	ready := f.BootMillis
	if f.DeviceMillis > 0 {
		ready = f.DeviceMillis
	}
	t.RTOSeconds = running.Sub(begun).Seconds() + float64(ready)/1000
	return t, nil
}

// examine looks through a plane's database.
func examine(ctx context.Context, p recovery.Plane) []link.DrillCheck {
	look := sqldb.ExamineFile
	if sqldb.IsURL(p.Database) {
		look = sqldb.ExamineURL
	}
	x, peer := p.Index, p.Index.Peer
	e, err := look(ctx, p.Database)
	if err == nil && len(e.Faults) > 0 {
		err = fmt.Errorf("%d faults: %s", len(e.Faults), e.Faults[0])
	}
	checks := []link.DrillCheck{judged("storage", peer, err, "the database is whole")}
	if err != nil {
		return checks
	}
	var schema, rows, canary error
	if e.Schema != x.Schema {
		schema = fmt.Errorf("its tables are of migration %d, not %d", e.Schema, x.Schema)
	}
	var all int64
	for table, n := range x.Rows {
		all += n
		if e.Rows[table] != n {
			rows = fmt.Errorf("the table %s has %d rows of %d", table, e.Rows[table], n)
		}
	}
	if e.Mark != x.Canary.Mark || e.Mark == "" {
		canary = errors.New("the record that was written just before the backup is not there")
	}
	return append(checks, judged("schema", peer, schema, fmt.Sprintf("migration %d", e.Schema)), judged("rows", peer, rows, fmt.Sprintf("%d rows", all)),
		judged("canary", peer, canary, "of "+x.Canary.At.Format(time.RFC3339)))
}

func judged(name, plane string, err error, detail string) link.DrillCheck {
	if err != nil {
		return link.DrillCheck{Name: name, Plane: plane, Verdict: link.Fail, Detail: err.Error()}
	}
	return link.DrillCheck{Name: name, Plane: plane, Verdict: link.Pass, Detail: detail}
}

// destroy takes a target away, with the schemas it has in PostgreSQL.
func (r *Runner) destroy(ctx context.Context, dir string, planes []recovery.Plane) error {
	failures := []error{os.RemoveAll(dir), os.RemoveAll(dir + ".restoring")}
	for _, p := range planes {
		if !sqldb.IsURL(p.Database) {
			continue
		}
		dropped, err := sqldb.DropSchema(ctx, p.Database)
		if err == nil && !dropped {
			err = fmt.Errorf("the schema of %s is still there", p.Index.Peer)
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

func gone(dir string) bool {
	_, err := os.Lstat(dir)
	return errors.Is(err, fs.ErrNotExist)
}

// negative flips one bit in a copy of the smallest backup: the copy must be
// refused.
func (r *Runner) negative(ctx context.Context, chosen []recovery.Chosen) link.DrillCheck {
	smallest := chosen[0]
	for _, one := range chosen {
		if one.Index.Size < smallest.Index.Size {
			smallest = one
		}
	}
	dir := filepath.Join(r.Scratch, "drill-damaged")
	defer os.RemoveAll(dir)
	said, err := smallest.RestoreDamaged(ctx, r.Keys, dir)
	c := link.DrillCheck{Name: "negative", Plane: smallest.Index.Peer}
	switch {
	case err != nil:
		c.Verdict, c.Detail = link.Inconclusive, err.Error()
	case said == nil:
		c.Verdict, c.Detail = link.Fail, "a copy with one bit flipped was restored"
	default:
		c.Verdict, c.Detail = link.Pass, said.Error()
	}
	return c
}
