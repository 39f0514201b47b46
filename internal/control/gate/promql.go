package gate

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// defaultPoints is how many values of a window are looked at.
const defaultPoints = 30

// promQL holds the values of a query over a window between bounds.
func (g *Gates) promQL(ctx context.Context, now time.Time, gate resource.PromQLGate, s Subject) Result {
	window := gate.Window.Duration(10 * time.Minute)
	points := max(defaultPoints, gate.MinSamples, gate.Consecutive)
	step := max(window/time.Duration(points), time.Second)
	query := filled(gate.Query, s, window)
	all, err := g.askRange(ctx, gate.Prometheus, query, now, window, step)
	r := failed(err)
	if err == nil {
		r = withinBounds(gate, all)
	}
	r.Query, r.Window, r.Threshold = query, window.String(), bounds(gate)
	return r
}

// bounds are a gate's in words.
func bounds(gate resource.PromQLGate) string {
	var all []string
	if gate.Min != nil {
		all = append(all, fmt.Sprintf(">= %g", *gate.Min))
	}
	if gate.Max != nil {
		all = append(all, fmt.Sprintf("<= %g", *gate.Max))
	}
	return strings.Join(all, " and ")
}

// seen is what the values of the series say together.
type seen struct {
	samples int     // of the series that has the fewest
	worst   float64 // the value furthest beyond a bound, or nearest to one
	margin  float64 // how far inside the bounds that is; negative is beyond
	labels  map[string]string
	odd     int // values that are no finite number, among those that count
	odds    int // the same, among all
}

// withinBounds is the verdict on values: each series must have enough of them,
// and its last ones must be well. NaN and infinities are no values: they are
// not counted, and where one should have been well, nothing can be said.
func withinBounds(gate resource.PromQLGate, all []series) Result {
	least := max(gate.MinSamples, gate.Consecutive, 1)
	look := look(gate, all)
	r := Result{Samples: int64(look.samples), Evidence: evidenceOf(summarized(all))}
	if look.samples > 0 {
		r.Value = &look.worst
	}
	where := ""
	if len(look.labels) > 0 {
		where = fmt.Sprintf(" of %v", look.labels)
	}
	switch {
	case look.samples == 0 && look.odds == 0:
		return noData(r, gate.OnNoData, "the query gave no values")
	case look.samples >= least && look.margin < 0:
		r.Verdict, r.Reason = Fail, fmt.Sprintf("a value%s is %g", where, look.worst)
	case look.odd > 0 || look.samples == 0:
		r.Verdict, r.Reason = Inconclusive, "the last values are not all numbers: NaN or infinite"
	case look.samples < least && look.margin >= 0 && look.odds == 0:
		return noData(r, gate.OnNoData, fmt.Sprintf("the query gave %d values, and a verdict needs %d", look.samples, least))
	case look.samples < least:
		r.Verdict, r.Reason = Inconclusive, fmt.Sprintf("the query gave %d values, not all of them well, and a verdict needs %d", look.samples, least)
	default:
		r.Verdict, r.Reason = Pass, fmt.Sprintf("every value that counts is well; the nearest to its bound%s is %g", where, look.worst)
	}
	return r
}

func look(gate resource.PromQLGate, all []series) seen {
	found := seen{samples: math.MaxInt, margin: math.Inf(1)}
	for _, line := range all {
		samples, from := 0, 0
		if gate.Consecutive > 0 {
			from = max(0, len(line.Values)-gate.Consecutive)
		}
		for i, v := range line.Values {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				found.odds++
				if i >= from {
					found.odd++
				}
				continue
			}
			samples++
			if m := margin(gate, v); i >= from && m < found.margin {
				found.worst, found.margin, found.labels = v, m, line.Labels
			}
		}
		found.samples = min(found.samples, samples)
	}
	if len(all) == 0 {
		found.samples = 0
	}
	return found
}

// margin is how far inside the bounds a value is.
func margin(gate resource.PromQLGate, v float64) float64 {
	m := math.Inf(1)
	if gate.Min != nil {
		m = min(m, v-*gate.Min)
	}
	if gate.Max != nil {
		m = min(m, *gate.Max-v)
	}
	return m
}

// summary is what is kept of a series.
type summary struct {
	Labels map[string]string `json:"labels,omitempty"`
	Values int               `json:"values"`
	Last   string            `json:"last"`
	Min    string            `json:"min"`
	Max    string            `json:"max"`
}

func summarized(all []series) (kept []summary) {
	number := func(v float64) string { return fmt.Sprintf("%g", v) }
	for _, line := range all[:min(len(all), 20)] {
		if len(line.Values) == 0 {
			continue
		}
		low, high := math.Inf(1), math.Inf(-1)
		for _, v := range line.Values {
			low, high = min(low, v), max(high, v)
		}
		kept = append(kept, summary{line.Labels, len(line.Values), number(line.Values[len(line.Values)-1]), number(low), number(high)})
	}
	return kept
}

// burning is how an error budget was used up over one window.
type burning struct {
	Window string  `json:"window"`
	Good   float64 `json:"good"`
	Total  float64 `json:"total"`
	Burn   float64 `json:"burn"`
}

// slo looks how many times faster than it lasts an error budget is used up,
// over a short and a long window. Both must agree that it is too fast, or that
// it is not: the short one alone is a moment, the long one alone the past.
func (g *Gates) slo(ctx context.Context, now time.Time, gate resource.SLOGate, s Subject) Result {
	if gate.Name != "" {
		var err error
		if gate, err = g.named(ctx, gate, s); err != nil {
			return failed(err)
		}
	}
	short, long := gate.Short.Duration(5*time.Minute), gate.Long.Duration(time.Hour)
	limit := cmp.Or(gate.MaxBurn, 1)
	base := Result{
		Threshold: fmt.Sprintf("burn <= %g of an objective of %g", limit, gate.Objective), Window: fmt.Sprintf("%s and %s", short, long),
		Query: fmt.Sprintf("(%s) / (%s)", filled(gate.Good, s, long), filled(gate.Total, s, long)),
	}
	var windows []burning
	for _, window := range []time.Duration{short, long} {
		b, err := g.burn(ctx, now, gate, s, window)
		if err != nil {
			base.Verdict, base.Reason = Error, reasonOf(err)
			return base
		}
		windows = append(windows, b)
	}
	r := burnVerdict(gate, limit, windows[0], windows[1])
	r.Threshold, r.Window, r.Query, r.Evidence = base.Threshold, base.Window, base.Query, evidenceOf(windows)
	return r
}

// named is a gate with what its SLO says, in one environment.
func (g *Gates) named(ctx context.Context, gate resource.SLOGate, s Subject) (resource.SLOGate, error) {
	if g.SLO == nil {
		return gate, problem.New(problem.NotFound, "there is no SLO %s", gate.Name)
	}
	slo, err := g.SLO(ctx, gate.Name)
	if err != nil {
		return gate, err
	}
	gate.Objective = slo.Spec.Objective
	gate.Good, gate.Total = slo.Spec.Templates()
	where := cmp.Or(gate.In, s.Environment)
	for _, query := range []*string{&gate.Good, &gate.Total} {
		if !slo.Spec.Whole() {
			*query = fmt.Sprintf(`(%s) and on (environment) label_replace(vector(1), "environment", %q, "", "")`, *query, where)
		}
		*query = "sum(" + *query + ")"
	}
	return gate, nil
}

// burn works out how fast the budget was used up over a window. No value of
// total is none; no value of good, beside some of total, is that none succeeded.
func (g *Gates) burn(ctx context.Context, now time.Time, gate resource.SLOGate, s Subject, window time.Duration) (b burning, err error) {
	b.Window = window.String()
	if b.Total, err = g.count(ctx, now, gate.Prometheus, filled(gate.Total, s, window)); err != nil {
		return b, err
	}
	if b.Good, err = g.count(ctx, now, gate.Prometheus, filled(gate.Good, s, window)); err != nil {
		return b, err
	}
	if b.Total > 0 {
		b.Burn = max(0, 1-b.Good/b.Total) / (1 - gate.Objective)
	}
	return b, nil
}

// count is the one value of a query that counts something.
func (g *Gates) count(ctx context.Context, now time.Time, prometheus, query string) (float64, error) {
	all, err := g.askNow(ctx, prometheus, query, now)
	if err != nil || len(all) == 0 {
		return 0, err
	}
	if len(all) > 1 || len(all[0].Values) != 1 {
		return 0, problem.New(problem.Invalid, "the query must give one value, not %d series; aggregate it: %s", len(all), query)
	}
	v := all[0].Values[0]
	if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
		return 0, problem.New(problem.Invalid, "the query gave %g, which counts nothing: %s", v, query)
	}
	return v, nil
}

func burnVerdict(gate resource.SLOGate, limit float64, short, long burning) Result {
	least := max(gate.MinSamples, 1)
	r := Result{Samples: int64(long.Total), Value: &long.Burn}
	switch {
	case long.Total < float64(least) || short.Total <= 0:
		r.Value = nil
		return noData(r, gate.OnNoData, fmt.Sprintf("there were %g in %s and %g in %s, and a verdict needs %d in the long window and some in the short one", long.Total, long.Window, short.Total, short.Window, least))
	case short.Burn > limit && long.Burn > limit:
		r.Verdict, r.Reason = Fail, fmt.Sprintf("the error budget is used up %.3g times too fast over %s, and %.3g times over %s", short.Burn, short.Window, long.Burn, long.Window)
	case short.Burn > limit:
		r.Verdict, r.Reason = Inconclusive, fmt.Sprintf("the error budget is used up %.3g times too fast over %s, and %.3g times over %s: it may be a moment", short.Burn, short.Window, long.Burn, long.Window)
	case long.Burn > limit:
		r.Verdict, r.Reason = Pending, fmt.Sprintf("the error budget was used up %.3g times too fast over %s, and %.3g times over %s: it gets better", long.Burn, long.Window, short.Burn, short.Window)
	default:
		r.Verdict, r.Reason = Pass, fmt.Sprintf("the error budget is used up %.3g times as fast as it lasts over %s, and %.3g over %s", short.Burn, short.Window, long.Burn, long.Window)
	}
	return r
}
