package link

import (
	"cmp"
	"time"
)

// Directory is the desired document control gives provisioning: every
// environment and stamp devices may be sent to. Version only grows.
type Directory struct {
	Version      int64         `json:"version"`
	Environments []Environment `json:"environments"`
	Stamps       []Stamp       `json:"stamps"`
	Tenants      []Tenant      `json:"tenants,omitempty"`
	// RevokedPeers are serials of certificates, in hex, whose owners the servers
	// of the link do not let in.
	RevokedPeers []string `json:"revokedPeers,omitempty"`
}

// Environment is what provisioning needs to know of one environment.
type Environment struct {
	Name         string    `json:"name"`
	PromotesFrom string    `json:"promotesFrom,omitempty"`
	AutoMove     *AutoMove `json:"autoMove,omitempty"`
}

// AutoMove is a rule that moves a device on once its checks pass.
type AutoMove struct {
	To string `json:"to"` // the environment passing devices go to
	// Where is a query condition, for example "properties.reported.selfTest = 'ok'".
	Where string `json:"where,omitempty"`
	// MinMessages is how many telemetry messages the device must have sent here.
	MinMessages int64 `json:"minMessages,omitempty"`
	// Connected demands an open connection at the time of the check.
	Connected bool `json:"connected,omitempty"`
}

// Admission counts arrivals at a stamp: those let in, those told to come back,
// the times that were promised to them, and what became of the promises.
type Admission struct {
	Admitted uint64 `json:"admitted" doc:"Connections let in"`
	Refused  uint64 `json:"refused" doc:"Connections told to come back"`
	Promised uint64 `json:"promised" doc:"Times promised to those"`
	Kept     uint64 `json:"kept" doc:"Connections let in at their time"`
	Broken   uint64 `json:"broken" doc:"Connections that came at their time and were told another"`
	Waiting  int    `json:"waiting" doc:"Promises that are out"`
}

// StampState says whether a stamp takes new devices.
type StampState string

// The states of a stamp that issue assignments: only an open one does.
const (
	StampOpen     StampState = "open"
	StampDraining StampState = "draining" // keeps its devices, takes none
	StampClosed   StampState = "closed"   // devices that register again are sent elsewhere
)

// Stamp is what provisioning needs to know of one stamp.
type Stamp struct {
	Name        string     `json:"name"`
	Environment string     `json:"environment"`
	Region      string     `json:"region"`
	Host        string     `json:"host"`     // told to devices; with ":port" unless it is 8883
	Capacity    int        `json:"capacity"` // devices at most
	Weight      int        `json:"weight"`   // share of weighted allocation; 0 counts as 1
	State       StampState `json:"state"`
	// Tenants are the only ones whose devices it takes; none means all.
	Tenants []string `json:"tenants,omitempty"`
	// Local says that control starts it on its own machine.
	Local bool `json:"local,omitempty"`
}

// Plus adds what another process of the stamp counts.
func (a *Admission) Plus(b *Admission) *Admission {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	return &Admission{
		Admitted: a.Admitted + b.Admitted, Refused: a.Refused + b.Refused, Promised: a.Promised + b.Promised,
		Kept: a.Kept + b.Kept, Broken: a.Broken + b.Broken, Waiting: a.Waiting + b.Waiting,
	}
}

// StampLimits bound what one process of a stamp takes on, whatever it holds.
type StampLimits struct {
	Connections       int     `json:"connections,omitempty" doc:"Open connections of devices and back ends"`
	Sockets           int     `json:"sockets,omitempty" doc:"Open sockets of all kinds, of which HTTPS may be half"`
	ConnectsPerSecond float64 `json:"connectsPerSecond,omitempty" doc:"Connections admitted each second; others are told when to come back"`
	MessagesPerSecond float64 `json:"messagesPerSecond,omitempty" doc:"Telemetry taken each second; more waits; 0 is no limit"`
	TelemetryBytes    int64   `json:"telemetryBytes,omitempty" doc:"Telemetry kept; the oldest goes first"`
	TelemetryHours    float64 `json:"telemetryHours,omitempty" doc:"How long telemetry is kept"`
}

// Observed is what a stamp tells of itself, every second or so.
type Observed struct {
	Stamp     string    `json:"stamp"`
	At        time.Time `json:"at"`
	Devices   int64     `json:"devices"`
	Connected int64     `json:"connected"`
	Sockets   int64     `json:"sockets,omitempty"` // open, of all kinds
	Messages  uint64    `json:"messages"`          // telemetry accepted since the stamp was created
	Rate      float64   `json:"rate"`              // telemetry messages per second, over the last seconds
	Refused   uint64    `json:"refused"`           // connections refused since start
	Throttled uint64    `json:"throttled"`         // connections told to come back later since start
	// Admission is how connections fared at the door since start.
	Admission   *Admission `json:"admission,omitempty"`
	OverQuota   uint64     `json:"overQuota"` // telemetry refused since start, as its tenant sent too much
	BytesStored uint64     `json:"bytesStored"`
	// Releases is what runs on its devices; told by the process that leads.
	Releases *Progress   `json:"releases,omitempty"`
	Limits   StampLimits `json:"limits"`
	Host     string      `json:"host,omitempty"` // what devices are to be told, where the stamp runs by itself
	// Of the process that tells this; a stamp may be several.
	Process   string    `json:"process,omitempty"` // empty where it is the only one
	Leads     bool      `json:"leads,omitempty"`   // it does what one process does for all
	Version   string    `json:"version,omitempty"`
	StartedAt time.Time `json:"startedAt"`
}
