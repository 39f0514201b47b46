package attestation

import (
	"bytes"
	"crypto/sha1" // thumbprints may be of SHA-1; nothing is signed with it
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
)

func byCertificate(claim Claim, individual *Entry, groups *Groups, now time.Time) (Proof, error) {
	leaf := claim.Chain[0]
	if len(claim.Chain) > maxChain {
		return Proof{}, refused(fmt.Errorf("%d certificates were presented, %d are the limit", len(claim.Chain), maxChain))
	}
	if !strings.EqualFold(leaf.Subject.CommonName, claim.RegistrationID) {
		return Proof{}, refused(errors.New("the certificate's common name is not the registration id"))
	}
	if err := inForce(leaf, now); err != nil {
		return Proof{}, refused(err)
	}
	if individual != nil {
		return proveIndividual(*individual, claim.Chain, now)
	}
	root, err := nearest(claim.Chain, groups.roots, now)
	if err != nil {
		return Proof{}, refused(err)
	}
	for _, group := range groups.entries {
		if slices.ContainsFunc(group.authorities, root.Equal) {
			return Proof{Enrollment: group.Enrollment, Auth: authorityAuth(group.authorities)}, nil
		}
	}
	return Proof{}, refused(nil)
}

func inForce(c *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(c.NotBefore):
		return fmt.Errorf("the certificate is not valid before %s", c.NotBefore.Format(time.RFC3339))
	case now.After(c.NotAfter):
		return fmt.Errorf("the certificate expired at %s", c.NotAfter.Format(time.RFC3339))
	}
	return nil
}

func proveIndividual(e Entry, chain []*x509.Certificate, now time.Time) (Proof, error) {
	if len(e.authorities) > 0 {
		if _, err := nearest(chain, pool(e.authorities), now); err != nil {
			return Proof{}, refused(err)
		}
		return Proof{Enrollment: e.Enrollment, Auth: authorityAuth(e.authorities)}, nil
	}
	sha1Print, sha256Print := Thumbprints(chain[0])
	for _, enrolled := range e.thumbprints {
		if enrolled == sha1Print || enrolled == sha256Print {
			return Proof{Enrollment: e.Enrollment, Auth: thumbprintAuth(e.thumbprints)}, nil
		}
	}
	return Proof{}, refused(nil)
}

// Thumbprints returns the hex SHA-1 and SHA-256 of a certificate.
func Thumbprints(c *x509.Certificate) (sha1Hex, sha256Hex string) {
	short, long := sha1.Sum(c.Raw), sha256.Sum256(c.Raw)
	return hex.EncodeToString(short[:]), hex.EncodeToString(long[:])
}

func thumbprintAuth(prints []string) link.Auth {
	auth := link.Auth{Type: link.AuthSelfSigned, PrimaryThumbprint: prints[0]}
	if len(prints) > 1 {
		auth.SecondaryThumbprint = prints[1]
	}
	return auth
}

// authorityAuth takes a certificate of either authority at the hub, so that an
// enrolment goes over from one to the other while its devices stay.
func authorityAuth(all []*x509.Certificate) link.Auth {
	auth := link.Auth{Type: link.AuthCertificate}
	for _, ca := range all {
		auth.CA = append(auth.CA, ca.Raw...)
	}
	return auth
}

// nearest returns the enrolled authority closest to the leaf. The device may
// present the leaf alone, some of its chain, or all of it.
func nearest(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) (*x509.Certificate, error) {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	paths, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, err
	}
	var best []*x509.Certificate
	for _, path := range paths {
		// A path of one is an authority presented as a device.
		if len(path) < 2 || len(path) > maxChain+1 {
			continue
		}
		if best == nil || len(path) < len(best) || len(path) == len(best) && bytes.Compare(last(path).Raw, last(best).Raw) < 0 {
			best = path
		}
	}
	if best == nil {
		return nil, errors.New("the certificate is an authority's own")
	}
	return last(best), nil
}

func last(path []*x509.Certificate) *x509.Certificate { return path[len(path)-1] }

func pool(authorities []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range authorities {
		p.AddCert(c)
	}
	return p
}
