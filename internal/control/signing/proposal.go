package signing

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// Proposal is what people are asked to sign for an environment.
type Proposal struct {
	Environment string    `json:"environment"`
	Version     int64     `json:"version"`
	Expires     time.Time `json:"expires"`
	Releases    []string  `json:"releases" doc:"Releases whose files devices there may run"`
	Payload     []byte    `json:"payload" doc:"The bytes to be signed: the metadata as canonical JSON"`
	Threshold   int       `json:"threshold" doc:"How many signatures it needs"`
	SignedBy    []string  `json:"signedBy" doc:"Ids of the keys that signed it"`
	Complete    bool      `json:"complete" doc:"Whether devices get it already"`
}

// Signature is a signature of a proposal.
type Signature struct {
	Version   int64  `json:"version" doc:"Of the proposal"`
	PublicKey string `json:"publicKey" maxLength:"2000" doc:"PEM of one of the environment's keys"`
	Signature []byte `json:"signature" doc:"Of the payload: Ed25519, or ECDSA over its SHA-256 as ASN.1"`
}

// Proposal returns what waits for signatures in an environment.
func (s *Signing) Proposal(ctx context.Context, environment string) (Proposal, error) {
	return s.proposal(ctx, s.DB, environment)
}

func (s *Signing) proposal(ctx context.Context, q sqldb.Querier, environment string) (Proposal, error) {
	spec, err := s.Environment(ctx, q, environment)
	if err != nil {
		return Proposal{}, err
	}
	m, found, err := proposal(ctx, q, environment)
	if err == nil && (!found || spec.Signing == nil) {
		err = problem.New(problem.NotFound, "nothing waits for signatures in %s", environment)
	}
	if err != nil {
		return Proposal{}, err
	}
	return shown(environment, m, *spec.Signing)
}

func shown(environment string, m *metadata.Metadata[metadata.TargetsType], signing resource.Signing) (Proposal, error) {
	payload, err := cjson.EncodeCanonical(m.Signed)
	p := Proposal{Environment: environment, Version: m.Signed.Version, Expires: m.Signed.Expires, Releases: releasesIn(m), Payload: payload, Threshold: signing.Needed(), SignedBy: []string{}}
	for _, s := range m.Signatures {
		p.SignedBy = append(p.SignedBy, s.KeyID)
	}
	return p, err
}

// releasesIn are the releases that an environment's role names.
func releasesIn(m *metadata.Metadata[metadata.TargetsType]) []string {
	names := map[string]bool{}
	for path := range m.Signed.Targets {
		if parts := strings.Split(path, "/"); len(parts) == 4 {
			names[parts[1]] = true
		}
	}
	return append([]string{}, slices.Sorted(maps.Keys(names))...)
}

// Sign adds a signature to what waits in an environment. The one that makes
// them enough publishes it.
func (s *Signing) Sign(ctx context.Context, actor access.Actor, environment string, by Signature) (after Proposal, err error) {
	public, err := resource.PublicKey(by.PublicKey)
	if err != nil {
		return after, problem.Of(err).At("publicKey")
	}
	key, err := metadata.KeyFromPublicKey(public)
	if err != nil {
		return after, err
	}
	id, err := key.ID()
	if err != nil {
		return after, err
	}
	err = s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if after, err = s.proposal(ctx, tx, environment); err != nil {
			return err
		}
		if after.Version != by.Version {
			return problem.New(problem.Stale, "what waits for signatures is version %d now, not %d; look at it and sign that", after.Version, by.Version).At("version")
		}
		m, _, err := proposal(ctx, tx, environment)
		if err != nil {
			return err
		}
		if err := s.check(ctx, tx, environment, id, public, after.Payload, by.Signature); err != nil {
			return err
		}
		m.Signatures = slices.DeleteFunc(m.Signatures, func(old metadata.Signature) bool { return old.KeyID == id })
		m.Signatures = append(m.Signatures, metadata.Signature{KeyID: id, Signature: by.Signature})
		content, err := m.ToBytes(false)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE signing_proposal SET content = ? WHERE environment = ?", string(content), environment); err != nil {
			return err
		}
		if err := s.record(ctx, tx, actor.Name, "signing.sign", "role/"+environment, environment, "key "+id+", releases "+strings.Join(after.Releases, ", ")); err != nil {
			return err
		}
		if err := s.Settle(ctx, tx, environment); err != nil {
			return err
		}
		_, waiting, err := proposal(ctx, tx, environment)
		if !slices.Contains(after.SignedBy, id) {
			after.SignedBy = append(after.SignedBy, id)
		}
		after.Complete = !waiting
		return err
	})
	return after, err
}

// check holds a signature against the environment's keys and the payload.
func (s *Signing) check(ctx context.Context, q sqldb.Querier, environment, id string, public any, payload, sum []byte) error {
	spec, err := s.Environment(ctx, q, environment)
	if err != nil {
		return err
	}
	keys, err := spec.Signing.PublicKeys()
	if err != nil {
		return err
	}
	known := slices.ContainsFunc(keys, func(k crypto.PublicKey) bool {
		key, err := metadata.KeyFromPublicKey(k)
		if err != nil {
			return false
		}
		other, err := key.ID()
		return err == nil && other == id
	})
	if !known {
		return problem.New(problem.Denied, "the key is none of those that sign for %s (spec.signing.keys of the environment)", environment).At("publicKey")
	}
	verifier, err := signature.LoadVerifier(public, crypto.SHA256)
	if err != nil {
		return err
	}
	if verifier.VerifySignature(bytes.NewReader(sum), bytes.NewReader(payload)) != nil {
		return problem.New(problem.Invalid, "the signature is not one of the payload by this key").At("signature")
	}
	return nil
}

// Roles tells what there is, the four of all devices first.
func (s *Signing) Roles(ctx context.Context) ([]Role, error) {
	root, err := part[metadata.RootType](ctx, s.DB, metadata.ROOT)
	if err != nil {
		return nil, err
	}
	targets, err := part[metadata.TargetsType](ctx, s.DB, metadata.TARGETS)
	if err != nil {
		return nil, err
	}
	var all []Role
	for _, name := range []string{metadata.ROOT, metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP} {
		r, err := s.role(ctx, name)
		if err != nil {
			return nil, err
		}
		r.Keys, r.Threshold, r.Held = root.Signed.Roles[name].KeyIDs, root.Signed.Roles[name].Threshold, true
		all = append(all, r)
	}
	for _, d := range targets.Signed.Delegations.Roles {
		r, err := s.role(ctx, d.Name)
		if err != nil {
			return nil, err
		}
		spec, err := s.Environment(ctx, s.DB, d.Name)
		if err != nil && !problem.Is(err, problem.NotFound) {
			return nil, err
		}
		r.Keys, r.Threshold, r.Held = d.KeyIDs, d.Threshold, err == nil && spec.Signing == nil
		all = append(all, r)
	}
	return s.waiting(ctx, all)
}

// role reads what all roles' metadata have in common.
func (s *Signing) role(ctx context.Context, name string) (Role, error) {
	content, _, err := text(ctx, s.DB, name)
	if err != nil {
		return Role{}, err
	}
	var m struct {
		Signed struct {
			Version int64                      `json:"version"`
			Expires time.Time                  `json:"expires"`
			Targets map[string]json.RawMessage `json:"targets"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(content, &m); err != nil {
		return Role{}, err
	}
	r := Role{Name: name, Version: m.Signed.Version, Expires: m.Signed.Expires}
	named := &metadata.Metadata[metadata.TargetsType]{Signed: metadata.TargetsType{Targets: map[string]*metadata.TargetFiles{}}}
	for path := range m.Signed.Targets {
		named.Signed.Targets[path] = nil
	}
	r.Releases = releasesIn(named)
	return r, nil
}

// waiting notes what waits for signatures, also in environments that have no
// role yet.
func (s *Signing) waiting(ctx context.Context, all []Role) ([]Role, error) {
	environments, err := sqldb.Rows(ctx, s.DB, scanName, "SELECT environment FROM signing_proposal ORDER BY environment")
	if err != nil {
		return nil, err
	}
	for _, name := range environments {
		p, err := s.Proposal(ctx, name)
		if problem.Is(err, problem.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(all, func(r Role) bool { return r.Name == name })
		if i < 0 {
			all = append(all, Role{Name: name, Keys: []string{}, Threshold: p.Threshold})
			i = len(all) - 1
		}
		all[i].Waiting, all[i].Releases = true, p.Releases
	}
	return all, nil
}
