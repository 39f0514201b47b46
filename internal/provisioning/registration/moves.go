package registration

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// The states of a device in a move.
const (
	devicePending  = "pending"
	deviceRemoving = "removing"
	deviceWaiting  = "waiting"
	deviceArrived  = "arrived"
	deviceAlready  = "already"
	deviceFailed   = "failed"
)

const (
	maxMove    = 10_000 // devices named in one request; more are selected by a condition
	moveBatch  = 500
	moveAtOnce = 64
)

// cursor is how far the selection of a move's devices has come.
type cursor struct {
	Stamps []string `json:"stamps"` // still to be asked; the first is being read
	After  string   `json:"after"`
}

// StartMove begins to move devices to another environment, or between stamps.
func (s *Service) StartMove(ctx context.Context, req link.StartMove) (link.Move, error) {
	if err := s.checkMove(&req); err != nil {
		return link.Move{}, err
	}
	c := cursor{Stamps: s.origins(req)}
	text, err := json.Marshal(c)
	if err != nil {
		return link.Move{}, err
	}
	var number int64
	err = s.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		existing, known, err := sqldb.Row(ctx, tx, scanInt, "SELECT number FROM move WHERE move_key = ?", req.Key)
		if err != nil || known {
			number = existing
			return err
		}
		number, _, err = sqldb.Row(ctx, tx, scanInt, "SELECT coalesce(max(number), 0) + 1 FROM move")
		if err != nil {
			return err
		}
		state := link.MoveRunning
		if len(c.Stamps) > 0 {
			state = link.MoveSelecting
		}
		if _, err := tx.Exec(ctx, `INSERT INTO move (number, move_key, target, condition, reason, actor, state, cursor, created_at, origin, destination, pace)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			number, req.Key, req.To, req.Where, req.Reason, req.Actor, string(state), string(text), sqldb.Micros(s.clock()),
			req.From, req.Stamp, int64(req.PerSecond*1000)); err != nil {
			return err
		}
		return addDevices(ctx, tx, number, req.Devices)
	})
	if err != nil {
		return link.Move{}, err
	}
	wake(s.kickMoves)
	return s.Move(ctx, moveID(number))
}

func (s *Service) checkMove(req *link.StartMove) error {
	if req.Key == "" {
		req.Key = rand.Text()
	}
	if err := s.checkStamps(req); err != nil {
		return err
	}
	if _, known := s.directory.Current().Environment(req.To); !known {
		return problem.New(problem.Invalid, "there is no environment %q", req.To).At("to")
	}
	named, selected := len(req.Devices) > 0, req.Where != ""
	if named && selected || !named && !selected && req.From == "" {
		return problem.New(problem.Invalid, "name devices or give a condition, one of the two").At("devices")
	}
	if req.PerSecond < 0 || req.PerSecond > maxPace || req.PerSecond > 0 && req.PerSecond < minPace {
		return problem.New(problem.Invalid, "a pace is %g to %d devices a second, not %g", minPace, maxPace, req.PerSecond).At("perSecond")
	}
	if slices.ContainsFunc(req.Devices, link.IsProbe) {
		return problem.New(problem.Invalid, "a probe belongs to its stamp and cannot be moved").At("devices")
	}
	if len(req.Devices) > maxMove {
		return problem.New(problem.Invalid, "at most %d devices can be named, not %d; select more by a condition", maxMove, len(req.Devices)).At("devices")
	}
	return nil
}

// The paces that a move may keep to, in devices a second.
const (
	minPace = 0.01
	maxPace = 10_000
)

// checkStamps holds the stamps of a move against the directory, and fills in
// the environment that they imply.
func (s *Service) checkStamps(req *link.StartMove) error {
	d := s.directory.Current()
	for _, named := range []struct{ field, name string }{{"from", req.From}, {"stamp", req.Stamp}} {
		if _, known := d.Stamp(named.name); named.name != "" && !known {
			return problem.New(problem.Invalid, "there is no stamp %q", named.name).At(named.field)
		}
	}
	if req.From != "" && req.From == req.Stamp {
		return problem.New(problem.Invalid, "devices cannot leave stamp %s and go to it", req.From).At("stamp")
	}
	to, _ := d.Stamp(req.Stamp)
	from, _ := d.Stamp(req.From)
	if req.To == "" {
		req.To = cmp.Or(to.Environment, from.Environment)
	}
	if req.Stamp != "" && to.Environment != req.To {
		return problem.New(problem.Invalid, "stamp %s is in environment %s, not in %s", req.Stamp, to.Environment, req.To).At("stamp")
	}
	return nil
}

// origins are the stamps to be asked for the devices of a move.
func (s *Service) origins(req link.StartMove) (names []string) {
	switch {
	case len(req.Devices) > 0:
		return nil
	case req.From != "":
		return []string{req.From}
	}
	for _, stamp := range s.directory.Current().All() {
		if stamp.Name != req.Stamp && (req.Stamp != "" || stamp.Environment != req.To) {
			names = append(names, stamp.Name)
		}
	}
	return names
}

func addDevices(ctx context.Context, tx *sqldb.Tx, move int64, ids []string) error {
	for _, id := range ids {
		if _, err := tx.Exec(ctx, `INSERT INTO move_device (move, device_id, state, returning_soon, problem) VALUES (?, ?, ?, 0, '')
			ON CONFLICT (move, device_id) DO NOTHING`, move, id, devicePending); err != nil {
			return err
		}
	}
	return nil
}

// open is a move that is not complete.
type open struct {
	number int64
	target string
	where  string
	reason string
	state  link.MoveState
	cursor cursor
	from   string
	stamp  string
	pace   float64 // devices a second; 0 is no limit
}

func scanOpen(rows *sql.Rows) (m open, err error) {
	var text string
	var pace int64
	if err := rows.Scan(&m.number, &m.target, &m.where, &m.reason, &m.state, &text, &m.from, &m.stamp, &pace); err != nil {
		return m, err
	}
	m.pace = float64(pace) / 1000
	return m, json.Unmarshal([]byte(text), &m.cursor)
}

// RunMoves works on moves until ctx ends; apart from Run, so that a stamp that
// is slow to select devices keeps no registration waiting.
func (s *Service) RunMoves(ctx context.Context) error {
	return repeat(ctx, sweepEvery, s.kickMoves, func() {
		if err := s.runMoves(ctx); err != nil && ctx.Err() == nil {
			s.logger.Error("moves not worked on", "error", err)
		}
	})
}

// runMoves takes every open move a little further.
func (s *Service) runMoves(ctx context.Context) error {
	all, err := sqldb.Rows(ctx, s.db, scanOpen, "SELECT number, target, condition, reason, state, cursor, origin, destination, pace FROM move WHERE finished_at IS NULL ORDER BY number")
	if err != nil {
		return err
	}
	var failures []error
	for _, m := range all {
		if m.state == link.MoveSelecting {
			err = s.selectDevices(ctx, m)
		} else {
			err = s.advance(ctx, m)
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", moveID(m.number), err))
		}
	}
	return errors.Join(failures...)
}

// selectDevices asks the stamps, page by page, for devices that match; each
// page is kept together with how far it came.
func (s *Service) selectDevices(ctx context.Context, m open) error {
	for len(m.cursor.Stamps) > 0 && ctx.Err() == nil {
		page, err := s.page(ctx, m)
		if err != nil {
			return err
		}
		ids := make([]string, len(page.Items))
		for i, d := range page.Items {
			ids[i] = d.DeviceID
		}
		if page.More {
			m.cursor.After = ids[len(ids)-1]
		} else {
			m.cursor.Stamps, m.cursor.After = m.cursor.Stamps[1:], ""
		}
		text, err := json.Marshal(m.cursor)
		if err != nil {
			return err
		}
		if err := s.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			if err := addDevices(ctx, tx, m.number, ids); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "UPDATE move SET cursor = ? WHERE number = ?", string(text), m.number)
			return err
		}); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	wake(s.kickMoves)
	return s.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE move SET state = ? WHERE number = ?", string(link.MoveRunning), m.number)
		return err
	})
}

// page asks the stamp whose turn it is. One that has left the directory has no
// devices any more, and one that refuses the condition selects none.
func (s *Service) page(ctx context.Context, m open) (link.Devices, error) {
	stamp := m.cursor.Stamps[0]
	if _, known := s.directory.Current().Stamp(stamp); !known {
		return link.Devices{}, nil
	}
	page, err := s.stamps.Query(ctx, stamp, link.QueryDevices{Where: m.where, After: m.cursor.After, Limit: link.MaxPage})
	if problem.Is(err, problem.Invalid) {
		s.logger.Warn("condition of a move refused", "move", moveID(m.number), "stamp", stamp, "error", err)
		return link.Devices{}, nil
	}
	page.More = page.More && len(page.Items) > 0
	return page, err
}

// advance begins pending devices and finishes a move that has none left.
func (s *Service) advance(ctx context.Context, m open) error {
	for ctx.Err() == nil {
		ids, err := sqldb.Rows(ctx, s.db, scanText, "SELECT device_id FROM move_device WHERE move = ? AND state = 'pending' ORDER BY device_id LIMIT ?", m.number, moveBatch)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			return s.finish(ctx, m)
		}
		may, err := s.mayBegin(ctx, m, len(ids))
		if err != nil || may == 0 {
			return err // looked at again by and by
		}
		ids = ids[:may]
		group, beginning := errgroup.WithContext(ctx)
		group.SetLimit(moveAtOnce)
		for _, id := range ids {
			group.Go(func() error { return s.begin(beginning, m, id) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// begin sends one device on its way.
func (s *Service) begin(ctx context.Context, m open, id string) error {
	key := ""
	err := s.commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		key = ""
		r, known, err := byDevice(ctx, tx, id)
		if err != nil {
			return err
		}
		now := s.clock()
		switch {
		case !known:
			return settle(ctx, tx, m.number, id, deviceFailed, "there is no such device")
		case r.Move > m.number:
			return settle(ctx, tx, m.number, id, deviceFailed, "superseded by "+moveID(r.Move))
		case m.from != "" && r.Stamp != m.from && r.Phase != link.PhaseWaiting:
			return settle(ctx, tx, m.number, id, deviceAlready, "")
		case r.Environment == m.target && r.Home == m.target && r.Phase == link.PhaseAssigned && m.from == "" && (m.stamp == "" || r.Stamp == m.stamp):
			return s.stay(ctx, tx, m, r, now)
		}
		if err := supersede(ctx, tx, m.number, id); err != nil {
			return err
		}
		key = r.Key
		r.Target, r.Environment, r.Move, r.UpdatedAt, r.Extra.Bound = m.target, m.target, m.number, now, m.stamp
		r.note(stepRequested, m.reason, now)
		state := deviceRemoving
		if r.Phase == link.PhaseWaiting || r.Phase == link.PhaseCreating && r.Home == m.target && m.from == "" && (m.stamp == "" || r.Stamp == m.stamp) {
			state = deviceWaiting // on no stamp, or about to arrive
		} else if err := r.leave(m.reason, now); err != nil {
			return err
		}
		if err := settle(ctx, tx, m.number, id, state, ""); err != nil {
			return err
		}
		return save(ctx, tx, &r)
	})
	if err == nil && key != "" {
		s.work(key)
	}
	return err
}

// stay notes that a device is where the move would take it. An earlier move
// that has not come to it yet must not take it away later.
func (s *Service) stay(ctx context.Context, tx *sqldb.Tx, m open, r Record, now time.Time) error {
	if err := supersede(ctx, tx, m.number, r.DeviceID); err != nil {
		return err
	}
	r.Target, r.Move, r.UpdatedAt = m.target, m.number, now
	if err := save(ctx, tx, &r); err != nil {
		return err
	}
	return settle(ctx, tx, m.number, r.DeviceID, deviceAlready, "")
}

func settle(ctx context.Context, tx *sqldb.Tx, move int64, device, state, problem string) error {
	_, err := tx.Exec(ctx, "UPDATE move_device SET state = ?, problem = ? WHERE move = ? AND device_id = ?", state, problem, move, device)
	return err
}

// supersede ends what earlier moves still have to do with a device.
func supersede(ctx context.Context, tx *sqldb.Tx, move int64, device string) error {
	_, err := tx.Exec(ctx, `UPDATE move_device SET state = 'failed', problem = ? WHERE device_id = ? AND move < ? AND state IN ('pending', 'removing', 'waiting')`,
		"superseded by "+moveID(move), device, move)
	return err
}

// departed notes in its move that a device has left its stamp.
func departed(ctx context.Context, tx *sqldb.Tx, r *Record, connected bool) error {
	if r.Move == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, "UPDATE move_device SET state = 'waiting', returning_soon = ? WHERE move = ? AND device_id = ? AND state = 'removing'", connected, r.Move, r.DeviceID)
	return err
}

// arrived notes in its move that a device has its new place.
func arrived(ctx context.Context, tx *sqldb.Tx, r *Record) error {
	if r.Move == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, "UPDATE move_device SET state = 'arrived' WHERE move = ? AND device_id = ? AND state IN ('waiting', 'removing')", r.Move, r.DeviceID)
	return err
}

// finish completes a move in which no device has to leave its stamp any more.
func (s *Service) finish(ctx context.Context, m open) error {
	return s.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		left, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT count(*) FROM move_device WHERE move = ? AND state IN ('pending', 'removing')", m.number)
		if err != nil || left > 0 {
			return err
		}
		s.paces.Delete(m.number)
		_, err = tx.Exec(ctx, "UPDATE move SET state = ?, problem = '', finished_at = ? WHERE number = ?", string(link.MoveComplete), sqldb.Micros(s.clock()), m.number)
		return err
	})
}

const selectMove = "SELECT number, target, condition, reason, actor, state, created_at, finished_at, origin, destination, pace, problem FROM move"

func scanMove(rows *sql.Rows) (m link.Move, err error) {
	var number, created, pace int64
	var finished sql.NullInt64
	err = rows.Scan(&number, &m.To, &m.Where, &m.Reason, &m.Actor, &m.State, &created, &finished, &m.From, &m.Stamp, &pace, &m.Problem)
	m.PerSecond = float64(pace) / 1000
	m.ID, m.CreatedAt, m.FinishedAt = moveID(number), sqldb.Time(created), sqldb.NullTime(finished)
	return m, err
}

// Move returns a move with its census.
func (s *Service) Move(ctx context.Context, id string) (link.Move, error) {
	m, known, err := sqldb.Row(ctx, s.db, scanMove, selectMove+" WHERE number = ?", moveNumber(id))
	if err != nil {
		return m, err
	}
	if !known {
		return m, problem.New(problem.NotFound, "there is no move %q", id)
	}
	m.Census, err = s.census(ctx, moveNumber(id))
	return m, err
}

// census counts a move's devices; one query, so that the numbers add up.
func (s *Service) census(ctx context.Context, move int64) (c link.Census, err error) {
	_, err = sqldb.Rows(ctx, s.db, func(rows *sql.Rows) (struct{}, error) {
		var state string
		var n, returning int
		err := rows.Scan(&state, &n, &returning)
		c.Total += n
		switch state {
		case devicePending:
			c.Pending = n
		case deviceRemoving:
			c.Removing = n
		case deviceWaiting:
			c.Waiting, c.Returning = n, returning
		case deviceArrived:
			c.Arrived = n
		case deviceAlready:
			c.Already = n
		case deviceFailed:
			c.Failed = n
		}
		return struct{}{}, err
	}, "SELECT state, count(*), sum(returning_soon) FROM move_device WHERE move = ? GROUP BY state", move)
	return c, err
}

// Moves returns the newest moves.
func (s *Service) Moves(ctx context.Context, req link.ListMoves) (link.Moves, error) {
	limit := req.Limit
	if limit <= 0 || limit > link.MaxPage {
		limit = 100
	}
	items, err := sqldb.Rows(ctx, s.db, scanMove, selectMove+" ORDER BY number DESC LIMIT ?", limit)
	for i := range items {
		if err == nil {
			items[i].Census, err = s.census(ctx, moveNumber(items[i].ID))
		}
	}
	return link.Moves{Items: items}, err
}

// MoveDevices returns a page of a move's devices in order of id.
func (s *Service) MoveDevices(ctx context.Context, req link.ListMoveDevices) (link.MovedDevices, error) {
	limit := req.Limit
	if limit <= 0 || limit > link.MaxPage {
		limit = link.MaxPage
	}
	items, err := sqldb.Rows(ctx, s.db, func(rows *sql.Rows) (d link.MovedDevice, err error) {
		return d, rows.Scan(&d.DeviceID, &d.State, &d.Problem)
	}, "SELECT device_id, state, problem FROM move_device WHERE move = ? AND device_id > ? AND (? = '' OR state = ?) ORDER BY device_id LIMIT ?",
		moveNumber(req.ID), req.After, req.State, req.State, limit+1)
	more := len(items) > limit
	return link.MovedDevices{Items: items[:min(limit, len(items))], More: more}, err
}

// autoMoveEvery is how often rules are looked at.
const autoMoveEvery = 2 * time.Second

// RunRules moves devices on whose environment has a rule that they pass,
// until ctx ends.
func (s *Service) RunRules(ctx context.Context) error {
	return repeat(ctx, autoMoveEvery, nil, func() {
		for _, e := range s.directory.Current().Environments() {
			if e.AutoMove == nil {
				continue
			}
			if err := s.applyRule(ctx, e); err != nil && ctx.Err() == nil {
				s.logger.Warn("rule not applied", "environment", e.Name, "error", err)
			}
		}
	})
}

// applyRule moves a page of devices that pass; the next look takes the next.
func (s *Service) applyRule(ctx context.Context, e link.Environment) error {
	var failures []error
	for _, stamp := range s.directory.Current().In(e.Name) {
		passed, err := s.passed(ctx, e, stamp.Name)
		if err == nil && len(passed) > 0 {
			_, err = s.StartMove(ctx, link.StartMove{To: e.AutoMove.To, Devices: passed, Actor: "rule", Reason: "passed the checks of environment " + e.Name})
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("stamp %s: %w", stamp.Name, err))
		}
	}
	return errors.Join(failures...)
}

// passed returns devices of a stamp that pass the rule and are not on their
// way already: leaving, or named by a move that has not come to them yet.
func (s *Service) passed(ctx context.Context, e link.Environment, stamp string) (ids []string, err error) {
	page, err := s.stamps.Query(ctx, stamp, link.QueryDevices{
		Where: e.AutoMove.Where, MinMessages: e.AutoMove.MinMessages, Connected: e.AutoMove.Connected, Limit: moveBatch,
	})
	if err != nil {
		return nil, err
	}
	for _, d := range page.Items {
		staying, _, err := sqldb.Row(ctx, s.db, scanInt, `SELECT count(*) FROM registration WHERE device_id = ? AND phase = 'assigned' AND stamp = ? AND environment = ?
			AND NOT EXISTS (SELECT 1 FROM move_device WHERE move_device.device_id = registration.device_id AND state IN ('pending', 'removing', 'waiting'))`,
			d.DeviceID, stamp, e.Name)
		if err != nil {
			return nil, err
		}
		if staying > 0 {
			ids = append(ids, d.DeviceID)
		}
	}
	return ids, nil
}
