package console

import (
	"context"
	"net/http"
	"net/url"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/configuration"
)

// Configurations are what devices are configured with beside releases.
type Configurations interface {
	List(ctx context.Context) ([]configuration.Listing, error)
	Get(ctx context.Context, name string) (configuration.Listing, error)
	Versions(ctx context.Context, name string, limit int) ([]configuration.Version, error)
	Changes(ctx context.Context, name, environment string, limit int) ([]configuration.Change, error)
	Approve(ctx context.Context, actor access.Actor, environment, name, reason string) (configuration.Change, error)
	Rollback(ctx context.Context, actor access.Actor, ask configuration.Ask) (configuration.Change, error)
}

var (
	configurationsPage = newPage("configurations.html")
	configurationPage  = newPage("configuration.html")
)

type configurationsView struct {
	base
	Items []configuration.Listing
}

func (c *console) configurations(w http.ResponseWriter, r *http.Request, s access.Session) error {
	all, err := c.Configurations.List(r.Context())
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, configurationsPage, "", configurationsView{inside(r, s, "configurations", "Configurations"), all})
}

type configurationView struct {
	base
	configuration.Listing
	Versions []configuration.Version
	Changes  []configuration.Change
}

// configurationRows is how many versions and changes a page shows.
const configurationRows = 50

func (c *console) configuration(w http.ResponseWriter, r *http.Request, s access.Session) error {
	name := r.PathValue("name")
	l, err := c.Configurations.Get(r.Context(), name)
	if err != nil {
		return err
	}
	view := configurationView{base: inside(r, s, "configurations", name), Listing: l}
	if view.Versions, err = c.Configurations.Versions(r.Context(), name, configurationRows); err != nil {
		return err
	}
	if view.Changes, err = c.Configurations.Changes(r.Context(), name, "", configurationRows); err != nil {
		return err
	}
	return show(w, r, http.StatusOK, configurationPage, "", view)
}

// configurationActs are what people can do about a configuration in an
// environment.
var configurationActs = map[string]act{
	"approve-configuration": {named("Approve {configuration} in {environment}"), "Your word counts for the gates that want people to agree. Who asked for it cannot approve it.", "Approve", false, nil, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Configurations.Approve(ctx, actor, f.Get("environment"), f.Get("configuration"), f.Get("reason"))
			return err
		}},
	"rollback-configuration": {named("Take {configuration} back in {environment}"), "The version before is in force again, at once. No gate is asked.", "Roll back", true, nil, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Configurations.Rollback(ctx, actor, configuration.Ask{Environment: f.Get("environment"), Name: f.Get("configuration"), Reason: f.Get("reason")})
			return err
		}},
}
