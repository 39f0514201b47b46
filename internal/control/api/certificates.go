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

type authorityRef struct {
	Name string `path:"name" maxLength:"128"`
}

type certificateOf struct {
	Name string `path:"name" maxLength:"128"`
	Body struct {
		Certificate string `json:"certificate" maxLength:"65536" doc:"PEM"`
	}
}

// authorities registers the certificate authorities that enrolments name.
func (a *api) authorities() {
	route(a, "GET", "/api/v1/provisioning/authorities", "listAuthorities", "Certificate authorities that enrolments may name once they are verified", func(ctx context.Context, _ *struct{}) (*body[list[link.Authority]], error) {
		all, err := a.Fleet.Authorities(ctx)
		return listOf(all, ""), err
	})
	route(a, "PUT", "/api/v1/provisioning/authorities/{name}", "addAuthority", "Keep a certificate authority; its verification code is to be signed", func(ctx context.Context, in *certificateOf) (*body[link.Authority], error) {
		added, err := a.Fleet.AddAuthority(ctx, actorOf(ctx), link.AddAuthority{Name: in.Name, Certificate: in.Body.Certificate})
		return &body[link.Authority]{added}, err
	})
	route(a, "POST", "/api/v1/provisioning/authorities/{name}/verify", "verifyAuthority", "Prove to have an authority's key, by a certificate signed with it whose common name is the verification code", func(ctx context.Context, in *certificateOf) (*body[link.Authority], error) {
		verified, err := a.Fleet.VerifyAuthority(ctx, actorOf(ctx), link.VerifyAuthority{Name: in.Name, Certificate: in.Body.Certificate})
		return &body[link.Authority]{verified}, err
	})
	route(a, "DELETE", "/api/v1/provisioning/authorities/{name}", "deleteAuthority", "Forget a certificate authority; enrolments that named it keep its certificate", func(ctx context.Context, in *authorityRef) (*struct{}, error) {
		return nil, a.Fleet.DeleteAuthority(ctx, actorOf(ctx), in.Name)
	})
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
