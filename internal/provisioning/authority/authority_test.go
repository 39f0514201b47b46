package authority

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/migrations"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// signed makes a certificate; without a parent it signs itself.
func signed(t *testing.T, name string, isCA bool, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	made := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour),
		IsCA: isCA, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	if parent == nil {
		parent, parentKey = made, key
	}
	der, err := x509.CreateCertificate(rand.Reader, made, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	if made, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return made, key
}

func text(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func TestWhatProves(t *testing.T) {
	ca, key := signed(t, "factory", true, nil, nil)
	stranger, strange := signed(t, "factory", true, nil, nil)
	proof, _ := signed(t, "ABC1", false, ca, key)
	lower, _ := signed(t, "abc1", false, ca, key)
	forged, _ := signed(t, "ABC1", false, stranger, strange)
	for _, c := range []struct {
		what  string
		proof *x509.Certificate
		code  string
		at    time.Time
		holds bool
	}{
		{"signed over the code", proof, "ABC1", noon, true},
		{"the code in lower case", lower, "ABC1", noon, true},
		{"another code", proof, "ABC2", noon, false},
		{"a code used up", proof, "", noon, false},
		{"signed by an authority of the same name", forged, "ABC1", noon, false},
		{"the authority itself", ca, "factory", noon, false},
		{"too early", proof, "ABC1", noon.Add(-2 * time.Hour), false},
		{"too late", proof, "ABC1", noon.Add(2 * time.Hour), false},
	} {
		if err := Proves(ca, c.proof, c.code, c.at); (err == nil) != c.holds || err != nil && !problem.Is(err, problem.Denied) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func TestAnEnrolmentNamesVerifiedAuthorities(t *testing.T) {
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.Files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	as := New(db, func() time.Time { return noon })
	ca, key := signed(t, "factory", true, nil, nil)
	other, _ := signed(t, "other", true, nil, nil)
	added, err := as.Add(t.Context(), link.AddAuthority{Name: "Factory", Certificate: text(ca)})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := as.Add(t.Context(), link.AddAuthority{Name: "factory", Certificate: text(ca)}); err != nil || again.Code != added.Code {
		t.Errorf("added again: %+v, %v", again, err)
	}
	if _, err := as.Add(t.Context(), link.AddAuthority{Name: "factory", Certificate: text(other)}); !problem.Is(err, problem.Conflict) {
		t.Errorf("another under the same name: %v", err)
	}
	fill := func(x link.X509) (link.X509, error) {
		spec, err := Fill(t.Context(), db, link.EnrollmentSpec{Attestation: link.Attestation{X509: &x}})
		return *spec.Attestation.X509, err
	}
	if _, err := fill(link.X509{CAReference: "factory"}); !problem.Is(err, problem.Invalid) || problem.Of(err).Field != "spec.attestation.x509.caReference" {
		t.Errorf("named before the proof: %v", err)
	}
	before, err := as.Trusted(t.Context())
	if err != nil || len(before.DER) != 0 {
		t.Errorf("trusted before the proof: %+v, %v", before, err)
	}
	proof, _ := signed(t, added.Code, false, ca, key)
	verified, err := as.Verify(t.Context(), link.VerifyAuthority{Name: "factory", Certificate: text(proof)})
	if err != nil || verified.VerifiedAt == nil || verified.Code != "" {
		t.Fatalf("%+v, %v", verified, err)
	}
	for _, x := range []link.X509{{CAReference: "FACTORY"}, {CAReference: "factory", CA: text(ca)}} {
		if filled, err := fill(x); err != nil || filled.CA != text(ca) {
			t.Errorf("%+v, %v", filled, err)
		}
	}
	for _, x := range []link.X509{{CAReference: "factory", CA: text(other)}, {SecondaryCAReference: "nobody"}} {
		if _, err := fill(x); !problem.Is(err, problem.Invalid) {
			t.Errorf("%+v: %v", x, err)
		}
	}
	trusted, err := as.Trusted(t.Context())
	if err != nil || trusted.Version <= before.Version || !bytes.Equal(trusted.DER, ca.Raw) {
		t.Errorf("trusted after the proof: %+v, %v", trusted, err)
	}
	if err := as.Delete(t.Context(), link.AuthorityRef{Name: "factory"}); err != nil {
		t.Error(err)
	}
	if gone, err := as.Trusted(t.Context()); err != nil || gone.Version <= trusted.Version || len(gone.DER) != 0 {
		t.Errorf("trusted after the deletion: %+v, %v", gone, err)
	}
}
