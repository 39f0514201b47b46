package link

// DefaultTenant owns what no other tenant does.
const DefaultTenant = "default"

// Tenant is what the other planes need to know of a customer of the solution.
type Tenant struct {
	Name string `json:"name"`
	// Regions are where its devices may be; none means anywhere.
	Regions []string `json:"regions,omitempty"`
	// Stamps are those its devices may be on; none means all that take it.
	Stamps []string `json:"stamps,omitempty"`
	// Devices is how many may have a place, over all stamps; 0 is no limit.
	Devices int `json:"devices,omitempty"`
	// MessagesPerSecond is how much telemetry its devices may send together on
	// one stamp; 0 is no limit.
	MessagesPerSecond float64 `json:"messagesPerSecond,omitempty"`
}

// Tenants is the desired document control gives stamps. Version only grows.
type Tenants struct {
	Version int64    `json:"version"`
	Items   []Tenant `json:"items"`
}

// TenantsPut tells a stamp the tenants.
var TenantsPut = Call[Tenants, None]{"tenants.put"}
