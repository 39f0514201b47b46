package attestation

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sastoken"
)

// Entry is an enrolment with its keys and certificates read.
type Entry struct {
	Enrollment  link.Enrollment
	keys        [][]byte // primary first
	authorities []*x509.Certificate
	thumbprints []string // lower-case hex, primary first
	// Secret is that of the provisioning service, of which keys for TPMs are
	// made; without it no TPM is proven.
	Secret         []byte
	endorsementKey []byte
}

// Groups are all group enrolments, ready to be searched.
type Groups struct {
	entries []Entry
	roots   *x509.CertPool
}

// NewGroups makes Groups of entries, which are tried in the order given.
func NewGroups(entries []Entry) *Groups {
	g := &Groups{entries: entries, roots: x509.NewCertPool()}
	for _, e := range entries {
		for _, c := range e.authorities {
			g.roots.AddCert(c)
		}
	}
	return g
}

// NewEntry reads an enrolment's attestation; its error names the field.
func NewEntry(e link.Enrollment) (Entry, error) {
	entry := Entry{Enrollment: e}
	a := e.Spec.Attestation
	var err error
	switch {
	case count(a.SymmetricKey != nil, a.X509 != nil, a.TPM != nil) != 1:
		return Entry{}, problem.New(problem.Invalid, "exactly one of symmetricKey, x509 and tpm must be given").At("spec.attestation")
	case a.TPM != nil:
		err = entry.readTPM(*a.TPM)
	case a.SymmetricKey != nil:
		err = entry.readKeys(*a.SymmetricKey)
	case e.Kind == link.Group:
		err = entry.readGroup(*a.X509)
	default:
		err = entry.readIndividual(*a.X509)
	}
	return entry, err
}

func count(given ...bool) (n int) {
	for _, g := range given {
		if g {
			n++
		}
	}
	return n
}

// Credentials are what a device of the enrolment has at its hub; ok is false
// where that depends on what the device shows.
func (e Entry) Credentials(registrationID string) (auth link.Auth, ok bool) {
	switch {
	case len(e.keys) > 0 && e.Enrollment.Kind == link.Group:
		keys := make([][]byte, len(e.keys))
		for i, key := range e.keys {
			keys[i] = sastoken.DeriveKey(key, registrationID)
		}
		return keyAuth(keys), true
	case len(e.keys) > 0:
		return keyAuth(e.keys), true
	case len(e.thumbprints) > 0:
		return thumbprintAuth(e.thumbprints), true
	case len(e.authorities) > 0:
		return authorityAuth(e.authorities), true
	}
	return auth, false
}

const keysField = "spec.attestation.symmetricKey."

func (e *Entry) readKeys(k link.SymmetricKey) error {
	for _, part := range []struct{ field, text string }{{"primaryKey", k.PrimaryKey}, {"secondaryKey", k.SecondaryKey}} {
		key, err := base64.StdEncoding.DecodeString(part.text)
		if err != nil {
			return problem.New(problem.Invalid, "must be base64").At(keysField + part.field)
		}
		if len(key) < 16 || len(key) > 64 {
			return problem.New(problem.Invalid, "must be 16 to 64 bytes, and is %d", len(key)).At(keysField + part.field)
		}
		e.keys = append(e.keys, key)
	}
	return nil
}

const x509Field = "spec.attestation.x509"

func (e *Entry) readGroup(x link.X509) error {
	if x.Certificate != "" || x.SecondaryCertificate != "" || x.Thumbprint != "" || x.SecondaryThumbprint != "" {
		return problem.New(problem.Invalid, "a group is attested by ca and secondaryCA only").At(x509Field)
	}
	return e.readAuthorities(x)
}

func (e *Entry) readIndividual(x link.X509) error {
	switch {
	case count(x.CA+x.SecondaryCA != "", x.Certificate+x.SecondaryCertificate != "", x.Thumbprint+x.SecondaryThumbprint != "") != 1:
		return problem.New(problem.Invalid, "exactly one of certificate, thumbprint and ca must be given").At(x509Field)
	case x.CA+x.SecondaryCA != "":
		return e.readAuthorities(x)
	case x.Certificate+x.SecondaryCertificate != "":
		return e.readLeaves(x)
	}
	return e.readThumbprints(x)
}

func (e *Entry) readAuthorities(x link.X509) error {
	for _, part := range []struct{ field, text string }{{"ca", x.CA}, {"secondaryCA", x.SecondaryCA}} {
		if part.text == "" && part.field != "ca" {
			continue
		}
		c, err := ReadAuthority(part.text)
		if err != nil {
			return problem.Of(err).At(x509Field + "." + part.field)
		}
		e.authorities = append(e.authorities, c)
	}
	return nil
}

func (e *Entry) readLeaves(x link.X509) error {
	for _, part := range []struct{ field, text string }{{"certificate", x.Certificate}, {"secondaryCertificate", x.SecondaryCertificate}} {
		if part.text == "" && part.field != "certificate" {
			continue
		}
		c, err := ReadCertificate(part.text)
		if err != nil {
			return problem.Of(err).At(x509Field + "." + part.field)
		}
		_, long := Thumbprints(c)
		e.thumbprints = append(e.thumbprints, long)
	}
	return nil
}

func (e *Entry) readThumbprints(x link.X509) error {
	for _, part := range []struct{ field, text string }{{"thumbprint", x.Thumbprint}, {"secondaryThumbprint", x.SecondaryThumbprint}} {
		if part.text == "" && part.field != "thumbprint" {
			continue
		}
		print := strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(part.text))
		if _, err := hex.DecodeString(print); err != nil || len(print) != 40 && len(print) != 64 {
			return problem.New(problem.Invalid, "must be the hex SHA-1 (40 digits) or SHA-256 (64 digits) of the certificate").At(x509Field + "." + part.field)
		}
		e.thumbprints = append(e.thumbprints, print)
	}
	return nil
}

// ReadAuthority reads exactly one certificate in PEM, that of an authority.
func ReadAuthority(text string) (*x509.Certificate, error) {
	c, err := ReadCertificate(text)
	if err == nil && (!c.IsCA || !c.BasicConstraintsValid) {
		err = problem.New(problem.Invalid, "must be the certificate of an authority (basic constraints CA:TRUE)")
	}
	return c, err
}

// ReadCertificate reads exactly one certificate in PEM.
func ReadCertificate(text string) (*x509.Certificate, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
		return nil, problem.New(problem.Invalid, "must be one certificate in PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, problem.New(problem.Invalid, "the certificate cannot be read: %w", err)
	}
	return c, nil
}
