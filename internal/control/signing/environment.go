package signing

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// Settle brings an environment's role to what is decided: the releases that
// are let in, and whose keys sign. It is part of the change that decides.
func (s *Signing) Settle(ctx context.Context, tx *sqldb.Tx, environment string) error {
	spec, err := s.Environment(ctx, tx, environment)
	if problem.Is(err, problem.NotFound) {
		return s.forget(ctx, tx, environment)
	}
	if err != nil {
		return err
	}
	admitted, err := s.admissions(ctx, tx, environment)
	if err != nil {
		return err
	}
	_, known, err := text(ctx, tx, environment)
	if err != nil || !known && len(admitted) == 0 {
		return err // nothing was ever let in
	}
	r, err := s.revise(ctx, tx)
	if err != nil {
		return err
	}
	return r.settle(environment, spec)
}

// forget drops what was decided of an environment that is gone. Its role stays
// as it is until it expires: a snapshot may not lose one.
func (s *Signing) forget(ctx context.Context, tx *sqldb.Tx, environment string) error {
	if _, err := tx.Exec(ctx, "DELETE FROM signing_admission WHERE environment = ?", environment); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "DELETE FROM signing_proposal WHERE environment = ?", environment)
	return err
}

// authority is the delegation that an environment is meant to have.
func (r *revision) authority(environment string, spec resource.EnvironmentSpec) (metadata.DelegatedRole, map[string]*metadata.Key, error) {
	role := metadata.DelegatedRole{Name: environment, KeyIDs: []string{}, Threshold: 1, Terminating: true, Paths: []string{environment + "/*/*/*"}}
	keys := map[string]*metadata.Key{}
	if spec.Signing == nil {
		key, err := r.s.heldKey(r.ctx, r.tx, environment)
		if err != nil {
			return role, nil, err
		}
		id, err := key.ID()
		keys[id], role.KeyIDs = key, []string{id}
		return role, keys, err
	}
	public, err := spec.Signing.PublicKeys()
	if err != nil {
		return role, nil, err
	}
	for _, p := range public {
		key, err := metadata.KeyFromPublicKey(p)
		if err != nil {
			return role, nil, err
		}
		id, err := key.ID()
		if err != nil {
			return role, nil, err
		}
		keys[id], role.KeyIDs = key, append(role.KeyIDs, id)
	}
	role.Threshold = spec.Signing.Needed()
	return role, keys, nil
}

// delegation is what the targets say of an environment now.
func (r *revision) delegation(environment string) (metadata.DelegatedRole, bool) {
	all := r.targets.Signed.Delegations.Roles
	i := slices.IndexFunc(all, func(d metadata.DelegatedRole) bool { return d.Name == environment })
	if i < 0 {
		return metadata.DelegatedRole{}, false
	}
	return all[i], true
}

// alike reports whether the same keys sign in the same number.
func alike(a, b metadata.DelegatedRole) bool {
	return a.Threshold == b.Threshold && slices.Equal(slices.Sorted(slices.Values(a.KeyIDs)), slices.Sorted(slices.Values(b.KeyIDs)))
}

// settle works out the next of an environment's role, if it needs one. Control
// signs it where it holds the key; otherwise it waits as a proposal.
func (r *revision) settle(environment string, spec resource.EnvironmentSpec) error {
	authority, keys, err := r.authority(environment, spec)
	if err != nil {
		return err
	}
	files, err := r.wanted(environment)
	if err != nil {
		return err
	}
	now, found, err := current[metadata.TargetsType](r.ctx, r.tx, environment)
	if err != nil {
		return err
	}
	delegated, known := r.delegation(environment)
	if found && known && alike(delegated, authority) && sameFiles(now.Signed.Targets, files) && !r.ageing(now.Signed.Expires, targetsLife) {
		return r.unpropose(environment)
	}
	next := metadata.Targets(r.now.Add(targetsLife))
	next.Signed.Targets = files
	if found {
		next.Signed.Version = now.Signed.Version + 1
	}
	if spec.Signing != nil {
		return r.propose(environment, next, authority, keys)
	}
	if err := sign(r, environment, next); err != nil {
		return err
	}
	return r.install(environment, next, authority, keys)
}

func sameFiles(a, b map[string]*metadata.TargetFiles) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// propose keeps what people are to sign. What they signed already counts as
// long as that says the same.
func (r *revision) propose(environment string, next *metadata.Metadata[metadata.TargetsType], authority metadata.DelegatedRole, keys map[string]*metadata.Key) error {
	old, found, err := proposal(r.ctx, r.tx, environment)
	if err != nil {
		return err
	}
	if found && old.Signed.Version == next.Signed.Version && sameFiles(old.Signed.Targets, next.Signed.Targets) && !r.ageing(old.Signed.Expires, targetsLife) {
		next = old
	}
	next.Signatures = slices.DeleteFunc(next.Signatures, func(s metadata.Signature) bool { return !slices.Contains(authority.KeyIDs, s.KeyID) })
	if verified(environment, next, authority, keys) == nil {
		return r.install(environment, next, authority, keys)
	}
	content, err := next.ToBytes(false)
	if err != nil {
		return err
	}
	_, err = r.tx.Exec(r.ctx, "INSERT INTO signing_proposal (environment, content) VALUES (?, ?) ON CONFLICT (environment) DO UPDATE SET content = excluded.content", environment, string(content))
	return err
}

// unpropose drops what waits in an environment, if anything does.
func (r *revision) unpropose(environment string) error {
	_, found, err := proposal(r.ctx, r.tx, environment)
	if err == nil && found {
		_, err = r.tx.Exec(r.ctx, "DELETE FROM signing_proposal WHERE environment = ?", environment)
	}
	return err
}

func proposal(ctx context.Context, q sqldb.Querier, environment string) (*metadata.Metadata[metadata.TargetsType], bool, error) {
	content, found, err := sqldb.Row(ctx, q, scanText, "SELECT content FROM signing_proposal WHERE environment = ?", environment)
	if err != nil || !found {
		return nil, false, err
	}
	m := &metadata.Metadata[metadata.TargetsType]{}
	_, err = m.FromBytes(content)
	return m, true, err
}

// verified holds metadata against a delegation, as devices do.
func verified(environment string, m *metadata.Metadata[metadata.TargetsType], authority metadata.DelegatedRole, keys map[string]*metadata.Key) error {
	delegator := metadata.Targets()
	delegator.Signed.Delegations = &metadata.Delegations{Keys: keys, Roles: []metadata.DelegatedRole{authority}}
	return delegator.VerifyDelegate(environment, m)
}

// install publishes an environment's role together with the delegation that
// its signatures are good for: devices see both or neither.
func (r *revision) install(environment string, next *metadata.Metadata[metadata.TargetsType], authority metadata.DelegatedRole, keys map[string]*metadata.Key) error {
	if delegated, known := r.delegation(environment); !known || !alike(delegated, authority) {
		r.delegate(authority, keys)
		if err := r.putTargets(); err != nil {
			return err
		}
	}
	if err := r.unpropose(environment); err != nil {
		return err
	}
	if err := r.putEnvironment(environment, next); err != nil {
		return err
	}
	return r.publish()
}

// delegate has the targets say who signs for an environment, and drops keys
// that nobody signs with any more.
func (r *revision) delegate(authority metadata.DelegatedRole, keys map[string]*metadata.Key) {
	d := r.targets.Signed.Delegations
	d.Roles = slices.DeleteFunc(d.Roles, func(role metadata.DelegatedRole) bool { return role.Name == authority.Name })
	d.Roles = append(d.Roles, authority)
	slices.SortFunc(d.Roles, func(a, b metadata.DelegatedRole) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	kept := map[string]*metadata.Key{}
	for _, role := range d.Roles {
		for _, id := range role.KeyIDs {
			if kept[id] = keys[id]; kept[id] == nil {
				kept[id] = d.Keys[id]
			}
		}
	}
	d.Keys = kept
}
