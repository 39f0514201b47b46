package console

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

var tenantPage = newPage("tenant.html")

// tenantView is a tenant, and where its devices may be moved.
type tenantView struct {
	base
	Tenant resource.Tenant
	Stamps []tenantStamp
	Moves  []link.Move // that take its devices
}

// tenantStamp is a stamp as one tenant finds it.
type tenantStamp struct {
	resource.Stamp
	Why string // it does not take the tenant's devices; empty: it does
}

func (c *console) tenant(w http.ResponseWriter, r *http.Request, s access.Session) error {
	tenant, err := c.findTenant(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	view := tenantView{base: inside(r, s, "capacity", "Tenant "+tenant.Metadata.Name), Tenant: tenant}
	stamps, err := c.Fleet.Stamps(r.Context())
	if err != nil {
		return err
	}
	for _, stamp := range stamps {
		view.Stamps = append(view.Stamps, tenantStamp{stamp, refusal(tenant, stamp.Metadata.Name, stamp.Spec)})
	}
	moves, err := c.Fleet.Moves(r.Context(), shownMoves)
	if err != nil && !problem.Is(err, problem.NotReady) && !problem.Is(err, problem.TimedOut) {
		return err
	}
	for _, move := range moves.Items {
		if move.Where == ofTenant(tenant.Metadata.Name) {
			view.Moves = append(view.Moves, move)
		}
	}
	return show(w, r, http.StatusOK, tenantPage, "", view)
}

// refusal is why a stamp does not take a tenant's devices, as far as what is
// declared says so.
func refusal(tenant resource.Tenant, name string, stamp resource.StampSpec) string {
	switch {
	case len(stamp.Tenants) > 0 && !slices.Contains(stamp.Tenants, tenant.Metadata.Name):
		return "it is for other tenants"
	case len(tenant.Spec.Stamps) > 0 && !slices.Contains(tenant.Spec.Stamps, name):
		return "the tenant is on other stamps only"
	case len(tenant.Spec.Regions) > 0 && !slices.Contains(tenant.Spec.Regions, stamp.Region):
		return "the tenant stays in other regions"
	case stamp.State != link.StampOpen:
		return "it is " + string(stamp.State)
	}
	return ""
}

func (c *console) findTenant(ctx context.Context, name string) (resource.Tenant, error) {
	tenants, err := c.Fleet.Tenants(ctx)
	if err != nil {
		return resource.Tenant{}, err
	}
	for _, tenant := range tenants {
		if tenant.Metadata.Name == name {
			return tenant, nil
		}
	}
	return resource.Tenant{}, problem.New(problem.NotFound, "there is no tenant %q", name)
}

// ofTenant selects a tenant's devices.
func ofTenant(name string) string { return "tenant = '" + name + "'" }

// moveTenant takes a tenant's devices to a stamp, as one move.
func (c *console) moveTenant(w http.ResponseWriter, r *http.Request, s access.Session) error {
	tenant, err := c.findTenant(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	perSecond, err := strconv.ParseFloat(cmp.Or(r.PostForm.Get("perSecond"), "0"), 64)
	if err != nil || perSecond < 0 {
		return problem.New(problem.Invalid, "devices each second are a number, 0 for as fast as it goes").At("perSecond")
	}
	if r.PostForm.Get("stamp") == "" {
		return problem.New(problem.Invalid, "say to which stamp the devices go").At("stamp")
	}
	move, err := c.Fleet.StartMove(r.Context(), s.Actor, link.StartMove{
		Where: ofTenant(tenant.Metadata.Name), Stamp: r.PostForm.Get("stamp"), PerSecond: perSecond, Reason: "tenant " + tenant.Metadata.Name + " is moved",
	})
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/moves/"+move.ID, http.StatusSeeOther)
	return nil
}
