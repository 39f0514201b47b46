package api

import (
	"context"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// tenants registers the customers of the solution.
func (a *api) tenants() {
	route(a, "GET", "/api/v1/tenants", "listTenants", "Tenants in order of name", func(ctx context.Context, _ *nothing) (*body[list[resource.Tenant]], error) {
		all, err := a.Fleet.Tenants(ctx)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/tenants/{name}", "getTenant", "One tenant", func(ctx context.Context, in *Named) (*tagged[resource.Tenant], error) {
		t, err := a.Fleet.Tenant(ctx, in.Name)
		return &tagged[resource.Tenant]{quote(t.Metadata.ETag), t}, err
	})
	route(a, "PUT", "/api/v1/tenants/{name}", "putTenant", "Create or replace a tenant", func(ctx context.Context, in *putNamed[declared[resource.TenantSpec]]) (*tagged[resource.Tenant], error) {
		t, err := a.Environments.PutTenant(ctx, actorOf(ctx), in.Name, in.Body.Spec, in.IfMatch, in.DryRun)
		return &tagged[resource.Tenant]{quote(t.Metadata.ETag), t}, err
	})
	route(a, "DELETE", "/api/v1/tenants/{name}", "deleteTenant", "Delete a tenant without devices", func(ctx context.Context, in *dropNamed) (*nothing, error) {
		return &nothing{}, a.Fleet.DeleteTenant(ctx, actorOf(ctx), in.Name, in.IfMatch)
	})
}

// openParts are what a tenant may have of its device, beside the device itself.
var openParts = []string{"", "twin", "methods", "commands", "messages", "events"}

const devicesPath = "/api/v1/devices"

// confine keeps an actor of a tenant to that tenant's devices. Whatever is not
// known to be about one of them, it may not have: a route that is added is
// closed to tenants until somebody opens it here.
func (a *api) confine(r *http.Request, actor access.Actor) error {
	if actor.Tenant == "" {
		return nil
	}
	asked := r.URL.EscapedPath()
	if asked != path.Clean(asked) {
		return problem.New(problem.Denied, "the path is not in its shortest form")
	}
	if asked == devicesPath && r.Method == http.MethodGet {
		return nil // the list is narrowed where it is made
	}
	rest, found := strings.CutPrefix(asked, devicesPath+"/")
	segment, below, _ := strings.Cut(rest, "/")
	part, _, _ := strings.Cut(below, "/")
	id, err := url.PathUnescape(segment)
	if !found || err != nil || id == "" || !slices.Contains(openParts, part) {
		return problem.New(problem.Denied, "the token is of tenant %s and sees that tenant's devices only", actor.Tenant)
	}
	at, err := a.Fleet.Whereabouts(r.Context(), id)
	if problem.Is(err, problem.NotFound) || err == nil && at.Tenant != actor.Tenant {
		return problem.New(problem.NotFound, "there is no device %s", id) // whether others have it is not said
	}
	return err
}
