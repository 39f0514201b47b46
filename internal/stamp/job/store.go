package job

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/query"
)

const selectJob = `SELECT document, status, actor, created_at, start_at, end_at, deadline, failure,
	(SELECT count(*) FROM device_job d WHERE d.job_id = job.id),
	(SELECT count(*) FROM device_job d WHERE d.job_id = job.id AND d.status IN ('pending', 'scheduled')),
	(SELECT count(*) FROM device_job d WHERE d.job_id = job.id AND d.status = 'running'),
	(SELECT count(*) FROM device_job d WHERE d.job_id = job.id AND d.status = 'completed'),
	(SELECT count(*) FROM device_job d WHERE d.job_id = job.id AND d.status IN ('failed', 'cancelled'))
	FROM job`

func scanJob(rows *sql.Rows) (j Job, err error) {
	var text []byte
	var created, start, deadline int64
	var end sql.NullInt64
	c := &j.Counts
	err = rows.Scan(&text, &j.Status, &j.Actor, &created, &start, &end, &deadline, &j.Failure, &c.Total, &c.Pending, &c.Running, &c.Succeeded, &c.Failed)
	if err != nil {
		return j, err
	}
	j.CreatedAt, j.StartAt, j.EndAt, j.Deadline = sqldb.Time(created), sqldb.Time(start), sqldb.NullTime(end), sqldb.Time(deadline)
	return j, json.Unmarshal(text, &j.Spec)
}

func scanInt(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }

// Create stores a job that runs when its time has come.
func (r *Runner) Create(ctx context.Context, s Spec, actor string) (Job, error) {
	now := r.now()
	p, err := s.check(now)
	if err != nil {
		return Job{}, err
	}
	text, err := json.Marshal(s)
	if err != nil {
		return Job{}, err
	}
	status := Queued
	if p.start.After(now) {
		status = Scheduled
	}
	err = r.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		waiting, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT count(*) FROM job WHERE status IN ('queued', 'scheduled', 'running')")
		if err != nil {
			return err
		}
		if waiting >= maxWaiting {
			return problem.New(problem.Busy, "%d jobs wait or run already, the most there may be", waiting).After(time.Minute)
		}
		_, err = tx.Exec(ctx, "INSERT INTO job (id, type, status, document, condition, actor, created_at, start_at, deadline, failure) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '')",
			s.ID, string(s.Type), string(status), string(text), s.Condition, actor, sqldb.Micros(now), sqldb.Micros(p.start), sqldb.Micros(p.deadline))
		if sqldb.IsUnique(err) {
			return problem.New(problem.Conflict, "there is a job %q already", s.ID)
		}
		return err
	})
	if err != nil {
		return Job{}, err
	}
	r.wake()
	return Job{Spec: s, Status: status, Actor: actor, CreatedAt: now, StartAt: p.start, Deadline: p.deadline}, nil
}

// Get returns one job.
func (r *Runner) Get(ctx context.Context, id string) (Job, error) {
	j, found, err := sqldb.Row(ctx, r.db, scanJob, selectJob+" WHERE id = ?", id)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no job %q", id)
	}
	return j, err
}

// Filter selects jobs; empty members select all.
type Filter struct {
	Type   Type
	Status Status
	After  string // ids greater than this one only
	Limit  int
}

// List returns jobs in order of id.
func (r *Runner) List(ctx context.Context, f Filter) ([]Job, error) {
	return sqldb.Rows(ctx, r.db, scanJob, selectJob+" WHERE (? = '' OR type = ?) AND (? = '' OR status = ?) AND id > ? ORDER BY id LIMIT ?",
		string(f.Type), string(f.Type), string(f.Status), string(f.Status), f.After, f.Limit)
}

// Cancel ends a job: devices whose turn has not come are left alone.
func (r *Runner) Cancel(ctx context.Context, id string) (Job, error) {
	now := r.now()
	err := r.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		j, found, err := sqldb.Row(ctx, tx, scanJob, selectJob+" WHERE id = ?", id)
		if err != nil {
			return err
		}
		if !found {
			return problem.New(problem.NotFound, "there is no job %q", id)
		}
		if j.Status.ended() {
			return problem.New(problem.Invalid, "the job has ended already: it is %s", j.Status)
		}
		return end(ctx, tx, id, Cancelled, "", now)
	})
	if err != nil {
		return Job{}, err
	}
	r.stop(id)
	return r.Get(ctx, id)
}

// end writes a job's end down; what has not run is cancelled, or failed with it.
func end(ctx context.Context, tx *sqldb.Tx, id string, status Status, failure string, now time.Time) error {
	left := Cancelled
	if status == Failed {
		left = Failed
	}
	_, err := tx.Exec(ctx, "UPDATE device_job SET status = ?, failure = ?, updated_at = ? WHERE job_id = ? AND status IN ('pending', 'running')",
		string(left), failure, sqldb.Micros(now), id)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "UPDATE job SET status = ?, failure = ?, end_at = ? WHERE id = ?", string(status), failure, sqldb.Micros(now), id)
	return err
}

const selectDeviceJob = `SELECT d.job_id, j.type, d.device_id, d.status, d.outcome, d.failure, j.start_at, d.created_at, d.updated_at
	FROM device_job d JOIN job j ON j.id = d.job_id`

func scanDeviceJob(rows *sql.Rows) (d DeviceJob, err error) {
	var outcome []byte
	var start, created, updated int64
	if err := rows.Scan(&d.JobID, &d.Type, &d.DeviceID, &d.Status, &outcome, &d.Failure, &start, &created, &updated); err != nil {
		return d, err
	}
	d.StartAt, d.CreatedAt, d.UpdatedAt = sqldb.Time(start), sqldb.Time(created), sqldb.Time(updated)
	if len(outcome) > 0 {
		d.Outcome = outcome
	}
	if d.Status.ended() {
		d.EndAt = &d.UpdatedAt
	}
	return d, nil
}

// Position is where a page of device jobs begins.
type Position struct{ JobID, DeviceID string }

// Devices returns the parts of jobs that a statement selects, after a position
// in order of job and device, and where the next page begins.
func (r *Runner) Devices(ctx context.Context, s *query.Statement, after Position, limit int) (page []DeviceJob, next *Position, err error) {
	where, args := "(d.job_id, d.device_id) > (?, ?)", []any{after.JobID, after.DeviceID}
	if s.Where != nil {
		for _, e := range s.Where.Equalities() {
			if len(e.Path) == 1 && e.Path[0] == "jobId" && len(e.Values) == 1 {
				where, args = where+" AND d.job_id = ?", append(args, e.Values[0])
			}
		}
	}
	rows, err := r.db.QueryOnce(ctx, selectDeviceJob+" WHERE "+where+" ORDER BY d.job_id, d.device_id", args...)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	page = []DeviceJob{}
	for rows.Next() {
		d, err := scanDeviceJob(rows)
		if err != nil {
			return nil, nil, err
		}
		if s.Where != nil && !s.Where.Eval(d) {
			continue
		}
		if len(page) == limit {
			last := page[limit-1]
			return page, &Position{last.JobID, last.DeviceID}, nil
		}
		page = append(page, d)
	}
	return page, nil, rows.Err()
}
