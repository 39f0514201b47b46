package link

// DevicesImport takes over devices that exist already, with the credentials
// they have.
var DevicesImport = Call[ImportDevices, ImportedDevices]{"registration.import"}

// MaxImport is how many devices one call takes over.
const MaxImport = 200

// ImportDevices takes over devices into an environment. Each gets an enrolment
// of its own, or is counted to a group that is there, and a place on a stamp.
// Repeating it changes nothing.
type ImportDevices struct {
	Environment string         `json:"environment"`
	Tenant      string         `json:"tenant,omitempty"` // of those that name none; DefaultTenant if nobody is named
	Stamp       string         `json:"stamp,omitempty"`  // of those that name none; empty chooses by allocation
	Group       string         `json:"group,omitempty"`  // enrolment group of those without credentials of their own
	DryRun      bool           `json:"dryRun,omitempty"` // say what would be done, do nothing
	Devices     []ImportDevice `json:"devices"`
}

// ImportDevice is one device as another registry knows it.
type ImportDevice struct {
	DeviceID       string       `json:"deviceId"`
	RegistrationID string       `json:"registrationId,omitempty"` // default is the device id
	Tenant         string       `json:"tenant,omitempty"`
	Stamp          string       `json:"stamp,omitempty"`
	Auth           *Auth        `json:"auth,omitempty"` // its keys or thumbprints; none where a group has them
	Twin           *TwinContent `json:"twin,omitempty"`
}

// The results of taking over a device.
const (
	ImportCreated   = "created"
	ImportUnchanged = "unchanged"
	ImportRefused   = "refused"
)

// ImportedDevice tells what became of one.
type ImportedDevice struct {
	DeviceID string `json:"deviceId"`
	Result   string `json:"result" enum:"created,unchanged,refused"`
	Stamp    string `json:"stamp,omitempty" doc:"Where it has its place"`
	Field    string `json:"field,omitempty" doc:"What is wrong with it"`
	Error    string `json:"error,omitempty" doc:"Why it was refused"`
}

// ImportedDevices are those of a call, in their order.
type ImportedDevices struct {
	Items []ImportedDevice `json:"items"`
}
