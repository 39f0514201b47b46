package delivery

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/endpoint"
)

// store keeps routes, how far they are, and their dead letters.
type store struct{ db *sqldb.DB }

// row is a stored route.
type row struct {
	name      string
	text      string // the spec as it was declared
	spec      link.RouteSpec
	position  uint64
	counts    counts
	dropped   uint64
	kept      uint64
	delivered sql.NullInt64 // when last
}

// counts are what became of the records a route has seen.
type counts struct{ passed, delivered, dead, lost uint64 }

// keptSpec holds what endpoints are reached with, so it is sealed.
var keptSpec = sqldb.Sealed{Table: "route", Key: []string{"name"}, Name: "spec"}

// Sealed are the columns that hold secrets.
var Sealed = []sqldb.Sealed{keptSpec}

const selectRoute = "SELECT name, spec, position, passed, delivered, dead, dropped, lost, kept, delivered_at FROM route"

func scanRoute(rows *sql.Rows) (r row, err error) {
	if err := rows.Scan(&r.name, keptSpec.Into(&r.text, &r.name), &r.position, &r.counts.passed, &r.counts.delivered, &r.counts.dead, &r.dropped, &r.counts.lost, &r.kept, &r.delivered); err != nil {
		return r, err
	}
	r.spec, err = decode([]byte(r.text))
	return r, err
}

func (r row) state(stamp string) link.RouteState {
	return link.RouteState{
		Route: r.name, Stamp: stamp, Position: r.position, Passed: r.counts.passed, Delivered: r.counts.delivered,
		Dead: r.counts.dead, DeadLetters: r.kept, Dropped: r.dropped, Lost: r.counts.lost, DeliveredAt: sqldb.NullTime(r.delivered),
	}
}

func (s store) all(ctx context.Context) ([]row, error) {
	return sqldb.Rows(ctx, s.db, scanRoute, selectRoute+" ORDER BY name")
}

// put stores the routes that are wanted, unless newer ones are known. end is
// where the log of a source ends, which is where new routes begin.
func (s store) put(ctx context.Context, want link.Routes, end func(source string) uint64) (changed bool, err error) {
	err = s.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		changed = false
		known, _, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }, "SELECT version FROM routes_version WHERE id = 1")
		if err != nil || want.Version < known {
			return err
		}
		stored, err := sqldb.Rows(ctx, tx, scanRoute, selectRoute)
		if err != nil {
			return err
		}
		old := map[string]row{}
		for _, r := range stored {
			old[r.name] = r
		}
		for _, r := range want.Routes {
			wrote, err := putRoute(ctx, tx, r, old, end)
			if err != nil {
				return err
			}
			changed = changed || wrote
			delete(old, r.Name)
		}
		for name := range old {
			changed = true
			if _, err := tx.Exec(ctx, "DELETE FROM route WHERE name = ?", name); err != nil {
				return err
			}
		}
		if want.Version > known {
			_, err = tx.Exec(ctx, "UPDATE routes_version SET version = ? WHERE id = 1", want.Version)
		}
		return err
	})
	return changed, err
}

func putRoute(ctx context.Context, tx *sqldb.Tx, r link.Route, old map[string]row, end func(string) uint64) (wrote bool, err error) {
	text, err := json.Marshal(r.Spec)
	if err != nil {
		return false, err
	}
	before, known := old[r.Name]
	switch {
	case !known:
		_, err = tx.Exec(ctx, "INSERT INTO route (name, spec, position) VALUES (?, ?, ?)", r.Name, tx.Seal(keptSpec, text, r.Name), end(r.Spec.Source))
	case before.text == string(text):
		return false, nil
	case (before.spec.Source == link.SourceTelemetry) != (r.Spec.Source == link.SourceTelemetry):
		// Another log: the position in the old one means nothing there.
		_, err = tx.Exec(ctx, "UPDATE route SET spec = ?, position = ? WHERE name = ?", tx.Seal(keptSpec, text, r.Name), end(r.Spec.Source), r.Name)
	default:
		_, err = tx.Exec(ctx, "UPDATE route SET spec = ? WHERE name = ?", tx.Seal(keptSpec, text, r.Name), r.Name)
	}
	return true, err
}

// outcome is what became of the records up to a position.
type outcome struct {
	position uint64
	counts
	letters []letter
}

// letter is a message that is given up.
type letter struct {
	endpoint.Message
	reason   string
	attempts int
}

// What is kept of dead letters of one route.
const (
	maxLetters     = 1_000_000
	maxLetterBytes = 1 << 30
	dropChunk      = 1000
)

// settle stores an outcome. A route that is gone or declared otherwise by now
// is no concern of the worker that comes late.
func (s store) settle(ctx context.Context, name, text string, o outcome, now time.Time) error {
	return s.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		var bytes int
		for _, l := range o.letters {
			bytes += len(l.Original())
		}
		var at any
		if o.delivered > 0 {
			at = sqldb.Micros(now)
		}
		if stands, err := standing(ctx, tx, name, text); err != nil {
			return err
		} else if !stands {
			return problem.New(problem.Stale, "the route was changed meanwhile")
		}
		_, err := tx.Exec(ctx, `UPDATE route SET position = ?, passed = passed + ?, delivered = delivered + ?, dead = dead + ?, lost = lost + ?,
			kept = kept + ?, kept_bytes = kept_bytes + ?, delivered_at = COALESCE(?, delivered_at) WHERE name = ?`,
			o.position, o.passed, o.delivered, o.dead, o.lost, len(o.letters), bytes, at, name)
		if err != nil {
			return err
		}
		for _, l := range o.letters {
			if _, err := tx.Exec(ctx, "INSERT INTO dead_letter (route, message, sequence, reason, attempts, at, device_id) VALUES (?, ?, ?, ?, ?, ?, ?)",
				name, l.Original(), l.Sequence, l.reason, l.attempts, sqldb.Micros(now), l.DeviceID); err != nil {
				return err
			}
		}
		if len(o.letters) > 0 {
			return makeRoom(ctx, tx, name)
		}
		return nil
	})
}

// standing reports whether a route is still declared so. What is sealed is other
// each time, so it is compared in the clear.
func standing(ctx context.Context, tx *sqldb.Tx, name, text string) (bool, error) {
	now, found, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (now string, err error) { return now, rows.Scan(keptSpec.Into(&now, &name)) }, "SELECT spec FROM route WHERE name = ?", name)
	return found && now == text, err
}

// makeRoom drops the oldest dead letters of a route that has too many.
func makeRoom(ctx context.Context, tx *sqldb.Tx, name string) error {
	for {
		kept, _, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (k [2]int64, err error) { return k, rows.Scan(&k[0], &k[1]) }, "SELECT kept, kept_bytes FROM route WHERE name = ?", name)
		if err != nil || kept[0] <= maxLetters && kept[1] <= maxLetterBytes {
			return err
		}
		excess := min(max(kept[0]-maxLetters, 1), dropChunk)
		if _, err := forget(ctx, tx, name, "id IN (SELECT id FROM dead_letter WHERE route = ? ORDER BY id LIMIT ?)", "dropped = dropped + ?", name, excess); err != nil {
			return err
		}
	}
}

// forget removes the dead letters of a route that a condition selects, and
// counts them where counter says.
func forget(ctx context.Context, tx *sqldb.Tx, name, where, counter string, args ...any) (int64, error) {
	type sums struct{ n, bytes int64 }
	all, _, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (s sums, err error) { return s, rows.Scan(&s.n, &s.bytes) },
		"SELECT count(*), COALESCE(sum(length(message)), 0) FROM dead_letter WHERE route = ? AND "+where, append([]any{name}, args...)...)
	if err != nil || all.n == 0 {
		return 0, err
	}
	if _, err := tx.Exec(ctx, "DELETE FROM dead_letter WHERE route = ? AND "+where, append([]any{name}, args...)...); err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, "UPDATE route SET kept = kept - ?, kept_bytes = kept_bytes - ?, "+counter+" WHERE name = ?", all.n, all.bytes, all.n, name)
	return all.n, err
}

func scanLetter(rows *sql.Rows) (l link.DeadLetter, err error) {
	var at int64
	var message []byte
	err = rows.Scan(&l.ID, &l.Route, &message, &l.Reason, &l.Attempts, &at, &l.Waiting)
	l.Message, l.At = message, sqldb.Time(at)
	return l, err
}

const selectLetter = "SELECT id, route, message, reason, attempts, at, waiting FROM dead_letter"

// pageBytes keeps a page below what the link carries.
const pageBytes = 4 << 20

func (s store) deadLetters(ctx context.Context, name string, after int64, limit int) (items []link.DeadLetter, more bool, err error) {
	if items, err = sqldb.Rows(ctx, s.db, scanLetter, selectLetter+" WHERE route = ? AND id > ? ORDER BY id LIMIT ?", name, after, limit+1); err != nil {
		return nil, false, err
	}
	size := 0
	for i, l := range items {
		if size += len(l.Message); i == limit || i > 0 && size > pageBytes {
			return items[:i], true, nil
		}
	}
	return items, false, nil
}

// chosen is the condition for the letters a caller names.
func chosen(req link.DeadLetterRef) (where string, args []any, err error) {
	if len(req.IDs) > link.MaxPage {
		return "", nil, problem.New(problem.Invalid, "at most %d dead letters can be named at once, not %d", link.MaxPage, len(req.IDs)).At("ids")
	}
	if len(req.IDs) == 0 {
		return "1 = 1", nil, nil
	}
	for _, id := range req.IDs {
		args = append(args, id)
	}
	return "id IN (?" + strings.Repeat(", ?", len(args)-1) + ")", args, nil
}

func (s store) replay(ctx context.Context, req link.DeadLetterRef) (n int, err error) {
	where, args, err := chosen(req)
	if err != nil {
		return 0, err
	}
	err = s.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		marked, err := tx.Exec(ctx, "UPDATE dead_letter SET waiting = 1 WHERE route = ? AND "+where, append([]any{req.Route}, args...)...)
		n = int(marked)
		return err
	})
	return n, err
}

func (s store) purge(ctx context.Context, req link.DeadLetterRef) (n int, err error) {
	where, args, err := chosen(req)
	if err != nil {
		return 0, err
	}
	err = s.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		purged, err := forget(ctx, tx, req.Route, where, "dropped = dropped + ?", args...)
		n = int(purged)
		return err
	})
	return n, err
}

// waiting returns the next dead letters that are to be sent once more.
func (s store) waiting(ctx context.Context, name string, limit int, bytes int64) ([]link.DeadLetter, error) {
	items, err := sqldb.Rows(ctx, s.db, scanLetter, selectLetter+" WHERE route = ? AND waiting = 1 ORDER BY id LIMIT ?", name, limit)
	var size int64
	for i, l := range items {
		if size += int64(len(l.Message)); i > 0 && size > bytes {
			return items[:i], err
		}
	}
	return items, err
}

// revived takes dead letters away that were delivered after all.
func (s store) revived(ctx context.Context, name string, letters []link.DeadLetter) error {
	return s.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, l := range letters {
			n, err := forget(ctx, tx, name, "id = ?", "delivered = delivered + ?", l.ID)
			if err != nil {
				return err
			}
			if n == 0 {
				continue // purged while it was on its way
			}
			if _, err := tx.Exec(ctx, "UPDATE route SET dead = dead - 1 WHERE name = ?", name); err != nil {
				return err
			}
		}
		return nil
	})
}

// stillDead notes that dead letters were refused again.
func (s store) stillDead(ctx context.Context, letters []link.DeadLetter, reason string, now time.Time) error {
	return s.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, l := range letters {
			if _, err := tx.Exec(ctx, "UPDATE dead_letter SET waiting = 0, attempts = attempts + 1, reason = ?, at = ? WHERE id = ?", reason, sqldb.Micros(now), l.ID); err != nil {
				return fmt.Errorf("dead letter %d: %w", l.ID, err)
			}
		}
		return nil
	})
}
