package promotion_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/environment"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

var (
	ada = access.Actor{Name: "ada"}
	bob = access.Actor{Name: "bob"}
)

// clock is time as a test tells it.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// shelf holds releases.
type shelf struct {
	mu  sync.Mutex
	all []link.Release
}

func (s *shelf) add(name string, spec link.ReleaseSpec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int64(len(s.all) + 1)
	s.all = append(s.all, link.Release{Name: name, Digest: "digest-of-" + name, Counter: n, Spec: spec})
}

func (s *shelf) Get(_ context.Context, name string) (link.Release, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		if r.Name == name {
			return r, nil
		}
	}
	return link.Release{}, problem.New(problem.NotFound, "there is no release %q", name)
}

func (s *shelf) List(context.Context, int64, int) ([]link.Release, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.all)
	slices.Reverse(all)
	return all, nil
}

// notary remembers what was let in.
type notary struct {
	mu       sync.Mutex
	admitted map[string]bool
	unsigned bool // people have not signed yet
}

func (n *notary) Admit(_ context.Context, _ *sqldb.Tx, environment, release string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.admitted[environment+"/"+release] = true
	return nil
}

func (n *notary) Withdraw(_ context.Context, _ *sqldb.Tx, environment, release string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.admitted, environment+"/"+release)
	return nil
}

func (n *notary) Admitted(_ context.Context, environment, release string) (bool, string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.unsigned {
		return false, "1 of 2 people have signed", nil
	}
	return n.admitted[environment+"/"+release], "it was not let in", nil
}

// fakeStamp follows its document as a real one does: devices in order, each
// told once, with what becomes of them decided by what they are told to run.
type fakeStamp struct {
	name, environment string
	mu                sync.Mutex
	doc               link.Releases
	got               []link.Releases
	devices           []fakeDevice
	away              bool
	fails             func(release string, device int) bool
	health            func(release string) (reconnects int64) // each second, of each device
	updated, others   link.Health
}

type fakeDevice struct {
	runs    string
	failed  string // the release it tried in vain
	offline bool
}

// put takes a document that is newer.
func (s *fakeStamp) put(_ context.Context, doc link.Releases) (link.None, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return link.None{}, problem.New(problem.NotReady, "away")
	}
	if doc.Version < s.doc.Version {
		return link.None{}, nil
	}
	if doc.Rollout == nil || s.doc.Rollout == nil || doc.Rollout.ID != s.doc.Rollout.ID {
		s.updated, s.others = link.Health{}, link.Health{}
	}
	s.doc = doc
	s.got = append(s.got, doc)
	return link.None{}, nil
}

// target is what a device is to run; empty leaves it as it is.
func (s *fakeStamp) target(i int) (release string, reached bool) {
	if r := s.doc.Rollout; r != nil && i < reachOf(r.Reach, len(s.devices)) {
		return r.Release.Name, true
	}
	if s.doc.Base != nil {
		return s.doc.Base.Name, false
	}
	return "", false
}

func reachOf(r link.Reach, devices int) int {
	return min(devices, max(int(math.Ceil(r.Share*float64(devices))), int(r.Count)))
}

// work has devices do what they are told, and tells how it went.
func (s *fakeStamp) work(at time.Time) link.Observed {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &link.Progress{Version: s.doc.Version, Complete: true}
	if s.doc.Base != nil {
		p.Base = s.doc.Base.Name
	}
	before := 0
	if r := s.doc.Rollout; r != nil {
		p.Rollout, p.Wave = r.ID, r.Wave
	}
	tried, failed := 0, 0
	for i := range s.devices {
		d := &s.devices[i]
		release, reached := s.target(i)
		state := s.try(d, release, reached, i)
		count(&p.Devices, state)
		if !reached {
			continue
		}
		if count(&p.Reached, state); i >= before {
			count(&p.WaveOnly, state)
		}
		if state == link.UpdateFailed {
			failed++
		}
		if state == link.UpdateFailed || state == link.UpdateDone {
			tried++
		}
		if h := s.halt(tried, failed); h != "" {
			p.Halted = h
		}
	}
	s.live(10)
	p.Updated, p.Others = s.updated, s.others
	return link.Observed{Stamp: s.name, At: at, Devices: int64(len(s.devices)), Releases: p, Host: s.name + ".example"}
}

func (s *fakeStamp) halt(tried, failed int) string {
	if r := s.doc.Rollout; r != nil && r.Halt != nil && int64(tried) >= r.Halt.MinDevices && float64(failed) > r.Halt.Failures*float64(tried) {
		return fmt.Sprintf("%d of %d failed", failed, tried)
	}
	return ""
}

func (s *fakeStamp) try(d *fakeDevice, release string, reached bool, i int) link.UpdateState {
	switch {
	case release == "":
		return link.UpdateExempt
	case d.runs == release:
		return link.UpdateDone
	case d.offline:
		return link.UpdateUnreachable
	case d.failed == release:
		return link.UpdateFailed
	case reached && s.doc.Rollout.Paused:
		return link.UpdatePending
	case s.fails(release, i):
		d.failed = release
		return link.UpdateFailed
	}
	d.runs = release
	return link.UpdateDone
}

// live lets some seconds pass for devices that are connected.
func (s *fakeStamp) live(seconds int64) {
	if s.doc.Rollout == nil {
		return
	}
	for _, d := range s.devices {
		h := &s.others
		if d.runs == s.doc.Rollout.Release.Name {
			h = &s.updated
		}
		h.DeviceSeconds += float64(seconds)
		h.Messages += seconds
		h.Reconnects += s.health(d.runs)
	}
}

func count(c *link.UpdateCensus, state link.UpdateState) {
	switch state {
	case link.UpdateDone:
		c.Updated++
	case link.UpdatePending:
		c.Pending++
	case link.UpdateFailed:
		c.Failed++
	case link.UpdateUnreachable:
		c.Unreachable++
	default:
		c.Exempt++
	}
}

// running counts the devices by what they run.
func (s *fakeStamp) running() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]int{}
	for _, d := range s.devices {
		all[d.runs]++
	}
	return all
}

// world is control's part over a real link and a real database, with stamps
// played by the test.
type world struct {
	t            testing.TB
	clock        *clock
	db           *sqldb.DB
	conn         *bus.Conn
	log          *audit.Log
	environments *environment.Environments
	releases     *shelf
	notary       *notary
	gates        *gate.Gates
	rollouts     *rollout.Rollouts
	promotions   *promotion.Promotions
	stamps       map[string]*fakeStamp
}

type noDriver struct{}

func (noDriver) Ensure(_ context.Context, s link.Stamp) (string, error) {
	return s.Name + ".example", nil
}
func (noDriver) Remove(context.Context, string) error { return nil }

func newWorld(t testing.TB) *world {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	nats, err := bus.Start(t.Context(), bus.Options{Name: "link", Logger: quiet})
	must(t, err)
	t.Cleanup(nats.Stop)
	w := &world{t: t, clock: &clock{at: time.Unix(1_800_000_000, 0).UTC()}, releases: &shelf{}, notary: &notary{admitted: map[string]bool{}}, stamps: map[string]*fakeStamp{}}
	w.conn, err = nats.Connect("control")
	must(t, err)
	w.db, err = sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	must(t, err)
	t.Cleanup(func() { must(t, w.db.Close()) })
	w.log = audit.NewLog(w.db, w.clock.now)
	w.environments, err = environment.New(w.db, w.conn, noDriver{}, w.log, quiet, w.clock.now)
	must(t, err)
	w.restart()
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// restart is what a process finds that is started anew.
func (w *world) restart() {
	quiet := slog.New(slog.DiscardHandler)
	guard, err := outbound.New([]string{"127.0.0.1"})
	must(w.t, err)
	w.gates = gate.New(gate.Options{DB: w.db, Audit: w.log, Now: w.clock.now, Guard: guard, Release: w.releases.Get})
	w.rollouts = rollout.New(rollout.Options{
		DB: w.db, Audit: w.log, Fleet: w.environments, Release: w.releases.Get, Judge: w.gates.Evaluate, Raise: w.environments.Raise, Reroute: func() {}, Logger: quiet, Now: w.clock.now,
		Put: func(ctx context.Context, stamp string, doc link.Releases) error {
			_, err := bus.Ask(ctx, w.conn, link.StampPeer(stamp), link.ReleasesPut, doc)
			return err
		},
	})
	w.environments.ReleaseRoutes = w.rollouts.Routes
	w.promotions = promotion.New(promotion.Options{
		DB: w.db, Audit: w.log, Environments: w.environments, Releases: w.releases, Signing: w.notary, Gates: w.gates, Rollouts: w.rollouts, Guard: guard, Logger: quiet, Now: w.clock.now,
	})
}

func (w *world) environment(name, from string, p *resource.PromotionSpec) {
	w.t.Helper()
	_, err := w.environments.Put(w.t.Context(), ada, name, resource.EnvironmentSpec{PromotesFrom: from, Promotion: p}, "", false)
	must(w.t, err)
}

func (w *world) stamp(name, environment string, ring, devices int) *fakeStamp {
	w.t.Helper()
	_, err := w.environments.PutStamp(w.t.Context(), ada, name, resource.StampSpec{Environment: environment, Region: "eu", Ring: &ring}, "", false)
	must(w.t, err)
	s := &fakeStamp{name: name, environment: environment, devices: make([]fakeDevice, devices), fails: func(string, int) bool { return false }, health: func(string) int64 { return 0 }}
	w.stamps[name] = s
	must(w.t, bus.Answer(w.conn, link.StampPeer(name), link.ReleasesPut, s.put))
	return s
}

// tick lets some time pass in which everybody does their part once.
func (w *world) tick(d time.Duration) {
	w.t.Helper()
	w.clock.pass(d)
	must(w.t, stale(w.promotions.Look(w.t.Context())))
	must(w.t, stale(w.rollouts.Look(w.t.Context())))
	w.deliver()
	for _, s := range w.stamps {
		w.tell(s)
	}
	must(w.t, stale(w.rollouts.Look(w.t.Context())))
	must(w.t, stale(w.promotions.Look(w.t.Context())))
	w.deliver()
}

// stale lets pass that somebody else was faster.
func stale(err error) error {
	if problem.Is(err, problem.Stale) {
		return nil
	}
	return err
}

// deliver sends documents and waits until each stamp that is there has its own.
func (w *world) deliver() {
	w.t.Helper()
	must(w.t, w.rollouts.Send(w.t.Context()))
	w.until("the stamps have their documents", func() bool {
		for _, s := range w.stamps {
			want, err := w.rollouts.Document(w.t.Context(), s.name)
			if problem.Is(err, problem.NotFound) {
				continue
			}
			must(w.t, err)
			s.mu.Lock()
			missing := !s.away && s.doc.Version < want.Version
			s.mu.Unlock()
			if missing {
				must(w.t, w.rollouts.Send(w.t.Context()))
				return false
			}
		}
		return true
	})
}

// tell has a stamp tell how it does, and waits until that is heard.
func (w *world) tell(s *fakeStamp) {
	w.t.Helper()
	s.mu.Lock()
	away := s.away
	s.mu.Unlock()
	if away {
		return
	}
	o := s.work(w.clock.now())
	must(w.t, bus.Tell(w.conn, link.ObservedSubject(link.StampPeer(s.name)), o))
	w.until("it is heard", func() bool {
		heard, _ := w.environments.Observed(s.name)
		return heard.At.Equal(o.At) && heard.Releases != nil && heard.Releases.Version == o.Releases.Version
	})
}

func (w *world) until(what string, so func() bool) {
	w.t.Helper()
	limit := time.Now().Add(20 * time.Second)
	for !so() {
		if time.Now().After(limit) {
			w.t.Fatalf("not so in time: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// settle lets time pass until a promotion is over, or stays.
func (w *world) settle(id string, most int) promotion.Dossier {
	w.t.Helper()
	for range most {
		w.tick(time.Second)
		if d := w.show(id); d.State.Over() {
			return d
		}
	}
	return w.show(id)
}

func (w *world) show(id string) promotion.Dossier {
	w.t.Helper()
	d, err := w.promotions.Show(w.t.Context(), id)
	must(w.t, err)
	return d
}

func (w *world) start(environment, release string) promotion.Promotion {
	w.t.Helper()
	p, err := w.promotions.Start(w.t.Context(), ada, environment, release, "")
	must(w.t, err)
	return p
}

// promoted promotes a release into environments, one after another.
func (w *world) promoted(release string, environments ...string) {
	w.t.Helper()
	for _, environment := range environments {
		if d := w.settle(w.start(environment, release).ID, 60); d.State != promotion.Succeeded {
			w.t.Fatalf("%s to %s is %s: %v %s", release, environment, d.State, d.Blocks, d.Outcome)
		}
	}
}

func (w *world) current(environment string) string {
	w.t.Helper()
	stood, err := w.rollouts.Stood(w.t.Context(), w.db, environment)
	must(w.t, err)
	if len(stood) == 0 {
		return ""
	}
	return stood[0].Release
}

// conflict is the error of something that is refused by the state of things.
func conflict(t testing.TB, err error) string {
	t.Helper()
	if !problem.Is(err, problem.Conflict) && !problem.Is(err, problem.Denied) {
		t.Fatalf("not refused: %v", err)
	}
	var p *problem.Error
	errors.As(err, &p)
	return p.Message
}
