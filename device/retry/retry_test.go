package retry_test

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/device/retry"
)

var begin = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func TestSDK1DelaysStayBelowTheCeiling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := retry.Default
		p.Attempts, p.Elapsed = 100, 1000*time.Hour
		r := retry.Seed(rapid.String().Draw(t, "device"), rapid.Uint64().Draw(t, "boot"))
		s := p.Begin(retry.State{}, begin)
		now := begin
		for n := range rapid.IntRange(1, 60).Draw(t, "attempts") {
			var delay time.Duration
			s, delay = p.Failed(s, now, 0, r)
			ceiling := time.Duration(min(float64(p.Cap), float64(p.Base)*math.Pow(2, float64(n))))
			if delay < 0 || delay > ceiling {
				t.Fatalf("attempt %d waits %s, more than %s", n, delay, ceiling)
			}
			now = now.Add(delay)
		}
	})
}

func TestSDK2FirstReconnectsAreUniform(t *testing.T) {
	const devices, bins = 10_000, 50
	var histogram [bins]int
	seen := map[time.Duration]bool{}
	for i := range devices {
		_, delay := retry.Default.Down(retry.State{Began: begin, Connected: begin}, begin.Add(time.Hour), retry.Seed(fmt.Sprint("device-", i), 1))
		histogram[min(bins-1, int(delay*bins/retry.Default.Base))]++
		seen[delay] = true
	}
	chi := 0.0
	for _, n := range histogram {
		d := float64(n) - devices/bins
		chi += d * d / (devices / bins)
	}
	if chi > 85.4 { // the 0.1 % point of chi-square with 49 degrees of freedom
		t.Errorf("reconnects are not uniform: chi-square %.1f, %v", chi, histogram)
	}
	if len(seen) < devices*99/100 {
		t.Errorf("only %d different delays of %d devices", len(seen), devices)
	}
	one, other := retry.Seed("d", 1).Int64(), retry.Seed("d", 2).Int64()
	if one == other {
		t.Error("two boots share their chance")
	}
}

func TestSDK3OneImmediateRetry(t *testing.T) {
	var once retry.Once
	if !once.Immediate() || once.Immediate() || once.Immediate() {
		t.Error("not exactly one immediate retry")
	}
}

func TestSDK4CampaignsAreBoundedAndSeparated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, r := retry.Default, retry.Seed("d", rapid.Uint64().Draw(t, "boot"))
		now := begin
		s := p.Begin(retry.State{}, now)
		for n := 1; ; n++ {
			var delay time.Duration
			s, delay = p.Failed(s, now, 0, r)
			if s.Dormant {
				if delay < 15*time.Minute || delay > 23*time.Minute {
					t.Fatalf("quiet for %s", delay)
				}
				break
			}
			now = now.Add(delay)
			if n >= p.Attempts || now.Sub(begin) > p.Elapsed {
				t.Fatalf("%d attempts over %s", n, now.Sub(begin))
			}
		}
		if next := p.Begin(s, s.NotBefore); next.Attempt != 0 || next.Dormant || next.Campaigns != 1 {
			t.Fatalf("the next campaign begins as %+v", next)
		}
	})
}

func TestSDK6RetryAfterIsALowerBound(t *testing.T) {
	for asked, least := range map[time.Duration]time.Duration{30 * time.Second: 30 * time.Second, 1000 * time.Hour: time.Hour, -time.Second: 0} {
		p := retry.Default
		p.Elapsed = 10 * time.Hour
		_, delay := p.Failed(p.Begin(retry.State{}, begin), begin, asked, retry.Seed("d", 1))
		if delay < least || delay > least+least/4+time.Second {
			t.Errorf("asked for %s, waits %s", asked, delay)
		}
	}
	for value, want := range map[string]time.Duration{
		"30": 30 * time.Second, " 5 ": 5 * time.Second, "-4": 0, "": 0, "soon": 0, "99999999": time.Hour,
		"Fri, 20 Nov 2026 12:00:40 GMT": 40 * time.Second, "Fri, 20 Nov 2020 12:00:40 GMT": 0,
	} {
		if got := retry.After(value, begin); got != want {
			t.Errorf("Retry-After %q is %s, want %s", value, got, want)
		}
	}
}

func TestSDK7WhichAnswersAreFinal(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 409, 410, 422} {
		if retry.Transient(status) {
			t.Errorf("%d is retried", status)
		}
	}
	for _, status := range []int{408, 425, 429, 500, 502, 503, 504} {
		if !retry.Transient(status) {
			t.Errorf("%d is not retried", status)
		}
	}
}

func TestSDK8OnlyAStableConnectionResets(t *testing.T) {
	p, r := retry.Default, retry.Seed("d", 1)
	s := p.Begin(retry.State{}, begin)
	for range 5 {
		s, _ = p.Failed(s, begin, 0, r)
	}
	flapped, _ := p.Down(p.Up(s, begin), begin.Add(59*time.Second), r)
	if flapped.Attempt != 6 {
		t.Errorf("a flap left %d attempts", flapped.Attempt)
	}
	held, delay := p.Down(p.Up(s, begin), begin.Add(time.Minute), r)
	if held.Attempt != 1 || delay > p.Base {
		t.Errorf("a stable connection left %d attempts and waits %s", held.Attempt, delay)
	}
}

func TestSDK9Budget(t *testing.T) {
	b, now := retry.NewBudget(begin), begin
	for b.Retry(now) {
	}
	retried := 0
	for range 1000 {
		b.Request(now)
		if b.Retry(now) {
			retried++
		}
	}
	if retried > 201 || retried < 150 {
		t.Errorf("%d retries of 1000 requests", retried)
	}
	if !b.Retry(now.Add(time.Minute)) {
		t.Error("no floor")
	}
}

func TestSDK12SchedulesHaveAPhase(t *testing.T) {
	first, second := retry.Phase("a", time.Minute), retry.Phase("b", time.Minute)
	if first == second || first != retry.Phase("a", time.Minute) || first < 0 || first >= time.Minute {
		t.Errorf("phases %s and %s", first, second)
	}
}

func TestSDK13StateSurvivesAReboot(t *testing.T) {
	p, r := retry.Default, retry.Seed("d", 1)
	s, _ := p.Failed(p.Begin(retry.State{}, begin), begin, 0, r)
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var restored retry.State
	if err := json.Unmarshal(text, &restored); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(restored, s) {
		t.Errorf("stored %+v, restored %+v", s, restored)
	}
	if next := p.Begin(restored, begin.Add(time.Second)); next.Attempt != 1 || next.Began != begin {
		t.Errorf("a boot loop begins anew: %+v", next)
	}
	if wait := p.Wait(restored, begin.Add(-1000*time.Hour)); wait > 80*time.Minute {
		t.Errorf("a clock that jumped back waits %s", wait)
	}
}
