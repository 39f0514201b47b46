package grant

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/tasks"
)

const (
	runEvery   = time.Second
	atOnce     = 500
	alarmRetry = 30 * time.Second
	alarmWait  = 20 * time.Second // how long telling everybody may take
)

// Run begins, ends and expires grants when their times come, and tells of
// broken glass, until ctx ends. Nothing depends on it being prompt but what
// people see: whoever checks a grant compares times.
func (gs *Grants) Run(ctx context.Context) error {
	return tasks.Every(ctx, runEvery, func() {
		if err := errors.Join(gs.Look(ctx), gs.flush(ctx)); err != nil && ctx.Err() == nil {
			gs.o.Logger.Warn("grants are looked at again", "error", err)
		}
	})
}

// Look does once what Run repeats.
func (gs *Grants) Look(ctx context.Context) error {
	due, err := gs.ids(ctx, "due_at <= ? ORDER BY due_at")
	for _, id := range due {
		_, one := gs.settle(ctx, id)
		err = errors.Join(err, one)
	}
	loud, one := gs.ids(ctx, "alarm_at <= ? ORDER BY alarm_at")
	err = errors.Join(err, one)
	for _, id := range loud {
		err = errors.Join(err, gs.alarm(ctx, id))
	}
	return err
}

func (gs *Grants) ids(ctx context.Context, where string) ([]string, error) {
	return sqldb.Rows(ctx, gs.o.DB, func(rows *sql.Rows) (id string, err error) { return id, rows.Scan(&id) }, "SELECT id FROM access_grant WHERE "+where+" LIMIT ?", sqldb.Micros(gs.now()), atOnce)
}

// alarm tells those who must know of a grant that somebody has broken the
// glass, and stores that they know, or when they are told again.
func (gs *Grants) alarm(ctx context.Context, id string) error {
	r, err := read(ctx, gs.o.DB, id)
	if err != nil {
		return err
	}
	spec, err := gs.o.Environment(ctx, gs.o.DB, r.Environment)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, alarmWait)
	defer cancel()
	failed := gs.o.Alarm(limited, r.Grant, spec.GrantPolicy())
	return gs.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := read(ctx, tx, id)
		if err != nil {
			return err
		}
		next, now := r.Grant, gs.now()
		var again any
		if failed != nil {
			next.AlarmFailed, again = problem.Of(failed).Error(), sqldb.Micros(now.Add(alarmRetry))
		} else {
			next.AlarmFailed, next.AlarmedAt = "", &now
		}
		if _, err := tx.Exec(ctx, "UPDATE access_grant SET alarm_at = ? WHERE id = ?", again, id); err != nil {
			return err
		}
		entry := audit.Entry{Actor: Robot, Action: "grant.alarm", Object: "grant/" + id, Outcome: audit.Done, Detail: r.summary()}
		if failed != nil {
			if next.AlarmFailed == r.AlarmFailed {
				return nil // as it failed before
			}
			entry.Outcome, entry.Detail = audit.Failed, next.AlarmFailed
		}
		return gs.store(ctx, tx, r, next, entry)
	})
}

// Broken returns the grants by which somebody has broken the glass, and which
// last.
func (gs *Grants) Broken(ctx context.Context) ([]Grant, error) {
	all, _, err := gs.List(ctx, Filter{State: Active, Limit: most})
	return slices.DeleteFunc(all, func(g Grant) bool { return !g.BreakGlass || !g.On(gs.now()) }), err
}
