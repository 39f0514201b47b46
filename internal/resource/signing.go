package resource

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/slipway/slipway/internal/problem"
)

// maxSigners is how many keys an environment may have.
const maxSigners = 20

// Needed is how many signatures are needed.
func (s Signing) Needed() int { return max(s.Threshold, 1) }

// PublicKeys are the keys, each once.
func (s Signing) PublicKeys() ([]crypto.PublicKey, error) {
	if len(s.Keys) == 0 || len(s.Keys) > maxSigners {
		return nil, problem.New(problem.Invalid, "name 1 to %d public keys, not %d", maxSigners, len(s.Keys)).At("spec.signing.keys")
	}
	var all []crypto.PublicKey
	for i, text := range s.Keys {
		at := fmt.Sprintf("spec.signing.keys[%d]", i)
		key, err := PublicKey(text)
		if err != nil {
			return nil, problem.Of(err).At(at)
		}
		for _, other := range all {
			if other.(interface{ Equal(crypto.PublicKey) bool }).Equal(key) {
				return nil, problem.New(problem.Invalid, "the key is there twice, and would count twice").At(at)
			}
		}
		all = append(all, key)
	}
	return all, nil
}

// PublicKey reads a public key that may sign metadata.
func PublicKey(text string) (crypto.PublicKey, error) {
	fault := problem.New(problem.Invalid, "a public key is PEM, Ed25519 or ECDSA P-256; `openssl pkey -in key.pem -pubout` writes it")
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fault
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fault
	}
	switch key := key.(type) {
	case ed25519.PublicKey:
		return key, nil
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return key, nil
		}
	}
	return nil, fault
}

func (s *Signing) check() error {
	if s == nil {
		return nil
	}
	if _, err := s.PublicKeys(); err != nil {
		return err
	}
	if s.Threshold < 0 || s.Threshold > len(s.Keys) {
		return problem.New(problem.Invalid, "of %d keys, 1 to %d can be needed, not %d", len(s.Keys), len(s.Keys), s.Threshold).At("spec.signing.threshold")
	}
	return nil
}
