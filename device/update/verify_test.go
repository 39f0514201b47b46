package update

import (
	"bytes"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/updatetest"
)

// replay serves metadata as it was once.
func replay(files map[string][]byte, only ...string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		name, asked := strings.CutPrefix(r.URL.Path, "/updates/metadata/")
		text, known := files[name]
		if asked && known && (len(only) == 0 || strings.HasSuffix(name, only[0])) {
			_, _ = w.Write(text)
			return
		}
		if asked && !known && len(only) == 0 {
			http.NotFound(w, r)
			return
		}
		honest.ServeHTTP(w, r)
	}
}

// TestAttacks has a proxy between device and hub do what the TUF specification
// says that attackers do.
func TestAttacks(t *testing.T) {
	for name, attack := range map[string]func(t *testing.T, w *world) (o Order, says string){
		"arbitrary installation": func(_ *testing.T, w *world) (Order, string) {
			o := w.release("v2", 100, nil)
			w.lie = artifacts(func(rw http.ResponseWriter, _ *http.Request, _ http.Handler) {
				_, _ = rw.Write(bytes.Repeat([]byte("evil"), 1000)[:o.Software[0].Artifacts[0].Size])
			})
			return o, "another hash"
		},
		"arbitrary installation by an order": func(_ *testing.T, w *world) (Order, string) {
			o := w.release("v2", 100, nil)
			o.Software[0].Artifacts[0].SHA256 = strings.Repeat("ab", 32)
			return o, "not as ordered"
		},
		"rollback of the timestamp": func(_ *testing.T, w *world) (Order, string) {
			old := w.repo.Files()
			w.follow(w.release("v1b", 100, nil)) // the device has seen newer metadata
			w.lie = replay(old)
			return w.release("v2", 100, nil), "timestamp.json"
		},
		"rollback of the snapshot": func(_ *testing.T, w *world) (Order, string) {
			old := w.repo.Files()
			o := w.release("v2", 100, nil)
			w.lie = func(rw http.ResponseWriter, r *http.Request, honest http.Handler) {
				if strings.HasSuffix(r.URL.Path, ".snapshot.json") {
					for name, text := range old {
						if strings.HasSuffix(name, ".snapshot.json") {
							_, _ = rw.Write(text)
							return
						}
					}
				}
				honest.ServeHTTP(rw, r)
			}
			return o, "snapshot.json"
		},
		"freeze": func(_ *testing.T, w *world) (Order, string) {
			o := w.release("v2", 100, nil)
			w.lie = replay(w.repo.Files())
			ahead := 48 * time.Hour
			w.set(func() { w.shift = ahead })
			return o, "expired"
		},
		"freeze, with a clock that stands still": func(_ *testing.T, w *world) (Order, string) {
			o := w.release("v2", 100, nil)
			w.lie = func(rw http.ResponseWriter, r *http.Request, honest http.Handler) {
				rw.Header().Set("Date", time.Now().Add(48*time.Hour).UTC().Format(http.TimeFormat))
				honest.ServeHTTP(rw, r)
			}
			return o, "expired"
		},
		"mix and match": func(_ *testing.T, w *world) (Order, string) {
			before := w.repo.Files()
			o := w.release("v2", 100, nil)
			var old []byte
			for version := range 20 {
				if text := before[versioned("test", int64(version))]; text != nil {
					old = text
				}
			}
			w.lie = func(rw http.ResponseWriter, r *http.Request, honest http.Handler) {
				if strings.HasSuffix(r.URL.Path, ".test.json") {
					_, _ = rw.Write(old)
					return
				}
				honest.ServeHTTP(rw, r)
			}
			return o, "test.json"
		},
		"wrong key": func(t *testing.T, w *world) (Order, string) {
			forged := updatetest.NewRepository(t, "test", "production")
			real := w.repo
			w.repo = forged
			o := w.release("v2", 100, nil)
			forged.Jump(100)
			files := forged.Files()
			delete(files, "1.root.json")
			w.lie = replay(files)
			w.repo = real
			return o, "timestamp.json"
		},
		"a root signed by another root": func(t *testing.T, w *world) (Order, string) {
			o := w.release("v2", 100, nil)
			forged := updatetest.NewRepository(t, "test")
			forged.Rotate(0, "root")
			w.lie = replay(map[string][]byte{"2.root.json": forged.File("2.root.json")}, "2.root.json")
			return o, "2.root.json"
		},
		"endless metadata": func(_ *testing.T, w *world) (Order, string) {
			w.lie = func(rw http.ResponseWriter, r *http.Request, honest http.Handler) {
				if !strings.HasSuffix(r.URL.Path, "timestamp.json") {
					honest.ServeHTTP(rw, r)
					return
				}
				for r.Context().Err() == nil {
					if _, err := rw.Write(bytes.Repeat([]byte(" "), 64<<10)); err != nil {
						return
					}
				}
			}
			return w.release("v2", 100, nil), "more than"
		},
		"roots without end": func(_ *testing.T, w *world) (Order, string) {
			w.lie = func(rw http.ResponseWriter, r *http.Request, honest http.Handler) {
				if strings.HasSuffix(r.URL.Path, ".root.json") {
					_, _ = rw.Write(w.repo.Root())
					return
				}
				honest.ServeHTTP(rw, r)
			}
			return w.release("v2", 100, nil), "root.json"
		},
		"slow retrieval": func(_ *testing.T, w *world) (Order, string) {
			w.lie = func(rw http.ResponseWriter, r *http.Request, _ http.Handler) {
				for r.Context().Err() == nil {
					_, _ = rw.Write([]byte(" "))
					rw.(http.Flusher).Flush()
					time.Sleep(20 * time.Millisecond)
				}
			}
			return w.release("v2", 100, nil), "too slowly"
		},
		"signed for another environment": func(_ *testing.T, w *world) (Order, string) {
			o := w.release("v2", 100, nil)
			o.Environment = "production"
			return o, "does not name"
		},
		"an environment's key signs for another": func(_ *testing.T, w *world) (Order, string) {
			o := w.release("v2", 100, nil)
			w.repo.Smuggle("test", "test/v2/firmware/app", "production")
			o.Environment = "production"
			return o, "" // whatever the reason: the role production did not sign it
		},
		"wrong hardware": func(_ *testing.T, w *world) (Order, string) {
			return w.release("v2", 100, func(c *updatetest.Custom, _ *Order) { c.Hardware = []string{"gw-900"} }), "gw-900"
		},
		"no metadata at all": func(_ *testing.T, w *world) (Order, string) {
			w.lie = replay(map[string][]byte{})
			return w.release("v2", 100, nil), "404"
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.config.Clock = func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return time.Now().Add(w.shift) }
			w.boot()
			if r := w.follow(w.release("v1", 100, nil)); r.Phase != ReportConfirmed {
				t.Fatalf("before the attack it ended with %+v", r)
			}
			o, says := attack(t, w)
			before := w.updater.State().Running["firmware"].Version
			if r := w.follow(o); r.Phase != ReportFailed || !strings.Contains(r.Error, says) {
				t.Errorf("ended with %+v, want an error with %q", r, says)
			}
			w.runs(before)
			// The attack over, the device works as ever: nothing of it lasts.
			w.set(func() { w.lie, w.shift = nil, 0 })
			if r := w.follow(w.release("v9", 100, nil)); r.Phase != ReportConfirmed {
				t.Errorf("after the attack it ended with %+v", r)
			}
			w.runs("v9")
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
	w.lie = replay(w.repo.Files())
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
