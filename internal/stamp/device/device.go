// Package device keeps the identities of a stamp: who may connect, with which
// credentials, and what was left behind by those who moved on.
package device

import (
	"crypto/hmac"
	"crypto/sha1" // thumbprints of the hub protocol may be SHA-1; they name a certificate, the TLS layer proves it
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sastoken"
)

// Skew is how far a device's clock may be behind when a token expires.
const Skew = 5 * time.Minute

// The statuses: a device that is disabled may not connect.
const (
	Enabled  = "enabled"
	Disabled = "disabled"
)

// Device is an identity: of a device, or of a module of one.
type Device struct {
	ID            string // of a module "device/module"; see link.SplitIdentity
	GenerationID  string // new each time the identity is created
	Epoch         int64
	Status        string
	Enrollment    string
	Tenant        string // whose device it is
	Auth          link.Auth
	ModelID       string
	Subscriptions uint32
	// DesiredVersion is that of the twin's desired properties.
	DesiredVersion int64
	CreatedAt      time.Time
	// Parent is the device of a module, whose key may speak for the module and
	// whose status binds it; nil for a device.
	Parent *Device
}

// Policies are the named keys that may speak for any device of the stamp.
type Policies interface {
	// Connects checks that a token is made with a key of the policy it names,
	// and that the policy allows devices to connect.
	Connects(token sastoken.Token, now time.Time) error
}

// Credentials are what a connection shows.
type Credentials struct {
	DeviceID string   // or a module's identity
	Hosts    []string // the names this hub answers to, for the scope of a token
	// Trusted are the authorities of devices that a back end made to show a
	// certificate: their DER, one after the other.
	Trusted []byte
	Token   string // shared access signature, empty with a certificate
	Chain   []*x509.Certificate
	// UpdateToken is shown instead by update clients that know plain tokens
	// only; see UpdateToken.
	UpdateToken string
	// Vouched says that one who may speak for the device speaks for it.
	Vouched bool
}

// Proof is how a device proved itself, and until when that holds.
type Proof struct {
	Method  string    // JSON as in iothub-connection-auth-method
	Expires time.Time // zero: as long as the connection
}

// Authenticate holds credentials against the identity.
func (d Device) Authenticate(c Credentials, policies Policies, now time.Time) (Proof, error) {
	for _, one := range []*Device{&d, d.Parent} {
		if one != nil && one.Status != Enabled {
			return Proof{}, problem.New(problem.Denied, "device %s is disabled", one.ID)
		}
	}
	switch {
	case c.Vouched:
		return Proof{Method: method("hub", "gateway")}, nil
	case c.UpdateToken != "":
		return d.authenticateUpdateToken(c.UpdateToken)
	case c.Token != "":
		return d.authenticateToken(c, policies, now)
	case len(c.Chain) == 0:
		return Proof{}, d.unproven()
	}
	proof, err := d.authenticateCertificate(c, now)
	if err != nil && len(d.Auth.Issuer) > 0 {
		return d.authenticateIssued(c.Chain[0], now)
	}
	return proof, err
}

// authenticateCertificate takes a certificate as the device was enrolled with.
func (d Device) authenticateCertificate(c Credentials, now time.Time) (Proof, error) {
	switch d.Auth.Type {
	case link.AuthSelfSigned:
		return d.authenticateThumbprint(c.Chain[0], now)
	case link.AuthCertificate:
		authorities := d.Auth.CA
		if len(authorities) == 0 {
			authorities = c.Trusted
		}
		if len(authorities) == 0 {
			return Proof{}, problem.New(problem.Unauthenticated, "no authority is known for the certificates of device %s; add one, and prove that you have its key", d.ID)
		}
		return d.authenticateChain(c.Chain, authorities, now)
	}
	return Proof{}, d.unproven()
}

// authenticateIssued takes an operational certificate that is not revoked.
func (d Device) authenticateIssued(leaf *x509.Certificate, now time.Time) (Proof, error) {
	if slices.Contains(d.Auth.Revoked, leaf.SerialNumber.Text(16)) {
		return Proof{}, problem.New(problem.Unauthenticated, "the certificate of device %s was revoked", d.ID)
	}
	return d.authenticateChain([]*x509.Certificate{leaf}, d.Auth.Issuer, now)
}

func (d Device) unproven() error {
	return problem.New(problem.Unauthenticated, "device %s authenticates by %s, and showed no such credentials", d.ID, d.Auth.Type)
}

// authenticateToken takes a token made with a key of the identity, of the
// device a module belongs to, or of a policy.
func (d Device) authenticateToken(c Credentials, policies Policies, now time.Time) (Proof, error) {
	token, err := sastoken.Parse(c.Token)
	if err != nil {
		return Proof{}, problem.New(problem.Unauthenticated, "the token cannot be read: %w", err)
	}
	if !d.coveredBy(token, c.Hosts) {
		return Proof{}, problem.New(problem.Unauthenticated, "the token is for %q, not for this device on this hub", token.Resource)
	}
	if token.Policy != "" {
		if err := policies.Connects(token, now); err != nil {
			return Proof{}, err
		}
		return Proof{method("hub", "sas"), token.Expiry.Add(Skew)}, nil
	}
	scope := d.scope()
	failure := d.verify(token, now)
	if failure != nil && d.Parent != nil {
		scope, failure = "device", d.Parent.verify(token, now)
	}
	if failure != nil {
		return Proof{}, problem.New(problem.Unauthenticated, "the token is not valid for device %s: %w", d.ID, failure)
	}
	return Proof{method(scope, "sas"), token.Expiry.Add(Skew)}, nil
}

// coveredBy reports whether a token is for the identity on this hub.
func (d Device) coveredBy(token sastoken.Token, hosts []string) bool {
	device, module := link.SplitIdentity(d.ID)
	resource := []string{"", "devices", device}
	if module != "" {
		resource = append(resource, "modules", module)
	}
	// Some SDKs encode the id on its own before they encode the whole; with a
	// device's own key that can mean no other device.
	again := token.Decoded()
	for _, resource[0] = range hosts {
		if token.Covers(resource...) || token.Policy == "" && again.Covers(resource...) {
			return true
		}
	}
	return false
}

var errNoKey = errors.New("it has no key")

// verify tries both keys of an identity that has any.
func (d Device) verify(token sastoken.Token, now time.Time) error {
	failure := errNoKey
	if d.Auth.Type != link.AuthSAS {
		return failure
	}
	for _, key := range [][]byte{d.Auth.PrimaryKey, d.Auth.SecondaryKey} {
		if len(key) == 0 {
			continue
		}
		if failure = token.Verify(key, now, Skew); !errors.Is(failure, sastoken.ErrSignature) {
			return failure
		}
	}
	return failure
}

// UpdateToken is what an update client shows for a device whose key this is:
// it follows from the key, so that it is kept nowhere, is void with the key, and
// goes along where the device is moved.
func UpdateToken(key []byte, id string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("ddi/" + id))
	return hex.EncodeToString(mac.Sum(nil)[:updateTokenBytes])
}

// updateTokenBytes make 32 characters, which is what some clients have room for.
const updateTokenBytes = 16

// authenticateUpdateToken takes the token of either key.
func (d Device) authenticateUpdateToken(token string) (Proof, error) {
	if d.Auth.Type == link.AuthSAS {
		for _, key := range [][]byte{d.Auth.PrimaryKey, d.Auth.SecondaryKey} {
			if len(key) > 0 && hmac.Equal([]byte(token), []byte(UpdateToken(key, d.ID))) {
				return Proof{Method: method(d.scope(), "sas")}, nil
			}
		}
	}
	return Proof{}, d.unproven()
}

func (d Device) scope() string {
	if d.Parent != nil {
		return "module"
	}
	return "device"
}

// method is the iothub-connection-auth-method of a message.
func method(scope, kind string) string {
	return `{"scope":"` + scope + `","type":"` + kind + `","issuer":"iothub"}`
}

func (d Device) authenticateThumbprint(leaf *x509.Certificate, now time.Time) (Proof, error) {
	if err := valid(leaf, now); err != nil {
		return Proof{}, err
	}
	for _, thumbprint := range []string{d.Auth.PrimaryThumbprint, d.Auth.SecondaryThumbprint} {
		if thumbprint != "" && matches(leaf, thumbprint) {
			return Proof{method(d.scope(), "x509"), leaf.NotAfter}, nil
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

func (d Device) authenticateChain(chain []*x509.Certificate, authorities []byte, now time.Time) (Proof, error) {
	leaf := chain[0]
	if leaf.Subject.CommonName != d.ID {
		return Proof{}, problem.New(problem.Unauthenticated, "the certificate names %q, not device %s", leaf.Subject.CommonName, d.ID)
	}
	roots, err := x509.ParseCertificates(authorities)
	if err != nil {
		return Proof{}, problem.New(problem.Internal, "the stored authorities of device %s cannot be read: %w", d.ID, err)
	}
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, root := range roots {
		options.Roots.AddCert(root)
	}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(options); err != nil {
		return Proof{}, problem.New(problem.Unauthenticated, "the certificate does not lead to an authority that device %s may use: %w", d.ID, err)
	}
	return Proof{method(d.scope(), "x509"), leaf.NotAfter}, nil
}

func valid(leaf *x509.Certificate, now time.Time) error {
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return problem.New(problem.Unauthenticated, "the certificate is valid from %s to %s only", leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339))
	}
	return nil
}
