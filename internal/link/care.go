package link

import (
	"encoding/json"
	"time"
)

// Calls about what a plane keeps, and of whom. Every plane answers them.
var (
	CarePut       = Call[CarePlan, None]{"care.put"}
	CareLook      = Call[LookCare, CareLooks]{"care.look"} // what would go; nothing does
	CareRunNow    = Call[None, None]{"care.run"}
	CareRuns      = Call[ListCareRuns, CareRunList]{"care.runs"}
	SubjectErase  = Call[EraseSubject, Erased]{"subject.erase"}
	SubjectExport = Feed[ExportSubject, SubjectItem]{"subject.export"}
)

// CarePlan is the desired document of retention that control gives every
// plane. Version only grows. A plane that has none removes nothing.
type CarePlan struct {
	Version    int64          `json:"version"`
	EveryHours int            `json:"everyHours"`
	Paused     bool           `json:"paused,omitempty"`
	Days       map[string]int `json:"days"` // by kind of data; 0 keeps it for good
	Holds      []CareHold     `json:"holds,omitempty"`
}

// CareHold keeps what is known of a device or a tenant, whatever its age.
type CareHold struct {
	Device string `json:"device,omitempty"`
	Tenant string `json:"tenant,omitempty"`
}

// LookCare asks what would go now, were some kinds kept for other numbers of
// days than the plan says.
type LookCare struct {
	Days map[string]int `json:"days,omitempty"`
}

// CareFound is what there is, or was, of one kind that is older than it may be.
type CareFound struct {
	Kind   string     `json:"kind"`
	Count  int64      `json:"count"`
	Oldest *time.Time `json:"oldest,omitempty"`
	Bytes  int64      `json:"bytes,omitempty" doc:"Where it is known"`
}

// CareLooks are what a plane would remove.
type CareLooks struct {
	Version int64       `json:"version"`
	Items   []CareFound `json:"items"`
}

// CareRun is one time that a plane cleaned up.
type CareRun struct {
	Number  int64       `json:"number"`
	BegunAt time.Time   `json:"begunAt"`
	EndedAt *time.Time  `json:"endedAt,omitempty"`
	Asked   bool        `json:"asked,omitempty" doc:"Somebody asked for it; others come by time"`
	Removed []CareFound `json:"removed,omitempty"`
	Problem string      `json:"problem,omitempty" doc:"Why it does not go on; it is tried again"`
}

// ListCareRuns asks for those that ended after one, oldest first.
type ListCareRuns struct {
	After int64 `json:"after"`
}

// CareRunList are runs that have ended, the one under way, and when the next
// is due.
type CareRunList struct {
	Version int64      `json:"version"` // of the plan that the plane has
	Ended   []CareRun  `json:"ended"`
	Last    *CareRun   `json:"last,omitempty"` // the newest, ended or not
	Next    *time.Time `json:"next,omitempty"`
}

// EraseSubject asks a plane to erase what it keeps of a device. Asking again is
// harmless, and tells what the first time found as well.
type EraseSubject struct {
	Erasure string `json:"erasure"`
	Device  string `json:"device"`
}

// Erased says what a plane erased, by kind. More asks for another call.
type Erased struct {
	Removed []CareFound `json:"removed"`
	Now     int64       `json:"now"` // how many by this call
	More    bool        `json:"more,omitempty"`
}

// ExportSubject asks a plane for everything it keeps of a device.
type ExportSubject struct {
	Device string `json:"device"`
}

// SubjectItem is one record, or a part of a file.
type SubjectItem struct {
	Kind string          `json:"kind"`
	Row  json.RawMessage `json:"row,omitempty"`
	File string          `json:"file,omitempty"` // its name, in every part of it
	Data []byte          `json:"data,omitempty"`
}

// Calls by which provisioning keeps a device from registering.
var (
	DeviceBar   = Call[BarDevice, BarState]{"device.bar"}
	DeviceUnbar = Call[BarDevice, None]{"device.unbar"}
)

// BarDevice keeps a device from registering until it is unbarred. Repeating it
// is harmless.
type BarDevice struct {
	DeviceID string `json:"deviceId"`
	Reason   string `json:"reason,omitempty"`
	Remove   bool   `json:"remove,omitempty"` // take it off its stamp, too
	Forget   bool   `json:"forget,omitempty"` // keep a keyed hash of its registration id, and nothing else
}

// BarState is where a device stands that was barred.
type BarState struct {
	Registered  bool   `json:"registered"`      // provisioning has a record of it
	Off         bool   `json:"off"`             // it is on no stamp, nor on its way to one
	Stamp       string `json:"stamp,omitempty"` // where it still is
	Environment string `json:"environment,omitempty"`
	Tenant      string `json:"tenant,omitempty"`
	Problem     string `json:"problem,omitempty"` // why its removal does not go on
}
