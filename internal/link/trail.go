package link

import "time"

// TrailPut is how a peer's processes give control what they have to say of what
// they do. The peer's name follows the call's, so that nobody speaks for another.
var TrailPut = Call[Trail, None]{"trail.put"}

// Trail is what one process says of what it did: lines of its log, and the spans
// of traces it had a part in.
type Trail struct {
	Process string `json:"process,omitempty"` // among those of its plane; empty where it is the only one
	Lines   []Line `json:"lines,omitempty"`
	Spans   []Span `json:"spans,omitempty"`
	Lost    int64  `json:"lost,omitempty"` // lines and spans that there was no room for since the last
}

// Line is one line of a log. What it is about stands under the same names
// wherever it is said.
type Line struct {
	At          time.Time         `json:"at"`
	Level       string            `json:"level" doc:"debug, info, warn or error"`
	Message     string            `json:"message"`
	Plane       string            `json:"plane,omitempty"`
	Stamp       string            `json:"stamp,omitempty"`
	Environment string            `json:"environment,omitempty"`
	Process     string            `json:"process,omitempty" doc:"Among those of its plane, where there are several"`
	Tenant      string            `json:"tenant,omitempty"`
	Device      string            `json:"device,omitempty"`
	Release     string            `json:"release,omitempty"`
	Trace       string            `json:"trace,omitempty" doc:"The trace it belongs to"`
	Span        string            `json:"span,omitempty"`
	More        map[string]string `json:"more,omitempty" doc:"What else it says, by name"`
}

// Span is one piece of work of a trace.
type Span struct {
	Trace   string            `json:"trace"`
	ID      string            `json:"id"`
	Parent  string            `json:"parent,omitempty"`
	Name    string            `json:"name"`
	Plane   string            `json:"plane,omitempty"`
	Stamp   string            `json:"stamp,omitempty"`
	Began   time.Time         `json:"began"`
	Micros  int64             `json:"micros" doc:"How long it took, in microseconds"`
	Problem string            `json:"problem,omitempty" doc:"Why it failed"`
	More    map[string]string `json:"more,omitempty"`
}
