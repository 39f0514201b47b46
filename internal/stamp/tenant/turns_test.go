package tenant_test

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/stamp/tenant"
)

// wants has each tenant's devices send as fast as they get turns, or at a pace
// of their own, for some seconds; it returns how many turns each tenant got and
// the longest that one of its devices waited.
func wants(rate float64, devices map[string]int, pace map[string]time.Duration, long time.Duration) (got map[string]int64, longest map[string]time.Duration) {
	turns := tenant.NewTurns(rate, time.Now)
	over := make(chan struct{})
	time.AfterFunc(long, func() { close(over) })
	var mu sync.Mutex
	var all sync.WaitGroup
	got, longest = map[string]int64{}, map[string]time.Duration{}
	for name, n := range devices {
		var count atomic.Int64
		for range n {
			all.Go(func() {
				defer func() {
					mu.Lock()
					defer mu.Unlock()
					got[name] = count.Load()
				}()
				for open(over) {
					// No timer without need: tens of thousands of them in a bubble
					// end the race detector by a check of its own.
					if pace[name] > 0 {
						time.Sleep(pace[name])
					}
					begin := time.Now()
					if !turns.Take(name, 1, over) {
						continue
					}
					count.Add(1)
					mu.Lock()
					longest[name] = max(longest[name], time.Since(begin))
					mu.Unlock()
				}
			})
		}
	}
	all.Wait()
	return got, longest
}

// open reports whether it is not over yet.
func open(over <-chan struct{}) bool {
	select {
	case <-over:
		return false
	default:
		return true
	}
}

// TestANoisyTenantWaitsForItself floods a stamp with a thousand devices of one
// tenant: one device of another waits a moment for its turn, not for all of them.
func TestANoisyTenantWaitsForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, longest := wants(1000, map[string]int{"noisy": 1000, "quiet": 1}, map[string]time.Duration{"quiet": 10 * time.Millisecond}, 10*time.Second)
		if longest["quiet"] > 5*time.Millisecond {
			t.Errorf("the quiet tenant waited %s for a turn", longest["quiet"])
		}
		if got["quiet"] < 800 {
			t.Errorf("the quiet tenant got %d turns of about 900", got["quiet"])
		}
		if sum := got["quiet"] + got["noisy"]; sum < 10_500 || sum > 11_001 {
			t.Errorf("%d turns in ten seconds at 1,000 a second, and a burst", sum)
		}
		if longest["noisy"] < 500*time.Millisecond {
			t.Errorf("the noisy tenant waited %s only", longest["noisy"])
		}
	})
}

// TestTurnsAreShared has tenants with any numbers of devices want more than there
// is: each gets its share, whoever wants less than that gets all it wants, and
// nothing is left over.
func TestTurnsAreShared(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		rate := float64(rapid.IntRange(20, 100).Draw(r, "rate"))
		devices := map[string]int{}
		for i := range rapid.IntRange(2, 6).Draw(r, "tenants") {
			devices[fmt.Sprint("t", i)] = rapid.IntRange(1, 20).Draw(r, "devices")
		}
		synctest.Test(t, func(t *testing.T) {
			const long = 4 * time.Second
			got, _ := wants(rate, devices, nil, long)
			taken := rate*long.Seconds() + rate
			share := taken / float64(len(devices))
			sum := 0.0
			for name, n := range got {
				sum += float64(n)
				if math.Abs(float64(n)-share) > rate+float64(devices[name])+2 {
					t.Errorf("%s with %d devices got %d of %g turns, not about %g", name, devices[name], n, taken, share)
				}
			}
			if sum < taken-2 || sum > taken+1 {
				t.Errorf("%g turns, not %g", sum, taken)
			}
		})
	})
}

// TestWhoLeavesTheLineTakesNothing has devices go while they wait.
func TestWhoLeavesTheLineTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := tenant.NewTurns(1, time.Now)
		gone := make(chan struct{})
		close(gone)
		forever := make(chan struct{})
		if !turns.Take("a", 1, gone) {
			t.Error("a turn that had come was not taken")
		}
		for range 100 {
			if turns.Take("a", 5, gone) {
				t.Error("a turn came to one who had gone")
			}
		}
		begin := time.Now()
		if !turns.Take("b", 1, forever) || time.Since(begin) > time.Second {
			t.Errorf("the next one waited %s", time.Since(begin))
		}
	})
}
