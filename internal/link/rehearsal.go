package link

import (
	"encoding/json"
	"time"
)

// Reads is what the program of a release expects of stored data, so that it can
// be held against data as it was before its migrations and as it is after those
// of the next release.
type Reads struct {
	Twin    json.RawMessage `json:"twin,omitempty" doc:"A JSON Schema that every twin is to meet: {\"tags\", \"properties\": {\"desired\", \"reported\"}}"`
	Queries []ReadQuery     `json:"queries,omitempty" maxItems:"200" doc:"Statements of the program, which are to run; what they change is taken back"`
}

// ReadQuery is a statement that a program sends to a database of the solution.
type ReadQuery struct {
	Database string `json:"database" maxLength:"63"`
	SQL      string `json:"sql" maxLength:"10000"`
}

// Invariant is what a migration leaves as it is.
type Invariant struct {
	Name  string `json:"name" maxLength:"100"`
	Holds string `json:"holds" maxLength:"10000" doc:"Of twins: a condition in jq, true afterwards of every twin of which it was true before. Of SQL: a query that answers the same before and after"`
}

// RehearsalLimits are what a rehearsed migration may take.
type RehearsalLimits struct {
	WaitSeconds  float64 `json:"waitSeconds"`  // how long others may wait for it
	TotalSeconds float64 `json:"totalSeconds"` // all migrations together
	Growth       float64 `json:"growth"`       // of a database, as a share of its size before
}

// RehearsalWork is what a host needs to know of a rehearsal to run it.
type RehearsalWork struct {
	Rehearsal   string          `json:"rehearsal"`
	Environment string          `json:"environment"`
	Stamp       string          `json:"stamp"`
	Release     Release         `json:"release"`
	Running     *Release        `json:"running,omitempty"` // what runs there, whose program reads the same data
	Masking     json.RawMessage `json:"masking"`           // the policy
	Databases   []string        `json:"databases,omitempty"`
	Limits      RehearsalLimits `json:"limits"`
}

// RehearsalStep is a part of a rehearsal with its time.
type RehearsalStep struct {
	Name         string    `json:"name"`
	BegunAt      time.Time `json:"begunAt"`
	Milliseconds int64     `json:"milliseconds"`
	Detail       string    `json:"detail,omitempty"`
}

// RehearsalCheck is something that was looked at.
type RehearsalCheck struct {
	Name      string `json:"name"`         // mask, leaks, canaries, migrate, kept, invariants, old code, new code, way back, destroyed
	On        string `json:"on,omitempty"` // twins, slipway, or a database of the solution
	Migration string `json:"migration,omitempty"`
	Verdict   string `json:"verdict"`
	Detail    string `json:"detail"`
}

// RehearsedData is a database as it was rehearsed on.
type RehearsedData struct {
	Name    string           `json:"name"` // stamp, or that of the solution
	Engine  string           `json:"engine"`
	Schema  int64            `json:"schema,omitempty"` // of a stamp: its last migration
	Before  int64            `json:"before"`           // bytes
	After   int64            `json:"after"`
	Rows    map[string]int64 `json:"rows"`            // of each table, before
	Empty   []string         `json:"empty,omitempty"` // tables that were left empty
	RowsNow map[string]int64 `json:"rowsNow,omitempty"`
}

// HeldLock is a lock that a migration held.
type HeldLock struct {
	Table        string `json:"table"`
	Mode         string `json:"mode"`
	Milliseconds int64  `json:"milliseconds"`
}

// RehearsedMigration is a migration with what was measured of it.
type RehearsedMigration struct {
	Name         string          `json:"name"`
	Kind         string          `json:"kind"` // slipway, twin, sql
	On           string          `json:"on"`
	Milliseconds int64           `json:"milliseconds"`
	Rows         int64           `json:"rows"`                 // it changed
	WaitMillis   int64           `json:"waitMillis"`           // the longest that others waited meanwhile
	WaitedFor    string          `json:"waitedFor,omitempty"`  // and for what
	Locks        []HeldLock      `json:"locks,omitempty"`      // those that stop others
	Statements   []RehearsalStep `json:"statements,omitempty"` // of SQL
	Before       int64           `json:"before"`               // bytes
	After        int64           `json:"after"`
}

// RehearsedMasking is what masking did.
type RehearsedMasking struct {
	Values    map[string]int64 `json:"values"`            // by what was done with them
	Unknown   map[string]int64 `json:"unknown,omitempty"` // fields without a rule, with how often each was met
	Planted   int              `json:"planted"`           // canaries
	Scanned   int64            `json:"scanned"`           // bytes of the copies
	Looked    int64            `json:"looked"`            // values of the copies that were held against what was masked
	Originals int64            `json:"originals"`         // values that were masked, and looked for
	Leaks     []string         `json:"leaks,omitempty"`   // where something was found: never what
}

// RehearsalEvidence is what a rehearsal has shown, by the host that ran it. It
// has nothing of production in it but names and numbers.
type RehearsalEvidence struct {
	Rehearsal  string               `json:"rehearsal"`
	Digest     string               `json:"digest"`            // of the release
	Running    string               `json:"running,omitempty"` // digest of the release that ran there
	Host       string               `json:"host"`
	Version    string               `json:"version"`
	BegunAt    time.Time            `json:"begunAt"`
	EndedAt    time.Time            `json:"endedAt"`
	Source     string               `json:"source"`           // backup, or database
	Backup     string               `json:"backup,omitempty"` // its id
	TakenAt    time.Time            `json:"takenAt"`          // of when the data is
	Devices    int64                `json:"devices"`
	Steps      []RehearsalStep      `json:"steps"`
	Masking    RehearsedMasking     `json:"masking"`
	Databases  []RehearsedData      `json:"databases"`
	Migrations []RehearsedMigration `json:"migrations"`
	Checks     []RehearsalCheck     `json:"checks"`
	Destroyed  bool                 `json:"destroyed"`         // the copies are gone
	Failure    string               `json:"failure,omitempty"` // why it could not be carried through
}
