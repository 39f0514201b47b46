// Package environment keeps what people decide of environments and their
// stamps, brings stamps about through a driver, and publishes the directory
// by which provisioning assigns devices.
package environment

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/seal"
	"github.com/slipway/slipway/internal/sqldb"
)

// Driver brings stamps about where they are meant to run.
type Driver interface {
	// Ensure starts the stamp if it does not run and returns the host devices
	// are told; none where the stamp runs by itself, and tells it.
	Ensure(ctx context.Context, stamp link.Stamp) (host string, err error)
	// Remove stops it.
	Remove(ctx context.Context, name string) error
}

// Environments are the environments and stamps of an installation.
type Environments struct {
	db     *sqldb.DB
	conn   *bus.Conn
	driver Driver
	audit  *audit.Log
	logger *slog.Logger
	now    func() time.Time
	kick   chan struct{} // something changed: reconcile now
	// Revoked are the certificates of processes that servers of the link
	// elsewhere are not to let in.
	Revoked func() []string
	// ReleaseRoutes are the routes that the release on a stamp brings.
	ReleaseRoutes func(ctx context.Context, stamp string) ([]link.Route, error)
	// Changed is told of an environment that is changed or deleted, as part of
	// that change.
	Changed func(ctx context.Context, tx *sqldb.Tx, name string) error

	// Box encrypts the secrets that routes name; nil keeps none.
	Box *seal.Box

	mu       sync.Mutex
	observed map[string]map[string]link.Observed // by stamp and process
	problems map[string]string                   // why a stamp could not be started
}

// New returns the environments kept in db. Observations are heard at once.
func New(db *sqldb.DB, conn *bus.Conn, driver Driver, log *audit.Log, logger *slog.Logger, now func() time.Time) (*Environments, error) {
	e := &Environments{
		db: db, conn: conn, driver: driver, audit: log, logger: logger, now: now, kick: make(chan struct{}, 1),
		observed: map[string]map[string]link.Observed{}, problems: map[string]string{}, Revoked: func() []string { return nil },
		ReleaseRoutes: func(context.Context, string) ([]link.Route, error) { return nil, nil },
		Changed:       func(context.Context, *sqldb.Tx, string) error { return nil },
	}
	return e, bus.Hear(conn, link.ObservedSubject(link.StampPeer("*")), e.hear)
}

// etag is a version as an ETag.
func etag(version int64) string { return strconv.FormatInt(version, 10) }

// matches holds an If-Match against the stored version; 0 is not stored. Empty
// matches all, "*" all that is stored.
func matches(ifMatch string, version int64) error {
	text := strings.Trim(strings.TrimPrefix(ifMatch, "W/"), `"`)
	if text == "" || text == "*" && version > 0 || text == etag(version) && version > 0 {
		return nil
	}
	if version == 0 {
		return problem.New(problem.Stale, "there is nothing stored that If-Match %s could match", ifMatch)
	}
	return problem.New(problem.Stale, "the resource has changed since; its ETag is %q now", etag(version))
}

// record is a stored resource.
type record struct {
	name             string
	spec             []byte
	version          int64
	host             string
	created, updated time.Time
}

func scanRecord(rows *sql.Rows) (r record, err error) {
	var created, updated int64
	err = rows.Scan(&r.name, routeSpec.Into(&r.spec, &r.name), &r.version, &r.host, &created, &updated)
	r.created, r.updated = sqldb.Time(created), sqldb.Time(updated)
	return r, err
}

func (r record) metadata() resource.Metadata {
	return resource.Metadata{Name: r.name, ETag: etag(r.version), CreatedAt: &r.created, UpdatedAt: &r.updated}
}

const (
	selectEnvironments = "SELECT name, spec, version, '', created_at, updated_at FROM environment"
	selectStamps       = "SELECT name, spec, version, host, created_at, updated_at FROM stamp"
)

func readOne(ctx context.Context, q sqldb.Querier, query, kind, name string) (record, error) {
	r, found, err := sqldb.Row(ctx, q, scanRecord, query+" WHERE name = ?", name)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no %s %q", kind, name)
	}
	return r, err
}

// edit is one change of a resource: checked against the others, stored,
// recorded, and the directory's version raised, in one transaction.
type edit struct {
	actor  access.Actor
	action string // what it is, a point, what is done to it
	name   string
	detail string
	apply  func(ctx context.Context, tx *sqldb.Tx) error
}

// kind is what an edit changes.
func (c edit) kind() string {
	kind, _, _ := strings.Cut(c.action, ".")
	return kind
}

// digest is that of a resource as it stands, with the environment it is of;
// both are empty where there is no such resource.
func (e *Environments) digest(ctx context.Context, tx *sqldb.Tx, c edit) (digest, environment string, err error) {
	query := map[string]string{"environment": selectEnvironments, "stamp": selectStamps, "route": selectRoutes, "tenant": selectTenants, "blueprint": selectBlueprints}[c.kind()]
	r, found, err := sqldb.Row(ctx, tx, scanRecord, query+" WHERE name = ?", c.name)
	if err != nil || !found {
		return "", "", err
	}
	switch c.kind() {
	case "environment":
		return audit.Digest(json.RawMessage(r.spec)), c.name, nil
	case "blueprint":
		return audit.Digest(json.RawMessage(r.spec)), "", nil
	}
	var of struct{ Environment string }
	err = json.Unmarshal(r.spec, &of)
	return audit.Digest(json.RawMessage(r.spec)), of.Environment, err
}

// errDryRun takes an edit back that was only tried.
var errDryRun = problem.New(problem.Internal, "dry run")

func (e *Environments) commit(ctx context.Context, dryRun bool, c edit) error {
	err := e.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		before, environment, err := e.digest(ctx, tx, c)
		if err != nil {
			return err
		}
		if err := c.apply(ctx, tx); err != nil {
			return err
		}
		after, now, err := e.digest(ctx, tx, c)
		if err != nil {
			return err
		}
		if err := e.Raise(ctx, tx); err != nil {
			return err
		}
		if err := e.audit.Record(ctx, tx, audit.Entry{
			Actor: c.actor.Name, Action: c.action, Object: c.kind() + "/" + c.name, Environment: cmp.Or(now, environment),
			Outcome: audit.Done, Detail: c.detail, Before: before, After: after,
		}); err != nil {
			return err
		}
		if dryRun {
			return errDryRun
		}
		return nil
	})
	if err == errDryRun {
		return nil
	}
	if err == nil {
		e.Kick()
	}
	return err
}

// Raise gives the directory its next version, so that it goes out anew.
func (e *Environments) Raise(ctx context.Context, tx *sqldb.Tx) error {
	_, err := tx.Exec(ctx, "UPDATE directory SET version = version + 1 WHERE id = 1")
	return err
}

// Kick makes Run look at once.
func (e *Environments) Kick() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// Directory returns the desired document for provisioning. Stamps that do not
// run yet are not in it.
func (e *Environments) Directory(ctx context.Context) (link.Directory, error) {
	var d link.Directory
	version, _, err := sqldb.Row(ctx, e.db, func(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }, "SELECT version FROM directory WHERE id = 1")
	if err != nil {
		return d, err
	}
	d.Version, d.RevokedPeers = version, e.Revoked()
	if d.Tenants, err = e.linkedTenants(ctx); err != nil {
		return d, err
	}
	environments, err := sqldb.Rows(ctx, e.db, scanRecord, selectEnvironments+" ORDER BY name")
	if err != nil {
		return d, err
	}
	for _, r := range environments {
		var spec resource.EnvironmentSpec
		if err := json.Unmarshal(r.spec, &spec); err != nil {
			return d, err
		}
		d.Environments = append(d.Environments, link.Environment{Name: r.name, PromotesFrom: spec.PromotesFrom, AutoMove: spec.AutoMove})
	}
	stamps, err := e.stamps(ctx)
	for _, s := range stamps {
		if s.Host != "" {
			d.Stamps = append(d.Stamps, s)
		}
	}
	return d, err
}

// stamps returns every stamp with the host it was last given.
func (e *Environments) stamps(ctx context.Context) ([]link.Stamp, error) {
	records, err := sqldb.Rows(ctx, e.db, scanRecord, selectStamps+" ORDER BY name")
	if err != nil {
		return nil, err
	}
	all := make([]link.Stamp, len(records))
	for i, r := range records {
		if all[i], err = r.stamp(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (r record) stamp() (link.Stamp, error) {
	var spec resource.StampSpec
	err := json.Unmarshal(r.spec, &spec)
	return link.Stamp{Name: r.name, Environment: spec.Environment, Region: spec.Region, Host: r.host, Capacity: spec.Capacity, Weight: spec.Weight, State: spec.State, Tenants: spec.Tenants, Local: spec.Local}, err
}
