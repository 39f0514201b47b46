package software

import (
	"fmt"
	"reflect"
	"time"

	"github.com/slipway/slipway/internal/link"
)

// Step is where a device stands between the orders it is given.
type Step string

// The steps.
const (
	Queued  Step = "queued" // it is to be given an order as soon as that may be
	Away    Step = "away"   // it is to be given one once it connects
	Working Step = "works"  // it was given one, and works on it
	Resting Step = "rests"  // nothing is to be done
)

// Standing is where a device stands with what it is to run.
type Standing struct {
	Spot
	Rollout   string // that reaches it; empty where the base is for it
	Wave      int
	Target    string // digest of the release it is to run; empty where none is
	Name      string // of that release
	Given     string // digest of the release that its twin tells of
	GivenFor  string // the hardware that was chosen for
	Back      bool
	Order     int64
	Attempts  int
	Step      Step
	State     link.UpdateState
	Reason    string
	Progress  int
	Hardware  string
	Running   map[string]string
	OrderedAt *time.Time
	// The clock of its deadline: Left of it remained when it was started at
	// Since, nil while it stands. DueAt is when somebody has to look.
	Since     *time.Time
	Left      time.Duration
	DueAt     *time.Time
	SeenAt    *time.Time // when it last asked without a connection
	UpdatedAt time.Time

	edition int64
}

// Target is what a device is to run, and under which terms.
type Target struct {
	Release  *link.Release // nil leaves the device as it is
	Rollout  string
	Wave     int
	Attempts int           // how often the order may be given
	Deadline time.Duration // from an order to the word that it is done
	// Open says that an order may be given now.
	Open bool
}

func (t Target) digest() string {
	if t.Release == nil {
		return ""
	}
	return t.Release.Digest
}

func (t Target) name() string {
	if t.Release == nil {
		return ""
	}
	return t.Release.Name
}

// Facts are what is known of a device at a moment.
type Facts struct {
	Report link.UpdateReport
	// Contact says that it is connected, or asks again and again.
	Contact bool
	// Given is the release its twin tells of; nil where that is none.
	Given *link.Release
	// Seen is the highest order that its twin holds, from here or elsewhere.
	Seen int64
}

// waits is why a device has no order yet, to people.
const waits = "waits for its turn"

// Next is where a device stands once somebody has looked at it. give says that
// it is to be told anew what to run: then Given follows.
func Next(s Standing, f Facts, t Target, now time.Time) (after Standing, give bool) {
	after = s
	after.Rollout, after.Wave = t.Rollout, t.Wave
	after.Running = f.Report.Software
	if f.Report.Hardware != "" {
		after.Hardware = f.Report.Hardware
	}
	wanted := For(t.Release, after.Hardware)
	if s.State == "" || s.Target != t.digest() || !sameSoftware(wanted, For(t.Release, s.Hardware)) {
		after.begin(t, wanted)
	}
	after.Name = t.name()
	switch {
	case t.Release == nil:
		after.rest(link.UpdateExempt, "nothing is to run here yet")
	case len(wanted) == 0:
		give = after.pass(t)
	default:
		after.hear(f.Report, t, wanted)
		give = after.wait(f.Contact, t)
		if give {
			after.give(f, t, now)
		}
		after.tick(f.Contact, t, now)
	}
	return after, give
}

// begin has the device start towards a target, with what it was told so far.
func (s *Standing) begin(t Target, wanted []link.Software) {
	s.Target = t.digest()
	s.Attempts, s.Progress, s.Since, s.DueAt = 0, 0, nil, nil
	s.Step, s.State, s.Reason = Queued, link.UpdatePending, waits
	if t.Release == nil || len(wanted) == 0 {
		return
	}
	switch {
	case s.told() && sameSoftware(For(t.Release, s.GivenFor), wanted):
		s.Step, s.Attempts, s.Left, s.Reason = Working, 1, t.Deadline, "ordered"
	case s.Given == "" && len(t.Release.Spec.Configuration) == 0 && runs(s.Running, wanted):
		s.rest(link.UpdateDone, "it ran this already")
	}
}

// told reports whether the twin holds an order for the target.
func (s *Standing) told() bool { return s.Given == s.Target && s.Order > 0 }

func sameSoftware(a, b []link.Software) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}

// pass has a device that the release has nothing for take its configuration.
func (s *Standing) pass(t Target) (give bool) {
	give = s.Given != s.Target && t.Open
	told := s.Given == s.Target || give
	s.rest(link.UpdateExempt, s.exemption(t.Release))
	if give {
		s.Given, s.GivenFor, s.Back = s.Target, s.Hardware, false
	}
	if !told {
		s.Step = Queued
	}
	return give
}

func (s *Standing) exemption(r *link.Release) string {
	switch {
	case len(r.Spec.Software) == 0:
		return "the release has no software"
	case s.Hardware == "":
		return "it has not said what hardware it is, and the release is for some kinds only"
	}
	return fmt.Sprintf("the release has nothing for hardware %s", s.Hardware)
}

// hear takes the device's word. What it says of earlier orders counts for
// nothing.
func (s *Standing) hear(r link.UpdateReport, t Target, wanted []link.Software) {
	mine := s.told() && r.Order == s.Order
	ended := mine && s.Step != Queued && s.Step != Away
	running := runs(r.Software, wanted)
	switch {
	case s.Step == Resting && s.State == link.UpdateDone:
		if name, version, found := strays(r.Software, wanted); found {
			s.Attempts, s.Progress = 0, 0
			s.Step, s.State, s.Reason = Queued, link.UpdatePending, fmt.Sprintf("it reports %s %s again", name, version)
		}
	case !s.told():
	case running && (r.Phase == "" || mine && r.Phase == link.OrderConfirmed):
		s.rest(link.UpdateDone, "it runs the release")
	case ended && r.Phase == link.OrderFailed:
		s.fail(link.UpdateFailed, reasonOf(r, "the device says that it failed"), t)
	case ended && r.Phase == link.OrderRolledBack:
		s.fail(link.UpdateRolledBack, reasonOf(r, "the device went back to what it ran before"), t)
	case mine && s.Step == Working && r.Phase == link.OrderConfirmed:
		s.Reason = "confirmed, but it reports other versions"
	case mine && s.Step == Working && r.Phase != "":
		s.Reason, s.Progress = reasonOf(r, r.Phase), r.Progress
	}
}

func reasonOf(r link.UpdateReport, otherwise string) string {
	switch {
	case r.Error == "":
		return otherwise
	case r.Phase == link.OrderFailed || r.Phase == link.OrderRolledBack:
		return r.Error
	}
	return r.Phase + ": " + r.Error
}

// fail ends an attempt. A device that has others left waits for the next one.
func (s *Standing) fail(state link.UpdateState, reason string, t Target) {
	if s.Step == Resting || s.Attempts >= t.Attempts {
		s.rest(state, reason)
		return
	}
	s.Step, s.State, s.Progress = Queued, link.UpdatePending, 0
	s.Reason = fmt.Sprintf("attempt %d of %d: %s", s.Attempts, t.Attempts, reason)
	s.Since, s.DueAt = nil, nil
}

func (s *Standing) rest(state link.UpdateState, reason string) {
	s.Step, s.State, s.Reason, s.Since, s.DueAt = Resting, state, reason, nil, nil
	if state == link.UpdateDone {
		s.Progress = 100
	}
}

// wait says whether a device that is to have an order gets it now. What a
// rollout brings is for devices that are there; back to the base every twin
// leads at once.
func (s *Standing) wait(contact bool, t Target) (give bool) {
	if s.Step != Queued && s.Step != Away {
		return false
	}
	if t.Rollout != "" && !contact {
		if s.Step == Queued {
			s.Step, s.Since, s.DueAt = Away, nil, nil
		}
		return false
	}
	if s.Step == Away {
		s.Step, s.State, s.DueAt = Queued, link.UpdatePending, nil
	}
	return t.Open
}

// orderEpoch is when orders began to be counted, so that they fit in 31 bits
// for as long as anybody looks.
var orderEpoch = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

func orderAt(now time.Time) int64 { return int64(now.Sub(orderEpoch) / time.Second) }

// give notes a new order. Its number is greater than any that the device had on
// this stamp or another.
func (s *Standing) give(f Facts, t Target, now time.Time) {
	if s.Given != s.Target {
		s.Back = f.Given != nil && t.Release.Counter < f.Given.Counter
	}
	s.Order = max(s.Order+1, f.Seen+1, orderAt(now))
	s.Attempts++
	s.Step, s.State, s.Reason, s.Progress = Working, link.UpdatePending, "ordered", 0
	s.Given, s.GivenFor = s.Target, s.Hardware
	s.OrderedAt, s.Since, s.Left, s.DueAt = &now, nil, t.Deadline, nil
}

// pollTrust is how long a device that asks without a connection counts as there.
const pollTrust = 15 * time.Minute

// polls reports whether the device has asked lately.
func (s Standing) polls(now time.Time) bool {
	return s.SeenAt != nil && now.Sub(*s.SeenAt) < pollTrust
}

// gone is when a device whose clock has run was there last.
func (s Standing) gone(now time.Time) time.Time {
	if s.SeenAt == nil {
		return now
	}
	if last := s.SeenAt.Add(pollTrust); last.After(*s.Since) && last.Before(now) {
		return last
	}
	return now
}

// tick runs the device's clock while it is there, and ends its time.
func (s *Standing) tick(contact bool, t Target, now time.Time) {
	if s.Step != Working && s.Step != Away {
		return
	}
	counts := contact && s.Step == Working
	switch {
	case counts && s.Since == nil:
		s.Since = &now
		due := now.Add(s.Left)
		s.DueAt = &due
		if s.State == link.UpdateUnreachable {
			s.State, s.Reason = link.UpdatePending, "ordered"
		}
	case !counts && s.Since != nil:
		s.Left -= s.gone(now).Sub(*s.Since)
		s.Since = nil
		due := now.Add(t.Deadline)
		s.DueAt = &due
	case !counts && s.DueAt == nil && s.State != link.UpdateUnreachable:
		due := now.Add(t.Deadline)
		s.DueAt = &due
	}
	if s.DueAt == nil || now.Before(*s.DueAt) {
		return
	}
	s.DueAt = nil
	if counts {
		s.fail(link.UpdateFailed, fmt.Sprintf("it did not say within %s that it runs the release; the last it said: %s", t.Deadline, s.Reason), t)
		return
	}
	s.State, s.Reason = link.UpdateUnreachable, "it has not been connected for "+t.Deadline.String()
}
