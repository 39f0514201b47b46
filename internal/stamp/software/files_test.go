package software

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// shelf is control with one file of each kind.
type shelf struct {
	mu      sync.Mutex
	content []byte
	failing error
	offsets []int64
}

func (s *shelf) Artifact(_ context.Context, req link.ReadPart) (link.Part, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offsets = append(s.offsets, req.Offset)
	if s.failing != nil && (req.Offset > 0 || s.content == nil) {
		return link.Part{}, s.failing
	}
	rest := s.content[min(int(req.Offset), len(s.content)):]
	return link.Part{Size: int64(len(s.content)), Data: rest[:min(len(rest), link.MaxPart)]}, nil
}

func (s *shelf) Metadata(ctx context.Context, req link.ReadPart) (link.Part, error) {
	return s.Artifact(ctx, req)
}

func artifactOf(content []byte) link.Artifact {
	sum := sha256.Sum256(content)
	return link.Artifact{File: "f", Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
}

func TestAnArtifactIsWholeOrNotThere(t *testing.T) {
	content := bytes.Repeat([]byte("x"), link.MaxPart+100)
	control := &shelf{content: content, failing: problem.New(problem.NotReady, "away")}
	f, err := openFiles(t.TempDir(), 10<<20, control)
	if err != nil {
		t.Fatal(err)
	}
	a := artifactOf(content)
	r := &link.Release{Digest: "d", Spec: link.ReleaseSpec{Software: []link.Software{{Artifacts: []link.Artifact{a}}}}}
	if err := f.fetch(t.Context(), a); !problem.Is(err, problem.NotReady) || f.ready(r) {
		t.Fatalf("half of it is there: %v", err)
	}
	if _, _, err := f.open(a.SHA256); !problem.Is(err, problem.NotFound) {
		t.Fatalf("it can be opened: %v", err)
	}
	control.failing, control.offsets = nil, nil
	if err := f.fetch(t.Context(), a); err != nil || !f.ready(r) {
		t.Fatalf("it did not come: %v", err)
	}
	if control.offsets[0] != link.MaxPart {
		t.Errorf("it was fetched from %d on", control.offsets[0])
	}

	// Something else under its name is never seen, and asked for anew.
	wrong := artifactOf([]byte("right"))
	control.content = []byte("wrong")
	if err := f.fetch(t.Context(), wrong); !problem.Is(err, problem.Conflict) || f.has(wrong.SHA256) {
		t.Fatalf("the wrong content: %v", err)
	}
	control.content = []byte("right")
	if err := f.fetch(t.Context(), wrong); err != nil {
		t.Fatal(err)
	}
	control.content = []byte("longer than it should be")
	if err := f.fetch(t.Context(), artifactOf([]byte("short"))); !problem.Is(err, problem.Conflict) {
		t.Fatalf("too long a content: %v", err)
	}
	for _, name := range []string{"../secret", "", "ABC"} {
		if err := f.fetch(t.Context(), link.Artifact{SHA256: name}); !problem.Is(err, problem.Invalid) {
			t.Errorf("%q: %v", name, err)
		}
		if _, _, err := f.open(name); !problem.Is(err, problem.Invalid) {
			t.Errorf("%q: %v", name, err)
		}
	}

	if err := f.sweep(map[string]bool{wrong.SHA256: true}); err != nil || f.has(a.SHA256) || !f.has(wrong.SHA256) || f.ready(r) {
		t.Errorf("after the sweep: %v", err)
	}
}

func TestMetadataOutlivesControl(t *testing.T) {
	control := &shelf{content: []byte("one")}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	m, err := openMetadata(dir, control, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	expect := func(name, want string, kind problem.Kind) {
		t.Helper()
		content, err := m.read(t.Context(), name)
		if string(content) != want || want == "" && !problem.Is(err, kind) {
			t.Errorf("%s is %q, %v", name, content, err)
		}
	}
	expect("timestamp.json", "one", "")
	expect("1.root.json", "one", "")
	control.content = []byte("two")
	expect("timestamp.json", "one", "") // it is fresh
	now = now.Add(freshFor)
	expect("timestamp.json", "two", "")
	expect("1.root.json", "one", "") // it has its version in its name

	control.content, control.failing = nil, problem.New(problem.NotReady, "away")
	now = now.Add(time.Hour)
	expect("timestamp.json", "two", "")
	expect("timestamp.json", "two", "")
	expect("2.root.json", "", problem.NotReady)
	asked := len(control.offsets)
	expect("2.root.json", "", problem.NotReady)
	if len(control.offsets) != asked {
		t.Error("control is asked again at once")
	}
	control.failing = problem.New(problem.NotFound, "no more")
	now = now.Add(time.Hour)
	expect("timestamp.json", "", problem.NotFound)
	for _, name := range []string{"", ".", "..", "a/b", ".hidden", string(make([]byte, 81))} {
		expect(name, "", problem.Invalid)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".new-*")); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestManyReadersAskOnce(t *testing.T) {
	control := &shelf{content: []byte("one")}
	m, err := openMetadata(t.TempDir(), control, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	for range 50 {
		reading.Go(func() {
			if content, err := m.read(t.Context(), "timestamp.json"); err != nil || string(content) != "one" {
				t.Errorf("%q, %v", content, err)
			}
		})
	}
	reading.Wait()
	if len(control.offsets) != 1 {
		t.Errorf("control was asked %d times", len(control.offsets))
	}
}

func TestSpaceIsBounded(t *testing.T) {
	f, err := openFiles(t.TempDir(), 10, &shelf{content: []byte("much more than fits")})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.fetch(t.Context(), link.Artifact{SHA256: artifactOf([]byte("much more than fits")).SHA256}); !problem.Is(err, problem.Conflict) {
		t.Errorf("an artifact larger than all space: %v", err)
	}
	if err := os.WriteFile(f.path("x"), make([]byte, 8), 0o600); err != nil {
		t.Fatal(err)
	}
	if used, err := f.used(); err != nil || used != 8 {
		t.Errorf("%d bytes, %v", used, err)
	}
}
