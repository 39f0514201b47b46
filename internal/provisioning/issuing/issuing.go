// Package issuing gives devices operational certificates: short-lived, from an
// authority of their environment's own, in answer to a signing request that
// comes with a registration. They are renewed by registering again and can be
// revoked one by one.
package issuing

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Authority issues for all environments.
type Authority struct {
	db  *sqldb.DB
	now func() time.Time
}

// New returns the authority whose keys are kept in db.
func New(db *sqldb.DB, now func() time.Time) *Authority { return &Authority{db, now} }

const (
	// Life is how long a certificate is valid; devices renew in its last third.
	Life        = 30 * 24 * time.Hour
	issuerLife  = 10 * 365 * 24 * time.Hour
	clockGrace  = 5 * time.Minute // for devices whose clocks are behind
	maxRequest  = 8 << 10
	maxIssued   = 100 // of one registration, not yet expired
	leastRSA    = 2048
	listDefault = 100
)

// issuer is the authority of one environment.
type issuer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// keptKey is that of an authority, which is sealed.
var keptKey = sqldb.Sealed{Table: "issuer", Key: []string{"environment"}, Name: "key", Bytes: true}

// Sealed are the columns that hold secrets.
var Sealed = []sqldb.Sealed{keptKey}

func scanIssuer(rows *sql.Rows) (i issuer, err error) {
	var environment string
	var der, key []byte
	if err := rows.Scan(&environment, &der, keptKey.Into(&key, &environment)); err != nil {
		return i, err
	}
	if i.certificate, err = x509.ParseCertificate(der); err != nil {
		return i, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		return i, err
	}
	var ok bool
	if i.key, ok = parsed.(*ecdsa.PrivateKey); !ok {
		return i, fmt.Errorf("an issuer's key is a %T", parsed)
	}
	return i, nil
}

// of returns the authority of an environment, made when it is first needed.
func (a *Authority) of(ctx context.Context, tx *sqldb.Tx, environment string) (issuer, error) {
	known, found, err := sqldb.Row(ctx, tx, scanIssuer, "SELECT environment, certificate, key FROM issuer WHERE environment = ?", environment)
	if err != nil || found {
		return known, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return known, err
	}
	now := a.now()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Slipway devices of " + environment}, NotBefore: now.Add(-clockGrace), NotAfter: now.Add(issuerLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return known, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return known, err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO issuer (environment, certificate, key, created_at) VALUES (?, ?, ?, ?)", environment, der, tx.Seal(keptKey, private, environment), sqldb.Micros(now)); err != nil {
		return known, err
	}
	certificate, err := x509.ParseCertificate(der)
	return issuer{certificate, key}, err
}

func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b)
}

// ReadRequest reads a PKCS #10 request in DER and holds it against the rules:
// signed by its own key, a key that is strong enough, and the registration id
// as the common name.
func ReadRequest(der []byte, registrationID string) (*x509.CertificateRequest, error) {
	if len(der) > maxRequest {
		return nil, problem.New(problem.TooLarge, "a signing request has at most %d bytes, not %d", maxRequest, len(der)).At("csr")
	}
	request, err := x509.ParseCertificateRequest(der)
	if err == nil {
		err = request.CheckSignature()
	}
	if err != nil {
		return nil, problem.New(problem.Invalid, "must be the base64 of a PKCS #10 request in DER, signed by its key: %w", err).At("csr")
	}
	if !strings.EqualFold(request.Subject.CommonName, registrationID) {
		return nil, problem.New(problem.Invalid, "the common name must be the registration id %s, not %q", registrationID, request.Subject.CommonName).At("csr")
	}
	if key, ok := request.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < leastRSA {
		return nil, problem.New(problem.Invalid, "an RSA key has at least %d bits, not %d", leastRSA, key.N.BitLen()).At("csr")
	}
	return request, nil
}

// Issue signs a request for a device and records it, in the transaction that
// registers the device. It returns the chain, leaf first, in DER.
func (a *Authority) Issue(ctx context.Context, tx *sqldb.Tx, environment, registration, device string, request *x509.CertificateRequest) ([][]byte, error) {
	now := a.now()
	open, _, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (n int, err error) { return n, rows.Scan(&n) },
		"SELECT count(*) FROM certificate WHERE registration = ? AND not_after > ?", registration, sqldb.Micros(now))
	if err != nil {
		return nil, err
	}
	if open >= maxIssued {
		return nil, problem.New(problem.Busy, "%d certificates of this device are still valid; use one of them", open).After(time.Hour)
	}
	by, err := a.of(ctx, tx, environment)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: device}, NotBefore: now.Add(-clockGrace), NotAfter: now.Add(Life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	leaf, err := x509.CreateCertificate(rand.Reader, template, by.certificate, request.PublicKey, by.key)
	if err != nil {
		return nil, err
	}
	_, err = tx.Exec(ctx, "INSERT INTO certificate (serial, registration, device_id, environment, not_before, not_after) VALUES (?, ?, ?, ?, ?, ?)",
		template.SerialNumber.Text(16), registration, device, environment, sqldb.Micros(template.NotBefore), sqldb.Micros(template.NotAfter))
	return [][]byte{leaf, by.certificate.Raw}, err
}

// Trust is what a stamp must know to take a device's certificates: the
// authority, and the serials it must not take. Without any certificate issued
// there is no authority to trust.
func (a *Authority) Trust(ctx context.Context, registration, environment string) (authority []byte, revoked []string, err error) {
	now := sqldb.Micros(a.now())
	issued, err := sqldb.Rows(ctx, a.db, scanIssued, selectIssued+" WHERE registration = ? AND environment = ? AND not_after > ? ORDER BY serial", registration, environment, now)
	if err != nil || len(issued) == 0 {
		return nil, nil, err
	}
	for _, c := range issued {
		if c.RevokedAt != nil {
			revoked = append(revoked, c.Serial)
		}
	}
	authority, _, err = sqldb.Row(ctx, a.db, func(rows *sql.Rows) (der []byte, err error) { return der, rows.Scan(&der) }, "SELECT certificate FROM issuer WHERE environment = ?", environment)
	return authority, revoked, err
}

const selectIssued = "SELECT serial, registration, device_id, environment, not_before, not_after, revoked_at FROM certificate"

func scanIssued(rows *sql.Rows) (c link.IssuedCertificate, err error) {
	var from, to int64
	var revoked sql.NullInt64
	err = rows.Scan(&c.Serial, &c.RegistrationID, &c.DeviceID, &c.Environment, &from, &to, &revoked)
	c.NotBefore, c.NotAfter, c.RevokedAt = sqldb.Time(from), sqldb.Time(to), sqldb.NullTime(revoked)
	return c, err
}

// List returns the newest certificates, of one device if named.
func (a *Authority) List(ctx context.Context, req link.ListCertificates) (link.IssuedCertificates, error) {
	limit := req.Limit
	if limit <= 0 || limit > link.MaxPage {
		limit = listDefault
	}
	items, err := sqldb.Rows(ctx, a.db, scanIssued, selectIssued+" WHERE (? = '' OR device_id = ?) ORDER BY not_before DESC, serial LIMIT ?", req.DeviceID, req.DeviceID, limit)
	return link.IssuedCertificates{Items: items}, err
}

// Revoke makes a certificate void. It returns the registration whose stamp
// must be told, in the same transaction as changed.
func (a *Authority) Revoke(ctx context.Context, tx *sqldb.Tx, serial string) (link.IssuedCertificate, error) {
	c, found, err := sqldb.Row(ctx, tx, scanIssued, selectIssued+" WHERE serial = ?", strings.ToLower(serial))
	if err != nil {
		return c, err
	}
	if !found {
		return c, problem.New(problem.NotFound, "no certificate with serial %q was issued here", serial)
	}
	if c.RevokedAt != nil {
		return c, nil
	}
	now := a.now().UTC().Truncate(time.Microsecond)
	c.RevokedAt = &now
	_, err = tx.Exec(ctx, "UPDATE certificate SET revoked_at = ? WHERE serial = ?", sqldb.Micros(now), c.Serial)
	return c, err
}
