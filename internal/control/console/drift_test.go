package console

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/drift"
	"github.com/slipway/slipway/internal/control/environment"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// driftOf are some differences, one of them accepted, and two environments that
// are not quite alike.
type driftOf struct{ *world }

func (d driftOf) Findings(name string) drift.Page {
	if len(d.world.details) == 0 {
		return drift.Page{At: noon}
	}
	f := drift.Finding{
		ID: "4f1c0a2b3c4d", Environment: "production", Kind: "route", Object: "route/orders on production-eu", Stamp: "production-eu", Path: "/endpoint/webhook/url", Class: drift.Changed,
		Declared: json.RawMessage(`"https://example.com"`), Live: json.RawMessage(`"https://example.net"`), Since: noon.Add(-time.Hour), SeenAt: noon,
		Text: `route/orders on production-eu at endpoint.webhook.url is "https://example.net", and is to be "https://example.com"`,
	}
	accepted := f
	accepted.ID, accepted.Object, accepted.Class, accepted.Was, accepted.Text = "5f1c0a2b3c4d", "stamp/production-us by its blueprint", drift.Accepted, drift.Changed, "stamp/production-us at capacity is 50, and is to be 100"
	accepted.Acceptance = &drift.Acceptance{ID: "acceptance-1", Owner: "ann", Reason: "until the new disks are there", Until: noon.AddDate(0, 1, 0)}
	stale := f
	stale.ID, stale.Object, stale.Class, stale.Text = "6f1c0a2b3c4d", "stamp/production-ap", drift.Stale, "stamp/production-ap could not be looked at: it does not answer"
	return drift.Page{Findings: []drift.Finding{f, stale, accepted}, Counts: drift.Counts([]drift.Finding{f, stale, accepted}), At: noon}
}

func (d driftOf) report() drift.Report {
	return drift.Report{From: "test", To: "production", Score: 0.91, At: noon,
		Areas: []drift.Area{{Area: "stamps", Compared: 20, Equal: 15, Explained: 3, Unexplained: 2}},
		Items: []drift.Item{
			{Area: "limits", Path: "limits.eu-1.connections", From: json.RawMessage("1000"), To: json.RawMessage("9000"), Standing: drift.Unexplained, Text: "they differ"},
			{Area: "stamps", Path: "stamps[eu-1].capacity", From: json.RawMessage("100"), To: json.RawMessage("10000"), Standing: drift.Explained, Reason: "test differs from blueprint solution: a hundredth is enough to see it"},
		}, Gaps: []string{"production-ap: it does not answer"},
	}
}

func (d driftOf) Reports() []drift.Report {
	if len(d.world.details) == 0 {
		return nil
	}
	return []drift.Report{d.report()}
}

func (d driftOf) Devices(string) []drift.Rollup {
	if len(d.world.details) == 0 {
		return nil
	}
	return []drift.Rollup{{Environment: "production", Stamp: "production-eu", Model: "dtmi:acme:pump;3", Looked: 12000, Same: 11800, Changed: 40, Missing: 60, Pending: 100, Whole: true, At: noon}}
}

func (d driftOf) Parity(_ context.Context, from, _ string) (drift.Report, error) {
	if from != "test" {
		return drift.Report{}, problem.New(problem.NotFound, "there is no environment %q", from)
	}
	return d.report(), nil
}

func (d driftOf) Accept(_ context.Context, _ access.Actor, id, environment string, of drift.AcceptOf) (drift.Acceptance, error) {
	return drift.Acceptance{}, d.say("accept", environment, id, of.Owner, of.Reason, of.For.String())
}

func (d driftOf) AcceptParity(_ context.Context, _ access.Actor, from, to, path string, of drift.AcceptOf) (drift.Acceptance, error) {
	return drift.Acceptance{}, d.say("accept-parity", from, to, path, of.Owner, of.Reason, of.For.String())
}

// derivationsOf are environments, of which production is made from a blueprint.
type derivationsOf struct{ *world }

func (d derivationsOf) Get(_ context.Context, name string) (resource.Environment, error) {
	if name != "production" && name != "test" {
		return resource.Environment{}, problem.New(problem.NotFound, "there is no environment %q", name)
	}
	return resource.Environment{Metadata: resource.Metadata{Name: name}, Spec: resource.EnvironmentSpec{DisplayName: "The " + name, PromotesFrom: "test"}}, nil
}

func (d derivationsOf) Derivation(_ context.Context, name string) (environment.Derivation, error) {
	if name == "test" {
		return environment.Derivation{Environment: name}, nil
	}
	return environment.Derivation{
		Environment: name, Blueprint: "solution",
		Inherits: []environment.Inherited{{Path: "environment.promotion.gates[soaked].soak.for", Value: json.RawMessage(`"24h"`)}, {Path: "stamps[eu-1].region", Value: json.RawMessage(`"eu"`)}},
		Differs:  []resource.Differing{{Path: "scale", Blueprint: json.RawMessage("1"), Here: json.RawMessage(`"10%"`), Reason: "a tenth shows what all would"}, {Path: "stamps[us-1]", Blueprint: json.RawMessage(`{"name":"us-1"}`), Reason: "one region"}},
	}, nil
}

func TestDriftIsShownAndAnsweredFor(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	has(t, browser.get("/drift", http.StatusOK), "route/orders on production-eu", "2 open", "ann: until the new disks are there", "test and production", "/acts/accept-drift?difference=4f1c0a2b3c4d")
	has(t, browser.get("/parity/test/production", http.StatusOK), "limits.eu-1.connections", "nobody says", "a hundredth is enough", "it does not answer")
	browser.get("/parity/mars/production", http.StatusNotFound)
	has(t, browser.get("/environments/production", http.StatusOK), "a tenth shows what all would", "stamps[eu-1].region", "removed")
	has(t, browser.get("/environments/test", http.StatusOK), "Made from no blueprint")
	browser.get("/environments/mars", http.StatusNotFound)
	has(t, asBrowser(t, newWorld()).get("/drift", http.StatusOK), "Everything is as declared")
}
