package gate

import (
	"time"

	"github.com/slipway/slipway/internal/control/readiness"
	"github.com/slipway/slipway/internal/resource"
)

// What tests look at from outside.
var (
	Soak       = soak
	Tested     = tested
	Agreed     = agreed
	HeldBy     = heldBy
	Settled    = settled
	ReadAnswer = readAnswer
	ReadOSV    = readOSV
	Filled     = filled
	PackageOf  = packageOf
	Rating     = rating
)

// WithinBounds is the verdict on series of values.
func WithinBounds(g resource.PromQLGate, values ...[]float64) Result {
	var all []series
	for _, v := range values {
		all = append(all, series{Values: v})
	}
	return settled(withinBounds(g, all))
}

// Burn is the verdict on counts over a short and a long window.
func Burn(g resource.SLOGate, limit, goodShort, totalShort, goodLong, totalLong float64) Result {
	burnt := func(good, total float64) burning {
		b := burning{Good: good, Total: total}
		if total > 0 {
			b.Burn = max(0, 1-good/total) / (1 - g.Objective)
		}
		return b
	}
	return settled(burnVerdict(g, limit, burnt(goodShort, totalShort), burnt(goodLong, totalLong)))
}

// Affected reports whether a version is in an OSV range of the kind, of pairs
// of introduced and fixed.
func Affected(kind, version string, versions []string, edges ...[2]string) bool {
	a := affected{Versions: versions}
	if len(edges) > 0 {
		r := versionRange{Type: kind}
		for _, e := range edges {
			r.Events = append(r.Events, versionEvent{Introduced: e[0]}, versionEvent{Fixed: e[1]})
		}
		a.Ranges = []versionRange{r}
	}
	return a.holds(version)
}

// Clean is the verdict on findings due at some times, in so many components.
func Clean(now time.Time, components int64, nameless []string, due ...time.Time) Result {
	var all []Finding
	for _, at := range due {
		all = append(all, Finding{Due: at})
	}
	return settled(clean(now, Result{Samples: components}, all, nameless))
}

// Alarms reports whether a comparison stops a rollout.
func Alarms(policy resource.Comparison, c Comparison) bool {
	_, found := c.worst()
	return found > alarm(policy)
}

// Readied is the verdict on results of readiness.
func Readied(g resource.ReadinessGate, results []readiness.Result) Result {
	return settled(readied(Result{}, g, "production", results))
}
