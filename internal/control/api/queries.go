package api

import (
	"context"

	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/link"
)

type runQuery struct {
	Body struct {
		Query       string `json:"query" doc:"SELECT … FROM devices or devices.modules, WHERE …, GROUP BY …"`
		Environment string `json:"environment,omitempty" doc:"Only its stamps"`
		Stamp       string `json:"stamp,omitempty" doc:"Only this stamp"`
		After       string `json:"after,omitempty" doc:"next of the page before, of the stamp named"`
		Limit       int    `json:"limit,omitempty" minimum:"0" maximum:"1000" doc:"Rows of each stamp; default 100"`
	}
}

type saveQuery struct {
	Named
	Body struct {
		Query string `json:"query"`
	}
}

type jobRef struct {
	StampRef
	ID string `path:"id" maxLength:"128"`
}

// queries registers queries, and the work of back ends.
func (a *api) queries() {
	route(a, "POST", "/api/v1/query", "runQuery", "Run a query on each stamp", func(ctx context.Context, in *runQuery) (*body[list[fleet.Answer]], error) {
		b := in.Body
		answers, err := a.Fleet.Query(ctx, b.Environment, b.Stamp, link.RunQuery{Query: b.Query, After: b.After, Limit: b.Limit})
		return listOf(answers, ""), err
	})
	route(a, "GET", "/api/v1/saved-queries", "listSavedQueries", "Queries people keep", func(ctx context.Context, _ *nothing) (*body[list[fleet.SavedQuery]], error) {
		all, err := a.Fleet.SavedQueries(ctx)
		return listOf(all, ""), err
	})
	route(a, "PUT", "/api/v1/saved-queries/{name}", "saveQuery", "Keep a query under a name", func(ctx context.Context, in *saveQuery) (*nothing, error) {
		return &nothing{}, a.Fleet.SaveQuery(ctx, actorOf(ctx), in.Name, in.Body.Query)
	})
	route(a, "DELETE", "/api/v1/saved-queries/{name}", "forgetQuery", "Delete a saved query", func(ctx context.Context, in *Named) (*nothing, error) {
		return &nothing{}, a.Fleet.ForgetQuery(ctx, actorOf(ctx), in.Name)
	})
	route(a, "GET", "/api/v1/jobs", "listJobs", "Jobs of back ends on all stamps, newest first", func(ctx context.Context, _ *nothing) (*body[list[link.Job]], error) {
		all, err := a.Fleet.Jobs(ctx)
		return listOf(all, ""), err
	})
	route(a, "POST", "/api/v1/stamps/{name}/jobs/{id}/cancel", "cancelJob", "End a job", func(ctx context.Context, in *jobRef) (*body[link.Job], error) {
		j, err := a.Fleet.CancelJob(ctx, actorOf(ctx), in.Stamp, in.ID)
		return &body[link.Job]{j}, err
	})
	route(a, "GET", "/api/v1/configurations", "listConfigurations", "Configurations of back ends on all stamps, with how far each is applied", func(ctx context.Context, _ *nothing) (*body[list[link.Configuration]], error) {
		all, err := a.Fleet.Configurations(ctx)
		return listOf(all, ""), err
	})
}
