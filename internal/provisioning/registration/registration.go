// Package registration is the provisioning record of each device: where it
// belongs, where it is, and how it gets from one place to the next. It is the
// state machine behind "at no instant valid in two stamps": a device is put on
// a stamp only after the stamp it was on has confirmed that it is gone, and
// each assignment has a number (its epoch) that no stamp takes twice.
package registration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// moves lists where a registration can go from each phase.
var moves = map[link.Phase][]link.Phase{
	link.PhaseWaiting:  {link.PhaseCreating},
	link.PhaseCreating: {link.PhaseAssigned, link.PhaseRemoving},
	link.PhaseAssigned: {link.PhaseRemoving},
	link.PhaseRemoving: {link.PhaseWaiting},
}

// The steps of the transition log.
const (
	stepRegistered = "registered" // the device asked for the first time
	stepRequested  = "requested"  // a move, or another target, was asked for
	stepCreating   = "creating"   // a place is taken, the identity is being made
	stepAssigned   = "assigned"   // the identity is there
	stepRemoving   = "removing"   // the identity is being taken away
	stepRemoved    = "removed"    // the stamp has confirmed that it is gone
)

// The substatus of an assignment, as the protocol names them.
const (
	initialAssignment = "initialAssignment"
	dataMigrated      = "deviceDataMigrated"
	dataReset         = "deviceDataReset"
	sameAssignment    = "reprovisionedToInitialAssignment"
)

// Record is a registration as it is stored.
type Record struct {
	Key            string // the registration id in lower case
	RegistrationID string // as the device first spelled it
	DeviceID       string
	EnrollmentKind link.EnrollmentKind
	Enrollment     string
	Tenant         string
	Environment    string // where it is or is going
	Target         string // set by a move; outranks the enrolment's environment
	Home           string // the environment of Stamp
	Stamp          string // empty while waiting
	Phase          link.Phase
	Epoch          int64
	Version        int64
	Auth           link.Auth
	Twin           *link.TwinContent // what goes along to the next stamp
	Substatus      string
	Move           int64  // the latest move that touched it, or 0
	Salt           string // names its operations beyond guessing
	Operation      int64
	Open           bool // a device waits for the latest operation
	Attempts       int
	Problem        string
	Due            *time.Time // when the next step is to be tried
	Transitions    int64
	AssignedAt     *time.Time
	CreatedAt      time.Time
	UpdatedAt      time.Time

	Extra Extra

	log []link.Transition // to be written with the record
}

// Extra is what goes with some registrations only.
type Extra struct {
	Sealed []byte   `json:"sealed,omitempty"` // the hub's key, for the device's TPM to open
	Choice *Choice  `json:"choice,omitempty"` // what a webhook decided at the latest registration
	Bound  string   `json:"bound,omitempty"`  // the stamp that a move sends it to
	Chain  [][]byte `json:"chain,omitempty"`  // the certificate issued last, leaf first, in DER
}

// Choice is what a webhook decided for a device.
type Choice struct {
	Stamp       string            `json:"stamp"`
	InitialTwin *link.InitialTwin `json:"initialTwin,omitempty"`
	Payload     json.RawMessage   `json:"payload,omitempty"` // handed to the device
}

// Ask is what a device sends with its wish to be registered.
type Ask struct {
	Payload json.RawMessage // for a webhook
	CSR     []byte          // a signing request, in DER
}

// enter moves the record to a phase and notes that in its log.
func (r *Record) enter(phase link.Phase, step, reason string, now time.Time) error {
	if !slices.Contains(moves[r.Phase], phase) {
		return fmt.Errorf("a registration does not go from %s to %s", r.Phase, phase)
	}
	r.Phase = phase
	r.Attempts, r.Problem, r.Due = 0, "", &now
	r.note(step, reason, now)
	return nil
}

func (r *Record) note(step, reason string, now time.Time) {
	r.Transitions++
	t := link.Transition{At: now, Step: step, Environment: r.Home, Stamp: r.Stamp, Epoch: r.Epoch, Reason: reason}
	if r.Home == "" {
		t.Environment = r.Environment
	}
	if r.Move != 0 {
		t.Move = moveID(r.Move)
	}
	r.log = append(r.log, t)
}

// place takes the record to a stamp that was chosen for it.
func (r *Record) place(stamp link.Stamp, now time.Time) error {
	r.Epoch++
	r.Stamp, r.Home = stamp.Name, stamp.Environment
	return r.enter(link.PhaseCreating, stepCreating, "", now)
}

// assigned notes that the stamp has the identity.
func (r *Record) assigned(now time.Time) error {
	switch {
	case r.Epoch == 1:
		r.Substatus = initialAssignment
	case r.Twin != nil:
		r.Substatus = dataMigrated
	default:
		r.Substatus = dataReset
	}
	if err := r.enter(link.PhaseAssigned, stepAssigned, "", now); err != nil {
		return err
	}
	r.AssignedAt, r.Twin, r.Due, r.Open, r.Extra.Bound = &now, nil, nil, false, ""
	return nil
}

// confirmed notes that the stamp has the credentials of an assigned device:
// one that registered again and stays, or whose keys were renewed.
func (r *Record) confirmed() {
	if r.Open {
		r.Substatus = sameAssignment
	}
	r.Open, r.Due, r.Attempts, r.Problem = false, nil, 0, ""
}

// leave begins to take the device off its stamp.
func (r *Record) leave(reason string, now time.Time) error {
	if r.Phase == link.PhaseRemoving {
		return nil
	}
	return r.enter(link.PhaseRemoving, stepRemoving, reason, now)
}

// left notes that the stamp has confirmed the removal. keep says whether the
// twin goes along; one that never reached the stamp stays with the record.
func (r *Record) left(receipt link.RemovedIdentity, keep bool, reason string, now time.Time) error {
	if receipt.Existed && receipt.Twin != nil {
		r.Twin = receipt.Twin
	}
	if !keep {
		r.Twin = nil
	}
	if err := r.enter(link.PhaseWaiting, stepRemoved, reason, now); err != nil {
		return err
	}
	r.Stamp, r.Home, r.AssignedAt = "", "", nil
	if !r.Open {
		r.Due = nil
	}
	return nil
}

// failed notes that a step did not work and when to try again.
func (r *Record) failed(err error, wait time.Duration, now time.Time) {
	due := now.Add(wait)
	r.Attempts++
	r.Problem, r.Due = problem.Of(err).Error(), &due
}

// wanted is the environment the device belongs to: what a move said, else what
// the enrolment says; a policy of never keeps it where it is.
func (r *Record) wanted(spec link.EnrollmentSpec) string {
	switch {
	case r.Target != "":
		return r.Target
	case spec.Reprovision == link.ReprovisionNever && r.Environment != "":
		return r.Environment
	}
	return spec.Environment
}

// stays reports whether a device that registers again keeps its stamp.
func (r *Record) stays(stamp link.Stamp, known bool, spec link.EnrollmentSpec) bool {
	if spec.Reprovision == link.ReprovisionNever && r.Target == "" {
		return true
	}
	return known && stamp.State != link.StampClosed && stamp.Environment == r.Environment
}

// keepsTwin reports whether the twin goes along when the device changes stamps.
func keepsTwin(spec link.EnrollmentSpec) bool { return spec.Reprovision != link.ReprovisionReset }

// operationID names the latest operation.
func (r *Record) operationID() string { return fmt.Sprintf("%s.%x", r.Salt, r.Operation) }

// ownsOperation reports whether id names an operation of this registration.
func (r *Record) ownsOperation(id string) bool {
	salt, number, ok := strings.Cut(id, ".")
	if !ok || salt != r.Salt {
		return false
	}
	var n int64
	_, err := fmt.Sscanf(number, "%x", &n)
	return err == nil && n >= 1 && n <= r.Operation
}

// shown is the record as the other planes see it.
func (r *Record) shown() link.Registration {
	return link.Registration{
		RegistrationID: r.RegistrationID, DeviceID: r.DeviceID, Enrollment: r.Enrollment, EnrollmentKind: string(r.EnrollmentKind),
		Tenant: r.Tenant, Environment: r.Environment, Stamp: r.Stamp, Phase: r.Phase, Epoch: r.Epoch, AssignedAt: r.AssignedAt,
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, Attempts: r.Attempts, Problem: r.Problem,
	}
}

// backoff is how long to wait after a number of failures in a row, with
// jitter in [0, 1): steps are tried for ever, but ever less often.
func backoff(attempts int, jitter float64) time.Duration {
	ceiling := time.Minute
	if attempts < 8 {
		ceiling = 250 * time.Millisecond << attempts
	}
	return time.Duration(float64(ceiling) * (0.5 + jitter/2))
}
