package blob_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/blob"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// buckets are one of each kind.
func buckets(t *testing.T) map[string]blob.Bucket {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("artifacts"); err != nil {
		t.Fatal(err)
	}
	store := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(store.Close)
	s3, err := blob.OpenS3(link.S3{Endpoint: store.URL, Bucket: "artifacts", Prefix: "slipway/main", Region: "r", AccessKey: "a", SecretKey: "s"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]blob.Bucket{"dir": blob.Dir(t.TempDir()), "s3": s3}
}

func sum(content []byte) string {
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:])
}

// The digests of what the test sends, as other tools tell them.
const (
	want1 = "71b2625e7d0cbc96c1d6e6597d93623595d174ab"
	want5 = "2b797b2a228c46d81cdbd26796df471e"
)

func TestAFileComesInParts(t *testing.T) {
	for name, bucket := range buckets(t) {
		t.Run(name, func(t *testing.T) {
			files, ctx := blob.New(bucket), t.Context()
			content := bytes.Repeat([]byte("slipway "), 1000)
			id := sum(content)
			for _, cut := range [][2]int{{0, 3000}, {3000, 7000}, {7000, 8000}} {
				if received, err := files.Received(ctx, id); err != nil || received != int64(cut[0]) {
					t.Fatalf("%d received, %v", received, err)
				}
				if _, err := files.Open(ctx, id, 0); !problem.Is(err, problem.NotFound) {
					t.Fatalf("it is seen before it is whole: %v", err)
				}
				if err := files.WritePart(ctx, id, int64(cut[0]), int64(cut[1]-cut[0]), bytes.NewReader(content[cut[0]:cut[1]])); err != nil {
					t.Fatal(err)
				}
			}
			digests, err := files.Finish(ctx, id, int64(len(content)))
			if err != nil || digests.SHA256 != id || digests.SHA1 != want1 || digests.MD5 != want5 {
				t.Fatalf("%+v, %v", digests, err)
			}
			if err := files.Discard(ctx, id); err != nil {
				t.Fatal(err)
			}
			for _, offset := range []int64{0, 1, 7999, 8000} {
				r, err := files.Open(ctx, id, offset)
				if err != nil {
					t.Fatal(err)
				}
				rest, err := io.ReadAll(r)
				if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(rest, content[offset:]) {
					t.Fatalf("from %d on: %d bytes, %v", offset, len(rest), err)
				}
			}
			if again, err := files.Finish(ctx, id, int64(len(content))); err != nil || again != digests {
				t.Fatalf("finished again: %+v, %v", again, err)
			}
			if err := errors.Join(files.Remove(ctx, id), files.Remove(ctx, id)); err != nil {
				t.Fatal(err)
			}
			if received, err := files.Received(ctx, id); received != 0 || err != nil {
				t.Fatalf("%d, %v", received, err)
			}
		})
	}
}

func TestAWrongFileIsNeverSeen(t *testing.T) {
	for name, bucket := range buckets(t) {
		t.Run(name, func(t *testing.T) {
			files, ctx, id := blob.New(bucket), t.Context(), sum([]byte("what was announced"))
			if err := files.WritePart(ctx, id, 0, 9, strings.NewReader("something")); err != nil {
				t.Fatal(err)
			}
			if _, err := files.Finish(ctx, id, 10); !problem.Is(err, problem.Conflict) {
				t.Errorf("a part is missing: %v", err)
			}
			if _, err := files.Finish(ctx, id, 9); !problem.Is(err, problem.Invalid) || !strings.Contains(err.Error(), "nothing of it was kept") {
				t.Errorf("wrong content: %v", err)
			}
			if _, err := files.Size(ctx, id); !problem.Is(err, problem.NotFound) {
				t.Errorf("it is there: %v", err)
			}
			// A sender that goes away, and one that sends more than it said.
			if err := files.WritePart(ctx, id, 9, 100, iotest.TimeoutReader(strings.NewReader("cut off"))); err == nil {
				t.Error("a part that was cut off was taken")
			}
			if err := files.WritePart(ctx, id, 9, 2, strings.NewReader("cut off")); err == nil && name == "dir" {
				t.Error("a part that goes on was taken")
			}
		})
	}
}

// Whatever order parts of two senders come in, what Received counts is without
// a gap, and Finish makes the file or refuses.
func TestPartsOfTwoSenders(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 20)
	id := sum(content)
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "blob")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		files, ctx := blob.New(blob.Dir(dir)), t.Context()
		for range rapid.IntRange(1, 8).Draw(t, "parts") {
			at, err := files.Received(ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			// A sender may know an older state than the newest.
			at = int64(rapid.IntRange(0, int(at)).Draw(t, "offset"))
			n := min(int64(rapid.IntRange(1, 120).Draw(t, "length")), int64(len(content))-at)
			if n == 0 {
				break
			}
			if err := files.WritePart(ctx, id, at, n, bytes.NewReader(content[at:at+n])); err != nil {
				t.Fatal(err)
			}
		}
		received, err := files.Received(ctx, id)
		if err != nil || received > int64(len(content)) {
			t.Fatalf("%d received, %v", received, err)
		}
		_, err = files.Finish(ctx, id, int64(len(content)))
		if (err == nil) != (received == int64(len(content))) {
			t.Fatalf("%d of %d received, %v", received, len(content), err)
		}
	})
}

func TestDraftsOfTheDeadAreSweptAway(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "drafts"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{"draft-old": 48 * time.Hour, "draft-new": 0} {
		file := filepath.Join(dir, "drafts", name)
		at := time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(file, []byte("half"), 0o600), os.Chtimes(file, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := blob.New(blob.Dir(dir)).Sweep(t.Context(), time.Now().Add(-24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(dir, "drafts"))
	if err != nil || len(left) != 1 || left[0].Name() != "draft-new" {
		t.Errorf("%v, %v", left, err)
	}
}

// Whoever removes the last object of a directory takes the directory away; who
// puts another there at that moment makes it anew.
func TestADirectoryIsMadeAnewForWhoPutsAndRemovesAtOnce(t *testing.T) {
	dir, ctx := blob.Dir(t.TempDir()), t.Context()
	var all sync.WaitGroup
	for i := range 4 {
		name := fmt.Sprintf("parts/one/%d", i)
		all.Go(func() {
			for range 200 {
				if err := dir.Put(ctx, name, 1, strings.NewReader("x")); err != nil {
					t.Error(err)
					return
				}
				if err := dir.Remove(ctx, name); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
