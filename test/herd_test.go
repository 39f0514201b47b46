package test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/device/retry"
	"github.com/slipway/slipway/internal/simfleet"
)

// TestTheHerdComesBackSpread cuts five thousand devices at once and watches
// them come back, while others go on working.
func TestTheHerdComesBackSpread(t *testing.T) {
	const devices, established = 5000, 20
	in := start(t)
	in.enrol()
	var mu sync.Mutex
	var delays []time.Duration
	var cut atomic.Bool
	fleet, err := simfleet.New(simfleet.Options{
		Devices: devices, Pattern: "herd-%05d", Provisioning: in.provisioningAddress(), IDScope: in.ready.Provisioning.IDScope, GroupKey: groupKey,
		CA: in.pool, StartRate: 500, Quiet: true,
		Event: func(_ string, e device.Event) {
			if cut.Load() && e.Kind == device.Waiting && e.Err == nil {
				mu.Lock()
				delays = append(delays, e.Delay)
				mu.Unlock()
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- fleet.Run(ctx) }()
	eventually(t, "the herd is connected", 3*time.Minute, func() bool { return fleet.Stats().Connected == devices })

	publishers := newPublishers(t, in, established)
	calm := publishers.during(func() { <-time.After(2 * time.Second) })
	var back time.Duration
	storm := publishers.during(func() {
		cut.Store(true)
		before := fleet.Stats().Connects
		began := time.Now()
		fleet.CutAll()
		eventually(t, "the herd is back", 3*time.Minute, func() bool {
			s := fleet.Stats()
			return s.Connected == devices && s.Connects >= before+devices
		})
		back = time.Since(began)
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	publishers.close(t)
	t.Logf("%d devices were back after %s; acknowledgements took p99 %s before and %s meanwhile", devices, back.Round(time.Millisecond), percentile(calm, 99), percentile(storm, 99))
	if s := fleet.Stats(); s.Refusals > 0 && s.Provisioned > devices {
		t.Errorf("%d devices registered again: a cut is no move", s.Provisioned-devices)
	}
	spread(t, delays, devices)
}

// TestSRV7AnAnnouncedRestartBringsEachBackOnce stops a server properly and
// starts it again: each device was told another time, and needs one attempt.
func TestSRV7AnAnnouncedRestartBringsEachBackOnce(t *testing.T) {
	t.Parallel()
	const devices = 1000
	in := start(t)
	in.enrol()
	var mu sync.Mutex
	waits := map[string][]time.Duration{}
	var again atomic.Bool
	fleet, err := simfleet.New(simfleet.Options{
		Devices: devices, Pattern: "again-%04d", Provisioning: in.provisioningAddress(), IDScope: in.ready.Provisioning.IDScope, GroupKey: groupKey,
		CA: in.pool, StartRate: 250, Quiet: true, Policy: retry.Policy{Stable: time.Second},
		Event: func(id string, e device.Event) {
			if again.Load() && e.Kind == device.Waiting {
				mu.Lock()
				waits[id] = append(waits[id], e.Delay)
				mu.Unlock()
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- fleet.Run(ctx) }()
	eventually(t, "the devices are connected", 2*time.Minute, func() bool { return fleet.Stats().Connected == devices })
	<-time.After(time.Second) // so that every connection has held
	before := fleet.Stats()
	again.Store(true)
	in.kill(syscall.SIGTERM)
	in.launch()
	eventually(t, "the devices are back", time.Minute, func() bool { return fleet.Stats().Connected == devices })
	after := fleet.Stats()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	more := 0
	for _, all := range waits {
		if len(all) > 1 {
			more++
		}
	}
	t.Logf("%d of %d devices needed more than one attempt", more, devices)
	if more > devices/20 || after.Refusals-before.Refusals > devices/20 {
		t.Errorf("%d devices needed more than one attempt, %d refusals", more, after.Refusals-before.Refusals)
	}
}

// spread checks that the first waits fill their range evenly: no tenth of it
// has more than a fifth of the devices.
func spread(t *testing.T, delays []time.Duration, devices int) {
	t.Helper()
	if len(delays) < devices {
		t.Fatalf("%d of %d devices said how long they wait", len(delays), devices)
	}
	first := delays[:devices]
	longest := slices.Max(first)
	var tenths [10]int
	for _, d := range first {
		tenths[min(9, int(d*10/(longest+1)))]++
	}
	for i, n := range tenths {
		if n > devices/5 {
			t.Errorf("%d devices of %d wait the same tenth %d: %v", n, devices, i, tenths)
		}
	}
	slices.Sort(first)
	if distinct := len(slices.Compact(first)); distinct < devices*95/100 {
		t.Errorf("only %d different waits of %d devices", distinct, devices)
	}
}

func percentile(all []time.Duration, p int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[(len(all)-1)*p/100].Round(10 * time.Microsecond)
}

// publishers are established devices that send all the time.
type publishers struct {
	mu     sync.Mutex
	taken  []time.Duration
	stop   chan struct{}
	failed chan error
	done   sync.WaitGroup
}

func newPublishers(t *testing.T, in *installation, n int) *publishers {
	t.Helper()
	p := &publishers{stop: make(chan struct{}), failed: make(chan error, n)}
	for i := range n {
		id := "established-" + string(rune('a'+i))
		if _, err := in.register(id); err != nil {
			t.Fatal(err)
		}
		conn, err := in.hub(id, in.stamp("test-1"), true)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		p.done.Go(func() {
			defer conn.Close()
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-p.stop:
					return
				case <-tick.C:
				}
				began := time.Now()
				if err := conn.publish(`{"established":true}`); err != nil {
					p.failed <- err
					return
				}
				p.mu.Lock()
				p.taken = append(p.taken, time.Since(began))
				p.mu.Unlock()
			}
		})
	}
	return p
}

// during returns how long acknowledgements took while something happened.
func (p *publishers) during(something func()) []time.Duration {
	p.mu.Lock()
	p.taken = nil
	p.mu.Unlock()
	something()
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.taken)
}

func (p *publishers) close(t *testing.T) {
	t.Helper()
	close(p.stop)
	p.done.Wait()
	close(p.failed)
	for err := range p.failed {
		t.Errorf("an established device was disturbed: %v", err)
	}
}
