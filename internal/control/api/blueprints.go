package api

import (
	"context"

	"github.com/slipway/slipway/internal/control/environment"
	"github.com/slipway/slipway/internal/resource"
)

// SecretRef names a secret of an environment, in the path.
type SecretRef struct {
	Named
	Secret string `path:"secret" maxLength:"63"`
}

type setSecret struct {
	SecretRef
	Body struct {
		Value string `json:"value" minLength:"1" maxLength:"8192" doc:"It is encrypted, goes to stamps alone, and is never shown"`
	}
}

// blueprints registers what environments are made from, and the secrets that
// files only name.
func (a *api) blueprints() {
	route(a, "GET", "/api/v1/blueprints", "listBlueprints", "Blueprints in order of name", func(ctx context.Context, _ *nothing) (*body[list[resource.Blueprint]], error) {
		all, err := a.Environments.Blueprints(ctx)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/blueprints/{name}", "getBlueprint", "One blueprint", func(ctx context.Context, in *Named) (*tagged[resource.Blueprint], error) {
		b, err := a.Environments.Blueprint(ctx, in.Name)
		return &tagged[resource.Blueprint]{quote(b.Metadata.ETag), b}, err
	})
	route(a, "PUT", "/api/v1/blueprints/{name}", "putBlueprint", "Create or replace a blueprint, and make its environments anew", func(ctx context.Context, in *putNamed[declared[resource.BlueprintSpec]]) (*tagged[resource.Blueprint], error) {
		b, err := a.Environments.PutBlueprint(ctx, actorOf(ctx), in.Name, in.Body.Spec, in.IfMatch, in.DryRun)
		return &tagged[resource.Blueprint]{quote(b.Metadata.ETag), b}, err
	})
	route(a, "DELETE", "/api/v1/blueprints/{name}", "deleteBlueprint", "Delete a blueprint that no environment is made from", func(ctx context.Context, in *dropNamed) (*nothing, error) {
		return &nothing{}, a.Environments.DeleteBlueprint(ctx, actorOf(ctx), in.Name, in.IfMatch)
	})
	route(a, "GET", "/api/v1/environments/{name}/derivation", "explainEnvironment", "What an environment inherits, and where it differs and why", func(ctx context.Context, in *Named) (*body[environment.Derivation], error) {
		d, err := a.Environments.Derivation(ctx, in.Name)
		return &body[environment.Derivation]{d}, err
	})
	const secrets = "/api/v1/environments/{name}/secrets"
	route(a, "GET", secrets, "listSecrets", "Which secrets an environment keeps, without them", func(ctx context.Context, in *Named) (*body[list[environment.Secret]], error) {
		all, err := a.Environments.Secrets(ctx, in.Name)
		return listOf(all, ""), err
	})
	route(a, "PUT", secrets+"/{secret}", "setSecret", "Give an environment a secret that its routes name", func(ctx context.Context, in *setSecret) (*nothing, error) {
		return &nothing{}, a.Environments.SetSecret(ctx, actorOf(ctx), in.Name, in.Secret, in.Body.Value)
	})
	route(a, "DELETE", secrets+"/{secret}", "deleteSecret", "Take a secret from an environment", func(ctx context.Context, in *SecretRef) (*nothing, error) {
		return &nothing{}, a.Environments.DeleteSecret(ctx, actorOf(ctx), in.Name, in.Secret)
	})
}
