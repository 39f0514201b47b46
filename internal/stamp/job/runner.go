package job

import (
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Fleet is what jobs work on; the hub is it.
type Fleet interface {
	PatchTwin(ctx context.Context, req link.PatchTwin) (link.Twin, error)
	Invoke(ctx context.Context, req link.InvokeMethod) (link.MethodResult, error)
	NoteJob(job, device string, succeeded bool)
}

// Devices finds the devices a condition selects.
type Devices interface {
	Query(ctx context.Context, req link.QueryDevices) (link.Devices, error)
}

// Runner keeps the jobs of one stamp and runs them.
type Runner struct {
	db      *sqldb.DB
	devices Devices
	fleet   Fleet
	logger  *slog.Logger
	now     func() time.Time
	kick    chan struct{}

	mu      sync.Mutex
	running map[string]context.CancelFunc
}

// New returns a runner over a stamp's devices.
func New(db *sqldb.DB, devices Devices, fleet Fleet, logger *slog.Logger, now func() time.Time) *Runner {
	return &Runner{db: db, devices: devices, fleet: fleet, logger: logger, now: now, kick: make(chan struct{}, 1), running: map[string]context.CancelFunc{}}
}

func (r *Runner) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// stop ends the work on a job that was cancelled.
func (r *Runner) stop(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cancel := r.running[id]; cancel != nil {
		cancel()
	}
}

const (
	lookEvery = time.Second
	// inParallel is how many devices of one job are worked on at once, and
	// chunk how many of them are taken up together.
	inParallel = 16
	chunk      = 500
)

// Run starts jobs whose time has come until ctx ends, and waits for those
// under way to notice.
func (r *Runner) Run(ctx context.Context) error {
	var working sync.WaitGroup
	defer working.Wait()
	if err := r.recover(ctx); err != nil {
		return err
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		if err := r.start(ctx, &working); err != nil && ctx.Err() == nil {
			r.logger.Error("jobs not looked at", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		case <-r.kick:
		}
	}
}

// recover looks at what ran when the process ended: a twin can be set again, a
// method may have run, which nobody can know.
func (r *Runner) recover(ctx context.Context) error {
	return r.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE device_job SET status = 'pending' WHERE status = 'running' AND job_id IN (SELECT id FROM job WHERE type = ?)`, string(UpdateTwin))
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE device_job SET status = 'failed', failure = 'the stamp restarted while the method ran; it may have run', updated_at = ?
			WHERE status = 'running'`, sqldb.Micros(r.now()))
		return err
	})
}

// start takes up jobs that are due, as many as may run at once.
func (r *Runner) start(ctx context.Context, working *sync.WaitGroup) error {
	due, err := sqldb.Rows(ctx, r.db, scanJob, selectJob+" WHERE status IN ('queued', 'running', 'scheduled') AND start_at <= ? ORDER BY start_at, id LIMIT ?",
		sqldb.Micros(r.now()), maxConcurrent)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, j := range due {
		if r.running[j.ID] != nil || len(r.running) >= maxConcurrent {
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, max(0, j.Deadline.Sub(r.now())))
		r.running[j.ID] = cancel
		working.Go(func() {
			defer r.wake()
			defer r.leave(j.ID)
			if err := r.work(bounded, j); err != nil && ctx.Err() == nil {
				r.logger.Error("a job could not go on", "job", j.ID, "error", err)
			}
		})
	}
	return nil
}

func (r *Runner) leave(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running[id]()
	delete(r.running, id)
}

// work takes a job to its end, or as far as its time allows.
func (r *Runner) work(ctx context.Context, j Job) error {
	if j.Status != Running {
		if err := r.choose(ctx, j); err != nil {
			if problem.Is(err, problem.Invalid) {
				return r.finish(j.ID, Failed, problem.Of(err).Error())
			}
			return err
		}
	}
	for ctx.Err() == nil {
		pending, err := sqldb.Rows(ctx, r.db, scanText, "SELECT device_id FROM device_job WHERE job_id = ? AND status = 'pending' ORDER BY device_id LIMIT ?", j.ID, chunk)
		if err != nil {
			break
		}
		if len(pending) == 0 {
			return r.finish(j.ID, Completed, "")
		}
		r.each(ctx, j, pending)
	}
	if ctx.Err() == context.DeadlineExceeded {
		return r.finish(j.ID, Failed, "the job did not end within its time")
	}
	return nil // cancelled, or the process ends
}

func scanText(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s) }

// choose writes down the devices of a job. Beginning it again changes nothing.
func (r *Runner) choose(ctx context.Context, j Job) error {
	where := j.Condition
	if where == "*" {
		where = ""
	}
	for after := ""; ; {
		page, err := r.devices.Query(ctx, link.QueryDevices{Where: where, After: after})
		if err != nil {
			return err
		}
		now := r.now()
		err = r.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			for _, d := range page.Items {
				_, err := tx.Exec(ctx, `INSERT INTO device_job (job_id, device_id, status, outcome, failure, created_at, updated_at) VALUES (?, ?, 'pending', '', '', ?, ?)
					ON CONFLICT (job_id, device_id) DO NOTHING`, j.ID, d.DeviceID, sqldb.Micros(now), sqldb.Micros(now))
				if err != nil {
					return err
				}
			}
			if page.More {
				return nil
			}
			_, err := tx.Exec(ctx, "UPDATE job SET status = 'running' WHERE id = ? AND status IN ('queued', 'scheduled')", j.ID)
			return err
		})
		if err != nil || !page.More {
			return err
		}
		after = page.Items[len(page.Items)-1].DeviceID
	}
}

// finish writes a job's end down, unless it was cancelled meanwhile.
func (r *Runner) finish(id string, status Status, failure string) error {
	return r.db.Commit(context.Background(), func(ctx context.Context, tx *sqldb.Tx) error {
		open, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT count(*) FROM job WHERE id = ? AND end_at IS NULL", id)
		if err != nil || open == 0 {
			return err
		}
		return end(ctx, tx, id, status, failure, r.now())
	})
}

// each works on some devices of a job, a few at a time.
func (r *Runner) each(ctx context.Context, j Job, ids []string) {
	var working sync.WaitGroup
	places := make(chan struct{}, inParallel)
	for _, id := range ids {
		places <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		working.Go(func() {
			defer func() { <-places }()
			if err := r.one(ctx, j, id); err != nil && ctx.Err() == nil {
				r.logger.Error("a job's result was not written", "job", j.ID, "device", id, "error", err)
			}
		})
	}
	working.Wait()
}

// one works on one device. That a method is about to run is written down
// before, so that it never runs twice.
func (r *Runner) one(ctx context.Context, j Job, id string) error {
	taken, err := r.take(ctx, j.ID, id)
	if err != nil || !taken {
		return err
	}
	outcome, failure := r.do(ctx, j, id)
	if ctx.Err() != nil && failure != nil && j.Type == UpdateTwin {
		return nil // it has not happened; whoever goes on does it again
	}
	return r.note(j.ID, id, outcome, failure)
}

func (r *Runner) take(ctx context.Context, job, id string) (taken bool, err error) {
	err = r.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE device_job SET status = 'running', updated_at = ? WHERE job_id = ? AND device_id = ? AND status = 'pending'", sqldb.Micros(r.now()), job, id)
		taken = n == 1
		return err
	})
	return taken, err
}

func (r *Runner) do(ctx context.Context, j Job, id string) (json.RawMessage, error) {
	if j.Type == UpdateTwin {
		patch, err := j.patch()
		if err == nil {
			_, err = r.fleet.PatchTwin(ctx, link.PatchTwin{DeviceID: id, Patch: patch})
		}
		return nil, err
	}
	result, err := r.fleet.Invoke(ctx, j.Method.invoke(id))
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"deviceMethodResponse": map[string]any{"status": result.Status, "payload": result.Payload}})
}

func (r *Runner) note(job, id string, outcome json.RawMessage, failure error) error {
	status, text := Completed, ""
	if failure != nil {
		status, text = Failed, problem.Of(failure).Error()
	}
	var noted bool
	err := r.db.Commit(context.Background(), func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE device_job SET status = ?, outcome = ?, failure = ?, updated_at = ? WHERE job_id = ? AND device_id = ? AND status = 'running'",
			string(status), string(outcome), text, sqldb.Micros(r.now()), job, id)
		noted = n > 0
		return err
	})
	if noted {
		r.fleet.NoteJob(job, id, failure == nil)
	}
	return err
}
