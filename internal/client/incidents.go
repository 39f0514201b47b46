package client

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/incident"
)

// Incidents returns incidents, the newest first.
func (c *Client) Incidents(ctx context.Context, f incident.Filter) ([]incident.Incident, error) {
	query := url.Values{}
	for name, value := range map[string]string{"state": f.State, "environment": f.Environment} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if f.Limit > 0 {
		query.Set("limit", strconv.Itoa(f.Limit))
	}
	page, err := do[Page[incident.Incident]](ctx, c, request{method: "GET", path: path("incidents"), query: query})
	return page.Items, err
}

// Incident returns one with what was said and which alerts belong to it.
func (c *Client) Incident(ctx context.Context, id string) (incident.Dossier, error) {
	return do[incident.Dossier](ctx, c, request{method: "GET", path: path("incidents", id)})
}

// OpenIncident opens an incident.
func (c *Client) OpenIncident(ctx context.Context, i incident.Incident, text string) (incident.Incident, error) {
	body := map[string]any{"title": i.Title, "environment": i.Environment, "stamp": i.Stamp, "owner": i.Owner, "text": text}
	if i.Severity != "" {
		body["severity"] = i.Severity
	}
	if !i.BeganAt.IsZero() {
		body["beganAt"] = i.BeganAt
	}
	return do[incident.Incident](ctx, c, request{method: "POST", path: path("incidents"), body: body})
}

// NoteIncident says something about an incident.
func (c *Client) NoteIncident(ctx context.Context, id, text string) (incident.Incident, error) {
	return do[incident.Incident](ctx, c, request{method: "POST", path: path("incidents", id, "notes"), body: map[string]string{"text": text}})
}

// SetIncident takes an incident to a state.
func (c *Client) SetIncident(ctx context.Context, id string, s incident.State, text string) (incident.Incident, error) {
	return do[incident.Incident](ctx, c, request{method: "POST", path: path("incidents", id, "state"), body: map[string]string{"state": string(s), "text": text}})
}

// OwnIncident gives an incident to somebody.
func (c *Client) OwnIncident(ctx context.Context, id, owner string) (incident.Incident, error) {
	return do[incident.Incident](ctx, c, request{method: "POST", path: path("incidents", id, "owner"), body: map[string]string{"owner": owner}})
}

// Timeline is what happened, and what of it could not be had.
type Timeline struct {
	Items   []incident.Moment `json:"items"`
	Counts  map[string]int    `json:"counts"`
	Missing string            `json:"missing,omitempty"`
}

// Timeline returns what happened in a window, the newest first.
func (c *Client) Timeline(ctx context.Context, w incident.Window) (Timeline, error) {
	query := url.Values{}
	for name, value := range map[string]string{"environment": w.Environment, "device": w.Device, "kind": strings.Join(w.Kinds, ",")} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{"from": w.From, "to": w.To} {
		if !at.IsZero() {
			query.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	return do[Timeline](ctx, c, request{method: "GET", path: path("timeline"), query: query})
}
