// Package featureflag keeps feature flags: one definition, from a release or
// declared beside them, and a state for each environment. What an environment
// has follows from these records alone: the flags of the release that its last
// ring runs, those that are declared, and over both what the environment says.
// So a release that is taken back takes its flags with it, and what people
// switched stays as they switched it.
package featureflag

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/tasks"
)

// Scope is whose flags are meant: an environment's, or those of one of its
// stamps, which may run another release while a rollout is on its way.
type Scope struct{ Environment, Stamp string }

// Running is the release whose own part, beside its devices, a stamp runs.
type Running struct {
	Environment, Stamp string
	Ring               int
	Release            string // empty where it runs none
}

// Options are what flags work with.
type Options struct {
	DB    *sqldb.DB
	Audit *audit.Log
	// Environments are all there are, in order of promotion.
	Environments func(ctx context.Context) ([]resource.Environment, error)
	// Running tells what each stamp runs.
	Running func(ctx context.Context) ([]Running, error)
	// Release finds a release by its name.
	Release func(ctx context.Context, name string) (link.Release, error)
	// Put gives a stamp the flags of its devices.
	Put    func(ctx context.Context, stamp string, flags link.Flags) error
	Logger *slog.Logger
	Now    func() time.Time
}

// Flags are the feature flags of an installation.
type Flags struct {
	o Options
	// Changed rings when the flags of some scope have changed.
	Changed tasks.Bell

	look     chan struct{}
	looking  sync.Mutex // one look at a time
	now      atomic.Pointer[map[Scope]*State]
	sent     sync.Map // the version that a stamp has
	exposure exposure
}

// State is what a scope's flags are now. It never changes.
type State struct {
	Scope
	Version  string // names the state; equal for equal flags
	Release  string // whose flags are among them
	Set      *flag.Set
	Document flag.Document
	Overlays map[string]flag.Overlay
}

// New returns the flags kept in a database.
func New(o Options) *Flags {
	f := &Flags{o: o, look: make(chan struct{}, 1)}
	f.now.Store(&map[Scope]*State{})
	return f
}

// Now is the time that flags are evaluated at.
func (f *Flags) Now() time.Time { return f.o.Now() }

// How often what follows from other records is looked at, and counts are
// written down.
const (
	lookEvery  = time.Second
	flushEvery = 5 * time.Second
	sendTime   = 5 * time.Second
	sendAgain  = 30 * time.Second
)

// Run follows what environments and stamps run until ctx ends.
func (f *Flags) Run(ctx context.Context) error {
	defer func() {
		if err := f.flush(context.WithoutCancel(ctx)); err != nil {
			f.o.Logger.Warn("evaluations of flags not counted", "error", err)
		}
	}()
	return tasks.Run(ctx,
		tasks.Task{Name: "flags", Run: func(ctx context.Context) error {
			for {
				if err := f.Look(ctx); err != nil && ctx.Err() == nil {
					f.o.Logger.Warn("flags not looked at; trying again", "error", err)
				}
				select {
				case <-ctx.Done():
					return nil
				case <-f.look:
				case <-time.After(lookEvery):
				}
			}
		}},
		tasks.Task{Name: "devices' flags", Run: f.sending},
		tasks.Task{Name: "exposures", Run: func(ctx context.Context) error {
			return tasks.Every(ctx, flushEvery, func() {
				if err := f.flush(ctx); err != nil && ctx.Err() == nil {
					f.o.Logger.Warn("evaluations of flags not counted; trying again", "error", err)
				}
			})
		}},
	)
}

// Look works out what each scope's flags are, and tells who waits for a change.
func (f *Flags) Look(ctx context.Context) error {
	f.looking.Lock()
	defer f.looking.Unlock()
	fresh, err := f.states(ctx)
	if err != nil {
		return err
	}
	before := *f.now.Load()
	f.now.Store(&fresh)
	if !maps.EqualFunc(before, fresh, func(a, b *State) bool { return a.Version == b.Version }) {
		f.Changed.Ring()
	}
	return nil
}

// states are the flags of all environments and stamps.
func (f *Flags) states(ctx context.Context) (map[Scope]*State, error) {
	environments, err := f.o.Environments(ctx)
	if err != nil {
		return nil, err
	}
	running, err := f.o.Running(ctx)
	if err != nil {
		return nil, err
	}
	declared, err := f.declared(ctx)
	if err != nil {
		return nil, err
	}
	overlays, err := f.overlays(ctx)
	if err != nil {
		return nil, err
	}
	all := map[Scope]*State{}
	for _, e := range environments {
		name := e.Metadata.Name
		scopes := map[Scope]string{{Environment: name}: runsIn(name, running)}
		for _, r := range running {
			if r.Environment == name {
				scopes[Scope{name, r.Stamp}] = r.Release
			}
		}
		alike := map[string]*State{} // by release: stamps of an environment differ in that alone
		for scope, release := range scopes {
			if alike[release] == nil {
				if alike[release], err = f.state(ctx, scope, release, declared, overlays[name]); err != nil {
					return nil, err
				}
			}
			one := *alike[release]
			one.Scope = scope
			all[scope] = &one
		}
	}
	return all, nil
}

// runsIn is the release that an environment's last ring runs.
func runsIn(environment string, running []Running) (release string) {
	last := -1
	for _, r := range running {
		if r.Environment == environment && r.Ring > last {
			last, release = r.Ring, r.Release
		}
	}
	return release
}

// state is what a scope's flags are. Where they are what they were, it is the
// same as before.
func (f *Flags) state(ctx context.Context, scope Scope, release string, declared map[string]flag.Flag, overlays map[string]flag.Overlay) (*State, error) {
	s := &State{Scope: scope, Release: release, Document: flag.Document{Flags: map[string]flag.Flag{}}, Overlays: overlays}
	if release != "" {
		r, err := f.o.Release(ctx, release)
		if err != nil {
			return nil, err
		}
		d, err := resource.FlagsOf(r.Spec)
		if err != nil {
			return nil, err
		}
		if d.Flags != nil {
			s.Document = d
		}
	}
	for key, one := range declared {
		if _, brought := s.Document.Flags[key]; !brought {
			s.Document.Flags[key] = one
		}
	}
	text, err := json.Marshal([]any{s.Document, overlays})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	s.Version = hex.EncodeToString(sum[:8])
	if before := (*f.now.Load())[scope]; before != nil && before.Version == s.Version {
		s.Set = before.Set
		return s, nil
	}
	s.Set, err = flag.Compile(s.Document, overlays)
	return s, err
}

// Of returns a scope's flags.
func (f *Flags) Of(scope Scope) (*State, error) {
	if s := (*f.now.Load())[scope]; s != nil {
		return s, nil
	}
	if scope.Stamp != "" {
		return nil, problem.New(problem.NotFound, "there is no stamp %q in environment %q, or its flags are not known yet", scope.Stamp, scope.Environment)
	}
	return nil, problem.New(problem.NotFound, "there is no environment %q, or its flags are not known yet", scope.Environment)
}

// ScopeOfStamp is the scope of a stamp, whatever its environment.
func (f *Flags) ScopeOfStamp(stamp string) (Scope, error) {
	for scope := range *f.now.Load() {
		if scope.Stamp == stamp && stamp != "" {
			return scope, nil
		}
	}
	return Scope{}, problem.New(problem.NotFound, "there is no stamp %q, or its flags are not known yet", stamp)
}

// send gives each stamp the flags that are for devices, unless it has them.
func (f *Flags) send(ctx context.Context) {
	ctx, done := context.WithTimeout(ctx, sendTime)
	defer done()
	var telling sync.WaitGroup
	for scope, s := range *f.now.Load() {
		if scope.Stamp == "" {
			continue
		}
		telling.Go(func() {
			d, err := s.forDevices()
			if had, _ := f.sent.Load(scope.Stamp); err != nil || had == d.Version {
				return
			}
			if err := f.o.Put(ctx, scope.Stamp, d); err != nil {
				f.o.Logger.Debug("a stamp has not heard of its flags; told again later", "stamp", scope.Stamp, "error", err)
				return
			}
			f.sent.Store(scope.Stamp, d.Version)
		})
	}
	telling.Wait()
}

// Wanted are the versions of the flags that stamps are to have, by stamp.
func (f *Flags) Wanted() (map[string]string, error) {
	all := map[string]string{}
	for scope, s := range *f.now.Load() {
		if scope.Stamp == "" {
			continue
		}
		d, err := s.forDevices()
		if err != nil {
			return nil, err
		}
		all[scope.Stamp] = d.Version
	}
	return all, nil
}

// sending tells stamps of changes, and all of them again now and then: one may
// have been made anew.
func (f *Flags) sending(ctx context.Context) error {
	again := f.o.Now().Add(sendAgain)
	for {
		changed := f.Changed.Next()
		if now := f.o.Now(); now.After(again) {
			f.sent.Clear()
			again = now.Add(sendAgain)
		}
		f.send(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(lookEvery):
		}
	}
}

// forDevices are the flags of a state that stand in the twins of devices.
func (s *State) forDevices() (link.Flags, error) {
	d := flag.Document{Flags: map[string]flag.Flag{}, Evaluators: s.Document.Evaluators}
	for key, one := range s.Document.Flags {
		if one.Metadata[flag.MetaDevices] == true {
			d.Flags[key] = one.Under(s.Overlays[key])
		}
	}
	text, err := json.Marshal(d)
	if err != nil {
		return link.Flags{}, err
	}
	sum := sha256.Sum256(text)
	return link.Flags{Version: hex.EncodeToString(sum[:8]), Document: text}, nil
}
