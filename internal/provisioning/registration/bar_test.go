package registration

import (
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/attestation"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

// A device that was barred goes nowhere, whatever it asks and whoever moves it,
// until that is taken back; forgotten, it is still known again.
func TestABarredDeviceGoesNowhere(t *testing.T) {
	w := newWorld(t, sqldbtest.At(t))
	defer w.close()
	w.service.BarKey = []byte("secret")
	w.tenants(t, link.Tenant{Name: "acme"})
	w.group(t, "of-acme", "acme")
	w.register("a", "of-acme")
	bar := func(remove, forget bool) link.BarState {
		t.Helper()
		state, err := w.service.Bar(t.Context(), link.BarDevice{DeviceID: "a", Reason: "sold", Remove: remove, Forget: forget})
		if err != nil {
			t.Fatal(err)
		}
		return state
	}
	refused := func(when string) {
		t.Helper()
		proof := attestation.Proof{Enrollment: link.Enrollment{Kind: link.Group, Name: "of-acme", Spec: link.EnrollmentSpec{Environment: "test", Tenant: "acme"}}}
		if _, err := w.service.Register(t.Context(), "A", proof, Ask{}); !problem.Is(err, problem.Denied) {
			t.Errorf("%s it may register: %v", when, err)
		}
		w.turn(time.Minute)
	}
	if state := bar(false, false); state.Off || state.Stamp == "" || state.Tenant != "acme" || !state.Registered {
		t.Errorf("barred, on its stamp still: %+v", state)
	}
	refused("barred,")
	if !strings.HasPrefix(w.on("a"), "a assigned t") {
		t.Errorf("nobody took it off: %s", w.on("a"))
	}
	bar(true, false)
	w.turn(time.Minute)
	if state := bar(true, false); !state.Off || w.on("a") != "a waiting" {
		t.Errorf("taken off: %+v, %s", state, w.on("a"))
	}
	if r, _ := w.get("a"); r.Twin != nil {
		t.Error("its twin is kept for another stamp")
	}
	w.move(t, link.StartMove{To: "test", Devices: []string{"a"}})
	w.turn(time.Minute)
	refused("moved,")
	bar(true, true)
	refused("forgotten,")
	if _, err := w.service.Unbar(t.Context(), link.BarDevice{DeviceID: "a"}); err != nil {
		t.Fatal(err)
	}
	w.register("a", "of-acme")
	if !strings.HasPrefix(w.on("a"), "a assigned t") {
		t.Errorf("that was taken back, and it is %s", w.on("a"))
	}
	// One that never registered is known by its id.
	if _, err := w.service.Bar(t.Context(), link.BarDevice{DeviceID: "never-seen"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.service.Register(t.Context(), "Never-Seen", attestation.Proof{}, Ask{}); !problem.Is(err, problem.Denied) {
		t.Errorf("one that was barred before it came: %v", err)
	}
}
