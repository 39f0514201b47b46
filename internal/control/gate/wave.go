package gate

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// The kinds of what is judged while a wave runs.
const (
	KindFailures   = "failures"
	KindComparison = "comparison"
)

// Wave is what is so of a wave of a rollout on one stamp.
type Wave struct {
	Deadline time.Time     // by when each device must have said how it went; zero is never
	Progress link.Progress // as the stamp last told, of this wave
	// Compared is how updated devices did beside the others so far, each
	// Progress taken in by Compared.Next.
	Compared Comparison
}

// WaveVerdict is what is to be made of a wave: fail stops it, pass lets the
// next one begin, pending waits. Policy comes with its defaults, from Check.
func WaveVerdict(now time.Time, policy resource.WaveHealth, w Wave) []Result {
	results := []Result{failures(now, policy, w)}
	if policy.Compare != nil {
		results = append(results, compared(*policy.Compare, w.Compared))
	}
	for i := range results {
		results[i].At, results[i].Evaluator, results[i].Key = now, evaluator, true
		results[i] = settled(results[i])
	}
	return results
}

// group is some of a wave's devices, of which too many may have failed.
type group struct {
	name            string
	tried, failed   int64
	least, atLeast  int64 // how many must have tried, and failed
	devices, silent int64
	whole           bool // every device of it is known
}

// failures holds the devices that failed against those that tried, in the
// wave, in all it reached so far, and in each kind of hardware: a release that
// fails on one kind alone is lost in the whole.
func failures(now time.Time, policy resource.WaveHealth, w Wave) Result {
	r := Result{Gate: "wave", Kind: KindFailures, Threshold: fmt.Sprintf("at most %s failed", percent(policy.MaxFailures))}
	late := !w.Deadline.IsZero() && !now.Before(w.Deadline)
	groups := []group{groupOf("the wave", w.Progress.WaveOnly, late, policy.MinDevices, 1), groupOf("all waves so far", w.Progress.Reached, late, policy.MinDevices, 1)}
	for _, model := range slices.Sorted(maps.Keys(w.Progress.ByHardware)) {
		groups = append(groups, groupOf("hardware "+model, w.Progress.ByHardware[model], late, policy.MinPerHardware, 2))
	}
	for i := range groups {
		groups[i].whole = w.Progress.Complete
	}
	wave := groups[0]
	if r.Samples = wave.tried; nothingNew(w.Progress) {
		r.Samples = w.Progress.Reached.Attempted()
	}
	if wave.tried > 0 {
		ratio := float64(wave.failed) / float64(wave.tried)
		r.Value = &ratio
	}
	for _, g := range groups {
		if ratio := float64(g.failed) / float64(max(g.tried, 1)); g.tried >= g.enough() && g.failed >= g.atLeast && ratio > policy.MaxFailures {
			r.Verdict, r.Samples, r.Value = Fail, g.tried, &ratio
			r.Reason = fmt.Sprintf("of %s %d devices tried and %d failed, which is %s", g.name, g.tried, g.failed, percent(ratio))
			if g.silent > 0 {
				r.Reason += fmt.Sprintf("; %d of them had said nothing by the deadline", g.silent)
			}
			return r
		}
	}
	r.Verdict, r.Reason = unfailed(w, wave, late)
	if r.Verdict == Pending && !w.Deadline.IsZero() {
		r.Next = &w.Deadline
	}
	return r
}

// nothingNew reports whether a wave reaches no device that could try and that no
// wave before it has reached: a share of few devices may be the same few.
func nothingNew(p link.Progress) bool {
	return p.Complete && p.WaveOnly.Attempted()+p.WaveOnly.Pending+p.WaveOnly.Unreachable == 0
}

// unfailed is the verdict on a wave in which not too many have failed.
func unfailed(w Wave, wave group, late bool) (Verdict, string) {
	switch pending := w.Progress.WaveOnly.Pending; {
	case !w.Progress.Complete:
		return Pending, "the stamp has not looked at every device yet"
	case nothingNew(w.Progress) && w.Progress.Reached.Attempted() > 0:
		return Pass, fmt.Sprintf("it reaches no device that the waves before have not; %d tried so far", w.Progress.Reached.Attempted())
	case wave.tried >= max(wave.least, 1) && (pending == 0 || late), wave.tried > 0 && wave.tried >= wave.devices:
		return Pass, fmt.Sprintf("%d devices tried and %d failed", wave.tried, wave.failed)
	case pending > 0 && !late:
		return Pending, fmt.Sprintf("%d devices have not come to an end yet, and %d have", pending, wave.tried)
	case wave.devices == 0:
		return Inconclusive, "no device of the wave could try: they are out of reach, or the release has nothing for them"
	}
	return Inconclusive, fmt.Sprintf("%d devices tried, and a verdict needs %d", wave.tried, wave.least)
}

// groupOf counts those as failed that have said nothing by the deadline.
func groupOf(name string, c link.UpdateCensus, late bool, least, atLeast int64) group {
	g := group{name: name, tried: c.Attempted(), failed: c.Failures(), least: least, atLeast: atLeast, devices: c.Attempted() + c.Pending}
	if late {
		g.silent = c.Pending
		g.tried, g.failed = g.tried+c.Pending, g.failed+c.Pending
	}
	return g
}

// enough is how many must have tried: a group smaller than the least is judged
// once all of it has.
func (g group) enough() int64 {
	if !g.whole {
		return max(1, g.least)
	}
	return max(1, min(g.least, g.devices))
}

func percent(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) }

// alarm is the logarithm of the e-value beyond which a comparison alarms. Three
// questions are asked at once, so each may use up a third of alpha.
func alarm(policy resource.Comparison) float64 { return math.Log(3 / policy.Alpha) }

// compared is the verdict of the comparison so far.
func compared(policy resource.Comparison, c Comparison) Result {
	r := Result{Gate: "comparison", Kind: KindComparison, Samples: c.Updated.Reconnects + c.Others.Reconnects + c.Updated.Messages + c.Others.Messages}
	r.Threshold = fmt.Sprintf("evidence at most %.1f", alarm(policy))
	worst, found := c.worst()
	r.Value = &found
	watched := min(c.Updated.DeviceSeconds, c.Others.DeviceSeconds)
	switch {
	case found > alarm(policy):
		mine, rest := hourly(worst.count(c.Updated), c.Updated), hourly(worst.count(c.Others), c.Others)
		r.Verdict, r.Reason = Fail, fmt.Sprintf("updated devices %s than is tolerated: %.3g an hour each, the others %.3g", worst.what, mine, rest)
	case watched < policy.MinDeviceSeconds:
		return noData(r, policy.OnNoData, fmt.Sprintf("updated devices were watched for %.0f seconds of devices and the others for %.0f, and a verdict needs %.0f", c.Updated.DeviceSeconds, c.Others.DeviceSeconds, policy.MinDeviceSeconds))
	case r.Samples == 0:
		return noData(r, policy.OnNoData, "no device reconnected or sent anything")
	default:
		r.Verdict, r.Reason = Pass, fmt.Sprintf("updated devices do as the others: they reconnect %.3g times an hour each, the others %.3g", hourly(c.Updated.Reconnects, c.Updated), hourly(c.Others.Reconnects, c.Others))
	}
	return r
}

func hourly(n int64, h link.Health) float64 { return 3600 * float64(n) / max(h.DeviceSeconds, 1) }

// noData is the verdict where there was nothing to judge by, as it is declared.
func noData(r Result, means resource.NoData, reason string) Result {
	r.Reason = reason
	switch means {
	case resource.NoDataFail:
		r.Verdict = Fail
	case resource.NoDataPass:
		r.Verdict, r.Reason = Warn, reason+"; onNoData lets that through"
	default:
		r.Verdict = Inconclusive
	}
	return r
}
