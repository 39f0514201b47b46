package promotion

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// maxReason is how long a reason may be.
const maxReason = 2000

func checkReason(reason string) error {
	if strings.TrimSpace(reason) == "" || len(reason) > maxReason {
		return problem.New(problem.Invalid, "say why, in 1 to %d characters", maxReason).At("reason")
	}
	return nil
}

// Start asks for a release to enter an environment. Asked for again while it
// has not ended, it is the same promotion. It takes the place of one that
// waits there; one that runs is not touched, and waited for.
func (ps *Promotions) Start(ctx context.Context, actor access.Actor, environment, release, reason string) (Promotion, error) {
	p, err := ps.start(ctx, actor, environment, release, reason, "", false)
	if err != nil {
		return p, err
	}
	return ps.atOnce(ctx, p)
}

// atOnce takes a promotion as far as it comes now, so that who asks for it
// hears what keeps it.
func (ps *Promotions) atOnce(ctx context.Context, p Promotion) (Promotion, error) {
	env, err := ps.o.Environments.Get(ctx, p.Environment)
	if err != nil {
		return p, err
	}
	ps.complain(ctx, stillMoving(ps.advance(ctx, p, &env, false)))
	now, err := readPromotion(ctx, ps.o.DB, p.ID)
	return now.Promotion, err
}

// stillMoving lets pass that the loop was faster.
func stillMoving(err error) error {
	if errors.Is(err, errMoved) {
		return nil
	}
	return err
}

// Retry asks for the release of a promotion that has ended once more.
func (ps *Promotions) Retry(ctx context.Context, actor access.Actor, id, reason string) (Promotion, error) {
	old, err := readPromotion(ctx, ps.o.DB, id)
	if err != nil {
		return Promotion{}, err
	}
	if !old.State.Over() {
		return Promotion{}, problem.New(problem.Conflict, "promotion %s is %s; only one that has ended can be tried again", id, old.State)
	}
	p, err := ps.start(ctx, actor, old.Environment, old.Release, reason, id, false)
	if err != nil {
		return p, err
	}
	return ps.atOnce(ctx, p)
}

func (ps *Promotions) start(ctx context.Context, actor access.Actor, environment, name, reason, retryOf string, automatic bool) (p Promotion, err error) {
	if len(reason) > maxReason {
		return p, problem.New(problem.Invalid, "a reason has at most %d characters, not %d", maxReason, len(reason)).At("reason")
	}
	env, err := ps.o.Environments.Get(ctx, environment)
	if err != nil {
		return p, err
	}
	release, err := ps.o.Releases.Get(ctx, name)
	if err != nil {
		return p, err
	}
	current, candidate, err := ps.counters(ctx, env)
	if err != nil {
		return p, err
	}
	err = ps.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		p = Promotion{
			Environment: environment, Upstream: env.Spec.PromotesFrom, Release: release.Name, Digest: release.Digest, Counter: release.Counter, Kind: kindOf(release),
			Automatic: automatic, By: actor.Name, Person: answering(actor), Maker: actor.Maker, Reason: reason, RetryOf: retryOf, CreatedAt: ps.o.Now().UTC().Truncate(time.Microsecond),
		}
		if p, err = ps.place(ctx, tx, p); err != nil {
			return err
		}
		if !automatic && release.Counter < max(current, candidate) {
			return ps.keep(ctx, tx, p)
		}
		return nil
	})
	if err == nil {
		ps.kick.Ring()
	}
	return p, err
}

func kindOf(r link.Release) string {
	if r.Spec.Type == "" {
		return link.ReleaseFeature
	}
	return r.Spec.Type
}

// place stores a new promotion in the one place there is for those that wait.
func (ps *Promotions) place(ctx context.Context, tx *sqldb.Tx, p Promotion) (Promotion, error) {
	same, err := first(ctx, tx, "environment = ? AND digest = ? AND (waiting = 1 OR running = 1)", p.Environment, p.Digest)
	if err != nil || same != nil {
		if same != nil {
			p = *same
		}
		return p, err
	}
	stood, err := ps.o.Rollouts.Stood(ctx, tx, p.Environment)
	if err != nil {
		return p, err
	}
	if len(stood) > 0 {
		if p.From = stood[0].Release; stood[0].Digest == p.Digest {
			return p, problem.New(problem.Conflict, "%s runs release %s already", p.Environment, p.Release)
		}
	}
	if p.ID, err = rollout.ID(ctx, tx, "promotion"); err != nil {
		return p, err
	}
	if err := ps.supersede(ctx, tx, p); err != nil {
		return p, err
	}
	p.become(Requested, p.By, p.Reason, p.CreatedAt)
	return p, ps.insert(ctx, tx, p)
}

// supersede ends the promotion whose place a new one takes.
func (ps *Promotions) supersede(ctx context.Context, tx *sqldb.Tx, p Promotion) error {
	waiting, found, err := sqldb.Row(ctx, tx, scanRecord, selectPromotions+" WHERE environment = ? AND waiting = 1", p.Environment)
	if err != nil || !found {
		return err
	}
	next := waiting.Promotion
	next.become(Superseded, p.By, fmt.Sprintf("%s of %s took its place", p.ID, p.Release), p.CreatedAt)
	if err := ps.withdraw(ctx, tx, next); err != nil {
		return err
	}
	return ps.save(ctx, tx, waiting, next)
}

// keep sets the hold by which the robot does not undo what somebody does: a
// release older than the one that would enter by itself.
func (ps *Promotions) keep(ctx context.Context, tx *sqldb.Tx, p Promotion) error {
	on, err := holds(ctx, tx, p.Environment, p.CreatedAt)
	if err != nil {
		return err
	}
	for _, h := range on {
		if h.Promotion == p.ID {
			return nil
		}
	}
	id, err := rollout.ID(ctx, tx, "hold")
	if err != nil {
		return err
	}
	h := Hold{ID: id, Environment: p.Environment, Owner: p.By, Promotion: p.ID, At: p.CreatedAt, Reason: fmt.Sprintf("%s asked for %s, which is not the newest", p.By, p.Release)}
	return ps.putHold(ctx, tx, h, p.By, "hold.set")
}

// counters are those of what an environment runs, and of what would enter it
// by itself.
func (ps *Promotions) counters(ctx context.Context, env resource.Environment) (current, candidate int64, err error) {
	counter := func(environment string) (int64, error) {
		stood, err := ps.o.Rollouts.Stood(ctx, ps.o.DB, environment)
		if err != nil || len(stood) == 0 {
			return 0, err
		}
		r, err := ps.o.Releases.Get(ctx, stood[0].Release)
		return r.Counter, err
	}
	if current, err = counter(env.Metadata.Name); err != nil || env.Spec.PromotesFrom == "" {
		return current, 0, err
	}
	candidate, err = counter(env.Spec.PromotesFrom)
	return current, candidate, err
}

// choose lets a release enter an environment by itself, if one is to.
func (ps *Promotions) choose(ctx context.Context, env resource.Environment) error {
	if !policyOf(env).Automatic {
		return nil
	}
	s, err := ps.sight(ctx, env)
	if err != nil || !Chooses(s) {
		return err
	}
	_, err = ps.start(ctx, access.Actor{Name: Robot}, env.Metadata.Name, s.Candidate.Release, "it is verified, and the environment takes what is", "", true)
	return err
}

// sight gathers what decides whether a release enters by itself.
func (ps *Promotions) sight(ctx context.Context, env resource.Environment) (s Sight, err error) {
	name, upstream := env.Metadata.Name, env.Spec.PromotesFrom
	s.Automatic = true
	if s.Current, _, err = ps.counters(ctx, env); err != nil {
		return s, err
	}
	if s.Candidate, err = ps.candidate(ctx, upstream); err != nil || s.Candidate == nil {
		return s, err
	}
	s.Verified = upstream == ""
	if upstream != "" {
		v, err := verdict(ctx, ps.o.DB, upstream, s.Candidate.Digest)
		if err != nil {
			return s, err
		}
		s.Verified = v != nil && v.Passed
	}
	if s.Waiting, err = first(ctx, ps.o.DB, "environment = ? AND waiting = 1", name); err != nil {
		return s, err
	}
	if s.Last, err = first(ctx, ps.o.DB, "environment = ? AND digest = ?", name, s.Candidate.Digest); err != nil {
		return s, err
	}
	against, err := rejected(ctx, ps.o.DB, name, s.Candidate.Digest)
	if err != nil {
		return s, err
	}
	on, err := holds(ctx, ps.o.DB, name, ps.o.Now())
	s.Rejected, s.Held = against != nil, len(on) > 0
	return s, err
}

// candidate is what runs upstream, or the newest release where nothing comes
// before; nil if there is none.
func (ps *Promotions) candidate(ctx context.Context, upstream string) (*Candidate, error) {
	if upstream == "" {
		newest, err := ps.o.Releases.List(ctx, 0, 1)
		if err != nil || len(newest) == 0 {
			return nil, err
		}
		return &Candidate{newest[0].Name, newest[0].Digest, newest[0].Counter}, nil
	}
	stood, err := ps.o.Rollouts.Stood(ctx, ps.o.DB, upstream)
	if err != nil || len(stood) == 0 {
		return nil, err
	}
	r, err := ps.o.Releases.Get(ctx, stood[0].Release)
	return &Candidate{r.Name, r.Digest, r.Counter}, err
}

// Approve records that somebody agrees to a promotion that waits.
func (ps *Promotions) Approve(ctx context.Context, actor access.Actor, id, reason string) (Promotion, error) {
	p, err := readPromotion(ctx, ps.o.DB, id)
	if err != nil {
		return p.Promotion, err
	}
	if !p.State.Waits() {
		return p.Promotion, problem.New(problem.Conflict, "promotion %s is %s; only one that waits can be approved", id, p.State)
	}
	if err := ps.byPeople(ctx, actor, p.Environment); err != nil {
		return p.Promotion, err
	}
	err = ps.o.Gates.Approve(ctx, actor, gate.Subject{Promotion: id, Requester: p.requester(), Maker: p.Maker}, reason)
	ps.forget(p.Promotion)
	return p.Promotion, err
}

// byPeople refuses the word of a token that belongs to nobody where changes
// take a grant: nobody knows who has it.
func (ps *Promotions) byPeople(ctx context.Context, actor access.Actor, environment string) error {
	if actor.Kind != access.Bearer {
		return nil
	}
	env, err := ps.o.Environments.Get(ctx, environment)
	if err == nil && env.Spec.Access == resource.AccessControlled {
		err = problem.New(problem.Denied, "in %s people with accounts approve; the token %s belongs to nobody", environment, actor.Name)
	}
	return err
}

// Reject keeps a release out of an environment, and ends its promotion that
// waits there.
func (ps *Promotions) Reject(ctx context.Context, actor access.Actor, id, reason string) (next Promotion, err error) {
	p, err := readPromotion(ctx, ps.o.DB, id)
	if err != nil {
		return next, err
	}
	if !p.State.Waits() {
		return next, problem.New(problem.Conflict, "promotion %s is %s; `slipway rollback` takes back what runs, and rejects it", id, p.State)
	}
	if err := ps.o.Gates.Reject(ctx, actor, gate.Subject{Promotion: id, Requester: p.requester()}, reason); err != nil {
		return next, err
	}
	return ps.end(ctx, id, func(ctx context.Context, tx *sqldb.Tx, p Promotion, now time.Time) (Promotion, error) {
		p.become(Aborted, actor.Name, "rejected: "+reason, now)
		return p, ps.reject(ctx, tx, Rejection{Environment: p.Environment, Release: p.Release, Digest: p.Digest, At: now, By: actor.Name, Reason: reason})
	})
}

// end ends a promotion that waits, as somebody wants.
func (ps *Promotions) end(ctx context.Context, id string, do func(context.Context, *sqldb.Tx, Promotion, time.Time) (Promotion, error)) (next Promotion, err error) {
	err = ps.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		before, err := readPromotion(ctx, tx, id)
		if err != nil {
			return err
		}
		if before.State.Over() {
			return problem.New(problem.Conflict, "promotion %s is %s already", id, before.State)
		}
		if next, err = do(ctx, tx, before.Promotion, ps.o.Now().UTC()); err != nil {
			return err
		}
		if next.State.Over() {
			if err := ps.withdraw(ctx, tx, next); err != nil {
				return err
			}
		}
		return ps.save(ctx, tx, before, next)
	})
	if err == nil {
		ps.o.Rollouts.Kick()
		ps.kick.Ring()
	}
	return next, err
}

// Abort ends a promotion. One that runs is taken back, or with leave its
// devices are left as they are; force goes back even from a release that does
// not lead back safely.
func (ps *Promotions) Abort(ctx context.Context, actor access.Actor, id, reason string, leave, force bool) (Promotion, error) {
	if err := checkReason(reason); err != nil {
		return Promotion{}, err
	}
	return ps.end(ctx, id, func(ctx context.Context, tx *sqldb.Tx, p Promotion, now time.Time) (Promotion, error) {
		if p.State.Waits() {
			p.become(Aborted, actor.Name, reason, now)
			return p, nil
		}
		return p, ps.o.Rollouts.AbortIn(ctx, tx, p.Rollout, rollout.Word{By: actor.Name, Reason: reason}, leave, force)
	})
}
