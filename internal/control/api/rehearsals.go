package api

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/control/rehearsal"
	"github.com/slipway/slipway/internal/link"
)

type listRehearsals struct {
	Environment string `query:"environment" maxLength:"63"`
	Release     string `query:"release" maxLength:"63"`
	After       string `query:"after" maxLength:"40" doc:"Those asked for before this time"`
	Limit       int    `query:"limit" minimum:"1" maximum:"1000"`
}

type startRehearsal struct {
	Body struct {
		Environment string `json:"environment" minLength:"1" maxLength:"63" doc:"On whose data"`
		Stamp       string `json:"stamp,omitempty" maxLength:"63" doc:"Default the one with the most devices"`
		Release     string `json:"release" minLength:"1" maxLength:"63"`
	}
}

type claimRehearsal struct {
	Body struct {
		Host      string `json:"host" minLength:"1" maxLength:"253" doc:"Where it will run"`
		Rehearsal string `json:"rehearsal,omitempty" maxLength:"63" doc:"Default the one that has waited longest"`
	}
}

type concludeRehearsal struct {
	IDRef
	Body link.RehearsalEvidence
}

// RehearsalWord is what a host hears that tells how far it is.
type RehearsalWord struct {
	Cancelled bool `json:"cancelled" doc:"Somebody ended the rehearsal; clear away"`
}

// rehearsals registers rehearsals of migrations.
func (a *api) rehearsals() {
	route(a, "GET", "/api/v1/rehearsals", "listRehearsals", "Rehearsals of migrations, newest first", func(ctx context.Context, in *listRehearsals) (*body[list[rehearsal.Rehearsal]], error) {
		before, err := beforeOf(in.After)
		if err != nil {
			return nil, err
		}
		limit := pageOf(in.Limit)
		all, err := a.Rehearsals.List(ctx, in.Environment, in.Release, before, limit)
		next := ""
		if len(all) == limit {
			next = all[limit-1].CreatedAt.Format(time.RFC3339Nano)
		}
		return listOf(all, next), err
	})
	route(a, "POST", "/api/v1/rehearsals", "startRehearsal", "Have the migrations of a release rehearsed on a masked copy", func(ctx context.Context, in *startRehearsal) (*body[rehearsal.Rehearsal], error) {
		r, err := a.Rehearsals.Start(ctx, actorOf(ctx), in.Body.Environment, in.Body.Stamp, in.Body.Release)
		return &body[rehearsal.Rehearsal]{r}, err
	})
	route(a, "GET", "/api/v1/rehearsals/{id}", "getRehearsal", "A rehearsal with its evidence, and whether it still holds", func(ctx context.Context, in *IDRef) (*body[rehearsal.Rehearsal], error) {
		r, err := a.Rehearsals.Get(ctx, in.ID)
		return &body[rehearsal.Rehearsal]{r}, err
	})
	route(a, "POST", "/api/v1/rehearsals/{id}/cancel", "cancelRehearsal", "End a rehearsal that waits or runs", func(ctx context.Context, in *IDRef) (*body[rehearsal.Rehearsal], error) {
		r, err := a.Rehearsals.Cancel(ctx, actorOf(ctx), in.ID)
		return &body[rehearsal.Rehearsal]{r}, err
	})
	route(a, "POST", "/api/v1/claim-rehearsal", "claimRehearsal", "Take up a rehearsal that is due, on a host that may read the data", func(ctx context.Context, in *claimRehearsal) (*body[link.RehearsalWork], error) {
		w, err := a.Rehearsals.Claim(ctx, actorOf(ctx), in.Body.Host, in.Body.Rehearsal)
		return &body[link.RehearsalWork]{w}, err
	})
	route(a, "POST", "/api/v1/rehearsals/{id}/advance", "advanceRehearsal", "Tell how far a rehearsal is, and hear whether it was cancelled", func(ctx context.Context, in *advanceDrill) (*body[RehearsalWord], error) {
		cancelled, err := a.Rehearsals.Advance(ctx, actorOf(ctx), in.ID, in.Body.Phase)
		return &body[RehearsalWord]{RehearsalWord{cancelled}}, err
	})
	route(a, "POST", "/api/v1/rehearsals/{id}/conclude", "concludeRehearsal", "Hand in the evidence of a rehearsal, which is judged and signed", func(ctx context.Context, in *concludeRehearsal) (*body[rehearsal.Rehearsal], error) {
		r, err := a.Rehearsals.Conclude(ctx, actorOf(ctx), in.ID, in.Body)
		return &body[rehearsal.Rehearsal]{r}, err
	})
}
