package retrylint_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/retrylint"
)

const (
	s = retrylint.Duration(time.Second)
	m = 60 * s
)

// good is a layer with which nothing is wrong.
var good = retrylint.Layer{Interval: "exponential", Base: s, Cap: 5 * m, Jitter: "full", Attempts: 20, Elapsed: 30 * m, Dormant: 15 * m, RetryAfter: true}

func checked(t *testing.T, layers ...retrylint.Layer) retrylint.Plan {
	t.Helper()
	p, err := retrylint.Plan{Layers: layers}.Check()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func rules(p retrylint.Plan) string {
	var all []string
	for _, f := range retrylint.Lint(p) {
		all = append(all, f.Rule+" "+f.Severity)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func TestEachWayIsNamed(t *testing.T) {
	change := func(f func(*retrylint.Layer)) retrylint.Layer { l := good; f(&l); return l }
	for _, c := range []struct {
		layers []retrylint.Layer
		want   string
	}{
		{[]retrylint.Layer{good}, ""},
		{[]retrylint.Layer{{Preset: "slipway"}}, ""},
		{[]retrylint.Layer{good, good}, "stacked-layers wrong"},
		{[]retrylint.Layer{change(func(l *retrylint.Layer) { l.Attempts, l.Elapsed = 0, 0 })}, "endless-retry wrong"},
		{[]retrylint.Layer{change(func(l *retrylint.Layer) { l.Attempts, l.Elapsed = 2147483647, 0 })}, "endless-retry wrong"},
		{[]retrylint.Layer{change(func(l *retrylint.Layer) { l.Immediate = 2 })}, "immediate-more-than-once wrong"},
		{[]retrylint.Layer{change(func(l *retrylint.Layer) { l.Immediate = 1 })}, "immediate-on-reconnect doubt"},
		{[]retrylint.Layer{change(func(l *retrylint.Layer) { l.Interval = "regular" })}, "regular-interval wrong"},
		{[]retrylint.Layer{change(func(l *retrylint.Layer) { l.Jitter = "none" })}, "synchronised-clients wrong"},
		{[]retrylint.Layer{change(func(l *retrylint.Layer) { l.Jitter = "±5%" })}, "synchronised-clients doubt"},
		{[]retrylint.Layer{change(func(l *retrylint.Layer) { l.Interval, l.Jitter = "decorrelated", "" })}, ""},
		{[]retrylint.Layer{change(func(l *retrylint.Layer) { l.Cap = 0 })}, "no-cap doubt"},
		{[]retrylint.Layer{change(func(l *retrylint.Layer) { l.Dormant = 0 })}, "gives-up doubt"},
		{[]retrylint.Layer{change(func(l *retrylint.Layer) { l.RetryAfter = false })}, "ignores-retry-after doubt"},
		{[]retrylint.Layer{{Interval: "regular", Base: 3 * s, Immediate: 3}, {Preset: "azure-iot-device-net"}},
			"endless-retry wrong, endless-retry wrong, ignores-retry-after doubt, ignores-retry-after doubt, immediate-more-than-once wrong, regular-interval wrong, stacked-layers wrong, synchronised-clients doubt, synchronised-clients wrong"},
	} {
		if got := rules(checked(t, c.layers...)); got != c.want {
			t.Errorf("%+v\n   is %s\n  not %s", c.layers, got, c.want)
		}
	}
}

func TestFaultsOfAPlanAreTold(t *testing.T) {
	for _, l := range []retrylint.Layer{
		{}, {Preset: "nobody"}, {Interval: "exponential"}, {Interval: "sometimes", Base: s}, {Interval: "regular", Base: s, Jitter: "much"},
		{Interval: "regular", Base: s, Jitter: "200%"}, {Interval: "exponential", Base: 2 * s, Cap: s}, {Interval: "regular", Base: s, Attempts: -1},
	} {
		if _, err := (retrylint.Plan{Layers: []retrylint.Layer{l}}).Check(); !problem.Is(err, problem.Invalid) {
			t.Errorf("%+v: %v", l, err)
		}
	}
	if _, err := (retrylint.Plan{}).Check(); !problem.Is(err, problem.Invalid) {
		t.Errorf("no layers: %v", err)
	}
}

// TestHerdsBehaveAsMeasured holds the model against what was found once with
// another: an outage of 30 s, and 100 s that admitting all takes at best. There
// they were 100,000 clients; a fifth of them behaves alike.
func TestHerdsBehaveAsMeasured(t *testing.T) {
	layer := func(interval, jitter string, base, top retrylint.Duration) retrylint.Layer {
		return retrylint.Layer{Interval: interval, Jitter: jitter, Base: base, Cap: top}
	}
	near := func(got retrylint.Duration, want float64) bool {
		return time.Duration(got).Seconds() > 0.8*want && time.Duration(got).Seconds() < 1.25*want
	}
	for _, c := range []struct {
		layer          retrylint.Layer
		p99, attempts  float64 // p99 0: not within the horizon
		peakMore, less int
	}{
		{layer("regular", "none", 3*s, 0), 294, 60, 19_999, 20_001},
		{layer("exponential", "equal", s, 5*m), 197, 7.1, 800, 1800},
		{layer("exponential", "full", s, 5*m), 239, 7.3, 600, 1200},
		{layer("decorrelated", "", s, 5*m), 155, 9.3, 1200, 2800},
		{layer("exponential", "none", s, 5*m), 0, 0, 19_999, 20_001},
	} {
		o := retrylint.Run(checked(t, c.layer), retrylint.Herd{Clients: 20_000, Outage: 30 * time.Second, Admits: 200, Seed: 7})
		name := fmt.Sprintf("%s %s: %+v", c.layer.Interval, c.layer.Jitter, o)
		switch {
		case c.p99 == 0:
			if o.P99 >= 0 || o.Away == 0 {
				t.Errorf("%s: the herd dispersed", name)
			}
		case !near(o.P99, c.p99) || o.Attempts < 0.7*c.attempts || o.Attempts > 1.4*c.attempts:
			t.Errorf("%s: p99 is not %g s, or attempts not %g", name, c.p99, c.attempts)
		}
		if o.Peak < c.peakMore || o.Peak > c.less {
			t.Errorf("%s: the peak is not %d to %d", name, c.peakMore, c.less)
		}
	}
}
