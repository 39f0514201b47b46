package api

import (
	"context"
	"encoding/json"

	"github.com/slipway/slipway/internal/control/configuration"
	"github.com/slipway/slipway/internal/control/drift"
)

type defineConfiguration struct {
	Named
	IfMatch string `header:"If-Match" doc:"ETag the stored definition must have"`
	Body    struct {
		Definition ConfigurationDefinition `json:"definition"`
		Reason     string                  `json:"reason" minLength:"1" maxLength:"2000"`
	}
}

// ConfigurationDefinition is a configuration.Definition without what the path
// and the server say.
type ConfigurationDefinition struct {
	Description string          `json:"description,omitempty" maxLength:"2000"`
	Owner       string          `json:"owner,omitempty" maxLength:"200" doc:"Who answers for it"`
	Schema      json.RawMessage `json:"schema,omitempty" doc:"JSON Schema (2020-12) that each version must meet"`
	Target      string          `json:"target,omitempty" maxLength:"4000" doc:"Which devices it is for; default * for all"`
	Priority    int64           `json:"priority,omitempty" minimum:"0" maximum:"1000000" doc:"Of several that target a device the one with the highest is in force"`
}

type writeConfiguration struct {
	Named
	Body struct {
		Content json.RawMessage `json:"content" doc:"Desired properties of each device that it is for"`
		Reason  string          `json:"reason" minLength:"1" maxLength:"2000"`
	}
}

type listVersions struct {
	Named
	Limit int `query:"limit" minimum:"1" maximum:"1000"`
}

type configurationHistory struct {
	Named
	Environment string `query:"environment" maxLength:"63"`
	Limit       int    `query:"limit" minimum:"1" maximum:"1000"`
}

type diffConfiguration struct {
	Named
	From int64 `query:"from" minimum:"0" doc:"A version; 0 is nothing"`
	To   int64 `query:"to" minimum:"0" doc:"A version; 0 is nothing"`
}

// ConfigurationRef names a configuration of an environment, in the path.
type ConfigurationRef struct {
	Named
	Configuration string `path:"configuration" maxLength:"63"`
}

type changeConfiguration struct {
	ConfigurationRef
	Body struct {
		Version int64  `json:"version,omitempty" minimum:"0" doc:"Default: to promote, what the environment before has, or else the newest; to go back, the one before"`
		Reason  string `json:"reason" minLength:"1" maxLength:"2000"`
	}
}

func (in *changeConfiguration) ask() configuration.Ask {
	return configuration.Ask{Environment: in.Name, Name: in.Configuration, Number: in.Body.Version, Reason: in.Body.Reason}
}

type sayOfConfiguration struct {
	ConfigurationRef
	Body struct {
		Reason string `json:"reason" minLength:"1" maxLength:"2000"`
	}
}

// configurations registers what devices are configured with beside releases.
func (a *api) configurations() {
	route(a, "GET", "/api/v1/configuration-matrix", "configurationMatrix", "Every configuration with which version each environment has in force", func(ctx context.Context, _ *nothing) (*body[list[configuration.Listing]], error) {
		all, err := a.Configurations.List(ctx)
		return listOf(all, ""), err
	})
	const base = "/api/v1/configurations/{name}"
	route(a, "GET", base, "getConfiguration", "One configuration", func(ctx context.Context, in *Named) (*tagged[configuration.Listing], error) {
		l, err := a.Configurations.Get(ctx, in.Name)
		return &tagged[configuration.Listing]{quote(l.ETag), l}, err
	})
	route(a, "PUT", base, "defineConfiguration", "Say what a configuration may hold, and which devices it is for", a.defineConfiguration)
	route(a, "GET", base+"/versions", "listConfigurationVersions", "The versions of a configuration, newest first", func(ctx context.Context, in *listVersions) (*body[list[configuration.Version]], error) {
		all, err := a.Configurations.Versions(ctx, in.Name, pageOf(in.Limit))
		return listOf(all, ""), err
	})
	route(a, "POST", base+"/versions", "writeConfiguration", "Add a version, which is in force nowhere yet", func(ctx context.Context, in *writeConfiguration) (*body[configuration.Version], error) {
		v, err := a.Configurations.Write(ctx, actorOf(ctx), in.Name, in.Body.Content, in.Body.Reason)
		return &body[configuration.Version]{v}, err
	})
	route(a, "GET", base+"/diff", "diffConfiguration", "Where two versions differ", func(ctx context.Context, in *diffConfiguration) (*body[list[drift.Change]], error) {
		all, err := a.Configurations.Diff(ctx, in.Name, in.From, in.To)
		return listOf(all, ""), err
	})
	route(a, "GET", base+"/history", "configurationHistory", "Who changed what where and why, newest first", func(ctx context.Context, in *configurationHistory) (*body[list[configuration.Change]], error) {
		all, err := a.Configurations.Changes(ctx, in.Name, in.Environment, pageOf(in.Limit))
		return listOf(all, ""), err
	})
	const there = "/api/v1/environments/{name}/configurations/{configuration}"
	change := func(path, id, summary string, do func(context.Context, *changeConfiguration) (configuration.Change, error)) {
		route(a, "POST", there+path, id, summary, func(ctx context.Context, in *changeConfiguration) (*body[configuration.Change], error) {
			c, err := do(ctx, in)
			return &body[configuration.Change]{c}, err
		})
	}
	change("/promote", "promoteConfiguration", "Ask for a version to be in force in an environment", func(ctx context.Context, in *changeConfiguration) (configuration.Change, error) {
		return a.Configurations.Promote(ctx, actorOf(ctx), in.ask())
	})
	change("/rollback", "rollbackConfiguration", "Go back to the version before, at once", func(ctx context.Context, in *changeConfiguration) (configuration.Change, error) {
		return a.Configurations.Rollback(ctx, actorOf(ctx), in.ask())
	})
	say := func(path, id, summary string, do func(context.Context, *sayOfConfiguration) (configuration.Change, error)) {
		route(a, "POST", there+path, id, summary, func(ctx context.Context, in *sayOfConfiguration) (*body[configuration.Change], error) {
			c, err := do(ctx, in)
			return &body[configuration.Change]{c}, err
		})
	}
	say("/approve", "approveConfiguration", "Agree to the change that waits; who asked for it cannot", func(ctx context.Context, in *sayOfConfiguration) (configuration.Change, error) {
		return a.Configurations.Approve(ctx, actorOf(ctx), in.Name, in.Configuration, in.Body.Reason)
	})
	say("/withdraw", "withdrawConfiguration", "End the change that waits", func(ctx context.Context, in *sayOfConfiguration) (configuration.Change, error) {
		return a.Configurations.Withdraw(ctx, actorOf(ctx), in.Name, in.Configuration, in.Body.Reason)
	})
}

func (a *api) defineConfiguration(ctx context.Context, in *defineConfiguration) (*tagged[configuration.Definition], error) {
	said := in.Body.Definition
	d, err := a.Configurations.Define(ctx, actorOf(ctx), configuration.Definition{
		Name: in.Name, Description: said.Description, Owner: said.Owner, Schema: said.Schema, Target: said.Target, Priority: said.Priority,
	}, in.IfMatch, in.Body.Reason)
	return &tagged[configuration.Definition]{quote(d.ETag), d}, err
}
