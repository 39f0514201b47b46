package software

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/twin"
)

// columns are what a Standing is made of, of table software as s.
const columns = `s.device_id, s.place, s.rollout, s.wave, s.target, s.name, s.given, s.given_for, s.back, s.number, s.attempts, s.step, s.state,
	s.reason, s.progress, s.hardware, s.running, s.ordered_at, s.since, s.remaining, s.due_at, s.seen_at, s.updated_at, s.edition`

// standingRow takes the columns of a stored Standing.
type standingRow struct {
	standing                     Standing
	running                      []byte
	ordered, since, due, seen    sql.NullInt64
	remaining, updated, position int64
}

func (r *standingRow) into() []any {
	s := &r.standing
	return []any{&s.DeviceID, &r.position, &s.Rollout, &s.Wave, &s.Target, &s.Name, &s.Given, &s.GivenFor, &s.Back, &s.Order, &s.Attempts, &s.Step, &s.State,
		&s.Reason, &s.Progress, &s.Hardware, &r.running, &r.ordered, &r.since, &r.remaining, &r.due, &r.seen, &r.updated, &s.edition}
}

func (r *standingRow) read() (Standing, error) {
	s := r.standing
	s.Place, s.Left, s.UpdatedAt = uint32(r.position), time.Duration(r.remaining)*time.Microsecond, sqldb.Time(r.updated)
	s.OrderedAt, s.Since, s.DueAt, s.SeenAt = sqldb.NullTime(r.ordered), sqldb.NullTime(r.since), sqldb.NullTime(r.due), sqldb.NullTime(r.seen)
	err := json.Unmarshal(r.running, &s.Running)
	return s, err
}

func scanStanding(rows *sql.Rows) (Standing, error) {
	var r standingRow
	if err := rows.Scan(r.into()...); err != nil {
		return Standing{}, err
	}
	return r.read()
}

func scanText(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s) }
func scanInt(rows *sql.Rows) (n int64, err error)   { return n, rows.Scan(&n) }

// standing returns where one device stands.
func (e *Engine) standing(ctx context.Context, id string) (Standing, bool, error) {
	return sqldb.Row(ctx, e.db, scanStanding, "SELECT "+columns+" FROM software s WHERE s.device_id = ?", id)
}

// nullable is a moment as a column takes it.
func nullable(t *time.Time) any {
	if t == nil {
		return nil
	}
	return sqldb.Micros(*t)
}

// errOvertaken says that the device has been looked at by somebody else since,
// or is gone.
var errOvertaken = problem.New(problem.Stale, "where the device stands has changed meanwhile")

// save writes down where a device stands now, unless that has changed since it
// was read.
func save(ctx context.Context, tx *sqldb.Tx, s Standing) error {
	running, err := json.Marshal(s.Running)
	if err != nil {
		return err
	}
	if s.Running == nil {
		running = []byte("{}")
	}
	n, err := tx.Exec(ctx, `UPDATE software SET rollout = ?, wave = ?, target = ?, name = ?, given = ?, given_for = ?, back = ?, number = ?, attempts = ?,
		step = ?, state = ?, reason = ?, progress = ?, hardware = ?, running = ?, ordered_at = ?, since = ?, remaining = ?, due_at = ?, updated_at = ?,
		edition = edition + 1 WHERE device_id = ? AND edition = ?`,
		s.Rollout, s.Wave, s.Target, s.Name, s.Given, s.GivenFor, s.Back, s.Order, s.Attempts,
		string(s.Step), string(s.State), s.Reason, s.Progress, s.Hardware, string(running), nullable(s.OrderedAt), nullable(s.Since), s.Left.Microseconds(),
		nullable(s.DueAt), sqldb.Micros(s.UpdatedAt), s.DeviceID, s.edition)
	if err == nil && n == 0 {
		err = errOvertaken
	}
	return err
}

// view is a device as the engine looks at it.
type view struct {
	Standing
	enrolled  bool
	connected bool
	desired   twin.Document // its member for orders alone
	report    json.RawMessage
}

// slipwayOf is the one member of a section of a twin that is ours.
type slipwayOf struct {
	Slipway json.RawMessage `json:"slipway"`
}

func scanView(rows *sql.Rows) (v view, err error) {
	var id string
	var desired, reported []byte
	var edition sql.NullInt64
	if err := rows.Scan(&id, &v.connected, &desired, &reported, &edition); err != nil {
		return v, err
	}
	v.DeviceID, v.enrolled = id, edition.Valid
	var ours, theirs slipwayOf
	if err := json.Unmarshal(desired, &ours); err != nil {
		return v, fmt.Errorf("stored twin: %w", err)
	}
	if err := json.Unmarshal(reported, &theirs); err != nil {
		return v, fmt.Errorf("stored twin: %w", err)
	}
	v.report, v.desired = theirs.Slipway, twin.Document{}
	if ours.Slipway == nil {
		return v, nil
	}
	member, err := asDocument(ours)
	if err == nil {
		v.desired = member
	}
	return v, err
}

// among is a subselect of the texts in a JSON array.
func (e *Engine) among() string {
	if e.db.Dialect() == sqldb.PostgreSQL {
		return "SELECT jsonb_array_elements_text(?)"
	}
	return "SELECT value FROM json_each(?)"
}

// views reads devices as they are. Modules are none.
func (e *Engine) views(ctx context.Context, ids []string) ([]view, error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	standings, err := sqldb.Rows(ctx, e.db, scanStanding, "SELECT "+columns+" FROM software s WHERE s.device_id IN ("+e.among()+")", string(list))
	if err != nil {
		return nil, err
	}
	known := make(map[string]Standing, len(standings))
	for _, s := range standings {
		known[s.DeviceID] = s
	}
	all, err := sqldb.Rows(ctx, e.db, scanView, `SELECT d.device_id, d.connected, t.desired, t.reported, s.edition
		FROM device d JOIN twin t ON t.device_id = d.device_id LEFT JOIN software s ON s.device_id = d.device_id
		WHERE d.module_of IS NULL AND d.device_id <> ? AND d.device_id IN (`+e.among()+") ORDER BY d.device_id", link.Probe(e.Stamp), string(list))
	if err != nil {
		return nil, err
	}
	for i := range all {
		if s, ok := known[all[i].DeviceID]; ok {
			all[i].Standing, all[i].enrolled = s, true
		} else {
			all[i].enrolled = false
		}
	}
	return all, nil
}

// enrol gives devices their places.
func (e *Engine) enrol(ctx context.Context, ids []string, now time.Time) error {
	return e.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, id := range ids {
			_, err := tx.Exec(ctx, `INSERT INTO software (device_id, place, updated_at)
				SELECT device_id, CAST(? AS BIGINT), CAST(? AS BIGINT) FROM device WHERE device_id = ? AND module_of IS NULL ON CONFLICT (device_id) DO NOTHING`,
				int64(Place(id)), sqldb.Micros(now), id)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// strangers are devices that have no place yet, with ids above after.
func (e *Engine) strangers(ctx context.Context, after string, limit int) ([]string, error) {
	return sqldb.Rows(ctx, e.db, scanText, `SELECT d.device_id FROM device d WHERE d.module_of IS NULL AND d.device_id > ?
		AND d.device_id <> ? AND NOT EXISTS (SELECT 1 FROM software s WHERE s.device_id = d.device_id) ORDER BY d.device_id LIMIT ?`, after, link.Probe(e.Stamp), limit)
}

// nth returns the device that is the nth from a place on, counted from 1; found
// is false where there are fewer.
func nth(ctx context.Context, q sqldb.Querier, start uint32, n int64) (at Spot, found bool, err error) {
	const spots = "SELECT place, device_id FROM software WHERE place "
	at, found, err = sqldb.Row(ctx, q, scanSpot, spots+">= ? ORDER BY place, device_id LIMIT 1 OFFSET ?", int64(start), n-1)
	if err != nil || found {
		return at, found, err
	}
	before, _, err := sqldb.Row(ctx, q, scanInt, "SELECT count(*) FROM software WHERE place >= ?", int64(start))
	if err != nil {
		return at, false, err
	}
	return sqldb.Row(ctx, q, scanSpot, spots+"< ? ORDER BY place, device_id LIMIT 1 OFFSET ?", int64(start), n-1-before)
}

func scanSpot(rows *sql.Rows) (at Spot, err error) {
	var place int64
	err = rows.Scan(&place, &at.DeviceID)
	at.Place = uint32(place)
	return at, err
}

// Reached is the stretch from a start that holds what a reach asks for of the
// devices there are.
func reached(ctx context.Context, q sqldb.Querier, start uint32, reach link.Reach) (Stretch, error) {
	devices, _, err := sqldb.Row(ctx, q, scanInt, "SELECT count(*) FROM software")
	if err != nil {
		return Stretch{}, err
	}
	stretch := Stretch{Start: start, Whole: reach.Share >= 1}
	wanted := Wanted(reach.Share, reach.Count, devices)
	if stretch.Whole || wanted == 0 {
		return stretch, nil
	}
	last, found, err := nth(ctx, q, start, wanted)
	if found {
		stretch.Last = &last
	}
	return stretch, err
}

// unreached are devices of a stretch that no wave has reached, the first first.
func (e *Engine) unreached(ctx context.Context, stretch Stretch, limit int) ([]string, error) {
	for _, part := range stretch.sections() {
		where, args := "wave = 0 AND place >= ? AND place < ?", []any{part.from, part.below}
		if part.upTo != nil {
			where, args = where+" AND (place, device_id) <= (?, ?)", append(args, int64(part.upTo.Place), part.upTo.DeviceID)
		}
		ids, err := sqldb.Rows(ctx, e.db, scanText, "SELECT device_id FROM software WHERE "+where+" ORDER BY place, device_id LIMIT ?", append(args, limit)...)
		if err != nil || len(ids) > 0 {
			return ids, err
		}
	}
	return nil, nil
}

// outdated returns a page of devices whose value of a column is not the one
// wanted, found by the two ends of its index.
func (e *Engine) outdated(ctx context.Context, column, among, wanted string, limit int) (value string, ids []string, err error) {
	for _, order := range []string{"", " DESC"} {
		value, found, err := sqldb.Row(ctx, e.db, scanText, "SELECT "+column+" FROM software WHERE "+among+" ORDER BY "+column+order+" LIMIT 1")
		if err != nil {
			return "", nil, err
		}
		if !found || value == wanted {
			continue
		}
		ids, err := sqldb.Rows(ctx, e.db, scanText, "SELECT device_id FROM software WHERE "+among+" AND "+column+" = ? LIMIT ?", value, limit)
		return value, ids, err
	}
	return "", nil, nil
}

// hand has the base take over from a rollout those devices that run towards the
// same release, which need not be looked at for that.
func (e *Engine) hand(ctx context.Context, rollout, base string, limit int) (moved int64, err error) {
	err = e.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		moved, err = tx.Exec(ctx, `UPDATE software SET rollout = '', wave = 0, edition = edition + 1 WHERE device_id IN (
			SELECT device_id FROM software WHERE wave > 0 AND rollout = ? AND target = ? AND step IN ('works', 'rests') LIMIT ?)`, rollout, base, limit)
		return err
	})
	return moved, err
}

// queued are devices that wait for an order, those first that have had none.
func (e *Engine) queued(ctx context.Context, rollout string, limit int64) ([]string, error) {
	return sqldb.Rows(ctx, e.db, scanText, "SELECT device_id FROM software WHERE step = 'queued' AND rollout = ? ORDER BY attempts, device_id LIMIT ?", rollout, limit)
}

// working is how many devices work on the orders of a rollout.
func (e *Engine) working(ctx context.Context, rollout string) (int64, error) {
	n, _, err := sqldb.Row(ctx, e.db, scanInt, "SELECT count(*) FROM software WHERE step = 'works' AND rollout = ? AND state = 'pending'", rollout)
	return n, err
}

func (e *Engine) due(ctx context.Context, now time.Time, limit int) ([]string, error) {
	return sqldb.Rows(ctx, e.db, scanText, "SELECT device_id FROM software WHERE due_at <= ? ORDER BY due_at LIMIT ?", sqldb.Micros(now), limit)
}

func (e *Engine) after(ctx context.Context, id string, limit int) ([]string, error) {
	return sqldb.Rows(ctx, e.db, scanText, "SELECT device_id FROM software WHERE device_id > ? ORDER BY device_id LIMIT ?", id, limit)
}
