package gate_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// rollout simulates how a stamp's devices reconnect while a rollout goes
// through its waves, looked at every minute.
type rollout struct {
	devices float64
	rate    float64                  // reconnects of a device in a second
	ratio   float64                  // of the updated devices' rate to the others'
	storm   func(minute int) float64 // how many times as often everybody reconnects
	share   func(minute int) float64 // of the devices that are updated
	looks   int                      // minutes
	policy  resource.Comparison
}

// run reports whether and after how many reconnects it was stopped.
func (s rollout) run(seed uint64) (stopped bool, reconnects int64) {
	random := rand.New(rand.NewPCG(seed, 7))
	var c gate.Comparison
	var updated, others link.Health
	for minute := range s.looks {
		share := s.share(minute)
		pass := func(h *link.Health, devices, ratio float64) {
			seconds := devices * 60
			h.Devices, h.DeviceSeconds = int64(devices), h.DeviceSeconds+seconds
			h.Reconnects += poisson(random, seconds*s.rate*ratio*s.storm(minute))
		}
		pass(&updated, s.devices*share, s.ratio)
		pass(&others, s.devices*(1-share), 1)
		c = c.Next(s.policy, updated, others)
		if gate.Alarms(s.policy, c) {
			return true, updated.Reconnects + others.Reconnects
		}
	}
	return false, updated.Reconnects + others.Reconnects
}

func comparisonOf(policy resource.Comparison, c gate.Comparison) gate.Result {
	results := gate.WaveVerdict(time.Now(), resource.WaveHealth{Compare: &policy, MinDevices: 1, MinPerHardware: 1}, gate.Wave{Compared: c})
	return results[1]
}

// poisson draws a count; beyond small means the normal law is near enough.
func poisson(random *rand.Rand, mean float64) (n int64) {
	if mean > 200 {
		return max(0, int64(math.Round(mean+math.Sqrt(mean)*random.NormFloat64())))
	}
	for left := random.ExpFloat64(); left < mean; left += random.ExpFloat64() {
		n++
	}
	return n
}

func waves(minute int) float64 { return []float64{0.01, 0.1, 0.5, 0.9}[min(minute/120, 3)] }

func calm(int) float64 { return 1 }

// storms hit everybody, and most of them come late, when most are updated.
func storms(minute int) float64 {
	if minute%60 < 5 {
		return 1 + float64(minute)/20
	}
	return 1
}

func TestComparisonRaisesFewFalseAlarms(t *testing.T) {
	policy, err := resource.Comparison{Alpha: 0.05, Reconnects: 1.1, Messages: 2, MinDeviceSeconds: 1}.Check()
	if err != nil {
		t.Fatal(err)
	}
	const runs = 400
	for name, s := range map[string]rollout{
		"as the others":          {ratio: 1, storm: calm, share: waves},
		"at the tolerated ratio": {ratio: 1.1, storm: calm, share: waves},
		"in storms":              {ratio: 1.1, storm: storms, share: waves},
		"half and half":          {ratio: 1.1, storm: calm, share: func(int) float64 { return 0.5 }},
	} {
		s.devices, s.rate, s.looks, s.policy = 10_000, 1.0/3600, 480, policy
		alarms := 0
		for seed := range uint64(runs) {
			if stopped, _ := s.run(seed); stopped {
				alarms++
			}
		}
		// One of three questions is asked here, so a third of alpha is its
		// share; three standard deviations of that are allowed for.
		share := policy.Alpha / 3
		most := runs*share + 3*math.Sqrt(runs*share*(1-share))
		t.Logf("%s: %d of %d runs with 480 looks each were stopped", name, alarms, runs)
		if float64(alarms) > most {
			t.Errorf("%s: %d false alarms of %d, and at most %.0f are to be expected", name, alarms, runs, most)
		}
	}
}

func TestComparisonSeesAThirdMoreReconnects(t *testing.T) {
	policy, err := (resource.Comparison{MinDeviceSeconds: 1}).Check()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		share, tolerated float64
		most             int64 // reconnects on average until it is stopped
	}{
		"half of the devices":                    {0.5, 1.1, 3500},
		"a tenth of the devices":                 {0.1, 1.1, 8000},
		"half of them, and nothing is tolerated": {0.5, 1, 1500},
	} {
		policy.Reconnects = c.tolerated
		const runs = 200
		missed, sum := 0, int64(0)
		for seed := range uint64(runs) {
			stopped, reconnects := rollout{
				devices: 10_000, rate: 1.0 / 3600, ratio: 1.3, storm: calm, share: func(int) float64 { return c.share }, looks: 600, policy: policy,
			}.run(seed)
			if !stopped {
				missed++
			}
			sum += reconnects
		}
		t.Logf("%s: stopped after %d reconnects on average, %d of %d missed", name, sum/runs, missed, runs)
		if missed > 0 || sum/runs > c.most {
			t.Errorf("%s: %d missed; %d reconnects on average, and %d are expected", name, missed, sum/runs, c.most)
		}
	}
}

func TestComparison(t *testing.T) {
	policy, err := (resource.Comparison{}).Check()
	if err != nil {
		t.Fatal(err)
	}
	next := func(c gate.Comparison, u, o link.Health) gate.Comparison { return c.Next(policy, u, o) }
	for name, c := range map[string]struct {
		updated, others link.Health
		want            gate.Verdict
	}{
		"nothing yet":             {link.Health{}, link.Health{}, gate.Inconclusive},
		"too short a look":        {link.Health{DeviceSeconds: 500, Messages: 50}, link.Health{DeviceSeconds: 5000, Messages: 500}, gate.Inconclusive},
		"nobody to compare with":  {link.Health{DeviceSeconds: 5000, Messages: 500}, link.Health{}, gate.Inconclusive},
		"neither says anything":   {link.Health{DeviceSeconds: 5000}, link.Health{DeviceSeconds: 5000}, gate.Inconclusive},
		"all is well":             {link.Health{DeviceSeconds: 5000, Reconnects: 5, Messages: 500}, link.Health{DeviceSeconds: 50_000, Reconnects: 50, Messages: 5000}, gate.Pass},
		"they reconnect":          {link.Health{DeviceSeconds: 5000, Reconnects: 60, Messages: 500}, link.Health{DeviceSeconds: 50_000, Reconnects: 50, Messages: 5000}, gate.Fail},
		"they fell silent":        {link.Health{DeviceSeconds: 5000, Messages: 5}, link.Health{DeviceSeconds: 50_000, Messages: 5000}, gate.Fail},
		"they chatter":            {link.Health{DeviceSeconds: 5000, Messages: 5000}, link.Health{DeviceSeconds: 50_000, Messages: 5000}, gate.Fail},
		"worse, in no time known": {link.Health{Reconnects: 60}, link.Health{DeviceSeconds: 50_000, Reconnects: 50}, gate.Inconclusive},
	} {
		got := comparisonOf(policy, next(gate.Comparison{}, c.updated, c.others))
		if got.Verdict != c.want {
			t.Errorf("%s: %s, not %s: %s", name, got.Verdict, c.want, got.Reason)
		}
	}
	// Counts that begin anew, as those of a stamp do that was started again,
	// neither frighten nor make forget.
	hurt := next(gate.Comparison{}, link.Health{DeviceSeconds: 5000, Reconnects: 60}, link.Health{DeviceSeconds: 50_000, Reconnects: 50})
	anew := next(hurt, link.Health{DeviceSeconds: 1}, link.Health{DeviceSeconds: 1})
	if anew = next(anew, link.Health{DeviceSeconds: 700, Messages: 7}, link.Health{DeviceSeconds: 700, Messages: 7}); comparisonOf(policy, anew).Verdict != gate.Fail {
		t.Errorf("what was seen before was forgotten: %+v", comparisonOf(policy, anew))
	}
	// What a process has seen that is not heard for a moment counts once.
	both := [2]link.Health{{DeviceSeconds: 2000, Reconnects: 24}, {DeviceSeconds: 20_000, Reconnects: 200}}
	one := [2]link.Health{{DeviceSeconds: 1000, Reconnects: 12}, {DeviceSeconds: 10_000, Reconnects: 100}}
	first := next(gate.Comparison{}, both[0], both[1])
	again := first
	for range 20 {
		again = next(next(again, one[0], one[1]), both[0], both[1])
	}
	if fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("it counted more than once: %+v, and at first %+v", again, first)
	}
}
