package simscale

import (
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

func TestLargeSystemsAreWorkedOut(t *testing.T) {
	system := System{Stamps: 100, Devices: 10_000_000, Fill: 0.7, Policy: link.AllocateLeastLoaded, Regions: 5, Tenants: 40, Sample: 5000, Seed: 3, PerSecond: 2000, AtOnce: 10, Failing: 0.05}
	if err := system.Check(); err != nil {
		t.Fatal(err)
	}
	o := Run(system, time.Now)
	switch {
	case o.Homeless != 0, o.NewStampMoves != 0, o.PerStamp.Most > 1.0001:
		t.Errorf("%+v", o)
	case o.PerStamp.Mean < 0.6 || o.PerStamp.Mean > 0.75 || o.PerStamp.P99 > 0.9:
		t.Errorf("least loaded spreads to %+v", o.PerStamp)
	case o.LostStamp.Devices == 0 || o.LostStamp.Placed != o.LostStamp.Devices || o.LostStamp.Takes != Duration(time.Duration(o.LostStamp.Devices/2000)*time.Second).round():
		t.Errorf("%+v", o.LostStamp)
	case o.NewStampShare <= 0 || o.PlacingAll != Duration(5000*time.Second) || o.PerChoice <= 0:
		t.Errorf("%+v", o)
	}
	switch {
	case o.Drain.Devices == 0 || o.Drain.Placed != o.Drain.Devices, o.MovedTenant.Devices != system.Devices/40 || o.MovedTenant.Placed != o.MovedTenant.Devices:
		t.Errorf("moves: %+v, %+v", o.Drain, o.MovedTenant)
	case o.Release.State != "complete" || o.Release.Stamps != 100 || o.Release.Devices < system.Devices*97/100 || o.Release.Failed != 0:
		t.Errorf("a good release: %+v", o.Release)
	case o.BadRelease.State != "rolledBack" || o.BadRelease.Stamps != 1 || o.BadRelease.Devices > system.Devices/1000 || o.BadRelease.Failed == 0 || o.BadRelease.Until <= 0:
		t.Errorf("a bad release: %+v", o.BadRelease)
	}
	system.Policy = link.AllocateWeighted
	if w := Run(system, time.Now); w.PerStamp.Mean < 0.6 || w.NewStampShare <= 0 || w.NewStampShare > 0.1 {
		t.Errorf("weighted: %+v", w)
	}
	system.Fill = 1 // no place is spare, and some tenants stay in a region
	if full := Run(system, time.Now); full.LostStamp.Placed > full.LostStamp.Devices || full.PerStamp.Most > 1.0001 {
		t.Errorf("full: %+v", full)
	}
	for _, wrong := range []System{{}, func() System { s := system; s.AtOnce = 0; return s }(), func() System { s := system; s.Failing = 2; return s }(), {Stamps: 5, Sample: 4}, {Stamps: 5, Sample: 50, Devices: 3}, {Stamps: 5, Sample: 50, Devices: 50, Fill: 2}} {
		if err := wrong.Check(); !problem.Is(err, problem.Invalid) {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
}

// round is to whole seconds, as outcomes are.
func (d Duration) round() Duration { return Duration(time.Duration(d).Round(time.Second)) }
