// Package peer is a process's place on the link: the key it made, and the
// certificate by which the installation's authority says which peer it is. The
// same certificate serves devices until another is configured.
package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// uriPrefix begins the name in a certificate that says who its owner is.
const uriPrefix = "slipway:peer:"

// URI is how a certificate names a peer.
func URI(name string) *url.URL {
	return &url.URL{Scheme: "slipway", Opaque: strings.TrimPrefix(uriPrefix, "slipway:") + name}
}

// Name is who a certificate says its owner is. The certificate must have been
// held against the installation's authority already.
func Name(certificate *x509.Certificate) (string, error) {
	for _, uri := range certificate.URIs {
		if name, ok := strings.CutPrefix(uri.String(), uriPrefix); ok && name != "" {
			return name, nil
		}
	}
	return "", problem.New(problem.Unauthenticated, "the certificate of %s names no peer", certificate.Subject.CommonName)
}

// Identity is a process's certificate and key, kept in a file.
type Identity struct {
	file string

	mu          sync.Mutex
	kept        kept
	certificate *tls.Certificate
	pool        *x509.CertPool
}

// kept is the file. It is written whole, so that key and certificate never
// differ.
type kept struct {
	Peer        string   `json:"peer"`
	Key         []byte   `json:"key"` // PKCS #8
	Certificate []byte   `json:"certificate"`
	CA          []byte   `json:"ca"`
	Servers     []string `json:"servers"`
	Routes      []string `json:"routes,omitempty"`
}

// Open reads the identity in a directory; found says whether the process has
// joined before.
func Open(dir string) (i *Identity, found bool, err error) {
	i = &Identity{file: filepath.Join(dir, "identity.json")}
	text, err := os.ReadFile(i.file)
	if errors.Is(err, os.ErrNotExist) {
		return i, false, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &i.kept)
	}
	if err == nil {
		err = i.parse()
	}
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", i.file, err)
	}
	return i, true, nil
}

// parse turns what is kept into what TLS takes.
func (i *Identity) parse() error {
	key, err := x509.ParsePKCS8PrivateKey(i.kept.Key)
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(i.kept.Certificate)
	if err != nil {
		return err
	}
	ca, err := x509.ParseCertificate(i.kept.CA)
	if err != nil {
		return err
	}
	i.pool = x509.NewCertPool()
	i.pool.AddCert(ca)
	i.certificate = &tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.Raw}, PrivateKey: key, Leaf: leaf}
	return nil
}

// Request is a key that waits for its certificate.
type Request struct {
	CSR []byte // DER
	key []byte
}

// NewRequest makes a key and the request for its certificate.
func NewRequest() (Request, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Request{}, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return Request{}, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	return Request{csr, secret}, err
}

// Take keeps the answer to a request: from now on this is who the process is.
func (i *Identity) Take(r Request, joined link.Joined) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	before := i.kept
	i.kept = kept{joined.Peer, r.key, joined.Certificate, joined.CA, joined.Servers, joined.Routes}
	if err := i.parse(); err != nil {
		i.kept = before
		return fmt.Errorf("the certificate that came: %w", err)
	}
	return i.write()
}

// write replaces the file. The caller holds mu.
func (i *Identity) write() error {
	text, err := json.Marshal(i.kept)
	if err != nil {
		return err
	}
	draft := i.file + ".tmp"
	if err := os.WriteFile(draft, text, 0o600); err != nil {
		return err
	}
	return os.Rename(draft, i.file)
}

// Peer is who the process is.
func (i *Identity) Peer() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.kept.Peer
}

// Servers are the link's, as host:port, and Routes those that a server of this
// process joins.
func (i *Identity) Servers() (servers, routes []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.kept.Servers), slices.Clone(i.kept.Routes)
}

// Learn keeps servers that were found on the way, for the next start.
func (i *Identity) Learn(servers []string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	all := slices.Clone(i.kept.Servers)
	for _, s := range servers {
		if !slices.Contains(all, s) && len(all) < maxServers {
			all = append(all, s)
		}
	}
	if len(all) == len(i.kept.Servers) {
		return nil
	}
	i.kept.Servers = all
	return i.write()
}

const maxServers = 50

// RenewAt is when the certificate should be renewed: after two thirds of its
// life.
func (i *Identity) RenewAt() time.Time {
	leaf := i.current().Leaf
	return leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore) / 3)
}

// Covers reports whether the certificate is good for all of the hosts.
func (i *Identity) Covers(hosts []string) bool {
	leaf := i.current().Leaf
	return !slices.ContainsFunc(hosts, func(host string) bool { return leaf.VerifyHostname(host) != nil })
}

// CA is the installation's authority as PEM.
func (i *Identity) CA() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.kept.CA})
}

func (i *Identity) current() *tls.Certificate {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.certificate
}

// LinkTLS is how the process speaks to the link: it shows who it is, and takes
// only those for a server who may be one.
func (i *Identity) LinkTLS() *tls.Config {
	i.mu.Lock()
	defer i.mu.Unlock()
	return LinkTLS(i.pool, func() (*tls.Certificate, error) { return i.current(), nil })
}

// LinkTLS is TLS with a server of the link, and between them. A server that
// takes in all peers leaves VerifyConnection out.
func LinkTLS(authority *x509.CertPool, certificate func() (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: authority, ClientCAs: authority,
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate() },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate() },
		VerifyConnection:     checkServer,
	}
}

// ClusterTLS is how the process speaks to the others of the same peer.
func (i *Identity) ClusterTLS() *tls.Config { return Among(i.LinkTLS(), i.Peer()) }

// Among is TLS between the processes of one peer: each refuses whoever is not
// one of them.
func Among(config *tls.Config, peer string) *tls.Config {
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("a process of " + peer + " shows a certificate")
		}
		name, err := Name(state.PeerCertificates[0])
		if err == nil && name != peer {
			err = fmt.Errorf("%s is no process of %s", name, peer)
		}
		return err
	}
	return config
}

// checkServer refuses a server of the link whose certificate is a stamp's.
func checkServer(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("a server of the link shows a certificate")
	}
	name, err := Name(state.PeerCertificates[0])
	if err == nil && !link.HoldsServer(name) {
		err = fmt.Errorf("%s is no server of the link", name)
	}
	return err
}

// RenewTLS is how the process comes to control for its next certificate.
func (i *Identity) RenewTLS() *tls.Config {
	i.mu.Lock()
	defer i.mu.Unlock()
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: i.pool,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return i.current(), nil },
	}
}

// PinnedTLS is how a process that knows nothing but a join token comes to
// control: the token holds the fingerprint of the authority.
func PinnedTLS(token string) *tls.Config {
	_, fingerprint, _ := strings.Cut(token, ".")
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	// The chain is checked below: crypto/tls cannot know the root beforehand.
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		return checkPinned(state, fingerprint)
	}
	return config
}

// checkPinned holds a chain against the root that has a fingerprint.
func checkPinned(state tls.ConnectionState, fingerprint string) error {
	roots, others := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, certificate := range state.PeerCertificates[1:] {
		sum := sha256.Sum256(certificate.Raw)
		if certificate.IsCA && base64.RawURLEncoding.EncodeToString(sum[:]) == fingerprint {
			roots.AddCert(certificate)
			found = true
			continue
		}
		others.AddCert(certificate)
	}
	if !found {
		return errors.New("control shows a certificate of another authority than the join token names; if it is a public one, name that with join.ca")
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: others, DNSName: state.ServerName})
	return err
}

// ServerTLS is how the process meets devices and people: a client certificate
// is asked for and judged by whoever the connection is for.
func (i *Identity) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return i.current(), nil },
	}
}
