package api

import (
	"context"
	"net/url"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// AccountRef is an account in the path.
type AccountRef struct {
	ID string `path:"id" maxLength:"63"`
}

type addAccount struct {
	Body struct {
		ID      string `json:"id" minLength:"1" maxLength:"63"`
		Kind    string `json:"kind,omitempty" enum:"person,service,agent" doc:"Default person"`
		Name    string `json:"name,omitempty" maxLength:"100" doc:"As people read it"`
		Email   string `json:"email,omitempty" maxLength:"254"`
		Sponsor string `json:"sponsor,omitempty" maxLength:"63" doc:"Of a program: the person who answers for it"`
	}
}

type setSponsor struct {
	AccountRef
	Body struct {
		Sponsor string `json:"sponsor" minLength:"1" maxLength:"63"`
	}
}

type giveRole struct {
	Body struct {
		Role    string         `json:"role" minLength:"1" maxLength:"63"`
		Account string         `json:"account,omitempty" maxLength:"63"`
		Group   string         `json:"group,omitempty" maxLength:"200" doc:"Of an identity provider, instead of an account"`
		Bounds  *access.Bounds `json:"bounds,omitempty" doc:"Where; default everywhere"`
	}
}

// RoleView is a role with what it may do.
type RoleView struct {
	Name        string              `json:"name"`
	Permissions []access.Permission `json:"permissions"`
}

// Invitation is how a person comes to set a password. It is shown once.
type Invitation struct {
	Account   string    `json:"account"`
	Code      string    `json:"code"`
	Path      string    `json:"path" doc:"Of the console's page that takes it up"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// Me is who asks, as the API knows them.
type Me struct {
	Name   string        `json:"name"`
	Kind   access.Kind   `json:"kind"`
	Person string        `json:"person" doc:"Who answers for it"`
	MFA    bool          `json:"mfa"`
	Rights access.Rights `json:"rights"`
	Limit  *access.Right `json:"limit,omitempty" doc:"What the token is confined to, whatever the rights"`
}

type unusedRights struct {
	Days int `query:"days" minimum:"0" maximum:"365" doc:"Default 90"`
}

// people registers who may do what: accounts, roles, sessions.
func (a *api) people() {
	route(a, "GET", "/api/v1/accounts", "listAccounts", "People and programs, in order of id", func(ctx context.Context, _ *nothing) (*body[list[access.Account]], error) {
		all, err := a.Access.Accounts(ctx)
		return listOf(all, ""), err
	})
	route(a, "POST", "/api/v1/accounts", "addAccount", "Make an account for a person, a service or an agent", func(ctx context.Context, in *addAccount) (*body[access.Account], error) {
		b := in.Body
		if b.Kind == "" {
			b.Kind = string(access.Human)
		}
		made, err := a.Access.AddAccount(ctx, actorOf(ctx), access.NewAccount{ID: b.ID, Kind: access.Kind(b.Kind), Name: b.Name, Email: b.Email, Sponsor: b.Sponsor})
		return &body[access.Account]{made}, err
	})
	route(a, "GET", "/api/v1/accounts/{id}", "getAccount", "One account", func(ctx context.Context, in *AccountRef) (*body[access.Account], error) {
		found, err := a.Access.Account(ctx, in.ID)
		return &body[access.Account]{found}, err
	})
	for _, disabled := range []bool{true, false} {
		verb, summary := "enable", "Let a disabled account act again"
		if disabled {
			verb, summary = "disable", "Have an account, its tokens and the programs it answers for do nothing any more"
		}
		route(a, "POST", "/api/v1/accounts/{id}/"+verb, verb+"Account", summary, func(ctx context.Context, in *AccountRef) (*body[access.Account], error) {
			changed, err := a.Access.SetDisabled(ctx, actorOf(ctx), in.ID, disabled)
			return &body[access.Account]{changed}, err
		})
	}
	route(a, "POST", "/api/v1/accounts/{id}/sponsor", "setSponsor", "Have another person answer for a program", func(ctx context.Context, in *setSponsor) (*body[access.Account], error) {
		changed, err := a.Access.SetSponsor(ctx, actorOf(ctx), in.ID, in.Body.Sponsor)
		return &body[access.Account]{changed}, err
	})
	route(a, "POST", "/api/v1/accounts/{id}/invitation", "inviteAccount", "Make the code by which a person sets a password, once", func(ctx context.Context, in *AccountRef) (*body[Invitation], error) {
		code, until, err := a.SignIn.Invite(ctx, actorOf(ctx), in.ID)
		return &body[Invitation]{Invitation{in.ID, code, "/invitation?code=" + url.QueryEscape(code), until}}, err
	})
	route(a, "DELETE", "/api/v1/accounts/{id}", "deleteAccount", "Delete an account with its tokens, sessions and roles", func(ctx context.Context, in *AccountRef) (*nothing, error) {
		return &nothing{}, a.Access.RemoveAccount(ctx, actorOf(ctx), in.ID)
	})
	a.roles()
	a.sessions()
	a.tokens()
}

// declaredRoles registers roles as people declare them.
func (a *api) declaredRoles() {
	const base = "/api/v1/access-roles"
	route(a, "GET", base, "listAccessRoles", "Roles, built in or declared, with who has them where that is declared", func(ctx context.Context, _ *nothing) (*body[list[resource.Role]], error) {
		all, err := a.Access.Roles(ctx)
		return listOf(all, ""), err
	})
	route(a, "GET", base+"/{name}", "getAccessRole", "One role", func(ctx context.Context, in *Named) (*tagged[resource.Role], error) {
		r, err := a.Access.Role(ctx, in.Name)
		return &tagged[resource.Role]{quote(r.Metadata.ETag), r}, err
	})
	route(a, "PUT", base+"/{name}", "putAccessRole", "Declare a role: what it lets be done, and who has it; nobody makes one that can more than they can", func(ctx context.Context, in *putNamed[declared[resource.RoleSpec]]) (*tagged[resource.Role], error) {
		r, err := a.Access.PutRole(ctx, actorOf(ctx), in.Name, in.Body.Spec, in.IfMatch, in.DryRun)
		return &tagged[resource.Role]{quote(r.Metadata.ETag), r}, err
	})
	route(a, "DELETE", base+"/{name}", "deleteAccessRole", "Delete a declared role that nobody has", func(ctx context.Context, in *dropNamed) (*nothing, error) {
		return &nothing{}, a.Access.DeleteRole(ctx, actorOf(ctx), in.Name, in.IfMatch)
	})
}

// roles registers who has which role where.
func (a *api) roles() {
	route(a, "GET", "/api/v1/roles", "listRoles", "The roles there are, with what each may do", func(ctx context.Context, _ *nothing) (*body[list[RoleView]], error) {
		var all []RoleView
		roles, err := a.Access.Roles(ctx)
		for _, r := range roles {
			view := RoleView{Name: r.Metadata.Name, Permissions: []access.Permission{}}
			for _, p := range r.Status.Permissions {
				view.Permissions = append(view.Permissions, access.Permission(p))
			}
			all = append(all, view)
		}
		return listOf(all, ""), err
	})
	a.declaredRoles()
	route(a, "GET", "/api/v1/bindings", "listBindings", "Who has which role where", func(ctx context.Context, _ *nothing) (*body[list[access.Binding]], error) {
		all, err := a.Access.Bindings(ctx)
		return listOf(all, ""), err
	})
	route(a, "POST", "/api/v1/bindings", "giveRole", "Give a role to an account or a group", func(ctx context.Context, in *giveRole) (*body[access.Binding], error) {
		b := access.Binding{Role: in.Body.Role, Account: in.Body.Account, Group: in.Body.Group}
		if in.Body.Bounds != nil {
			b.Bounds = *in.Body.Bounds
		}
		given, err := a.Access.Bind(ctx, actorOf(ctx), b)
		return &body[access.Binding]{given}, err
	})
	route(a, "DELETE", "/api/v1/bindings/{id}", "takeRole", "Take a role back", func(ctx context.Context, in *IDRef) (*nothing, error) {
		return &nothing{}, a.Access.Unbind(ctx, actorOf(ctx), in.ID)
	})
	route(a, "GET", "/api/v1/unused-rights", "listUnusedRights", "Roles of which somebody did not use something for so many days", func(ctx context.Context, in *unusedRights) (*body[list[access.Unused]], error) {
		days := in.Days
		if days == 0 {
			days = usualUnused
		}
		all, err := a.Access.UnusedRights(ctx, days)
		return listOf(all, ""), err
	})
}

// usualUnused is after how many days a right counts as unused.
const usualUnused = 90

// sessions registers console sessions, and who asks.
func (a *api) sessions() {
	route(a, "GET", "/api/v1/sessions", "listSessions", "Console sessions that are open, newest first", func(ctx context.Context, _ *nothing) (*body[list[access.Opened]], error) {
		all, err := a.Access.Sessions(ctx, "")
		return listOf(all, ""), err
	})
	route(a, "DELETE", "/api/v1/sessions/{id}", "endSession", "End a session", func(ctx context.Context, in *IDRef) (*nothing, error) {
		return &nothing{}, a.Access.EndSession(ctx, actorOf(ctx), in.ID, "")
	})
	route(a, "GET", "/api/v1/me", "getMe", "Who asks, and what they may do", func(ctx context.Context, _ *nothing) (*body[Me], error) {
		who := actorOf(ctx)
		return &body[Me]{Me{who.Name, who.Kind, who.Who(), who.MFA, who.Rights, who.Limit}}, nil
	})
	route(a, "GET", "/api/v1/me/sessions", "listOwnSessions", "One's own console sessions, newest first", func(ctx context.Context, _ *nothing) (*body[list[access.Opened]], error) {
		all, err := a.Access.Sessions(ctx, actorOf(ctx).Name)
		return listOf(all, ""), err
	})
	route(a, "DELETE", "/api/v1/me/sessions/{id}", "endOwnSession", "End a session of one's own", func(ctx context.Context, in *IDRef) (*nothing, error) {
		return &nothing{}, a.Access.EndSession(ctx, actorOf(ctx), in.ID, actorOf(ctx).Name)
	})
}

type createToken struct {
	Body struct {
		Name             string         `json:"name" minLength:"1" maxLength:"100"`
		Account          string         `json:"account,omitempty" maxLength:"63" doc:"Whose it is; default the account that asks, and nobody's where a token that is nobody's asks"`
		Tenant           string         `json:"tenant,omitempty" maxLength:"63" doc:"Whose devices the token sees; empty sees everything"`
		Role             string         `json:"role,omitempty" maxLength:"63" doc:"All it may do at most; empty bounds nothing"`
		Bounds           *access.Bounds `json:"bounds,omitempty" doc:"Where it may do that; default everywhere"`
		ExpiresInSeconds int64          `json:"expiresInSeconds,omitempty" minimum:"0" doc:"0: never"`
	}
}

func (in createToken) wanted() access.NewToken {
	b := in.Body
	want := access.NewToken{Name: b.Name, Account: b.Account, Tenant: b.Tenant, Role: b.Role, Life: time.Duration(b.ExpiresInSeconds) * time.Second}
	if b.Bounds != nil {
		want.Bounds = *b.Bounds
	}
	return want
}

// newToken shows a token's secret, once.
type newToken struct {
	access.Token
	Secret string `json:"token" doc:"Shown once"`
}

// tokens registers API tokens: everybody's, and one's own.
func (a *api) tokens() {
	route(a, "GET", "/api/v1/tokens", "listTokens", "API tokens, without their secrets", func(ctx context.Context, _ *nothing) (*body[list[access.Token]], error) {
		all, err := a.Access.List(ctx)
		return listOf(all, ""), err
	})
	route(a, "POST", "/api/v1/tokens", "createToken", "Make an API token", func(ctx context.Context, in *createToken) (*body[newToken], error) {
		return a.makeToken(ctx, in.wanted())
	})
	route(a, "DELETE", "/api/v1/tokens/{id}", "revokeToken", "Revoke a token and its sessions", func(ctx context.Context, in *MoveRef) (*nothing, error) {
		return &nothing{}, a.Access.Revoke(ctx, actorOf(ctx), in.ID)
	})
	route(a, "GET", "/api/v1/me/tokens", "listOwnTokens", "API tokens of one's own", func(ctx context.Context, _ *nothing) (*body[list[access.Token]], error) {
		all, err := a.Access.Tokens(ctx, actorOf(ctx).Name)
		return listOf(all, ""), err
	})
	route(a, "POST", "/api/v1/me/tokens", "createOwnToken", "Make an API token of one's own, which never may more than oneself", func(ctx context.Context, in *createToken) (*body[newToken], error) {
		want := in.wanted()
		if err := ownToken(actorOf(ctx), want); err != nil {
			return nil, err
		}
		return a.makeToken(ctx, want)
	})
	route(a, "DELETE", "/api/v1/me/tokens/{id}", "revokeOwnToken", "Revoke a token of one's own", func(ctx context.Context, in *MoveRef) (*nothing, error) {
		return &nothing{}, a.Access.RevokeOwn(ctx, actorOf(ctx), in.ID)
	})
}

// ownToken refuses a token of somebody else, or of nobody.
func ownToken(who access.Actor, want access.NewToken) error {
	if who.Kind == access.Bearer || want.Account != "" && want.Account != who.Name {
		return problem.New(problem.Denied, "the token would not be of an account of your own; slipway token create makes others, with %s", access.AccessAdmin)
	}
	return nil
}

func (a *api) makeToken(ctx context.Context, want access.NewToken) (*body[newToken], error) {
	if err := a.Environments.CheckTenant(ctx, "tenant", want.Tenant); err != nil {
		return nil, err
	}
	t, secret, err := a.Access.Create(ctx, actorOf(ctx), want)
	return &body[newToken]{newToken{t, secret}}, err
}
