// Package authority keeps the certificate authorities that enrolments name.
// An authority serves nobody until its owner has proven to have its key, by a
// certificate signed with it over a code made for that: whoever merely found
// an authority's certificate cannot enrol its devices.
package authority

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"encoding/pem"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/attestation"
	"github.com/slipway/slipway/internal/sqldb"
)

// most is how many authorities there may be.
const most = 1000

// Authorities are all of the plane.
type Authorities struct {
	db   *sqldb.DB
	now  func() time.Time
	kick chan struct{} // those who are trusted have changed
}

// New returns the authorities kept in db.
func New(db *sqldb.DB, now func() time.Time) *Authorities {
	return &Authorities{db, now, make(chan struct{}, 1)}
}

const selectAuthority = "SELECT name, certificate, code, created_at, verified_at FROM authority"

func scan(rows *sql.Rows) (a link.Authority, err error) {
	var created int64
	var verified sql.NullInt64
	if err := rows.Scan(&a.Name, &a.Certificate, &a.Code, &created, &verified); err != nil {
		return a, err
	}
	a.CreatedAt, a.VerifiedAt = sqldb.Time(created), sqldb.NullTime(verified)
	return described(a)
}

// described fills in what the certificate says.
func described(a link.Authority) (link.Authority, error) {
	certificate, err := attestation.ReadAuthority(a.Certificate)
	if err != nil {
		return a, problem.Of(err).At("certificate")
	}
	sum := sha256.Sum256(certificate.Raw)
	a.Subject, a.Thumbprint, a.NotAfter = certificate.Subject.String(), hex.EncodeToString(sum[:]), certificate.NotAfter
	return a, nil
}

func load(ctx context.Context, q sqldb.Querier, name string) (link.Authority, error) {
	a, found, err := sqldb.Row(ctx, q, scan, selectAuthority+" WHERE name_key = ?", strings.ToLower(name))
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no certificate authority %q", name)
	}
	return a, err
}

func newCode() string {
	code := make([]byte, 24)
	rand.Read(code) // never fails: crypto/rand ends the program instead
	return strings.ToUpper(hex.EncodeToString(code))
}

// Add keeps an authority, which waits for its proof. Adding the same again
// changes nothing; another certificate needs another name, so that what an
// enrolment names never changes under it.
func (as *Authorities) Add(ctx context.Context, req link.AddAuthority) (added link.Authority, err error) {
	if !attestation.ValidID(req.Name) {
		return added, problem.New(problem.Invalid, "must be 1 to 128 letters, digits and - . _ : and end with a letter, a digit or -").At("name")
	}
	now := as.now().UTC().Truncate(time.Microsecond)
	added, err = described(link.Authority{Name: req.Name, Certificate: req.Certificate, Code: newCode(), CreatedAt: now})
	if err != nil {
		return added, err
	}
	err = as.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		before, err := load(ctx, tx, req.Name)
		switch {
		case err == nil && before.Thumbprint == added.Thumbprint:
			added = before
			return nil
		case err == nil:
			return problem.New(problem.Conflict, "%s is another authority; choose another name, and let enrolments name both until the devices have changed", before.Name).At("name")
		case !problem.Is(err, problem.NotFound):
			return err
		}
		n, _, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (n int, err error) { return n, rows.Scan(&n) }, "SELECT count(*) FROM authority")
		if err == nil && n >= most {
			err = problem.New(problem.TooLarge, "there are %d authorities, the most there may be; delete one", n)
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO authority (name_key, name, certificate, code, created_at) VALUES (?, ?, ?, ?, ?)",
			strings.ToLower(req.Name), req.Name, req.Certificate, added.Code, sqldb.Micros(now))
		return err
	})
	return added, err
}

// List returns all in order of name.
func (as *Authorities) List(ctx context.Context, _ link.None) (all link.Authorities, err error) {
	all.Items, err = sqldb.Rows(ctx, as.db, scan, selectAuthority+" ORDER BY name_key")
	return all, err
}

// Verify takes the proof: a certificate signed by the authority with the code
// as its common name. The code is used up.
func (as *Authorities) Verify(ctx context.Context, req link.VerifyAuthority) (verified link.Authority, err error) {
	proof, err := attestation.ReadCertificate(req.Certificate)
	if err != nil {
		return verified, problem.Of(err).At("certificate")
	}
	err = as.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if verified, err = load(ctx, tx, req.Name); err != nil || verified.VerifiedAt != nil {
			return err
		}
		authority, err := attestation.ReadAuthority(verified.Certificate)
		if err != nil {
			return err
		}
		now := as.now().UTC().Truncate(time.Microsecond)
		if err := Proves(authority, proof, verified.Code, now); err != nil {
			return err
		}
		verified.VerifiedAt, verified.Code = &now, ""
		if _, err = tx.Exec(ctx, "UPDATE authority SET verified_at = ?, code = '' WHERE name_key = ?", sqldb.Micros(now), strings.ToLower(req.Name)); err != nil {
			return err
		}
		return retrust(ctx, tx)
	})
	as.changed()
	return verified, err
}

// Proves reports whether a certificate proves that its maker has the key of an
// authority: signed by it, over the code, and valid now.
func Proves(authority, proof *x509.Certificate, code string, now time.Time) error {
	if code == "" || subtle.ConstantTimeCompare([]byte(strings.ToUpper(proof.Subject.CommonName)), []byte(code)) != 1 {
		return problem.New(problem.Denied, "the common name must be the authority's verification code").At("certificate")
	}
	if err := proof.CheckSignatureFrom(authority); err != nil {
		return problem.New(problem.Denied, "the certificate is not signed by the authority: %w", err).At("certificate")
	}
	if now.Before(proof.NotBefore) || now.After(proof.NotAfter) {
		return problem.New(problem.Denied, "the certificate is valid from %s to %s only", proof.NotBefore.Format(time.RFC3339), proof.NotAfter.Format(time.RFC3339)).At("certificate")
	}
	return nil
}

// Delete forgets an authority. Enrolments that named it keep its certificate;
// no other can name it. Devices that back ends made for its certificates are let
// in no more.
func (as *Authorities) Delete(ctx context.Context, ref link.AuthorityRef) error {
	defer as.changed()
	return as.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := load(ctx, tx, ref.Name); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM authority WHERE name_key = ?", strings.ToLower(ref.Name)); err != nil {
			return err
		}
		return retrust(ctx, tx)
	})
}

// Fill puts the certificates of the authorities that an enrolment names beside
// their names; only verified ones may be named.
func Fill(ctx context.Context, q sqldb.Querier, spec link.EnrollmentSpec) (link.EnrollmentSpec, error) {
	if spec.Attestation.X509 == nil {
		return spec, nil
	}
	x := *spec.Attestation.X509
	for _, part := range []struct {
		field, name string
		to          *string
	}{{"caReference", x.CAReference, &x.CA}, {"secondaryCAReference", x.SecondaryCAReference, &x.SecondaryCA}} {
		if part.name == "" {
			continue
		}
		field := "spec.attestation.x509." + part.field
		a, err := load(ctx, q, part.name)
		switch {
		case problem.Is(err, problem.NotFound):
			return spec, problem.New(problem.Invalid, "there is no certificate authority %q; add it, and prove that you have its key", part.name).At(field)
		case err != nil:
			return spec, err
		case a.VerifiedAt == nil:
			return spec, problem.New(problem.Invalid, "nobody has proven to have the key of %q yet; sign its verification code", a.Name).At(field)
		case *part.to != "" && !sameCertificate(*part.to, a.Certificate):
			return spec, problem.New(problem.Invalid, "%q is another certificate than the one given beside it; leave that out", a.Name).At(field)
		}
		*part.to = a.Certificate
	}
	spec.Attestation.X509 = &x
	return spec, nil
}

func sameCertificate(a, b string) bool {
	left, _ := pem.Decode([]byte(a))
	right, _ := pem.Decode([]byte(b))
	return left != nil && right != nil && string(left.Bytes) == string(right.Bytes)
}
