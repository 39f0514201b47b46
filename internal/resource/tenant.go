package resource

import (
	"slices"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// TenantSpec declares a customer of the solution.
type TenantSpec struct {
	DisplayName       string   `json:"displayName,omitempty" maxLength:"100" doc:"Name shown to people"`
	Regions           []string `json:"regions,omitempty" doc:"Regions its devices stay in; none means anywhere"`
	Stamps            []string `json:"stamps,omitempty" doc:"Stamps its devices may be on; none means every stamp that takes it"`
	Devices           int      `json:"devices,omitempty" doc:"Devices it may have a place for, over all stamps; 0 is no limit"`
	MessagesPerSecond float64  `json:"messagesPerSecond,omitempty" doc:"Telemetry its devices may send together on one stamp; 0 is no limit"`
	Pace              *Pace    `json:"pace,omitempty" doc:"How often the stamps that are kept for it take releases"`
}

// TenantStatus is what is so of a tenant.
type TenantStatus struct {
	Devices int `json:"devices" doc:"Places its devices take"`
}

// Tenant is a tenant as the API serves it.
type Tenant = Object[TenantSpec, TenantStatus]

// The limits of a tenant.
const (
	maxNamed      = 200
	maxTenantRate = 1_000_000
)

// Check holds a tenant's spec against the rules that need no other resource.
func (s TenantSpec) Check() error {
	if err := s.Pace.Check("spec.pace"); err != nil {
		return err
	}
	switch {
	case len(s.Regions) > maxNamed:
		return problem.New(problem.Invalid, "a tenant names at most %d regions, not %d", maxNamed, len(s.Regions)).At("spec.regions")
	case len(s.Stamps) > maxNamed:
		return problem.New(problem.Invalid, "a tenant names at most %d stamps, not %d", maxNamed, len(s.Stamps)).At("spec.stamps")
	case slices.Contains(s.Regions, ""):
		return problem.New(problem.Invalid, "a region has a name").At("spec.regions")
	case s.Devices < 0:
		return problem.New(problem.Invalid, "a number of devices is not negative").At("spec.devices")
	case s.MessagesPerSecond < 0 || s.MessagesPerSecond > maxTenantRate || s.MessagesPerSecond > 0 && s.MessagesPerSecond < 0.1:
		return problem.New(problem.Invalid, "a quota is 0.1 to %d messages a second, or 0 for no limit, not %g", maxTenantRate, s.MessagesPerSecond).At("spec.messagesPerSecond")
	}
	return nil
}

// Linked is the tenant as the other planes know it.
func (s TenantSpec) Linked(name string) link.Tenant {
	return link.Tenant{Name: name, Regions: s.Regions, Stamps: s.Stamps, Devices: s.Devices, MessagesPerSecond: s.MessagesPerSecond}
}
