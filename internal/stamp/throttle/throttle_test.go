package throttle

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/problem"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func TestEachKindHasARateOfItsOwn(t *testing.T) {
	throttle := New(Rates{Queries: 2, Registry: 0})
	for range 2 * burst {
		if err := throttle.Allow(Queries, 1, noon); err != nil {
			t.Fatal(err)
		}
	}
	err := throttle.Allow(Queries, 1, noon)
	if !problem.Is(err, problem.Busy) || problem.Of(err).RetryAfter != time.Second/2 {
		t.Errorf("one more: %v, after %s", err, problem.Of(err).RetryAfter)
	}
	for _, kind := range []Kind{Registry, Methods} {
		if err := throttle.Allow(kind, 1_000_000, noon); err != nil {
			t.Errorf("%s has no limit: %v", kind, err)
		}
	}
	if err := throttle.Allow(Queries, 1, noon.Add(time.Second/2)); err != nil {
		t.Errorf("at the time it was told: %v", err)
	}
	throttle.Divide(2)
	for range burst {
		if err := throttle.Allow(Queries, 1, noon); err != nil {
			t.Fatal(err)
		}
	}
	if err := throttle.Allow(Queries, 1, noon); !problem.Is(err, problem.Busy) || throttle.Refused()[Queries] != 2 {
		t.Errorf("half of it: %v, %d", err, throttle.Refused()[Queries])
	}
	var none *Throttle
	if err := none.Allow(Queries, 1, noon); err != nil {
		t.Error(err)
	}
	for kind := range Default {
		if !Known(kind) {
			t.Errorf("%s is not among the kinds", kind)
		}
	}
}

// TestNoMoreThanTheRate lets operations of all sizes come at all times: over any
// stretch no more are taken than the rate and the burst allow, and whoever comes
// when it was told to is taken.
func TestNoMoreThanTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Float64Range(0.5, 50).Draw(t, "rate")
		throttle := New(Rates{Jobs: limit})
		most := max(1, int(limit*burst+0.999999))
		now, taken := noon, 0
		for range rapid.IntRange(1, 60).Draw(t, "times") {
			now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "wait")) * time.Millisecond)
			n := rapid.IntRange(1, most).Draw(t, "n")
			err := throttle.Allow(Jobs, n, now)
			if err != nil {
				now = now.Add(problem.Of(err).RetryAfter + time.Microsecond)
				err = throttle.Allow(Jobs, n, now)
			}
			if err != nil {
				t.Fatalf("refused at the time it was told: %v", err)
			}
			taken += n
			if bound := float64(most) + now.Sub(noon).Seconds()*limit + 1; float64(taken) > bound {
				t.Fatalf("%d were taken in %s at %g a second", taken, now.Sub(noon), limit)
			}
		}
	})
}
