package device

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// MaxModules is how many modules one device may have.
const MaxModules = 50

// Spec is what a back end says of an identity.
type Spec struct {
	ID           string
	Status       string // Enabled when empty
	StatusReason string
	Auth         link.Auth // keys are made for a SAS identity without any
	ManagedBy    string    // of a module
	Edge         bool      // a gateway for other devices
	Scope        string    // of the gateway a device stands behind
	ParentScopes []string
	Tenant       string // whose it is; link.DefaultTenant when empty
}

// Entry is an identity as the registry shows it.
type Entry struct {
	Device
	Edition      int64 // grows with what back ends set
	StatusReason string
	StatusAt     *time.Time
	ManagedBy    string
	Edge         bool
	Scope        string
	ParentScopes []string
	// Configurations that target the identity, with {"status": …} each.
	Configurations map[string]any
	Connected      bool       // as of the last flush; the hub knows better
	ConnectedAt    *time.Time // when that last changed
	LastActivity   *time.Time
	Messages       int64
	Queued         int
}

// ETag names what back ends have set of the identity.
func (e Entry) ETag() string {
	return base64.StdEncoding.EncodeToString([]byte(strconv.FormatInt(e.Edition, 10)))
}

// matches reports whether an If-Match value is for this edition; see
// twin.Twin.Matches.
func (e Entry) matches(ifMatch string) bool {
	text := strings.Trim(strings.TrimPrefix(strings.TrimSpace(ifMatch), "W/"), `"`)
	return text == "" || text == "*" || text == e.ETag()
}

func (e Entry) stale() error {
	return problem.New(problem.Stale, "device %s has changed since; its ETag is %q now", e.ID, e.ETag())
}

// queuedColumn is how many messages wait for a device.
const queuedColumn = "(SELECT count(*) FROM command q WHERE q.device_id = d.device_id)"

const entryColumns = `d.device_id, d.generation_id, d.epoch, d.status, d.enrollment, d.auth_type, d.primary_key, d.secondary_key,
	d.primary_thumbprint, d.secondary_thumbprint, c.der, d.model_id, d.subscriptions, d.created_at,
	d.edition, d.status_reason, d.status_at, d.managed_by, d.edge, d.scope, d.parent_scopes, d.connected, d.connected_at, d.last_activity, d.messages,
	d.configurations, d.tenant, ` + queuedColumn

const selectEntry = "SELECT " + entryColumns + " FROM device d LEFT JOIN ca c ON c.digest = d.ca"

// entryRow takes the columns of an entry.
type entryRow struct {
	entry                         Entry
	created                       int64
	statusAt, connectedAt, active sql.NullInt64
	parents, configurations       []byte
}

func (r *entryRow) into() []any {
	e := &r.entry
	return []any{
		&e.ID, &e.GenerationID, &e.Epoch, &e.Status, &e.Enrollment, &e.Auth.Type, primaryKey.Into(&e.Auth.PrimaryKey, &e.ID), secondaryKey.Into(&e.Auth.SecondaryKey, &e.ID),
		&e.Auth.PrimaryThumbprint, &e.Auth.SecondaryThumbprint, &e.Auth.CA, &e.ModelID, &e.Subscriptions, &r.created,
		&e.Edition, &e.StatusReason, &r.statusAt, &e.ManagedBy, &e.Edge, &e.Scope, &r.parents, &e.Connected, &r.connectedAt, &r.active, &e.Messages,
		&r.configurations, &e.Tenant, &e.Queued,
	}
}

func (r *entryRow) read() (Entry, error) {
	e := r.entry
	e.CreatedAt, e.StatusAt = sqldb.Time(r.created), sqldb.NullTime(r.statusAt)
	e.ConnectedAt, e.LastActivity = sqldb.NullTime(r.connectedAt), sqldb.NullTime(r.active)
	return e, errors.Join(json.Unmarshal(r.parents, &e.ParentScopes), json.Unmarshal(r.configurations, &e.Configurations))
}

func scanEntry(rows *sql.Rows) (Entry, error) {
	var r entryRow
	if err := rows.Scan(r.into()...); err != nil {
		return Entry{}, err
	}
	return r.read()
}

func readEntry(ctx context.Context, q sqldb.Querier, id string) (Entry, error) {
	e, found, err := sqldb.Row(ctx, q, scanEntry, selectEntry+" WHERE d.device_id = ?", id)
	if err == nil && !found {
		err = notHere(id)
	}
	return e, err
}

// Entry returns one identity.
func (ds *Devices) Entry(ctx context.Context, id string) (Entry, error) {
	return readEntry(ctx, ds.db, id)
}

// Entries returns devices with ids above after, in order of id.
func (ds *Devices) Entries(ctx context.Context, after string, limit int) ([]Entry, error) {
	return sqldb.Rows(ctx, ds.db, scanEntry, selectEntry+" WHERE d.module_of IS NULL AND d.device_id > ? ORDER BY d.device_id LIMIT ?", after, limit)
}

// Modules returns the modules of a device, in order of id.
func (ds *Devices) Modules(ctx context.Context, device string) ([]Entry, error) {
	if _, err := ds.Entry(ctx, device); err != nil {
		return nil, err
	}
	return sqldb.Rows(ctx, ds.db, scanEntry, selectEntry+" WHERE d.module_of = ? ORDER BY d.device_id", device)
}

// Create adds an identity with its twin.
func (ds *Devices) Create(ctx context.Context, spec Spec, twin *link.TwinContent, now time.Time) (e Entry, err error) {
	if err := spec.complete(); err != nil {
		return e, err
	}
	err = ds.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := spec.placeable(ctx, tx); err != nil {
			return err
		}
		known, err := epochs(ctx, tx, spec.ID)
		if err != nil {
			return err
		}
		if known.here {
			return problem.New(problem.Conflict, "device %s is here already", spec.ID)
		}
		if err := ds.insert(ctx, tx, spec, known.gone, "", twin, now); err != nil {
			return err
		}
		e, err = readEntry(ctx, tx, spec.ID)
		return err
	})
	return e, err
}

// Change sets what a back end may set of an identity that is here, if it still
// is the edition the caller names.
func (ds *Devices) Change(ctx context.Context, spec Spec, ifMatch string, now time.Time) (before, after Entry, err error) {
	if spec.Status == "" {
		spec.Status = Enabled
	}
	err = ds.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if before, err = readEntry(ctx, tx, spec.ID); err != nil {
			return err
		}
		if !before.matches(ifMatch) {
			return before.stale()
		}
		wanted := spec
		wanted.Auth = keepKeys(spec.Auth, before.Auth)
		if err := wanted.check(); err != nil {
			return err
		}
		if err := wanted.checkScopes(ctx, tx); err != nil {
			return err
		}
		if err := update(ctx, tx, wanted, before, now); err != nil {
			return err
		}
		after, err = readEntry(ctx, tx, spec.ID)
		return err
	})
	return before, after, err
}

// keepKeys lets a change that names no credentials leave them as they are.
func keepKeys(wanted, present link.Auth) link.Auth {
	if wanted.Type == "" {
		return present
	}
	if wanted.Type != present.Type {
		return withKeys(wanted)
	}
	if len(wanted.PrimaryKey) == 0 {
		wanted.PrimaryKey = present.PrimaryKey
	}
	if len(wanted.SecondaryKey) == 0 {
		wanted.SecondaryKey = present.SecondaryKey
	}
	if wanted.Type == link.AuthCertificate {
		wanted.CA = present.CA
	}
	return wanted
}

// Delete takes an identity away that a back end does not want any more. It
// leaves no tombstone: who may come back is for provisioning to say.
func (ds *Devices) Delete(ctx context.Context, id, ifMatch string) error {
	return ds.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		e, err := readEntry(ctx, tx, id)
		if err != nil {
			return err
		}
		if !e.matches(ifMatch) {
			return e.stale()
		}
		_, err = tx.Exec(ctx, "DELETE FROM device WHERE device_id = ?", id)
		return err
	})
}

// Rotate changes the keys of an identity. What is connected stays connected:
// its token ran under the old key until it expires.
func (ds *Devices) Rotate(ctx context.Context, id, which string) (e Entry, err error) {
	fresh := newKey()
	err = ds.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if e, err = readEntry(ctx, tx, id); err != nil {
			return err
		}
		if e.Auth.Type != link.AuthSAS {
			return problem.New(problem.Conflict, "device %s authenticates by %s and has no keys to rotate", id, e.Auth.Type)
		}
		auth := &e.Auth
		switch which {
		case link.RotatePrimary:
			auth.PrimaryKey = fresh
		case link.RotateSecondary:
			auth.SecondaryKey = fresh
		case link.RotateSwap:
			auth.PrimaryKey, auth.SecondaryKey = auth.SecondaryKey, auth.PrimaryKey
		default:
			return problem.New(problem.Invalid, "keys are rotated by primary, secondary or swap, not by %q", which).At("policyKey")
		}
		_, err = tx.Exec(ctx, "UPDATE device SET primary_key = ?, secondary_key = ?, edition = edition + 1 WHERE device_id = ?",
			tx.Seal(primaryKey, auth.PrimaryKey, id), tx.Seal(secondaryKey, auth.SecondaryKey, id), id)
		e.Edition++
		return err
	})
	return e, err
}

// Totals counts devices by status.
func (ds *Devices) Totals(ctx context.Context) (enabled, disabled int64, err error) {
	enabled, _, err = sqldb.Row(ctx, ds.db, scanInt, "SELECT count(*) FROM device WHERE module_of IS NULL AND status = ? AND device_id <> ?", Enabled, ds.Probe)
	if err != nil {
		return 0, 0, err
	}
	all, err := ds.Count(ctx)
	return enabled, all - enabled, err
}
