package signing_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/blob"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/artifact"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/control/release"
	"github.com/slipway/slipway/internal/control/signing"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// bench is a repository with releases to be let into environments.
type bench struct {
	t         *testing.T
	clock     *clock
	db        *sqldb.DB
	artifacts *artifact.Artifacts
	releases  *release.Releases
	specs     map[string]resource.EnvironmentSpec
	options   signing.Options
	signing   *signing.Signing
}

var somebody = access.Actor{Name: "somebody"}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, clock: &clock{at: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}, specs: map[string]resource.EnvironmentSpec{"test": {}, "production": {PromotesFrom: "test"}}}
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	log := audit.NewLog(db, b.clock.now)
	b.db, b.artifacts = db, artifact.New(db, blob.New(blob.Dir(t.TempDir())), artifact.Limits{}, log, b.clock.now)
	b.releases = release.New(db, b.artifacts, log, b.clock.now)
	b.options = signing.Options{DB: db, Audit: log, Releases: b.releases, Secret: bytes.Repeat([]byte{7}, 32), Now: b.clock.now, Environment: func(_ context.Context, _ sqldb.Querier, name string) (resource.EnvironmentSpec, error) {
		spec, known := b.specs[name]
		if !known {
			return spec, problem.New(problem.NotFound, "there is no environment %q", name)
		}
		return spec, nil
	}}
	b.commit(func(ctx context.Context, tx *sqldb.Tx) error {
		for name := range b.specs {
			if _, err := tx.Exec(ctx, "INSERT INTO environment (name, spec, version, created_at, updated_at) VALUES (?, '{}', 1, 0, 0)", name); err != nil {
				return err
			}
		}
		return nil
	})
	b.open()
	return b
}

func (b *bench) open() {
	b.t.Helper()
	var err error
	if b.signing, err = signing.Open(b.t.Context(), b.options); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) commit(fn func(ctx context.Context, tx *sqldb.Tx) error) {
	b.t.Helper()
	if err := b.db.Commit(b.t.Context(), fn); err != nil {
		b.t.Fatal(err)
	}
}

// release makes a release of one piece of firmware.
func (b *bench) release(name string) link.Release {
	b.t.Helper()
	content := []byte("firmware of " + name)
	sum := sha256.Sum256(content)
	id := hex.EncodeToString(sum[:])
	if _, err := b.artifacts.Write(b.t.Context(), somebody, artifact.Part{SHA256: id, File: "fw.bin", Length: int64(len(content)), Size: int64(len(content))}, bytes.NewReader(content)); err != nil {
		b.t.Fatal(err)
	}
	r, err := b.releases.Create(b.t.Context(), somebody, name, link.ReleaseSpec{Software: []link.Software{{Name: "firmware", Version: strings.TrimPrefix(name, "v"), Hardware: []string{"b1", "a1"}, Artifacts: []link.Artifact{{File: "fw.bin", SHA256: id}}}}})
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bench) admit(environment, name string) {
	b.t.Helper()
	b.commit(func(ctx context.Context, tx *sqldb.Tx) error { return b.signing.Admit(ctx, tx, environment, name) })
}

func (b *bench) withdraw(environment, name string) {
	b.t.Helper()
	b.commit(func(ctx context.Context, tx *sqldb.Tx) error {
		return b.signing.Withdraw(ctx, tx, environment, name)
	})
}

func (b *bench) admitted(environment, name string, want bool, says string) {
	b.t.Helper()
	got, reason, err := b.signing.Admitted(b.t.Context(), environment, name)
	if err != nil || got != want || !strings.Contains(reason, says) {
		b.t.Errorf("%s in %s: admitted %v, %q, %v; want %v, %q", name, environment, got, reason, err, want, says)
	}
}

func (b *bench) root() []byte {
	b.t.Helper()
	root, err := b.signing.Root(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return root
}

// device is a TUF client that nobody here wrote, with what it keeps.
type device struct {
	t     *testing.T
	clock *clock
	dir   string
	root  []byte
	fetch func(name string) ([]byte, error)
}

func (b *bench) device() *device {
	b.t.Helper()
	return &device{b.t, b.clock, b.t.TempDir(), b.root(), func(name string) ([]byte, error) { return b.signing.File(b.t.Context(), name) }}
}

// DownloadFile implements fetcher.Fetcher.
func (d *device) DownloadFile(at string, most int64, _ time.Duration) ([]byte, error) {
	name, err := url.PathUnescape(path.Base(at))
	if err != nil {
		return nil, err
	}
	text, err := d.fetch(name)
	if problem.Is(err, problem.NotFound) {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: 404, URL: at}
	}
	if err == nil && int64(len(text)) > most {
		return nil, &metadata.ErrDownloadLengthMismatch{Msg: "too long"}
	}
	return text, err
}

// look asks what the metadata says of a target.
func (d *device) look(target string) (*metadata.TargetFiles, error) {
	cfg, err := config.New("https://stamp.example/metadata", d.root)
	if err != nil {
		return nil, err
	}
	cfg.Fetcher, cfg.LocalMetadataDir, cfg.LocalTargetsDir = d, d.dir, d.dir
	// What the device kept of the root is newer than what it was made with.
	if kept, err := os.ReadFile(filepath.Join(d.dir, "root.json")); err == nil {
		cfg.LocalTrustedRoot = kept
	}
	up, err := updater.New(cfg)
	if err != nil {
		return nil, err
	}
	up.UnsafeSetRefTime(d.clock.now())
	if err := up.Refresh(); err != nil {
		return nil, err
	}
	return up.GetTargetInfo(target)
}

func (d *device) sees(target string) *metadata.TargetFiles {
	d.t.Helper()
	file, err := d.look(target)
	if err != nil {
		d.t.Fatalf("%s: %v", target, err)
	}
	return file
}

func (d *device) refuses(what, target string) {
	d.t.Helper()
	if _, err := d.look(target); err == nil {
		d.t.Errorf("%s: the device took it", what)
	}
}

func TestADeviceMayRunWhatIsAdmitted(t *testing.T) {
	b := newBench(t)
	one, two := b.release("v1"), b.release("v2")
	d := b.device()
	b.admitted("test", "v1", false, "was not let into test")
	b.admit("test", "v1")
	b.admitted("test", "v1", true, "")
	file := d.sees("test/v1/firmware/fw.bin")
	var said struct {
		Release, Environment, Software, Version string
		Hardware                                []string
		Counter                                 int64
	}
	if err := json.Unmarshal(*file.Custom, &said); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%+v", said); got != fmt.Sprintf("{Release:v1 Environment:test Software:firmware Version:1 Hardware:[a1 b1] Counter:%d}", one.Counter) {
		t.Errorf("custom is %s", got)
	}
	if file.Length != one.Spec.Software[0].Artifacts[0].Size || file.Hashes["sha256"].String() != one.Spec.Software[0].Artifacts[0].SHA256 {
		t.Errorf("%d bytes, %s", file.Length, file.Hashes["sha256"])
	}
	d.refuses("another environment", "production/v1/firmware/fw.bin")
	d.refuses("a release that is not in", "test/v2/firmware/fw.bin")

	b.admit("test", "v2")
	b.admit("production", "v1")
	d.sees("test/v2/firmware/fw.bin")
	d.sees("production/v1/firmware/fw.bin")
	b.withdraw("test", "v1")
	b.withdraw("test", "v1")
	b.admitted("test", "v1", false, "was not let into test")
	d.refuses("a release that was taken out", "test/v1/firmware/fw.bin")
	d.sees("test/v2/firmware/fw.bin")
	if one.Counter >= two.Counter {
		t.Errorf("the counter went from %d to %d", one.Counter, two.Counter)
	}
	if err := b.releases.Delete(t.Context(), somebody, "v1"); !problem.Is(err, problem.Conflict) {
		t.Errorf("a promoted release was deleted: %v", err)
	}
	// Nothing changes by admitting once more, nor by starting again.
	before := b.files()
	b.admit("test", "v2")
	b.open()
	if after := b.files(); after != before {
		t.Errorf("%d files became %d", before, after)
	}
}

func (b *bench) files() (n int) {
	for v := 1; v < 100; v++ {
		if _, err := b.signing.File(b.t.Context(), fmt.Sprintf("%d.snapshot.json", v)); err == nil {
			n++
		}
	}
	return n
}

// lie has a fetch answer some names with something else.
func lie(fetch func(string) ([]byte, error), with map[string][]byte) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		if text, lied := with[name]; lied {
			if text == nil {
				return nil, problem.New(problem.NotFound, "gone")
			}
			return text, nil
		}
		return fetch(name)
	}
}

func TestADeviceIsNotFooled(t *testing.T) {
	b := newBench(t)
	b.release("v1")
	b.release("v2")
	b.admit("test", "v1")
	d := b.device()
	const one, two = "test/v1/firmware/fw.bin", "test/v2/firmware/fw.bin"
	d.sees(one)
	old := map[string][]byte{}
	for _, name := range []string{"timestamp.json", "2.snapshot.json", "2.targets.json", "1.test.json"} {
		text, err := d.fetch(name)
		if err != nil {
			t.Fatal(err)
		}
		old[name] = text
	}
	b.admit("test", "v2")
	b.withdraw("test", "v1")
	d.sees(two)
	honest := d.fetch

	d.fetch = lie(honest, map[string][]byte{"timestamp.json": old["timestamp.json"]})
	d.refuses("rolled back: the timestamp of before", one)
	d.fetch = lie(honest, map[string][]byte{"4.snapshot.json": old["2.snapshot.json"]})
	d.refuses("rolled back: the snapshot of before under a new name", one)
	d.fetch = lie(honest, map[string][]byte{"3.test.json": old["1.test.json"]})
	d.refuses("mixed: the environment's role of before in the new snapshot", one)

	d.fetch = honest
	b.clock.pass(8 * 24 * time.Hour)
	d.refuses("frozen: what expired", two)
	if err := b.signing.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.sees(two)

	other := newBench(t)
	other.release("v1")
	other.admit("test", "v1")
	d.fetch = other.device().fetch
	d.refuses("wrong key: another installation's metadata", one)
	fresh := b.device()
	fresh.fetch = d.fetch
	fresh.refuses("wrong key: for a device that knows nothing yet", one)

	forged, err := honest("timestamp.json")
	if err != nil {
		t.Fatal(err)
	}
	fresh = b.device()
	fresh.fetch = lie(honest, map[string][]byte{"timestamp.json": bytes.Replace(forged, []byte(`"version":`), []byte(`"version":9`), 1)})
	fresh.refuses("altered", two)
	fresh.fetch = lie(honest, map[string][]byte{"timestamp.json": append(forged, bytes.Repeat([]byte(" "), 1<<20)...)})
	fresh.refuses("endless", two)
}

func TestKeysRotateAndDevicesFollow(t *testing.T) {
	b := newBench(t)
	b.release("v1")
	b.admit("test", "v1")
	d, made := b.device(), b.device() // the second stays in its box meanwhile
	const target = "test/v1/firmware/fw.bin"
	d.sees(target)
	for _, role := range []string{"root", "timestamp", "snapshot", "targets", "test", "root"} {
		if err := b.signing.Rotate(t.Context(), somebody, role); err != nil {
			t.Fatalf("%s: %v", role, err)
		}
		d.sees(target)
	}
	made.sees(target)
	if err := b.signing.Rotate(t.Context(), somebody, "nowhere"); !problem.Is(err, problem.NotFound) {
		t.Errorf("a role that is not there: %v", err)
	}
	// Over a year everything is signed anew, in time.
	for range 400 {
		b.clock.pass(12 * time.Hour)
		if err := b.signing.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.clock.pass(11 * time.Hour)
		if _, err := d.look(target); err != nil {
			t.Fatalf("at %s: %v", b.clock.now(), err)
		}
	}
	made.sees(target)
	b.options.Secret = bytes.Repeat([]byte{8}, 32)
	if _, err := signing.Open(t.Context(), b.options); err == nil || !strings.Contains(err.Error(), "put that file back") {
		t.Errorf("with another secret: %v", err)
	}
}

// signer is a person with a key.
type signer struct {
	key    crypto.Signer
	public string
}

func person(t *testing.T, curve bool) signer {
	t.Helper()
	var key crypto.Signer
	_, private, err := ed25519.GenerateKey(nil)
	if key = private; curve && err == nil {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return signer{key, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
}

func (s signer) sign(t *testing.T, p signing.Proposal) signing.Signature {
	t.Helper()
	message, hash := p.Payload, crypto.Hash(0)
	if _, curve := s.key.(*ecdsa.PrivateKey); curve {
		sum := sha256.Sum256(p.Payload)
		message, hash = sum[:], crypto.SHA256
	}
	sum, err := s.key.Sign(rand.Reader, message, hash)
	if err != nil {
		t.Fatal(err)
	}
	return signing.Signature{Version: p.Version, PublicKey: s.public, Signature: sum}
}

func TestPeopleSignForProduction(t *testing.T) {
	b := newBench(t)
	ann, ben, eve := person(t, false), person(t, true), person(t, false)
	b.specs["production"] = resource.EnvironmentSpec{Signing: &resource.Signing{Keys: []string{ann.public, ben.public}, Threshold: 2}}
	b.release("v1")
	b.release("v2")
	d := b.device()
	const one, two = "production/v1/firmware/fw.bin", "production/v2/firmware/fw.bin"
	propose := func() signing.Proposal {
		t.Helper()
		p, err := b.signing.Proposal(t.Context(), "production")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	add := func(s signer, p signing.Proposal, complete bool) {
		t.Helper()
		after, err := b.signing.Sign(t.Context(), somebody, "production", s.sign(t, p))
		if err != nil || after.Complete != complete {
			t.Fatalf("complete %v, %v", after.Complete, err)
		}
	}
	b.admit("production", "v1")
	b.admitted("production", "v1", false, "0 of 2 signatures")
	d.refuses("nobody signed", one)
	p := propose()
	for what, c := range map[string]struct {
		signature signing.Signature
		kind      problem.Kind
	}{
		"a key that is none of them": {eve.sign(t, p), problem.Denied},
		"another's signature":        {signing.Signature{Version: p.Version, PublicKey: ann.public, Signature: eve.sign(t, p).Signature}, problem.Invalid},
		"an older proposal":          {signing.Signature{Version: p.Version - 1, PublicKey: ann.public, Signature: ann.sign(t, p).Signature}, problem.Stale},
		"no key":                     {signing.Signature{Version: p.Version, PublicKey: "x"}, problem.Invalid},
	} {
		if _, err := b.signing.Sign(t.Context(), somebody, "production", c.signature); !problem.Is(err, c.kind) {
			t.Errorf("%s: %v", what, err)
		}
	}
	add(ann, p, false)
	add(ann, p, false) // twice counts once
	b.admitted("production", "v1", false, "1 of 2 signatures")
	d.refuses("one signed", one)
	add(ben, p, true)
	b.admitted("production", "v1", true, "")
	d.sees(one)
	if _, err := b.signing.Proposal(t.Context(), "production"); !problem.Is(err, problem.NotFound) {
		t.Errorf("something waits still: %v", err)
	}

	// What changes while signatures are gathered makes them void.
	b.admit("production", "v2")
	first := propose()
	add(ann, first, false)
	b.withdraw("production", "v1")
	if _, err := b.signing.Sign(t.Context(), somebody, "production", ben.sign(t, first)); !problem.Is(err, problem.Invalid) {
		t.Errorf("a signature of what was proposed before: %v", err)
	}
	second := propose()
	if len(second.SignedBy) != 0 || fmt.Sprint(second.Releases) != "[v2]" {
		t.Errorf("%+v", second)
	}
	add(ben, second, false)
	add(ann, second, true)
	d.sees(two)

	// Half through its life it is to be signed anew; devices take it meanwhile.
	b.clock.pass(50 * 24 * time.Hour)
	if err := b.signing.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.sees(two)
	renewed := propose()
	add(ann, renewed, false)
	// Other keys: those who signed and may no longer do not count.
	b.specs["production"] = resource.EnvironmentSpec{Signing: &resource.Signing{Keys: []string{ben.public, eve.public}, Threshold: 2}}
	b.commit(func(ctx context.Context, tx *sqldb.Tx) error { return b.signing.Settle(ctx, tx, "production") })
	d.sees(two)
	renewed = propose()
	if len(renewed.SignedBy) != 0 {
		t.Errorf("signed by %v", renewed.SignedBy)
	}
	add(eve, renewed, false)
	add(ben, renewed, true)
	d.sees(two)
	if err := b.signing.Rotate(t.Context(), somebody, "production"); !problem.Is(err, problem.Conflict) {
		t.Errorf("control rotated a key that people hold: %v", err)
	}
	// And back to control.
	b.specs["production"] = resource.EnvironmentSpec{}
	b.commit(func(ctx context.Context, tx *sqldb.Tx) error { return b.signing.Settle(ctx, tx, "production") })
	d.sees(two)
	roles, err := b.signing.Roles(t.Context())
	if err != nil || len(roles) != 5 || !roles[4].Held || fmt.Sprint(roles[4].Releases) != "[v2]" {
		t.Errorf("%+v, %v", roles, err)
	}
}

// Whatever is decided, and in whatever order, a device sees exactly the files
// of what is let into an environment: at once where control signs, and where
// people do, what they signed last.
func TestDevicesSeeWhatWasDecided(t *testing.T) {
	b := newBench(t)
	names := []string{"v1", "v2", "v3"}
	for _, name := range names {
		b.release(name)
	}
	ann := person(t, false)
	d := b.device()
	rapid.Check(t, func(t *rapid.T) {
		in := map[string]map[string]bool{} // what is decided, which is kept from try to try
		for environment := range b.specs {
			in[environment] = map[string]bool{}
			for _, name := range names {
				if ok, _, err := b.signing.Admitted(b.t.Context(), environment, name); err != nil {
					t.Fatal(err)
				} else if ok {
					in[environment][name] = true
				}
			}
		}
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			environment, name := rapid.SampledFrom([]string{"test", "production"}).Draw(t, "environment"), rapid.SampledFrom(names).Draw(t, "release")
			switch rapid.SampledFrom([]string{"admit", "admit", "withdraw", "rotate", "renew", "hand over", "take back"}).Draw(t, "step") {
			case "admit":
				b.admit(environment, name)
				in[environment][name] = true
			case "withdraw":
				b.withdraw(environment, name)
				delete(in[environment], name)
			case "rotate":
				role := rapid.SampledFrom([]string{"root", "targets", "snapshot", "timestamp"}).Draw(t, "role")
				if err := b.signing.Rotate(b.t.Context(), somebody, role); err != nil {
					t.Fatal(err)
				}
			case "renew":
				b.clock.pass(time.Duration(rapid.IntRange(1, 60*24).Draw(t, "hours")) * time.Hour)
				if err := b.signing.Renew(b.t.Context()); err != nil {
					t.Fatal(err)
				}
			case "hand over":
				b.specs["production"] = resource.EnvironmentSpec{Signing: &resource.Signing{Keys: []string{ann.public}}}
				b.commit(func(ctx context.Context, tx *sqldb.Tx) error { return b.signing.Settle(ctx, tx, "production") })
			case "take back":
				b.specs["production"] = resource.EnvironmentSpec{}
				b.commit(func(ctx context.Context, tx *sqldb.Tx) error { return b.signing.Settle(ctx, tx, "production") })
			}
			if p, err := b.signing.Proposal(b.t.Context(), "production"); err == nil {
				if _, err := b.signing.Sign(b.t.Context(), somebody, "production", ann.sign(b.t, p)); err != nil {
					t.Fatal(err)
				}
			}
			for environment := range b.specs {
				for _, name := range names {
					_, err := d.look(environment + "/" + name + "/firmware/fw.bin")
					ok, reason, failed := b.signing.Admitted(b.t.Context(), environment, name)
					if failed != nil || ok != in[environment][name] || ok != (err == nil) {
						t.Fatalf("%s in %s: decided %v, admitted %v (%s, %v), the device says %v", name, environment, in[environment][name], ok, reason, failed, err)
					}
				}
			}
		}
	})
}

func TestAnEnvironmentThatIsGone(t *testing.T) {
	b := newBench(t)
	b.release("v1")
	b.admit("test", "v1")
	d := b.device()
	d.sees("test/v1/firmware/fw.bin")
	delete(b.specs, "test")
	b.commit(func(ctx context.Context, tx *sqldb.Tx) error { return b.signing.Settle(ctx, tx, "test") })
	b.admit("production", "v1")
	d.sees("production/v1/firmware/fw.bin")
	err := b.db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return b.signing.Admit(ctx, tx, "test", "v1") })
	if !problem.Is(err, problem.NotFound) {
		t.Errorf("let into an environment that is not there: %v", err)
	}
	for _, name := range []string{"5.targets.json", "", "../root.json", "timestamp.json' OR 1=1"} {
		if _, err := b.signing.Read(t.Context(), link.ReadPart{Name: name}); !problem.Is(err, problem.NotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	part, err := b.signing.Read(t.Context(), link.ReadPart{Name: "timestamp.json", Offset: 10})
	if err != nil || part.Size != int64(len(part.Data))+10 {
		t.Errorf("%+v, %v", part, err)
	}
	if _, err := b.signing.Read(t.Context(), link.ReadPart{Name: "timestamp.json", Offset: 1 << 40}); !problem.Is(err, problem.Invalid) {
		t.Errorf("beyond the end: %v", err)
	}
}
