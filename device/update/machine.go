package update

import (
	"slices"
	"time"
)

// Phase is where a device stands with its order.
type Phase string

// The phases. In all of them a device may lose power; see State.boot for what
// it does when it starts again.
const (
	Idle        Phase = ""
	Offered     Phase = "offered"     // signed metadata is to be asked
	Downloading Phase = "downloading" // how far is told by the files themselves
	Waiting     Phase = "waiting"     // all is here and verified; for the maintenance window
	Preparing   Phase = "preparing"   // being written beside what runs
	Installing  Phase = "installing"  // becoming what starts next
	Armed       Phase = "armed"       // the next start is the trial
	Trial       Phase = "trial"       // runs, and has to prove itself
	Committing  Phase = "committing"  // has proven itself
	Reverting   Phase = "reverting"   // what ran before becomes what starts next
	Returning   Phase = "returning"   // the next start runs it
)

// begun reports whether an order has come so far that it is brought to an end
// before another is looked at.
func (p Phase) begun() bool {
	return slices.Contains([]Phase{Preparing, Installing, Armed, Trial, Committing, Reverting, Returning}, p)
}

// Restart is what has to start anew for new software to run.
type Restart int

// The restarts, each of which includes the ones before.
const (
	RestartService Restart = iota // the software alone
	RestartAgent                  // the process that the updater is in
	RestartDevice
)

// Installed is software that a device runs for good.
type Installed struct {
	Version string   `json:"version"`
	Content []string `json:"content,omitempty"` // the SHA-256 of its artifacts, sorted; none: not known
}

// Outgoing is a report that the hub has not acknowledged.
type Outgoing struct {
	Sequence int64  `json:"sequence"`
	Report   Report `json:"report"`
}

// State is what must survive anything; the journal holds it.
type State struct {
	Phase     Phase     `json:"phase,omitempty"`
	Hub       string    `json:"hub,omitempty"`  // whose orders these are
	Last      int64     `json:"last,omitempty"` // the highest order of that hub
	Job       int64     `json:"job,omitempty"`  // the device's own count of orders it took up
	Order     Order     `json:"order,omitzero"`
	Counter   int64     `json:"counter,omitempty"` // of the order's release, as it is signed
	Checked   time.Time `json:"checked,omitzero"`  // when signed metadata named all of it
	Ready     time.Time `json:"ready,omitzero"`    // when all of it was here
	Attempts  int       `json:"attempts,omitempty"`
	Boot      string    `json:"boot,omitempty"`    // in which the next start was asked for
	Swapped   bool      `json:"swapped,omitempty"` // what starts next may be the new software
	Tried     bool      `json:"tried,omitempty"`   // and may have been started
	Error     string    `json:"error,omitempty"`
	Confirmed int64     `json:"confirmed,omitempty"` // counter of the release that runs for good
	Clock     time.Time `json:"clock,omitzero"`      // a time that has been

	Running  map[string]Installed `json:"running,omitempty"`
	Outcome  Report               `json:"outcome,omitzero"` // how the last order ended
	Outbox   []Outgoing           `json:"outbox,omitempty"`
	Sequence int64                `json:"sequence,omitempty"`
}

// kind says what an event tells.
type kind int

// What may happen to a State.
const (
	onNothing    kind = iota
	onConnected       // to hub
	onOffer           // of order by hub; reason says why it cannot be followed
	onWithdrawn       // there is no order any more
	onChecked         // signed metadata names all of it; counter
	onDownloaded      // all artifacts are here
	onHeld            // it is not the time to install
	onOpened          // it is
	onPrepared        // all software is written
	onSet             // all software is what starts next; boot
	onStarted         // it was started
	onHealthy         // it has proven itself
	onCommitted       // and is for good
	onFailed          // reason says why
	onUndone          // what ran before is what starts next; boot
	onReturned        // and was started
	onBooted          // the process began: boot, and new where the new software is what runs
	onDelivered       // the hub has the report with sequence
)

// event is something that happened. Those that come of work on an order bear
// its job, and mean nothing to another.
type event struct {
	kind     kind
	job      int64
	hub      string
	order    Order
	reason   string
	counter  int64
	at       time.Time
	boot     string
	new      bool
	sequence int64
}

// facts are what a device is, for step.
type facts struct {
	hardware string
	starts   int           // of anything, before it counts as failed
	fresh    time.Duration // how long signed metadata holds for an order that waits
}

// step is the state after an event. It is all there is of decisions, and pure.
func step(s State, e event, now time.Time, f facts) State {
	switch e.kind {
	case onConnected:
		return s.connected(e.hub, f)
	case onOffer:
		return s.offered(e, f)
	case onWithdrawn:
		return s.withdrawn(f)
	case onBooted:
		return s.boot(e, f)
	case onDelivered:
		s.Outbox = slices.DeleteFunc(slices.Clone(s.Outbox), func(o Outgoing) bool { return o.Sequence == e.sequence })
		return s
	}
	if e.job != s.Job || s.Phase == Idle {
		return s
	}
	if e.kind == onFailed {
		return s.failed(e.reason, f)
	}
	return s.advanced(e, now, f)
}

// advanced is the way through an order on which all goes well.
func (s State) advanced(e event, now time.Time, f facts) State {
	type move struct {
		from Phase
		on   kind
	}
	switch (move{s.Phase, e.kind}) {
	case move{Offered, onChecked}:
		if e.counter < s.Confirmed && !s.Order.Back {
			return s.failed("the release is older than the one that runs, and the order does not say that it leads back", f)
		}
		s.Counter, s.Checked = e.counter, e.at
		if e.at.After(s.Clock) {
			s.Clock = e.at
		}
		return s.to(Downloading).tell(ReportDownloading, f)
	case move{Downloading, onDownloaded}:
		if s.Ready.IsZero() {
			s.Ready = now
		}
		return s.to(Waiting)
	case move{Waiting, onHeld}:
		return s.tell(ReportWaiting, f)
	case move{Waiting, onOpened}:
		if now.Sub(s.Checked) > f.fresh { // it may have been withdrawn meanwhile
			return s.to(Offered)
		}
		return s.to(Preparing).tell(ReportInstalling, f)
	case move{Preparing, onPrepared}:
		s.Swapped = true
		return s.to(Installing)
	case move{Installing, onSet}:
		s.Boot = e.boot
		return s.to(Armed)
	case move{Armed, onStarted}:
		s.Tried = true
		return s.to(Trial).tell(ReportTrial, f)
	case move{Trial, onHealthy}:
		return s.to(Committing)
	case move{Committing, onCommitted}:
		return s.confirmed(f)
	case move{Reverting, onUndone}:
		if s.Boot = e.boot; !s.Swapped {
			return s.returned(f)
		}
		return s.to(Returning)
	case move{Returning, onReturned}:
		return s.returned(f)
	}
	return s
}

func (s State) returned(f facts) State {
	if s.Tried {
		return s.ended(ReportRolledBack, f)
	}
	return s.ended(ReportFailed, f)
}

func (s State) to(p Phase) State {
	s.Phase, s.Attempts = p, 0
	return s
}

// failed ends what has not begun, and turns back what has.
func (s State) failed(reason string, f facts) State {
	if s.Phase == Reverting || s.Phase == Returning {
		return s // there is no way but this one: it is tried again
	}
	s.Error = clip(reason)
	if !s.Phase.begun() {
		return s.ended(ReportFailed, f)
	}
	s.Tried = s.Tried || s.Phase == Armed // starting it may have failed halfway
	return s.to(Reverting)
}

// boot is what the start of the process means. What was cut off is done again,
// but not without end; and what starts a device may have gone back by itself.
func (s State) boot(e event, f facts) State {
	restarted := e.boot != s.Boot
	switch s.Phase {
	case Preparing, Installing, Armed, Trial, Committing:
		if s.Attempts++; s.Attempts > f.starts {
			return s.failed("it was cut off each time it was tried", f)
		}
	}
	switch s.Phase {
	case Installing:
		s.Tried = s.Tried || e.new // by the system that started us
	case Armed:
		if !restarted {
			return s
		}
		s.Tried = true
		if !e.new {
			return s.failed("the new software did not start, and what starts it went back", f)
		}
		attempts := s.Attempts
		s = s.to(Trial).tell(ReportTrial, f)
		s.Attempts = attempts
	case Trial, Committing:
		if !e.new {
			return s.failed("the new software did not last, and what starts it went back", f)
		}
	case Returning:
		if restarted {
			return s.returned(f)
		}
	}
	return s
}

// connected is a new connection, maybe to a hub that knows nothing of the
// device: it is told how things are. Orders are counted by each hub.
func (s State) connected(hub string, f facts) State {
	if hub != s.Hub {
		s.Hub, s.Last, s.Outcome, s.Outbox = hub, 0, Report{}, nil
		if !s.Phase.begun() {
			s = s.to(Idle)
		}
		s.Order.Order = 0 // the new hub did not give it
	}
	if len(s.Outbox) > 0 {
		return s
	}
	if s.Phase == Idle {
		return s.push(s.report(s.Outcome.Phase, f))
	}
	return s.push(s.report(s.phase(), f))
}

// phase is the present one as it is reported.
func (s State) phase() string {
	switch s.Phase {
	case Offered:
		return ReportAccepted
	case Downloading:
		return ReportDownloading
	case Waiting:
		return ReportWaiting
	}
	if s.onTrial() {
		return ReportTrial
	}
	return ReportInstalling
}

// offered takes up a higher order, in place of one that has not begun.
func (s State) offered(e event, f facts) State {
	if e.hub != s.Hub || e.order.Order <= s.Last || s.Phase.begun() {
		return s
	}
	s.Last, s.Order, s.Job = e.order.Order, e.order, s.Job+1
	s.Counter, s.Checked, s.Ready, s.Boot, s.Swapped, s.Tried, s.Error = 0, time.Time{}, time.Time{}, "", false, false, ""
	s = s.to(Offered)
	switch {
	case e.reason != "":
		return s.failed(e.reason, f)
	case len(s.Changes()) == 0:
		return s.ended(ReportConfirmed, f)
	}
	return s.tell(ReportAccepted, f)
}

// withdrawn gives up an order that has not begun. One that has ended is still
// how things stand.
func (s State) withdrawn(f facts) State {
	if s.Phase == Idle || s.Phase.begun() {
		return s
	}
	s = s.to(Idle)
	s.Order, s.Outcome, s.Job = Order{}, Report{}, s.Job+1 // what is done for it means nothing
	return s.push(s.report("", f))
}

// Changes are those of the order's software that the device does not run.
func (s State) Changes() []Software {
	var changes []Software
	for _, wanted := range s.Order.Software {
		running, known := s.Running[wanted.Name]
		same := known && running.Version == wanted.Version && (running.Content == nil || slices.Equal(running.Content, contents(wanted)))
		if !same {
			changes = append(changes, wanted)
		}
	}
	return changes
}

func contents(s Software) []string {
	all := make([]string, len(s.Artifacts))
	for i, a := range s.Artifacts {
		all[i] = a.SHA256
	}
	slices.Sort(all)
	return all
}

// confirmed makes the new software what runs.
func (s State) confirmed(f facts) State {
	running := map[string]Installed{}
	for name, was := range s.Running {
		running[name] = was
	}
	for _, changed := range s.Changes() {
		running[changed.Name] = Installed{changed.Version, contents(changed)}
	}
	s.Running, s.Confirmed = running, s.Counter
	return s.ended(ReportConfirmed, f)
}

func (s State) ended(phase string, f facts) State {
	s = s.to(Idle)
	s.Outcome = s.report(phase, f)
	return s.push(s.Outcome)
}

func (s State) tell(phase string, f facts) State { return s.push(s.report(phase, f)) }

// onTrial reports whether the new software is what runs.
func (s State) onTrial() bool {
	return s.Phase == Trial || s.Phase == Committing || s.Phase == Reverting && s.Tried
}

// report says how things are: while new software is on trial, it is what runs.
// Of an order that another hub gave it says nothing.
func (s State) report(phase string, f facts) Report {
	r := Report{Hardware: f.hardware, Software: map[string]string{}}
	if s.Order.Order > 0 && phase != "" {
		r.Order, r.Phase, r.Error = s.Order.Order, phase, s.Error
	}
	for _, wanted := range s.Order.Software { // it may have been on trial, and told
		r.Software[wanted.Name] = ""
	}
	for name, running := range s.Running {
		r.Software[name] = running.Version
	}
	if s.onTrial() {
		for _, changed := range s.Changes() {
			r.Software[changed.Name] = changed.Version
		}
	}
	return r
}

// maxOutbox is how many reports wait at most.
const maxOutbox = 32

// push queues a report. It takes the place of what was queued of the same
// order, and of nothing that says how another ended.
func (s State) push(r Report) State {
	s.Sequence++
	s.Outbox = slices.DeleteFunc(slices.Clone(s.Outbox), func(o Outgoing) bool {
		return o.Report.Order == r.Order || !o.Report.final()
	})
	s.Outbox = append(s.Outbox, Outgoing{s.Sequence, r})
	if more := len(s.Outbox) - maxOutbox; more > 0 {
		s.Outbox = s.Outbox[more:]
	}
	return s
}
