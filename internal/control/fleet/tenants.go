package fleet

import (
	"context"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// Tenants returns every tenant with how many places its devices take. While
// provisioning, which counts them, is away, there are no numbers.
func (f *Fleet) Tenants(ctx context.Context) ([]resource.Tenant, error) {
	all, err := f.environments.Tenants(ctx)
	if err != nil {
		return nil, err
	}
	counts, err := provisioningAsk(ctx, f, link.RegistrationCount, link.None{})
	if problem.Is(err, problem.NotReady) || problem.Is(err, problem.TimedOut) {
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	for i, t := range all {
		all[i].Status = &resource.TenantStatus{Devices: devicesOf(counts, t.Metadata.Name)}
	}
	return all, nil
}

func devicesOf(counts link.RegistrationCounts, tenant string) int {
	for _, c := range counts.ByTenant {
		if c.Tenant == tenant {
			return c.Count
		}
	}
	return 0
}

// Tenant returns one tenant.
func (f *Fleet) Tenant(ctx context.Context, name string) (resource.Tenant, error) {
	all, err := f.Tenants(ctx)
	for _, t := range all {
		if t.Metadata.Name == name {
			return t, nil
		}
	}
	if err == nil {
		err = problem.New(problem.NotFound, "there is no tenant %q", name)
	}
	return resource.Tenant{}, err
}

// DeleteTenant removes a tenant that has no devices and that no enrolment
// names.
func (f *Fleet) DeleteTenant(ctx context.Context, actor access.Actor, name, ifMatch string) error {
	counts, err := provisioningAsk(ctx, f, link.RegistrationCount, link.None{})
	if err != nil {
		return err
	}
	if n := devicesOf(counts, name); n > 0 {
		return problem.New(problem.Conflict, "tenant %s has %d devices; delete them or enrol them for another first", name, n)
	}
	for _, kind := range []link.EnrollmentKind{link.Group, link.Individual} {
		for after := ""; ; {
			page, err := provisioningAsk(ctx, f, link.EnrollmentList, link.ListEnrollments{Kind: kind, After: after})
			if err != nil {
				return err
			}
			for _, e := range page.Items {
				if e.Spec.Tenant == name {
					return problem.New(problem.Conflict, "enrolment %s is for tenant %s; change that first", e.Name, name)
				}
				after = e.Name
			}
			if !page.More {
				break
			}
		}
	}
	return f.environments.DeleteTenant(ctx, actor, name, ifMatch)
}

// Placement says why a device is where it is.
func (f *Fleet) Placement(ctx context.Context, id string) (link.Placement, error) {
	return provisioningAsk(ctx, f, link.PlacementExplain, link.RegistrationRef{DeviceID: id})
}

// Whereabouts returns the environment, stamp and tenant of a device.
func (f *Fleet) Whereabouts(ctx context.Context, id string) (access.Place, error) {
	r, err := provisioningAsk(ctx, f, link.RegistrationGet, link.RegistrationRef{DeviceID: id})
	if problem.Is(err, problem.NotFound) {
		var d link.Device
		if d, err = f.unregistered(ctx, id); err == nil {
			r, err = f.asRegistration(ctx, d)
		}
	}
	return access.Place{Environment: r.Environment, Stamp: r.Stamp, Tenant: r.Tenant}, err
}
