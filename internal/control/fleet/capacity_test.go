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
