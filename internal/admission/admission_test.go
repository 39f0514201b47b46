package admission_test

import (
	"cmp"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/admission"
)

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// herd is who is to come, and when.
type herd []arrival

type arrival struct {
	at    time.Time
	who   int
	tries int
}

func (h herd) Len() int           { return len(h) }
func (h herd) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h herd) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *herd) Push(x any)        { *h = append(*h, x.(arrival)) }
func (h *herd) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// TestSRV9AHerdThatDoesAsItIsToldDrainsAsFastAsItCan has a hundred thousand
// come at once: each is told once, all are in by their turn, and no second has
// more promises than the rate.
func TestSRV9AHerdThatDoesAsItIsToldDrainsAsFastAsItCan(t *testing.T) {
	const devices, rate = 100_000, 1000
	gate := admission.New(admission.Options{Rate: rate, Burst: rate})
	chance := rand.New(rand.NewPCG(1, 2))
	coming := make(herd, devices)
	for i := range coming {
		coming[i] = arrival{start.Add(time.Duration(chance.IntN(1000)) * time.Millisecond), i, 0}
	}
	heap.Init(&coming)
	promised, admitted := map[int64]int{}, []time.Duration{}
	tries := 0
	for coming.Len() > 0 {
		a := heap.Pop(&coming).(arrival)
		in, after := gate.Arrive(fmt.Sprint(a.who), false, a.at)
		tries = max(tries, a.tries)
		if in {
			admitted = append(admitted, a.at.Sub(start))
			continue
		}
		if after < time.Second {
			t.Fatalf("told to come back after %s", after)
		}
		promised[a.at.Add(after).Unix()]++
		heap.Push(&coming, arrival{a.at.Add(after + time.Duration(chance.IntN(1000))*time.Millisecond), a.who, a.tries + 1})
	}
	for second, n := range promised {
		if n > rate {
			t.Errorf("%d were promised second %d", n, second-start.Unix())
		}
	}
	slices.Sort(admitted)
	ideal := time.Duration(devices-rate) * time.Second / rate
	if p99 := admitted[devices*99/100]; p99 > ideal*115/100+2*time.Second {
		t.Errorf("99 %% were in after %s, at best it takes %s", p99, ideal)
	}
	c := gate.Counts()
	if tries > 2 || c.Waiting != 0 || c.Admitted != devices || c.Broken > devices/1000 {
		t.Errorf("some tried %d times more; %+v", tries, c)
	}
}

// TestSRV10NobodyIsOvertaken has a herd that was told its times, and others who
// come all the while.
func TestSRV10NobodyIsOvertaken(t *testing.T) {
	gate := admission.New(admission.Options{Rate: 100, Burst: 100})
	var coming herd
	for i := range 2000 {
		coming = append(coming, arrival{start, i, 0})
	}
	for i := range 2000 { // 50 a second for 40 s
		coming = append(coming, arrival{start.Add(time.Duration(i) * 20 * time.Millisecond), 10_000 + i, 0})
	}
	heap.Init(&coming)
	refusedMost := 0
	for coming.Len() > 0 {
		a := heap.Pop(&coming).(arrival)
		in, after := gate.Arrive(fmt.Sprint(a.who), false, a.at)
		if in {
			refusedMost = max(refusedMost, a.tries)
			continue
		}
		heap.Push(&coming, arrival{a.at.Add(after), a.who, a.tries + 1})
	}
	if refusedMost > 2 {
		t.Errorf("one was refused %d times", refusedMost)
	}
}

// TestSRV6TheUrgentDoNotWaitBehindTheHerd promises a minute away, and lets the
// urgent in beside.
func TestSRV6TheUrgentDoNotWaitBehindTheHerd(t *testing.T) {
	gate := admission.New(admission.Options{Rate: 100, Burst: 100})
	for i := range 6000 {
		gate.Arrive(fmt.Sprint(i), false, start)
	}
	late := 0
	for i := range 100 { // within what is not promised
		now := start.Add(time.Duration(i) * 200 * time.Millisecond)
		if in, after := gate.Arrive(fmt.Sprint("moved-", i), true, now); !in {
			late++
			if after > time.Second {
				t.Errorf("an urgent one was sent away for %s", after)
			}
		}
	}
	if late > 5 {
		t.Errorf("%d of 100 urgent ones had to come again", late)
	}
}

func TestSRV8WhoHammersGainsNothingAndCostsNothing(t *testing.T) {
	gate := admission.New(admission.Options{Rate: 10, Burst: 1})
	gate.Arrive("first", false, start)
	_, told := gate.Arrive("impatient", false, start)
	for i := range 10_000 {
		now := start.Add(time.Duration(i) * time.Microsecond)
		if in, after := gate.Arrive("impatient", false, now); in || after > told {
			t.Fatalf("at %s: let in %v, after %s instead of %s", now.Sub(start), in, after, told)
		}
	}
	if c := gate.Counts(); c.Waiting != 1 || c.Promised != 1 {
		t.Errorf("%+v", c)
	}
}

// TestMemoryIsBounded has more come than promises are kept for, who never come
// back; an hour later nothing is left of them.
func TestMemoryIsBounded(t *testing.T) {
	gate := admission.New(admission.Options{Rate: 100, Burst: 10, Most: 1000})
	for i := range 5000 {
		if in, after := gate.Arrive(fmt.Sprint(i), false, start); !in && (after < time.Second || after > admission.Longest) {
			t.Fatalf("told %s", after)
		}
	}
	if c := gate.Counts(); c.Waiting != 1000 {
		t.Errorf("%d promises are kept", c.Waiting)
	}
	if in, _ := gate.Arrive("later", false, start.Add(2*time.Hour)); !in {
		t.Error("the gate does not open again")
	}
	if c := gate.Counts(); c.Waiting != 0 {
		t.Errorf("%d promises are kept that nobody came for", c.Waiting)
	}
}

// TestTheRateHolds holds any history of arrivals to the rate, and every refusal
// to a time that can be told.
func TestTheRateHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate, burst := rapid.IntRange(1, 50).Draw(t, "rate"), rapid.IntRange(1, 50).Draw(t, "burst")
		gate := admission.New(admission.Options{Rate: float64(rate), Burst: burst, Most: rapid.IntRange(1, 100).Draw(t, "most")})
		now, admitted := start, []time.Time{}
		for range rapid.IntRange(1, 400).Draw(t, "arrivals") {
			now = now.Add(time.Duration(rapid.IntRange(-10, 300).Draw(t, "ms")) * time.Millisecond)
			in, after := gate.Arrive(rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(t, "who"), rapid.Bool().Draw(t, "urgent"), now)
			if in {
				admitted = append(admitted, now)
			} else if after < time.Second || after > admission.Longest {
				t.Fatalf("told %s", after)
			}
		}
		slices.SortFunc(admitted, func(a, b time.Time) int { return cmp.Compare(a.UnixNano(), b.UnixNano()) })
		for i := range admitted {
			for j := i; j < len(admitted); j++ {
				if span := admitted[j].Sub(admitted[i]).Seconds() + 0.02; float64(j-i+1) > span*float64(rate)+float64(burst)+1 {
					t.Fatalf("%d were admitted in %gs", j-i+1, span)
				}
			}
		}
	})
}
