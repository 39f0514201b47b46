package client

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/control/access"
)

func tokenBody(want access.NewToken) map[string]any {
	return map[string]any{
		"name": want.Name, "account": want.Account, "tenant": want.Tenant, "role": want.Role, "bounds": want.Bounds, "expiresInSeconds": int64(want.Life.Seconds()),
	}
}

// CreateOwnToken makes an API token of the account that asks.
func (c *Client) CreateOwnToken(ctx context.Context, want access.NewToken) (NewToken, error) {
	return do[NewToken](ctx, c, request{method: "POST", path: path("me", "tokens"), body: tokenBody(want)})
}

// Me is who asks, as the API knows them.
type Me struct {
	Name   string         `json:"name"`
	Kind   access.Kind    `json:"kind"`
	Person string         `json:"person"`
	Rights []access.Right `json:"rights"`
	Limit  *access.Right  `json:"limit,omitempty"`
}

// Me tells who asks.
func (c *Client) Me(ctx context.Context) (Me, error) {
	return do[Me](ctx, c, request{method: "GET", path: path("me")})
}

// Accounts lists people and programs.
func (c *Client) Accounts(ctx context.Context) ([]access.Account, error) {
	page, err := do[Page[access.Account]](ctx, c, request{method: "GET", path: path("accounts")})
	return page.Items, err
}

// Account returns one account.
func (c *Client) Account(ctx context.Context, id string) (access.Account, error) {
	return do[access.Account](ctx, c, request{method: "GET", path: path("accounts", id)})
}

// AddAccount makes an account.
func (c *Client) AddAccount(ctx context.Context, want access.NewAccount) (access.Account, error) {
	return do[access.Account](ctx, c, request{method: "POST", path: path("accounts"), body: map[string]any{
		"id": want.ID, "kind": want.Kind, "name": want.Name, "email": want.Email, "sponsor": want.Sponsor,
	}})
}

// ChangeAccount disables or enables an account.
func (c *Client) ChangeAccount(ctx context.Context, id, verb string) (access.Account, error) {
	return do[access.Account](ctx, c, request{method: "POST", path: path("accounts", id, verb)})
}

// SetSponsor has another person answer for a program.
func (c *Client) SetSponsor(ctx context.Context, id, sponsor string) (access.Account, error) {
	return do[access.Account](ctx, c, request{method: "POST", path: path("accounts", id, "sponsor"), body: map[string]any{"sponsor": sponsor}})
}

// DeleteAccount deletes an account.
func (c *Client) DeleteAccount(ctx context.Context, id string) error {
	_, err := do[struct{}](ctx, c, request{method: "DELETE", path: path("accounts", id)})
	return err
}

// Invitation is how a person comes to set a password.
type Invitation struct {
	Account   string    `json:"account"`
	Code      string    `json:"code"`
	Path      string    `json:"path"`
	Link      string    `json:"link"` // Path at this installation
	ExpiresAt time.Time `json:"expiresAt"`
}

// Invite makes an invitation.
func (c *Client) Invite(ctx context.Context, id string) (Invitation, error) {
	made, err := do[Invitation](ctx, c, request{method: "POST", path: path("accounts", id, "invitation")})
	made.Link = c.base.String() + made.Path
	return made, err
}

// RoleView is a role with what it may do.
type RoleView struct {
	Name        string              `json:"name"`
	Permissions []access.Permission `json:"permissions"`
}

// Roles lists the roles there are.
func (c *Client) Roles(ctx context.Context) ([]RoleView, error) {
	page, err := do[Page[RoleView]](ctx, c, request{method: "GET", path: path("roles")})
	return page.Items, err
}

// Bindings lists who has which role where.
func (c *Client) Bindings(ctx context.Context) ([]access.Binding, error) {
	page, err := do[Page[access.Binding]](ctx, c, request{method: "GET", path: path("bindings")})
	return page.Items, err
}

// GiveRole gives a role.
func (c *Client) GiveRole(ctx context.Context, b access.Binding) (access.Binding, error) {
	return do[access.Binding](ctx, c, request{method: "POST", path: path("bindings"), body: map[string]any{"role": b.Role, "account": b.Account, "group": b.Group, "bounds": b.Bounds}})
}

// TakeRole takes a role back.
func (c *Client) TakeRole(ctx context.Context, id string) error {
	_, err := do[struct{}](ctx, c, request{method: "DELETE", path: path("bindings", id)})
	return err
}

// Opened lists console sessions: all, or one's own.
func (c *Client) Opened(ctx context.Context, own bool) ([]access.Opened, error) {
	at := path("sessions")
	if own {
		at = path("me", "sessions")
	}
	page, err := do[Page[access.Opened]](ctx, c, request{method: "GET", path: at})
	return page.Items, err
}

// EndOpened ends a console session: any, or one of one's own.
func (c *Client) EndOpened(ctx context.Context, id string, own bool) error {
	at := path("sessions", id)
	if own {
		at = path("me", "sessions", id)
	}
	_, err := do[struct{}](ctx, c, request{method: "DELETE", path: at})
	return err
}

// UnusedRights lists roles of which something was not used for so many days.
func (c *Client) UnusedRights(ctx context.Context, days int) ([]access.Unused, error) {
	page, err := do[Page[access.Unused]](ctx, c, request{method: "GET", path: path("unused-rights"), query: url.Values{"days": {strconv.Itoa(days)}}})
	return page.Items, err
}
