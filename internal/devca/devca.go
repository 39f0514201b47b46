// Package devca is the development certificate authority of an installation:
// made at first start, kept in the data directory, trusted by devices that are
// given its certificate. Real host names with real certificates replace it by
// configuration.
package devca

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
	"os"
	"path/filepath"
	"slices"
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
		return nil, fmt.Errorf("read the development CA: %w", err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the development CA in %s has a %T, not an ECDSA key", dir, pair.PrivateKey)
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
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Slipway development CA", Organization: []string{"Slipway"}},
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
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "slipway"},
		NotBefore: a.now().Add(-time.Hour), NotAfter: a.now().Add(serverLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// ServerTLS is how the shared listeners speak TLS: 1.2 and later, a client
// certificate asked for and judged by whoever the connection is for.
func (a *Authority) ServerTLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: a.GetCertificate, ClientAuth: tls.RequestClientCert}
}
