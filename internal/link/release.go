package link

import (
	"encoding/json"
	"time"
)

// Calls about releases: control gives a stamp its desired document, the stamp
// tells what came of it, and fetches artifacts and signed metadata, in parts,
// from control.
var (
	ReleasesPut  = Call[Releases, None]{"releases.put"}
	UpdateList   = Call[ListUpdates, Updates]{"update.list"}
	ArtifactRead = Call[ReadPart, Part]{"artifact.read"} // by the hex SHA-256 of its content
	MetadataRead = Call[ReadPart, Part]{"metadata.read"} // by its file name, such as 3.targets.json
)

// The kinds of a release, by what it is made for.
const (
	ReleaseFeature  = "feature"
	ReleaseSecurity = "security"
	ReleaseMixed    = "mixed"
)

// The ways back from a release.
const (
	RollbackSafe        = "safe"          // the release before runs on what this one leaves behind
	RollbackForwardOnly = "forward-only"  // never back by itself
	RollbackRestore     = "needs-restore" // back only with the data of before
)

// ReleaseSpec is what a release is made of.
type ReleaseSpec struct {
	Type          string          `json:"type,omitempty" enum:"feature,security,mixed" doc:"What it is made for; default feature"`
	Rollback      string          `json:"rollback,omitempty" enum:"safe,forward-only,needs-restore" doc:"The way back from it; default safe"`
	Notes         string          `json:"notes,omitempty" maxLength:"20000" doc:"What it brings, for people"`
	Source        string          `json:"source,omitempty" maxLength:"500" doc:"Where it was built from, such as a commit's URL"`
	Software      []Software      `json:"software,omitempty" maxItems:"100" doc:"What devices are to run"`
	Configuration map[string]any  `json:"configuration,omitempty" doc:"Desired properties of every device"`
	Routes        []ReleaseRoute  `json:"routes,omitempty" maxItems:"50" doc:"Where the messages of a stamp go while it runs the release"`
	Flags         json.RawMessage `json:"flags,omitempty" doc:"Feature flags, as flagd defines them"`
	Migrations    []Migration     `json:"migrations,omitempty" maxItems:"100" doc:"Changes of stored data, in order"`
	Reads         *Reads          `json:"reads,omitempty" doc:"What its program expects of stored data"`
	SBOM          []Artifact      `json:"sbom,omitempty" maxItems:"20" doc:"Software bills of materials"`
}

// Software is one thing devices run, for some kinds of hardware.
type Software struct {
	Name      string            `json:"name" maxLength:"63" doc:"Such as firmware"`
	Version   string            `json:"version" maxLength:"100" doc:"What devices report once they run it"`
	Hardware  []string          `json:"hardware,omitempty" maxItems:"100" doc:"The kinds of hardware it is for; none means all"`
	Handler   string            `json:"handler,omitempty" maxLength:"63" doc:"How an agent installs it: files, script, rauc, swupdate, container"`
	Artifacts []Artifact        `json:"artifacts,omitempty" maxItems:"50"`
	Metadata  map[string]string `json:"metadata,omitempty" doc:"For the handler"`
}

// Artifact is a file of a release, named by its content.
type Artifact struct {
	File   string `json:"file" maxLength:"200" doc:"The name it has for who installs it"`
	Size   int64  `json:"size,omitempty" doc:"In bytes"`
	SHA256 string `json:"sha256" pattern:"^[0-9a-f]{64}$"`
	SHA1   string `json:"sha1,omitempty" doc:"For update clients that know no other; filled in by the server"`
	MD5    string `json:"md5,omitempty" doc:"For update clients that know no other; filled in by the server"`
}

// ReleaseRoute is a route of a release; its environment is the one it runs in.
type ReleaseRoute struct {
	Name string    `json:"name" maxLength:"63"`
	Spec RouteSpec `json:"spec"`
}

// Migration is a change of stored data that a release brings.
type Migration struct {
	Name string `json:"name" maxLength:"100"`
	Kind string `json:"kind" enum:"twin,sql" doc:"Of twin documents, or of a database of the solution's own"`
	Up   string `json:"up" maxLength:"100000" doc:"Of twins in jq, such as .tags.site = .tags.location; of a database in SQL"`
	Down string `json:"down,omitempty" maxLength:"100000" doc:"Takes it back"`
	// Database names the one that SQL is for, as whoever runs it knows it.
	Database   string      `json:"database,omitempty" maxLength:"63" doc:"Of SQL: the name of the database; where it is, the host says that runs it"`
	Drops      []string    `json:"drops,omitempty" maxItems:"100" doc:"What it gives up on purpose: tags.old, or TABLE, or TABLE.COLUMN"`
	Invariants []Invariant `json:"invariants,omitempty" maxItems:"50" doc:"What it leaves as it is"`
}

// Release is an immutable set of what runs, on devices and beside them. Equal
// content has an equal digest.
type Release struct {
	Name      string      `json:"name"`    // such as v1.4.0
	Digest    string      `json:"digest"`  // hex SHA-256 of the spec's canonical JSON
	Counter   int64       `json:"counter"` // grows with each release made
	CreatedAt time.Time   `json:"createdAt"`
	CreatedBy string      `json:"createdBy"`
	Spec      ReleaseSpec `json:"spec"`
}

// Releases is the desired document control gives a stamp: what runs there.
// Which release a device is to run follows from it alone: the rollout's where
// that reaches the device, or else the base. Version only grows.
type Releases struct {
	Version     int64  `json:"version"`
	Environment string `json:"environment"`
	// Base is what devices run that no rollout reaches; nil leaves them as they are.
	Base *Release `json:"base,omitempty"`
	// Rollout is a release on its way; nil when none is. When it has reached all
	// it becomes the base; taken away before, its devices go back to the base.
	Rollout *Rollout `json:"rollout,omitempty"`
}

// Rollout is a release on its way onto the devices of a stamp. Devices stand on
// a ring, each at a place its id decides; a rollout begins at a place that its
// own id decides, and its reach is the stretch from there. So a device that
// comes late is reached if its place is, and the first are others each time.
type Rollout struct {
	ID      string  `json:"id"`
	Release Release `json:"release"`
	Wave    int     `json:"wave"` // counted from 1
	Reach   Reach   `json:"reach"`
	// Paused gives no device an order that has none yet.
	Paused bool `json:"paused,omitempty"`
	// Parallel is how many devices work on their orders at once; 0 is no limit.
	Parallel int `json:"parallel,omitempty"`
	// DeadlineSeconds is how long a connected device may take from its order to
	// its word that it runs the release; one that says nothing has failed then.
	DeadlineSeconds int64 `json:"deadlineSeconds,omitempty"`
	// Attempts is how often a device is given the order before it counts as failed.
	Attempts int `json:"attempts,omitempty"`
	// Halt has the stamp stop by itself, whatever becomes of control.
	Halt *Halt `json:"halt,omitempty"`
}

// Reach is how far a rollout has come on a stamp, all waves so far together.
type Reach struct {
	Share float64 `json:"share,omitempty"` // of the stamp's devices, 0 to 1
	Count int64   `json:"count,omitempty"` // or at least so many
	Where string  `json:"where,omitempty"` // and those that match a query condition
}

// Halt is when a stamp gives no more orders of a rollout: of the devices of a
// wave that tried, at least MinDevices, more than Failures failed.
type Halt struct {
	Failures   float64 `json:"failures"`
	MinDevices int64   `json:"minDevices"`
}

// UpdateState is the state of one device in the census of a stamp: every
// device that is to run a release is in exactly one.
type UpdateState string

// The states.
const (
	UpdateDone        UpdateState = "updated"     // it says it runs what it is to run
	UpdatePending     UpdateState = "pending"     // it has an order, or waits for one
	UpdateFailed      UpdateState = "failed"      // it tried as often as it may, or said nothing in time
	UpdateRolledBack  UpdateState = "rolledBack"  // it tried, and went back by itself to what it ran before
	UpdateUnreachable UpdateState = "unreachable" // it has not been connected since it was to have an order
	UpdateExempt      UpdateState = "exempt"      // the release has nothing for it
)

// UpdateStates are all of them.
var UpdateStates = []UpdateState{UpdateDone, UpdatePending, UpdateFailed, UpdateRolledBack, UpdateUnreachable, UpdateExempt}

// Update is where one device stands with what it is to run.
type Update struct {
	DeviceID  string            `json:"deviceId"`
	Stamp     string            `json:"stamp"`
	Release   string            `json:"release"`           // what it is to run
	Rollout   string            `json:"rollout,omitempty"` // empty where the base says so
	Order     int64             `json:"order,omitempty"`   // the last order it was given
	State     UpdateState       `json:"state"`
	Reason    string            `json:"reason"`             // such as downloading, or what the device said went wrong
	Progress  int               `json:"progress,omitempty"` // of 100
	Attempts  int               `json:"attempts,omitempty"`
	Hardware  string            `json:"hardware,omitempty"`
	Running   map[string]string `json:"running,omitempty"` // version by software, as it reports
	Wave      int               `json:"wave,omitempty"`
	OrderedAt *time.Time        `json:"orderedAt,omitempty"`
	UpdatedAt time.Time         `json:"updatedAt"`
}

// ListUpdates asks for a page of the census, in order of device.
type ListUpdates struct {
	State    UpdateState `json:"state,omitempty"` // empty is all
	DeviceID string      `json:"deviceId,omitempty"`
	After    string      `json:"after,omitempty"`
	Limit    int         `json:"limit,omitempty"`
}

// Updates is a page of the census.
type Updates struct {
	Items []Update `json:"items"`
	More  bool     `json:"more"`
}

// UpdateCensus counts the devices of a stamp, or some of them, by state.
type UpdateCensus struct {
	Updated     int64 `json:"updated"`
	Pending     int64 `json:"pending"`
	Failed      int64 `json:"failed"`
	RolledBack  int64 `json:"rolledBack"`
	Unreachable int64 `json:"unreachable"`
	Exempt      int64 `json:"exempt"`
}

// Attempted is how many have come to an end, well or not.
func (c UpdateCensus) Attempted() int64 { return c.Updated + c.Failed + c.RolledBack }

// Failures is how many came to a bad end.
func (c UpdateCensus) Failures() int64 { return c.Failed + c.RolledBack }

// Progress is what a stamp tells of the releases on it, with what it observes
// of itself.
type Progress struct {
	Version  int64        `json:"version"` // of the desired document that it follows
	Base     string       `json:"base,omitempty"`
	Rollout  string       `json:"rollout,omitempty"` // its id
	Wave     int          `json:"wave,omitempty"`
	Devices  UpdateCensus `json:"devices"`  // all of the stamp
	Reached  UpdateCensus `json:"reached"`  // those the rollout reaches so far
	WaveOnly UpdateCensus `json:"waveOnly"` // those that only its last wave reaches
	// ByHardware is Reached for each kind of hardware.
	ByHardware map[string]UpdateCensus `json:"byHardware,omitempty"`
	// Halted says why the stamp gives no more orders by itself.
	Halted string `json:"halted,omitempty"`
	// Updated and Others are how devices do that run the rollout's release, and
	// those that do not, since it began on the stamp.
	Updated Health `json:"updated"`
	Others  Health `json:"others"`
	// Complete says that every device has been looked at since Version came.
	Complete bool `json:"complete"`
}

// Health is what was seen of a group of devices: over so many seconds of
// devices that were connected, so many connections were made anew and so many
// messages were sent.
type Health struct {
	Devices       int64   `json:"devices"`
	DeviceSeconds float64 `json:"deviceSeconds"`
	Reconnects    int64   `json:"reconnects"`
	Messages      int64   `json:"messages"`
}

// UpdateProperty is the property of a twin that is ours: an UpdateOrder in
// desired, an UpdateReport in reported.
const UpdateProperty = "slipway"

// UpdateOrder is what a device is told to run, in its twin's desired
// properties. Software holds only what is for its hardware. Artifacts are at
// UpdatePath on the hub's host.
type UpdateOrder struct {
	Order       int64      `json:"order"` // grows; a device works on the highest it has seen
	Release     string     `json:"release"`
	Digest      string     `json:"digest"`
	Environment string     `json:"environment"` // whose signed metadata names the artifacts
	Software    []Software `json:"software"`
	// Back says that it leads to an earlier release.
	Back bool `json:"back,omitempty"`
}

// UpdatePath is where a device of the hub finds artifacts, by "artifacts/" and
// their hex SHA-256, and signed metadata, by "metadata/" and their file name.
func UpdatePath(deviceID string) string { return "/devices/" + deviceID + "/updates/" }

// The phases of a device with an order, as it reports them.
const (
	OrderAccepted    = "accepted"
	OrderDownloading = "downloading"
	OrderWaiting     = "waiting" // for its maintenance window
	OrderInstalling  = "installing"
	OrderTrial       = "trial"      // it runs the new software and has not confirmed it
	OrderConfirmed   = "confirmed"  // it runs the new software for good
	OrderFailed      = "failed"     // it runs what it ran before, and never ran the new
	OrderRolledBack  = "rolledBack" // it ran the new software, and went back
)

// UpdateReport is what a device says of itself, in its twin's reported
// properties. A device may leave out Order when it only tells what it runs.
type UpdateReport struct {
	Hardware string            `json:"hardware,omitempty"`
	Software map[string]string `json:"software,omitempty"` // version by name, of what runs
	Order    int64             `json:"order,omitempty"`
	Phase    string            `json:"phase,omitempty"`
	Progress int               `json:"progress,omitempty"` // of 100
	Error    string            `json:"error,omitempty"`
}

// ReadPart asks for a part of a file.
type ReadPart struct {
	Name   string `json:"name"`
	Offset int64  `json:"offset,omitempty"`
}

// MaxPart is the most bytes of one part.
const MaxPart = 512 << 10

// Part is a part of a file; it ends where Offset and Data reach Size.
type Part struct {
	Size int64  `json:"size"`
	Data []byte `json:"data"`
}
