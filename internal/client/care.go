package client

import (
	"context"
	"errors"
	"io"
	"net/url"

	"github.com/slipway/slipway/internal/control/decommission"
	"github.com/slipway/slipway/internal/control/erasure"
)

// Decommissions returns the devices taken out of use, newest first.
func (c *Client) Decommissions(ctx context.Context) ([]decommission.Decommission, error) {
	page, err := do[Page[decommission.Decommission]](ctx, c, request{method: "GET", path: path("decommissions")})
	return page.Items, err
}

// Decommission tells how far a device is on its way out of use.
func (c *Client) Decommission(ctx context.Context, device string) (decommission.Decommission, error) {
	return do[decommission.Decommission](ctx, c, request{method: "GET", path: path("devices", device, "decommission")})
}

// StartDecommission takes a device out of use.
func (c *Client) StartDecommission(ctx context.Context, device, reason string, wipeSeconds int64) (decommission.Decommission, error) {
	return do[decommission.Decommission](ctx, c, request{method: "POST", path: path("devices", device, "decommission"), body: map[string]any{"reason": reason, "wipeSeconds": wipeSeconds}})
}

// Recommission lets a decommissioned device register again.
func (c *Client) Recommission(ctx context.Context, device, reason string) (decommission.Decommission, error) {
	return do[decommission.Decommission](ctx, c, request{method: "POST", path: path("devices", device, "recommission"), body: map[string]string{"reason": reason}})
}

// Erasures returns what was, or is to be, erased, newest first.
func (c *Client) Erasures(ctx context.Context) ([]erasure.Erasure, error) {
	page, err := do[Page[erasure.Erasure]](ctx, c, request{method: "GET", path: path("erasures")})
	return page.Items, err
}

// Erasure tells how far an erasure is.
func (c *Client) Erasure(ctx context.Context, id string) (erasure.Erasure, error) {
	return do[erasure.Erasure](ctx, c, request{method: "GET", path: path("erasures", id)})
}

// StartErasure erases everything kept of a device, or of a tenant.
func (c *Client) StartErasure(ctx context.Context, kind, subject, reason string) (erasure.Erasure, error) {
	return do[erasure.Erasure](ctx, c, request{method: "POST", path: path("erasures"), body: map[string]string{"kind": kind, "subject": subject, "reason": reason}})
}

// ProveErasure returns the signed statement of an erasure with its proof.
func (c *Client) ProveErasure(ctx context.Context, id string) (erasure.ErasureProof, error) {
	return do[erasure.ErasureProof](ctx, c, request{method: "GET", path: path("erasures", id, "proof")})
}

// ExportSubject writes everything kept of a device or a tenant as an archive.
func (c *Client) ExportSubject(ctx context.Context, kind, subject, reason string, to io.Writer) (err error) {
	resp, err := c.send(ctx, request{method: "GET", path: path("dossier"), query: url.Values{"kind": {kind}, "subject": {subject}, "reason": {reason}}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	_, err = io.Copy(to, resp.Body)
	return err
}
