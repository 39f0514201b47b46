package device

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
)

// The keys of identities are sealed.
var (
	primaryKey   = sqldb.Sealed{Table: "device", Key: []string{"device_id"}, Name: "primary_key", Bytes: true}
	secondaryKey = sqldb.Sealed{Table: "device", Key: []string{"device_id"}, Name: "secondary_key", Bytes: true}
	// Sealed are the columns that hold secrets.
	Sealed = []sqldb.Sealed{primaryKey, secondaryKey}
)

const selectDevice = `SELECT d.device_id, d.generation_id, d.epoch, d.status, d.enrollment, d.auth_type, d.primary_key, d.secondary_key,
	d.primary_thumbprint, d.secondary_thumbprint, c.der, d.model_id, d.subscriptions, d.created_at,
	i.der, d.revoked, d.tenant, coalesce((SELECT t.desired_version FROM twin t WHERE t.device_id = d.device_id), 0)
	FROM device d LEFT JOIN ca c ON c.digest = d.ca LEFT JOIN ca i ON i.digest = d.issuer`

func scanDevice(rows *sql.Rows) (d Device, err error) {
	var created int64
	var revoked string
	err = rows.Scan(&d.ID, &d.GenerationID, &d.Epoch, &d.Status, &d.Enrollment, &d.Auth.Type, primaryKey.Into(&d.Auth.PrimaryKey, &d.ID), secondaryKey.Into(&d.Auth.SecondaryKey, &d.ID),
		&d.Auth.PrimaryThumbprint, &d.Auth.SecondaryThumbprint, &d.Auth.CA, &d.ModelID, &d.Subscriptions, &created,
		&d.Auth.Issuer, &revoked, &d.Tenant, &d.DesiredVersion)
	d.CreatedAt = sqldb.Time(created)
	d.Auth.Revoked = strings.Fields(revoked)
	return d, err
}

func scanText(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s) }
func scanInt(rows *sql.Rows) (n int64, err error)   { return n, rows.Scan(&n) }

// known are the assignments a stamp has seen of a device; 0 means none. One
// that is here with an assignment not above gone was made by a back end.
type known struct {
	here          bool
	present, gone int64
}

func epochs(ctx context.Context, tx *sqldb.Tx, id string) (k known, err error) {
	k.present, k.here, err = sqldb.Row(ctx, tx, scanInt, "SELECT epoch FROM device WHERE device_id = ?", id)
	if err != nil {
		return k, err
	}
	k.gone, _, err = sqldb.Row(ctx, tx, scanInt, "SELECT epoch FROM tombstone WHERE device_id = ?", id)
	return k, err
}

func readTombstone(ctx context.Context, tx *sqldb.Tx, id string) (link.RemovedIdentity, error) {
	receipt, _, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (r link.RemovedIdentity, err error) {
		var at int64
		var content string
		if err := rows.Scan(&at, &r.Connected, &content); err != nil {
			return r, err
		}
		r.At = sqldb.Time(at)
		err = json.Unmarshal([]byte(content), &r.Twin)
		r.Existed = r.Twin != nil
		return r, err
	}, "SELECT at, connected, twin FROM tombstone WHERE device_id = ?", id)
	return receipt, err
}

const selectSummary = `SELECT d.device_id, d.status, d.connected, d.auth_type, d.enrollment, d.tenant, d.generation_id, d.epoch, d.model_id,
	d.created_at, d.connected_at, d.last_activity, d.messages, (SELECT count(*) FROM command q WHERE q.device_id = d.device_id)
	FROM device d JOIN twin t ON t.device_id = d.device_id`

func scanSummary(rows *sql.Rows) (d link.Device, err error) {
	var created int64
	var connected, active sql.NullInt64
	err = rows.Scan(&d.DeviceID, &d.Status, &d.Connected, &d.AuthType, &d.Enrollment, &d.Tenant, &d.GenerationID, &d.Epoch, &d.ModelID,
		&created, &connected, &active, &d.Messages, &d.QueuedMessages)
	d.CreatedAt, d.ConnectedAt, d.LastActivity = sqldb.Time(created), sqldb.NullTime(connected), sqldb.NullTime(active)
	return d, err
}

// Lookup returns those of the ids that are here, in order of id.
func (ds *Devices) Lookup(ctx context.Context, ids []string) ([]link.Device, error) {
	text, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	among := "SELECT value FROM json_each(?)"
	if ds.db.Dialect() == sqldb.PostgreSQL {
		among = "SELECT jsonb_array_elements_text(?)"
	}
	return sqldb.Rows(ctx, ds.db, scanSummary, selectSummary+" WHERE d.device_id IN ("+among+") ORDER BY d.device_id", string(text))
}
