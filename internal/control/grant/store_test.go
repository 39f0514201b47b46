package grant_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/grant"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
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

// people are those of the tests, and who of them decides.
type people struct {
	mu      sync.Mutex
	decides map[string]bool
	broken  error
}

func (p *people) Party(_ context.Context, _ sqldb.Querier, person string) (grant.Party, error) {
	for _, h := range hands {
		if h.Person == person {
			return h, nil
		}
	}
	return grant.Party{}, problem.New(problem.NotFound, "there is nobody called %q", person)
}

func (p *people) Decides(_ context.Context, _ sqldb.Querier, person, _, _ string) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.decides[person], p.broken
}

// Kin goes by names that begin alike: ada's second account is ada2.
func (p *people) Kin(_ context.Context, _ sqldb.Querier, person, maker, other string) (bool, error) {
	return person == other || maker == other || person == other+"2" || other == person+"2", nil
}

func (p *people) set(person string, decides bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.decides[person] = decides
}

// world is grants over a real database.
type world struct {
	t      *testing.T
	clock  *clock
	people *people
	db     *sqldb.DB
	log    *audit.Log
	at     string
	alarms []grant.Grant
	deaf   bool // nobody can be told
	*grant.Grants
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, clock: &clock{at: time.Unix(1_790_000_000, 0).UTC()}, people: &people{decides: map[string]bool{"ada": true, "bob": true, "cy": true, "dee": true}}, at: sqldbtest.At(t)}
	w.open()
	t.Cleanup(func() {
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) open() {
	w.t.Helper()
	db, err := sqldb.Open(w.t.Context(), w.at, migrations.FS)
	if err != nil {
		w.t.Fatal(err)
	}
	w.db, w.log = db, audit.NewLog(db, w.clock.now)
	w.Grants = grant.New(grant.Options{
		DB: db, Audit: w.log, People: w.people, Now: w.clock.now, Logger: slog.New(slog.DiscardHandler),
		Known: func(p string) bool { return p != "made.up" },
		Environment: func(_ context.Context, _ sqldb.Querier, name string) (resource.EnvironmentSpec, error) {
			if name != "production" && name != "staging" {
				return resource.EnvironmentSpec{}, problem.New(problem.NotFound, "there is no environment %q", name)
			}
			return resource.EnvironmentSpec{Grants: &resource.GrantPolicy{Approvals: 2, Maximum: "2h", BreakGlass: name == "production"}}, nil
		},
		Alarm: func(_ context.Context, g grant.Grant, _ resource.GrantPolicy) error {
			if w.deaf {
				return problem.New(problem.NotReady, "nobody can be told")
			}
			w.alarms = append(w.alarms, g)
			return nil
		},
	})
}

// restart is what is left when the process dies and comes back.
func (w *world) restart() {
	w.t.Helper()
	if err := w.db.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

// entries counts what the audit log has of grants.
func (w *world) entries() int {
	w.t.Helper()
	all, err := w.log.List(w.t.Context(), "test", audit.Filter{Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	return len(slices.DeleteFunc(all, func(e audit.Entry) bool { return e.Action == "audit.read" })) // that is the test
}

// once does something that must leave exactly one entry in the audit log if it
// is done, and none if it is refused.
func (w *world) once(what string, do func() (grant.Grant, error)) grant.Grant {
	w.t.Helper()
	before := w.entries()
	g, err := do()
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	if n := w.entries() - before; n != 1 {
		w.t.Fatalf("%s left %d entries", what, n)
	}
	return g
}

func (w *world) refused(what string, kind problem.Kind, do func() (grant.Grant, error)) {
	w.t.Helper()
	before := w.entries()
	if g, err := do(); !problem.Is(err, kind) {
		w.t.Fatalf("%s: %v, %+v", what, err, g)
	}
	if n := w.entries() - before; n != 0 {
		w.t.Fatalf("%s was refused and left %d entries", what, n)
	}
}

func (w *world) say(actor access.Actor, id string, verb grant.Verb, reason string) func() (grant.Grant, error) {
	return func() (grant.Grant, error) {
		return w.Say(w.t.Context(), actor, id, grant.Word{Verb: verb, Reason: reason})
	}
}

func (w *world) ask(actor access.Actor, a grant.Asking) func() (grant.Grant, error) {
	return func() (grant.Grant, error) { return w.Ask(w.t.Context(), actor, a) }
}

func (w *world) covered(actor access.Actor, permission string, t grant.Target) bool {
	w.t.Helper()
	g, found, err := w.Covering(w.t.Context(), actor, "production", permission, t)
	if err != nil {
		w.t.Fatal(err)
	}
	if found {
		w.Use(g.ID, permission)
	}
	return found
}

var hotfix = grant.Asking{Environment: "production", Request: grant.Request{Purpose: "hotfix", Reason: "the pump is stuck", Ticket: "INC-7", Scope: grant.Extent{Permissions: []string{"device.write"}}, Seconds: 3600}}

// TestFromRequestToReview takes a grant all the way, with a restart at every
// step.
func TestFromRequestToReview(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada, bob, cy := who("ada"), who("bob"), who("cy")
	g := w.once("request", w.ask(ada, hotfix))
	if g.State != grant.Pending || w.covered(ada, "device.write", grant.Target{}) {
		t.Fatalf("%+v", g)
	}
	w.restart()
	w.refused("her own approval", problem.Denied, w.say(ada, g.ID, grant.Approve, ""))
	w.refused("her own approval by another token", problem.Denied, w.say(tokenOf("ada", "laptop"), g.ID, grant.Approve, ""))
	w.once("bob approves", w.say(bob, g.ID, grant.Approve, "go"))
	w.refused("bob approves once more", problem.Conflict, w.say(tokenOf("bob", "chat"), g.ID, grant.Approve, ""))
	w.restart()
	g = w.once("cy approves", w.say(cy, g.ID, grant.Approve, ""))
	if g.State != grant.Active || !w.covered(ada, "device.write", grant.Target{}) || !w.covered(tokenOf("ada", "laptop"), "device.write", grant.Target{Device: "pump-1"}) {
		t.Fatalf("%+v", g)
	}
	if w.covered(bob, "device.write", grant.Target{}) || w.covered(ada, "stamp.write", grant.Target{}) {
		t.Fatal("it covers what was not asked for")
	}
	w.restart()
	w.clock.pass(time.Hour - time.Microsecond)
	if !w.covered(ada, "device.write", grant.Target{}) {
		t.Fatal("it was over too early")
	}
	w.clock.pass(time.Microsecond)
	if w.covered(ada, "device.write", grant.Target{}) { // nobody has swept
		t.Fatal("it went on after its time")
	}
	if g, err := w.Get(t.Context(), g.ID); err != nil || g.State != grant.ReviewDue || g.End != grant.EndExpired {
		t.Fatalf("%v %+v", err, g)
	}
	w.refused("a review of her own", problem.Denied, w.say(ada, g.ID, grant.Review, "fine"))
	w.refused("a review without words", problem.Invalid, w.say(bob, g.ID, grant.Review, " "))
	if g = w.once("review", w.say(bob, g.ID, grant.Review, "one valve opened, as asked")); g.State != grant.Reviewed || g.ReviewedBy != "bob" {
		t.Fatalf("%+v", g)
	}
}

// TestBoundsOfAScope says that a bound on what is not known is not met.
func TestBoundsOfAScope(t *testing.T) {
	t.Parallel()
	s := grant.Extent{Permissions: []string{"device.write"}, Stamps: []string{"prod-1"}, Tenants: []string{"acme"}, Devices: []string{"pump-1"}}
	whole := grant.Target{Stamp: "prod-1", Tenant: "acme", Device: "pump-1"}
	if !s.Covers("device.write", whole) || s.Covers("device.move", whole) {
		t.Error("the permission is not what counts")
	}
	for _, t2 := range []grant.Target{{}, {Stamp: "prod-1", Tenant: "acme"}, {Stamp: "prod-2", Tenant: "acme", Device: "pump-1"}, {Stamp: "prod-1", Device: "pump-1"}, {Tenant: "acme", Device: "pump-1"}} {
		if s.Covers("device.write", t2) {
			t.Errorf("it covers %+v", t2)
		}
	}
}

// TestChangesVoidApprovals says that who agreed has not agreed to another
// thing.
func TestChangesVoidApprovals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.once("request", w.ask(who("ada"), hotfix))
	w.once("bob approves", w.say(who("bob"), g.ID, grant.Approve, ""))
	longer := hotfix.Request
	longer.Seconds = 7200
	change := func() (grant.Grant, error) {
		return w.Say(t.Context(), who("ada"), g.ID, grant.Word{Verb: grant.Amend, Request: longer})
	}
	if g = w.once("change", change); len(g.Approvals) != 0 || g.Duration() != 2*time.Hour {
		t.Fatalf("%+v", g)
	}
	if g = w.once("cy approves", w.say(who("cy"), g.ID, grant.Approve, "")); g.State != grant.Pending {
		t.Fatal("an approval of something else counted")
	}
	w.clock.pass(24 * time.Hour)
	w.refusedAfterTime("bob approves too late", w.say(who("bob"), g.ID, grant.Approve, ""))
	if g, err := w.Get(t.Context(), g.ID); err != nil || g.State != grant.Expired {
		t.Fatalf("%v %+v", err, g)
	}
}

// refusedAfterTime is refused where time has something to record first.
func (w *world) refusedAfterTime(what string, do func() (grant.Grant, error)) {
	w.t.Helper()
	before := w.entries()
	if g, err := do(); !problem.Is(err, problem.Conflict) {
		w.t.Fatalf("%s: %v, %+v", what, err, g)
	}
	if n := w.entries() - before; n != 1 {
		w.t.Fatalf("%s: time left %d entries", what, n)
	}
}

// TestWhoAgreedMustStillDecide looks once more at those who agreed when a grant
// begins.
func TestWhoAgreedMustStillDecide(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	later := hotfix
	at := w.clock.now().Add(2 * time.Hour)
	later.Request.StartsAt = &at
	g := w.once("request", w.ask(who("ada"), later))
	w.once("bob approves", w.say(who("bob"), g.ID, grant.Approve, ""))
	if g = w.once("cy approves", w.say(who("cy"), g.ID, grant.Approve, "")); g.State != grant.Scheduled || w.covered(who("ada"), "device.write", grant.Target{}) {
		t.Fatalf("%+v", g)
	}
	w.people.set("cy", false)
	w.clock.pass(2 * time.Hour)
	if w.covered(who("ada"), "device.write", grant.Target{}) {
		t.Fatal("it began though one of two does not decide any more")
	}
	if g, err := w.Get(t.Context(), g.ID); err != nil || g.State != grant.Pending || len(g.Approvals) != 0 {
		t.Fatalf("%v %+v", err, g)
	}
	w.once("bob approves", w.say(who("bob"), g.ID, grant.Approve, ""))
	w.refused("cy approves", problem.Denied, w.say(who("cy"), g.ID, grant.Approve, ""))
	if g = w.once("dee approves", w.say(who("dee"), g.ID, grant.Approve, "")); g.State != grant.Active || !g.Until.Equal(at.Add(time.Hour)) {
		t.Fatalf("%+v", g)
	}
	w.people.broken = errors.New("the directory is away")
	if _, err := w.Say(t.Context(), who("bob"), g.ID, grant.Word{Verb: grant.Revoke, Reason: "enough"}); err == nil {
		t.Fatal("it was decided without knowing who decides")
	}
}

// TestBreakGlass is loud until somebody hears it, and owes a review.
func TestBreakGlass(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deaf = true
	smash := func(actor access.Actor, environment string) func() (grant.Grant, error) {
		return func() (grant.Grant, error) { return w.BreakGlass(t.Context(), actor, environment, hotfix.Request) }
	}
	w.refused("where it is not let", problem.Denied, smash(who("ada"), "staging"))
	w.refused("by a program", problem.Denied, smash(program("robo", "cy"), "production"))
	g := w.once("break glass", smash(who("ada"), "production"))
	if !w.covered(who("ada"), "device.write", grant.Target{}) {
		t.Fatalf("%+v", g)
	}
	if err := w.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if shown, err := w.Get(t.Context(), g.ID); err != nil || shown.AlarmedAt != nil || shown.AlarmFailed == "" {
		t.Fatalf("%v %+v", err, shown)
	}
	w.deaf = false
	w.clock.pass(time.Minute)
	if err := w.Look(t.Context()); err != nil || len(w.alarms) != 1 || w.alarms[0].ID != g.ID {
		t.Fatalf("%v %+v", err, w.alarms)
	}
	if err := w.Look(t.Context()); err != nil || len(w.alarms) != 1 {
		t.Fatalf("%v, alarmed %d times", err, len(w.alarms))
	}
	if loud, err := w.Broken(t.Context()); err != nil || len(loud) != 1 {
		t.Fatalf("%v %+v", err, loud)
	}
	w.refused("once more while it lasts", problem.Conflict, smash(tokenOf("ada", "laptop"), "production"))
	w.clock.pass(time.Hour + 24*time.Hour) // nobody sweeps
	w.refused("before the review", problem.Denied, smash(who("ada"), "production"))
	if _, err := w.Get(t.Context(), g.ID); err != nil {
		t.Fatal(err)
	}
	w.once("review", w.say(who("bob"), g.ID, grant.Review, "needed"))
	w.once("after the review", smash(who("ada"), "production"))
}

// TestProgramsNeedASponsor says who answers for a program, and that this person
// does not agree to it.
func TestProgramsNeedASponsor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refused("a program for which nobody answers", problem.Denied, w.ask(program("stray", ""), hotfix))
	w.refused("a token that belongs to nobody", problem.Denied, w.ask(bearer("ci"), hotfix))
	g := w.once("request", w.ask(program("robo", "cy"), hotfix))
	if g.Sponsor != "cy" {
		t.Fatalf("%+v", g)
	}
	w.refused("by its sponsor", problem.Denied, w.say(who("cy"), g.ID, grant.Approve, ""))
	w.refused("by a program", problem.Denied, w.say(program("robo", "cy"), g.ID, grant.Approve, ""))
	w.refused("by a token that belongs to nobody", problem.Denied, w.say(bearer("admin"), g.ID, grant.Approve, ""))
	w.once("ada approves", w.say(who("ada"), g.ID, grant.Approve, ""))
	if g = w.once("bob approves", w.say(who("bob"), g.ID, grant.Approve, "")); g.State != grant.Active {
		t.Fatalf("%+v", g)
	}
	if !w.covered(program("robo", "cy"), "device.write", grant.Target{}) || w.covered(who("cy"), "device.write", grant.Target{}) {
		t.Fatal("the sponsor may what the program may, or the program may not")
	}
	if g = w.once("its sponsor ends it", w.say(who("cy"), g.ID, grant.End, "")); g.End != grant.EndEnded {
		t.Fatalf("%+v", g)
	}
}

// TestRevokedIsCut measures how long something goes on after its grant is
// revoked or over.
func TestRevokedIsCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, end := range []struct {
		how string
		do  func(id string)
	}{
		{grant.EndRevoked, func(id string) { w.once("revoke", w.say(who("bob"), id, grant.Revoke, "enough")) }},
		{grant.EndExpired, func(string) { w.clock.pass(time.Hour) }},
	} {
		g := w.once("request", w.ask(who("ada"), hotfix))
		w.once("bob approves", w.say(who("bob"), g.ID, grant.Approve, ""))
		w.once("cy approves", w.say(who("cy"), g.ID, grant.Approve, ""))
		held, letGo := w.Hold(t.Context(), g.ID)
		if held.Err() != nil {
			t.Fatal("cut before it is over")
		}
		end.do(g.ID)
		began := time.Now()
		select {
		case <-held.Done():
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: it was never cut", end.how)
		}
		if grant.Over(held) == nil {
			t.Errorf("%s: %v", end.how, context.Cause(held))
		}
		t.Logf("%s: cut after %s", end.how, time.Since(began))
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: cut after %s", end.how, took)
		}
		letGo()
	}
}

// who is a person as they come by the console.
func who(name string) access.Actor {
	return access.Actor{Name: name, Kind: access.Human, Person: name}
}

// tokenOf is a person as they come by one of their tokens.
func tokenOf(name, token string) access.Actor {
	return access.Actor{Name: name + "'s " + token, Kind: access.Human, Person: name, TokenID: token}
}

func program(name, sponsor string) access.Actor {
	return access.Actor{Name: name, Kind: access.Agent, Person: sponsor}
}

func bearer(name string) access.Actor { return access.Actor{Name: name, Kind: access.Bearer} }
