package link

import (
	"encoding/json"
	"time"
)

// Calls a stamp answers about queries, and the work of back ends.
var (
	QueryRun          = Call[RunQuery, Rows]{"query.run"}
	JobList           = Call[None, Jobs]{"job.list"}
	JobCancel         = Call[JobRef, Job]{"job.cancel"}
	ConfigurationList = Call[None, Configurations]{"configuration.list"}
)

// RunQuery asks for a page of a statement such as
//
//	SELECT deviceId, tags.site FROM devices WHERE tags.floor > 2
type RunQuery struct {
	Query string `json:"query"`
	After string `json:"after,omitempty"` // Next of the page before
	Limit int    `json:"limit,omitempty"`
}

// Rows are a page of a statement's result. Next is empty on the last.
type Rows struct {
	Items []json.RawMessage `json:"items"`
	Next  string            `json:"next,omitempty"`
}

// Job is something a back end has done to many devices.
type Job struct {
	ID        string     `json:"id"`
	Stamp     string     `json:"stamp"`
	Type      string     `json:"type"`
	Status    string     `json:"status"`
	Condition string     `json:"condition,omitempty"`
	By        string     `json:"by"`
	CreatedAt time.Time  `json:"createdAt"`
	StartAt   time.Time  `json:"startAt"`
	EndAt     *time.Time `json:"endAt,omitempty"`
	Failure   string     `json:"failure,omitempty"`
	Total     int64      `json:"total"`
	Pending   int64      `json:"pending"`
	Running   int64      `json:"running"`
	Succeeded int64      `json:"succeeded"`
	Failed    int64      `json:"failed"`
}

// JobRef names one.
type JobRef struct {
	ID string `json:"id"`
}

// Jobs is a list, newest first.
type Jobs struct {
	Items []Job `json:"items"`
}

// Configuration is desired properties of many devices as one document, with
// how far it is applied.
type Configuration struct {
	ID        string            `json:"id"`
	Stamp     string            `json:"stamp"`
	Target    string            `json:"target"`
	Priority  int64             `json:"priority"`
	Labels    map[string]string `json:"labels,omitempty"`
	CreatedAt time.Time         `json:"createdAt"`
	UpdatedAt time.Time         `json:"updatedAt"`
	Targeted  int64             `json:"targeted"`
	Applied   int64             `json:"applied"`
	Metrics   map[string]int64  `json:"metrics,omitempty"`
}

// Configurations is a list in order of id.
type Configurations struct {
	Items []Configuration `json:"items"`
}
