package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/slipway/slipway/internal/control/decommission"
	"github.com/slipway/slipway/internal/control/erasure"
)

type decommissionDevice struct {
	DeviceRef
	Body struct {
		Reason      string `json:"reason" maxLength:"500"`
		WipeSeconds int64  `json:"wipeSeconds" doc:"How long the device is waited for to wipe itself; 0 does not ask it"`
	}
}

type recommissionDevice struct {
	DeviceRef
	Body struct {
		Reason string `json:"reason" maxLength:"500"`
	}
}

type startErasure struct {
	Body struct {
		Kind    string `json:"kind" enum:"device,tenant"`
		Subject string `json:"subject" maxLength:"128" doc:"The name of the device or tenant"`
		Reason  string `json:"reason" maxLength:"500" doc:"In words that name nobody"`
	}
}

type exportSubject struct {
	Kind    string `query:"kind" enum:"device,tenant" required:"true"`
	Subject string `query:"subject" maxLength:"128" required:"true" doc:"The name of the device or tenant"`
	Reason  string `query:"reason" maxLength:"500" required:"true"`
}

type newest struct {
	Limit int `query:"limit" minimum:"1" maximum:"1000"`
}

// caring registers what ends a device, and what is kept of it.
func (a *api) caring() {
	const base = "/api/v1/devices/{id}/decommission"
	route(a, "GET", "/api/v1/decommissions", "listDecommissions", "Devices taken out of use, newest first", func(ctx context.Context, in *newest) (*body[list[decommission.Decommission]], error) {
		all, err := a.Decommissions.List(ctx, pageOf(in.Limit))
		return listOf(all, ""), err
	})
	route(a, "GET", base, "getDecommission", "How far a device is on its way out of use", func(ctx context.Context, in *DeviceRef) (*body[decommission.Decommission], error) {
		one, err := a.Decommissions.Of(ctx, in.ID)
		return &body[decommission.Decommission]{one}, err
	})
	route(a, "POST", base, "decommissionDevice", "Take a device out of use: bar it, have it wipe itself, remove it", func(ctx context.Context, in *decommissionDevice) (*body[decommission.Decommission], error) {
		one, err := a.Decommissions.Start(ctx, actorOf(ctx), decommission.Request{Device: in.ID, Reason: in.Body.Reason, Seconds: in.Body.WipeSeconds})
		return &body[decommission.Decommission]{one}, err
	})
	route(a, "POST", "/api/v1/devices/{id}/recommission", "recommissionDevice", "Let a decommissioned device register again", func(ctx context.Context, in *recommissionDevice) (*body[decommission.Decommission], error) {
		one, err := a.Decommissions.TakeBack(ctx, actorOf(ctx), in.ID, in.Body.Reason)
		return &body[decommission.Decommission]{one}, err
	})
	const erasures = "/api/v1/erasures"
	route(a, "GET", erasures, "listErasures", "What was, or is to be, erased on every plane, newest first", func(ctx context.Context, in *newest) (*body[list[erasure.Erasure]], error) {
		all, err := a.Erasures.List(ctx, pageOf(in.Limit))
		return listOf(all, ""), err
	})
	route(a, "POST", erasures, "startErasure", "Erase everything kept of a device, or of a tenant with its devices", func(ctx context.Context, in *startErasure) (*body[erasure.Erasure], error) {
		e, err := a.Erasures.Start(ctx, actorOf(ctx), in.Body.Kind, in.Body.Subject, in.Body.Reason)
		return &body[erasure.Erasure]{e}, err
	})
	route(a, "GET", erasures+"/{id}", "getErasure", "How far an erasure is", func(ctx context.Context, in *IDRef) (*body[erasure.Erasure], error) {
		e, err := a.Erasures.Get(ctx, in.ID)
		return &body[erasure.Erasure]{e}, err
	})
	route(a, "GET", erasures+"/{id}/proof", "proveErasure", "The signed statement of an erasure, with its proof from the audit log", func(ctx context.Context, in *IDRef) (*body[erasure.ErasureProof], error) {
		p, err := a.Erasures.Prove(ctx, actorOf(ctx), in.ID)
		return &body[erasure.ErasureProof]{p}, err
	})
	route(a, "GET", "/api/v1/dossier", "exportSubject", "Everything kept of a device or a tenant, from every plane, as a zip archive; that it was asked for is recorded", a.exportSubject)
}

// exportSubject streams a dossier. What goes wrong on the way breaks the
// connection, so that nobody takes part of it for all.
func (a *api) exportSubject(ctx context.Context, in *exportSubject) (*huma.StreamResponse, error) {
	d, err := a.Dossiers.Open(ctx, actorOf(ctx), in.Kind, in.Subject, in.Reason)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		defer d.Close()
		hctx.SetHeader("Content-Type", "application/zip")
		_, w := humago.Unwrap(hctx)
		if err := d.Write(ctx, w); err != nil {
			a.Logger.Warn("a dossier was broken off", "error", err)
			panic(http.ErrAbortHandler)
		}
	}}, nil
}
