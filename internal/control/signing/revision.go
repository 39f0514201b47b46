package signing

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// revision is the repository while it is changed: the four roles that every
// device reads. Whatever changes one of them or an environment's role ends
// with publish.
type revision struct {
	s         *Signing
	ctx       context.Context
	tx        *sqldb.Tx
	now       time.Time
	root      *metadata.Metadata[metadata.RootType]
	targets   *metadata.Metadata[metadata.TargetsType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	timestamp *metadata.Metadata[metadata.TimestampType]
}

// text returns a role's metadata as it is now.
func text(ctx context.Context, q sqldb.Querier, role string) ([]byte, bool, error) {
	return sqldb.Row(ctx, q, scanText, "SELECT content FROM signing_file WHERE role = ? AND replaced_at IS NULL", role)
}

// current is text, read.
func current[T metadata.Roles](ctx context.Context, q sqldb.Querier, role string) (m *metadata.Metadata[T], found bool, err error) {
	content, found, err := text(ctx, q, role)
	if err != nil || !found {
		return nil, found, err
	}
	m = &metadata.Metadata[T]{}
	_, err = m.FromBytes(content)
	return m, true, err
}

// part is current for a role that must be there.
func part[T metadata.Roles](ctx context.Context, q sqldb.Querier, role string) (*metadata.Metadata[T], error) {
	m, found, err := current[T](ctx, q, role)
	if err == nil && !found {
		err = problem.New(problem.Internal, "the metadata of %s is missing", role)
	}
	return m, err
}

func (s *Signing) revise(ctx context.Context, tx *sqldb.Tx) (r *revision, err error) {
	r = &revision{s: s, ctx: ctx, tx: tx, now: s.Now().UTC().Truncate(time.Second)}
	if r.root, err = part[metadata.RootType](ctx, tx, metadata.ROOT); err != nil {
		return nil, err
	}
	if r.targets, err = part[metadata.TargetsType](ctx, tx, metadata.TARGETS); err != nil {
		return nil, err
	}
	if r.snapshot, err = part[metadata.SnapshotType](ctx, tx, metadata.SNAPSHOT); err != nil {
		return nil, err
	}
	r.timestamp, err = part[metadata.TimestampType](ctx, tx, metadata.TIMESTAMP)
	return r, err
}

// found makes the repository where there is none. Where there is one, it looks
// whether the secret is the one that its keys were encrypted with.
func (s *Signing) found(ctx context.Context, tx *sqldb.Tx) error {
	_, there, err := text(ctx, tx, metadata.ROOT)
	if err == nil && there {
		_, err = s.signer(ctx, tx, metadata.ROOT)
	}
	if err != nil || there {
		return err
	}
	r := &revision{s: s, ctx: ctx, tx: tx, now: s.Now().UTC().Truncate(time.Second)}
	r.root, r.targets = metadata.Root(r.now.Add(rootLife)), metadata.Targets(r.now.Add(targetsLife))
	r.snapshot, r.timestamp = metadata.Snapshot(r.now.Add(snapshotLife)), metadata.Timestamp(r.now.Add(timestampLife))
	r.targets.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}, Roles: []metadata.DelegatedRole{}}
	// Each is at the version before its first.
	r.root.Signed.Version, r.targets.Signed.Version, r.snapshot.Signed.Version, r.timestamp.Signed.Version = 0, 0, 0, 0
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		key, err := s.newKey(ctx, tx, role)
		if err != nil {
			return err
		}
		if err := r.root.Signed.AddKey(key, role); err != nil {
			return err
		}
	}
	if err := r.putRoot(); err != nil {
		return err
	}
	if err := r.putTargets(); err != nil {
		return err
	}
	if err := r.publish(); err != nil {
		return err
	}
	return s.record(ctx, tx, slipway, "signing.found", "role/"+metadata.ROOT, "", "")
}

// put stores a role's next metadata as the file that devices fetch.
func put[T metadata.Roles](r *revision, role, file string, m *metadata.Metadata[T]) error {
	content, err := m.ToBytes(false)
	if err != nil {
		return err
	}
	if _, err := r.tx.Exec(r.ctx, "UPDATE signing_file SET replaced_at = ? WHERE role = ? AND replaced_at IS NULL", sqldb.Micros(r.now), role); err != nil {
		return err
	}
	_, err = r.tx.Exec(r.ctx, `INSERT INTO signing_file (name, role, content) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET content = excluded.content, replaced_at = NULL`, file, role, string(content))
	return err
}

// sign signs a role's metadata with the key that control holds for it.
func sign[T metadata.Roles](r *revision, role string, m *metadata.Metadata[T]) error {
	signer, err := r.s.signer(r.ctx, r.tx, role)
	if err != nil {
		return err
	}
	_, err = m.Sign(signer)
	return err
}

// putRoot makes the next root.
func (r *revision) putRoot() error {
	r.root.Signed.Version++
	r.root.Signed.Expires = r.now.Add(rootLife)
	r.root.ClearSignatures()
	if err := sign(r, metadata.ROOT, r.root); err != nil {
		return err
	}
	return put(r, metadata.ROOT, fmt.Sprintf("%d.root.json", r.root.Signed.Version), r.root)
}

// putTargets makes the next of the targets that name the environments.
func (r *revision) putTargets() error {
	r.targets.Signed.Version++
	r.targets.Signed.Expires = r.now.Add(targetsLife)
	r.targets.ClearSignatures()
	if err := sign(r, metadata.TARGETS, r.targets); err != nil {
		return err
	}
	r.snapshot.Signed.Meta["targets.json"] = metadata.MetaFile(r.targets.Signed.Version)
	return put(r, metadata.TARGETS, fmt.Sprintf("%d.targets.json", r.targets.Signed.Version), r.targets)
}

// putEnvironment stores the next of an environment's role, which is signed.
func (r *revision) putEnvironment(environment string, m *metadata.Metadata[metadata.TargetsType]) error {
	r.snapshot.Signed.Meta[environment+".json"] = metadata.MetaFile(m.Signed.Version)
	return put(r, environment, fmt.Sprintf("%d.%s.json", m.Signed.Version, environment), m)
}

// publish makes the next snapshot of all roles, and the timestamp that names it.
func (r *revision) publish() error {
	r.snapshot.Signed.Version++
	r.snapshot.Signed.Expires = r.now.Add(snapshotLife)
	r.snapshot.ClearSignatures()
	if err := sign(r, metadata.SNAPSHOT, r.snapshot); err != nil {
		return err
	}
	if err := put(r, metadata.SNAPSHOT, fmt.Sprintf("%d.snapshot.json", r.snapshot.Signed.Version), r.snapshot); err != nil {
		return err
	}
	return r.stamp()
}

// stamp makes the next timestamp.
func (r *revision) stamp() error {
	r.timestamp.Signed.Version++
	r.timestamp.Signed.Expires = r.now.Add(timestampLife)
	r.timestamp.Signed.Meta["snapshot.json"] = metadata.MetaFile(r.snapshot.Signed.Version)
	r.timestamp.ClearSignatures()
	if err := sign(r, metadata.TIMESTAMP, r.timestamp); err != nil {
		return err
	}
	return put(r, metadata.TIMESTAMP, "timestamp.json", r.timestamp)
}

// ageing reports whether half of a life is over.
func (r *revision) ageing(expires time.Time, life time.Duration) bool {
	return expires.Sub(r.now) < life/2
}

// renew makes the next of each role that is half through its life.
func (r *revision) renew() error {
	if r.ageing(r.root.Signed.Expires, rootLife) {
		if err := r.putRoot(); err != nil {
			return err
		}
	}
	targets := r.ageing(r.targets.Signed.Expires, targetsLife)
	if targets {
		if err := r.putTargets(); err != nil {
			return err
		}
	}
	switch {
	case targets || r.ageing(r.snapshot.Signed.Expires, snapshotLife):
		return r.publish()
	case r.ageing(r.timestamp.Signed.Expires, timestampLife):
		return r.stamp()
	}
	return nil
}

// rotate gives a role a new key.
func (r *revision) rotate(role string) error {
	switch role {
	case metadata.ROOT:
		return r.rotateRoot()
	case metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP:
		if err := r.exchange(role); err != nil {
			return err
		}
		if err := r.putRoot(); err != nil {
			return err
		}
		if role == metadata.TARGETS {
			if err := r.putTargets(); err != nil {
				return err
			}
		}
		return r.publish()
	}
	return r.rotateEnvironment(role)
}

// exchange has the root name a new key of a role instead of those it names.
func (r *revision) exchange(role string) error {
	for _, id := range slices.Clone(r.root.Signed.Roles[role].KeyIDs) {
		if err := r.root.Signed.RevokeKey(id, role); err != nil {
			return err
		}
	}
	key, err := r.s.newKey(r.ctx, r.tx, role)
	if err != nil {
		return err
	}
	return r.root.Signed.AddKey(key, role)
}

// rotateRoot makes a root that the old key signs as well as the new, so that
// devices follow from one to the other.
func (r *revision) rotateRoot() error {
	old, err := r.s.signer(r.ctx, r.tx, metadata.ROOT)
	if err != nil {
		return err
	}
	if err := r.exchange(metadata.ROOT); err != nil {
		return err
	}
	r.root.Signed.Version++
	r.root.Signed.Expires = r.now.Add(rootLife)
	r.root.ClearSignatures()
	if _, err := r.root.Sign(old); err != nil {
		return err
	}
	if err := sign(r, metadata.ROOT, r.root); err != nil {
		return err
	}
	return put(r, metadata.ROOT, fmt.Sprintf("%d.root.json", r.root.Signed.Version), r.root)
}

func (r *revision) rotateEnvironment(environment string) error {
	spec, err := r.s.Environment(r.ctx, r.tx, environment)
	if err != nil {
		return err
	}
	if spec.Signing != nil {
		return problem.New(problem.Conflict, "people hold the keys of %s; change spec.signing.keys of the environment", environment)
	}
	if _, err := r.s.newKey(r.ctx, r.tx, environment); err != nil {
		return err
	}
	return r.settle(environment, spec)
}

// custom is what the metadata says of a file beside its content.
type custom struct {
	Release     string   `json:"release"`
	Environment string   `json:"environment"`
	Software    string   `json:"software"`
	Version     string   `json:"version"`
	Hardware    []string `json:"hardware"`
	Counter     int64    `json:"counter"`
}

// targetsOf are the files of a release as an environment's role names them.
func targetsOf(environment string, r link.Release) (map[string]*metadata.TargetFiles, error) {
	all := map[string]*metadata.TargetFiles{}
	for _, s := range r.Spec.Software {
		said, err := json.Marshal(custom{r.Name, environment, s.Name, s.Version, append([]string{}, s.Hardware...), r.Counter})
		if err != nil {
			return nil, err
		}
		about := json.RawMessage(said)
		for _, a := range s.Artifacts {
			file := metadata.TargetFile()
			file.Length, file.Custom = a.Size, &about
			var sum metadata.HexBytes
			if err := json.Unmarshal([]byte(`"`+a.SHA256+`"`), &sum); err != nil {
				return nil, err
			}
			file.Hashes["sha256"] = sum
			all[environment+"/"+r.Name+"/"+s.Name+"/"+a.File] = file
		}
	}
	return all, nil
}

// wanted are the files of all releases let into an environment.
func (r *revision) wanted(environment string) (map[string]*metadata.TargetFiles, error) {
	names, err := r.s.admissions(r.ctx, r.tx, environment)
	if err != nil {
		return nil, err
	}
	all := map[string]*metadata.TargetFiles{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		one, err := r.s.Releases.GetIn(r.ctx, r.tx, name)
		if err != nil {
			return nil, err
		}
		files, err := targetsOf(environment, one)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, files)
	}
	return all, nil
}
