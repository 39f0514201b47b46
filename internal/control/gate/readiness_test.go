package gate_test

import (
	"testing"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/readiness"
	"github.com/slipway/slipway/internal/resource"
)

func TestReadinessLetsInWhatIsReady(t *testing.T) {
	t.Parallel()
	result := func(id string, level readiness.Level, state readiness.State) readiness.Result {
		return readiness.Result{ID: id, Level: level, State: state}
	}
	green := result("A1", readiness.Blocks, readiness.Green)
	for what, c := range map[string]struct {
		gate    resource.ReadinessGate
		results []readiness.Result
		want    gate.Verdict
	}{
		"all is well":                {resource.ReadinessGate{}, []readiness.Result{green}, gate.Pass},
		"something is wrong":         {resource.ReadinessGate{}, []readiness.Result{green, result("B1", readiness.Blocks, readiness.Red)}, gate.Fail},
		"a warning":                  {resource.ReadinessGate{}, []readiness.Result{green, result("B3", readiness.Warns, readiness.Red)}, gate.Pass},
		"too low a score":            {resource.ReadinessGate{Minimum: 90}, []readiness.Result{green, result("B3", readiness.Warns, readiness.Red)}, gate.Fail},
		"no evidence":                {resource.ReadinessGate{}, []readiness.Result{green, result("B2", readiness.Blocks, readiness.Stale)}, gate.Inconclusive},
		"no evidence fails":          {resource.ReadinessGate{OnNoData: resource.NoDataFail}, []readiness.Result{green, result("B2", readiness.Blocks, readiness.Unknown)}, gate.Fail},
		"no evidence is let through": {resource.ReadinessGate{OnNoData: resource.NoDataPass}, []readiness.Result{green, result("B2", readiness.Blocks, readiness.Unknown)}, gate.Warn},
		"wrong is never let through": {resource.ReadinessGate{OnNoData: resource.NoDataPass}, []readiness.Result{result("B2", readiness.Blocks, readiness.Red)}, gate.Fail},
		"nothing is left":            {resource.ReadinessGate{}, nil, gate.Inconclusive},
	} {
		if r := gate.Readied(c.gate, c.results); r.Verdict != c.want || r.Reason == "" {
			t.Errorf("%s: %s, and not %s: %s", what, r.Verdict, c.want, r.Reason)
		}
	}
}
