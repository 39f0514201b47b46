// Package rehearse tries the migrations of a release on a masked copy of
// production's data, on a host that may read it: it copies what is there at one
// moment, masks each field on the way, looks for what must not have come along,
// migrates the copy while others work on it, measures, holds the result against
// what programs of before and after expect, and takes the copy away.
package rehearse

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/mask"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/vault"
)

// Runner runs rehearsals on a host that may read production's data.
type Runner struct {
	// Keys are the recovery role's, where the stamp comes from its newest backup.
	Keys vault.Keys
	// Database is the stamp's own, file or URL, where it is read as it is.
	Database string
	// Databases are the URLs of the solution's databases.
	Databases map[string]string
	Scratch   string // directory in which copies are made
	Server    string // of PostgreSQL, on which copies of its databases are made
	Program   string // this program, which clears away should this process be killed; may be empty
	Version   string
	Host      string
	Logger    *slog.Logger
	// Advance is told how far it is; may be nil.
	Advance func(phase string)
}

// The names that copies begin with.
const (
	dirPrefix      = "rehearsal-"
	databasePrefix = "slipway_rehearsal_"
)

// run is one rehearsal.
type run struct {
	*Runner
	work   link.RehearsalWork
	e      *link.RehearsalEvidence
	dir    string
	name   string // that copies on the server begin with
	policy mask.Policy
	masker *mask.Masker
	stamp  *sqldb.Bench
	others map[string]*sqldb.Bench // copies of the solution's databases
	open   []*sqldb.Bench
	// turn is whose it is to write to a copy in SQLite: a stamp's process has one
	// queue for all who write, so nobody is passed by.
	turn sync.Mutex
}

// Run carries a rehearsal through and returns what it has shown.
func (r *Runner) Run(ctx context.Context, work link.RehearsalWork) link.RehearsalEvidence {
	e := link.RehearsalEvidence{
		Rehearsal: work.Rehearsal, Digest: work.Release.Digest, Host: r.Host, Version: r.Version, BegunAt: time.Now().UTC(),
		Steps: []link.RehearsalStep{}, Databases: []link.RehearsedData{}, Migrations: []link.RehearsedMigration{}, Checks: []link.RehearsalCheck{},
	}
	if work.Running != nil {
		e.Running = work.Running.Digest
	}
	one := strings.ToLower(rand.Text()[:12])
	x := &run{Runner: r, work: work, e: &e, dir: filepath.Join(r.Scratch, dirPrefix+one), name: databasePrefix + one + "_", others: map[string]*sqldb.Bench{}}
	err := x.guarded(ctx)
	switch {
	case ctx.Err() != nil:
		e.Failure = "it was cancelled"
	case err != nil:
		e.Failure = told(err)
	}
	e.EndedAt = time.Now().UTC()
	return e
}

// told is a failure in words that tell nothing of what was in the data.
func told(err error) string {
	text := err.Error()
	if known := problem.Of(err); known.Kind != problem.Internal {
		text = known.Error()
	}
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "…"
	}
	return text
}

// guarded runs the rehearsal and takes away whatever it has made, even if this
// process does not live to do so.
func (x *run) guarded(ctx context.Context) (err error) {
	if err := os.MkdirAll(x.dir, 0o700); err != nil {
		return err
	}
	left := Left{Dir: x.dir, Server: x.Server, Prefix: x.name}
	done, err := x.keep(left)
	if err != nil {
		return errors.Join(err, left.Clear(context.WithoutCancel(ctx)))
	}
	defer func() {
		var failures []error
		for _, b := range x.open {
			failures = append(failures, b.Close())
		}
		failures = append(failures, left.Clear(context.WithoutCancel(ctx)), done())
		failed := errors.Join(failures...)
		x.e.Destroyed = failed == nil && gone(x.dir)
		x.check("destroyed", "", "", failed, "the copies are gone")
		err = errors.Join(err, failed)
	}()
	return x.all(ctx)
}

func gone(dir string) bool {
	_, err := os.Lstat(dir)
	return errors.Is(err, fs.ErrNotExist)
}

// all is the rehearsal from its beginning to its end.
func (x *run) all(ctx context.Context) error {
	if err := x.masking(); err != nil {
		return err
	}
	if err := x.copies(ctx); err != nil {
		return err
	}
	sound, err := x.looked(ctx, "look for leaks")
	if err != nil || !sound {
		return err // nothing more is done with a copy that has something of production in it
	}
	if err := x.slipway(ctx); err != nil {
		return err
	}
	if err := x.twins(ctx); err != nil {
		return err
	}
	if err := x.solution(ctx); err != nil {
		return err
	}
	if _, err := x.looked(ctx, "look for leaks once more"); err != nil {
		return err
	}
	return x.sizes(ctx)
}

func (x *run) masking() (err error) {
	if len(x.work.Masking) > 0 {
		if err := json.Unmarshal(x.work.Masking, &x.policy); err != nil {
			return err
		}
	}
	for _, section := range []string{"desired.", "reported."} { // the orders that devices have of Slipway
		x.policy.Fields = append(x.policy.Fields, mask.Rule{Field: section + link.UpdateProperty + ".**", Class: "technical"})
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	x.masker, err = mask.New(x.policy, key)
	return err
}

// step does a part of the rehearsal and notes how long it took.
func (x *run) step(name string, do func() (detail string, err error)) error {
	if x.Advance != nil {
		x.Advance(name)
	}
	begun := time.Now()
	detail, err := do()
	if err != nil {
		detail = told(err)
	}
	x.e.Steps = append(x.e.Steps, link.RehearsalStep{Name: name, BegunAt: begun.UTC(), Milliseconds: time.Since(begun).Milliseconds(), Detail: detail})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// check notes what was looked at: it passed, or failed for a reason.
func (x *run) check(name, on, migration string, failed error, passed string) {
	verdict, detail := link.Pass, passed
	if failed != nil {
		verdict, detail = link.Fail, told(failed)
	}
	x.verdict(name, on, migration, verdict, detail)
}

func (x *run) verdict(name, on, migration, verdict, detail string) {
	x.e.Checks = append(x.e.Checks, link.RehearsalCheck{Name: name, On: on, Migration: migration, Verdict: verdict, Detail: detail})
}

// data is what is told of a database.
func (x *run) data(name string) *link.RehearsedData {
	for i := range x.e.Databases {
		if x.e.Databases[i].Name == name {
			return &x.e.Databases[i]
		}
	}
	x.e.Databases = append(x.e.Databases, link.RehearsedData{Name: name, Rows: map[string]int64{}})
	return &x.e.Databases[len(x.e.Databases)-1]
}

// sizes notes what copies have come to.
func (x *run) sizes(ctx context.Context) error {
	for name, b := range x.benches() {
		data := x.data(name)
		if data.RowsNow != nil {
			continue
		}
		size, err := b.Size(ctx)
		if err != nil {
			return err
		}
		now, err := counted(ctx, b)
		if err != nil {
			return err
		}
		data.After, data.RowsNow = size, now
	}
	return nil
}

// stampData is the name of the stamp's own database.
const stampData = "stamp"

func (x *run) benches() map[string]*sqldb.Bench {
	all := map[string]*sqldb.Bench{}
	if x.stamp != nil {
		all[stampData] = x.stamp
	}
	for name, b := range x.others {
		all[name] = b
	}
	return all
}

// counted counts the rows of each table.
func counted(ctx context.Context, b *sqldb.Bench) (map[string]int64, error) {
	tables, err := b.Tables(ctx)
	if err != nil {
		return nil, err
	}
	rows := map[string]int64{}
	for _, t := range tables {
		err := b.Each(ctx, "SELECT count(*) FROM "+t.SQL(), func(row []any) error {
			rows[t.String()] = row[0].(int64)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return rows, nil
}
