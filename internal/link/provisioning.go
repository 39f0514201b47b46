package link

import (
	"encoding/json"
	"time"
)

// Calls provisioning answers.
var (
	DirectoryPut      = Call[Directory, None]{"directory.put"}
	ProvisioningInfo  = Call[None, Scope]{"scope"}
	EnrollmentPut     = Call[PutEnrollment, Enrollment]{"enrollment.put"}
	EnrollmentGet     = Call[EnrollmentRef, Enrollment]{"enrollment.get"}
	EnrollmentDelete  = Call[EnrollmentRef, None]{"enrollment.delete"}
	EnrollmentList    = Call[ListEnrollments, Enrollments]{"enrollment.list"}
	RegistrationGet   = Call[RegistrationRef, Registration]{"registration.get"}
	RegistrationList  = Call[ListRegistrations, Registrations]{"registration.list"}
	RegistrationCount = Call[None, RegistrationCounts]{"registration.count"}
	MoveStart         = Call[StartMove, Move]{"move.start"}
	MoveGet           = Call[MoveRef, Move]{"move.get"}
	MoveList          = Call[ListMoves, Moves]{"move.list"}
	MoveDevices       = Call[ListMoveDevices, MovedDevices]{"move.devices"}
	ServicePolicies   = Call[None, Policies]{"policy.list"}
	ServiceRotate     = Call[RotatePolicy, Policy]{"policy.rotate"}
	AuthorityAdd      = Call[AddAuthority, Authority]{"authority.add"}
	AuthorityList     = Call[None, Authorities]{"authority.list"}
	AuthorityVerify   = Call[VerifyAuthority, Authority]{"authority.verify"}
	AuthorityDelete   = Call[AuthorityRef, None]{"authority.delete"}
	CertificateList   = Call[ListCertificates, IssuedCertificates]{"certificate.list"}
	CertificateRevoke = Call[CertificateRef, IssuedCertificate]{"certificate.revoke"}
)

// Scope names the provisioning endpoint devices are built with.
type Scope struct {
	IDScope string `json:"idScope"`
	// Provisioning is where devices register, host:port, where control knows it.
	Provisioning string `json:"provisioning,omitempty"`
}

// EnrollmentKind tells individual enrolments from groups.
type EnrollmentKind string

// The kinds, spelled as the resource kinds of `slipway apply`.
const (
	Individual EnrollmentKind = "Enrollment"
	Group      EnrollmentKind = "EnrollmentGroup"
)

// Attestation is how a device proves who it is; exactly one part is set.
type Attestation struct {
	SymmetricKey *SymmetricKey `json:"symmetricKey,omitempty"`
	X509         *X509         `json:"x509,omitempty"`
	TPM          *TPM          `json:"tpm,omitempty"`
}

// TPM names the TPM 2.0 of one device by the public part of its endorsement
// key: base64 of a TPM2B_PUBLIC.
type TPM struct {
	EndorsementKey string `json:"endorsementKey"`
}

// SymmetricKey holds base64 keys of 16 to 64 bytes; missing ones are made.
type SymmetricKey struct {
	PrimaryKey   string `json:"primaryKey,omitempty" secret:"true"`
	SecondaryKey string `json:"secondaryKey,omitempty" secret:"true"`
}

// X509 holds certificates as PEM. A group has CA; an individual enrolment has
// Certificate (the leaf itself), Thumbprint (hex of SHA-1 or SHA-256), or CA.
// Instead of CA an authority may be named whose owner has proven to have its
// key; its certificate is then filled in.
type X509 struct {
	CAReference          string `json:"caReference,omitempty"`
	SecondaryCAReference string `json:"secondaryCAReference,omitempty"`
	CA                   string `json:"ca,omitempty"`
	SecondaryCA          string `json:"secondaryCA,omitempty"`
	Certificate          string `json:"certificate,omitempty"`
	SecondaryCertificate string `json:"secondaryCertificate,omitempty"`
	Thumbprint           string `json:"thumbprint,omitempty"`
	SecondaryThumbprint  string `json:"secondaryThumbprint,omitempty"`
}

// Allocation is how a stamp of the target environment is chosen.
type Allocation struct {
	Policy string   `json:"policy,omitempty"` // weighted (default), leastLoaded, hashed, static, latency, custom
	Stamps []string `json:"stamps,omitempty"` // candidates; empty means all of the environment
	// Latency is, with the policy latency, how far each region is from the
	// devices in milliseconds; regions without a figure come last.
	Latency map[string]float64 `json:"latency,omitempty"`
	// Webhook is asked with the policy custom, at every registration. Fallback
	// is the policy when it does not answer; default weighted.
	Webhook  string `json:"webhook,omitempty"`
	Fallback string `json:"fallback,omitempty"`
}

// The allocation policies.
const (
	AllocateWeighted    = "weighted"    // by weight, the same stamp for the same id while the stamps stay the same
	AllocateLeastLoaded = "leastLoaded" // the stamp with the lowest share of its capacity in use
	AllocateHashed      = "hashed"      // as weighted, with every weight 1
	AllocateStatic      = "static"      // exactly one stamp, named
	AllocateLatency     = "latency"     // the nearest region by a table; within it as weighted
	AllocateCustom      = "custom"      // as a webhook says
)

// The re-provision policies: what happens to the twin when a device changes
// its stamp by registering again.
const (
	ReprovisionMigrate = "migrate" // the twin goes along (default)
	ReprovisionReset   = "reset"   // the initial twin is used again
	ReprovisionNever   = "never"   // registering again never changes the stamp; an operator's move still does
)

// EnrollmentSpec is the declared part of an enrolment.
type EnrollmentSpec struct {
	DeviceID    string       `json:"deviceId,omitempty"` // individual only; default is the registration id
	Environment string       `json:"environment"`
	Tenant      string       `json:"tenant,omitempty"` // whose devices they are; DefaultTenant if nobody is named
	Disabled    bool         `json:"disabled,omitempty"`
	Attestation Attestation  `json:"attestation"`
	Allocation  *Allocation  `json:"allocation,omitempty"`
	Reprovision string       `json:"reprovision,omitempty"`
	InitialTwin *InitialTwin `json:"initialTwin,omitempty"`
	Edge        bool         `json:"edge,omitempty"` // its devices are gateways for others
	// Information is whatever a back end wants to keep with the enrolment.
	Information json.RawMessage `json:"information,omitempty"`
}

// InitialTwin is what a new device's twin starts with.
type InitialTwin struct {
	Tags    json.RawMessage `json:"tags,omitempty"`
	Desired json.RawMessage `json:"desired,omitempty"`
}

// Enrollment is a stored enrolment. Name is the registration id of an
// individual one, the group's name otherwise.
type Enrollment struct {
	Kind      EnrollmentKind `json:"kind"`
	Name      string         `json:"name"`
	ETag      string         `json:"etag"`
	Spec      EnrollmentSpec `json:"spec"`
	Devices   int            `json:"devices"` // registrations made through it
	CreatedAt time.Time      `json:"createdAt"`
	UpdatedAt time.Time      `json:"updatedAt"`
}

// PutEnrollment creates or replaces an enrolment.
type PutEnrollment struct {
	Kind    EnrollmentKind `json:"kind"`
	Name    string         `json:"name"`
	IfMatch string         `json:"ifMatch,omitempty"` // ETag; "*" means it must exist; empty puts whatever is there
	New     bool           `json:"new,omitempty"`     // it must not exist yet
	Spec    EnrollmentSpec `json:"spec"`
	DryRun  bool           `json:"dryRun,omitempty"` // check and answer what would be stored, store nothing
}

// EnrollmentRef names one enrolment.
type EnrollmentRef struct {
	Kind    EnrollmentKind `json:"kind"`
	Name    string         `json:"name"`
	IfMatch string         `json:"ifMatch,omitempty"` // on delete
}

// ListEnrollments asks for a page in order of name.
type ListEnrollments struct {
	Kind  EnrollmentKind `json:"kind"`
	After string         `json:"after,omitempty"`
	Limit int            `json:"limit,omitempty"`
}

// Enrollments is a page.
type Enrollments struct {
	Items []Enrollment `json:"items"`
	More  bool         `json:"more"`
}

// Phase is where a registration stands.
type Phase string

// The phases of a registration. A device is valid on a stamp only in
// PhaseAssigned; between PhaseRemoving and PhaseCreating it is valid nowhere.
const (
	PhaseCreating Phase = "creating" // a place is taken on Stamp; the identity is being made there
	PhaseAssigned Phase = "assigned" // the identity is on Stamp
	PhaseRemoving Phase = "removing" // the identity is being taken off Stamp
	PhaseWaiting  Phase = "waiting"  // on no stamp; the next registration assigns one of Environment
)

// Registration is the provisioning record of one device.
type Registration struct {
	RegistrationID string       `json:"registrationId"`
	DeviceID       string       `json:"deviceId"`
	Enrollment     string       `json:"enrollment"`
	EnrollmentKind string       `json:"enrollmentKind"`
	Tenant         string       `json:"tenant"`
	Environment    string       `json:"environment"`     // where it is or is going
	Stamp          string       `json:"stamp,omitempty"` // where it is; empty while waiting
	Phase          Phase        `json:"phase"`
	Epoch          int64        `json:"epoch"`
	AssignedAt     *time.Time   `json:"assignedAt,omitempty"`
	CreatedAt      time.Time    `json:"createdAt"`
	UpdatedAt      time.Time    `json:"updatedAt"`
	Attempts       int          `json:"attempts,omitempty"` // failed tries of the present step
	Problem        string       `json:"problem,omitempty"`  // why the last try failed
	History        []Transition `json:"history,omitempty"`  // oldest first; only on get
}

// Transition is one line of a registration's log.
type Transition struct {
	At          time.Time `json:"at"`
	Step        string    `json:"step"` // requested, removing, removed, creating, assigned, …
	Environment string    `json:"environment,omitempty"`
	Stamp       string    `json:"stamp,omitempty"`
	Epoch       int64     `json:"epoch"`
	Reason      string    `json:"reason,omitempty"`
	Move        string    `json:"move,omitempty"`
}

// RegistrationRef names a device by its device id or registration id.
type RegistrationRef struct {
	DeviceID       string `json:"deviceId,omitempty"`
	RegistrationID string `json:"registrationId,omitempty"`
}

// ListRegistrations asks for a page in order of device id.
type ListRegistrations struct {
	Environment string   `json:"environment,omitempty"`
	Tenant      string   `json:"tenant,omitempty"`
	Stamp       string   `json:"stamp,omitempty"`
	Phase       Phase    `json:"phase,omitempty"`
	Search      string   `json:"search,omitempty"` // part of a device id, letter case ignored
	DeviceIDs   []string `json:"deviceIds,omitempty"`
	After       string   `json:"after,omitempty"`
	Limit       int      `json:"limit,omitempty"`
}

// Registrations is a page.
type Registrations struct {
	Items []Registration `json:"items"`
	More  bool           `json:"more"`
}

// RegistrationCounts tells how many devices each stamp holds, and how many
// wait for each environment.
type RegistrationCounts struct {
	ByStamp  []StampCount  `json:"byStamp"`
	ByTenant []TenantCount `json:"byTenant"`
	Waiting  []EnvCount    `json:"waiting"`
	LastWeek []EnvCount    `json:"lastWeek"` // devices that registered for the first time within seven days
}

// TenantCount is a number of places that a tenant's devices take.
type TenantCount struct {
	Tenant string `json:"tenant"`
	Count  int    `json:"count"`
}

// StampCount is a number of places taken on a stamp.
type StampCount struct {
	Stamp string `json:"stamp"`
	Count int    `json:"count"`
}

// EnvCount is a number of devices waiting for an environment.
type EnvCount struct {
	Environment string `json:"environment"`
	Count       int    `json:"count"`
}

// StartMove moves devices to another environment: those named, or those that
// match Where on the stamps of every environment but the target. Key makes a
// repeated request the same move.
type StartMove struct {
	Key     string   `json:"key,omitempty"`
	To      string   `json:"to"`
	Devices []string `json:"devices,omitempty"`
	Where   string   `json:"where,omitempty"`
	Reason  string   `json:"reason,omitempty"`
	Actor   string   `json:"actor,omitempty"`
	// From is a stamp whose devices leave it: all, or those that are named or
	// match. To may then be its own environment, and is where nothing is said.
	From string `json:"from,omitempty"`
	// Stamp is the one stamp they go to, as long as that takes them.
	Stamp string `json:"stamp,omitempty"`
	// PerSecond bounds how many devices begin to move each second; 0 does not.
	PerSecond float64 `json:"perSecond,omitempty"`
}

// MoveState is where a move stands.
type MoveState string

// The states of a move. Selecting resolves Where; running takes devices off
// their stamps; complete means each device has exactly one final state.
const (
	MoveSelecting MoveState = "selecting"
	MoveRunning   MoveState = "running"
	MoveComplete  MoveState = "complete"
)

// Move is a bulk move with its census. Every device of it is in exactly one
// of the census's states, and they add up to Total.
type Move struct {
	ID         string     `json:"id"`
	To         string     `json:"to"`
	Where      string     `json:"where,omitempty"`
	Reason     string     `json:"reason,omitempty"`
	Actor      string     `json:"actor,omitempty"`
	State      MoveState  `json:"state"`
	Census     Census     `json:"census"`
	From       string     `json:"from,omitempty"`
	Stamp      string     `json:"stamp,omitempty"`
	PerSecond  float64    `json:"perSecond,omitempty"`
	Problem    string     `json:"problem,omitempty"` // what it waits for
	CreatedAt  time.Time  `json:"createdAt"`
	FinishedAt *time.Time `json:"finishedAt,omitempty"`
}

// Census counts a move's devices by state.
type Census struct {
	Total    int `json:"total"`
	Pending  int `json:"pending"`  // not begun
	Removing int `json:"removing"` // being taken off the old stamp
	Waiting  int `json:"waiting"`  // off the old stamp; assigned at the next registration
	Arrived  int `json:"arrived"`  // assigned in the target environment
	Already  int `json:"already"`  // was there before
	Failed   int `json:"failed"`   // not found, or superseded; the reason is with the device
	// Returning is the part of Waiting that was connected when cut, and so is
	// expected back without anybody's help.
	Returning int `json:"returning"`
}

// MoveRef names a move.
type MoveRef struct {
	ID string `json:"id"`
}

// ListMoves asks for the newest moves.
type ListMoves struct {
	Limit int `json:"limit,omitempty"`
}

// Moves is a list, newest first.
type Moves struct {
	Items []Move `json:"items"`
}

// ListMoveDevices asks for a page of a move's devices in order of id.
type ListMoveDevices struct {
	ID    string `json:"id"`
	State string `json:"state,omitempty"`
	After string `json:"after,omitempty"`
	Limit int    `json:"limit,omitempty"`
}

// MovedDevices is a page.
type MovedDevices struct {
	Items []MovedDevice `json:"items"`
	More  bool          `json:"more"`
}

// MovedDevice is one device's part of a move.
type MovedDevice struct {
	DeviceID string `json:"deviceId"`
	State    string `json:"state"` // pending, removing, waiting, arrived, already, failed
	Problem  string `json:"problem,omitempty"`
}

// IssuedCertificate is an operational certificate that a device was given.
type IssuedCertificate struct {
	Serial         string     `json:"serial"` // hex
	RegistrationID string     `json:"registrationId"`
	DeviceID       string     `json:"deviceId"`
	Environment    string     `json:"environment"`
	NotBefore      time.Time  `json:"notBefore"`
	NotAfter       time.Time  `json:"notAfter"`
	RevokedAt      *time.Time `json:"revokedAt,omitempty"`
}

// IssuedCertificates is a list, newest first.
type IssuedCertificates struct {
	Items []IssuedCertificate `json:"items"`
}

// ListCertificates asks for the newest.
type ListCertificates struct {
	DeviceID string `json:"deviceId,omitempty"`
	Limit    int    `json:"limit,omitempty"`
}

// CertificateRef names one.
type CertificateRef struct {
	Serial string `json:"serial"`
}

// Authority is a certificate authority that enrolments may name, once it is
// verified.
type Authority struct {
	Name        string     `json:"name"`
	Subject     string     `json:"subject"`
	Thumbprint  string     `json:"thumbprint"` // SHA-256, hex
	Certificate string     `json:"certificate"`
	NotAfter    time.Time  `json:"notAfter"`
	Code        string     `json:"verificationCode,omitempty" doc:"What the owner signs, while the authority is not verified"`
	CreatedAt   time.Time  `json:"createdAt"`
	VerifiedAt  *time.Time `json:"verifiedAt,omitempty"`
}

// Authorities is a list in order of name.
type Authorities struct {
	Items []Authority `json:"items"`
}

// AddAuthority keeps an authority; Certificate is PEM.
type AddAuthority struct {
	Name        string `json:"name"`
	Certificate string `json:"certificate"`
}

// VerifyAuthority proves an authority; Certificate is PEM, signed by it, with
// the verification code as its common name.
type VerifyAuthority struct {
	Name        string `json:"name"`
	Certificate string `json:"certificate"`
}

// AuthorityRef names one.
type AuthorityRef struct {
	Name string `json:"name"`
}
