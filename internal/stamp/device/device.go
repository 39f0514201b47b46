// Package device keeps the identities of a stamp: who may connect, with which
// credentials, and what was left behind by those who moved on.
package device

import (
	"crypto/sha1" // thumbprints of the hub protocol may be SHA-1; they name a certificate, the TLS layer proves it
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sastoken"
)

// Skew is how far a device's clock may be behind when a token expires.
const Skew = 5 * time.Minute

// Enabled is the status of a device that may connect.
const Enabled = "enabled"

// Device is an identity.
type Device struct {
	ID            string
	GenerationID  string // new each time the identity is created
	Epoch         int64
	Status        string
	Enrollment    string
	Auth          link.Auth
	ModelID       string
	Subscriptions uint32
	CreatedAt     time.Time
}

// Credentials are what a connection shows.
type Credentials struct {
	DeviceID string
	Hosts    []string // the names this hub answers to, for the scope of a token
	Token    string   // shared access signature, empty with a certificate
	Chain    []*x509.Certificate
}

// Proof is how a device proved itself, and until when that holds.
type Proof struct {
	Method  string    // JSON as in iothub-connection-auth-method
	Expires time.Time // zero: as long as the connection
}

// Authenticate holds credentials against the identity.
func (d Device) Authenticate(c Credentials, now time.Time) (Proof, error) {
	if d.Status != Enabled {
		return Proof{}, problem.New(problem.Denied, "device %s is disabled", d.ID)
	}
	switch {
	case c.Token != "" && d.Auth.Type == link.AuthSAS:
		return d.authenticateToken(c, now)
	case c.Token == "" && len(c.Chain) > 0 && d.Auth.Type == link.AuthSelfSigned:
		return d.authenticateThumbprint(c.Chain[0], now)
	case c.Token == "" && len(c.Chain) > 0 && d.Auth.Type == link.AuthCertificate:
		return d.authenticateChain(c.Chain, now)
	}
	return Proof{}, problem.New(problem.Unauthenticated, "device %s authenticates by %s, and showed no such credentials", d.ID, d.Auth.Type)
}

func (d Device) authenticateToken(c Credentials, now time.Time) (Proof, error) {
	token, err := sastoken.Parse(c.Token)
	if err != nil {
		return Proof{}, problem.New(problem.Unauthenticated, "the token cannot be read: %w", err)
	}
	covered := false
	for _, host := range c.Hosts {
		covered = covered || token.Covers(host, "devices", d.ID)
	}
	if !covered {
		return Proof{}, problem.New(problem.Unauthenticated, "the token is for %q, not for this device on this hub", token.Resource)
	}
	failure := errors.New("it has no key")
	for _, key := range [][]byte{d.Auth.PrimaryKey, d.Auth.SecondaryKey} {
		if len(key) == 0 {
			continue
		}
		if failure = token.Verify(key, now, Skew); failure == nil {
			return Proof{`{"scope":"device","type":"sas","issuer":"iothub"}`, token.Expiry.Add(Skew)}, nil
		}
	}
	return Proof{}, problem.New(problem.Unauthenticated, "the token is not valid for device %s: %w", d.ID, failure)
}

const x509Method = `{"scope":"device","type":"x509","issuer":"iothub"}`

func (d Device) authenticateThumbprint(leaf *x509.Certificate, now time.Time) (Proof, error) {
	if err := valid(leaf, now); err != nil {
		return Proof{}, err
	}
	for _, thumbprint := range []string{d.Auth.PrimaryThumbprint, d.Auth.SecondaryThumbprint} {
		if thumbprint != "" && matches(leaf, thumbprint) {
			return Proof{x509Method, leaf.NotAfter}, nil
		}
	}
	return Proof{}, problem.New(problem.Unauthenticated, "the certificate is not the one enrolled for device %s", d.ID)
}

func matches(leaf *x509.Certificate, thumbprint string) bool {
	long, short := sha256.Sum256(leaf.Raw), sha1.Sum(leaf.Raw)
	enrolled := []byte(strings.ToLower(thumbprint))
	return subtle.ConstantTimeCompare(enrolled, []byte(hex.EncodeToString(long[:]))) == 1 ||
		subtle.ConstantTimeCompare(enrolled, []byte(hex.EncodeToString(short[:]))) == 1
}

func (d Device) authenticateChain(chain []*x509.Certificate, now time.Time) (Proof, error) {
	leaf := chain[0]
	if leaf.Subject.CommonName != d.ID {
		return Proof{}, problem.New(problem.Unauthenticated, "the certificate names %q, not device %s", leaf.Subject.CommonName, d.ID)
	}
	ca, err := x509.ParseCertificate(d.Auth.CA)
	if err != nil {
		return Proof{}, problem.New(problem.Internal, "the stored authority of device %s cannot be read: %w", d.ID, err)
	}
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	options.Roots.AddCert(ca)
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(options); err != nil {
		return Proof{}, problem.New(problem.Unauthenticated, "the certificate does not lead to the authority enrolled for device %s: %w", d.ID, err)
	}
	return Proof{x509Method, leaf.NotAfter}, nil
}

func valid(leaf *x509.Certificate, now time.Time) error {
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return problem.New(problem.Unauthenticated, "the certificate is valid from %s to %s only", leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339))
	}
	return nil
}
