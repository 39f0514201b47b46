package device

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/twin"
)

// Devices are the identities of one stamp, in its database.
type Devices struct {
	db      *sqldb.DB
	twins   *twin.Store
	queries chan struct{} // a place for each statement that runs

	// Probe is the device that tries the stamp: it is counted and found nowhere.
	Probe string
}

// NewDevices returns the identities kept in db.
func NewDevices(db *sqldb.DB, twins *twin.Store) *Devices {
	return &Devices{db: db, twins: twins, queries: make(chan struct{}, 1)}
}

// CheckID refuses what the registry's rules do not allow as the id of a device
// or, after the slash, of a module.
func CheckID(id string) error {
	device, module, isModule := strings.Cut(id, "/")
	if err := checkPart(device, "deviceId"); err != nil || !isModule {
		return err
	}
	return checkPart(module, "moduleId")
}

func checkPart(id, field string) error {
	if id == "" || len(id) > 128 {
		return problem.New(problem.Invalid, "an id has 1 to 128 characters, not %d", len(id)).At(field)
	}
	for i := range len(id) {
		c := id[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-.+%_#*?!(),=@$':", c) >= 0) {
			return problem.New(problem.Invalid, "an id has letters, digits and -.+%%_#*?!(),=@$': only, not %q", c).At(field)
		}
	}
	return nil
}

// Put creates the identity with its twin, or renews its credentials when the
// assignment is the one already here. An older assignment is refused. A device
// that a back end made here itself is taken over as it is.
func (ds *Devices) Put(ctx context.Context, req link.PutIdentity, now time.Time) (created bool, err error) {
	if err := checkPart(req.DeviceID, "deviceId"); err != nil {
		return false, err
	}
	err = ds.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		created = false
		known, err := epochs(ctx, tx, req.DeviceID)
		if err != nil {
			return err
		}
		if known.here && req.Epoch < known.present || req.Epoch <= known.gone {
			return problem.New(problem.Conflict, "assignment %d of device %s is over here", req.Epoch, req.DeviceID)
		}
		if known.here && (req.Epoch == known.present || known.present <= known.gone) {
			return updateAuth(ctx, tx, req)
		}
		created = true
		if known.here {
			if _, err := tx.Exec(ctx, "DELETE FROM device WHERE device_id = ?", req.DeviceID); err != nil {
				return err
			}
		}
		return ds.settleIn(ctx, tx, req, now)
	})
	return created, err
}

// settleIn creates a device that provisioning sends, with what came along.
func (ds *Devices) settleIn(ctx context.Context, tx *sqldb.Tx, req link.PutIdentity, now time.Time) error {
	spec := Spec{ID: req.DeviceID, Status: Enabled, Auth: req.Auth, Tenant: req.Tenant}
	var modules []link.ModuleContent
	if req.Twin != nil {
		modules = req.Twin.Modules
		if kept := req.Twin.Registry; kept != nil {
			spec.Status, spec.StatusReason, spec.Edge = kept.Status, kept.StatusReason, kept.Edge
		}
	}
	if err := ds.insert(ctx, tx, spec, req.Epoch, req.Enrollment, req.Twin, now); err != nil {
		return err
	}
	if req.Auth.Issuer != nil {
		if err := trustIssuer(ctx, tx, req); err != nil {
			return err
		}
	}
	for _, m := range modules {
		spec := Spec{ID: link.ModuleIdentity(req.DeviceID, m.ModuleID), Status: Enabled, Auth: m.Auth, ManagedBy: m.ManagedBy}
		if err := ds.insert(ctx, tx, spec, 0, "", m.Twin, now); err != nil {
			return err
		}
	}
	return nil
}

// Remove takes the identity and its twin away and leaves a tombstone; the
// receipt of a repeated removal is the first one's. Removing what was never
// here leaves a tombstone too, so that a late Put cannot bring it in.
func (ds *Devices) Remove(ctx context.Context, req link.RemoveIdentity, connected bool, now time.Time) (receipt link.RemovedIdentity, err error) {
	err = ds.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		known, err := epochs(ctx, tx, req.DeviceID)
		if err != nil {
			return err
		}
		if known.present > req.Epoch {
			return problem.New(problem.Conflict, "device %s has a newer assignment here (%d) than the one to end (%d)", req.DeviceID, known.present, req.Epoch)
		}
		if known.gone >= req.Epoch {
			receipt, err = readTombstone(ctx, tx, req.DeviceID)
			return err
		}
		receipt = link.RemovedIdentity{Existed: known.here, Connected: connected, At: now}
		if receipt.Existed {
			if receipt.Twin, err = ds.content(ctx, tx, req.DeviceID); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "DELETE FROM device WHERE device_id = ?", req.DeviceID); err != nil {
				return err
			}
		}
		return writeTombstone(ctx, tx, req, receipt)
	})
	return receipt, err
}

// content is what a device takes along when it leaves.
func (ds *Devices) content(ctx context.Context, tx *sqldb.Tx, id string) (*link.TwinContent, error) {
	content, err := ds.twins.Content(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	entry, err := readEntry(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	content.Registry = &link.RegistryContent{Status: entry.Status, StatusReason: entry.StatusReason, Edge: entry.Edge}
	modules, err := sqldb.Rows(ctx, tx, scanEntry, selectEntry+" WHERE d.module_of = ? ORDER BY d.device_id", id)
	if err != nil {
		return nil, err
	}
	for _, m := range modules {
		twin, err := ds.twins.Content(ctx, tx, m.ID)
		if err != nil {
			return nil, err
		}
		_, name := link.SplitIdentity(m.ID)
		content.Modules = append(content.Modules, link.ModuleContent{ModuleID: name, ManagedBy: m.ManagedBy, Auth: m.Auth, Twin: &twin})
	}
	return &content, nil
}

// Get returns an identity with its credentials; a module with its device.
func (ds *Devices) Get(ctx context.Context, id string) (Device, error) {
	d, found, err := sqldb.Row(ctx, ds.db, scanDevice, selectDevice+" WHERE d.device_id = ?", id)
	if err != nil {
		return Device{}, fmt.Errorf("read device: %w", err)
	}
	if !found {
		return Device{}, notHere(id)
	}
	if parent, module := link.SplitIdentity(id); module != "" {
		owner, err := ds.Get(ctx, parent)
		if err != nil {
			return Device{}, err
		}
		d.Parent = &owner
	}
	return d, nil
}

func notHere(id string) error {
	if device, module := link.SplitIdentity(id); module != "" {
		return problem.New(problem.NotFound, "device %s has no module %s on this stamp", device, module)
	}
	return problem.New(problem.NotFound, "device %s is not on this stamp", id)
}

// Tombstone returns where a device that was here has gone, empty when unknown.
func (ds *Devices) Tombstone(ctx context.Context, id string) (to string, err error) {
	to, _, err = sqldb.Row(ctx, ds.db, scanText, "SELECT sent_to FROM tombstone WHERE device_id = ?", id)
	return to, err
}

// SetSubscriptions stores what the device's persistent session listens to, so
// that it survives the connection and the server.
func (ds *Devices) SetSubscriptions(ctx context.Context, id, generation string, subscriptions uint32) error {
	return ds.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE device SET subscriptions = ? WHERE device_id = ? AND generation_id = ?", subscriptions, id, generation)
		return err
	})
}

// Activity is what a device did since the last flush.
type Activity struct {
	DeviceID    string
	Generation  string
	Connected   bool
	ConnectedAt time.Time // when Connected last changed
	Last        time.Time
	Messages    int64         // to add
	Present     time.Duration // for how long it was connected
	ModelID     string
	// Passing says that whether the device is connected does not change: it only
	// looked in, or still is.
	Passing bool
}

// Flush writes down activities in one change, seen by one of the stamp's
// processes; a stamp that is one process gives it no name. A device that has
// gone on to another process is connected there.
func (ds *Devices) Flush(ctx context.Context, process string, all []Activity) error {
	if len(all) == 0 {
		return nil
	}
	return ds.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, a := range all {
			if err := a.write(ctx, tx, process); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a Activity) write(ctx context.Context, tx *sqldb.Tx, process string) error {
	_, err := tx.Exec(ctx, "UPDATE device SET last_activity = ?, messages = messages + ?, model_id = CASE WHEN ? = 1 THEN model_id ELSE ? END WHERE device_id = ? AND generation_id = ?",
		sqldb.Micros(a.Last), a.Messages, a.Passing, a.ModelID, a.DeviceID, a.Generation)
	if err != nil || a.Passing {
		return err
	}
	mine := "process = ? AND coalesce(connected_at, 0) <= ?"
	if a.Connected {
		mine = "(process = ? OR connected = 0 OR coalesce(connected_at, 0) <= ?)"
	}
	_, err = tx.Exec(ctx, "UPDATE device SET connected = ?, connected_at = ?, process = ? WHERE device_id = ? AND generation_id = ? AND "+mine,
		a.Connected, sqldb.Micros(a.ConnectedAt), process, a.DeviceID, a.Generation, process, sqldb.Micros(a.ConnectedAt))
	return err
}

// ResetConnected notes that nobody is connected to a process, or to any where
// there is but one.
func (ds *Devices) ResetConnected(ctx context.Context, process string) error {
	return ds.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE device SET connected = 0 WHERE connected = 1 AND (? = '' OR process = ?)", process, process)
		return err
	})
}

// DesiredVersions returns the versions of the desired properties of those of
// the identities that are here.
func (ds *Devices) DesiredVersions(ctx context.Context, ids []string) (map[string]int64, error) {
	text, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	among := "SELECT value FROM json_each(?)"
	if ds.db.Dialect() == sqldb.PostgreSQL {
		among = "SELECT jsonb_array_elements_text(?)"
	}
	type version struct {
		id string
		n  int64
	}
	rows, err := sqldb.Rows(ctx, ds.db, func(rows *sql.Rows) (v version, err error) { return v, rows.Scan(&v.id, &v.n) },
		"SELECT device_id, desired_version FROM twin WHERE device_id IN ("+among+")", string(text))
	versions := make(map[string]int64, len(rows))
	for _, v := range rows {
		versions[v.id] = v.n
	}
	return versions, err
}

// Count returns how many devices the stamp has.
func (ds *Devices) Count(ctx context.Context) (int64, error) {
	n, _, err := sqldb.Row(ctx, ds.db, scanInt, "SELECT count(*) - (SELECT count(*) FROM device WHERE device_id = ?) FROM device WHERE module_of IS NULL", ds.Probe)
	return n, err
}

func newGeneration() string {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // crypto/rand never fails on supported systems
	}
	return hex.EncodeToString(b[:])
}

func updateAuth(ctx context.Context, tx *sqldb.Tx, req link.PutIdentity) error {
	ca, err := putCA(ctx, tx, req.Auth.CA)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE device SET edition = edition + 1, epoch = ?, enrollment = ?, auth_type = ?, primary_key = ?, secondary_key = ?,
			primary_thumbprint = ?, secondary_thumbprint = ?, ca = ?, tenant = ? WHERE device_id = ?`,
		req.Epoch, req.Enrollment, string(req.Auth.Type), tx.Seal(primaryKey, req.Auth.PrimaryKey, req.DeviceID), tx.Seal(secondaryKey, req.Auth.SecondaryKey, req.DeviceID),
		req.Auth.PrimaryThumbprint, req.Auth.SecondaryThumbprint, ca, cmp.Or(req.Tenant, link.DefaultTenant), req.DeviceID)
	if err == nil {
		_, err = tx.Exec(ctx, "UPDATE device SET tenant = ? WHERE module_of = ?", cmp.Or(req.Tenant, link.DefaultTenant), req.DeviceID)
	}
	if err != nil {
		return err
	}
	return trustIssuer(ctx, tx, req)
}

// trustIssuer notes whose operational certificates the device may use.
func trustIssuer(ctx context.Context, tx *sqldb.Tx, req link.PutIdentity) error {
	issuer, err := putCA(ctx, tx, req.Auth.Issuer)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "UPDATE device SET issuer = ?, revoked = ? WHERE device_id = ?", issuer, strings.Join(req.Auth.Revoked, " "), req.DeviceID)
	return err
}

// putCA stores an authority once, however many devices it signs for.
func putCA(ctx context.Context, tx *sqldb.Tx, der []byte) (digest string, err error) {
	if len(der) == 0 {
		return "", nil
	}
	sum := sha256.Sum256(der)
	digest = hex.EncodeToString(sum[:])
	_, err = tx.Exec(ctx, "INSERT INTO ca (digest, der) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING", digest, der)
	return digest, err
}

func writeTombstone(ctx context.Context, tx *sqldb.Tx, req link.RemoveIdentity, receipt link.RemovedIdentity) error {
	content := "null"
	if receipt.Twin != nil {
		text, err := json.Marshal(receipt.Twin)
		if err != nil {
			return err
		}
		content = string(text)
	}
	_, err := tx.Exec(ctx, `INSERT INTO tombstone (device_id, epoch, at, reason, sent_to, connected, twin) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (device_id) DO UPDATE SET epoch = excluded.epoch, at = excluded.at, reason = excluded.reason,
			sent_to = excluded.sent_to, connected = excluded.connected, twin = excluded.twin`,
		req.DeviceID, req.Epoch, sqldb.Micros(receipt.At), req.Reason, req.To, receipt.Connected, content)
	return err
}
