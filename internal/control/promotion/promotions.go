package promotion

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/tasks"
)

// Environments are those that releases are promoted through.
type Environments interface {
	List(ctx context.Context) ([]resource.Environment, error)
	Get(ctx context.Context, name string) (resource.Environment, error)
	Stamps(ctx context.Context) ([]resource.Stamp, error)
	Observed(stamp string) (link.Observed, bool)
}

// Releases are what is promoted.
type Releases interface {
	Get(ctx context.Context, name string) (link.Release, error)
	List(ctx context.Context, before int64, limit int) ([]link.Release, error)
}

// Signing says which releases devices of an environment may install.
type Signing interface {
	Admit(ctx context.Context, tx *sqldb.Tx, environment, release string) error
	Withdraw(ctx context.Context, tx *sqldb.Tx, environment, release string) error
	Admitted(ctx context.Context, environment, release string) (admitted bool, reason string, err error)
}

// Gates judge promotions.
type Gates interface {
	Judge(ctx context.Context, now time.Time, gates []resource.Gate, s gate.Subject) ([]gate.Result, error)
	Approve(ctx context.Context, actor access.Actor, s gate.Subject, reason string) error
	Reject(ctx context.Context, actor access.Actor, s gate.Subject, reason string) error
	Approvals(ctx context.Context, promotion string) ([]gate.Approval, error)
	Halts(ctx context.Context, environment string) ([]gate.Halt, error)
	Sign(ctx context.Context, req *http.Request, id string, body []byte) error
}

// Options are what promotions work with.
type Options struct {
	DB           *sqldb.DB
	Audit        *audit.Log
	Environments Environments
	Releases     Releases
	Signing      Signing
	Gates        Gates
	Rollouts     *rollout.Rollouts
	Guard        *outbound.Guard // where webhooks may be
	// Evidence is what is kept with each verification beside its verdicts; it
	// answers at once. Nil is nothing.
	Evidence func(environment string, now time.Time) []gate.Result
	// Independent lets somebody agree who can be told from others; default is by
	// their names.
	Independent func(ctx context.Context, q sqldb.Querier, actor access.Actor, others ...string) error
	Logger      *slog.Logger
	Now         func() time.Time
}

// Promotions are the promotions of an installation.
type Promotions struct {
	o    Options
	kick tasks.Bell

	judging sync.WaitGroup
	mu      sync.Mutex
	judged  map[string]judged // by promotion and state
}

// New returns the promotions kept in a database.
func New(o Options) *Promotions {
	if o.Independent == nil {
		o.Independent = gate.ByName
	}
	return &Promotions{o: o, judged: map[string]judged{}}
}

// The clocks of the loop.
const (
	lookEvery    = time.Second
	judgeEvery   = 5 * time.Second
	stretchEvery = 10 * time.Second
)

// Run steps promotions, and tells webhooks, until ctx ends.
func (ps *Promotions) Run(ctx context.Context) error {
	defer ps.judging.Wait()
	return tasks.Run(ctx,
		tasks.Task{Name: "promotions", Run: ps.follow},
		tasks.Task{Name: "soaks", Run: func(ctx context.Context) error {
			return tasks.Every(ctx, stretchEvery, func() { ps.complain(ctx, ps.watch(ctx)) })
		}},
		tasks.Task{Name: "webhooks", Run: ps.deliverAll},
	)
}

func (ps *Promotions) complain(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		ps.o.Logger.Warn("promotions not looked at; trying again", "error", err)
	}
}

// follow looks at promotions whenever something has changed, and on each tick.
func (ps *Promotions) follow(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		own, theirs := ps.kick.Next(), ps.o.Rollouts.Changed.Next()
		ps.complain(ctx, ps.Look(ctx))
		select {
		case <-ctx.Done():
			return nil
		case <-own:
		case <-theirs:
		case <-tick.C:
		}
	}
}

// Look takes each promotion that is not over as far as it comes, and lets in
// what enters by itself.
func (ps *Promotions) Look(ctx context.Context) error {
	environments, err := ps.o.Environments.List(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, env := range environments {
		if err := ps.choose(ctx, env); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", env.Metadata.Name, err))
		}
	}
	active, err := sqldb.Rows(ctx, ps.o.DB, scanRecord, selectPromotions+" WHERE waiting = 1 OR running = 1 ORDER BY created_at, id")
	if err != nil {
		return errors.Join(failed, err)
	}
	for _, p := range active {
		i := slices.IndexFunc(environments, func(e resource.Environment) bool { return e.Metadata.Name == p.Environment })
		var env *resource.Environment
		if i >= 0 {
			env = &environments[i]
		}
		if err := ps.advance(ctx, p.Promotion, env, true); err != nil && !errors.Is(err, errMoved) {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", p.ID, err))
		}
	}
	return failed
}

// mostSteps is how many steps a promotion takes at one look.
const mostSteps = 6

// advance steps a promotion until it stays.
func (ps *Promotions) advance(ctx context.Context, p Promotion, env *resource.Environment, ask bool) error {
	for range mostSteps {
		outside, err := ps.outside(ctx, p, env, ask)
		if err != nil {
			return err
		}
		next, err := ps.stepOnce(ctx, p.ID, outside)
		if err != nil {
			return err
		}
		if next.Changes == p.Changes {
			return nil
		}
		ps.o.Rollouts.Kick()
		if p = next; p.State.Over() {
			ps.kick.Ring()
			return nil
		}
	}
	return nil
}

// stepOnce loads a promotion with what the database knows, steps it, and
// stores what became of it with all that follows, in one change.
func (ps *Promotions) stepOnce(ctx context.Context, id string, outside outside) (next Promotion, err error) {
	err = ps.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		before, err := readPromotion(ctx, tx, id)
		if err != nil {
			return err
		}
		if before.State != outside.state {
			return errMoved // what was found out was for another state
		}
		now := ps.o.Now().UTC()
		facts, err := ps.facts(ctx, tx, before.Promotion, outside, now)
		if err != nil {
			return err
		}
		var actions []Action
		next, actions = Step(before.Promotion, facts, now)
		if err := ps.do(ctx, tx, &next, facts, outside, actions, now); err != nil {
			return err
		}
		return ps.save(ctx, tx, before, next)
	})
	return next, err
}

// do carries out the actions of a step, inside its change.
func (ps *Promotions) do(ctx context.Context, tx *sqldb.Tx, p *Promotion, f Facts, o outside, actions []Action, now time.Time) error {
	for _, a := range actions {
		if err := ps.act(ctx, tx, p, f, o, a, now); err != nil {
			return err
		}
	}
	return nil
}

func (ps *Promotions) act(ctx context.Context, tx *sqldb.Tx, p *Promotion, f Facts, o outside, a Action, now time.Time) error {
	switch a {
	case StartRollout:
		return ps.startRollout(ctx, tx, p, o, false)
	case UseWaiver:
		w := *f.Waiver
		w.UsedBy, w.UsedAt = p.ID, &now
		return ps.putWaiver(ctx, tx, w, Robot, "waiver.use", p.ID)
	case Admit:
		return ps.o.Signing.Admit(ctx, tx, p.Environment, p.Release)
	case Withdraw:
		return ps.withdraw(ctx, tx, *p)
	case Confirm:
		return ps.o.Rollouts.ConfirmIn(ctx, tx, p.Rollout)
	case FailRollout:
		return ps.o.Rollouts.FailIn(ctx, tx, p.Rollout, FailReason(*p))
	case Verified, Unverified:
		v := Verification{Environment: p.Environment, Release: p.Release, Digest: p.Digest, Passed: a == Verified, At: now, By: Robot, Promotion: p.ID, Reason: p.Outcome, Results: p.Verdicts}
		return ps.record(ctx, tx, v)
	case Reject:
		return ps.reject(ctx, tx, Rejection{Environment: p.Environment, Release: p.Release, Digest: p.Digest, At: now, By: Robot, Reason: p.Outcome})
	}
	return ps.endHolds(ctx, tx, *p, now)
}

// withdraw takes a release from what devices of the environment may install,
// unless the environment runs it, or went on to it otherwise.
func (ps *Promotions) withdraw(ctx context.Context, tx *sqldb.Tx, p Promotion) error {
	stood, err := ps.o.Rollouts.Stood(ctx, tx, p.Environment)
	if err != nil || slices.ContainsFunc(stood, func(s rollout.Stood) bool { return s.Digest == p.Digest }) {
		return err
	}
	return ps.o.Signing.Withdraw(ctx, tx, p.Environment, p.Release)
}

func (ps *Promotions) startRollout(ctx context.Context, tx *sqldb.Tx, p *Promotion, o outside, back bool) error {
	id, err := rollout.ID(ctx, tx, "rollout")
	if err != nil {
		return err
	}
	r, err := ps.o.Rollouts.Start(ctx, tx, rollout.Plan{
		ID: id, Promotion: p.ID, Environment: p.Environment, Release: o.release, From: p.From, Policy: o.policy, Back: back, By: p.By, Reason: p.Reason,
	}, o.stamps)
	p.Rollout = r.ID
	return err
}

// endHolds ends the holds that earlier promotions set so that they were not
// undone: somebody has moved on.
func (ps *Promotions) endHolds(ctx context.Context, tx *sqldb.Tx, p Promotion, now time.Time) error {
	on, err := holds(ctx, tx, p.Environment, now)
	if err != nil {
		return err
	}
	for _, h := range on {
		if h.Promotion == "" || h.Promotion == p.ID {
			continue
		}
		h.EndedAt, h.EndedBy = &now, p.By
		if err := ps.putHold(ctx, tx, h, p.By, "hold.end"); err != nil {
			return err
		}
	}
	return nil
}
