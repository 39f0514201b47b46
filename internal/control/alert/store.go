package alert

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// maxDeclared bounds how many resources of a kind there may be.
const maxDeclared = 500

// record is a resource as it is stored.
type record struct {
	name             string
	spec             []byte
	version          int64
	created, updated time.Time
}

// keptSpec holds what receivers are reached with, so it is sealed.
var keptSpec = sqldb.Sealed{Table: "monitoring", Key: []string{"kind", "name"}, Name: "spec"}

// Sealed are the columns that hold secrets.
var Sealed = []sqldb.Sealed{keptSpec}

const selectDeclared = "SELECT kind, name, spec, version, created_at, updated_at FROM monitoring WHERE kind = ?"

func scanRecord(rows *sql.Rows) (r record, err error) {
	var kind string
	var created, updated int64
	err = rows.Scan(&kind, &r.name, keptSpec.Into(&r.spec, &kind, &r.name), &r.version, &created, &updated)
	r.created, r.updated = sqldb.Time(created), sqldb.Time(updated)
	return r, err
}

// object is a record as the API serves it.
func object[Spec, Status any](kind string, r record) (resource.Object[Spec, Status], error) {
	o := resource.Object[Spec, Status]{APIVersion: resource.APIVersion, Kind: kind}
	o.Metadata = resource.Metadata{Name: r.name, ETag: strconv.FormatInt(r.version, 10), CreatedAt: &r.created, UpdatedAt: &r.updated}
	return o, json.Unmarshal(r.spec, &o.Spec)
}

// listed returns every resource of a kind, in order of name.
func listed[Spec, Status any](ctx context.Context, db *sqldb.DB, kind string) ([]resource.Object[Spec, Status], error) {
	records, err := sqldb.Rows(ctx, db, scanRecord, selectDeclared+" ORDER BY name", kind)
	all := make([]resource.Object[Spec, Status], len(records))
	for i, r := range records {
		if err == nil {
			all[i], err = object[Spec, Status](kind, r)
		}
	}
	return all, err
}

// one returns a resource.
func one[Spec, Status any](ctx context.Context, q sqldb.Querier, kind, name string) (resource.Object[Spec, Status], error) {
	r, found, err := sqldb.Row(ctx, q, scanRecord, selectDeclared+" AND name = ?", kind, name)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no %s %s", words[kind], name)
	}
	if err != nil {
		return resource.Object[Spec, Status]{}, err
	}
	return object[Spec, Status](kind, r)
}

// words are the kinds as people say them.
var words = map[string]string{
	resource.KindAlertRule: "alert rule", resource.KindReceiver: "receiver", resource.KindOnCall: "on-call", resource.KindSLO: "SLO",
}

// declaration is a resource that somebody declares.
type declaration[Spec any] struct {
	kind, name, ifMatch string
	spec                Spec
	shown               Spec // without secrets, for the audit log
	dryRun              bool
}

// errDryRun takes back what was only tried.
var errDryRun = problem.New(problem.Internal, "dry run")

// put stores a declaration with its entry in the audit log.
func put[Spec, Status any](ctx context.Context, a *Alerts, actor access.Actor, d declaration[Spec]) (stored resource.Object[Spec, Status], err error) {
	if err := resource.CheckName(resource.KindRoute, d.name); err != nil {
		return stored, err
	}
	spec, err := json.Marshal(d.spec)
	if err != nil {
		return stored, err
	}
	detail, err := json.Marshal(d.shown)
	if err != nil {
		return stored, err
	}
	err = a.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := a.next(ctx, tx, d.kind, d.name, d.ifMatch, spec)
		if err != nil {
			return err
		}
		if stored, err = object[Spec, Status](d.kind, r); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO monitoring (kind, name, spec, version, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (kind, name) DO UPDATE SET spec = excluded.spec, version = excluded.version, updated_at = excluded.updated_at`,
			d.kind, r.name, tx.Seal(keptSpec, r.spec, d.kind, r.name), r.version, sqldb.Micros(r.created), sqldb.Micros(r.updated)); err != nil {
			return err
		}
		if err := a.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: resource.Plural[d.kind] + ".put", Object: d.name, Outcome: audit.Done, Detail: string(detail)}); err != nil {
			return err
		}
		if d.dryRun {
			return errDryRun
		}
		return nil
	})
	if err == errDryRun {
		return stored, nil
	}
	if err == nil {
		a.changed.Ring()
	}
	return stored, err
}

// next is the record to store: the next version of what is there. An equal spec
// keeps its version.
func (a *Alerts) next(ctx context.Context, tx *sqldb.Tx, kind, name, ifMatch string, spec []byte) (record, error) {
	old, found, err := sqldb.Row(ctx, tx, scanRecord, selectDeclared+" AND name = ?", kind, name)
	if err != nil {
		return old, err
	}
	if err := matches(ifMatch, old.version); err != nil {
		return old, err
	}
	now := a.Now().UTC().Truncate(time.Microsecond)
	r := record{name, spec, old.version + 1, now, now}
	if found {
		r.created = old.created
		if bytes.Equal(old.spec, spec) {
			r.version, r.updated = old.version, old.updated
		}
		return r, nil
	}
	n, _, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (n int, err error) { return n, rows.Scan(&n) }, "SELECT count(*) FROM monitoring WHERE kind = ?", kind)
	if err == nil && n >= maxDeclared {
		err = problem.New(problem.Conflict, "there are %d of the kind %s, the most there may be", n, kind)
	}
	return r, err
}

// matches holds an If-Match against the stored version; 0 is not stored.
func matches(ifMatch string, version int64) error {
	text := strings.Trim(strings.TrimPrefix(ifMatch, "W/"), `"`)
	current := strconv.FormatInt(version, 10)
	if text == "" || version > 0 && (text == "*" || text == current) {
		return nil
	}
	return problem.New(problem.Stale, "the resource is not as If-Match %s has it", ifMatch)
}

// Delete takes a resource away.
func (a *Alerts) Delete(ctx context.Context, actor access.Actor, kind, name, ifMatch string) error {
	err := a.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, found, err := sqldb.Row(ctx, tx, scanRecord, selectDeclared+" AND name = ?", kind, name)
		if err != nil {
			return err
		}
		if !found {
			return problem.New(problem.NotFound, "there is no %s %s", words[kind], name)
		}
		if err := matches(ifMatch, r.version); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM monitoring WHERE kind = ? AND name = ?", kind, name); err != nil {
			return err
		}
		return a.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: resource.Plural[kind] + ".delete", Object: name, Outcome: audit.Done})
	})
	if err == nil {
		a.changed.Ring()
	}
	return err
}
