package link

import "time"

// MetricsEvery is how often a process tells its metrics.
const MetricsEvery = 10 * time.Second

// MetricsSubject is where a peer's processes tell their metrics.
func MetricsSubject(peer string) string { return "metrics." + peer }

// Metrics are what a process counts, in OpenMetrics' text, packed by gzip.
type Metrics struct {
	Process string    `json:"process,omitempty"` // among those of its plane; empty where it is the only one
	At      time.Time `json:"at,omitzero"`       // by the clock of the process
	Text    []byte    `json:"text"`
}
