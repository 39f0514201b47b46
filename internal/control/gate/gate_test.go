package gate_test

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

var now = at("2026-11-18T12:00:00Z")

func result(verdict gate.Verdict, key bool) gate.Result {
	return gate.Result{Gate: string(verdict), Verdict: verdict, Key: key, Samples: 1, Reason: "so"}
}

func TestWhatFailsIsWhatIsSaid(t *testing.T) {
	named := func(name string, v gate.Verdict, key bool) gate.Result {
		r := result(v, key)
		r.Gate, r.Reason = name, "because"
		return r
	}
	all := []gate.Result{named("a", gate.Fail, true), named("b", gate.Pending, true), named("c", gate.Warn, true), named("d", gate.Error, false), named("e", gate.Pass, true)}
	if verdict, reasons := gate.Combine(all, false); verdict != gate.Fail || !slices.Equal(reasons, []string{"a: because"}) {
		t.Errorf("%s: %q", verdict, reasons)
	}
	if verdict, reasons := gate.Combine(all[1:], false); verdict != gate.Pending || !slices.Equal(reasons, []string{"b: because"}) {
		t.Errorf("%s: %q", verdict, reasons)
	}
	if verdict, reasons := gate.Combine(all[2:], false); verdict != gate.Warn || !slices.Equal(reasons, []string{"c: because", "d: because"}) {
		t.Errorf("%s: %q", verdict, reasons)
	}
	if stopping := gate.Stopping(all); len(stopping) != 2 {
		t.Errorf("%+v stop", stopping)
	}
}

func TestCombine(t *testing.T) {
	of := func(all ...gate.Result) []gate.Result { return all }
	empty := result(gate.Pass, true)
	empty.Samples = 0
	for name, c := range map[string]struct {
		results []gate.Result
		first   bool
		want    gate.Verdict
	}{
		"none, into an environment further on":  {nil, false, gate.Fail},
		"none, into the first of a path":        {nil, true, gate.Pass},
		"all pass":                              {of(result(gate.Pass, false), result(gate.Pass, true)), false, gate.Pass},
		"one that is key fails":                 {of(result(gate.Pass, true), result(gate.Fail, true)), false, gate.Fail},
		"one that is not key fails":             {of(result(gate.Pass, true), result(gate.Fail, false)), false, gate.Warn},
		"none is key, so all are":               {of(result(gate.Pass, false), result(gate.Fail, false)), false, gate.Fail},
		"an error is no success":                {of(result(gate.Pass, true), result(gate.Error, true)), false, gate.Error},
		"nor is too little":                     {of(result(gate.Inconclusive, true), result(gate.Pending, true)), false, gate.Inconclusive},
		"what waits":                            {of(result(gate.Pass, true), result(gate.Pending, true)), false, gate.Pending},
		"a warning":                             {of(result(gate.Pass, true), result(gate.Warn, true)), false, gate.Warn},
		"somebody took it upon themselves":      {of(result(gate.Waived, true), result(gate.Pass, true)), false, gate.Pass},
		"the worst counts, whatever its place":  {of(result(gate.Fail, true), result(gate.Error, true), result(gate.Pending, true)), false, gate.Fail},
		"a pass without samples":                {of(empty), false, gate.Inconclusive},
		"a verdict that nobody knows":           {of(result("fine", true)), false, gate.Error},
		"the first environment may have gates":  {of(result(gate.Fail, true)), true, gate.Fail},
		"an unknown one beside a failed one":    {of(result("fine", true), result(gate.Fail, true)), false, gate.Fail},
		"no verdict at all, of one that is not": {of(result("", false), result(gate.Pass, true)), false, gate.Warn},
	} {
		got, reasons := gate.Combine(c.results, c.first)
		if got != c.want {
			t.Errorf("%s: %s, not %s", name, got, c.want)
		}
		if got != gate.Pass && len(reasons) == 0 {
			t.Errorf("%s: %s without a reason", name, got)
		}
	}
}

// TestCombineIsNoBetterThanItsWorstKey takes results at random.
func TestCombineIsNoBetterThanItsWorstKey(t *testing.T) {
	all := []gate.Verdict{gate.Pass, gate.Warn, gate.Fail, gate.Inconclusive, gate.Error, gate.Waived, gate.Pending, "", "odd"}
	rapid.Check(t, func(t *rapid.T) {
		var results []gate.Result
		anyKey, blocked := false, false
		for range rapid.IntRange(1, 6).Draw(t, "gates") {
			r := result(rapid.SampledFrom(all).Draw(t, "verdict"), rapid.Bool().Draw(t, "key"))
			r.Samples = rapid.Int64Range(-1, 2).Draw(t, "samples")
			if rapid.Bool().Draw(t, "valued") {
				v := number(t, "value")
				r.Value = &v
			}
			results = append(results, r)
			anyKey = anyKey || r.Key
		}
		for _, r := range results {
			unsound := r.Verdict == gate.Pass && r.Samples <= 0 || (r.Verdict == gate.Pass || r.Verdict == gate.Warn) && r.Value != nil && odd(*r.Value)
			blocked = blocked || (r.Key || !anyKey) && (unsound || !r.Verdict.Lets())
		}
		got, _ := gate.Combine(results, false)
		if got.Lets() == blocked {
			t.Fatalf("%s from %+v", got, results)
		}
	})
}

func number(t *rapid.T, label string) float64 {
	return rapid.OneOf(rapid.Float64Range(-10, 10), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, math.MaxFloat64})).Draw(t, label)
}

func odd(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }

// TestNothingPassesWithoutEvidence gives every kind of gate no samples, or
// values that are no numbers, whatever else is declared and seen.
func TestNothingPassesWithoutEvidence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		onNoData := rapid.SampledFrom([]resource.NoData{"", resource.NoDataInconclusive, resource.NoDataFail, resource.NoDataPass}).Draw(t, "onNoData")
		low, high := rapid.Float64Range(-10, 10).Draw(t, "min"), rapid.Float64Range(-10, 10).Draw(t, "max")
		promql := resource.PromQLGate{Min: &low, Max: &high, MinSamples: rapid.IntRange(0, 5).Draw(t, "minSamples"), Consecutive: rapid.IntRange(0, 5).Draw(t, "consecutive"), OnNoData: onNoData}
		if rapid.Bool().Draw(t, "open") {
			promql.Min = nil
		}
		values := rapid.SliceOfN(rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1)}), 0, 8).Draw(t, "values")
		results := map[string]gate.Result{
			"promql without series":                            gate.WithinBounds(promql),
			"promql of no numbers":                             gate.WithinBounds(promql, values),
			"promql of one that has none beside one that does": gate.WithinBounds(promql, []float64{1, 2, 3}, values),
			"slo":       gate.Burn(resource.SLOGate{Objective: 0.99, OnNoData: onNoData, MinSamples: rapid.IntRange(0, 9).Draw(t, "least")}, 1, 0, 0, 0, 0),
			"tests":     gate.Settled(gate.Tested(now, resource.TestsGate{MinTests: rapid.IntRange(0, 3).Draw(t, "minTests")}, suites(t))),
			"approvals": gate.Settled(gate.Agreed(resource.ApprovalsGate{Count: rapid.IntRange(0, 3).Draw(t, "count")}, gate.Subject{Requester: "ann"}, []gate.Approval{{Person: "ann", Approves: true}})),
			"soak":      gate.Settled(gate.Soak(now, resource.SoakGate{For: "1s"}, unwell(t))),
			"devices":   gate.Settled(gate.HeldBy(resource.DevicesGate{}, gate.Result{}, "test", 0, 0)),
			"sbom":      gate.Clean(now, 0, nil),
		}
		for name, r := range results {
			warned := onNoData == resource.NoDataPass && r.Verdict == gate.Warn && strings.Contains(r.Reason, "onNoData")
			if r.Verdict.Lets() && !warned {
				t.Fatalf("%s: %+v", name, r)
			}
			if r.Reason == "" {
				t.Fatalf("%s: %s without a reason", name, r.Verdict)
			}
			if _, err := json.Marshal(r); err != nil {
				t.Fatalf("%s: %s", name, err)
			}
		}
		if slices.ContainsFunc(values, odd) && results["promql of no numbers"].Verdict.Lets() {
			t.Fatal("values that are no numbers are not the same as no data")
		}
	})
}

// suites are results of test suites in which nothing ran.
func suites(t *rapid.T) (all []gate.TestResult) {
	for i := range rapid.IntRange(0, 3).Draw(t, "suites") {
		all = append(all, gate.TestResult{Suite: fmt.Sprintf("s%d", i), UploadedAt: now, Summary: gate.Summary{Skipped: rapid.IntRange(0, 9).Draw(t, "skipped")}})
	}
	return all
}

// unwell is a release that never ran well after it was verified.
func unwell(t *rapid.T) gate.Subject {
	s := gate.Subject{Upstream: "test"}
	verified := now.Add(-time.Hour)
	if rapid.Bool().Draw(t, "verified") {
		s.VerifiedAt = &verified
		s.Ran = []gate.Stretch{{From: now.Add(-9 * time.Hour), To: verified, Healthy: true}, {From: verified, Healthy: false}}
	} else {
		s.Ran = []gate.Stretch{{From: now.Add(-9 * time.Hour), Healthy: true}}
	}
	return s
}

func ptr[T any](v T) *T { return &v }

func TestPromQLVerdicts(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for name, c := range map[string]struct {
		gate   resource.PromQLGate
		values [][]float64
		want   gate.Verdict
	}{
		"all well":                       {resource.PromQLGate{Max: ptr(1.0)}, [][]float64{{0, 0.5, 1}}, gate.Pass},
		"one is not":                     {resource.PromQLGate{Max: ptr(1.0)}, [][]float64{{0, 1.5, 1}}, gate.Fail},
		"one was not, before the last":   {resource.PromQLGate{Max: ptr(1.0), Consecutive: 2}, [][]float64{{1.5, 0, 1}}, gate.Pass},
		"the last is not":                {resource.PromQLGate{Max: ptr(1.0), Consecutive: 1}, [][]float64{{0, 0, 2}}, gate.Fail},
		"one series of two is not":       {resource.PromQLGate{Min: ptr(0.9)}, [][]float64{{1, 1}, {1, 0.5}}, gate.Fail},
		"infinity is not above a bound":  {resource.PromQLGate{Min: ptr(0.95)}, [][]float64{{inf}}, gate.Inconclusive},
		"the last is no number":          {resource.PromQLGate{Max: ptr(1.0), Consecutive: 1}, [][]float64{{0, 0, nan}}, gate.Inconclusive},
		"one before the last is none":    {resource.PromQLGate{Max: ptr(1.0), Consecutive: 2}, [][]float64{{nan, 0, 0}}, gate.Pass},
		"too few":                        {resource.PromQLGate{Max: ptr(1.0), MinSamples: 3}, [][]float64{{0, 0}}, gate.Inconclusive},
		"too few, which is to fail":      {resource.PromQLGate{Max: ptr(1.0), MinSamples: 3, OnNoData: resource.NoDataFail}, [][]float64{{0, 0}}, gate.Fail},
		"none, which is to pass":         {resource.PromQLGate{Max: ptr(1.0), OnNoData: resource.NoDataPass}, nil, gate.Warn},
		"too few and bad, even to pass":  {resource.PromQLGate{Max: ptr(1.0), MinSamples: 3, OnNoData: resource.NoDataPass}, [][]float64{{0, 2}}, gate.Inconclusive},
		"too few and odd, even to pass":  {resource.PromQLGate{Max: ptr(1.0), MinSamples: 3, OnNoData: resource.NoDataPass}, [][]float64{{nan, 0}}, gate.Inconclusive},
		"a bad one beside one of no sum": {resource.PromQLGate{Max: ptr(1.0)}, [][]float64{{2, nan}}, gate.Fail},
	} {
		if got := gate.WithinBounds(c.gate, c.values...); got.Verdict != c.want {
			t.Errorf("%s: %s, not %s: %s", name, got.Verdict, c.want, got.Reason)
		}
	}
}

func TestBurnVerdicts(t *testing.T) {
	slo := resource.SLOGate{Objective: 0.99, MinSamples: 100}
	for name, c := range map[string]struct {
		short, long [2]float64
		want        gate.Verdict
	}{
		"within the budget":          {[2]float64{999, 1000}, [2]float64{9990, 10_000}, gate.Pass},
		"over it in both":            {[2]float64{900, 1000}, [2]float64{9000, 10_000}, gate.Fail},
		"for a moment":               {[2]float64{900, 1000}, [2]float64{9990, 10_000}, gate.Inconclusive},
		"in the past":                {[2]float64{1000, 1000}, [2]float64{9000, 10_000}, gate.Pending},
		"nothing in the short one":   {[2]float64{0, 0}, [2]float64{10_000, 10_000}, gate.Inconclusive},
		"too few":                    {[2]float64{50, 50}, [2]float64{99, 99}, gate.Inconclusive},
		"none succeeded":             {[2]float64{0, 1000}, [2]float64{0, 10_000}, gate.Fail},
		"more good than there were":  {[2]float64{1001, 1000}, [2]float64{10_001, 10_000}, gate.Pass},
		"exactly what the budget is": {[2]float64{990, 1000}, [2]float64{9900, 10_000}, gate.Pass},
	} {
		if got := gate.Burn(slo, 1.0000001, c.short[0], c.short[1], c.long[0], c.long[1]); got.Verdict != c.want {
			t.Errorf("%s: %s, not %s: %s", name, got.Verdict, c.want, got.Reason)
		}
	}
}

func TestSoak(t *testing.T) {
	hours := func(n float64) time.Time { return now.Add(-time.Duration(n * float64(time.Hour))) }
	for name, c := range map[string]struct {
		s    gate.Subject
		want gate.Verdict
		next time.Time
	}{
		"long enough":                       {gate.Subject{VerifiedAt: ptr(hours(3)), Ran: []gate.Stretch{{From: hours(5), Healthy: true}}}, gate.Pass, time.Time{}},
		"it began before its verification":  {gate.Subject{VerifiedAt: ptr(hours(1)), Ran: []gate.Stretch{{From: hours(5), Healthy: true}}}, gate.Pending, hours(-1)},
		"never verified":                    {gate.Subject{Ran: []gate.Stretch{{From: hours(5), Healthy: true}}}, gate.Pending, time.Time{}},
		"unhealthy in between":              {gate.Subject{VerifiedAt: ptr(hours(3)), Ran: []gate.Stretch{{From: hours(3), To: hours(2.5), Healthy: true}, {From: hours(2.5), To: hours(1)}, {From: hours(1), Healthy: true}}}, gate.Pending, hours(-0.5)},
		"looked at a moment ago":            {gate.Subject{VerifiedAt: ptr(hours(3)), Ran: []gate.Stretch{{From: hours(1), To: now.Add(-10 * time.Second), Healthy: true}}}, gate.Pending, hours(-1).Add(10 * time.Second)},
		"unhealthy a moment ago":            {gate.Subject{VerifiedAt: ptr(hours(3)), Ran: []gate.Stretch{{From: hours(1), To: now.Add(-20 * time.Second), Healthy: true}, {From: now.Add(-10 * time.Second), To: now.Add(-5 * time.Second)}}}, gate.Pending, time.Time{}},
		"unhealthy now":                     {gate.Subject{VerifiedAt: ptr(hours(3)), Ran: []gate.Stretch{{From: hours(3), To: hours(2), Healthy: true}, {From: hours(2)}}}, gate.Pending, time.Time{}},
		"enough before it left":             {gate.Subject{VerifiedAt: ptr(hours(9)), Ran: []gate.Stretch{{From: hours(9), To: hours(6), Healthy: true}}}, gate.Pass, time.Time{}},
		"told twice, which counts but once": {gate.Subject{VerifiedAt: ptr(hours(1.5)), Ran: []gate.Stretch{{From: hours(5), Healthy: true}, {From: hours(5), Healthy: true}}}, gate.Pending, hours(-0.5)},
		"nothing to run in":                 {gate.Subject{Environment: "dev", VerifiedAt: ptr(hours(9)), Upstream: "-"}, gate.Fail, time.Time{}},
	} {
		if c.s.Upstream = strings.TrimPrefix("test"+c.s.Upstream, "test-"); c.s.Upstream == "" {
			c.s.Ran = []gate.Stretch{{From: hours(9), Healthy: true}}
		}
		got := gate.Soak(now, resource.SoakGate{For: "2h"}, c.s)
		next := time.Time{}
		if got.Next != nil {
			next = *got.Next
		}
		if got.Verdict != c.want || !next.Equal(c.next) {
			t.Errorf("%s: %s until %s: %s", name, got.Verdict, next, got.Reason)
		}
	}
}

// TestSoakCountsEachHealthyMinuteOnce counts minute by minute beside it.
func TestSoakCountsEachHealthyMinuteOnce(t *testing.T) {
	minute := func(n int) time.Time { return now.Add(time.Duration(n-600) * time.Minute) }
	rapid.Check(t, func(t *rapid.T) {
		s := gate.Subject{Upstream: "test", VerifiedAt: ptr(minute(rapid.IntRange(0, 600).Draw(t, "verified")))}
		counts, want := map[int]bool{}, 0
		for range rapid.IntRange(0, 5).Draw(t, "stretches") {
			from := rapid.IntRange(0, 600).Draw(t, "from")
			to := rapid.IntRange(from, 700).Draw(t, "to")
			one := gate.Stretch{From: minute(from), To: minute(to), Healthy: rapid.Bool().Draw(t, "healthy")}
			if rapid.Bool().Draw(t, "lasts") {
				one.To, to = time.Time{}, 600
			}
			s.Ran = append(s.Ran, one)
			for m := from; one.Healthy && m < min(to, 600); m++ {
				counts[m] = true
			}
		}
		for m := range counts {
			if !minute(m).Before(*s.VerifiedAt) {
				want++
			}
		}
		got := gate.Soak(now, resource.SoakGate{For: "100m"}, s)
		if *got.Value != float64(60*want) || (got.Verdict == gate.Pass) != (want >= 100) {
			t.Fatalf("%d minutes count, and it says %+v", want, got)
		}
	})
}

func TestAgreed(t *testing.T) {
	yes := func(person string) gate.Approval {
		return gate.Approval{Person: person, Approves: true, Reason: "fine"}
	}
	no := func(person string) gate.Approval { return gate.Approval{Person: person, Reason: "not yet"} }
	taken := yes("bob")
	taken.WithdrawnAt = &now
	for name, c := range map[string]struct {
		gate resource.ApprovalsGate
		said []gate.Approval
		want gate.Verdict
	}{
		"nobody":                        {resource.ApprovalsGate{}, nil, gate.Pending},
		"who asked for it":              {resource.ApprovalsGate{}, []gate.Approval{yes("ann")}, gate.Pending},
		"somebody else":                 {resource.ApprovalsGate{}, []gate.Approval{yes("bob")}, gate.Pass},
		"one person twice":              {resource.ApprovalsGate{Count: 2}, []gate.Approval{yes("bob"), yes("bob")}, gate.Pending},
		"two people":                    {resource.ApprovalsGate{Count: 2}, []gate.Approval{yes("bob"), yes("eve")}, gate.Pass},
		"one whose word does not count": {resource.ApprovalsGate{From: []string{"eve", "ann"}}, []gate.Approval{yes("bob")}, gate.Pending},
		"one took it back":              {resource.ApprovalsGate{}, []gate.Approval{taken}, gate.Pending},
		"one is against it":             {resource.ApprovalsGate{}, []gate.Approval{yes("bob"), no("eve")}, gate.Fail},
		"who asked is against it":       {resource.ApprovalsGate{}, []gate.Approval{yes("bob"), no("ann")}, gate.Fail},
		"one is against it who may not": {resource.ApprovalsGate{From: []string{"bob"}}, []gate.Approval{yes("bob"), no("eve")}, gate.Pass},
	} {
		if got := gate.Agreed(c.gate, gate.Subject{Requester: "ann"}, c.said); got.Verdict != c.want {
			t.Errorf("%s: %s, not %s: %s", name, got.Verdict, c.want, got.Reason)
		}
	}
}

func TestWaveVerdict(t *testing.T) {
	policy, err := resource.WaveHealth{MaxFailures: 0.05}.Check()
	if err != nil {
		t.Fatal(err)
	}
	census := func(updated, pending, failed, back int64) link.UpdateCensus {
		return link.UpdateCensus{Updated: updated, Pending: pending, Failed: failed, RolledBack: back}
	}
	wave := func(c link.UpdateCensus) link.Progress {
		return link.Progress{WaveOnly: c, Reached: c, Complete: true}
	}
	models := wave(census(95, 0, 3, 0))
	models.ByHardware = map[string]link.UpdateCensus{"a": census(95, 0, 0, 0), "b": census(0, 0, 3, 0)}
	alone := wave(census(96, 0, 1, 0))
	alone.ByHardware = map[string]link.UpdateCensus{"a": census(96, 0, 0, 0), "b": census(0, 0, 1, 0)}
	before := wave(census(20, 0, 0, 0))
	before.Reached = census(40, 0, 8, 0)
	part := wave(census(0, 0, 1, 0))
	part.Complete = false
	unreachable := wave(link.UpdateCensus{Unreachable: 5, Exempt: 5})
	same := wave(link.UpdateCensus{})
	same.Reached = census(3, 0, 0, 0)
	for name, c := range map[string]struct {
		progress link.Progress
		late     bool
		want     gate.Verdict
		reason   string
	}{
		"the devices of the wave before":     {same, false, gate.Pass, "no device that the waves before have not; 3 tried"},
		"all well":                           {wave(census(100, 0, 0, 0)), false, gate.Pass, "100 devices tried and 0 failed"},
		"a few failed":                       {wave(census(97, 0, 2, 1)), false, gate.Pass, "3 failed"},
		"too many failed":                    {wave(census(80, 0, 10, 10)), false, gate.Fail, "20 failed"},
		"too many of those so far":           {wave(census(8, 100, 1, 1)), false, gate.Fail, "the wave"},
		"one failed of two so far":           {wave(census(1, 100, 1, 0)), false, gate.Pending, "100 devices have not"},
		"still under way":                    {wave(census(50, 50, 0, 0)), false, gate.Pending, "50 devices have not"},
		"silent at the deadline":             {wave(census(50, 50, 0, 0)), true, gate.Fail, "50 of them had said nothing"},
		"a few silent at the deadline":       {wave(census(98, 2, 0, 0)), true, gate.Pass, "2 failed"},
		"a wave of one that fails":           {wave(census(0, 0, 1, 0)), false, gate.Fail, "100 %"},
		"a wave of two that go well":         {wave(census(2, 0, 0, 0)), false, gate.Pass, "2 devices"},
		"one kind of hardware fails":         {models, false, gate.Fail, "hardware b"},
		"one device of a kind condemns none": {alone, false, gate.Pass, "1 failed"},
		"the waves before hurt by now":       {before, false, gate.Fail, "all waves so far"},
		"not every device is known":          {part, false, gate.Pending, "has not looked"},
		"nobody could try":                   {unreachable, true, gate.Inconclusive, "out of reach"},
		"nobody is there":                    {wave(link.UpdateCensus{}), false, gate.Inconclusive, "no device"},
		"no word yet":                        {link.Progress{}, false, gate.Pending, "has not looked"},
	} {
		w := gate.Wave{Deadline: now.Add(time.Hour), Progress: c.progress}
		if c.late {
			w.Deadline = now
		}
		got := gate.WaveVerdict(now, policy, w)[0]
		if got.Verdict != c.want || !strings.Contains(got.Reason, c.reason) {
			t.Errorf("%s: %s, not %s: %s", name, got.Verdict, c.want, got.Reason)
		}
	}
}

// TestWavesPassOnEvidenceAlone takes censuses at random.
func TestWavesPassOnEvidenceAlone(t *testing.T) {
	draw := func(t *rapid.T, label string) link.UpdateCensus {
		n := rapid.Int64Range(0, 30)
		return link.UpdateCensus{
			Updated: n.Draw(t, label+" updated"), Pending: n.Draw(t, label+" pending"), Failed: n.Draw(t, label+" failed"),
			RolledBack: n.Draw(t, label+" back"), Unreachable: n.Draw(t, label+" away"), Exempt: n.Draw(t, label+" exempt"),
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		policy, err := resource.WaveHealth{MaxFailures: rapid.Float64Range(0, 0.9).Draw(t, "max"), MinDevices: rapid.Int64Range(0, 20).Draw(t, "least")}.Check()
		if err != nil {
			t.Fatal(err)
		}
		w := gate.Wave{Deadline: now.Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, "late")) * time.Hour)}
		w.Progress = link.Progress{Complete: rapid.Bool().Draw(t, "complete"), WaveOnly: draw(t, "wave"), Reached: draw(t, "all"), ByHardware: map[string]link.UpdateCensus{"a": draw(t, "a")}}
		got := gate.WaveVerdict(now, policy, w)[0]
		c := w.Progress.WaveOnly
		if c.Attempted()+c.Pending+c.Unreachable == 0 {
			c = w.Progress.Reached // the wave is of no device that was not reached before
			c.Pending = 0
		}
		tried, failed := c.Attempted(), c.Failures()
		if !now.Before(w.Deadline) {
			tried, failed = tried+c.Pending, failed+c.Pending
		}
		if got.Verdict == gate.Pass && (tried == 0 || float64(failed) > policy.MaxFailures*float64(tried) || !w.Progress.Complete) {
			t.Fatalf("%+v of %+v", got, w)
		}
		if tried >= policy.MinDevices && float64(failed) > policy.MaxFailures*float64(tried)+1e-9 && got.Verdict != gate.Fail {
			t.Fatalf("%+v of %+v", got, w)
		}
	})
}
