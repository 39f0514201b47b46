package vault_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/vault"
)

var start = time.Date(2026, 12, 20, 18, 0, 0, 0, time.UTC)

// world is a vault with who writes into it and who recovers from it.
type world struct {
	*vault.Vault
	dir      string
	key      ed25519.PrivateKey
	signers  []ed25519.PublicKey
	identity *age.X25519Identity
	now      time.Time
}

func newWorld(t *testing.T) *world {
	dir := t.TempDir()
	return worldIn(t, link.Vault{Name: "home", Directory: dir}, dir)
}

func worldIn(t *testing.T, spec link.Vault, dir string) *world {
	t.Helper()
	v, err := vault.Open(spec)
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return &world{Vault: v, dir: dir, key: private, signers: []ed25519.PublicKey{public}, identity: identity, now: start}
}

func (w *world) writing() vault.Writing {
	return vault.Writing{Secret: []byte("secret"), Recipients: []age.Recipient{w.identity.Recipient()}, Now: func() time.Time { return w.now }}
}

// take makes a backup of files.
func (w *world) take(t *testing.T, how vault.Writing, files map[string][]byte) vault.Index {
	t.Helper()
	x := vault.Index{ID: vault.NewID(w.now, "stamp.a"), Peer: "stamp.a", TakenAt: w.now}
	x, err := w.Write(t.Context(), how, x, items(files))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := w.Hand(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	x, err = w.Publish(t.Context(), x.ID, digest, w.key, w.now)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func items(files map[string][]byte) func(func(vault.Item) error) error {
	return func(each func(vault.Item) error) error {
		for path, content := range files {
			item := vault.Item{Path: path, Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }}
			if key, fixed := strings.CutPrefix(path, "plane/fixed/"); fixed {
				item.Key, item.Size = key, int64(len(content))
			}
			if err := each(item); err != nil {
				return err
			}
		}
		return nil
	}
}

func (w *world) restore(t *testing.T, x vault.Index) (map[string][]byte, error) {
	t.Helper()
	dir := t.TempDir()
	_, err := w.Restore(t.Context(), x, vault.Restoring{Identities: []age.Identity{w.identity}, Place: func(p string) string { return filepath.Join(dir, p) }})
	files := map[string][]byte{}
	walked := filepath.WalkDir(dir, func(file string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, file)
			files[name], err = os.ReadFile(file)
		}
		return err
	})
	if walked != nil {
		t.Fatal(walked)
	}
	return files, err
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return b
}

func samples() map[string][]byte {
	return map[string][]byte{
		"plane/database.sqlite":  noise(1, 3<<20),
		"plane/fixed/artifact-1": noise(2, 5<<20),
		"plane/empty":            {},
		"root/ca.pem":            []byte("certificate"),
	}
}

func same(t *testing.T, got, want map[string][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
	for path, content := range want {
		if !bytes.Equal(got[path], content) {
			t.Errorf("%s has %d bytes, want other %d", path, len(got[path]), len(content))
		}
	}
}

func TestABackupComesBackAndTheNextAddsWhatChanged(t *testing.T) {
	t.Parallel()
	backend := s3mem.New()
	if err := backend.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	store := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(store.Close)
	dir := t.TempDir()
	for name, spec := range map[string]link.Vault{
		"dir": {Name: "home", Directory: dir},
		"s3":  {Name: "home", S3: &link.S3{Endpoint: store.URL, Bucket: "backups", Prefix: "site", Region: "r", AccessKey: "a", SecretKey: "s"}},
	} {
		t.Run(name, func(t *testing.T) {
			w, files := worldIn(t, spec, dir), samples()
			first := w.take(t, w.writing(), files)
			got, err := w.restore(t, first)
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, files)

			w.now = w.now.Add(15 * time.Minute)
			copy(files["plane/database.sqlite"][1<<20:], "some pages changed")
			second := w.take(t, w.writing(), files)
			if second.Bytes != first.Bytes || second.Stored > 2<<20 || second.Stored == 0 {
				t.Errorf("of %d bytes the second backup added %d, the first %d", second.Bytes, second.Stored, first.Stored)
			}
			got, err = w.restore(t, second)
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, files)
			if err := w.Verify(t.Context(), second, nil); err != nil {
				t.Error(err)
			}

			// In another era all is written anew.
			w.now = w.now.Add(8 * 24 * time.Hour)
			if third := w.take(t, w.writing(), files); third.Stored < first.Stored/2 {
				t.Errorf("in another era the backup added %d bytes", third.Stored)
			}
			ids, err := w.List(t.Context())
			if err != nil || len(ids) != 3 || ids[0] != first.ID {
				t.Fatalf("%v, %v", ids, err)
			}
			if _, err := w.Remove(t.Context(), ids[:2], w.now); err != nil {
				t.Fatal(err)
			}
			removed, _, err := w.Sweep(t.Context(), "stamp.a", w.signers, w.now)
			if err != nil || removed < len(first.Chunks) {
				t.Errorf("swept %d chunks of %d, %v", removed, len(first.Chunks), err)
			}
			third, err := w.Find(t.Context(), ids[2], w.signers)
			if err != nil {
				t.Fatal(err)
			}
			if got, err = w.restore(t, third); err != nil {
				t.Fatal(err)
			}
			same(t, got, files)
		})
	}
}

// TestEveryFlippedByteIsFound flips one byte in each of a thousand copies of a
// backup, wherever it may be; none comes back.
func TestEveryFlippedByteIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	x := w.take(t, w.writing(), map[string][]byte{"plane/database.sqlite": noise(3, 60<<10), "root/ca.pem": []byte("certificate")})
	var files []string
	var sizes []int
	for _, pattern := range []string{"backups/*", "chunks/*/*/*"} {
		found, err := filepath.Glob(filepath.Join(w.dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range found {
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			files, sizes = append(files, file), append(sizes, int(info.Size()))
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 1000 {
		n := random.IntN(len(files))
		content, err := os.ReadFile(files[n])
		if err != nil {
			t.Fatal(err)
		}
		at, bit := random.IntN(sizes[n]), byte(1)<<random.IntN(8)
		content[at] ^= bit
		if err := os.WriteFile(files[n], content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := w.comeBack(t, x.ID); err == nil {
			t.Fatalf("copy %d: byte %d of %s was flipped by %#x, and the backup came back", i, at, files[n], bit)
		}
		content[at] ^= bit
		if err := os.WriteFile(files[n], content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.comeBack(t, x.ID); err != nil {
		t.Error(err)
	}
}

func (w *world) comeBack(t *testing.T, id string) error {
	t.Helper()
	x, err := w.Find(t.Context(), id, w.signers)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(t.TempDir(), "back")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	_, err = w.Restore(t.Context(), x, vault.Restoring{Identities: []age.Identity{w.identity}, Place: func(p string) string { return filepath.Join(dir, p) }})
	return err
}

func TestDamagedAndForeignBackupsAreRefused(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]struct {
		do   func(t *testing.T, w *world, index string, chunks []string)
		says string
	}{
		"a chunk is missing":      {func(t *testing.T, w *world, _ string, chunks []string) { must(t, os.Remove(chunks[0])) }, "is missing"},
		"a chunk is cut short":    {func(t *testing.T, w *world, _ string, chunks []string) { must(t, os.Truncate(chunks[1], 100)) }, "was changed"},
		"two chunks change place": {swap, "was changed"},
		"the index is cut short":  {func(t *testing.T, w *world, index string, _ []string) { must(t, os.Truncate(index, 200)) }, "signature"},
		"another has signed":      {func(t *testing.T, w *world, _ string, _ []string) { w.signers = newWorld(t).signers }, "known signer"},
		"another identity":        {func(t *testing.T, w *world, _ string, _ []string) { w.identity = newWorld(t).identity }, "another recipient"},
		"it has another's name": {func(t *testing.T, w *world, index string, _ []string) {
			must(t, os.Rename(index, filepath.Join(filepath.Dir(index), vault.NewID(start, "stamp.b"))))
		}, "there is no backup"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			x := w.take(t, w.writing(), samples())
			index := filepath.Join(w.dir, "backups", x.ID)
			chunks, err := filepath.Glob(filepath.Join(w.dir, "chunks/*/*/*"))
			if err != nil {
				t.Fatal(err)
			}
			harm.do(t, w, index, chunks)
			if err := w.comeBack(t, x.ID); err == nil || !strings.Contains(err.Error(), harm.says) {
				t.Errorf("it says %v", err)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func swap(t *testing.T, _ *world, _ string, chunks []string) {
	t.Helper()
	must(t, os.Rename(chunks[0], chunks[0]+".x"))
	must(t, os.Rename(chunks[1], chunks[0]))
	must(t, os.Rename(chunks[0]+".x", chunks[1]))
}

// TestWhatWasInterruptedIsNoBackup stops a backup in its middle: there is none,
// and the next one uses what had come.
func TestWhatWasInterruptedIsNoBackup(t *testing.T) {
	t.Parallel()
	w, files := newWorld(t), map[string][]byte{"plane/a": noise(4, 6<<20)}
	ctx, cancel := context.WithCancel(t.Context())
	how := w.writing()
	how.Progress = func(bytes int64) {
		if bytes > 4<<20 {
			cancel()
		}
	}
	x := vault.Index{ID: vault.NewID(w.now, "stamp.a"), Peer: "stamp.a"}
	if _, err := w.Write(ctx, how, x, items(files)); err == nil {
		t.Fatal("it went on to its end")
	}
	if ids, err := w.List(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("%v, %v", ids, err)
	}
	got := w.take(t, w.writing(), files)
	if got.Stored >= got.Size {
		t.Errorf("the next backup wrote %d of %d bytes", got.Stored, got.Size)
	}
	if err := w.comeBack(t, got.ID); err != nil {
		t.Error(err)
	}
}

func TestOnlyWhatItsPlaneWroteIsSigned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	x := vault.Index{ID: vault.NewID(w.now, "stamp.a"), Peer: "stamp.a"}
	x, err := w.Write(t.Context(), w.writing(), x, items(samples()))
	must(t, err)
	digest, err := w.Hand(t.Context(), x)
	must(t, err)
	if _, err := w.Publish(t.Context(), x.ID, strings.Repeat("0", 64), w.key, w.now); !problem.Is(err, problem.Conflict) {
		t.Errorf("another index: %v", err)
	}
	must(t, os.RemoveAll(filepath.Join(w.dir, "chunks")))
	if _, err := w.Publish(t.Context(), x.ID, digest, w.key, w.now); !problem.Is(err, problem.Conflict) {
		t.Errorf("without its chunks: %v", err)
	}
	if ids, err := w.List(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("%v, %v", ids, err)
	}
}

func TestVaultsHoldWhatBelongsThere(t *testing.T) {
	t.Parallel()
	all := []link.Vault{{Name: "home", Directory: "/x"}, {Name: "us", Regions: []string{"us-1"}, Directory: "/y"}}
	for _, c := range []struct {
		peer, region string
		bound        bool
		want         string
	}{
		{"control", "", false, "home"}, {"stamp.a", "eu-1", false, "home"}, {"stamp.a", "us-1", true, "us"}, {"stamp.a", "eu-1", true, ""},
	} {
		got, err := vault.Choose(all, c.peer, c.region, c.bound)
		if got.Name != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: %s, %v", c, got.Name, err)
		}
	}
}

func TestRetention(t *testing.T) {
	t.Parallel()
	moments := map[string]time.Time{}
	for i := range 24 * 60 {
		at := start.Add(-time.Duration(i) * time.Hour)
		moments[vault.NewID(at, "control")] = at
	}
	excess := vault.Retention{Last: 4, Daily: 7, Weekly: 3, Monthly: 2}.Excess(moments)
	kept := map[string]bool{}
	for id := range moments {
		kept[id] = true
	}
	for _, id := range excess {
		delete(kept, id)
	}
	var want []string
	for i := range 4 {
		want = append(want, vault.NewID(start.Add(-time.Duration(i)*time.Hour), "control"))
	}
	for day := 1; day < 7; day++ {
		want = append(want, fmt.Sprintf("202612%02dT230000Z.control", 20-day))
	}
	want = append(want, "20261213T230000Z.control", "20261206T230000Z.control", "20261130T230000Z.control")
	for _, id := range want {
		if !kept[id] {
			t.Errorf("%s was not kept", id)
		}
	}
	if len(kept) != len(want) {
		t.Errorf("%d kept, want %d: %v", len(kept), len(want), kept)
	}
}

func FuzzParse(f *testing.F) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	good := `{"format":1,"id":"20261220T180000Z.control","peer":"control","vault":"home","takenAt":"2026-12-20T18:00:00Z","endedAt":"2026-12-20T18:00:01Z","engine":"sqlite","schema":1,"rows":{},"canary":{"mark":"m","at":"2026-12-20T18:00:00Z"},"recipients":[],"files":1,"bytes":1,"stored":1,"size":1,"chunks":["2026w51/00000000000000000000000000000000-1-0000000000000000000000000000000000000000000000000000000000000000"],"contents":[0]}`
	if _, err := vault.ParseText([]byte(good)); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(good))
	f.Add([]byte(`{"format":1,"contents":[-1]}`))
	f.Add(vault.Sign([]byte(good), private))
	f.Fuzz(func(t *testing.T, text []byte) {
		if x, err := vault.ParseText(text); err == nil {
			for _, i := range x.Contents {
				if x.Chunks[i] == "" {
					t.Error("a chunk without a name")
				}
			}
			signed, err := vault.Parse(vault.Sign(text, private), []ed25519.PublicKey{public})
			if err != nil || signed.ID != x.ID {
				t.Errorf("signed: %v", err)
			}
		}
		if _, err := vault.Parse(text, []ed25519.PublicKey{public}); err == nil && !bytes.Equal(text, vault.Sign([]byte(good), private)) {
			t.Error("what nobody has signed is read")
		}
	})
}
