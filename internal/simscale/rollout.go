package simscale

import (
	"time"

	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/stamp/software"
)

// RolledOut is what became of a release.
type RolledOut struct {
	State   string   `json:"state"`
	Stamps  int      `json:"stamps"`  // that it began on
	Devices int64    `json:"devices"` // that took it, well or not
	Failed  int64    `json:"failed"`
	Takes   Duration `json:"takes"`          // until it had reached everything, or was back
	Until   Duration `json:"until,omitzero"` // until it was turned back
	Steps   int      `json:"steps"`          // of the rollout's own code
}

// How devices take a release: each after a while, a stamp so many a second, and
// some cannot be reached. A wave lasts a while and lets few failures through.
const (
	updateTakes      = 10 * time.Minute
	updatesPerSecond = 50
	unreachable      = 0.02
	waveSoak         = "1h"
	mostFailures     = 0.01
	leastDevices     = 20
	lookEvery        = 5 * time.Minute
	longest          = 365 * 24 * time.Hour
)

// rollOut takes a release of which a share of devices fails onto every stamp,
// stepped by the code that steps real rollouts: a canary, a tenth, the others;
// so many at once, each by the usual waves.
func (m *model) rollOut(failing float64) RolledOut {
	policy := resource.RolloutSpec{
		Rings:  resource.RingSpec{AtOnce: m.AtOnce, Soak: "1d"},
		Health: &resource.WaveHealth{MaxFailures: mostFailures, MinDevices: leastDevices},
	}.Whole(false)
	for i := range policy.Waves {
		policy.Waves[i].Soak = waveSoak
	}
	f := &fleet{model: m, policy: policy, failing: failing, began: time.Unix(0, 0).UTC(), facts: rollout.Facts{}}
	for i, s := range m.stamps[:m.Stamps] {
		f.facts[s.Name] = rollout.StampFacts{Ring: ringOf(i, m.Stamps), Base: "v1"}
	}
	return f.run()
}

// ringOf is a stamp's: one goes first, then a tenth, then the others.
func ringOf(i, stamps int) int {
	switch {
	case i == 0:
		return 0
	case i <= stamps/10:
		return 1
	}
	return 2
}

// fleet are the stamps of a rollout, and how their devices do.
type fleet struct {
	*model
	policy  resource.RolloutSpec
	failing float64
	began   time.Time
	facts   rollout.Facts
	devices map[string]int64 // of each stamp
}

func (f *fleet) run() (o RolledOut) {
	f.devices = map[string]int64{}
	for _, at := range f.placed {
		if at >= 0 {
			f.devices[f.stamps[at].Name] += f.weight
		}
	}
	now := f.began
	r := rollout.Begin(rollout.Plan{ID: "rollout-1", Environment: environment, Release: link.Release{Name: "v2"}, From: "v1", Policy: f.policy}, f.facts, now)
	for !r.State.Over() && r.State != rollout.Complete && r.State != rollout.Paused && now.Sub(f.began) < longest {
		now = now.Add(lookEvery)
		f.tell(r, now)
		before := r.State
		r = rollout.Step(r, f.facts, now)
		o.Steps++
		if r.State == rollout.RollingBack && before != r.State {
			o.Until = Duration(now.Sub(f.began))
		}
		if before == rollout.Running {
			o.Stamps, o.Devices, o.Failed = f.count(r)
		}
	}
	o.State, o.Takes = string(r.State), Duration(now.Sub(f.began))
	return o
}

// tell has each stamp that the rollout has come to say how its devices do.
func (f *fleet) tell(r rollout.Rollout, now time.Time) {
	for _, s := range r.Stamps {
		if s.BeganAt == nil {
			continue
		}
		facts := f.facts[s.Name]
		facts.Progress, facts.SeenAt = f.progress(s, r, now), now
		f.facts[s.Name] = facts
	}
}

// progress is what a stamp tells.
func (f *fleet) progress(s rollout.Stamp, r rollout.Rollout, now time.Time) *link.Progress {
	if s.State == rollout.Back {
		took := f.reached(s.Name, s.Wave)
		back := f.by(now.Sub(*r.ReturnedAt), took)
		return &link.Progress{Base: "v1", Complete: true, Devices: link.UpdateCensus{Updated: f.devices[s.Name] - took + back, Pending: took - back}}
	}
	before, all := f.reached(s.Name, s.Wave-1), f.reached(s.Name, s.Wave)
	wave := f.census(all-before, now.Sub(*s.WaveAt))
	reached := f.census(before, longest)
	reached.Updated += wave.Updated
	reached.RolledBack += wave.RolledBack
	reached.Pending += wave.Pending
	reached.Unreachable += wave.Unreachable
	return &link.Progress{Base: "v1", Rollout: r.ID, Wave: s.Wave, Reached: reached, WaveOnly: wave, Devices: reached, Complete: true}
}

// reached is how many devices of a stamp the waves up to one reach.
func (f *fleet) reached(stamp string, wave int) int64 {
	reach := rollout.Reach(f.policy.Waves, max(wave, 0))
	return software.Wanted(reach.Share, reach.Count, f.devices[stamp])
}

// by is how many of some devices have come to an end after a while.
func (f *fleet) by(after time.Duration, devices int64) int64 {
	return min(max(int64((after-updateTakes).Seconds()*updatesPerSecond), 0), devices)
}

// census is how devices stand that were told a while ago.
func (f *fleet) census(devices int64, after time.Duration) link.UpdateCensus {
	silent := int64(float64(devices) * unreachable)
	ended := f.by(after, devices-silent)
	failed := int64(float64(ended) * f.failing)
	return link.UpdateCensus{Updated: ended - failed, RolledBack: failed, Pending: devices - silent - ended, Unreachable: silent}
}

// count is how far a rollout has come.
func (f *fleet) count(r rollout.Rollout) (stamps int, devices, failed int64) {
	for _, s := range r.Stamps {
		if s.BeganAt == nil {
			continue
		}
		stamps++
		if p := f.facts[s.Name].Progress; p != nil && p.Rollout != "" {
			devices += p.Reached.Attempted()
			failed += p.Reached.Failures()
		}
	}
	return stamps, devices, failed
}
