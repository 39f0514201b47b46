package care

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/tasks"
)

const (
	lookEvery = 2 * time.Second       // whether a run is due
	between   = 20 * time.Millisecond // of two batches, for others to have a turn
	keptRuns  = 100
	retryRun  = time.Minute // how soon a run goes on that failed
)

// Run cleans up whenever that is due, until ctx ends. A run that ended with its
// process goes on where it was.
func (k *Keeper) Run(ctx context.Context) error {
	var failed time.Time
	return tasks.Every(ctx, lookEvery, func() {
		if k.now().Sub(failed) < retryRun {
			return
		}
		if err := k.Once(ctx); err != nil && ctx.Err() == nil {
			failed = k.now()
			k.logger.Warn("cleaning up: trying again", "error", err)
		}
	})
}

// Once begins a run that is due, or was asked for, and carries it through.
func (k *Keeper) Once(ctx context.Context) error {
	plan, asked, err := ReadPlan(ctx, k.db)
	if err != nil || plan.Version == 0 {
		return err
	}
	last, known, err := k.last(ctx, k.db)
	if err != nil {
		return err
	}
	now := k.now().UTC()
	if !known || last.EndedAt != nil {
		if next := due(plan, last); !asked && (next == nil || now.Before(*next)) {
			return nil
		}
		last = link.CareRun{Number: last.Number + 1, BegunAt: now, Asked: asked}
		if err := k.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return begin(ctx, tx, last) }); err != nil {
			return err
		}
	}
	return k.carry(ctx, last.Number)
}

// due is when the next run is, after the last one.
func due(plan link.CarePlan, last link.CareRun) *time.Time {
	if plan.Paused || plan.Version == 0 {
		return nil
	}
	next := last.BegunAt.Add(time.Duration(plan.EveryHours) * time.Hour)
	return &next
}

func begin(ctx context.Context, tx *sqldb.Tx, run link.CareRun) error {
	text, err := json.Marshal(run)
	if err != nil {
		return err
	}
	for _, statement := range []struct {
		text string
		args []any
	}{
		{"UPDATE care_plan SET asked = 0 WHERE id = 1", nil},
		{"DELETE FROM care_run WHERE number <= ?", []any{run.Number - keptRuns}},
		{"INSERT INTO care_run (number, ended, document) VALUES (?, 0, ?)", []any{run.Number, string(text)}},
	} {
		if _, err := tx.Exec(ctx, statement.text, statement.args...); err != nil {
			return err
		}
	}
	return nil
}

// carry removes batch by batch what may go, and ends the run. The plan is read
// before each batch, so that a hold counts from the next one on.
func (k *Keeper) carry(ctx context.Context, number int64) error {
	note := func(ctx context.Context, tx *sqldb.Tx, removed link.CareFound) error {
		return k.change(ctx, tx, number, func(run *link.CareRun) { run.Removed = add(run.Removed, removed) })
	}
	var failures error
	for _, h := range k.holdings {
		if err := k.clean(ctx, h, note); err != nil {
			failures = errors.Join(failures, err)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var ended link.CareRun
	err := k.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return k.change(ctx, tx, number, func(run *link.CareRun) {
			if run.Problem = ""; failures != nil {
				run.Problem = failures.Error()
				return
			}
			now := k.now().UTC()
			run.EndedAt = &now
			ended = *run
		})
	})
	if err != nil || failures != nil {
		return errors.Join(err, failures)
	}
	for _, f := range ended.Removed {
		k.removed.WithLabelValues(f.Kind).Add(float64(f.Count))
		k.bytes.WithLabelValues(f.Kind).Add(float64(f.Bytes))
	}
	k.ended.Set(float64(ended.EndedAt.Unix()))
	return nil
}

func (k *Keeper) clean(ctx context.Context, h Holding, note Note) error {
	for {
		plan, _, err := ReadPlan(ctx, k.db)
		if err != nil {
			return err
		}
		c, ok := cut(plan, h.Kind(), k.now())
		if !ok {
			return nil
		}
		more, err := h.Remove(ctx, c, note)
		if err != nil || !more {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(between):
		}
	}
}

// change changes what is written of a run.
func (k *Keeper) change(ctx context.Context, tx *sqldb.Tx, number int64, how func(*link.CareRun)) error {
	run, found, err := sqldb.Row(ctx, tx, scanRun, "SELECT document FROM care_run WHERE number = ?", number)
	if err != nil || !found {
		return err
	}
	how(&run)
	text, err := json.Marshal(run)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "UPDATE care_run SET ended = ?, document = ? WHERE number = ?", run.EndedAt != nil, string(text), number)
	return err
}

func scanRun(rows *sql.Rows) (run link.CareRun, err error) {
	var text []byte
	if err = rows.Scan(&text); err != nil {
		return run, err
	}
	return run, json.Unmarshal(text, &run)
}

func (k *Keeper) last(ctx context.Context, q sqldb.Querier) (link.CareRun, bool, error) {
	return sqldb.Row(ctx, q, scanRun, "SELECT document FROM care_run ORDER BY number DESC LIMIT 1")
}

// Runs are those that have ended after one that is known, and when the next is.
func (k *Keeper) Runs(ctx context.Context, req link.ListCareRuns) (link.CareRunList, error) {
	plan, _, err := ReadPlan(ctx, k.db)
	list := link.CareRunList{Version: plan.Version, Ended: []link.CareRun{}}
	if err != nil {
		return list, err
	}
	last, known, err := k.last(ctx, k.db)
	if err != nil {
		return list, err
	}
	if known {
		list.Last = &last
	}
	list.Next = due(plan, last)
	ended, err := sqldb.Rows(ctx, k.db, scanRun, "SELECT document FROM care_run WHERE number > ? AND ended = 1 ORDER BY number LIMIT ?", req.After, keptRuns)
	list.Ended = append(list.Ended, ended...)
	return list, err
}
