package allocation

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/link"
)

var anyone = link.Tenant{Name: link.DefaultTenant}

func stamp(name string, capacity, weight int, state link.StampState) Candidate {
	return Candidate{Stamp: link.Stamp{Name: name, Environment: "production", Capacity: capacity, Weight: weight, State: state}}
}

func TestSharesFollowTheWeights(t *testing.T) {
	stamps := []Candidate{stamp("a", 1e6, 1, link.StampOpen), stamp("b", 1e6, 2, link.StampOpen), stamp("c", 1e6, 5, link.StampOpen)}
	const n = 20000
	for _, c := range []struct {
		policy string
		want   map[string]float64
	}{
		{"", map[string]float64{"a": 1. / 8, "b": 2. / 8, "c": 5. / 8}},
		{link.AllocateWeighted, map[string]float64{"a": 1. / 8, "b": 2. / 8, "c": 5. / 8}},
		{link.AllocateHashed, map[string]float64{"a": 1. / 3, "b": 1. / 3, "c": 1. / 3}},
	} {
		got := map[string]int{}
		for i := range n {
			name, err := Choose(fmt.Sprint("device-", i), "production", anyone, link.Allocation{Policy: c.policy}, stamps)
			if err != nil {
				t.Fatal(err)
			}
			got[name]++
		}
		for name, share := range c.want {
			if math.Abs(float64(got[name])/n-share) > 0.015 {
				t.Errorf("%s: %s has %d of %d, want a share of %.3f", c.policy, name, got[name], n, share)
			}
		}
	}
}

func TestAStampThatComesMovesOnlyItsShare(t *testing.T) {
	before := []Candidate{stamp("a", 1e6, 1, link.StampOpen), stamp("b", 1e6, 1, link.StampOpen), stamp("c", 1e6, 1, link.StampOpen)}
	after := append(before[:3:3], stamp("d", 1e6, 1, link.StampOpen))
	for i := range 5000 {
		id := fmt.Sprint("device-", i)
		old, err := Choose(id, "production", anyone, link.Allocation{}, before)
		if err != nil {
			t.Fatal(err)
		}
		now, err := Choose(id, "production", anyone, link.Allocation{}, after)
		if err != nil {
			t.Fatal(err)
		}
		if now != old && now != "d" {
			t.Fatalf("%s went from %s to %s though only d came", id, old, now)
		}
	}
}

func TestLeastLoadedCountsShares(t *testing.T) {
	a, b := stamp("a", 10, 1, link.StampOpen), stamp("b", 1000, 1, link.StampOpen)
	a.Taken, b.Taken = 2, 100
	got, err := Choose("x", "production", anyone, link.Allocation{Policy: link.AllocateLeastLoaded}, []Candidate{a, b})
	if err != nil || got != "b" {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestErrorsSayWhy(t *testing.T) {
	full := stamp("full", 3, 1, link.StampOpen)
	full.Taken = 3
	stamps := []Candidate{full, stamp("leaving", 10, 1, link.StampDraining), stamp("shut", 10, 1, link.StampClosed)}
	for _, c := range []struct {
		environment string
		rule        link.Allocation
		want        []string
	}{
		{"production", link.Allocation{}, []string{"full is full (3 of 3)", "leaving is draining", "shut is closed"}},
		{"nowhere", link.Allocation{}, []string{`"nowhere" has no stamps`}},
		{"production", link.Allocation{Policy: link.AllocateStatic}, []string{"exactly one stamp"}},
		{"production", link.Allocation{Policy: link.AllocateStatic, Stamps: []string{"elsewhere"}}, []string{"elsewhere", "production"}},
	} {
		_, err := Choose("x", c.environment, anyone, c.rule, stamps)
		for _, part := range c.want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%+v: %v does not say %q", c.rule, err, part)
			}
		}
	}
}

func TestOnlyOpenStampsWithRoomAndInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		states := []link.StampState{link.StampOpen, link.StampDraining, link.StampClosed}
		policies := []string{"", link.AllocateWeighted, link.AllocateHashed, link.AllocateLeastLoaded}
		var stamps []Candidate
		room := false
		for i := range rapid.IntRange(0, 6).Draw(t, "stamps") {
			c := stamp(fmt.Sprint("s", i), rapid.IntRange(0, 3).Draw(t, "capacity"), rapid.IntRange(0, 9).Draw(t, "weight"), rapid.SampledFrom(states).Draw(t, "state"))
			c.Taken = rapid.IntRange(0, 4).Draw(t, "taken")
			room = room || c.State == link.StampOpen && c.Taken < c.Capacity
			stamps = append(stamps, c)
		}
		rule := link.Allocation{Policy: rapid.SampledFrom(policies).Draw(t, "policy")}
		got, err := Choose("device", "production", anyone, rule, stamps)
		if room != (err == nil) {
			t.Fatalf("room %v, error %v", room, err)
		}
		for _, c := range stamps {
			if c.Name == got && (c.State != link.StampOpen || c.Taken >= c.Capacity) {
				t.Fatalf("chose %+v", c)
			}
		}
		rand.Shuffle(len(stamps), func(i, j int) { stamps[i], stamps[j] = stamps[j], stamps[i] })
		if again, _ := Choose("DEVICE", "production", anyone, rule, stamps); again != got {
			t.Fatalf("another order chose %s instead of %s", again, got)
		}
	})
}

func TestTheNearestRegionWins(t *testing.T) {
	stamps := []Candidate{
		{Stamp: link.Stamp{Name: "eu-1", Environment: "e", Region: "eu", Capacity: 10, State: link.StampOpen}},
		{Stamp: link.Stamp{Name: "us-1", Environment: "e", Region: "us", Capacity: 10, State: link.StampOpen}},
		{Stamp: link.Stamp{Name: "asia-1", Environment: "e", Region: "asia", Capacity: 10, State: link.StampOpen}},
	}
	rule := link.Allocation{Policy: link.AllocateLatency, Latency: map[string]float64{"us": 80, "eu": 20}}
	for want, change := range map[string]func(){
		"eu-1":   func() {},
		"us-1":   func() { stamps[0].Taken = 10 },
		"asia-1": func() { stamps[0].Taken, stamps[1].State = 10, link.StampDraining },
	} {
		for i := range stamps {
			stamps[i].Taken, stamps[i].State = 0, link.StampOpen
		}
		change()
		if got, err := Choose("d", "e", anyone, rule, stamps); err != nil || got != want {
			t.Errorf("chose %q, %v, not %s", got, err, want)
		}
	}
}

func TestATenantsDevicesGoWhereTheyMay(t *testing.T) {
	stamp := func(name, region string, tenants ...string) Candidate {
		return Candidate{Stamp: link.Stamp{Name: name, Environment: "e", Region: region, Capacity: 10, Weight: 1, State: link.StampOpen, Tenants: tenants}}
	}
	stamps := []Candidate{stamp("eu", "eu"), stamp("us", "us"), stamp("acme-eu", "eu", "acme"), stamp("acme-us", "us", "acme", "coyote")}
	for _, c := range []struct {
		tenant link.Tenant
		may    string
	}{
		{anyone, "eu us"},
		{link.Tenant{Name: "acme"}, "acme-eu acme-us eu us"},
		{link.Tenant{Name: "acme", Regions: []string{"eu"}}, "acme-eu eu"},
		{link.Tenant{Name: "acme", Regions: []string{"eu"}, Stamps: []string{"acme-eu", "acme-us"}}, "acme-eu"},
		{link.Tenant{Name: "coyote", Stamps: []string{"acme-us"}}, "acme-us"},
		{link.Tenant{Name: "coyote", Regions: []string{"asia"}}, ""},
	} {
		got := map[string]bool{}
		for i := range 200 {
			name, err := Choose(fmt.Sprint("d", i), "e", c.tenant, link.Allocation{}, stamps)
			if err != nil && !strings.Contains(err.Error(), "no stamp of environment") {
				t.Fatal(err)
			}
			if name != "" {
				got[name] = true
			}
		}
		if names := strings.Join(slices.Sorted(maps.Keys(got)), " "); names != c.may {
			t.Errorf("%+v goes to %s", c.tenant, names)
		}
	}
	_, err := Choose("d", "e", link.Tenant{Name: "coyote", Regions: []string{"asia"}}, link.Allocation{}, stamps)
	if !strings.Contains(err.Error(), "eu is in region eu, and tenant coyote stays in asia") || !strings.Contains(err.Error(), "acme-eu is for tenant acme only") {
		t.Error(err)
	}
}
