package cli

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"io"
	"strings"
	"testing"

	"github.com/slipway/slipway/internal/control/signing"
	"github.com/slipway/slipway/internal/resource"
)

func pemOf(t *testing.T, kind string, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if private, curve := key.(*ecdsa.PrivateKey); curve && kind == "EC PRIVATE KEY" {
		der, err = x509.MarshalECPrivateKey(private)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestPeoplesKeysSign(t *testing.T) {
	_, edwards, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := signing.Proposal{Version: 3, Payload: []byte("what is to be signed")}
	sum := sha256.Sum256(p.Payload)
	for what, text := range map[string][]byte{"ed25519": pemOf(t, "PRIVATE KEY", edwards), "ecdsa": pemOf(t, "PRIVATE KEY", curve), "ecdsa, as openssl ecparam writes it": pemOf(t, "EC PRIVATE KEY", curve)} {
		s, err := readSigner("key.pem", text)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		signed, err := s.sign(p)
		if err != nil || signed.Version != 3 {
			t.Errorf("%s: %+v, %v", what, signed, err)
		}
		public, err := resource.PublicKey(signed.PublicKey)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if !verifies(public, p.Payload, sum[:], signed.Signature) {
			t.Errorf("%s: the signature is not one of the payload", what)
		}
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string][]byte{"rsa": pemOf(t, "PRIVATE KEY", other), "nothing": nil, "no PEM": []byte("x"), "rubbish": []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")} {
		if _, err := readSigner("key.pem", text); err == nil || !strings.Contains(err.Error(), "openssl genpkey") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func verifies(public crypto.PublicKey, payload, sum, signature []byte) bool {
	switch key := public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(key, payload, signature)
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, sum, signature)
	}
	return false
}

// What a server gives to be signed is looked at before it is.
func TestOnlyWhatIsShownIsSigned(t *testing.T) {
	const good = `{"_type":"targets","version":3,"expires":"2027-01-01T00:00:00Z","targets":{"production/v1/firmware/fw.bin":{"length":2048,"hashes":{"sha256":"ab"}}}}`
	for _, c := range []struct{ what, payload, release, says string }{
		{"as it should be", good, "v1", ""},
		{"another release", good, "v2", "does not name the release v2"},
		{"another environment", strings.ReplaceAll(good, "production", "test"), "v1", "which is not of production"},
		{"another role", strings.Replace(good, "targets", "root", 1), "v1", "not the metadata of an environment"},
		{"another version", strings.Replace(good, ":3", ":4", 1), "v1", "not the metadata of an environment"},
		{"a delegation", strings.Replace(good, `"version"`, `"delegations":{},"version"`, 1), "v1", "not the metadata of an environment"},
		{"nothing that can be read", "x", "v1", "not the metadata of an environment"},
	} {
		var shown bytes.Buffer
		a := &app{out: io.Discard, err: &shown}
		err := a.showProposal(signing.Proposal{Environment: "production", Version: 3, Payload: []byte(c.payload)}, c.release)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.what, err)
		}
		if err == nil && !strings.Contains(shown.String(), "production/v1/firmware/fw.bin  2.0 KiB  sha256:ab") {
			t.Errorf("%s: shown was %s", c.what, &shown)
		}
	}
}
