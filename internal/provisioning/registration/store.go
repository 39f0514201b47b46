package registration

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
)

// The credentials that a registration brings to its stamp, and what goes with
// some of them, are sealed.
var (
	keptAuth  = sqldb.Sealed{Table: "registration", Key: []string{"id"}, Name: "auth"}
	keptExtra = sqldb.Sealed{Table: "registration", Key: []string{"id"}, Name: "extra"}
	// Sealed are the columns that hold secrets.
	Sealed = []sqldb.Sealed{keptAuth, keptExtra}
)

const selectRecord = `SELECT id, registration_id, device_id, enrollment_kind, enrollment, environment, target, home, stamp, phase, epoch, version,
	auth, twin, substatus, move, operation_salt, operation, open, attempts, problem, due, transitions, assigned_at, created_at, updated_at, extra, tenant
	FROM registration`

func scanRecord(rows *sql.Rows) (Record, error) {
	var r Record
	var auth string
	var twin sql.NullString
	var extra []byte
	var due, assigned sql.NullInt64
	var created, updated int64
	err := rows.Scan(&r.Key, &r.RegistrationID, &r.DeviceID, &r.EnrollmentKind, &r.Enrollment, &r.Environment, &r.Target, &r.Home, &r.Stamp, &r.Phase,
		&r.Epoch, &r.Version, keptAuth.Into(&auth, &r.Key), &twin, &r.Substatus, &r.Move, &r.Salt, &r.Operation, &r.Open, &r.Attempts, &r.Problem, &due, &r.Transitions,
		&assigned, &created, &updated, keptExtra.Into(&extra, &r.Key), &r.Tenant)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(extra, &r.Extra); err != nil {
		return r, fmt.Errorf("stored particulars of %s: %w", r.Key, err)
	}
	r.Due, r.AssignedAt = sqldb.NullTime(due), sqldb.NullTime(assigned)
	r.CreatedAt, r.UpdatedAt = sqldb.Time(created), sqldb.Time(updated)
	if err := json.Unmarshal([]byte(auth), &r.Auth); err != nil {
		return r, fmt.Errorf("stored credentials of %s: %w", r.Key, err)
	}
	if twin.Valid {
		if err := json.Unmarshal([]byte(twin.String), &r.Twin); err != nil {
			return r, fmt.Errorf("stored twin of %s: %w", r.Key, err)
		}
	}
	return r, nil
}

func scanText(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s) }
func scanInt(rows *sql.Rows) (n int64, err error)   { return n, rows.Scan(&n) }

func byKey(ctx context.Context, q sqldb.Querier, key string) (Record, bool, error) {
	return sqldb.Row(ctx, q, scanRecord, selectRecord+" WHERE id = ?", key)
}

func byDevice(ctx context.Context, q sqldb.Querier, device string) (Record, bool, error) {
	return sqldb.Row(ctx, q, scanRecord, selectRecord+" WHERE device_id = ?", device)
}

// errChanged says that a record changed between load and save; the caller
// looks again.
var errChanged = errors.New("the registration changed meanwhile")

func null(t *time.Time) any {
	if t == nil {
		return nil
	}
	return sqldb.Micros(*t)
}

// insert stores a new record.
func insert(ctx context.Context, tx *sqldb.Tx, r *Record) error {
	values, err := r.values(tx)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO registration (registration_id, device_id, enrollment_kind, enrollment, environment, target, home, stamp, phase, epoch,
		auth, twin, substatus, move, operation_salt, operation, open, attempts, problem, due, transitions, assigned_at, created_at, updated_at, extra, tenant, version, id)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?)`, append(values, r.Key)...)
	if err != nil {
		return err
	}
	r.Version = 1
	return r.writeLog(ctx, tx)
}

// save stores a record if it still is the version that was loaded.
func save(ctx context.Context, tx *sqldb.Tx, r *Record) error {
	values, err := r.values(tx)
	if err != nil {
		return err
	}
	changed, err := tx.Exec(ctx, `UPDATE registration SET registration_id = ?, device_id = ?, enrollment_kind = ?, enrollment = ?, environment = ?, target = ?, home = ?,
		stamp = ?, phase = ?, epoch = ?, auth = ?, twin = ?, substatus = ?, move = ?, operation_salt = ?, operation = ?, open = ?, attempts = ?, problem = ?,
		due = ?, transitions = ?, assigned_at = ?, created_at = ?, updated_at = ?, extra = ?, tenant = ?, version = version + 1 WHERE id = ? AND version = ?`,
		append(values, r.Key, r.Version)...)
	if err != nil {
		return err
	}
	if changed == 0 {
		return errChanged
	}
	r.Version++
	return r.writeLog(ctx, tx)
}

func (r *Record) values(tx *sqldb.Tx) ([]any, error) {
	auth, err := json.Marshal(r.Auth)
	if err != nil {
		return nil, err
	}
	var twin any
	if r.Twin != nil {
		text, err := json.Marshal(r.Twin)
		if err != nil {
			return nil, err
		}
		twin = string(text)
	}
	extra, err := json.Marshal(r.Extra)
	if err != nil {
		return nil, err
	}
	return []any{
		r.RegistrationID, r.DeviceID, string(r.EnrollmentKind), r.Enrollment, r.Environment, r.Target, r.Home, r.Stamp, string(r.Phase), r.Epoch,
		tx.Seal(keptAuth, auth, r.Key), twin, r.Substatus, r.Move, r.Salt, r.Operation, r.Open, r.Attempts, r.Problem, null(r.Due), r.Transitions, null(r.AssignedAt),
		sqldb.Micros(r.CreatedAt), sqldb.Micros(r.UpdatedAt), tx.Seal(keptExtra, extra, r.Key), r.Tenant,
	}, nil
}

// writeLog writes the transitions the record has gathered.
func (r *Record) writeLog(ctx context.Context, tx *sqldb.Tx) error {
	for i, t := range r.log {
		number := r.Transitions - int64(len(r.log)-1-i)
		_, err := tx.Exec(ctx, `INSERT INTO registration_transition (registration, number, at, step, environment, stamp, epoch, reason, move) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			r.Key, number, sqldb.Micros(t.At), t.Step, t.Environment, t.Stamp, t.Epoch, t.Reason, moveNumber(t.Move))
		if err != nil {
			return err
		}
	}
	r.log = nil
	return nil
}

// history returns a registration's log, oldest first.
func history(ctx context.Context, q sqldb.Querier, key string) ([]link.Transition, error) {
	return sqldb.Rows(ctx, q, func(rows *sql.Rows) (t link.Transition, err error) {
		var at, move int64
		err = rows.Scan(&at, &t.Step, &t.Environment, &t.Stamp, &t.Epoch, &t.Reason, &move)
		t.At, t.Move = sqldb.Time(at), moveID(move)
		return t, err
	}, "SELECT at, step, environment, stamp, epoch, reason, move FROM registration_transition WHERE registration = ? ORDER BY number", key)
}

// take adds places taken on the record's stamp, or frees them.
func (r *Record) take(ctx context.Context, tx *sqldb.Tx, places int) error {
	if link.IsProbe(r.DeviceID) {
		return nil // it takes no place
	}
	_, err := tx.Exec(ctx, `INSERT INTO registration_place (stamp, taken) VALUES (?, ?)
		ON CONFLICT (stamp) DO UPDATE SET taken = registration_place.taken + excluded.taken`, r.Stamp, places)
	if err != nil {
		return err
	}
	return takeTenant(ctx, tx, r.Tenant, places)
}

func takeTenant(ctx context.Context, tx *sqldb.Tx, tenant string, places int) error {
	_, err := tx.Exec(ctx, `INSERT INTO tenant_place (tenant, taken) VALUES (?, ?)
		ON CONFLICT (tenant) DO UPDATE SET taken = tenant_place.taken + excluded.taken`, tenant, places)
	return err
}

// taken returns how many places of each stamp are taken.
func taken(ctx context.Context, q sqldb.Querier) (map[string]int, error) {
	counts := map[string]int{}
	_, err := sqldb.Rows(ctx, q, func(rows *sql.Rows) (struct{}, error) {
		var stamp string
		var n int
		err := rows.Scan(&stamp, &n)
		counts[stamp] = n
		return struct{}{}, err
	}, "SELECT stamp, taken FROM registration_place")
	return counts, err
}

// moveID and moveNumber are a move's name and its number in the database.
func moveID(n int64) string {
	if n == 0 {
		return ""
	}
	return "move-" + strconv.FormatInt(n, 10)
}

func moveNumber(id string) int64 {
	n, err := strconv.ParseInt(strings.TrimPrefix(id, "move-"), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// List returns a page of registrations in order of device id.
func (s *Service) List(ctx context.Context, req link.ListRegistrations) (link.Registrations, error) {
	limit := req.Limit
	if limit <= 0 || limit > link.MaxPage {
		limit = link.MaxPage
	}
	where, args := []string{"device_id > ?", "substr(device_id, 1, ?) <> ?"}, []any{req.After, len(link.Probe("")), link.Probe("")}
	for _, c := range []struct{ column, value string }{{"environment", req.Environment}, {"tenant", req.Tenant}, {"stamp", req.Stamp}, {"phase", string(req.Phase)}} {
		if c.value != "" {
			where, args = append(where, c.column+" = ?"), append(args, c.value)
		}
	}
	if req.Search != "" {
		within := "instr(lower(device_id), lower(?)) > 0"
		if s.db.Dialect() == sqldb.PostgreSQL {
			within = "strpos(lower(device_id), lower(?)) > 0"
		}
		where, args = append(where, within), append(args, req.Search)
	}
	if len(req.DeviceIDs) > 0 {
		ids := req.DeviceIDs[:min(len(req.DeviceIDs), link.MaxPage)]
		where = append(where, "device_id IN (?"+strings.Repeat(", ?", len(ids)-1)+")")
		for _, id := range ids {
			args = append(args, id)
		}
	}
	found, err := sqldb.Rows(ctx, s.db, scanRecord, selectRecord+" WHERE "+strings.Join(where, " AND ")+" ORDER BY device_id LIMIT ?", append(args, limit+1)...)
	page := link.Registrations{Items: []link.Registration{}, More: len(found) > limit}
	for _, r := range found[:min(limit, len(found))] {
		page.Items = append(page.Items, r.shown())
	}
	return page, err
}

// CountEnrolled returns how many registrations were made through an enrolment.
func (s *Service) CountEnrolled(ctx context.Context, kind link.EnrollmentKind, name string) (int, error) {
	n, _, err := sqldb.Row(ctx, s.db, scanInt, "SELECT count(*) FROM registration WHERE enrollment_kind = ? AND enrollment = ?", string(kind), name)
	return int(n), err
}

// Count returns the places taken on each stamp and the devices that wait.
func (s *Service) Count(ctx context.Context) (counts link.RegistrationCounts, err error) {
	places, err := taken(ctx, s.db)
	if err != nil {
		return counts, err
	}
	for stamp, n := range places {
		counts.ByStamp = append(counts.ByStamp, link.StampCount{Stamp: stamp, Count: n})
	}
	counts.ByTenant, err = sqldb.Rows(ctx, s.db, func(rows *sql.Rows) (c link.TenantCount, err error) { return c, rows.Scan(&c.Tenant, &c.Count) },
		"SELECT tenant, taken FROM tenant_place ORDER BY tenant")
	if err != nil {
		return counts, err
	}
	counts.Waiting, err = sqldb.Rows(ctx, s.db, func(rows *sql.Rows) (c link.EnvCount, err error) { return c, rows.Scan(&c.Environment, &c.Count) },
		"SELECT environment, count(*) FROM registration WHERE phase = 'waiting' AND substr(device_id, 1, ?) <> ? GROUP BY environment", len(link.Probe("")), link.Probe(""))
	if err != nil {
		return counts, err
	}
	counts.LastWeek, err = sqldb.Rows(ctx, s.db, func(rows *sql.Rows) (c link.EnvCount, err error) { return c, rows.Scan(&c.Environment, &c.Count) },
		"SELECT environment, count(*) FROM registration WHERE created_at > ? AND substr(device_id, 1, ?) <> ? GROUP BY environment", sqldb.Micros(s.clock().AddDate(0, 0, -7)), len(link.Probe("")), link.Probe(""))
	return counts, err
}
