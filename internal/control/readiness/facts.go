package readiness

import "time"

// Facts are what is known of one environment. A part that is nil is not known,
// and Missing may say why; whatever rests on it has no evidence.
type Facts struct {
	Environment string
	At          time.Time // when they were gathered
	Missing     map[string]string

	Graph       *Graph
	Template    *Template
	Current     *Current
	Tests       []Suite // the newest of each suite in each environment; none is none
	Parity      *Parity
	Shared      *Shared
	Rehearsal   *Rehearsal
	Drift       *Drift
	Flags       *FlagFacts
	Stamps      *StampFacts
	Tenants     *TenantFacts
	Registry    *Registry
	Moves       *MoveFacts
	Expiries    *Expiries
	Devices     *DeviceFacts
	Updates     *UpdateFacts
	Telling     *Telling
	Alerting    *Alerting
	Logs        *Logs
	Objectives  *Objectives
	Clocks      *Clocks
	Rights      *Rights
	Grants      *GrantFacts
	Audit       *AuditFacts
	Posture     *Posture
	Components  *Components
	Growth      *GrowthFacts
	Backups     *BackupFacts
	Rollback    *RollbackFacts
	Waivers     *WaiverFacts
	Stopping    *StoppingFacts
	DataCare    *DataCare
	Incidents   *Incidents
	Plan        *Plan
	Compliance  *Covered
	AuditedJobs *CleanUps
	Dates       []Date // that are known to come, beside those that follow from the rest
}

// Graph is where an environment stands among the others.
type Graph struct {
	DisplayName string
	Upstream    []string // the environments releases come through, nearest first
	Final       bool     // none promotes from it
}

// Template is what an environment was made from.
type Template struct {
	Name        string // empty: it was made by hand
	Differs     int    // places in which it is not as the template
	Unexplained int    // those that nobody has explained
}

// Current is the release an environment runs.
type Current struct {
	Release, Digest string
	Since           time.Time
	Verified        []Verified // upstream, nearest first: the last verdict of each
	Waiver          string     // that let it in; empty is none
	Suites          []Suite    // the newest results of each suite on this release
	NeedsApproval   int        // people who must agree before a release enters
	Approvals       []string   // who agreed to this one
	HasMigrations   bool
	Class           string // the way back from it
}

// Verified is the last verdict on a release in an environment.
type Verified struct {
	Environment string
	Known       bool
	Passed      bool
	Digest      string
	At          time.Time
}

// Suite is the newest result of a suite of tests.
type Suite struct {
	Name, Environment, Release string
	Tests, Failed, Skipped     int
	At                         time.Time
	By                         string
}

// Parity is how alike an environment and the one before it are.
type Parity struct {
	With      string
	Score     float64 // 0 to 1
	Threshold float64
	Missing   []string // kinds of components that the one before lacks
	At        time.Time
}

// Shared is what environments have in common that they should not.
type Shared struct {
	Compared int      // fingerprints
	Same     []string // what is the same in two environments, and in which
}

// Rehearsal is the migrations of a release tried on a masked copy.
type Rehearsal struct {
	Release string
	Passed  bool
	Void    string // why it counts no more; empty is that it does
	Summary string
	At      time.Time
}

// Drift is how what is so differs from what is declared.
type Drift struct {
	Compared    int
	Unexplained []string
	Stale       int // objects not observed for too long
	Invalid     []string
	At          time.Time
}

// FlagFacts are an environment's feature flags.
type FlagFacts struct {
	Flags       int // of the release
	Unexercised []string
	Where       string // they were to be exercised
	Overdue     []string
	Ownerless   []string
	KilledAt    time.Time // when a kill switch was last used, anywhere upstream or here
}

// StampFacts are an environment's stamps.
type StampFacts struct {
	Stamps []StampFact
	Taken  int
	Places int
	Days   *float64 // until all places are taken; nil: it does not grow
}

// StampFact is one stamp.
type StampFact struct {
	Name, Region string
	Capacity     int
	Ring         bool // said, not left to the default
	Paced        bool
	Processes    int
	Taken        int
	Seen         time.Time
}

// TenantFacts are where tenants may be.
type TenantFacts struct {
	Tenants  int
	Homeless []string // that no stamp may take here
	Misplace []string // stamps kept for a tenant outside its regions
}

// Registry is what enrolments say of devices.
type Registry struct {
	Enrolments int
	Devices    int
	Attested   map[string]int // enrolments by the kind of proof
	Duplicates []string       // one key or certificate in several enrolments
}

// MoveFacts are devices that came from the environment before.
type MoveFacts struct {
	From     string
	Last     string // the newest move that brought devices here
	Arrived  int
	At       time.Time
	Removed  int      // looked up on the stamp they came from, and not there
	Present  []string // still there
	Rejected int      // connections the old stamp refused since
}

// Expiries are what runs out, apart from what renews itself.
type Expiries struct {
	Items []Expiry
}

// Expiry is something that runs out.
type Expiry struct {
	Kind, Name string
	At         time.Time
	Renews     bool // by itself, long before
}

// DeviceFacts are the devices of an environment and what they run.
type DeviceFacts struct {
	Registered                                                int64
	Updated, Pending, Failed, RolledBack, Unreachable, Exempt int64
	Drifting                                                  *int64 // desired is not reported, without a cause; nil is not known
}

// UpdateFacts are how safe the way of a release to devices is.
type UpdateFacts struct {
	Software  int
	Admitted  bool
	Reason    string // why not
	Previous  string // the release that can be gone back to
	SelfTests int    // rules that judge whether an updated device does well
}

// Telling is which processes tell of themselves.
type Telling struct {
	Up     []string
	Silent []string
	Absent []string // planes and stamps of which no process tells
}

// Alerting is who is told what is wrong.
type Alerting struct {
	Rules     int
	Unguided  []string // alerts without a runbook
	Broken    []string // rules that cannot be looked at
	Receivers int
	Pages     bool // somebody is told of what cannot wait
	TestedAt  time.Time
	TestedOK  bool
	OnCall    []string // who is on call now
	Next      bool     // and somebody follows them
}

// Logs are whether what processes write can be found.
type Logs struct {
	Retention  time.Duration
	Wanted     time.Duration
	Searchable []string // by what: device, release, time
	Proven     bool     // a search found what it had to
	At         time.Time
}

// Objectives are what is promised, and how it goes.
type Objectives struct {
	Standings []ObjectiveFact
}

// ObjectiveFact is one objective in the environment.
type ObjectiveFact struct {
	Name, State string
	Budget      *float64
}

// Clocks are how far clocks are from that of control.
type Clocks struct {
	Processes int
	Worst     time.Duration
	Of        string
}

// Rights are who may do what for good.
type Rights struct {
	Controlled bool
	Writers    []string // who may change things for good
	Unused     []string // rights that nobody used for long
	ReviewedAt time.Time
	Leavers    []string // who has rights and is gone
}

// GrantFacts are how people come to act for a while.
type GrantFacts struct {
	Approvals    int // people who must agree
	SelfRefused  bool
	SelfAnswer   string // what a try of agreeing to one's own request was told
	BreakGlass   bool   // it may be broken at all
	BrokenAt     time.Time
	Overdue      []string // reviews
	WaiverSelf   bool     // a waiver that its requester agreed to counts
	WaiversNeed  int
	ActiveGrants int
}

// AuditFacts are whether the audit log holds.
type AuditFacts struct {
	Size      int64
	Proven    bool
	Problem   string
	Witnesses int
	Behind    []string // witnesses that did not take the last checkpoint
	At        time.Time
}

// Posture is what was found of listeners, secrets and endpoints.
type Posture struct {
	TLS              []string // listeners that take less than TLS 1.2
	Listeners        int
	Encrypted        bool
	Unencrypted      []string
	PlainSecrets     []string
	Undeclared       []string // endpoints nobody has declared
	Endpoints        int
	Fronted          bool // a firewall or the like stands before it
	Defaults         []string
	Disclosure       string
	SupportUntil     time.Time
	At               time.Time
	DefaultsSearched bool
}

// Components are what the release is made of.
type Components struct {
	Components int
	ListedAt   time.Time // when the vulnerabilities were last uploaded
	Late       []string  // vulnerabilities beyond their deadline
	Open       int
	Signed     bool
	Reason     string // why not
	Provenance string // who says where it was built; empty is nobody
}

// GrowthFacts are how an environment grows.
type GrowthFacts struct {
	Rules  int
	Advice []string
	Places int
	Taken  int
}

// BackupFacts are the backups of an installation, and the drills.
type BackupFacts struct {
	Configured  bool
	Planes      int
	Late        []string
	OffHost     bool
	Encrypted   bool
	Immutable   bool
	NewestAt    time.Time
	DrillAt     time.Time
	DrillResult string
	PassedAt    time.Time
	RTO, RPO    time.Duration
	RTOLimit    time.Duration
	RPOLimit    time.Duration
	DrillLimit  time.Duration
}

// RollbackFacts are whether the ways back were gone.
type RollbackFacts struct {
	RehearsedAt time.Time // the release was taken back upstream, or to it
	Rehearsed   string    // where
	Automatic   bool      // a failed wave takes a release back
	ProvenAt    time.Time // a rollout went back by a rule
	Proven      string    // which
}

// WaiverFacts are hotfixes.
type WaiverFacts struct {
	Owed   []string
	UsedAt time.Time
	Used   string
}

// StoppingFacts are what keeps releases out.
type StoppingFacts struct {
	Freezes  int
	HaltedAt time.Time // when the halt switch was last used and lifted
	Halted   string
}

// DataCare is what is said of data.
type DataCare struct {
	Classes   int
	Retention bool
	Residency bool
	Erasure   bool
	Missing   []string
	At        time.Time
}

// CleanUps are the jobs that clean data up.
type CleanUps struct {
	Jobs     int
	Unsafe   []string // not tried dry first, not scoped, or not in the audit log
	LastAt   time.Time
	NotTried bool
}

// Incidents are what an incident is dealt with by.
type Incidents struct {
	Channel  string
	Template string
	At       time.Time
}

// Plan is who answers for what will run out.
type Plan struct {
	Owner   string // of the calendar
	Overdue []string
	Items   int
}

// Covered is how far the frameworks are covered by evidence.
type Covered struct {
	Frameworks int
	Controls   int
	Unmapped   []string // checks that no framework asks for
	Aged       []string // controls whose evidence has grown old
	At         time.Time
}
