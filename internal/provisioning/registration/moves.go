package registration

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
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

// StartMove begins to move devices to another environment.
func (s *Service) StartMove(ctx context.Context, req link.StartMove) (link.Move, error) {
	if err := s.checkMove(&req); err != nil {
		return link.Move{}, err
	}
	var c cursor
	if req.Where != "" {
		for _, stamp := range s.directory.Current().Outside(req.To) {
			c.Stamps = append(c.Stamps, stamp.Name)
		}
	}
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
		if _, err := tx.Exec(ctx, `INSERT INTO move (number, move_key, target, condition, reason, actor, state, cursor, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			number, req.Key, req.To, req.Where, req.Reason, req.Actor, string(state), string(text), sqldb.Micros(s.clock())); err != nil {
			return err
		}
		return addDevices(ctx, tx, number, req.Devices)
	})
	if err != nil {
		return link.Move{}, err
	}
	s.Kick()
	return s.Move(ctx, moveID(number))
}

func (s *Service) checkMove(req *link.StartMove) error {
	if req.Key == "" {
		req.Key = rand.Text()
	}
	if _, known := s.directory.Current().Environment(req.To); !known {
		return problem.New(problem.Invalid, "there is no environment %q", req.To).At("to")
	}
	if (len(req.Devices) == 0) == (req.Where == "") {
		return problem.New(problem.Invalid, "name devices or give a condition, one of the two").At("devices")
	}
	if len(req.Devices) > maxMove {
		return problem.New(problem.Invalid, "at most %d devices can be named, not %d; select more by a condition", maxMove, len(req.Devices)).At("devices")
	}
	return nil
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
}

func scanOpen(rows *sql.Rows) (m open, err error) {
	var text string
	if err := rows.Scan(&m.number, &m.target, &m.where, &m.reason, &m.state, &text); err != nil {
		return m, err
	}
	return m, json.Unmarshal([]byte(text), &m.cursor)
}

// runMoves takes every open move a little further.
func (s *Service) runMoves(ctx context.Context) error {
	all, err := sqldb.Rows(ctx, s.db, scanOpen, "SELECT number, target, condition, reason, state, cursor FROM move WHERE finished_at IS NULL ORDER BY number")
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
		page, err := s.stamps.Query(ctx, m.cursor.Stamps[0], link.QueryDevices{Where: m.where, After: m.cursor.After, Limit: link.MaxPage})
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
	s.Kick()
	return s.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE move SET state = ? WHERE number = ?", string(link.MoveRunning), m.number)
		return err
	})
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
		case r.Environment == m.target && r.Home == m.target && r.Phase != link.PhaseRemoving:
			return settle(ctx, tx, m.number, id, deviceAlready, "")
		}
		if err := supersede(ctx, tx, m.number, id); err != nil {
			return err
		}
		key = r.Key
		r.Target, r.Environment, r.Move, r.UpdatedAt = m.target, m.target, m.number, now
		r.note(stepRequested, m.reason, now)
		state := deviceRemoving
		if r.Phase == link.PhaseWaiting {
			state = deviceWaiting
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
		_, err = tx.Exec(ctx, "UPDATE move SET state = ?, finished_at = ? WHERE number = ?", string(link.MoveComplete), sqldb.Micros(s.clock()), m.number)
		return err
	})
}

const selectMove = "SELECT number, target, condition, reason, actor, state, created_at, finished_at FROM move"

func scanMove(rows *sql.Rows) (m link.Move, err error) {
	var number, created int64
	var finished sql.NullInt64
	err = rows.Scan(&number, &m.To, &m.Where, &m.Reason, &m.Actor, &m.State, &created, &finished)
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
	tick := time.NewTicker(autoMoveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, e := range s.directory.Current().Environments() {
			if e.AutoMove == nil {
				continue
			}
			if err := s.applyRule(ctx, e); err != nil && ctx.Err() == nil {
				s.logger.Warn("rule not applied", "environment", e.Name, "error", err)
			}
		}
	}
}

// applyRule moves a page of devices that pass; the next look takes the next.
func (s *Service) applyRule(ctx context.Context, e link.Environment) error {
	for _, stamp := range s.directory.Current().In(e.Name) {
		page, err := s.stamps.Query(ctx, stamp.Name, link.QueryDevices{
			Where: e.AutoMove.Where, MinMessages: e.AutoMove.MinMessages, Connected: e.AutoMove.Connected, Limit: moveBatch,
		})
		if err != nil {
			return err
		}
		var passed []string
		for _, d := range page.Items {
			r, known, err := byDevice(ctx, s.db, d.DeviceID)
			if err != nil {
				return err
			}
			// One that is being moved already has passed before.
			if known && r.Phase == link.PhaseAssigned && r.Stamp == stamp.Name && r.Environment == e.Name {
				passed = append(passed, d.DeviceID)
			}
		}
		if len(passed) == 0 {
			continue
		}
		if _, err := s.StartMove(ctx, link.StartMove{To: e.AutoMove.To, Devices: passed, Actor: "rule", Reason: "passed the checks of environment " + e.Name}); err != nil {
			return err
		}
	}
	return nil
}
