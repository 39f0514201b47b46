package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

// pair is a certificate with its key, as PEM.
type pair struct{ cert, key string }

// tls is the certificate as a client shows it, with those between it and the
// authority.
func (p pair) tls(t *testing.T, between ...*x509.Certificate) tls.Certificate {
	t.Helper()
	chain, err := tls.X509KeyPair([]byte(p.cert), []byte(p.key))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range between {
		chain.Certificate = append(chain.Certificate, c.Raw)
	}
	return chain
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

func newAuthority(t *testing.T, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	return newAuthorityOf(t, name, nil, nil)
}

// newAuthorityOf makes an authority that another one signed, or itself.
func newAuthorityOf(t *testing.T, name string, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, ca := newKey(t), template(name)
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	if parent == nil {
		parent, parentKey = ca, key
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return ca, key
}

// newLeaf makes a device certificate, signed by an authority or by itself.
func newLeaf(t *testing.T, name string, ca *x509.Certificate, caKey *ecdsa.PrivateKey) pair {
	t.Helper()
	key, leaf := newKey(t), template(name)
	leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if ca == nil {
		ca, caKey = leaf, key
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pair{pemOf("CERTIFICATE", der), pemOf("PRIVATE KEY", secret)}
}
