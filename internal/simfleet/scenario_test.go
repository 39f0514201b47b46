package simfleet

import (
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// simulate runs a scenario to its end, in time that passes only when everybody
// waits.
func simulate(t *testing.T, name string, devices int, length time.Duration) (r Report) {
	t.Helper()
	scenario, err := FindScenario(name)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		c := newCloud()
		moments := 0
		r, err = Simulate(t.Context(), Options{
			Devices: devices, Provisioning: "cloud.test", IDScope: "0ne1", GroupKey: []byte("0123456789abcdef"), CA: trusted, Dial: c.dial, ReportEvery: time.Second,
		}, scenario, length, func(Moment, Stats) { moments++ })
		if err != nil {
			t.Fatal(err)
		}
		if r.Scenario != name || r.Devices != devices || len(r.Course) != moments || r.Seconds < length.Seconds()-2 || r.Acked == 0 || r.Acked > r.Sent {
			t.Errorf("%s", brief(r))
		}
	})
	return r
}

// brief is a report without its course.
func brief(r Report) string { r.Course = nil; return fmt.Sprintf("%+v", r) }

func TestScenariosComeAboutAsTheySay(t *testing.T) {
	const devices = 40
	if r := simulate(t, "steady", devices, time.Minute); r.Connects != devices || r.Most != devices || r.Connected != devices || r.Errors != 0 {
		t.Errorf("steady: %s", brief(r))
	}
	if r := simulate(t, "boot-storm", devices, 2*time.Minute); r.Connects != 2*devices || r.ReturnP99 <= 0 || r.ReturnP50 > r.ReturnP99 || r.Course[0].Connects < devices/2 {
		t.Errorf("boot-storm: %s", brief(r))
	}
	if r := simulate(t, "flaky-links", devices, 5*time.Minute); r.Disconnects < 3*devices || r.Connected == 0 {
		t.Errorf("flaky-links: %s", brief(r))
	}
	if r := simulate(t, "crash-loop", devices, 2*time.Minute); r.Disconnects < 2*devices/5 || r.Connected < devices/2 {
		t.Errorf("crash-loop: %s", brief(r))
	}
	r := simulate(t, "diurnal", devices, 10*time.Minute)
	rate := func(from, to float64) (sum float64) {
		for _, m := range r.Course {
			if m.Second >= from && m.Second < to {
				sum += m.Acked
			}
		}
		return sum
	}
	if night, noon := rate(30, 90), rate(270, 330); noon < 4*night {
		t.Errorf("diurnal: %.0f at night, %.0f at noon", night, noon)
	}
	off := 0
	for i := range 1000 {
		if d := badClock(string(rune('a'+i%26)) + string(rune('a'+i/26))); d != 0 {
			off++
		}
	}
	if off < 60 || off > 140 {
		t.Errorf("%d of 1000 clocks are off", off)
	}
	if _, err := FindScenario("calm"); err == nil {
		t.Error("found what is not there")
	}
}

// A slow link holds locks of TLS while it sleeps, which virtual time does not
// pass over: this one is real.
func TestASlowLinkDeliversLate(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	begin := time.Now()
	go func() {
		if _, err := slow("", here).Write([]byte("late")); err != nil {
			t.Error(err)
		}
	}()
	got := make([]byte, 4)
	if _, err := io.ReadFull(there, got); err != nil || string(got) != "late" || time.Since(begin) < 300*time.Millisecond {
		t.Errorf("%q after %s, %v", got, time.Since(begin), err)
	}
}
