// Package update has a device follow orders to run other software: it asks
// signed metadata (TUF) whether the order is right, fetches the artifacts in
// as many pieces as it takes, installs them beside what runs, starts them on
// trial, and keeps them if they prove themselves or else goes back. A device
// may lose power at any instant: a journal holds each transition before it is
// acted on, and the device always ends in software that was confirmed.
//
// Every decision is made by one pure function, step; the Updater does what the
// state it returns asks for.
package update

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/slipway/slipway/device/retry"
)

// Config is what an Updater is made with.
type Config struct {
	Directory    string               // for the journal, metadata and artifacts
	Root         []byte               // the root.json the device is made with
	Hardware     string               // the kind of hardware it is
	Environments []string             // whose orders it follows; none means all
	Components   map[string]Component // by name of the software

	Windows []Window       // in which it installs; none means always
	Zone    *time.Location // of the windows; default the system's
	Veto    string         // a file that, while it is there, keeps the device from installing
	VetoFor time.Duration  // and for how long at most; default a day

	// SelfTest is asked once when the new software runs; nil is well.
	SelfTest func(ctx context.Context) error
	Settle   time.Duration // for which new software runs before it is asked; default 10 s
	Deadline time.Duration // in which the trial has to be over; default 5 min
	Starts   int           // of one thing before it counts as failed; default 3
	Limit    time.Duration // of each step of a handler; default an hour

	Lag      time.Duration // for which a hub's metadata may be older than its orders; default 1 min
	Policy   retry.Policy  // of asking the hub; what is zero is taken from retry.Default
	Rate     int64         // bytes a second below which a transfer is broken off; default 1024
	Patience time.Duration // over which the rate is measured; default 30 s
	Reserve  int64         // bytes of the disk left free; default 16 MiB

	Clock  func() time.Time // default time.Now
	Boot   func() string    // names the present boot of the device; default the system's
	Logger *slog.Logger     // default none
}

// ErrRestart is why Run ends when something greater than a service has to
// start anew for the update to go on.
type ErrRestart struct{ What Restart }

// Error says what.
func (e *ErrRestart) Error() string {
	if e.What == RestartDevice {
		return "the device is to be restarted for its update"
	}
	return "the process is to be restarted for its update"
}

// Updater follows orders.
type Updater struct {
	config  Config
	hub     Hub
	logger  *slog.Logger
	journal journal
	loader  *downloader
	signed  *verifier
	clock   *clock
	facts   facts
	process string // names this process
	chance  *rand.Rand
	damage  error // of the journal

	changed chan struct{} // something for the loop
	report  chan struct{} // something to report

	mu       sync.Mutex
	state    State
	offer    event              // the newest
	stop     context.CancelFunc // of what is done for state.Job
	progress int
	told     bool // which hub the device is connected to
}

// New makes an updater that does nothing before Run. A journal that cannot be
// read is put aside: what runs then counts as confirmed.
func New(config Config, hub Hub) (*Updater, error) {
	config.complete()
	if config.Directory == "" || len(config.Root) == 0 || len(config.Components) == 0 {
		return nil, errors.New("update: Directory, Root and Components are required")
	}
	for name, c := range config.Components {
		if c.Handler == nil {
			return nil, fmt.Errorf("update: component %s has no handler", name)
		}
	}
	if err := os.MkdirAll(config.Directory, 0o700); err != nil {
		return nil, fmt.Errorf("update: %w", err)
	}
	u := &Updater{
		config: config, hub: hub, logger: config.Logger, journal: journal(JournalIn(config.Directory)),
		clock: newClock(config.Clock), facts: facts{config.Hardware, config.Starts, time.Hour},
		process: strconv.FormatUint(rand.Uint64(), 36), chance: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		changed: make(chan struct{}, 1), report: make(chan struct{}, 1), stop: func() {},
	}
	u.loader = &downloader{
		hub: hub, directory: filepath.Join(config.Directory, "artifacts"), rate: config.Rate, patience: config.Patience,
		reserve: config.Reserve, free: freeBytes, heard: u.clock.hear,
	}
	u.signed = &verifier{filepath.Join(config.Directory, "metadata"), config.Root, u.loader.metadata, u.now}
	return u, u.load()
}

// JournalIn is the journal's file in an updater's directory.
func JournalIn(directory string) string { return filepath.Join(directory, "journal.json") }

func (c *Config) complete() {
	c.VetoFor = cmp.Or(c.VetoFor, 24*time.Hour)
	c.Settle = cmp.Or(c.Settle, 10*time.Second)
	c.Deadline = cmp.Or(c.Deadline, 5*time.Minute)
	c.Starts = cmp.Or(c.Starts, 3)
	c.Limit = cmp.Or(c.Limit, time.Hour)
	c.Lag = cmp.Or(c.Lag, time.Minute)
	c.Rate = cmp.Or(c.Rate, 1024)
	c.Patience = cmp.Or(c.Patience, 30*time.Second)
	c.Reserve = cmp.Or(c.Reserve, 16<<20)
	c.Policy = c.Policy.Complete()
	c.Zone = cmp.Or(c.Zone, time.Local)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Boot == nil {
		c.Boot = bootID
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.SelfTest == nil {
		c.SelfTest = func(context.Context) error { return nil }
	}
}

// bootID is the kernel's name of the present boot.
func bootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(text)
}

func (u *Updater) load() error {
	s, err := u.journal.load()
	if err != nil {
		u.damage = err
		if err := os.Rename(string(u.journal), string(u.journal)+".damaged"); err != nil {
			return err
		}
		u.logger.Error("the journal is put aside", "error", err)
	}
	running := map[string]Installed{}
	for name, c := range u.config.Components {
		if was, known := s.Running[name]; known {
			running[name] = was
		} else if c.Version != "" {
			running[name] = Installed{Version: c.Version}
		}
	}
	s.Running = running
	u.state = s
	return nil
}

// now is what the device takes for the time.
func (u *Updater) now() time.Time { return u.clock.now(u.State().Clock) }

// State is where the device stands.
func (u *Updater) State() State {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.state
}

// Connected tells the updater that the device is connected to a hub, with the
// desired properties it found there.
func (u *Updater) Connected(hub string, desired []byte) {
	u.hear(event{kind: onConnected, hub: hub})
	u.mu.Lock()
	u.told = true
	u.mu.Unlock()
	signal(u.report)
	u.desired(desired, true)
}

// Desired hands the updater a change of desired properties.
func (u *Updater) Desired(patch []byte) { u.desired(patch, false) }

func (u *Updater) desired(text []byte, whole bool) {
	var properties map[string]json.RawMessage
	if err := json.Unmarshal(text, &properties); err != nil {
		return
	}
	order, named := properties[Property]
	switch {
	case named && string(order) != "null":
		u.offered(order)
	case named || whole:
		u.mu.Lock()
		u.offer = event{}
		u.mu.Unlock()
		u.hear(event{kind: onWithdrawn})
	}
}

func (u *Updater) offered(text []byte) {
	order, err := ParseOrder(text)
	if err == nil {
		err = u.follows(order)
	}
	e := event{kind: onOffer, order: order}
	if err != nil {
		e.reason = err.Error()
		u.logger.Warn("an order is refused", "order", order.Order, "error", err)
	}
	u.mu.Lock()
	e.hub = u.state.Hub
	u.offer = e
	u.mu.Unlock()
	u.hear(e)
}

// follows reports why the device would not follow an order.
func (u *Updater) follows(o Order) error {
	if len(u.config.Environments) > 0 && !slices.Contains(u.config.Environments, o.Environment) {
		return refuse("this device follows orders of %v, not of %s", u.config.Environments, o.Environment)
	}
	for _, s := range o.Software {
		c, known := u.config.Components[s.Name]
		if !known {
			return refuse("this device has no software %s", s.Name)
		}
		if s.Handler != "" && s.Handler != c.Handler.Name() {
			return refuse("software %s is installed by %s on this device, not by %s", s.Name, c.Handler.Name(), s.Handler)
		}
	}
	return nil
}

// apply steps, writes the journal, and only then lets anybody act on it. A
// journal that cannot be written leaves the state as it was.
func (u *Updater) apply(e event) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	next := step(u.state, e, u.clock.now(u.state.Clock), u.facts)
	if reflect.DeepEqual(next, u.state) {
		return nil
	}
	if err := u.journal.save(next); err != nil {
		return err
	}
	if next.Phase != u.state.Phase || next.Job != u.state.Job {
		u.logger.Info("update", "order", next.Order.Order, "release", next.Order.Release, "phase", cmp.Or(next.Phase, "idle"), "error", next.Error)
		u.progress = 0
	}
	if next.Job != u.state.Job {
		u.stop() // what is done is for another order
	}
	u.state = next
	signal(u.changed)
	signal(u.report)
	return nil
}

// hear is apply for what the outside tells, which is told again: twins at the
// next connection, reports when they are delivered once more.
func (u *Updater) hear(e event) {
	if err := u.apply(e); err != nil {
		u.logger.Error("the update stands still", "error", err)
	}
}

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// Run follows orders until ctx ends, and returns nil then. It returns an
// *ErrRestart where the process or the device has to start anew.
func (u *Updater) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var reporting sync.WaitGroup
	defer reporting.Wait()
	defer cancel()
	reporting.Go(func() { u.deliver(ctx) })
	s := u.State()
	runs, err := u.runs(ctx, s)
	if err != nil {
		return fmt.Errorf("ask what runs: %w", err)
	}
	if err := u.apply(event{kind: onBooted, boot: u.boot(s), new: runs}); err != nil {
		return err
	}
	for faults := 0; ctx.Err() == nil; {
		err := u.turn(ctx)
		switch {
		case restarts(err):
			return err
		case err == nil:
			faults = 0
		default:
			u.logger.Warn("the update is tried again", "error", err)
			u.pause(ctx, min(u.config.Policy.Cap, u.config.Policy.Base<<min(faults, 20)))
			faults++
		}
	}
	return nil
}

// turn does what the state asks for, once.
func (u *Updater) turn(ctx context.Context) error {
	u.mu.Lock()
	s := u.state
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	u.stop = func() {}
	if !s.Phase.begun() {
		u.stop = cancel
	}
	u.mu.Unlock()
	if err := u.ensure(ctx, s); err != nil {
		u.logger.Warn("not started", "error", err)
	}
	e, err := u.act(work, s)
	if work.Err() != nil || err != nil || e.kind == onNothing {
		return err
	}
	e.job = s.Job
	return u.apply(e)
}

// act does what a phase asks for and returns what came of it. An error means
// that nothing came of it yet.
func (u *Updater) act(ctx context.Context, s State) (event, error) {
	switch s.Phase {
	case Offered:
		return u.verify(ctx, s), nil
	case Downloading:
		return outcome(onDownloaded, u.download(ctx, s)), nil
	case Waiting:
		return u.await(ctx, s)
	case Preparing:
		return outcome(onPrepared, u.each(ctx, s, u.prepare)), nil
	case Installing:
		e := outcome(onSet, u.each(ctx, s, u.install))
		e.boot = u.boot(s)
		return e, nil
	case Armed:
		err := u.restart(ctx, s, u.greatest(s))
		if restarts(err) {
			return event{}, err
		}
		return outcome(onStarted, err), nil
	case Trial:
		return outcome(onHealthy, u.prove(ctx, s)), nil
	case Committing:
		return outcome(onCommitted, u.each(ctx, s, func(ctx context.Context, h Handler, t Task) error { return h.Commit(ctx, t) })), nil
	case Reverting:
		err := u.each(ctx, s, func(ctx context.Context, h Handler, t Task) error { return h.Rollback(ctx, t) })
		return event{kind: onUndone, boot: u.boot(s)}, err
	case Returning:
		what := RestartService
		if s.Tried {
			what = u.greatest(s)
		}
		return event{kind: onReturned}, u.restart(ctx, s, what)
	}
	return u.rest(ctx, s)
}

func outcome(well kind, err error) event {
	if err != nil {
		return event{kind: onFailed, reason: err.Error()}
	}
	return event{kind: well}
}

func restarts(err error) bool {
	var restart *ErrRestart
	return errors.As(err, &restart)
}

// rest waits for the next order, which may have come while another was
// brought to its end.
func (u *Updater) rest(ctx context.Context, s State) (event, error) {
	if err := errors.Join(u.loader.sweep(nil), os.RemoveAll(filepath.Join(u.config.Directory, "work"))); err != nil {
		return event{}, err
	}
	u.mu.Lock()
	offer := u.offer
	u.mu.Unlock()
	if offer.kind == onOffer && offer.order.Order > s.Last && offer.hub == s.Hub {
		return offer, nil
	}
	select {
	case <-ctx.Done():
	case <-u.changed:
	}
	return event{}, nil
}

func (u *Updater) verify(ctx context.Context, s State) event {
	var counter int64
	var at time.Time
	begin := time.Now()
	err := u.campaign(ctx, func(ctx context.Context) (gained int64, err error) {
		counter, at, err = u.signed.verify(ctx, s.Order, s.Changes(), u.config.Hardware)
		var refused *Refusal
		if errors.As(err, &refused) && refused.Behind && time.Since(begin) < u.config.Lag {
			err = errors.New(refused.Reason) // not final yet
		}
		return 0, err
	})
	e := outcome(onChecked, err)
	e.counter, e.at = counter, at
	return e
}

// enough is what a transfer has to bring for its failure to be forgiven.
const enough = 16 << 10

// campaign tries as the one policy has it, until the hub is refused for good
// or a whole campaign was in vain.
func (u *Updater) campaign(ctx context.Context, try func(context.Context) (gained int64, err error)) error {
	var state retry.State
	for {
		state = u.config.Policy.Begin(state, time.Now())
		gained, err := try(ctx)
		var refused *Refusal
		if err == nil || ctx.Err() != nil || errors.As(err, &refused) {
			return err
		}
		if gained >= enough {
			state = u.config.Policy.Begin(retry.State{}, time.Now())
		}
		var after time.Duration
		var answer *statusError
		if errors.As(err, &answer) {
			if after = answer.after; !retry.Transient(answer.status) && answer.status != http.StatusRequestedRangeNotSatisfiable {
				return err
			}
		}
		var delay time.Duration
		if state, delay = u.config.Policy.Failed(state, time.Now(), after, u.chance); state.Dormant {
			return fmt.Errorf("given up: %w", err)
		}
		u.logger.Info("the hub is asked again", "after", delay, "error", err)
		u.pause(ctx, delay)
	}
}

func (u *Updater) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (u *Updater) download(ctx context.Context, s State) error {
	var all []Artifact
	var total, done int64
	for _, software := range s.Changes() {
		all = append(all, software.Artifacts...)
	}
	if err := os.MkdirAll(u.loader.directory, 0o700); err != nil {
		return err
	}
	if err := errors.Join(u.loader.sweep(all), u.loader.room(all)); err != nil {
		return err
	}
	for _, a := range all {
		total += a.Size
	}
	for _, a := range all {
		if err := u.fetch(ctx, a, func(offset int64) { u.advance(int((done + offset) * 100 / max(total, 1))) }); err != nil {
			return err
		}
		done += a.Size
	}
	return nil
}

// fetch has an artifact here whole, and verified.
func (u *Updater) fetch(ctx context.Context, a Artifact, progress func(offset int64)) (err error) {
	if u.loader.check(a) == nil {
		return nil
	}
	p, err := u.loader.open(a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.file.Close()) }()
	best := p.offset // what was here already and comes again is no gain
	return u.campaign(ctx, func(ctx context.Context) (gained int64, err error) {
		before := best
		err = u.loader.advance(ctx, p, func(int64) {
			best = max(best, p.offset)
			progress(p.offset)
		})
		return best - before, err
	})
}

// advance notes how far a download is, and has it told now and then.
func (u *Updater) advance(percent int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if percent >= u.progress+10 {
		u.progress = percent
		signal(u.report)
	}
}

// glance is how soon a window that opens, or a veto that is withdrawn, is seen.
const glance = 5 * time.Second

// await waits for the time to install.
func (u *Updater) await(ctx context.Context, s State) (event, error) {
	for held := false; ; held = true {
		if u.mayInstall(s, u.config.Clock()) {
			return event{kind: onOpened}, nil
		}
		if !held {
			u.hear(event{kind: onHeld, job: s.Job})
		}
		u.pause(ctx, min(glance, max(u.config.Policy.Base, 10*time.Millisecond)*5))
		if ctx.Err() != nil {
			return event{}, nil
		}
	}
}

func (u *Updater) mayInstall(s State, now time.Time) bool {
	if !open(u.config.Windows, now.In(u.config.Zone)) {
		return false
	}
	if u.config.Veto == "" || now.Sub(s.Ready) >= u.config.VetoFor {
		return true
	}
	_, err := os.Stat(u.config.Veto)
	return errors.Is(err, os.ErrNotExist)
}

// each does one thing for each kind of software that changes.
func (u *Updater) each(ctx context.Context, s State, do func(context.Context, Handler, Task) error) error {
	for _, software := range s.Changes() {
		c, known := u.config.Components[software.Name]
		if !known { // it was, when the order was taken up
			return fmt.Errorf("this device has no software %s any more", software.Name)
		}
		limited, cancel := context.WithTimeout(ctx, u.config.Limit)
		err := do(limited, c.Handler, u.task(s, software))
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", software.Name, err)
		}
	}
	return nil
}

func (u *Updater) task(s State, software Software) Task {
	t := Task{
		Job: s.Job, Software: software, Previous: s.Running[software.Name].Version,
		Files: map[string]string{}, Directory: filepath.Join(u.config.Directory, "work", software.Name),
	}
	for _, a := range software.Artifacts {
		t.Files[a.File] = u.loader.path(a)
	}
	return t
}

// prepare looks at the artifacts once more, as they may have lain for days.
func (u *Updater) prepare(ctx context.Context, h Handler, t Task) error {
	for _, a := range t.Software.Artifacts {
		if err := u.loader.check(a); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(t.Directory, 0o700); err != nil {
		return err
	}
	return h.Prepare(ctx, t)
}

// install leaves a device alone that runs the new slot already: what does not
// run now is the way back.
func (u *Updater) install(ctx context.Context, h Handler, t Task) error {
	if h.Restart() == RestartDevice {
		if runs, err := h.Runs(ctx, t); err != nil || runs {
			return err
		}
	}
	return h.Install(ctx, t)
}

// runs reports whether all new software is what runs.
func (u *Updater) runs(ctx context.Context, s State) (bool, error) {
	if !s.Phase.begun() {
		return false, nil
	}
	all := true
	err := u.each(ctx, s, func(ctx context.Context, h Handler, t Task) error {
		runs, err := h.Runs(ctx, t)
		all = all && runs
		return err
	})
	return all, err
}

// greatest is what has to start anew for all that changes.
func (u *Updater) greatest(s State) Restart {
	what := RestartService
	for _, software := range s.Changes() {
		if c, known := u.config.Components[software.Name]; known {
			what = max(what, c.Handler.Restart())
		}
	}
	return what
}

// boot names what starts anew: it is another after it has. Services do not
// outlive this process in any way it could tell.
func (u *Updater) boot(s State) string {
	switch u.greatest(s) {
	case RestartAgent:
		return u.process
	case RestartDevice:
		return u.config.Boot()
	}
	return ""
}

// restart starts what is installed now.
func (u *Updater) restart(ctx context.Context, s State, what Restart) error {
	for _, software := range s.Changes() {
		if service := u.config.Components[software.Name].Service; service != nil && what != RestartDevice {
			if err := service.Restart(ctx); err != nil {
				return fmt.Errorf("start %s: %w", software.Name, err)
			}
		}
	}
	if what > RestartService {
		return &ErrRestart{what}
	}
	return nil
}

// ensure has everything run that may: not what is half changed.
func (u *Updater) ensure(ctx context.Context, s State) error {
	if ctx.Err() != nil {
		return nil
	}
	changing := map[string]bool{}
	if s.Phase == Installing || s.Phase == Armed || s.Phase == Reverting || s.Phase == Returning {
		for _, software := range s.Changes() {
			changing[software.Name] = true
		}
	}
	var errs []error
	for name, c := range u.config.Components {
		if c.Service != nil && !changing[name] {
			errs = append(errs, c.Service.Ensure(ctx))
		}
	}
	return errors.Join(errs...)
}

// prove has the new software prove itself: the hub acknowledges that it was
// told of it, and services and the self-test are well when it has run a while.
func (u *Updater) prove(ctx context.Context, s State) error {
	limited, cancel := context.WithTimeout(ctx, u.config.Deadline)
	defer cancel()
	err := u.health(limited, s)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("not well within %s: %w", u.config.Deadline, err)
	}
	return err
}

func (u *Updater) health(ctx context.Context, s State) error {
	if err := u.tellTrial(ctx, s); err != nil {
		return fmt.Errorf("the hub could not be told: %w", err)
	}
	u.pause(ctx, u.config.Settle)
	if err := u.check(ctx, s); err != nil {
		return err
	}
	if err := u.config.SelfTest(ctx); err != nil {
		return fmt.Errorf("self-test: %w", err)
	}
	return errors.Join(u.check(ctx, s), ctx.Err())
}

// tellTrial tells the hub by a report of its own: who can do that has a
// connection that works, whatever was true before the start.
func (u *Updater) tellTrial(ctx context.Context, s State) error {
	patch, err := json.Marshal(s.report(ReportTrial, u.facts).Patch())
	if err != nil {
		return err
	}
	for {
		if _, err = u.hub.Report(ctx, patch); err == nil || ctx.Err() != nil {
			return err
		}
		u.pause(ctx, u.config.Policy.Base)
	}
}

func (u *Updater) check(ctx context.Context, s State) error {
	for _, software := range s.Changes() {
		if service := u.config.Components[software.Name].Service; service != nil {
			if err := service.Check(ctx); err != nil {
				return fmt.Errorf("%s: %w", software.Name, err)
			}
		}
	}
	return nil
}

// deliver has the hub told, one report after the other, each until it is
// acknowledged, and how far a download is when there is nothing else.
func (u *Updater) deliver(ctx context.Context) {
	told := -1
	for ctx.Err() == nil {
		u.mu.Lock()
		s, progress, connected := u.state, u.progress, u.told
		u.mu.Unlock()
		var err error
		switch {
		case !connected: // nobody is known to be told
		case len(s.Outbox) > 0:
			first := s.Outbox[0]
			if err = u.send(ctx, first.Report); err == nil {
				u.hear(event{kind: onDelivered, sequence: first.Sequence})
				continue
			}
		case s.Phase == Downloading && progress != told && progress > 0:
			r := s.report(ReportDownloading, u.facts)
			r.Progress = progress
			if err = u.send(ctx, r); err == nil {
				told = progress
				continue
			}
		}
		if err != nil && ctx.Err() == nil {
			u.logger.Debug("not reported yet", "error", err)
			u.pause(ctx, u.config.Policy.Base)
			continue
		}
		select {
		case <-ctx.Done():
		case <-u.report:
		}
	}
}

func (u *Updater) send(ctx context.Context, r Report) error {
	if u.damage != nil && r.Error == "" {
		r.Error = u.damage.Error()
	}
	patch, err := json.Marshal(r.Patch())
	if err != nil {
		return err
	}
	_, err = u.hub.Report(ctx, patch)
	return err
}
