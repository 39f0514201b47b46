package fleet

import (
	"context"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
)

// Certificates returns the newest operational certificates that were issued,
// of one device if named.
func (f *Fleet) Certificates(ctx context.Context, device string, limit int) ([]link.IssuedCertificate, error) {
	found, err := provisioningAsk(ctx, f, link.CertificateList, link.ListCertificates{DeviceID: device, Limit: limitOf(limit)})
	return found.Items, err
}

// RevokeCertificate makes a certificate void; its device is cut off if it is
// connected.
func (f *Fleet) RevokeCertificate(ctx context.Context, actor access.Actor, serial string) (revoked link.IssuedCertificate, err error) {
	err = f.audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: "certificate.revoke", Object: "certificate/" + serial}, func(*audit.Entry) error {
		revoked, err = provisioningAsk(ctx, f, link.CertificateRevoke, link.CertificateRef{Serial: serial})
		return err
	})
	return revoked, err
}

// Authorities returns the certificate authorities that enrolments may name.
func (f *Fleet) Authorities(ctx context.Context) ([]link.Authority, error) {
	found, err := provisioningAsk(ctx, f, link.AuthorityList, link.None{})
	return found.Items, err
}

// AddAuthority keeps an authority, which then waits for its proof.
func (f *Fleet) AddAuthority(ctx context.Context, actor access.Actor, req link.AddAuthority) (added link.Authority, err error) {
	err = f.audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: "authority.add", Object: "authority/" + req.Name}, func(*audit.Entry) error {
		added, err = provisioningAsk(ctx, f, link.AuthorityAdd, req)
		return err
	})
	return added, err
}

// VerifyAuthority takes the proof that somebody has an authority's key.
func (f *Fleet) VerifyAuthority(ctx context.Context, actor access.Actor, req link.VerifyAuthority) (verified link.Authority, err error) {
	err = f.audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: "authority.verify", Object: "authority/" + req.Name}, func(*audit.Entry) error {
		verified, err = provisioningAsk(ctx, f, link.AuthorityVerify, req)
		return err
	})
	return verified, err
}

// DeleteAuthority forgets an authority.
func (f *Fleet) DeleteAuthority(ctx context.Context, actor access.Actor, name string) error {
	return f.audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: "authority.delete", Object: "authority/" + name}, func(*audit.Entry) error {
		_, err := provisioningAsk(ctx, f, link.AuthorityDelete, link.AuthorityRef{Name: name})
		return err
	})
}
