// Package simscale works out what placement, moves and rollouts do to systems
// that are too large to run: the code that does them, over many stamps, with each
// device of a sample standing for many. It is pure; chance comes in as a seed.
package simscale

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/allocation"
)

// System is what is to be worked out.
type System struct {
	Stamps  int
	Devices int64
	Fill    float64 // share of all places that the devices take
	Policy  string  // of allocation
	Regions int     // among which stamps, and tenants that stay in one, are spread
	Tenants int
	Sample  int // devices that are really placed
	Seed    uint64
	// PerSecond is how many devices the system places, or moves, each second.
	PerSecond float64
	// AtOnce is on how many stamps a release moves at a time, and Failing the
	// share of devices that fail with a bad one.
	AtOnce  int
	Failing float64
}

// environment is where all of it is.
const environment = "production"

// The limits of a system.
const (
	MaxStamps  = 10_000
	MaxSample  = 1_000_000
	maxDevices = 1_000_000_000_000
)

// Check holds a system against what can be worked out.
func (s System) Check() error {
	switch {
	case s.Stamps < 2 || s.Stamps > MaxStamps:
		return problem.New(problem.Invalid, "there are 2 to %d stamps, not %d", MaxStamps, s.Stamps).At("stamps")
	case s.Sample < s.Stamps || s.Sample > MaxSample:
		return problem.New(problem.Invalid, "the sample has a device or more for each stamp, and at most %d, not %d", MaxSample, s.Sample).At("sample")
	case s.Devices < int64(s.Sample) || s.Devices > maxDevices:
		return problem.New(problem.Invalid, "there are as many devices as in the sample or more, and at most %d, not %d", int64(maxDevices), s.Devices).At("devices")
	case s.Fill <= 0 || s.Fill > 1:
		return problem.New(problem.Invalid, "the share of places that are taken is more than 0 and at most 1, not %g", s.Fill).At("fill")
	case s.Regions < 1 || s.Regions > s.Stamps || s.Tenants < 1 || s.PerSecond <= 0:
		return problem.New(problem.Invalid, "there are a region and a tenant, no more regions than stamps, and devices are placed at some pace").At("regions")
	case s.AtOnce < 1 || s.AtOnce > MaxStamps:
		return problem.New(problem.Invalid, "a release moves on 1 to %d stamps at once, not %d", MaxStamps, s.AtOnce).At("at-once")
	case s.Failing < 0 || s.Failing > 1:
		return problem.New(problem.Invalid, "the share of devices that fail is 0 to 1, not %g", s.Failing).At("failing")
	case !slices.Contains([]string{link.AllocateWeighted, link.AllocateHashed, link.AllocateLeastLoaded}, s.Policy):
		return problem.New(problem.Invalid, "the policy is weighted, hashed or leastLoaded, not %q", s.Policy).At("policy")
	}
	return nil
}

// Outcome is what comes of it. Devices are of the whole system; times are at
// its pace.
type Outcome struct {
	Stamps  int    `json:"stamps"`
	Devices int64  `json:"devices"`
	Policy  string `json:"policy"`
	Sample  int    `json:"sample"`
	// PerStamp is how the devices are spread, as shares of a stamp's places.
	PerStamp Spread `json:"perStamp"`
	Homeless int64  `json:"homeless"` // devices that no stamp took
	// LostStamp is what the loss of the fullest stamp displaces, how many of
	// those others take, and how long that takes.
	LostStamp Displaced `json:"lostStamp"`
	// NewStamp is the share of newly arriving devices that an added stamp takes,
	// and how many devices that are placed already it moves.
	NewStampShare float64 `json:"newStampShare"`
	NewStampMoves int64   `json:"newStampMoves"`
	// Drain is what emptying an ordinary stamp moves, and MovedTenant what taking
	// a tenant to the added stamp does.
	Drain       Displaced `json:"drain"`
	MovedTenant Displaced `json:"movedTenant"`
	// Release is what becomes of a release that devices take well, and
	// BadRelease of one with which some fail.
	Release    RolledOut `json:"release"`
	BadRelease RolledOut `json:"badRelease"`
	// PlacingAll is how long it takes to place every device once.
	PlacingAll Duration `json:"placingAll"`
	PerChoice  Duration `json:"perChoice"` // measured: one run of the allocation code
}

// Spread describes how full stamps are.
type Spread struct {
	Least, Mean, Most, P99 float64
}

// Displaced are devices that lose their stamp.
type Displaced struct {
	Devices int64    `json:"devices"`
	Placed  int64    `json:"placed"`
	Takes   Duration `json:"takes"`
}

// Duration is a time.Duration that writes "3s".
type Duration time.Duration

// MarshalText writes "3s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// model is a system on its way.
type model struct {
	System
	weight  int64 // devices that one of the sample stands for
	stamps  []allocation.Candidate
	tenants []link.Tenant
	placed  []int // stamp of each device of the sample, -1 for none
	random  *rand.Rand
	choices int
	took    time.Duration
}

// Run works a system out. now tells the time, for the cost of a choice.
func Run(s System, now func() time.Time) Outcome {
	m := &model{System: s, weight: s.Devices / int64(s.Sample), random: rand.New(rand.NewPCG(s.Seed, 1)), placed: make([]int, s.Sample)}
	m.build()
	for i := range m.placed {
		m.placed[i] = m.choose(i, m.tenantOf(i), now)
	}
	o := Outcome{Stamps: s.Stamps, Devices: s.Devices, Policy: s.Policy, Sample: s.Sample, PerStamp: m.spread()}
	for _, at := range m.placed {
		if at < 0 {
			o.Homeless += m.weight
		}
	}
	o.Release, o.BadRelease = m.rollOut(0), m.rollOut(s.Failing)
	o.NewStampShare, o.NewStampMoves = m.grow(now)
	o.MovedTenant = m.moveTenant(now)
	o.Drain = m.drain(now)
	o.LostStamp = m.lose(now)
	o.PlacingAll = m.lasts(s.Devices)
	o.PerChoice = Duration(m.took / time.Duration(max(1, m.choices)))
	return o
}

func (m *model) lasts(devices int64) Duration {
	return Duration(time.Duration(float64(devices) / m.PerSecond * float64(time.Second)).Round(time.Second))
}

// build makes stamps of unlike size and tenants, some of which stay in a region.
func (m *model) build() {
	places := float64(m.Sample) / m.Fill / float64(m.Stamps)
	for i := range m.Stamps {
		size := 0.5 + m.random.Float64() // of the mean
		m.stamps = append(m.stamps, allocation.Candidate{Stamp: link.Stamp{
			Name: fmt.Sprintf("stamp-%05d", i), Environment: environment, Region: fmt.Sprint("region-", i%m.Regions),
			Capacity: max(1, int(math.Ceil(places*size))), Weight: max(1, int(size*100)), State: link.StampOpen,
		}})
	}
	for i := range m.Tenants {
		t := link.Tenant{Name: fmt.Sprint("tenant-", i)}
		if m.random.Float64() < 0.3 {
			t.Regions = []string{fmt.Sprint("region-", m.random.IntN(m.Regions))}
		}
		m.tenants = append(m.tenants, t)
	}
}

func (m *model) tenantOf(i int) link.Tenant { return m.tenants[i%len(m.tenants)] }

// choose places a device by the code that places real ones.
func (m *model) choose(i int, tenant link.Tenant, now func() time.Time) int {
	begin := now()
	name, err := allocation.Choose(fmt.Sprint("device-", i), environment, tenant, link.Allocation{Policy: m.Policy}, m.stamps)
	m.took += now().Sub(begin)
	m.choices++
	if err != nil {
		return -1
	}
	at := slices.IndexFunc(m.stamps, func(c allocation.Candidate) bool { return c.Name == name })
	m.stamps[at].Taken++
	return at
}

func (m *model) spread() Spread {
	shares := make([]float64, len(m.stamps))
	sum := 0.0
	for i, c := range m.stamps {
		shares[i] = float64(c.Taken) / float64(c.Capacity)
		sum += shares[i]
	}
	slices.Sort(shares)
	return Spread{Least: shares[0], Mean: sum / float64(len(shares)), Most: shares[len(shares)-1], P99: shares[len(shares)*99/100]}
}

const addedStamp = "stamp-added"

// grow adds a stamp and sees where the next devices go. Those that are placed
// stay: a choice is made anew only for a device that has no stamp.
func (m *model) grow(now func() time.Time) (share float64, moves int64) {
	before := slices.Clone(m.placed)
	m.stamps = append(m.stamps, allocation.Candidate{Stamp: link.Stamp{
		Name: addedStamp, Environment: environment, Region: "region-0", Capacity: m.Sample, Weight: 100, State: link.StampOpen,
	}})
	arriving := max(100, m.Sample/20)
	for i := range arriving {
		if m.choose(m.Sample+i, m.tenantOf(m.Sample+i), now) == len(m.stamps)-1 {
			share++
		}
	}
	for i, at := range m.placed {
		if at != before[i] {
			moves += m.weight
		}
	}
	return share / float64(arriving), moves
}

// lose closes the fullest stamp and places its devices anew.
func (m *model) lose(now func() time.Time) (d Displaced) {
	fullest := 0
	for i, c := range m.stamps[:m.Stamps] {
		if c.Taken > m.stamps[fullest].Taken {
			fullest = i
		}
	}
	m.stamps[fullest].State = link.StampClosed
	for i, at := range m.placed {
		if at != fullest {
			continue
		}
		d.Devices += m.weight
		if m.placed[i] = m.choose(i, m.tenantOf(i), now); m.placed[i] >= 0 {
			d.Placed += m.weight
		}
	}
	d.Takes = m.lasts(d.Devices)
	return d
}
