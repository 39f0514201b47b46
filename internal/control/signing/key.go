package signing

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// secretSize is how long the secret is that encrypts keys.
const secretSize = 32

// Secret reads the secret that encrypts keys from a file for its owner alone,
// and makes it where there is none.
func Secret(file string) ([]byte, error) {
	secret, err := os.ReadFile(file)
	if err == nil && len(secret) != secretSize {
		err = problem.New(problem.Invalid, "%s must hold %d bytes, not %d", file, secretSize, len(secret))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	secret = make([]byte, secretSize)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	draft, err := os.CreateTemp(filepath.Dir(file), ".signing-*") // 0600
	if err != nil {
		return nil, err
	}
	_, err = draft.Write(secret)
	if err = errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(draft.Name()))
	}
	// A link does not replace what another process made meanwhile.
	err = errors.Join(os.Link(draft.Name(), file), os.Remove(draft.Name()))
	if errors.Is(err, fs.ErrExist) {
		return Secret(file)
	}
	if err != nil {
		return nil, err
	}
	holder, err := os.Open(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	return secret, errors.Join(holder.Sync(), holder.Close())
}

// box encrypts keys; what is in it can be taken out for its own role only.
type box struct{ aead cipher.AEAD }

func newBox(secret []byte) (box, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return box{}, err
	}
	aead, err := cipher.NewGCM(block)
	return box{aead}, err
}

func (b box) seal(role string, seed []byte) string {
	nonce := make([]byte, b.aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		panic(err) // crypto/rand never fails on supported systems
	}
	return base64.StdEncoding.EncodeToString(b.aead.Seal(nonce, nonce, seed, []byte(role)))
}

func (b box) open(role, sealed string) ([]byte, error) {
	fault := problem.New(problem.Conflict, "the key of %s cannot be read: the file signing.key is not the one that it was encrypted with; put that back", role)
	text, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil || len(text) < b.aead.NonceSize() {
		return nil, fault
	}
	seed, err := b.aead.Open(nil, text[:b.aead.NonceSize()], text[b.aead.NonceSize():], []byte(role))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fault
	}
	return seed, nil
}

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
	_, err = tx.Exec(ctx, "INSERT INTO signing_key (id, role, sealed, created_at) VALUES (?, ?, ?, ?)", id, role, s.box.seal(role, private.Seed()), sqldb.Micros(s.Now()))
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
	seed, err := s.box.open(role, sealed)
	if err != nil {
		return nil, err
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
