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
