package api

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/control/drift"
)

type listDrift struct {
	Environment string `query:"environment" maxLength:"63" doc:"Only this one's; without it all"`
}

// ParityPair names two environments.
type ParityPair struct {
	From string `query:"from" required:"true" minLength:"1" maxLength:"63"`
	To   string `query:"to" required:"true" minLength:"1" maxLength:"63"`
}

type parityHistory struct {
	ParityPair
	Limit int `query:"limit" minimum:"1" maximum:"1000"`
}

// AcceptBody is what somebody says of a difference.
type AcceptBody struct {
	Owner   string `json:"owner" minLength:"1" maxLength:"200" doc:"Who answers for it"`
	Reason  string `json:"reason" minLength:"1" maxLength:"2000"`
	Seconds int64  `json:"seconds" minimum:"60" maximum:"31622400" doc:"For how long; then it alarms again"`
}

func (b AcceptBody) of() drift.AcceptOf {
	return drift.AcceptOf{Owner: b.Owner, Reason: b.Reason, For: time.Duration(b.Seconds) * time.Second}
}

type acceptDrift struct {
	ID   string `path:"id" maxLength:"40"`
	Body struct {
		AcceptBody
		Environment string `json:"environment,omitempty" maxLength:"63" doc:"Whose difference it is; it must be that one's"`
	}
}

type acceptParity struct {
	Body struct {
		AcceptBody
		From string `json:"from" minLength:"1" maxLength:"63"`
		To   string `json:"to" minLength:"1" maxLength:"63"`
		Path string `json:"path" minLength:"1" maxLength:"1000" doc:"Where the two differ"`
	}
}

// AcceptanceRef names an acceptance, in the path.
type AcceptanceRef struct {
	ID string `path:"id" maxLength:"40"`
}

// drift registers where what is so is not as declared, and how alike
// environments are.
func (a *api) drift() {
	route(a, "GET", "/api/v1/drift", "listDrift", "Where what is so is not what is declared", func(ctx context.Context, in *listDrift) (*body[drift.Page], error) {
		return &body[drift.Page]{a.Drift.Findings(in.Environment)}, nil
	})
	route(a, "GET", "/api/v1/drift/devices", "listDeviceDrift", "How twins are, by stamp and model: what devices report beside what is desired", func(ctx context.Context, in *listDrift) (*body[list[drift.Rollup]], error) {
		return listOf(a.Drift.Devices(in.Environment), ""), nil
	})
	route(a, "POST", "/api/v1/drift/{id}/accept", "acceptDrift", "Answer for a difference, with the value it has, for a time", func(ctx context.Context, in *acceptDrift) (*body[drift.Acceptance], error) {
		acceptance, err := a.Drift.Accept(ctx, actorOf(ctx), in.ID, in.Body.Environment, in.Body.of())
		return &body[drift.Acceptance]{acceptance}, err
	})
	route(a, "GET", "/api/v1/acceptances", "listAcceptances", "Differences that somebody answers for", func(ctx context.Context, _ *nothing) (*body[list[drift.Acceptance]], error) {
		all, err := a.Drift.Acceptances(ctx)
		return listOf(all, ""), err
	})
	route(a, "DELETE", "/api/v1/acceptances/{id}", "retractAcceptance", "Take an acceptance back: what it was of alarms again", func(ctx context.Context, in *AcceptanceRef) (*nothing, error) {
		return &nothing{}, a.Drift.Retract(ctx, actorOf(ctx), in.ID)
	})
	route(a, "GET", "/api/v1/parity", "getParity", "How alike two environments are, and why not", func(ctx context.Context, in *ParityPair) (*body[drift.Report], error) {
		r, err := a.Drift.Parity(ctx, in.From, in.To)
		return &body[drift.Report]{r}, err
	})
	route(a, "GET", "/api/v1/parity/history", "parityHistory", "How alike two environments were, newest first", func(ctx context.Context, in *parityHistory) (*body[list[drift.Score]], error) {
		all, err := a.Drift.Scores(ctx, in.From, in.To, pageOf(in.Limit))
		return listOf(all, ""), err
	})
	route(a, "POST", "/api/v1/parity/accept", "acceptParity", "Answer for a place in which two environments differ, for a time", func(ctx context.Context, in *acceptParity) (*body[drift.Acceptance], error) {
		acceptance, err := a.Drift.AcceptParity(ctx, actorOf(ctx), in.Body.From, in.Body.To, in.Body.Path, in.Body.of())
		return &body[drift.Acceptance]{acceptance}, err
	})
}
