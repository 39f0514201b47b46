package client

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"

	"github.com/slipway/slipway/internal/control/configuration"
	"github.com/slipway/slipway/internal/control/drift"
)

// DeclaredConfigurations are the configurations of control's, with which
// version each environment has in force.
func (c *Client) DeclaredConfigurations(ctx context.Context) ([]configuration.Listing, error) {
	page, err := do[Page[configuration.Listing]](ctx, c, request{method: "GET", path: path("configuration-matrix")})
	return page.Items, err
}

// Configuration is one of them.
func (c *Client) Configuration(ctx context.Context, name string) (configuration.Listing, error) {
	return do[configuration.Listing](ctx, c, request{method: "GET", path: path("configurations", name)})
}

// DefineConfiguration says what a configuration may hold.
func (c *Client) DefineConfiguration(ctx context.Context, d configuration.Definition, reason string) (configuration.Definition, error) {
	definition := map[string]any{"description": d.Description, "owner": d.Owner, "target": d.Target, "priority": d.Priority}
	if len(d.Schema) > 0 {
		definition["schema"] = d.Schema
	}
	return do[configuration.Definition](ctx, c, request{method: "PUT", path: path("configurations", d.Name), body: map[string]any{"definition": definition, "reason": reason}})
}

// WriteConfiguration adds a version.
func (c *Client) WriteConfiguration(ctx context.Context, name string, content json.RawMessage, reason string) (configuration.Version, error) {
	return do[configuration.Version](ctx, c, request{method: "POST", path: path("configurations", name, "versions"), body: map[string]any{"content": content, "reason": reason}})
}

// ConfigurationVersions are the versions of a configuration, newest first.
func (c *Client) ConfigurationVersions(ctx context.Context, name string) ([]configuration.Version, error) {
	page, err := do[Page[configuration.Version]](ctx, c, request{method: "GET", path: path("configurations", name, "versions")})
	return page.Items, err
}

// DiffConfiguration tells where two versions differ.
func (c *Client) DiffConfiguration(ctx context.Context, name string, from, to int64) ([]drift.Change, error) {
	query := url.Values{"from": {strconv.FormatInt(from, 10)}, "to": {strconv.FormatInt(to, 10)}}
	page, err := do[Page[drift.Change]](ctx, c, request{method: "GET", path: path("configurations", name, "diff"), query: query})
	return page.Items, err
}

// ConfigurationHistory tells who changed what where and why, newest first.
func (c *Client) ConfigurationHistory(ctx context.Context, name, environment string) ([]configuration.Change, error) {
	page, err := do[Page[configuration.Change]](ctx, c, request{method: "GET", path: path("configurations", name, "history"), query: onlyOf("environment", environment)})
	return page.Items, err
}

// ChangeConfiguration does something about a configuration of an environment:
// promote, rollback, approve or withdraw.
func (c *Client) ChangeConfiguration(ctx context.Context, what string, ask configuration.Ask) (configuration.Change, error) {
	body := map[string]any{"reason": ask.Reason}
	if ask.Number != 0 {
		body["version"] = ask.Number
	}
	return do[configuration.Change](ctx, c, request{method: "POST", path: path("environments", ask.Environment, "configurations", ask.Name, what), body: body})
}
