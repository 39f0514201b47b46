package client

import (
	"context"

	"github.com/slipway/slipway/internal/control/environment"
)

// Derivation tells what an environment inherits, and where it differs and why.
func (c *Client) Derivation(ctx context.Context, name string) (environment.Derivation, error) {
	return do[environment.Derivation](ctx, c, request{method: "GET", path: path("environments", name, "derivation")})
}

// Secrets tells which secrets an environment keeps, without them.
func (c *Client) Secrets(ctx context.Context, name string) ([]environment.Secret, error) {
	page, err := do[Page[environment.Secret]](ctx, c, request{method: "GET", path: path("environments", name, "secrets")})
	return page.Items, err
}

// SetSecret gives an environment a secret that its routes name.
func (c *Client) SetSecret(ctx context.Context, environment, name, value string) error {
	_, err := do[struct{}](ctx, c, request{method: "PUT", path: path("environments", environment, "secrets", name), body: map[string]string{"value": value}})
	return err
}

// DeleteSecret takes a secret from an environment.
func (c *Client) DeleteSecret(ctx context.Context, environment, name string) error {
	_, err := do[struct{}](ctx, c, request{method: "DELETE", path: path("environments", environment, "secrets", name)})
	return err
}
