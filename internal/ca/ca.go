// Package ca is the certificate authority of an installation, made at first
// start and kept in control's data directory. It signs the certificates by
// which the processes of the planes know one another. Devices meet them too,
// until certificates of a public authority are configured.
package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	caLife     = 10 * 365 * 24 * time.Hour
	serverLife = 90 * 24 * time.Hour
	renewAt    = 30 * 24 * time.Hour // left of a server certificate's life
)

// Authority signs the server certificates of an installation.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
	now  func() time.Time

	mu     sync.Mutex
	names  []string
	server *tls.Certificate
}

// Open reads the authority in dir (ca.pem, ca-key.pem), making it when missing.
func Open(dir string, now func() time.Time) (*Authority, error) {
	a := &Authority{file: filepath.Join(dir, "ca.pem"), now: now}
	pair, err := tls.LoadX509KeyPair(a.file, a.keyFile())
	switch {
	case errors.Is(err, os.ErrNotExist):
		return a, a.create()
	case err != nil:
		return nil, fmt.Errorf("read the authority: %w", err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the authority in %s has a %T, not an ECDSA key", dir, pair.PrivateKey)
	}
	a.cert, a.key = pair.Leaf, key
	return a, nil
}

func (a *Authority) keyFile() string { return filepath.Join(filepath.Dir(a.file), "ca-key.pem") }

// File is the path of the certificate devices trust.
func (a *Authority) File() string { return a.file }

// Pool holds the authority's certificate alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func (a *Authority) create() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Slipway installation CA", Organization: []string{"Slipway"}},
		NotBefore: a.now().Add(-time.Hour), NotAfter: a.now().Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	a.key = key
	// The key first: a certificate without one would look like a finished CA.
	if err := writePEM(a.keyFile(), "PRIVATE KEY", secret, 0o600); err != nil {
		return err
	}
	return writePEM(a.file, "CERTIFICATE", der, 0o644)
}

func writePEM(file, kind string, der []byte, mode os.FileMode) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand never fails on supported systems
	}
	return n
}

// Name adds host names or addresses to the server certificate; the next
// handshake shows them.
func (a *Authority) Name(names ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range names {
		if name != "" && !slices.Contains(a.names, name) {
			a.names = append(a.names, name)
			a.server = nil
		}
	}
}

// GetCertificate is for tls.Config: the server certificate over all names,
// renewed in time.
func (a *Authority) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server != nil && a.server.Leaf.NotAfter.Sub(a.now()) > renewAt {
		return a.server, nil
	}
	issued, err := a.issue(a.names)
	if err != nil {
		return nil, fmt.Errorf("issue the server certificate: %w", err)
	}
	a.server = issued
	return issued, nil
}

func (a *Authority) issue(names []string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf, err := a.sign(&key.PublicKey, "slipway", names, nil)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw, a.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// sign makes a certificate over names; one with a URI is a peer's, which also
// dials.
func (a *Authority) sign(public any, common string, names []string, uri *url.URL) (*x509.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: common},
		NotBefore: a.now().Add(-time.Hour), NotAfter: a.now().Add(serverLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if uri != nil {
		template.URIs = []*url.URL{uri}
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, strings.ToLower(name))
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Sign makes the certificate of a peer, by the key that a request proves to
// have.
func (a *Authority) Sign(csr *x509.CertificateRequest, common string, names []string, uri *url.URL) (*x509.Certificate, error) {
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the request is not signed by its key: %w", err)
	}
	return a.sign(csr.PublicKey, common, names, uri)
}

// Verify holds a certificate against the authority, at this moment.
func (a *Authority) Verify(certificate *x509.Certificate) error {
	_, err := certificate.Verify(x509.VerifyOptions{Roots: a.Pool(), CurrentTime: a.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}

// DER is the authority's certificate.
func (a *Authority) DER() []byte { return a.cert.Raw }

// Own returns what gives the certificate of a peer in this process, over the
// names that Name was given, renewed in time.
func (a *Authority) Own(common string, uri *url.URL) func() (*tls.Certificate, error) {
	var mu sync.Mutex
	var kept *tls.Certificate
	return func() (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		if kept != nil && kept.Leaf.NotAfter.Sub(a.now()) > renewAt {
			return kept, nil
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		a.mu.Lock()
		names := slices.Clone(a.names)
		a.mu.Unlock()
		leaf, err := a.sign(&key.PublicKey, common, names, uri)
		if err != nil {
			return nil, fmt.Errorf("issue the certificate of %s: %w", common, err)
		}
		kept = &tls.Certificate{Certificate: [][]byte{leaf.Raw, a.cert.Raw}, PrivateKey: key, Leaf: leaf}
		return kept, nil
	}
}

// ServerTLS is how the shared listeners speak TLS: 1.2 and later, a client
// certificate asked for and judged by whoever the connection is for.
func (a *Authority) ServerTLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: a.GetCertificate, ClientAuth: tls.RequestClientCert}
}
