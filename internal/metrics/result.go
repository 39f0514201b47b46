package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/slipway/slipway/internal/problem"
)

// How something went, as the label "result" of every metric has it.
const (
	OK        = "ok"
	Refused   = "refused"   // who asked may not, or asked wrongly: no fault of ours
	Throttled = "throttled" // asked to come back later
	Failed    = "failed"    // ours to answer for
)

// Result is how something went that ended with err.
func Result(err error) string {
	if err == nil {
		return OK
	}
	switch problem.Of(err).Kind {
	case problem.Busy:
		return Throttled
	case problem.NotReady, problem.TimedOut, problem.Internal:
		return Failed
	}
	return Refused
}

// Observe counts how long something took, with the trace that shows what was
// done meanwhile; empty is none.
func Observe(o prometheus.Observer, took time.Duration, trace string) {
	if with, can := o.(prometheus.ExemplarObserver); can && trace != "" {
		with.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": trace})
		return
	}
	o.Observe(took.Seconds())
}
