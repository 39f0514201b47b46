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

// Placement says why a device is where it is.
type Placement struct {
	DeviceID    string `json:"deviceId"`
	Environment string `json:"environment"`
	// EnvironmentFrom is what decides it: the enrolment, or a move.
	EnvironmentFrom string         `json:"environmentFrom"`
	Tenant          string         `json:"tenant"`
	Enrollment      string         `json:"enrollment"`
	Policy          string         `json:"policy"` // by which a stamp is chosen among those that fit
	Stamp           string         `json:"stamp,omitempty"`
	Phase           Phase          `json:"phase"`
	Waits           string         `json:"waits,omitempty"` // for what, where it waits
	Stamps          []StampVerdict `json:"stamps"`          // of the environment, in order of name
}

// The verdicts about a stamp.
const (
	VerdictHere   = "here"   // the device is on it
	VerdictNext   = "next"   // it would be chosen now
	VerdictFits   = "fits"   // it could be
	VerdictBarred = "barred" // for the Reason that is given
)

// StampVerdict is what speaks for or against a stamp.
type StampVerdict struct {
	Stamp    string     `json:"stamp"`
	Region   string     `json:"region"`
	State    StampState `json:"state"`
	Taken    int        `json:"taken"`
	Capacity int        `json:"capacity"`
	Verdict  string     `json:"verdict"`
	Reason   string     `json:"reason,omitempty"`
}

// PlacementExplain asks provisioning why a device is where it is.
var PlacementExplain = Call[RegistrationRef, Placement]{"placement.explain"}

// Tenants is the desired document control gives stamps. Version only grows.
type Tenants struct {
	Version int64    `json:"version"`
	Items   []Tenant `json:"items"`
}

// TenantsPut tells a stamp the tenants.
var TenantsPut = Call[Tenants, None]{"tenants.put"}
