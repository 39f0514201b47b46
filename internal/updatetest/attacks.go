package updatetest

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Lie is a proxy between a device and its hub: it answers by itself, or has the
// honest hub answer.
type Lie = func(w http.ResponseWriter, r *http.Request, honest http.Handler)

// Scene is when an attack begins: the device runs something, its hub signs an
// order for something newer, and the device is about to hear of it.
type Scene struct {
	Repository *Repository
	// Old is the metadata there was before the device has seen newer.
	Old map[string][]byte
	// Size is the length of the artifact that the order names.
	Size int64
}

// Attack is one of those that the TUF specification lists, done by a proxy.
// Says is what the device must report, beside that it has failed.
type Attack struct {
	Says string
	Lie  func(t *testing.T, s Scene) Lie
}

// Attacks are those that need no more than to sit between a device and its hub,
// by name.
var Attacks = map[string]Attack{
	"arbitrary installation": {"another hash", func(_ *testing.T, s Scene) Lie {
		return artifacts(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(bytes.Repeat([]byte("e"), int(s.Size)))
		})
	}},
	"endless data": {"more than", func(*testing.T, Scene) Lie { return artifacts(endless) }},
	"endless metadata": {"more than", func(*testing.T, Scene) Lie {
		return instead("timestamp.json", endless)
	}},
	"roots without end": {"root.json", func(_ *testing.T, s Scene) Lie {
		return instead(".root.json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(s.Repository.Root()) })
	}},
	"rollback of all metadata": {"timestamp.json", func(_ *testing.T, s Scene) Lie { return Replay(s.Old) }},
	"rollback of the timestamp": {"timestamp.json", func(_ *testing.T, s Scene) Lie {
		return instead("timestamp.json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(s.Old["timestamp.json"]) })
	}},
	"rollback of the snapshot": {"snapshot.json", func(_ *testing.T, s Scene) Lie { return older(s, ".snapshot.json") }},
	"mix and match":            {"test.json", func(_ *testing.T, s Scene) Lie { return older(s, ".test.json") }},
	"freeze": {"expired", func(_ *testing.T, s Scene) Lie {
		frozen := Replay(s.Repository.Files())
		return func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
			w.Header().Set("Date", time.Now().Add(48*time.Hour).UTC().Format(http.TimeFormat))
			frozen(w, r, honest)
		}
	}},
	"wrong key": {"timestamp.json", func(t *testing.T, _ Scene) Lie {
		forged := NewRepository(t, "test", "production")
		forged.Jump(100)
		files := forged.Files()
		delete(files, "1.root.json")
		return Replay(files)
	}},
	"a root signed by another root": {"2.root.json", func(t *testing.T, _ Scene) Lie {
		forged := NewRepository(t, "test")
		forged.Rotate(0, "root")
		return instead("2.root.json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(forged.File("2.root.json")) })
	}},
	"no metadata at all": {"404", func(*testing.T, Scene) Lie { return Replay(nil) }},
}

// Replay serves metadata as it was once, and nothing else.
func Replay(files map[string][]byte) Lie {
	return func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		_, name, asked := strings.Cut(r.URL.Path, "/metadata/")
		switch text, known := files[name]; {
		case !asked:
			honest.ServeHTTP(w, r)
		case known:
			_, _ = w.Write(text) // the device sees what is missing
		default:
			http.NotFound(w, r)
		}
	}
}

// older serves one kind of metadata as it was, under the name of what it is now.
func older(s Scene, suffix string) Lie {
	return instead(suffix, func(w http.ResponseWriter, _ *http.Request) {
		for name, text := range s.Old {
			if strings.HasSuffix(name, suffix) {
				_, _ = w.Write(text)
				return
			}
		}
	})
}

func artifacts(lie http.HandlerFunc) Lie {
	return func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		if strings.Contains(r.URL.Path, "/artifacts/") {
			lie(w, r)
			return
		}
		honest.ServeHTTP(w, r)
	}
}

// instead lies about files of metadata whose names end so.
func instead(suffix string, lie http.HandlerFunc) Lie {
	return func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		if strings.HasSuffix(r.URL.Path, suffix) {
			lie(w, r)
			return
		}
		honest.ServeHTTP(w, r)
	}
}

// endless writes until the device has had enough.
func endless(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := w.Write(bytes.Repeat([]byte(" "), 64<<10)); err != nil {
			return
		}
	}
}
