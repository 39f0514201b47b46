package update

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/updatetest"
)

// attacked has a device of a world that runs v1 follow an order under attack:
// it fails, saying why, and runs what it ran. The attack over, nothing of it
// lasts.
func (w *world) attacked(o Order, says string) {
	w.t.Helper()
	before := w.updater.State().Running["firmware"].Version
	if r := w.follow(o); r.Phase != ReportFailed || !strings.Contains(r.Error, says) {
		w.t.Errorf("ended with %+v, want an error with %q", r, says)
	}
	w.runs(before)
	w.set(func() { w.lie, w.shift = nil, 0 })
	if r := w.follow(w.release("v9", 100, nil)); r.Phase != ReportConfirmed {
		w.t.Errorf("after the attack it ended with %+v", r)
	}
	w.runs("v9")
}

// trusting is a world whose device runs v1.
func trusting(t *testing.T) *world {
	w := newWorld(t)
	w.config.Clock = func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return time.Now().Add(w.shift) }
	w.boot()
	if r := w.follow(w.release("v1", 100, nil)); r.Phase != ReportConfirmed {
		t.Fatalf("before the attack it ended with %+v", r)
	}
	return w
}

// TestAttacks has a proxy between device and hub do what the TUF specification
// says that attackers do.
func TestAttacks(t *testing.T) {
	for name, attack := range updatetest.Attacks {
		t.Run(name, func(t *testing.T) {
			w := trusting(t)
			old := w.repo.Files()
			w.follow(w.release("v1b", 100, nil)) // the device has seen newer metadata
			o := w.release("v2", 100, nil)
			lie := attack.Lie(t, updatetest.Scene{Repository: w.repo, Old: old, Size: o.Software[0].Artifacts[0].Size})
			w.set(func() { w.lie = lie })
			w.attacked(o, attack.Says)
		})
	}
}

// TestAttacksBySigners are those of somebody who can give orders, holds a key,
// or has the device's clock.
func TestAttacksBySigners(t *testing.T) {
	for name, attack := range map[string]func(w *world) (o Order, says string){
		"arbitrary installation by an order": func(w *world) (Order, string) {
			o := w.release("v2", 100, nil)
			o.Software[0].Artifacts[0].SHA256 = strings.Repeat("ab", 32)
			return o, "not as ordered"
		},
		"freeze, with the device's clock ahead": func(w *world) (Order, string) {
			o := w.release("v2", 100, nil)
			w.lie = updatetest.Replay(w.repo.Files())
			w.set(func() { w.shift = 48 * time.Hour })
			return o, "expired"
		},
		"slow retrieval": func(w *world) (Order, string) {
			w.lie = func(rw http.ResponseWriter, r *http.Request, _ http.Handler) {
				for r.Context().Err() == nil {
					_, _ = rw.Write([]byte(" "))
					rw.(http.Flusher).Flush()
					time.Sleep(20 * time.Millisecond)
				}
			}
			return w.release("v2", 100, nil), "too slowly"
		},
		"signed for another environment": func(w *world) (Order, string) {
			o := w.release("v2", 100, nil)
			o.Environment = "production"
			return o, "does not name"
		},
		"an environment's key signs for another": func(w *world) (Order, string) {
			o := w.release("v2", 100, nil)
			w.repo.Smuggle("test", "test/v2/firmware/app", "production")
			o.Environment = "production"
			return o, "" // whatever the reason: the role production did not sign it
		},
		"wrong hardware": func(w *world) (Order, string) {
			return w.release("v2", 100, func(c *updatetest.Custom, _ *Order) { c.Hardware = []string{"gw-900"} }), "gw-900"
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := trusting(t)
			o, says := attack(w)
			w.attacked(o, says)
		})
	}
}

// A thief of the online keys raises the versions, so that honest metadata
// looks old. New keys for these roles make devices forget what was raised.
func TestRecoveryFromFastForward(t *testing.T) {
	w := newWorld(t)
	w.boot()
	w.follow(w.release("v1", 100, nil))
	w.repo.Jump(1_000_000)
	if r := w.follow(w.release("v2", 100, nil)); r.Phase != ReportConfirmed {
		t.Fatalf("ended with %+v", r)
	}
	w.repo.Rotate(10, "timestamp", "snapshot")
	if r := w.follow(w.release("v3", 100, nil)); r.Phase != ReportConfirmed {
		t.Errorf("after new keys it ended with %+v", r)
	}
	w.runs("v3")
}

func TestKeysAreReplacedOneAfterTheOther(t *testing.T) {
	w := newWorld(t)
	w.boot()
	for i, role := range []string{"root", "targets", "root", "timestamp"} {
		w.repo.Rotate(0, role)
		if r := w.follow(w.release("v"+string(rune('1'+i)), 100, nil)); r.Phase != ReportConfirmed {
			t.Errorf("after a new key for %s it ended with %+v", role, r)
		}
	}
}

// A hub keeps metadata for a while, so it may give an order before it has the
// metadata that names what the order does.
func TestAHubWhoseMetadataIsBehind(t *testing.T) {
	w := newWorld(t)
	w.config.Lag, w.config.Policy.Attempts = 10*time.Second, 1000
	w.boot()
	w.follow(w.release("v1", 100, nil))
	w.lie = updatetest.Replay(w.repo.Files())
	o := w.release("v2", 100, nil)
	w.updater.Desired(desired(o))
	before := len(w.requests)
	w.until(func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.requests) > before+5 })
	w.set(func() { w.lie = nil })
	if r := w.ends(o); r.Phase != ReportConfirmed {
		t.Errorf("ended with %+v", r)
	}
}

// What a loss of power leaves of the metadata that is kept is fetched anew.
func TestMetadataDamagedOnTheDevice(t *testing.T) {
	w := newWorld(t)
	_, stop := w.boot()
	w.follow(w.release("v1", 100, nil))
	stop()
	kept, err := filepath.Glob(filepath.Join(w.config.Directory, "metadata", "*"))
	if err != nil || len(kept) < 4 {
		t.Fatalf("kept %v: %v", kept, err)
	}
	for _, file := range kept {
		if err := WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.boot()
	if r := w.follow(w.release("v2", 100, nil)); r.Phase != ReportConfirmed {
		t.Errorf("ended with %+v", r)
	}
}

func TestTheClockIsTheLatestOfThoseThereAre(t *testing.T) {
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	c := &clock{system: func() time.Time { return at }}
	if got := c.now(time.Time{}); !got.Equal(at) {
		t.Error(got)
	}
	if been := at.Add(time.Hour); !c.now(been).Equal(been) {
		t.Error("a time that has been is not heeded")
	}
	c.built = at.Add(2 * time.Hour)
	if !c.now(at).Equal(c.built) {
		t.Error("the time of the build is not heeded")
	}
	if c.hear(at.Add(3 * time.Hour)); c.now(at).Before(at.Add(3 * time.Hour)) {
		t.Error("the hub's time is not heeded")
	}
	if c.hear(at.Add(-time.Hour)); !c.now(at).Equal(c.built) {
		t.Error("the hub turned the clock back")
	}
}
