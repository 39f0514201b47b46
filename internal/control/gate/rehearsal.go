package gate

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/rehearsal"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// rehearsal wants the migrations of a release to have been rehearsed on a
// masked copy of an environment's data, and nothing to have moved on since.
func (g *Gates) rehearsal(ctx context.Context, now time.Time, gate resource.RehearsalGate, s Subject) Result {
	environment := cmp.Or(gate.Environment, s.Environment)
	r := Result{Threshold: "a rehearsal on the data of " + environment + " that passed and still holds", Window: string(gate.MaxAge)}
	if len(s.Release.Spec.Migrations) == 0 && !gate.Always {
		r.Verdict, r.Samples, r.Reason = Pass, 1, "the release brings no migrations"
		return r
	}
	newest, err := g.Rehearsed(ctx, environment, s.Release.Digest)
	if err != nil {
		return failed(err)
	}
	return rehearsed(now, gate, s.Release.Name, environment, r, newest)
}

// shownReasons is how many reasons of a rehearsal a gate repeats.
const shownReasons = 3

func rehearsed(now time.Time, gate resource.RehearsalGate, release, environment string, r Result, newest *rehearsal.Rehearsal) Result {
	how := fmt.Sprintf("`slipway rehearsal start %s --environment %s` asks for one", release, environment)
	if newest == nil {
		return noData(r, gate.OnNoData, fmt.Sprintf("its migrations were not rehearsed on the data of %s; %s", environment, how))
	}
	r.Evidence = evidenceOf(map[string]any{"rehearsal": newest.ID, "verdict": newest.Verdict, "endedAt": newest.EndedAt, "signature": newest.Signature, "void": newest.Void})
	if newest.Evidence != nil {
		r.Samples = newest.Evidence.Devices
	}
	if most := gate.MaxAge.Duration(0); most > 0 && newest.EndedAt != nil && now.Sub(*newest.EndedAt) > most {
		newest.Void = append(newest.Void, fmt.Sprintf("it is %s old, and may be %s", now.Sub(*newest.EndedAt).Round(time.Minute), most))
	}
	switch {
	case newest.Verdict == link.Fail:
		r.Verdict, r.Reason = Fail, fmt.Sprintf("%s failed: %s", newest.ID, strings.Join(newest.Reasons[:min(len(newest.Reasons), shownReasons)], "; "))
	case newest.Verdict != link.Pass:
		r.Verdict, r.Reason = Inconclusive, fmt.Sprintf("%s showed nothing: %s", newest.ID, strings.Join(newest.Reasons[:min(len(newest.Reasons), shownReasons)], "; "))
	case len(newest.Void) > 0:
		r.Samples = 0 // what it was of is not there any more
		return noData(r, gate.OnNoData, fmt.Sprintf("%s passed, and holds no more: %s; %s", newest.ID, strings.Join(newest.Void, "; "), how))
	default:
		r.Verdict, r.Reason = Pass, fmt.Sprintf("%s passed on a copy with %d devices", newest.ID, r.Samples)
	}
	return r
}
