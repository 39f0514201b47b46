// Package job does one thing to many devices: it sets twins or runs a direct
// method on all that match a condition, at a time, within a bound, and keeps
// what became of each. A job goes on where it was when its process ended.
package job

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/query"
)

// Type says what a job does, spelled as back ends do.
type Type string

// The types.
const (
	UpdateTwin   Type = "scheduleUpdateTwin"
	DeviceMethod Type = "scheduleDeviceMethod"
)

// Status is where a job or its part on one device stands.
type Status string

// The statuses. A job is scheduled until its time, then queued until its
// devices are chosen, then running until the last of them has ended.
const (
	Scheduled Status = "scheduled"
	Queued    Status = "queued"
	Running   Status = "running"
	Completed Status = "completed"
	Failed    Status = "failed"
	Cancelled Status = "cancelled"
	Pending   Status = "pending" // of a device: its turn has not come
)

// The limits of jobs.
const (
	maxID         = 128
	maxExecution  = 24 * time.Hour
	defaultBound  = time.Hour
	maxFuture     = 30 * 24 * time.Hour
	maxConcurrent = 10 // jobs under way
	maxWaiting    = 1000
)

// Spec is a job as back ends write it.
type Spec struct {
	ID         string          `json:"jobId"`
	Type       Type            `json:"type"`
	UpdateTwin json.RawMessage `json:"updateTwin,omitempty"`
	Method     *Method         `json:"cloudToDeviceMethod,omitempty"`
	Condition  string          `json:"queryCondition"`
	StartTime  string          `json:"startTime,omitempty"` // RFC 3339; empty is now
	MaxSeconds int64           `json:"maxExecutionTimeInSeconds,omitempty"`
}

// Method is a direct method to run on each device.
type Method struct {
	Name            string          `json:"methodName"`
	Payload         json.RawMessage `json:"payload"`
	ResponseTimeout int             `json:"responseTimeoutInSeconds,omitempty"`
	ConnectTimeout  int             `json:"connectTimeoutInSeconds,omitempty"`
}

// Job is a stored job.
type Job struct {
	Spec
	Status    Status
	Actor     string
	CreatedAt time.Time
	StartAt   time.Time
	EndAt     *time.Time
	Deadline  time.Time
	Failure   string
	Counts    Counts
}

// Counts are the devices of a job by status.
type Counts struct{ Total, Pending, Running, Succeeded, Failed int64 }

// DeviceJob is a job's part on one device.
type DeviceJob struct {
	JobID     string
	Type      Type
	DeviceID  string
	Status    Status
	Outcome   json.RawMessage
	Failure   string
	StartAt   time.Time
	EndAt     *time.Time
	CreatedAt time.Time
	UpdatedAt time.Time
}

// plan is a checked Spec.
type plan struct {
	Spec
	condition *query.Condition // nil: every device
	start     time.Time
	deadline  time.Time
}

func (s Spec) check(now time.Time) (p plan, err error) {
	p = plan{Spec: s, start: now}
	if s.ID == "" || len(s.ID) > maxID {
		return p, problem.New(problem.Invalid, "a job id has 1 to %d characters, not %d", maxID, len(s.ID)).At("jobId")
	}
	if err := s.checkWork(); err != nil {
		return p, err
	}
	if text := strings.TrimSpace(s.Condition); text != "" && text != "*" {
		if p.condition, err = query.Parse(text); err != nil {
			return p, problem.Of(err).At("queryCondition")
		}
	}
	if s.StartTime != "" {
		at, err := time.Parse(time.RFC3339, s.StartTime)
		if err != nil {
			return p, problem.New(problem.Invalid, "a start time reads 2026-11-21T12:00:00Z, not %q", s.StartTime).At("startTime")
		}
		if at.After(now.Add(maxFuture)) {
			return p, problem.New(problem.Invalid, "a job starts within %s from now", maxFuture).At("startTime")
		}
		if at.After(now) {
			p.start = at
		}
	}
	bound := time.Duration(s.MaxSeconds) * time.Second
	if s.MaxSeconds == 0 {
		bound = defaultBound
	}
	if s.MaxSeconds < 0 || s.MaxSeconds > int64(maxExecution/time.Second) {
		return p, problem.New(problem.Invalid, "a job runs for at most %s", maxExecution).At("maxExecutionTimeInSeconds")
	}
	p.deadline = p.start.Add(bound)
	return p, nil
}

// checkWork holds what is to be done against the type.
func (s Spec) checkWork() error {
	switch s.Type {
	case UpdateTwin:
		var patch map[string]any
		if err := json.Unmarshal(s.UpdateTwin, &patch); err != nil || patch == nil {
			return problem.New(problem.Invalid, "the job needs the patch of the twins as an object").At("updateTwin")
		}
	case DeviceMethod:
		if s.Method == nil || s.Method.Name == "" {
			return problem.New(problem.Invalid, "the job needs the method to run").At("cloudToDeviceMethod")
		}
	default:
		return problem.New(problem.Invalid, "a job is %s or %s, not %q", UpdateTwin, DeviceMethod, s.Type).At("type")
	}
	return nil
}

// patch is the twin patch of the job without what SDKs add for a single twin.
func (s Spec) patch() (json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(s.UpdateTwin, &members); err != nil {
		return nil, err
	}
	delete(members, "etag")
	return json.Marshal(members)
}

func (m Method) invoke(id string) link.InvokeMethod {
	return link.InvokeMethod{
		DeviceID: id, Method: m.Name, Payload: m.Payload,
		ResponseTimeout: time.Duration(m.ResponseTimeout) * time.Second, ConnectTimeout: time.Duration(m.ConnectTimeout) * time.Second,
	}
}

// ended reports whether nothing more will happen to a job.
func (s Status) ended() bool { return s == Completed || s == Failed || s == Cancelled }

// Lookup implements query.Names over the parts of jobs.
func (d DeviceJob) Lookup(parts []string) (any, bool) {
	switch parts[0] {
	case "jobId":
		return d.JobID, true
	case "deviceId":
		return d.DeviceID, true
	case "jobType":
		return string(d.Type), true
	case "status":
		return string(d.Status), true
	case "startTimeUtc":
		return d.StartAt.UTC().Format(time.RFC3339Nano), true
	case "createdDateTimeUtc":
		return d.CreatedAt.UTC().Format(time.RFC3339Nano), true
	case "lastUpdatedDateTimeUtc":
		return d.UpdatedAt.UTC().Format(time.RFC3339Nano), true
	case "endTimeUtc":
		if d.EndAt != nil {
			return d.EndAt.UTC().Format(time.RFC3339Nano), true
		}
	}
	return nil, false
}
