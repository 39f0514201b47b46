package signing

import (
	"context"
	"crypto/ed25519"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// newKey makes a role's key, in place of one that it had.
func (s *Signing) newKey(ctx context.Context, tx *sqldb.Tx, role string) (*metadata.Key, error) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	key, err := metadata.KeyFromPublicKey(public)
	if err != nil {
		return nil, err
	}
	id, err := key.ID()
	if err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, "DELETE FROM signing_key WHERE role = ?", role); err != nil {
		return nil, err
	}
	_, err = tx.Exec(ctx, "INSERT INTO signing_key (id, role, sealed, created_at) VALUES (?, ?, ?, ?)", id, role, s.box.Seal(role, private.Seed()), sqldb.Micros(s.Now()))
	return key, err
}

// signer returns what signs for a role whose key control holds.
func (s *Signing) signer(ctx context.Context, q sqldb.Querier, role string) (signature.Signer, error) {
	sealed, found, err := sqldb.Row(ctx, q, scanName, "SELECT sealed FROM signing_key WHERE role = ?", role)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, problem.New(problem.Internal, "control has no key of %s", role)
	}
	seed, err := s.box.Open(role, sealed)
	if err != nil {
		return nil, err
	}
	if len(seed) != ed25519.SeedSize {
		return nil, problem.New(problem.Internal, "the key of %s has %d bytes, not %d", role, len(seed), ed25519.SeedSize)
	}
	return signature.LoadED25519Signer(ed25519.NewKeyFromSeed(seed))
}

// heldKey returns the public part of the key that control holds for a role,
// and makes one where there is none.
func (s *Signing) heldKey(ctx context.Context, tx *sqldb.Tx, role string) (*metadata.Key, error) {
	_, found, err := sqldb.Row(ctx, tx, scanName, "SELECT id FROM signing_key WHERE role = ?", role)
	if err != nil {
		return nil, err
	}
	if !found {
		return s.newKey(ctx, tx, role)
	}
	signer, err := s.signer(ctx, tx, role)
	if err != nil {
		return nil, err
	}
	public, err := signer.PublicKey()
	if err != nil {
		return nil, err
	}
	return metadata.KeyFromPublicKey(public)
}
