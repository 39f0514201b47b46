// Package seal encrypts what a database is not to hold in the clear, with a
// secret that lies in a file beside it: who has a copy of the database alone
// has nothing of it.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/slipway/slipway/internal/problem"
)

// SecretSize is how long a secret is.
const SecretSize = 32

// Secret reads a secret from a file for its owner alone, and makes it where
// there is none.
func Secret(file string) ([]byte, error) {
	secret, err := os.ReadFile(file)
	if err == nil && len(secret) != SecretSize {
		err = problem.New(problem.Invalid, "%s must hold %d bytes, not %d", file, SecretSize, len(secret))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	secret = make([]byte, SecretSize)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	draft, err := os.CreateTemp(filepath.Dir(file), ".secret-*") // 0600
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

// Box seals and opens with one secret. What is sealed under a name can be
// opened under that name only, so no sealed text is of use in another's place.
type Box struct{ aead cipher.AEAD }

// New returns the box of a secret of SecretSize bytes.
func New(secret []byte) (Box, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return Box{}, err
	}
	aead, err := cipher.NewGCM(block)
	return Box{aead}, err
}

// Seal encrypts what is known by a name.
func (b Box) Seal(name string, plain []byte) string {
	nonce := make([]byte, b.aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		panic(err) // crypto/rand never fails on supported systems
	}
	return base64.StdEncoding.EncodeToString(b.aead.Seal(nonce, nonce, plain, []byte(name)))
}

// Open decrypts what was sealed under a name.
func (b Box) Open(name, sealed string) ([]byte, error) {
	fault := problem.New(problem.Conflict, "the key of %s cannot be read: the secret beside the database is not the one that it was encrypted with; put that file back", name)
	text, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil || len(text) < b.aead.NonceSize() {
		return nil, fault
	}
	plain, err := b.aead.Open(nil, text[:b.aead.NonceSize()], text[b.aead.NonceSize():], []byte(name))
	if err != nil {
		return nil, fault
	}
	return plain, nil
}
