package gate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/readiness"
	"github.com/slipway/slipway/internal/resource"
)

// readiness wants an environment to be ready for production: every check that
// blocks passes, and the score is high enough.
func (g *Gates) readiness(ctx context.Context, gate resource.ReadinessGate, s Subject) Result {
	environment := cmp.Or(gate.Environment, s.Environment)
	most := gate.MaxAge.Duration(5 * time.Minute)
	r := Result{Window: most.String(), Threshold: fmt.Sprintf("every check that blocks passes in %s, and the score >= %d", environment, gate.Minimum)}
	v, err := g.Ready(ctx, environment, most)
	if err != nil {
		return failed(err)
	}
	var topics []readiness.Topic
	for _, t := range gate.Topics {
		topics = append(topics, readiness.Topic(t))
	}
	looked := slices.DeleteFunc(slices.Clone(v.Within(topics)), func(one readiness.Result) bool { return slices.Contains(gate.Except, one.ID) })
	return readied(r, gate, environment, looked)
}

// readied is the verdict on the results that count. What was found wrong fails;
// what there is no evidence of is as the gate says.
func readied(r Result, gate resource.ReadinessGate, environment string, looked []readiness.Result) Result {
	score := float64(readiness.Score(looked))
	r.Samples, r.Value = int64(len(looked)), &score
	var wrong, open []string
	var stopping []readiness.Result
	for _, one := range looked {
		switch {
		case one.Level != readiness.Blocks || one.State.Passes():
			continue
		case one.State == readiness.Red:
			wrong = append(wrong, one.ID+" ("+one.Summary+")")
		default:
			open = append(open, one.ID+" ("+string(one.State)+")")
		}
		stopping = append(stopping, one)
	}
	r.Evidence = evidenceOf(stopping)
	switch {
	case len(looked) == 0:
		return noData(r, gate.OnNoData, "no check is left to go by")
	case len(wrong) > 0:
		r.Verdict, r.Reason = Fail, fmt.Sprintf("%s is not ready: %s", environment, shortened(strings.Join(wrong, "; "), maxMessage))
	case len(open) > 0:
		return noData(r, gate.OnNoData, fmt.Sprintf("in %s there is no evidence of %s", environment, strings.Join(open, ", ")))
	case score < float64(gate.Minimum):
		r.Verdict, r.Reason = Fail, fmt.Sprintf("the score of %s is %.0f, and %d is wanted", environment, score, gate.Minimum)
	default:
		r.Verdict, r.Reason = Pass, fmt.Sprintf("%s is ready, with a score of %.0f", environment, score)
	}
	return r
}
