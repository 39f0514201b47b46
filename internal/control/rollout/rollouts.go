package rollout

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/tasks"
)

// Fleet is what rollouts need to know of stamps.
type Fleet interface {
	Stamps(ctx context.Context) ([]resource.Stamp, error)
	Tenants(ctx context.Context) ([]resource.Tenant, error)
	Observed(stamp string) (link.Observed, bool)
}

// Options are what rollouts work with.
type Options struct {
	DB    *sqldb.DB
	Audit *audit.Log
	Fleet Fleet
	// Release finds a release by its name.
	Release func(ctx context.Context, name string) (link.Release, error)
	// Put gives a stamp its document.
	Put func(ctx context.Context, stamp string, doc link.Releases) error
	// Judge evaluates a gate for a stamp.
	Judge func(ctx context.Context, now time.Time, g resource.Gate, s gate.Subject) gate.Result
	// Raise has the routes of stamps go out anew.
	Raise func(ctx context.Context, tx *sqldb.Tx) error
	// Reroute has them go out at once, after the change that raised them.
	Reroute func()
	Logger  *slog.Logger
	Now     func() time.Time
}

// Rollouts are the rollouts of an installation, and what its stamps are to run.
type Rollouts struct {
	o Options
	// Changed rings when a rollout has changed.
	Changed tasks.Bell
	look    chan struct{}
	send    chan struct{}

	sending  sync.WaitGroup // stamps that are being told
	mu       sync.Mutex
	releases map[string]*link.Release // never change once made
	sent     map[string]sending
	judged   map[judgement]judged
}

// New returns the rollouts kept in a database.
func New(o Options) *Rollouts {
	return &Rollouts{
		o: o, look: make(chan struct{}, 1), send: make(chan struct{}, 1),
		releases: map[string]*link.Release{}, sent: map[string]sending{}, judged: map[judgement]judged{},
	}
}

// lookEvery is how often rollouts are looked at: stamps tell of themselves
// each second.
const lookEvery = time.Second

// Run steps rollouts and tells stamps what they are to run until ctx ends.
func (rs *Rollouts) Run(ctx context.Context) error {
	return tasks.Run(ctx,
		tasks.Task{Name: "rollouts", Run: func(ctx context.Context) error {
			return rs.repeat(ctx, rs.look, lookEvery, rs.Look)
		}},
		tasks.Task{Name: "documents", Run: func(ctx context.Context) error {
			defer rs.sending.Wait()
			return rs.repeat(ctx, rs.send, sendEvery, rs.Send)
		}},
	)
}

// repeat does something at once, whenever the bell rings, and on each tick.
func (rs *Rollouts) repeat(ctx context.Context, bell chan struct{}, every time.Duration, do func(context.Context) error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			rs.o.Logger.Warn("rollouts not looked at; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-bell:
		case <-tick.C:
		}
	}
}

func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// Kick has rollouts looked at, and documents sent, at once.
func (rs *Rollouts) Kick() {
	ring(rs.look)
	ring(rs.send)
	rs.o.Reroute()
	rs.Changed.Ring()
}

// Look takes each rollout that is not over one step further.
func (rs *Rollouts) Look(ctx context.Context) error {
	stamps, err := rs.o.Fleet.Stamps(ctx)
	if err != nil {
		return err
	}
	environments := make(map[string]string, len(stamps))
	for _, s := range stamps {
		environments[s.Metadata.Name] = s.Spec.Environment
	}
	if err := rs.enrol(ctx, environments); err != nil {
		return err
	}
	active, err := sqldb.Rows(ctx, rs.o.DB, scanRecord, selectRollouts+" WHERE active = 1 ORDER BY id")
	if err != nil {
		return err
	}
	var failed error
	for _, r := range active {
		if err := rs.step(ctx, r); err != nil && !errors.Is(err, errMoved) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

func (rs *Rollouts) step(ctx context.Context, r record) error {
	facts, err := rs.facts(ctx, r.Rollout)
	if err != nil {
		return err
	}
	next := Step(r.Rollout, facts, rs.o.Now().UTC())
	if same, err := r.same(next); same || err != nil {
		return err
	}
	if err := rs.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return rs.save(ctx, tx, r, next) }); err != nil {
		return err
	}
	if next.Events != r.Events {
		rs.Kick()
	}
	return nil
}

// change does what somebody says of a rollout.
func (rs *Rollouts) change(ctx context.Context, id string, do func(Rollout, Facts, time.Time) (Rollout, error)) (Rollout, error) {
	before, err := readRollout(ctx, rs.o.DB, id)
	if err != nil {
		return Rollout{}, err
	}
	facts, err := rs.facts(ctx, before.Rollout)
	if err != nil {
		return Rollout{}, err
	}
	var next Rollout
	err = rs.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		next, err = rs.changeIn(ctx, tx, id, func(r Rollout, now time.Time) (Rollout, error) { return do(r, facts, now) })
		return err
	})
	if err == nil {
		rs.Kick()
	}
	return next, err
}

// changeIn is change inside another change.
func (rs *Rollouts) changeIn(ctx context.Context, tx *sqldb.Tx, id string, do func(Rollout, time.Time) (Rollout, error)) (Rollout, error) {
	r, err := readRollout(ctx, tx, id)
	if err != nil {
		return Rollout{}, err
	}
	next, err := do(r.Rollout, rs.o.Now().UTC())
	if err != nil {
		return Rollout{}, err
	}
	return next, rs.save(ctx, tx, r, next)
}

// maxWords is how long a reason may be.
const maxWords = 2000

func wordOf(actor access.Actor, reason string) (Word, error) {
	if reason == "" || len(reason) > maxWords {
		return Word{}, problem.New(problem.Invalid, "say why, in 1 to %d characters", maxWords).At("reason")
	}
	return Word{By: actor.Name, Reason: reason}, nil
}

// Pause has no further device be told anything.
func (rs *Rollouts) Pause(ctx context.Context, actor access.Actor, id, reason string) (Rollout, error) {
	return rs.say(ctx, actor, id, reason, func(r Rollout, w Word, _ Facts, now time.Time) (Rollout, error) { return Pause(r, w, now) })
}

// Resume goes on after a pause.
func (rs *Rollouts) Resume(ctx context.Context, actor access.Actor, id, reason string) (Rollout, error) {
	return rs.say(ctx, actor, id, reason, func(r Rollout, w Word, _ Facts, now time.Time) (Rollout, error) { return Resume(r, w, now) })
}

// Skip waits no longer for the wave of a stamp, of all that are moving if none
// is named, or for the next ring.
func (rs *Rollouts) Skip(ctx context.Context, actor access.Actor, id, stamp, reason string) (Rollout, error) {
	return rs.say(ctx, actor, id, reason, func(r Rollout, w Word, f Facts, now time.Time) (Rollout, error) { return Skip(r, stamp, f, w, now) })
}

// Abort takes a rollout back, or with leave leaves devices as they are.
func (rs *Rollouts) Abort(ctx context.Context, actor access.Actor, id, reason string, leave, force bool) (Rollout, error) {
	return rs.say(ctx, actor, id, reason, func(r Rollout, w Word, _ Facts, now time.Time) (Rollout, error) {
		if leave {
			return Leave(r, w, now)
		}
		return Abort(r, w, force, now)
	})
}

func (rs *Rollouts) say(ctx context.Context, actor access.Actor, id, reason string, do func(Rollout, Word, Facts, time.Time) (Rollout, error)) (Rollout, error) {
	w, err := wordOf(actor, reason)
	if err != nil {
		return Rollout{}, err
	}
	return rs.change(ctx, id, func(r Rollout, f Facts, now time.Time) (Rollout, error) { return do(r, w, f, now) })
}

// Start begins a rollout inside the change that decides it. Whoever commits
// that kicks afterwards.
func (rs *Rollouts) Start(ctx context.Context, tx *sqldb.Tx, p Plan, stamps Facts) (Rollout, error) {
	r := Begin(p, stamps, rs.o.Now().UTC())
	return r, rs.insert(ctx, tx, r)
}

// ConfirmIn makes a complete rollout's release what its stamps run.
func (rs *Rollouts) ConfirmIn(ctx context.Context, tx *sqldb.Tx, id string) error {
	_, err := rs.changeIn(ctx, tx, id, Confirm)
	return err
}

// FailIn has a rollout end as one whose release was not verified.
func (rs *Rollouts) FailIn(ctx context.Context, tx *sqldb.Tx, id, reason string) error {
	_, err := rs.changeIn(ctx, tx, id, func(r Rollout, now time.Time) (Rollout, error) { return Fail(r, reason, now) })
	return err
}

// AbortIn takes a rollout back.
func (rs *Rollouts) AbortIn(ctx context.Context, tx *sqldb.Tx, id string, w Word, leave, force bool) error {
	_, err := rs.changeIn(ctx, tx, id, func(r Rollout, now time.Time) (Rollout, error) {
		if leave {
			return Leave(r, w, now)
		}
		return Abort(r, w, force, now)
	})
	return err
}

// Get returns a rollout.
func (rs *Rollouts) Get(ctx context.Context, q sqldb.Querier, id string) (Rollout, error) {
	r, err := readRollout(ctx, q, id)
	return r.Rollout, err
}

// List returns the newest rollouts, of an environment if one is named.
func (rs *Rollouts) List(ctx context.Context, environment string, limit int) ([]Rollout, error) {
	if limit <= 0 || limit > link.MaxPage {
		limit = 100
	}
	all, err := sqldb.Rows(ctx, rs.o.DB, scanRecord, selectRollouts+" WHERE ? = '' OR environment = ? ORDER BY created_at DESC, id DESC LIMIT ?", environment, environment, limit)
	return rolloutsOf(all), err
}
