package artifact_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/blob"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/artifact"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/control/release"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

var somebody = access.Actor{Name: "somebody"}

// shelf is artifacts with a clock that a test moves.
type shelf struct {
	t         *testing.T
	at        time.Time
	db        *sqldb.DB
	files     *blob.Store
	log       *audit.Log
	artifacts *artifact.Artifacts
	releases  *release.Releases
}

func newShelf(t *testing.T, limits artifact.Limits) *shelf {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &shelf{t: t, at: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), db: db, files: blob.New(blob.Dir(t.TempDir()))}
	now := func() time.Time { return s.at }
	s.log = audit.NewLog(db, now)
	s.artifacts = artifact.New(db, s.files, limits, s.log, now)
	s.releases = release.New(db, s.artifacts, s.log, now)
	return s
}

func sum(content []byte) string {
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:])
}

func part(content []byte, from, to int) artifact.Part {
	return artifact.Part{SHA256: sum(content), File: "f", Offset: int64(from), Length: int64(to - from), Size: int64(len(content))}
}

func (s *shelf) write(content []byte, from, to int) artifact.File {
	s.t.Helper()
	f, err := s.artifacts.Write(s.t.Context(), somebody, part(content, from, to), bytes.NewReader(content[from:to]))
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

func (s *shelf) states() string {
	s.t.Helper()
	all, err := s.artifacts.List(s.t.Context(), "", 100)
	if err != nil {
		s.t.Fatal(err)
	}
	text := ""
	for _, f := range all {
		text += fmt.Sprintf("%d %s, ", f.Size, f.State)
	}
	return text
}

func (s *shelf) release(name string, content []byte) {
	s.t.Helper()
	if _, err := s.releases.Create(s.t.Context(), somebody, name, link.ReleaseSpec{Software: []link.Software{{Name: "fw", Version: "1", Artifacts: []link.Artifact{{File: "f", SHA256: sum(content)}}}}}); err != nil {
		s.t.Fatal(err)
	}
}

func TestAFileIsFinishedAfterACrash(t *testing.T) {
	s := newShelf(t, artifact.Limits{})
	content := bytes.Repeat([]byte("x"), 1000)
	// The process died when the last part was on disk, or when the file was
	// made and not recorded, or when its parts were about to go.
	for _, far := range []string{"parts", "file", "swept"} {
		content = append(content, 'y')
		if _, err := s.artifacts.Write(t.Context(), somebody, part(content, 0, len(content)), bytes.NewReader(content[:10])); err == nil {
			t.Fatal("a part that was cut off was taken")
		}
		if err := s.files.WritePart(t.Context(), sum(content), 0, int64(len(content)), bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		if far != "parts" {
			if _, err := s.files.Finish(t.Context(), sum(content), int64(len(content))); err != nil {
				t.Fatal(err)
			}
		}
		if far == "swept" {
			if err := s.files.Discard(t.Context(), sum(content)); err != nil {
				t.Fatal(err)
			}
		}
		f, err := s.artifacts.Get(t.Context(), sum(content))
		if err != nil || f.State != artifact.Arriving || f.Received != f.Size {
			t.Fatalf("%s: %+v, %v", far, f, err)
		}
		if f = s.write(content, len(content), len(content)); f.State != artifact.Here || len(f.SHA1) != 40 || len(f.MD5) != 32 {
			t.Errorf("%s: %+v", far, f)
		}
	}
}

func TestTwoSendersAtOnce(t *testing.T) {
	s := newShelf(t, artifact.Limits{})
	content := bytes.Repeat([]byte("0123456789abcdef"), artifact.MinPart/4)
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			for {
				f, err := s.artifacts.Get(t.Context(), sum(content))
				if err == nil && f.State == artifact.Here {
					return
				}
				from := int(f.Received)
				to := min(from+artifact.MinPart, len(content))
				if _, err := s.artifacts.Write(t.Context(), somebody, part(content, from, to), bytes.NewReader(content[from:to])); err != nil && !problem.Is(err, problem.Conflict) {
					t.Errorf("%d to %d: %v", from, to, err)
					return
				}
			}
		})
	}
	senders.Wait()
	entries, err := s.log.List(t.Context(), "somebody", audit.Filter{})
	if err != nil || len(entries) != 1 || entries[0].Outcome != audit.Done || entries[0].OutcomeAt != 2 {
		t.Errorf("%+v, %v", entries, err)
	}
}

func TestPruneLeavesWhatReleasesName(t *testing.T) {
	s := newShelf(t, artifact.Limits{})
	named, unnamed, fresh, half := []byte("named"), []byte("unnamed!"), []byte("fresh"), bytes.Repeat([]byte("h"), 2*artifact.MinPart)
	s.write(named, 0, len(named))
	s.write(unnamed, 0, len(unnamed))
	s.write(half, 0, artifact.MinPart)
	s.release("v1", named)
	s.at = s.at.Add(25 * time.Hour)
	s.write(fresh, 0, len(fresh))
	for _, dryRun := range []bool{true, false} {
		gone, err := s.artifacts.Prune(t.Context(), somebody, 0, dryRun)
		if err != nil || len(gone) != 2 {
			t.Fatalf("%+v, %v", gone, err)
		}
	}
	if got := s.states(); got != "5 here, 5 here, " {
		t.Errorf("left are %s", got)
	}
	for _, content := range [][]byte{unnamed, half} {
		if received, err := s.files.Received(t.Context(), sum(content)); err != nil || received != 0 {
			t.Errorf("%d bytes are left, %v", received, err)
		}
	}
	// Once more, after its release is deleted.
	if err := s.releases.Delete(t.Context(), somebody, "v1"); err != nil {
		t.Fatal(err)
	}
	if gone, err := s.artifacts.Prune(t.Context(), somebody, time.Hour, false); err != nil || len(gone) != 1 || gone[0].SHA256 != sum(named) {
		t.Errorf("%+v, %v", gone, err)
	}
	s.write(named, 0, len(named))
}

func TestARemovalThatWasCutShortIsEnded(t *testing.T) {
	s := newShelf(t, artifact.Limits{})
	content := []byte("content")
	s.write(content, 0, len(content))
	if err := s.db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE artifact SET state = ?", artifact.Leaving)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.artifacts.Write(t.Context(), somebody, part(content, 0, len(content)), bytes.NewReader(content)); !problem.Is(err, problem.NotReady) {
		t.Errorf("sent again while it leaves: %v", err)
	}
	if _, err := s.artifacts.Open(t.Context(), sum(content)); !problem.Is(err, problem.NotFound) {
		t.Errorf("read while it leaves: %v", err)
	}
	half := bytes.Repeat([]byte("h"), 2*artifact.MinPart)
	s.write(half, 0, artifact.MinPart)
	s.at = s.at.Add(6 * 24 * time.Hour)
	if err := s.artifacts.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.states(); got != "524288 arriving, " {
		t.Errorf("left are %s", got)
	}
	s.at = s.at.Add(2 * 24 * time.Hour)
	if err := s.artifacts.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.states(); got != "" {
		t.Errorf("left are %s", got)
	}
	s.write(content, 0, len(content))
}

func TestQuotas(t *testing.T) {
	s := newShelf(t, artifact.Limits{File: 100, Total: 150})
	s.write(bytes.Repeat([]byte("a"), 100), 0, 100)
	for size, kind := range map[int]problem.Kind{101: problem.TooLarge, 51: problem.TooLarge, 0: problem.Invalid} {
		content := bytes.Repeat([]byte("b"), size)
		if _, err := s.artifacts.Write(t.Context(), somebody, part(content, 0, size), bytes.NewReader(content)); !problem.Is(err, kind) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	s.write(bytes.Repeat([]byte("b"), 50), 0, 50)
}
