package retry_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/device/retry"
)

func TestSDK3AnOperationHasOneImmediateRetryAndOnlyForASlip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, r := retry.Default, retry.Seed("d", rapid.Uint64().Draw(t, "boot"))
		p.Tries = rapid.IntRange(1, 10).Draw(t, "tries")
		b, now := retry.NewBudget(begin), begin
		op := p.Operate(now, b)
		immediate := 0
		for n := 1; ; n++ {
			f := retry.Failure{Status: rapid.SampledFrom([]int{0, 429, 500, 502, 503, 504}).Draw(t, "status")}
			next, delay, again := p.Again(op, f, now, b, r)
			if !again {
				if n < p.Tries {
					t.Fatalf("gave up at try %d of %d", n, p.Tries)
				}
				return
			}
			if delay < 0 || delay > p.Base<<(n-1) {
				t.Fatalf("try %d waits %s", n, delay)
			}
			if delay == 0 {
				if immediate++; f.Status != 500 && f.Status != 502 && f.Status != 504 {
					t.Fatalf("at once after %d", f.Status)
				}
			}
			if immediate > 1 {
				t.Fatal("a second immediate retry")
			}
			op, now = next, now.Add(delay)
		}
	})
}

func TestSDK4AnOperationEndsInTime(t *testing.T) {
	p, b := retry.Default, retry.NewBudget(begin)
	op := p.Operate(begin, b)
	if _, _, again := p.Again(op, retry.Failure{Status: 500}, begin.Add(p.Elapsed+time.Second), b, retry.Seed("d", 1)); again {
		t.Error("tried again after its time")
	}
	if _, delay, again := p.Again(op, retry.Failure{Lost: true}, begin, b, retry.Seed("d", 1)); !again || delay != 0 {
		t.Errorf("a lost connection: %v after %s; the campaign spaces those", again, delay)
	}
}

func TestSDK6WhatServersAskForBindsOperationsPollsAndRest(t *testing.T) {
	p, b, r := retry.Default, retry.NewBudget(begin), retry.Seed("d", 1)
	if _, delay, _ := p.Again(p.Operate(begin, b), retry.Failure{Status: 429, RetryAfter: 30 * time.Second}, begin, b, r); delay < 30*time.Second {
		t.Errorf("an operation waits %s", delay)
	}
	for asked, least := range map[time.Duration]time.Duration{0: 2 * time.Second, 7 * time.Second: 7 * time.Second, 1000 * time.Hour: time.Hour} {
		if wait := p.Poll(asked, r); wait < least || wait > least*5/4 {
			t.Errorf("asked to poll after %s, polls after %s", asked, wait)
		}
	}
	s, delay := p.Failed(p.Begin(retry.State{}, begin), begin, time.Hour, r)
	if !s.Dormant || delay < time.Hour {
		t.Errorf("asked for an hour, more than a campaign lasts, waits %s", delay)
	}
	for _, absurd := range []string{"99999999999999999999999", "9223372036854775807"} {
		if got := retry.After(absurd, begin); got != time.Hour {
			t.Errorf("Retry-After %s is %s", absurd, got)
		}
	}
	if got := retry.After("-99999999999999999999999", begin); got != 0 {
		t.Errorf("absurdly negative is %s", got)
	}
}

func TestSDK13WhatARebootCounts(t *testing.T) {
	p, r := retry.Default, retry.Seed("d", 1)
	failed, _ := p.Failed(p.Begin(retry.State{}, begin), begin, 0, r)
	up := p.Up(p.Begin(retry.State{}, begin), begin)
	later := begin.Add(time.Minute)
	for name, c := range map[string]struct {
		stored retry.State
		want   int
	}{
		"before it was connected":      {failed, 1},
		"soon after it was connected":  {up, 1},
		"after the connection held":    {p.Held(up), 0},
		"after it said goodbye itself": {p.Left(up), 0},
	} {
		if got := p.Booted(c.stored, later, r); got.Attempt != c.want {
			t.Errorf("a reboot %s: %d failed attempts, want %d", name, got.Attempt, c.want)
		}
	}
	week := begin.Add(7 * 24 * time.Hour)
	if s, _ := p.Failed(p.Begin(failed, week), week, 0, r); s.Dormant || s.Attempt != 1 {
		t.Errorf("a device that lay without power for a week begins as %+v", s)
	}
	if s := p.Begin(failed, begin.Add(-1000*time.Hour)); s.Began.After(begin.Add(-1000 * time.Hour)) {
		t.Errorf("a campaign that begins in the future: %+v", s)
	}
	if wait := p.Wait(failed, begin.Add(-1000*time.Hour)); wait > p.Base {
		t.Errorf("a clock that was set back makes it wait %s", wait)
	}
}

func TestSDK11AMoveOncePerCampaign(t *testing.T) {
	p, r := retry.Default, retry.Seed("d", 1)
	s := p.Move(p.Begin(retry.State{}, begin), begin)
	if !p.Begin(s, begin).Moved || p.Wait(s, begin) != 0 {
		t.Errorf("the campaign forgot its move, or waits: %+v", s)
	}
	s, _ = p.GiveUp(s, begin, r)
	if p.Begin(s, s.NotBefore).Moved {
		t.Error("the next campaign may not move")
	}
	if p.Up(p.Move(retry.State{}, begin), begin).Moved {
		t.Error("a device that found its place may not be moved again")
	}
}

func TestSDK12NextIsOnTheDevicesOwnGrid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		device, period := rapid.String().Draw(t, "device"), time.Duration(rapid.Int64Range(1, int64(24*time.Hour)).Draw(t, "period"))
		now := begin.Add(time.Duration(rapid.Int64Range(-int64(100000*time.Hour), int64(100000*time.Hour)).Draw(t, "now")))
		wait := retry.Next(device, period, now)
		if wait <= 0 || wait > period {
			t.Fatalf("%s of %s", wait, period)
		}
		if again := retry.Next(device, period, now.Add(wait)); again != period {
			t.Fatalf("then after %s, not %s", again, period)
		}
	})
	if retry.Next("d", 0, begin) != 0 {
		t.Error("no period, no wait")
	}
}

func TestSDK2PhasesAndSeedsAreUniform(t *testing.T) {
	const devices = 10_000
	draws := make([]float64, 0, 2*devices)
	for i := range devices {
		draws = append(draws, float64(retry.Phase(fmt.Sprint("device-", i), time.Hour))/float64(time.Hour))
	}
	// One device over its boots is as spread as devices are.
	for i := range devices {
		draws = append(draws, retry.Seed("device", uint64(i)).Float64())
	}
	for _, half := range [][]float64{draws[:devices], draws[devices:]} {
		chi := 0.0
		var histogram [50]int
		for _, x := range half {
			histogram[min(49, int(x*50))]++
		}
		for _, n := range histogram {
			chi += math.Pow(float64(n)-devices/50, 2) / (devices / 50)
		}
		if chi > 85.4 {
			t.Errorf("chi-square %.1f: %v", chi, histogram)
		}
	}
}
