package console

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/configuration"
	"github.com/slipway/slipway/internal/problem"
)

// configurationsOf is one configuration, of which a version waits.
type configurationsOf struct{ *world }

func (c configurationsOf) List(context.Context) ([]configuration.Listing, error) {
	if len(c.world.details) == 0 {
		return nil, nil
	}
	return []configuration.Listing{{
		Definition: configuration.Definition{Name: "pace", Description: "How often devices report", Owner: "ann", Target: "tags.kind = 'pump'", Schema: json.RawMessage(`{"type":"object","properties":{"every":{"type":"integer","minimum":1,"maximum":3600}},"required":["every"]}`)},
		Newest:     4, Standings: []configuration.Standing{{Environment: "production", Name: "pace", Number: 3, Since: noon}, {Environment: "test", Name: "pace", Number: 4, Since: noon}},
	}}, nil
}

func (c configurationsOf) Get(ctx context.Context, name string) (configuration.Listing, error) {
	all, err := c.List(ctx)
	if err != nil || len(all) == 0 || name != "pace" {
		return configuration.Listing{}, problem.New(problem.NotFound, "there is no configuration %q", name)
	}
	return all[0], nil
}

func (c configurationsOf) Versions(context.Context, string, int) ([]configuration.Version, error) {
	return []configuration.Version{{Name: "pace", Number: 4, Content: json.RawMessage(`{"every":30}`), By: "ann", Reason: "twice as often", At: noon}, {Name: "pace", Number: 3, Content: json.RawMessage(`{"every":60}`), By: "bob", Reason: "the beginning", At: noon}}, nil
}

func (c configurationsOf) Changes(context.Context, string, string, int) ([]configuration.Change, error) {
	return []configuration.Change{
		{ID: "change-7", Environment: "production", Name: "pace", Number: 4, From: 3, State: configuration.Waiting, By: "ann", Reason: "it did well in test", At: noon, Blocks: []string{"gate agreed: 0 of 1 people approve"}},
		{ID: "change-6", Environment: "test", Name: "pace", Number: 4, From: 3, State: configuration.InForce, By: "ann", Reason: "try it", At: noon},
	}, nil
}

func (c configurationsOf) Approve(_ context.Context, _ access.Actor, environment, name, reason string) (configuration.Change, error) {
	return configuration.Change{}, c.say("approve-configuration", environment, name, reason)
}

func (c configurationsOf) Rollback(_ context.Context, _ access.Actor, ask configuration.Ask) (configuration.Change, error) {
	return configuration.Change{}, c.say("rollback-configuration", ask.Environment, ask.Name, ask.Reason)
}

func TestConfigurationsAreShown(t *testing.T) {
	browser := asBrowser(t, populated())
	has(t, browser.get("/configurations", http.StatusOK), "pace", "production 3", "How often devices report")
	has(t, browser.get("/configurations/pace", http.StatusOK), "0 of 1 people approve", "Approve…", "twice as often", "3 → 4")
	browser.get("/configurations/none", http.StatusNotFound)
	has(t, asBrowser(t, newWorld()).get("/configurations", http.StatusOK), "No configuration yet")
}
