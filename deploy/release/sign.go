package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// payloadType is that of in-toto statements in an envelope.
const payloadType = "application/vnd.in-toto+json"

// canonical is a message as JSON without the spaces that protojson strews in at
// random.
func canonical(m proto.Message) ([]byte, error) {
	text, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// sign writes the statement in a signed envelope (DSSE).
func (r *release) sign(ctx context.Context, statement []byte, file string) error {
	key, err := readKey(r.key)
	if err != nil {
		return fmt.Errorf("-key: %w", err)
	}
	signer, err := dsse.NewEnvelopeSigner(key)
	if err != nil {
		return err
	}
	envelope, err := signer.SignPayload(ctx, payloadType, statement)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(envelope, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// signer signs with a key of the standard library's, as DSSE's verifiers take
// signatures: Ed25519 over the text, ECDSA over its SHA-256.
type signer struct{ key crypto.Signer }

func readKey(file string) (signer, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return signer{}, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return signer{}, errors.New("the file holds no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return signer{}, err
	}
	switch key := key.(type) {
	case ed25519.PrivateKey:
		return signer{key}, nil
	case *ecdsa.PrivateKey:
		return signer{key}, nil
	}
	return signer{}, fmt.Errorf("the key is a %T; Ed25519 and ECDSA sign", key)
}

// Sign signs what an envelope covers.
func (s signer) Sign(_ context.Context, data []byte) ([]byte, error) {
	if _, edwards := s.key.(ed25519.PrivateKey); edwards {
		return s.key.Sign(nil, data, crypto.Hash(0))
	}
	sum := sha256.Sum256(data)
	return s.key.Sign(nil, sum[:], crypto.SHA256) // without randomness it is deterministic, by RFC 6979
}

// KeyID is the SHA-256 of the public key.
func (s signer) KeyID() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), err
}
