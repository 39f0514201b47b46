// Package decommission takes devices out of use for good: each is barred from
// registering, told to wipe itself, and taken off its stamp. It stays barred,
// as a tombstone, until somebody takes that back.
package decommission

import (
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// State is where a decommissioning stands.
type State string

// The states. Nothing follows Done unless somebody takes it back, and nothing
// follows Lifted.
const (
	Barring  State = "barring"        // it may not register any more
	Wiping   State = "wiping"         // it is told to wipe itself
	Removing State = "removing"       // its identity is taken off its stamp
	Done     State = "decommissioned" // it is a tombstone
	Lifting  State = "lifting"        // it is to be let register again
	Lifted   State = "lifted"         // it may register again
)

// The outcomes of a wipe order.
const (
	Wiped       = "wiped"       // the device says that it has wiped itself
	Refused     = "refused"     // it answered that it has not
	Unreachable = "unreachable" // it did not answer in time
	Skipped     = "skipped"     // it was not to be asked, or is on no stamp
)

// Decommission is a device on its way out of use.
type Decommission struct {
	ID          string     `json:"id"`
	Device      string     `json:"device"`
	Environment string     `json:"environment,omitempty" doc:"Where it was"`
	Stamp       string     `json:"stamp,omitempty" doc:"Where it was"`
	Tenant      string     `json:"tenant,omitempty"`
	Reason      string     `json:"reason"`
	State       State      `json:"state" enum:"barring,wiping,removing,decommissioned,lifting,lifted"`
	Wipe        Wipe       `json:"wipe"`
	Problem     string     `json:"problem,omitempty" doc:"What the present step waits for"`
	By          string     `json:"by"`
	At          time.Time  `json:"at"`
	BarredAt    *time.Time `json:"barredAt,omitempty" doc:"Since when it may not register"`
	RemovedAt   *time.Time `json:"removedAt,omitempty" doc:"When it was off its stamp"`
	LiftedAt    *time.Time `json:"liftedAt,omitempty"`
	LiftedBy    string     `json:"liftedBy,omitempty"`
	Lifting     string     `json:"liftReason,omitempty"`
}

// Wipe is the order to a device to wipe itself, and what became of it.
type Wipe struct {
	Seconds int64      `json:"seconds" doc:"How long the device is waited for; 0 does not ask it"`
	Until   *time.Time `json:"until,omitempty"`
	Tries   int        `json:"tries,omitempty" doc:"How often it was tried to tell the device"`
	Next    *time.Time `json:"next,omitempty" doc:"When that is tried again"`
	Outcome string     `json:"outcome,omitempty" enum:"wiped,refused,unreachable,skipped"`
	Status  int        `json:"status,omitempty" doc:"What the device answered"`
	Answer  string     `json:"answer,omitempty" doc:"What the device answered with it"`
	At      *time.Time `json:"at,omitempty"`
}

// Facts are what is known of a device when a step is taken.
type Facts struct {
	Barred bool // provisioning has barred it
	Off    bool // it is on no stamp
	Free   bool // it is barred no more
	Answer *Answer
	Wait   string // what the step waits for, where it does
}

// Answer is what a device said to the wipe order.
type Answer struct {
	Status  int
	Payload string
}

// Action is what a state wants done.
type Action string

// The actions.
const (
	Nothing Action = ""
	Bar     Action = "bar"
	Order   Action = "wipe"
	Remove  Action = "remove"
	Unbar   Action = "unbar"
)

// Action is what is to be done next.
func (d Decommission) Action() Action {
	return map[State]Action{Barring: Bar, Wiping: Order, Removing: Remove, Lifting: Unbar}[d.State]
}

// Active reports whether there is something left to do.
func (d Decommission) Active() bool { return d.Action() != Nothing }

// Step is where a decommissioning stands after facts have come in.
func Step(now time.Time, d Decommission, f Facts) Decommission {
	d.Problem = f.Wait
	switch d.State {
	case Barring:
		if f.Barred {
			return barred(now, d, f)
		}
	case Wiping:
		return asked(now, d, f)
	case Removing:
		if f.Off {
			d.State, d.RemovedAt, d.Problem = Done, &now, ""
		}
	case Lifting:
		if f.Free {
			d.State, d.LiftedAt, d.Problem = Lifted, &now, ""
		}
	}
	return d
}

// barred goes on once the device may not register: to the order, where it is
// to be asked and can be.
func barred(now time.Time, d Decommission, f Facts) Decommission {
	d.BarredAt, d.Problem = &now, ""
	if d.Wipe.Seconds == 0 || f.Off {
		d.State, d.Wipe.Outcome = Removing, Skipped
		return d
	}
	until := now.Add(time.Duration(d.Wipe.Seconds) * time.Second)
	d.State, d.Wipe.Until = Wiping, &until
	return d
}

// asked goes on once the device has answered, or nobody waits for it longer.
func asked(now time.Time, d Decommission, f Facts) Decommission {
	switch {
	case f.Answer != nil && f.Answer.Status >= 200 && f.Answer.Status < 300:
		d.Wipe.Outcome = Wiped
	case f.Answer != nil:
		d.Wipe.Outcome = Refused
	case f.Off || !now.Before(*d.Wipe.Until):
		d.Wipe.Outcome = Unreachable
	default:
		next := now.Add(min(firstWait<<min(d.Wipe.Tries, 10), longestWait))
		if next.After(*d.Wipe.Until) {
			next = *d.Wipe.Until
		}
		d.Wipe.Next = &next
		return d
	}
	if f.Answer != nil {
		d.Wipe.Status, d.Wipe.Answer = f.Answer.Status, f.Answer.Payload
	}
	d.State, d.Wipe.At, d.Wipe.Next, d.Problem = Removing, &now, nil, ""
	return d
}

// How soon a device that was not reached is told again.
const (
	firstWait   = 500 * time.Millisecond
	longestWait = 30 * time.Second
)

// Due reports whether the present step is to be tried now.
func (d Decommission) Due(now time.Time) bool {
	return d.Active() && (d.State != Wiping || d.Wipe.Next == nil || !now.Before(*d.Wipe.Next))
}

// Lift takes a decommissioning back. One whose device is being taken off its
// stamp goes on until that is done.
func Lift(d Decommission, by, reason string) (Decommission, error) {
	switch d.State {
	case Lifting, Lifted:
		return d, problem.New(problem.Conflict, "%s was taken back already", d.ID)
	case Removing:
		return d, problem.New(problem.Conflict, "%s is being taken off its stamp; take it back once it is decommissioned", d.Device)
	}
	d.State, d.LiftedBy, d.Lifting, d.Problem = Lifting, by, reason, ""
	return d, nil
}
