package featureflag

import (
	"context"
	"database/sql"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

const selectFlags = "SELECT name, spec, version, created_at, updated_at FROM flag"

// record is a declared flag as it is stored.
type record struct {
	name             string
	spec             []byte
	version          int64
	created, updated time.Time
}

func scanRecord(rows *sql.Rows) (r record, err error) {
	var created, updated int64
	err = rows.Scan(&r.name, &r.spec, &r.version, &created, &updated)
	r.created, r.updated = sqldb.Time(created), sqldb.Time(updated)
	return r, err
}

func (r record) resource() (out resource.Flag, err error) {
	out = resource.Flag{APIVersion: resource.APIVersion, Kind: resource.KindFlag, Metadata: resource.Metadata{Name: r.name, ETag: strconv.FormatInt(r.version, 10), CreatedAt: &r.created, UpdatedAt: &r.updated}}
	return out, json.Unmarshal(r.spec, &out.Spec)
}

// Declared returns the flags that are declared beside releases, in order of
// key.
func (f *Flags) Declared(ctx context.Context) ([]resource.Flag, error) {
	records, err := sqldb.Rows(ctx, f.o.DB, scanRecord, selectFlags+" ORDER BY name")
	all := make([]resource.Flag, 0, len(records))
	for _, r := range records {
		one, failed := r.resource()
		if failed != nil {
			return nil, failed
		}
		all = append(all, one)
	}
	return all, err
}

func (f *Flags) declared(ctx context.Context) (map[string]flag.Flag, error) {
	all, err := f.Declared(ctx)
	found := make(map[string]flag.Flag, len(all))
	for _, one := range all {
		found[one.Metadata.Name] = one.Spec
	}
	return found, err
}

// Get returns a declared flag.
func (f *Flags) Get(ctx context.Context, name string) (resource.Flag, error) {
	r, err := read(ctx, f.o.DB, name)
	if err != nil {
		return resource.Flag{}, err
	}
	return r.resource()
}

func read(ctx context.Context, q sqldb.Querier, name string) (record, error) {
	r, found, err := sqldb.Row(ctx, q, scanRecord, selectFlags+" WHERE name = ?", name)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no flag %q that is declared; a release may have one", name)
	}
	return r, err
}

// maxDeclared bounds the flags that are declared beside releases.
const maxDeclared = 1000

// errDry ends a transaction that was only to be tried.
var errDry = problem.New(problem.Conflict, "not stored")

// Put declares a flag, or declares it anew.
func (f *Flags) Put(ctx context.Context, actor access.Actor, name string, spec flag.Flag, ifMatch string, dryRun bool) (stored resource.Flag, err error) {
	if err := spec.Check(name); err != nil {
		p := problem.Of(err)
		return stored, p.At(strings.TrimSuffix("spec."+p.Field, "."))
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return stored, err
	}
	now := f.o.Now().UTC().Truncate(time.Microsecond)
	err = f.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r := record{name: name, spec: text, version: 1, created: now, updated: now}
		old, err := read(ctx, tx, name)
		switch {
		case problem.Is(err, problem.NotFound):
			if err := f.room(ctx, tx); err != nil {
				return err
			}
			err = matches(ifMatch, 0)
		case err == nil:
			r.version, r.created = old.version+1, old.created
			if string(old.spec) == string(text) {
				r.version, r.updated = old.version, old.updated
			}
			err = matches(ifMatch, old.version)
		}
		if err != nil {
			return err
		}
		if stored, err = r.resource(); err != nil {
			return err
		}
		if dryRun {
			return errDry
		}
		if r.version == old.version {
			return nil // it is that already
		}
		if _, err := tx.Exec(ctx, `INSERT INTO flag (name, spec, version, created_at, updated_at) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, version = excluded.version, updated_at = excluded.updated_at`,
			name, string(text), r.version, sqldb.Micros(r.created), sqldb.Micros(r.updated)); err != nil {
			return err
		}
		return f.o.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "flag.put", Object: "flag/" + name, Outcome: audit.Done, Detail: string(text)})
	})
	if err == errDry {
		return stored, nil
	}
	return stored, f.settled(ctx, err)
}

func (f *Flags) room(ctx context.Context, tx *sqldb.Tx) error {
	n, _, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }, "SELECT count(*) FROM flag")
	if err == nil && n >= maxDeclared {
		err = problem.New(problem.Conflict, "there are %d flags, the most that may be declared; delete those that are done with", n)
	}
	return err
}

// matches holds an ETag that is asked for against a version; 0 is none.
func matches(ifMatch string, version int64) error {
	want := strings.Trim(ifMatch, `"`)
	switch {
	case want == "":
		return nil
	case version == 0:
		return problem.New(problem.Stale, "it is not there, and was to have the ETag %s", ifMatch)
	case want != "*" && want != strconv.FormatInt(version, 10):
		return problem.New(problem.Stale, "it has changed since; its ETag is %q now", strconv.FormatInt(version, 10))
	}
	return nil
}

// Delete takes a declared flag away; who asks for it gets their own default
// from then on.
func (f *Flags) Delete(ctx context.Context, actor access.Actor, name, ifMatch string) error {
	err := f.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := read(ctx, tx, name)
		if err == nil {
			err = matches(ifMatch, r.version)
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM flag WHERE name = ?", name); err != nil {
			return err
		}
		return f.o.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "flag.delete", Object: "flag/" + name, Outcome: audit.Done})
	})
	return f.settled(ctx, err)
}

// settled has a change that was stored come into effect before it is answered.
// If that fails it is tried again by who looks at flags each second.
func (f *Flags) settled(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	if err := f.Look(ctx); err != nil {
		f.o.Logger.Warn("a change of flags comes into effect later", "error", err)
		select {
		case f.look <- struct{}{}:
		default:
		}
	}
	return nil
}
