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
	err = f.audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: "certificate.revoke", Object: "certificate/" + serial}, func() error {
		revoked, err = provisioningAsk(ctx, f, link.CertificateRevoke, link.CertificateRef{Serial: serial})
		return err
	})
	return revoked, err
}
