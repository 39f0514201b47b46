package hubhttp

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/job"
	"github.com/slipway/slipway/internal/stamp/query"
)

type jobView struct {
	job.Spec
	CreatedTime   time.Time     `json:"createdTime"`
	StartTime     time.Time     `json:"startTime"`
	EndTime       *time.Time    `json:"endTime"`
	Status        job.Status    `json:"status"`
	FailureReason *string       `json:"failureReason"`
	StatusMessage *string       `json:"statusMessage"`
	Statistics    jobStatistics `json:"deviceJobStatistics"`
}

type jobStatistics struct {
	DeviceCount    int64 `json:"deviceCount"`
	FailedCount    int64 `json:"failedCount"`
	SucceededCount int64 `json:"succeededCount"`
	RunningCount   int64 `json:"runningCount"`
	PendingCount   int64 `json:"pendingCount"`
}

func showJob(j job.Job) jobView {
	n := j.Counts
	v := jobView{
		Spec: j.Spec, CreatedTime: j.CreatedAt, StartTime: j.StartAt, EndTime: j.EndAt, Status: j.Status,
		Statistics: jobStatistics{n.Total, n.Failed, n.Succeeded, n.Running, n.Pending},
	}
	if j.Failure != "" {
		v.FailureReason, v.StatusMessage = &j.Failure, &j.Failure
	}
	return v
}

func unknownJob(err error) error {
	switch {
	case problem.Is(err, problem.NotFound):
		return coded{err, "JobNotFound", 404002}
	case problem.Is(err, problem.Conflict):
		return coded{err, "JobAlreadyExists", 409004}
	}
	return err
}

func (e *Edge) getJob(c *call) (answer, error) {
	j, err := e.Jobs.Get(c.ctx, c.args[0])
	return answer{body: showJob(j)}, unknownJob(err)
}

func (e *Edge) putJob(c *call) (answer, error) {
	var sent job.Spec
	if err := c.decode(&sent); err != nil {
		return answer{}, err
	}
	if sent.ID == "" {
		sent.ID = c.args[0]
	}
	if sent.ID != c.args[0] {
		return answer{}, problem.New(problem.Invalid, "the body is about another job than the path").At("jobId")
	}
	j, err := e.Jobs.Create(c.ctx, sent, string(c.actor))
	view := showJob(j)
	view.Status = job.Queued // SDKs look for this word, whenever it starts
	return answer{body: view}, unknownJob(err)
}

func (e *Edge) cancelJob(c *call) (answer, error) {
	j, err := e.Jobs.Cancel(c.ctx, c.args[0])
	return answer{body: showJob(j)}, unknownJob(err)
}

// jobTypes are the names by which SDKs ask for types.
var jobTypes = map[string]job.Type{
	"scheduleupdatetwin": job.UpdateTwin, "scheduletwinupdate": job.UpdateTwin, "scheduledevicemethod": job.DeviceMethod, "": "",
}

func (e *Edge) queryJobs(c *call) (answer, error) {
	values := c.r.URL.Query()
	kind, known := jobTypes[strings.ToLower(values.Get("jobType"))]
	if !known {
		return answer{}, problem.New(problem.Invalid, "there are no jobs of type %q", values.Get("jobType")).At("jobType")
	}
	status := strings.ToLower(values.Get("jobStatus"))
	at, limit, err := c.pageOf("jobs " + string(kind) + " " + status)
	if err != nil {
		return answer{}, err
	}
	jobs, err := e.Jobs.List(c.ctx, job.Filter{Type: kind, Status: job.Status(status), After: at.After, Limit: limit + 1})
	if err != nil {
		return answer{}, err
	}
	header := map[string]string{itemTypeHeader: "jobResponse"}
	if len(jobs) > limit {
		jobs = jobs[:limit]
		at.After = jobs[limit-1].ID
		header[continuationHeader] = at.String()
	}
	views := []jobView{}
	for _, j := range jobs {
		views = append(views, showJob(j))
	}
	return answer{body: views, header: header}, nil
}

type deviceJobView struct {
	DeviceID        string          `json:"deviceId"`
	JobID           string          `json:"jobId"`
	JobType         job.Type        `json:"jobType"`
	Status          job.Status      `json:"status"`
	StartTime       time.Time       `json:"startTimeUtc"`
	EndTime         *time.Time      `json:"endTimeUtc"`
	CreatedTime     time.Time       `json:"createdDateTimeUtc"`
	LastUpdatedTime time.Time       `json:"lastUpdatedDateTimeUtc"`
	Outcome         json.RawMessage `json:"outcome,omitempty"`
	Error           *deviceJobError `json:"error,omitempty"`
}

type deviceJobError struct {
	Code        string `json:"code"`
	Description string `json:"description"`
}

func (e *Edge) queryDeviceJobs(c *call, s *query.Statement, at continuation, limit int) (answer, error) {
	var after job.Position
	if at.After != "" {
		if err := json.Unmarshal([]byte(at.After), &after); err != nil {
			return answer{}, problem.New(problem.Invalid, "the continuation token is not one of this query").At(continuationHeader)
		}
	}
	if s.Top > 0 {
		limit = min(limit, s.Top-at.Taken)
	}
	parts, next, err := e.Jobs.Devices(c.ctx, s, after, limit)
	if err != nil {
		return answer{}, err
	}
	views := []deviceJobView{}
	for _, d := range parts {
		v := deviceJobView{d.DeviceID, d.JobID, d.Type, d.Status, d.StartAt, d.EndAt, d.CreatedAt, d.UpdatedAt, d.Outcome, nil}
		if d.Failure != "" {
			v.Error = &deviceJobError{"Failed", d.Failure}
		}
		views = append(views, v)
	}
	header := map[string]string{itemTypeHeader: "deviceJob"}
	if at.Taken += len(views); next != nil && (s.Top == 0 || at.Taken < s.Top) {
		text, err := json.Marshal(next)
		if err != nil {
			return answer{}, err
		}
		at.After = string(text)
		header[continuationHeader] = at.String()
	}
	return answer{body: views, header: header}, nil
}
