package api

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/control/incident"
)

type listIncidents struct {
	State       string `query:"state" enum:"open,mitigated,resolved,unresolved"`
	Environment string `query:"environment" maxLength:"63"`
	Limit       int    `query:"limit" minimum:"1" maximum:"200" doc:"Default 200"`
}

type openIncident struct {
	Body struct {
		Title       string     `json:"title" minLength:"1" maxLength:"200"`
		Severity    string     `json:"severity,omitempty" enum:"page,ticket,info" doc:"Default page"`
		Environment string     `json:"environment,omitempty" maxLength:"63" doc:"Default the installation"`
		Stamp       string     `json:"stamp,omitempty" maxLength:"63"`
		Owner       string     `json:"owner,omitempty" maxLength:"200"`
		BeganAt     *time.Time `json:"beganAt,omitempty" doc:"Default now"`
		Text        string     `json:"text,omitempty" maxLength:"4000" doc:"What is known"`
	}
}

type noteIncident struct {
	IDRef
	Body struct {
		Text string `json:"text" minLength:"1" maxLength:"4000"`
	}
}

type setIncident struct {
	IDRef
	Body struct {
		State string `json:"state" enum:"open,mitigated,resolved"`
		Text  string `json:"text,omitempty" maxLength:"4000" doc:"Why; for one that is resolved, what it was and what was done"`
	}
}

type ownIncident struct {
	IDRef
	Body struct {
		Owner string `json:"owner" minLength:"1" maxLength:"200"`
	}
}

type getTimeline struct {
	From        time.Time `query:"from" doc:"Default two hours before to"`
	To          time.Time `query:"to" doc:"Default now"`
	Environment string    `query:"environment" maxLength:"63" doc:"What is of it, or of no environment"`
	Device      string    `query:"device" maxLength:"256" doc:"What happened to it, too"`
	Kind        []string  `query:"kind" doc:"release, configuration, flag, access, alert, device or incident; several by commas"`
}

// timeline is what happened, and what of it could not be had.
type timeline struct {
	Items   []incident.Moment `json:"items"`
	Counts  map[string]int    `json:"counts" doc:"How many there are of each kind"`
	Missing string            `json:"missing,omitempty" doc:"What could not be had, and why"`
}

// incidents registers what goes wrong, and what changed before.
func (a *api) incidents() {
	route(a, "GET", "/api/v1/timeline", "getTimeline", "What happened: releases, configuration, flags, access, alerts, devices; newest first", func(ctx context.Context, in *getTimeline) (*body[timeline], error) {
		all, missing, err := a.Incidents.Timeline(ctx, incident.Window{From: in.From, To: in.To, Environment: in.Environment, Device: in.Device, Kinds: in.Kind})
		return &body[timeline]{timeline{listOf(all, "").Body.Items, incident.ByKind(all), missing}}, err
	})
	route(a, "GET", "/api/v1/incidents", "listIncidents", "Incidents, the newest first", func(ctx context.Context, in *listIncidents) (*body[list[incident.Incident]], error) {
		all, err := a.Incidents.List(ctx, incident.Filter{State: in.State, Environment: in.Environment, Limit: in.Limit})
		return listOf(all, ""), err
	})
	route(a, "POST", "/api/v1/incidents", "openIncident", "Open an incident", func(ctx context.Context, in *openIncident) (*body[incident.Incident], error) {
		b := in.Body
		i := incident.Incident{Title: b.Title, Severity: b.Severity, Environment: b.Environment, Stamp: b.Stamp, Owner: b.Owner}
		if b.BeganAt != nil {
			i.BeganAt = *b.BeganAt
		}
		i, err := a.Incidents.Open(ctx, actorOf(ctx), i, b.Text)
		return &body[incident.Incident]{i}, err
	})
	route(a, "GET", "/api/v1/incidents/{id}", "getIncident", "An incident with what was said and which alerts belong to it", func(ctx context.Context, in *IDRef) (*body[incident.Dossier], error) {
		d, err := a.Incidents.Show(ctx, in.ID)
		return &body[incident.Dossier]{d}, err
	})
	route(a, "POST", "/api/v1/incidents/{id}/notes", "noteIncident", "Say something about an incident", func(ctx context.Context, in *noteIncident) (*body[incident.Incident], error) {
		i, err := a.Incidents.Note(ctx, actorOf(ctx), in.ID, in.Body.Text)
		return &body[incident.Incident]{i}, err
	})
	route(a, "POST", "/api/v1/incidents/{id}/state", "setIncident", "Mitigate, resolve or open again", func(ctx context.Context, in *setIncident) (*body[incident.Incident], error) {
		i, err := a.Incidents.Set(ctx, actorOf(ctx), in.ID, incident.State(in.Body.State), in.Body.Text)
		return &body[incident.Incident]{i}, err
	})
	route(a, "POST", "/api/v1/incidents/{id}/owner", "ownIncident", "Give an incident to somebody", func(ctx context.Context, in *ownIncident) (*body[incident.Incident], error) {
		i, err := a.Incidents.Own(ctx, actorOf(ctx), in.ID, in.Body.Owner)
		return &body[incident.Incident]{i}, err
	})
}
