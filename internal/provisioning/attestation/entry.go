package attestation

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Entry is an enrolment with its keys and certificates read.
type Entry struct {
	Enrollment  link.Enrollment
	keys        [][]byte // primary first
	authorities []*x509.Certificate
	thumbprints []string // lower-case hex, primary first
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
	case (a.SymmetricKey == nil) == (a.X509 == nil):
		return Entry{}, problem.New(problem.Invalid, "exactly one of symmetricKey and x509 must be given").At("spec.attestation")
	case a.SymmetricKey != nil:
		err = entry.readKeys(*a.SymmetricKey)
	case e.Kind == link.Group:
		err = entry.readGroup(*a.X509)
	default:
		err = entry.readIndividual(*a.X509)
	}
	return entry, err
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
	kinds := 0
	for _, given := range []bool{x.CA+x.SecondaryCA != "", x.Certificate+x.SecondaryCertificate != "", x.Thumbprint+x.SecondaryThumbprint != ""} {
		if given {
			kinds++
		}
	}
	switch {
	case kinds != 1:
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
		c, err := readPEM(part.text)
		if err != nil {
			return err.At(x509Field + "." + part.field)
		}
		if !c.IsCA || !c.BasicConstraintsValid {
			return problem.New(problem.Invalid, "must be the certificate of an authority (basic constraints CA:TRUE)").At(x509Field + "." + part.field)
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
		c, err := readPEM(part.text)
		if err != nil {
			return err.At(x509Field + "." + part.field)
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

// readPEM reads exactly one certificate.
func readPEM(text string) (*x509.Certificate, *problem.Error) {
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
