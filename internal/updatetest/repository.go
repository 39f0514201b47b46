// Package updatetest is the other side of an update, for tests: a TUF
// repository that signs releases, and a hub on real sockets that gives orders
// and serves what they name, honestly or as it is told to lie.
package updatetest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Repository signs what devices may install.
type Repository struct {
	t *testing.T

	mu        sync.Mutex
	keys      map[string]signature.Signer // by role
	root      *metadata.Metadata[metadata.RootType]
	targets   *metadata.Metadata[metadata.TargetsType]
	roles     map[string]*metadata.Metadata[metadata.TargetsType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	timestamp *metadata.Metadata[metadata.TimestampType]
	metadata  map[string][]byte
	artifacts map[string][]byte
	counter   int64
}

// Custom is what is signed of an artifact beside its length and hash.
type Custom struct {
	Release     string   `json:"release"`
	Environment string   `json:"environment"`
	Software    string   `json:"software"`
	Version     string   `json:"version"`
	Hardware    []string `json:"hardware"`
	Counter     int64    `json:"counter"`
}

// NewRepository makes one with a role for each environment, and signs it.
func NewRepository(t *testing.T, environments ...string) *Repository {
	expires := time.Now().Add(24 * time.Hour).UTC()
	r := &Repository{
		t: t, keys: map[string]signature.Signer{}, roles: map[string]*metadata.Metadata[metadata.TargetsType]{}, metadata: map[string][]byte{}, artifacts: map[string][]byte{},
		root: metadata.Root(expires), targets: metadata.Targets(expires), snapshot: metadata.Snapshot(expires), timestamp: metadata.Timestamp(expires),
	}
	r.root.Signed.ConsistentSnapshot = true
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		r.must(r.root.Signed.AddKey(r.newKey(role), role))
	}
	r.targets.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}}
	for _, environment := range environments {
		r.targets.Signed.Delegations.Roles = append(r.targets.Signed.Delegations.Roles, metadata.DelegatedRole{
			Name: environment, Threshold: 1, Terminating: true, Paths: []string{environment + "/*/*/*"},
		})
		r.must(r.targets.Signed.AddKey(r.newKey(environment), environment))
		r.roles[environment] = metadata.Targets(expires)
	}
	r.sign("1.root.json", metadata.ROOT)
	r.Sign()
	return r
}

func (r *Repository) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// newKey gives a role a key of its own, in place of what it had.
func (r *Repository) newKey(role string) *metadata.Key {
	public, private, err := ed25519.GenerateKey(nil)
	r.must(err)
	key, err := metadata.KeyFromPublicKey(public)
	r.must(err)
	signer, err := signature.LoadED25519Signer(private)
	r.must(err)
	r.keys[role] = signer
	return key
}

// Root is the root a device is made with.
func (r *Repository) Root() []byte { return r.File("1.root.json") }

// File is a file of metadata; nil: there is none.
func (r *Repository) File(name string) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.metadata[name]
}

// Artifact is an artifact by its hash; nil: there is none.
func (r *Repository) Artifact(sum string) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.artifacts[sum]
}

// Add signs a file into an environment's role, and returns its hash. Sign
// publishes it.
func (r *Repository) Add(file string, content []byte, c Custom) (sum string) {
	hash := sha256.Sum256(content)
	sum = hex.EncodeToString(hash[:])
	text, err := json.Marshal(c)
	r.must(err)
	raw := json.RawMessage(text)
	target := metadata.TargetFile()
	target.Length, target.Hashes, target.Custom = int64(len(content)), metadata.Hashes{"sha256": hash[:]}, &raw
	r.mu.Lock()
	defer r.mu.Unlock()
	r.artifacts[sum] = content
	r.roles[c.Environment].Signed.Targets[c.Environment+"/"+c.Release+"/"+c.Software+"/"+file] = target
	return sum
}

// Counter is the next release's.
func (r *Repository) Counter() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counter++
	return r.counter
}

// Remove takes a target away.
func (r *Repository) Remove(environment, path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.roles[environment].Signed.Targets, path)
}

// Sign publishes new versions of all roles but the root.
func (r *Repository) Sign() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.targets.Signed.Version++
	r.snapshot.Signed.Version++
	r.timestamp.Signed.Version++
	r.snapshot.Signed.Meta = map[string]*metadata.MetaFiles{"targets.json": metadata.MetaFile(r.targets.Signed.Version)}
	for name, role := range r.roles {
		role.Signed.Version++
		r.snapshot.Signed.Meta[name+".json"] = metadata.MetaFile(role.Signed.Version)
		r.sign(fmt.Sprintf("%d.%s.json", role.Signed.Version, name), name)
	}
	r.timestamp.Signed.Meta["snapshot.json"] = metadata.MetaFile(r.snapshot.Signed.Version)
	r.sign(fmt.Sprintf("%d.targets.json", r.targets.Signed.Version), metadata.TARGETS)
	r.sign(fmt.Sprintf("%d.snapshot.json", r.snapshot.Signed.Version), metadata.SNAPSHOT)
	r.sign("timestamp.json", metadata.TIMESTAMP)
}

// Jump raises the versions of timestamp and snapshot, as who has stolen their
// keys could, and publishes.
func (r *Repository) Jump(by int64) {
	r.mu.Lock()
	r.timestamp.Signed.Version += by
	r.snapshot.Signed.Version += by
	r.mu.Unlock()
	r.Sign()
}

// Rotate gives roles new keys by a new root, signed by the old root key and
// the new, and sets the versions of timestamp and snapshot to what they would
// be without a thief.
func (r *Repository) Rotate(version int64, roles ...string) {
	r.mu.Lock()
	before := r.keys[metadata.ROOT]
	for _, role := range roles {
		for _, id := range r.root.Signed.Roles[role].KeyIDs {
			r.must(r.root.Signed.RevokeKey(id, role))
		}
		r.must(r.root.Signed.AddKey(r.newKey(role), role))
	}
	r.root.Signed.Version++
	r.root.ClearSignatures()
	_, err := r.root.Sign(before)
	r.must(err)
	if r.keys[metadata.ROOT] != before {
		_, err = r.root.Sign(r.keys[metadata.ROOT])
		r.must(err)
	}
	text, err := r.root.ToBytes(false)
	r.must(err)
	r.metadata[fmt.Sprintf("%d.root.json", r.root.Signed.Version)] = text
	if version > 0 {
		r.timestamp.Signed.Version, r.snapshot.Signed.Version = version, version
	}
	r.mu.Unlock()
	r.Sign()
}

// Expire publishes a role whose time is over.
func (r *Repository) Expire(at time.Time) {
	r.mu.Lock()
	r.timestamp.Signed.Expires = at.UTC()
	r.mu.Unlock()
	r.Sign()
}

// Smuggle has a role name a target below another role's paths, and publishes.
func (r *Repository) Smuggle(role, path, into string) {
	r.mu.Lock()
	targets := r.roles[role].Signed.Targets
	targets[strings.Replace(path, role+"/", into+"/", 1)] = targets[path]
	r.mu.Unlock()
	r.Sign()
}

// Files is a copy of all metadata, to be served again later.
func (r *Repository) Files() map[string][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	files := map[string][]byte{}
	for name, text := range r.metadata {
		files[name] = text
	}
	return files
}

// sign signs a role's metadata with its key alone, and publishes it.
func (r *Repository) sign(name, role string) {
	var text []byte
	var err error
	switch role {
	case metadata.ROOT:
		text, err = signed(r.root, r.keys[role])
	case metadata.TARGETS:
		text, err = signed(r.targets, r.keys[role])
	case metadata.SNAPSHOT:
		text, err = signed(r.snapshot, r.keys[role])
	case metadata.TIMESTAMP:
		text, err = signed(r.timestamp, r.keys[role])
	default:
		text, err = signed(r.roles[role], r.keys[role])
	}
	r.must(err)
	r.metadata[name] = text
}

func signed[T metadata.Roles](m *metadata.Metadata[T], key signature.Signer) ([]byte, error) {
	m.ClearSignatures()
	if _, err := m.Sign(key); err != nil {
		return nil, err
	}
	return m.ToBytes(false)
}
