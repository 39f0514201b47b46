// Package erasure makes every plane forget a device, or a tenant with all its
// devices, and says with proof what was erased and what remains until when.
//
// An erasure is parts: one device on one plane each. They are kept until they
// are done, so that whatever dies in between it goes on, and a stamp that is
// away is asked again when it is back.
package erasure

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/care"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// The kinds of what is erased.
const (
	Device = "device"
	Tenant = "tenant"
)

// State is where an erasure stands.
type State string

// The states.
const (
	Selecting State = "selecting" // the devices of a tenant are looked up
	Erasing   State = "erasing"
	Closing   State = "closing" // the tenant itself goes, and what was done is stated
	Done      State = "done"
)

// Erasure is a device or tenant that is to be forgotten.
type Erasure struct {
	ID      string         `json:"id"`
	Kind    string         `json:"kind" enum:"device,tenant"`
	Subject string         `json:"subject,omitempty" doc:"Its name, until it is erased here too"`
	Reason  string         `json:"reason"`
	State   State          `json:"state" enum:"selecting,erasing,closing,done"`
	Devices int            `json:"devices" doc:"How many there are to erase"`
	Erased  int            `json:"erased" doc:"How many are erased on every plane"`
	Planes  []PlaneErasure `json:"planes"`
	Problem string         `json:"problem,omitempty" doc:"What it waits for"`
	By      string         `json:"by"`
	At      time.Time      `json:"at"`
	EndedAt *time.Time     `json:"endedAt,omitempty"`

	Salt   string        `json:"-"`
	Cursor cursor        `json:"-"`
	Proof  *proofStarted `json:"-"`
}

// PlaneErasure is what one plane has erased.
type PlaneErasure struct {
	Plane   string           `json:"plane"`
	Removed []link.CareFound `json:"removed,omitempty"`
	Waits   string           `json:"waits,omitempty" doc:"Why it has not erased all"`
}

// cursor is how far the selection of a tenant's devices is.
type cursor struct {
	Peers []string `json:"peers,omitempty"` // still to be asked
	After string   `json:"after,omitempty"` // of the first of them
}

// proofStarted is what the proof is made of once all is erased.
type proofStarted struct {
	Statement string `json:"statement"` // signed
	Key       string `json:"key"`
	Entry     int64  `json:"entry"` // of the audit log
}

// kept is an erasure as it is stored, with what nobody is shown.
type kept struct {
	Erasure
	Salt   string        `json:"salt"`
	Cursor cursor        `json:"cursor"`
	Proof  *proofStarted `json:"proof,omitempty"`
}

func (e Erasure) kept() kept { return kept{e, e.Salt, e.Cursor, e.Proof} }

func (k kept) erasure() Erasure {
	k.Erasure.Salt, k.Erasure.Cursor, k.Erasure.Proof = k.Salt, k.Cursor, k.Proof
	return k.Erasure
}

// object is what it is in the audit log.
func object(kind, subject string) string { return kind + "/" + subject }

// fresh is 32 bytes that nobody guesses.
func fresh() string {
	salt := make([]byte, 32)
	if _, err := rand.Read(salt); err != nil {
		panic(err) // crypto/rand never fails on supported systems
	}
	return hex.EncodeToString(salt)
}

// Commit is what stands for a subject in a statement: whoever knows the name
// can see that it is meant.
func Commit(salt, kind, subject string) string {
	sum := sha256.Sum256([]byte("slipway erasure subject 1\x00" + salt + "\x00" + kind + "\x00" + subject))
	return hex.EncodeToString(sum[:])
}

// Stages of a device's parts, in the order in which they are done.
const (
	stageOff          = iota // provisioning bars it and takes it off its stamp
	stageStamps              // every stamp erases it
	stageProvisioning        // provisioning erases it, and keeps a keyed hash
	stageControl
)

// part is one device on one plane.
type part struct {
	device, peer string
	stage        int
}

// next are the parts that follow one that is done; left are those of its stage
// that are not.
func (p part) next(left int, stamps []string) (more []part) {
	if left > 0 {
		return nil
	}
	switch {
	case p.stage == stageOff && len(stamps) > 0:
		for _, stamp := range stamps {
			more = append(more, part{p.device, link.StampPeer(stamp), stageStamps})
		}
	case p.stage < stageProvisioning:
		more = []part{{p.device, link.ProvisioningPeer, stageProvisioning}}
	case p.stage == stageProvisioning:
		more = []part{{p.device, link.ControlPeer, stageControl}}
	}
	return more
}

// heard takes what a plane says that it has erased so far.
func (e *Erasure) heard(peer string, removed []link.CareFound, waits string) {
	for i := range e.Planes {
		if e.Planes[i].Plane == peer {
			e.Planes[i].Waits = waits
			if total(removed) > total(e.Planes[i].Removed) {
				e.Planes[i].Removed = removed
			}
			return
		}
	}
	e.Planes = append(e.Planes, PlaneErasure{peer, removed, waits})
}

func total(all []link.CareFound) (n int64) {
	for _, f := range all {
		n += f.Count
	}
	return n
}

// Horizon is until when the backups of a plan may hold what there was at a
// time: retention lets go of the last of them by then, and no lock keeps it
// longer.
func Horizon(at time.Time, everySeconds int64, last, daily, weekly, monthly, lockDays int) time.Time {
	days := max(int(everySeconds*int64(last)/86400)+1, daily, 7*weekly, 31*monthly)
	// Chunks are shared within a week, and swept a day later.
	return at.AddDate(0, 0, max(days, lockDays)+8)
}

const maxReason = 500

// checkRequest refuses what cannot be asked for.
func checkRequest(kind, subject, reason string) error {
	switch {
	case kind != Device && kind != Tenant:
		return problem.New(problem.Invalid, "a device or a tenant can be erased, not a %q", kind).At("kind")
	case kind == Device && strings.Contains(subject, "/"):
		return problem.New(problem.Invalid, "a module goes with its device; name the device").At("subject")
	case subject == "" || len(subject) > 128:
		return problem.New(problem.Invalid, "name the %s, in 1 to 128 characters", kind).At("subject")
	case kind == Tenant && subject == link.DefaultTenant:
		return problem.New(problem.Invalid, "the tenant %s is always there; erase its devices one by one", subject).At("subject")
	case strings.TrimSpace(reason) == "" || len(reason) > maxReason:
		return problem.New(problem.Invalid, "say why, in words that name nobody, of at most %d characters", maxReason).At("reason")
	}
	return nil
}

// sum adds what the planes have erased, by kind.
func sum(planes []PlaneErasure) (all []link.CareFound) {
	for _, p := range planes {
		for _, f := range p.Removed {
			all = care.Add(all, f)
		}
	}
	return all
}

func names(stamps []resource.Stamp) []string {
	all := make([]string, len(stamps))
	for i, s := range stamps {
		all[i] = s.Metadata.Name
	}
	return all
}
