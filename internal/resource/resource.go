// Package resource is the declarative form of what people decide: documents
// with apiVersion, kind, metadata and spec, as `slipway apply` reads and the
// API serves them. Decoding is strict, and every complaint names its line.
package resource

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// APIVersion is the version of all kinds.
const APIVersion = "slipway/v1"

// The kinds.
const (
	KindBlueprint       = "Blueprint"
	KindEnvironment     = "Environment"
	KindStamp           = "Stamp"
	KindEnrollmentGroup = "EnrollmentGroup"
	KindEnrollment      = "Enrollment"
	KindRoute           = "Route"
	KindTenant          = "Tenant"
	KindRelease         = "Release"
	KindAlertRule       = "AlertRule"
	KindReceiver        = "Receiver"
	KindOnCall          = "OnCall"
	KindSLO             = "SLO"
	KindFlag            = "Flag"
)

// Kinds are all kinds that are applied, in the order in which they must be. A
// release is made once instead, and stays as it is.
var Kinds = []string{KindTenant, KindBlueprint, KindEnvironment, KindStamp, KindEnrollmentGroup, KindEnrollment, KindRoute, KindFlag, KindSLO, KindAlertRule, KindReceiver, KindOnCall, KindRole}

// Plural is a kind's collection in the API's paths.
var Plural = map[string]string{
	KindBlueprint: "blueprints", KindEnvironment: "environments", KindStamp: "stamps", KindEnrollmentGroup: "enrollment-groups", KindEnrollment: "enrollments", KindRoute: "routes",
	KindTenant: "tenants", KindFlag: "flags", KindAlertRule: "alert-rules", KindReceiver: "receivers", KindOnCall: "on-calls", KindSLO: "slos", KindRole: "access-roles",
}

// Metadata names a resource. ETag and the times are the server's to say.
type Metadata struct {
	Name      string     `json:"name" doc:"Unique among the resources of its kind"`
	ETag      string     `json:"etag,omitempty" doc:"Version of the stored resource; read only"`
	CreatedAt *time.Time `json:"createdAt,omitempty" doc:"Read only"`
	UpdatedAt *time.Time `json:"updatedAt,omitempty" doc:"Read only"`
}

// Resource is a document of any kind, checked against its kind's form.
type Resource struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Metadata   Metadata        `json:"metadata"`
	Spec       json.RawMessage `json:"spec"`
}

// EnvironmentSpec declares an environment.
type EnvironmentSpec struct {
	DisplayName  string         `json:"displayName,omitempty" maxLength:"100" doc:"Name shown to people"`
	PromotesFrom string         `json:"promotesFrom,omitempty" doc:"Environment from which devices and releases come"`
	AutoMove     *link.AutoMove `json:"autoMove,omitempty" doc:"Rule that moves devices on once their checks pass"`
	Growth       []Growth       `json:"growth,omitempty" maxItems:"20" doc:"When control adds a stamp by itself"`
	Promotion    *PromotionSpec `json:"promotion,omitempty" doc:"How releases enter it"`
	Signing      *Signing       `json:"signing,omitempty" doc:"Who must sign what its devices may run; without it control does"`
	Grants       *GrantPolicy   `json:"grants,omitempty" doc:"How people come to act in it for a while"`
	Rehearsal    *RehearsalSpec `json:"rehearsal,omitempty" doc:"How migrations are rehearsed on masked copies of its data"`
	Access       string         `json:"access,omitempty" enum:"open,controlled" doc:"controlled: roles let people read, and changing anything takes a grant; default open"`
	Blueprint    string         `json:"blueprint,omitempty" maxLength:"63" doc:"What it is made from; it then says itself only its names and where it differs"`
	Differences  []Difference   `json:"differences,omitempty" maxItems:"200" doc:"Where it is not as its blueprint says, and why"`

	Configuration *ConfigurationPolicy `json:"configuration,omitempty" doc:"What must be true before a configuration comes into force"`
}

// AccessControlled is the access of an environment in which changes take a
// grant.
const AccessControlled = "controlled"

// Signing says whose signatures an environment's metadata needs.
type Signing struct {
	Keys      []string `json:"keys" maxItems:"20" doc:"Public keys, PEM: Ed25519 or ECDSA P-256"`
	Threshold int      `json:"threshold,omitempty" doc:"How many of them must sign; default 1"`
}

// StampSpec declares a stamp.
type StampSpec struct {
	Environment string          `json:"environment" doc:"Environment it belongs to"`
	Region      string          `json:"region" doc:"Where it is"`
	Capacity    int             `json:"capacity,omitempty" doc:"Devices at most; default 10000"`
	Weight      int             `json:"weight,omitempty" doc:"Share of weighted allocation; default 1"`
	State       link.StampState `json:"state,omitempty" doc:"open, draining or closed; default open"`
	Tenants     []string        `json:"tenants,omitempty" doc:"The only tenants whose devices it takes; none means all"`
	Ring        *int            `json:"ring,omitempty" minimum:"0" maximum:"100" doc:"When releases come to it: 0 first, then 1, and so on; default 1"`
	Pace        *Pace           `json:"pace,omitempty" doc:"How often it takes releases"`
	Local       bool            `json:"local,omitempty" doc:"Control starts it on its own machine and looks after it"`
	Host        string          `json:"host,omitempty" doc:"Public host name; default an address of its own on this machine"`
}

// Object is a resource of one kind as the API serves it.
type Object[Spec, Status any] struct {
	APIVersion string   `json:"apiVersion" enum:"slipway/v1"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`
	Status     *Status  `json:"status,omitempty" doc:"What is so; read only"`
}

// EnvironmentStatus is what is so of an environment.
type EnvironmentStatus struct {
	Stamps  []string `json:"stamps"`
	Devices int      `json:"devices" doc:"Places taken on its stamps"`
	Waiting int      `json:"waiting" doc:"Devices that will be assigned here at their next registration"`
}

// StampStatus is what is so of a stamp.
type StampStatus struct {
	State     string            `json:"state" doc:"joining, open, full, draining or closed"`
	Host      string            `json:"host" doc:"What devices are told"`
	Assigned  int               `json:"assigned" doc:"Places taken"`
	Connected int64             `json:"connected"`
	Sockets   int64             `json:"sockets,omitempty" doc:"Open sockets of all kinds, as a stamp on its own tells"`
	Rate      float64           `json:"rate" doc:"Telemetry messages per second"`
	Messages  uint64            `json:"messages" doc:"Telemetry messages since the stamp was created"`
	Admission *link.Admission   `json:"admission,omitempty" doc:"How connections fared at its door since it started"`
	OverQuota uint64            `json:"overQuota" doc:"Telemetry messages refused since it started, as their tenant sent too many"`
	Stored    uint64            `json:"bytesStored" doc:"Bytes of telemetry and events that are kept"`
	Limits    *link.StampLimits `json:"limits,omitempty" doc:"What it takes on at most, as it tells"`
	SeenAt    *time.Time        `json:"seenAt,omitempty" doc:"When the stamp last told of itself"`
	Problem   string            `json:"problem,omitempty" doc:"Why it could not be started"`
	Processes []Process         `json:"processes,omitempty" doc:"What it is made of, as each tells of itself"`
}

// Process is one process of a stamp.
type Process struct {
	Name        string    `json:"name,omitempty" doc:"Empty where it is the only one"`
	Version     string    `json:"version"`
	Leads       bool      `json:"leads,omitempty" doc:"It does what one process does for all: routes, jobs, configurations"`
	Connected   int64     `json:"connected"`
	Connections int       `json:"connections" doc:"How many it lets in at most"`
	Rate        float64   `json:"rate" doc:"Telemetry messages per second"`
	StartedAt   time.Time `json:"startedAt"`
	SeenAt      time.Time `json:"seenAt" doc:"When it last told of itself"`
}

// The states of a stamp beside those that are declared.
const (
	StateJoining = "joining" // declared, and never seen yet
	StateFull    = "full"    // open, with every place taken
)

// StateOf is a stamp's state, of what is declared and what is so.
func StateOf(spec StampSpec, status StampStatus) string {
	switch {
	case status.Host == "":
		return StateJoining
	case spec.State == link.StampOpen && status.Assigned >= spec.Capacity:
		return StateFull
	}
	return string(spec.State)
}

// EnrollmentStatus is what is so of an enrolment.
type EnrollmentStatus struct {
	Devices int `json:"devices" doc:"Registrations made through it"`
}

// The kinds that have types of their own.
type (
	Environment = Object[EnvironmentSpec, EnvironmentStatus]
	Stamp       = Object[StampSpec, StampStatus]
	Enrollment  = Object[link.EnrollmentSpec, EnrollmentStatus]
	Flag        = Object[flag.Flag, struct{}]
)

var (
	name           = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	enrollmentName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._:-]{0,126}[A-Za-z0-9-])?$`)
	hostName       = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
)

// roles are those of signed metadata that no environment may be named like.
var roles = []string{"root", "targets", "snapshot", "timestamp"}

// CheckName holds a name against its kind's rule.
func CheckName(kind, text string) error {
	switch kind {
	case KindBlueprint, KindEnvironment, KindStamp, KindRoute, KindTenant, KindAlertRule, KindReceiver, KindOnCall, KindSLO, KindRole:
		if !name.MatchString(text) {
			return problem.New(problem.Invalid, "a name has 1 to 63 of a-z, 0-9 and '-', not at its ends, which %q does not", text).At("metadata.name")
		}
		if kind == KindEnvironment && slices.Contains(roles, text) {
			return problem.New(problem.Invalid, "%s is the name of a role of signed metadata, in which each environment has a role of its name; choose another", text).At("metadata.name")
		}
	case KindRelease:
		if !releaseName.MatchString(text) {
			return problem.New(problem.Invalid, "a release's name has 1 to 63 of letters, digits and '._+-', not '._+-' at its ends, such as v1.4.0, unlike %q", text).At("metadata.name")
		}
	case KindFlag:
		if err := flag.CheckKey(text); err != nil {
			return problem.Of(err).At("metadata.name")
		}
	default:
		if !enrollmentName.MatchString(text) {
			return problem.New(problem.Invalid, "an enrolment's name has 1 to 128 of letters, digits and '-._:', and ends in a letter, a digit or '-', which %q does not", text).At("metadata.name")
		}
	}
	return nil
}

// Check holds an environment's spec against the rules that need no other
// resource.
func (s EnvironmentSpec) Check(self string) error {
	if s.Blueprint == "" && len(s.Differences) > 0 {
		return problem.New(problem.Invalid, "an environment differs from a blueprint; name it").At("spec.blueprint")
	}
	if err := checkDifferences(s.Differences); err != nil {
		return err
	}
	if s.PromotesFrom == self {
		return problem.New(problem.Invalid, "an environment cannot promote from itself").At("spec.promotesFrom")
	}
	for i, rule := range s.Growth {
		if err := rule.Check(self, fmt.Sprintf("spec.growth[%d]", i)); err != nil {
			return err
		}
	}
	if s.Rehearsal != nil {
		if err := s.Rehearsal.Check(); err != nil {
			return err
		}
	}
	if s.Promotion != nil {
		if err := s.Promotion.Check(); err != nil {
			return err
		}
	}
	if err := s.Configuration.check(); err != nil {
		return err
	}
	if err := s.Signing.check(); err != nil {
		return err
	}
	if err := s.Grants.check(); err != nil {
		return err
	}
	if s.Access != "" && s.Access != "open" && s.Access != AccessControlled {
		return problem.New(problem.Invalid, "access is open or controlled, not %q", s.Access).At("spec.access")
	}
	rule := s.AutoMove
	if rule == nil {
		return nil
	}
	switch {
	case rule.To == "" || rule.To == self:
		return problem.New(problem.Invalid, "the rule must name another environment to move devices to").At("spec.autoMove.to")
	case rule.MinMessages < 0:
		return problem.New(problem.Invalid, "the number of messages must not be negative").At("spec.autoMove.minMessages")
	case rule.Where == "" && rule.MinMessages == 0 && !rule.Connected:
		return problem.New(problem.Invalid, "the rule needs a check: where, minMessages or connected").At("spec.autoMove")
	}
	return nil
}

// MaxCapacity is the most devices a stamp may be declared for.
const MaxCapacity = 1_000_000

// defaultCapacity is what a stamp holds that does not say.
const defaultCapacity = 10_000

// Check holds a stamp's spec against the rules and returns it with defaults.
func (s StampSpec) Check() (StampSpec, error) {
	if s.Capacity == 0 {
		s.Capacity = defaultCapacity
	}
	if s.Weight == 0 {
		s.Weight = 1
	}
	if s.State == "" {
		s.State = link.StampOpen
	}
	if err := s.Pace.Check("spec.pace"); err != nil {
		return s, err
	}
	switch {
	case s.RingOf() < 0 || s.RingOf() > 100:
		return s, problem.New(problem.Invalid, "a stamp's ring is 0 to 100, not %d", s.RingOf()).At("spec.ring")
	case s.Environment == "":
		return s, problem.New(problem.Invalid, "a stamp belongs to an environment; name it").At("spec.environment")
	case s.Region == "" || len(s.Region) > 63:
		return s, problem.New(problem.Invalid, "a stamp's region has 1 to 63 characters").At("spec.region")
	case s.Capacity < 1 || s.Capacity > MaxCapacity:
		return s, problem.New(problem.Invalid, "a stamp's capacity is 1 to %d devices, not %d", MaxCapacity, s.Capacity).At("spec.capacity")
	case s.Weight < 1 || s.Weight > 1000:
		return s, problem.New(problem.Invalid, "a stamp's weight is 1 to 1000, not %d", s.Weight).At("spec.weight")
	case !slices.Contains([]link.StampState{link.StampOpen, link.StampDraining, link.StampClosed}, s.State):
		return s, problem.New(problem.Invalid, "a stamp's state is open, draining or closed, not %q", s.State).At("spec.state")
	case s.Host != "" && !hostName.MatchString(s.Host):
		return s, problem.New(problem.Invalid, "%q is not a host name; the port is the server's setting", s.Host).At("spec.host")
	}
	return s, nil
}

// RingOf is the stamp's ring.
func (s StampSpec) RingOf() int {
	if s.Ring == nil {
		return 1
	}
	return *s.Ring
}

// SpecOf reads a resource's spec, which Decode has checked, as its kind's form.
func SpecOf[Spec any](r Resource) (spec Spec, err error) { return spec, json.Unmarshal(r.Spec, &spec) }
