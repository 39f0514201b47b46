package api

import (
	"context"

	"github.com/slipway/slipway/internal/link"
)

type listCertificates struct {
	Device string `query:"device" maxLength:"128"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000"`
}

type certificateRef struct {
	Serial string `path:"serial" maxLength:"64"`
}

// certificates registers the operational certificates of devices.
func (a *api) certificates() {
	route(a, "GET", "/api/v1/provisioning/certificates", "listCertificates", "Operational certificates that devices were given, newest first", func(ctx context.Context, in *listCertificates) (*body[list[link.IssuedCertificate]], error) {
		all, err := a.Fleet.Certificates(ctx, in.Device, in.Limit)
		return listOf(all, ""), err
	})
	route(a, "POST", "/api/v1/provisioning/certificates/{serial}/revoke", "revokeCertificate", "Make a certificate void", func(ctx context.Context, in *certificateRef) (*body[link.IssuedCertificate], error) {
		c, err := a.Fleet.RevokeCertificate(ctx, actorOf(ctx), in.Serial)
		return &body[link.IssuedCertificate]{c}, err
	})
}
