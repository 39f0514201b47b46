package software

import (
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
)

// history is one device, looked at again and again.
type history struct {
	t      *testing.T
	now    time.Time
	target Target
	facts  Facts
	at     Standing
	orders int
}

func newHistory(t *testing.T, r link.Release) *history {
	return &history{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), target: Target{Release: &r, Rollout: "r", Wave: 1, Attempts: 2, Deadline: time.Minute, Open: true}}
}

// look looks after some time, and expects a state.
func (h *history) look(after time.Duration, state link.UpdateState, step Step, reason string) {
	h.t.Helper()
	h.now = h.now.Add(after)
	next, give := Next(h.at, h.facts, h.target, h.now)
	if h.at = next; give {
		h.orders++
	}
	if next.State != state || next.Step != step || !strings.Contains(next.Reason, reason) {
		h.t.Fatalf("after %s: %s, %s because %q; want %s, %s because %q", after, next.State, next.Step, next.Reason, state, step, reason)
	}
	if again, give := Next(h.at, h.facts, h.target, h.now); give || again.Step != next.Step || again.State != next.State {
		h.t.Fatalf("a second look leads elsewhere: %+v", again)
	}
}

func (h *history) says(phase string, version string) {
	h.facts.Report = link.UpdateReport{Order: h.at.Order, Phase: phase, Software: map[string]string{"fw": version}, Error: ""}
}

func TestOnlyConnectedTimeCounts(t *testing.T) {
	h := newHistory(t, testRelease(1, "all", nil))
	h.look(0, link.UpdatePending, Away, waits)
	h.look(59*time.Second, link.UpdatePending, Away, waits)
	h.look(time.Second, link.UpdateUnreachable, Away, "not been connected")
	h.facts.Contact = true
	h.look(time.Hour, link.UpdatePending, Working, "ordered")
	h.look(40*time.Second, link.UpdatePending, Working, "ordered")
	h.facts.Contact = false
	h.look(0, link.UpdatePending, Working, "ordered")
	h.look(time.Minute, link.UpdateUnreachable, Working, "not been connected")
	h.facts.Contact = true
	h.look(time.Hour, link.UpdatePending, Working, "ordered")
	h.says(link.OrderDownloading, "0")
	h.look(19*time.Second, link.UpdatePending, Working, "downloading")
	h.target.Open = false
	h.look(time.Second, link.UpdatePending, Queued, "attempt 1 of 2")
	h.target.Open = true
	h.look(0, link.UpdatePending, Working, "ordered")
	h.look(time.Minute, link.UpdateFailed, Resting, "did not say within 1m0s")
	if h.orders != 2 {
		t.Errorf("%d orders", h.orders)
	}
	// The truth is what it says in the end.
	h.says(link.OrderConfirmed, "1")
	h.look(time.Hour, link.UpdateDone, Resting, "runs the release")
}

func TestADevicesWord(t *testing.T) {
	h := newHistory(t, testRelease(1, "all", nil))
	h.facts.Contact = true
	h.look(0, link.UpdatePending, Working, "ordered")
	first := h.at.Order
	h.says(link.OrderConfirmed, "1")
	h.facts.Report.Order--
	h.look(0, link.UpdatePending, Working, "ordered") // of an earlier order
	h.says(link.OrderConfirmed, "0")
	h.look(0, link.UpdatePending, Working, "other versions")
	h.says(link.OrderRolledBack, "0")
	h.facts.Report.Error = "no heartbeat"
	h.target.Open = false
	h.look(0, link.UpdatePending, Queued, "attempt 1 of 2: no heartbeat")
	h.target.Open = true
	h.look(0, link.UpdatePending, Working, "ordered")
	if h.at.Order <= first {
		t.Errorf("order %d follows %d", h.at.Order, first)
	}
	h.says("", "1")
	h.look(0, link.UpdateDone, Resting, "runs the release")
	h.says(link.OrderConfirmed, "0.9")
	h.target.Open = false
	h.look(time.Hour, link.UpdatePending, Queued, "it reports fw 0.9 again")
	h.target.Open = true
	h.look(0, link.UpdatePending, Working, "ordered")
}

func TestHardwareDecides(t *testing.T) {
	h := newHistory(t, testRelease(2, "some", nil))
	h.facts.Contact = true
	h.look(0, link.UpdateExempt, Resting, "has not said what hardware")
	if h.orders != 1 || h.at.Order != 0 || h.at.Given != h.target.Release.Digest {
		t.Errorf("it was to be given the configuration alone: %+v", h.at)
	}
	h.facts.Report.Hardware = "b"
	h.look(0, link.UpdateExempt, Resting, "nothing for hardware b")
	h.facts.Report.Hardware = "a"
	h.look(0, link.UpdatePending, Working, "ordered")
	h.facts.Report.Hardware = "b"
	h.look(0, link.UpdateExempt, Resting, "nothing for hardware b")
}

func TestTheWayBack(t *testing.T) {
	v1, v2 := testRelease(1, "all", nil), testRelease(2, "all", nil)
	h := newHistory(t, v1)
	h.target.Rollout, h.target.Wave = "", 0
	h.look(0, link.UpdatePending, Working, "ordered") // the base is for those that are away, too
	h.says(link.OrderConfirmed, "1")
	h.look(0, link.UpdateDone, Resting, "")
	base := h.target
	h.target = Target{Release: &v2, Rollout: "r", Wave: 1, Attempts: 1, Deadline: time.Minute, Open: true}
	h.facts.Given = &v1
	h.look(0, link.UpdatePending, Away, waits)
	rollout := h.target
	h.target = base
	h.look(0, link.UpdateDone, Resting, "") // it was told nothing, so there is nothing to take back
	h.target, h.facts.Contact = rollout, true
	h.look(0, link.UpdatePending, Working, "ordered")
	h.facts.Given, h.facts.Contact, h.target = &v2, false, base
	h.look(0, link.UpdatePending, Working, "ordered") // although it still runs the base
	if !h.at.Back || h.orders != 3 {
		t.Errorf("%d orders, the last %+v", h.orders, h.at)
	}
}

func TestADeviceThatRunsItAlready(t *testing.T) {
	h := newHistory(t, testRelease(1, "all", nil))
	h.facts.Report.Software = map[string]string{"fw": "1"}
	h.look(0, link.UpdateDone, Resting, "already")
	if h.orders != 0 {
		t.Error("it was given an order")
	}
	h.target.Release = nil
	h.look(0, link.UpdateExempt, Resting, "nothing is to run")
}

func TestThePollingDevicesClock(t *testing.T) {
	h := newHistory(t, testRelease(1, "all", nil))
	h.target.Deadline = time.Hour
	h.facts.Contact = true
	h.look(0, link.UpdatePending, Working, "ordered")
	seen := h.now
	h.at.SeenAt = &seen
	h.facts.Contact = false // for it has not asked for long
	h.look(50*time.Minute, link.UpdatePending, Working, "ordered")
	if h.at.Left != 45*time.Minute {
		t.Errorf("%s are left of an hour, of which it was there a quarter", h.at.Left)
	}
}
