package metrics

import "github.com/slipway/slipway/internal/problem"

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
