package fleet

import (
	"strings"
	"testing"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

func TestRoomIsAssessed(t *testing.T) {
	stamp := func(state link.StampState, capacity, taken int) Place {
		return Place{Stamp: resource.Stamp{Spec: resource.StampSpec{State: state, Capacity: capacity}, Status: &resource.StampStatus{Assigned: taken}}}
	}
	open, draining := link.StampOpen, link.StampDraining
	for _, c := range []struct {
		name    string
		stamps  []Place
		perDay  float64
		serious bool
		free    float64
		advice  string
	}{
		{"plenty", []Place{stamp(open, 100, 10), stamp(open, 100, 10)}, 1, true, 0.9, ""},
		{"one stamp", []Place{stamp(open, 100, 10)}, 0, true, 0.9, "warn all devices are on one stamp"},
		{"one stamp to try things on", []Place{stamp(open, 100, 10)}, 0, false, 0.9, ""},
		{"one takes devices, one is drained", []Place{stamp(open, 100, 10), stamp(draining, 100, 90)}, 0, true, 0.9, "warn all devices are on one stamp"},
		{"soon full", []Place{stamp(open, 100, 40), stamp(open, 100, 40)}, 8, true, 0.6, "warn full in 15 days at 8.0 new devices a day"},
		{"scarce", []Place{stamp(open, 100, 85), stamp(open, 100, 90)}, 0, true, 0.125, "warn 12 % of the places are free"},
		{"full", []Place{stamp(open, 100, 100), stamp(open, 100, 100)}, 3, true, 0, "bad every place is taken, and 7 devices wait"},
		{"none", []Place{stamp(draining, 100, 1)}, 0, true, 0, "bad no stamp takes devices"},
	} {
		got := assess(Level{Name: "e", Waiting: 7, Stamps: c.stamps}, c.perDay, c.serious)
		var says []string
		for _, a := range got.Advice {
			says = append(says, a.Severity+" "+a.Says)
		}
		if strings.Join(says, "; ") != c.advice || got.Free != c.free {
			t.Errorf("%s: %s, free %g", c.name, strings.Join(says, "; "), got.Free)
		}
	}
}

func TestAStampIsAddedWhenRoomGetsScarce(t *testing.T) {
	stamp := func(region string, state link.StampState, capacity, taken int, joined bool) Place {
		shown := resource.StateJoining
		if joined {
			shown = string(state)
		}
		return Place{Stamp: resource.Stamp{Spec: resource.StampSpec{Region: region, State: state, Capacity: capacity}, Status: &resource.StampStatus{Assigned: taken, State: shown}}}
	}
	open := link.StampOpen
	for _, c := range []struct {
		name   string
		rule   resource.Growth
		perDay float64
		stamps []Place
		wanted string
	}{
		{"room", resource.Growth{Most: 5}, 0, []Place{stamp("eu", open, 100, 79, true)}, ""},
		{"scarce", resource.Growth{Most: 5}, 0, []Place{stamp("eu", open, 100, 81, true)}, "19 of 100 places are free"},
		{"as many as there may be", resource.Growth{Most: 1}, 0, []Place{stamp("eu", open, 100, 99, true)}, ""},
		{"one is on its way", resource.Growth{Most: 5}, 0, []Place{stamp("eu", open, 100, 99, true), stamp("eu", open, 100, 0, false)}, ""},
		{"room elsewhere is none", resource.Growth{Most: 5}, 0, []Place{stamp("eu", open, 100, 99, true), stamp("us", open, 100, 0, true)}, "1 of 100 places are free"},
		{"none", resource.Growth{Most: 5}, 0, []Place{stamp("us", open, 100, 0, true)}, "no stamp of this kind takes devices"},
		{"drained ones have no room", resource.Growth{Most: 5}, 0, []Place{stamp("eu", link.StampDraining, 100, 0, true)}, "no stamp of this kind takes devices"},
		{"soon full", resource.Growth{Most: 5, Days: 10}, 10, []Place{stamp("eu", open, 100, 50, true), stamp("us", open, 100, 0, true)}, "full in 5.0 days at 10.0 new devices a day"},
		{"their part of the growth", resource.Growth{Most: 5, Days: 10}, 8, []Place{stamp("eu", open, 100, 25, true), stamp("us", open, 100, 75, true)}, ""},
	} {
		c.rule.Stamp.Region = "eu"
		if got := wanted(c.rule, Level{Stamps: c.stamps}, c.perDay); got != c.wanted {
			t.Errorf("%s: %q", c.name, got)
		}
	}
	if name := freeName("production", map[string]bool{"production-1": true, "production-3": true}); name != "production-2" {
		t.Error(name)
	}
}
