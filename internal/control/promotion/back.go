package promotion

import (
	"context"
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

// Return is what somebody wants of a way back.
type Return struct {
	Environment string
	To          string // a release that was verified there; empty is the one before
	Reason      string
	Force       bool // though the release that runs does not lead back safely
}

// Rollback takes an environment back: from the release on its way, if one is,
// or else from the one it runs to the one before. Every stamp is told at once,
// without waves, and the release is rejected there.
func (ps *Promotions) Rollback(ctx context.Context, actor access.Actor, way Return) (Promotion, error) {
	if err := checkReason(way.Reason); err != nil {
		return Promotion{}, err
	}
	env, err := ps.o.Environments.Get(ctx, way.Environment)
	if err != nil {
		return Promotion{}, err
	}
	running, err := first(ctx, ps.o.DB, "environment = ? AND running = 1", way.Environment)
	if err != nil {
		return Promotion{}, err
	}
	if running != nil && running.Back {
		return *running, problem.New(problem.Conflict, "%s takes %s back to %s already", running.ID, way.Environment, running.Release)
	}
	if running != nil && way.To == "" {
		return ps.takeBack(ctx, actor, *running, way)
	}
	if running != nil {
		return *running, problem.New(problem.Conflict, "%s runs in %s; roll that back first, without naming a release", running.ID, way.Environment)
	}
	return ps.goBack(ctx, actor, env, way)
}

// takeBack turns a rollout round, and rejects its release.
func (ps *Promotions) takeBack(ctx context.Context, actor access.Actor, p Promotion, way Return) (Promotion, error) {
	return ps.end(ctx, p.ID, func(ctx context.Context, tx *sqldb.Tx, p Promotion, now time.Time) (Promotion, error) {
		if err := ps.o.Rollouts.AbortIn(ctx, tx, p.Rollout, rollout.Word{By: actor.Name, Reason: way.Reason}, false, way.Force); err != nil {
			return p, err
		}
		return p, ps.condemn(ctx, tx, actor, p.Environment, p.Release, p.Digest, way.Reason, now)
	})
}

// condemn rejects a release that ran, and takes its verification back: what
// waits for it downstream is cancelled.
func (ps *Promotions) condemn(ctx context.Context, tx *sqldb.Tx, actor access.Actor, environment, release, digest, reason string, now time.Time) error {
	if err := ps.reject(ctx, tx, Rejection{Environment: environment, Release: release, Digest: digest, At: now, By: actor.Name, Reason: reason}); err != nil {
		return err
	}
	return ps.record(ctx, tx, Verification{Environment: environment, Release: release, Digest: digest, At: now, By: actor.Name, Reason: "rolled back: " + reason})
}

// goBack has the environment run an earlier release. It is decided, and what
// every stamp is to run is written, in one change.
func (ps *Promotions) goBack(ctx context.Context, actor access.Actor, env resource.Environment, way Return) (p Promotion, err error) {
	bad, to, err := ps.ways(ctx, env, way)
	if err != nil {
		return p, err
	}
	o := outside{release: to, policy: rollout.Whole(env.Spec.Promotion, env.Spec.PromotesFrom == "")}
	if o.stamps, err = ps.o.Rollouts.Facts(ctx, way.Environment); err != nil {
		return p, err
	}
	err = ps.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now := ps.o.Now().UTC().Truncate(time.Microsecond)
		if p, err = ps.returning(ctx, tx, actor, way, bad, to, now); err != nil {
			return err
		}
		if err := ps.startRollout(ctx, tx, &p, o, true); err != nil {
			return err
		}
		if err := ps.insert(ctx, tx, p); err != nil {
			return err
		}
		if err := ps.o.Signing.Admit(ctx, tx, p.Environment, p.Release); err != nil {
			return err
		}
		return ps.keep(ctx, tx, p)
	})
	if err == nil {
		ps.o.Rollouts.Kick()
		ps.kick.Ring()
	}
	return p, err
}

// returning is the promotion that leads back, if nothing has changed since the
// way was found.
func (ps *Promotions) returning(ctx context.Context, tx *sqldb.Tx, actor access.Actor, way Return, bad, to link.Release, now time.Time) (Promotion, error) {
	p := Promotion{
		Environment: way.Environment, Release: to.Name, Digest: to.Digest, Counter: to.Counter, Kind: kindOf(to), Back: true, From: bad.Name, By: actor.Name, Reason: way.Reason, CreatedAt: now,
	}
	stood, err := ps.o.Rollouts.Stood(ctx, tx, way.Environment)
	if err != nil {
		return p, err
	}
	running, err := first(ctx, tx, "environment = ? AND running = 1", way.Environment)
	if err != nil {
		return p, err
	}
	if running != nil || len(stood) == 0 || stood[0].Digest != bad.Digest {
		return p, errMoved
	}
	if err := ps.condemn(ctx, tx, actor, way.Environment, bad.Name, bad.Digest, way.Reason, now); err != nil {
		return p, err
	}
	if p.ID, err = rollout.ID(ctx, tx, "promotion"); err != nil {
		return p, err
	}
	p.become(Requested, actor.Name, way.Reason, now)
	p.become(Running, actor.Name, "", now)
	return p, nil
}

// ways are the release to go back from, and the one to go back to.
func (ps *Promotions) ways(ctx context.Context, env resource.Environment, way Return) (bad, to link.Release, err error) {
	stood, err := ps.o.Rollouts.Stood(ctx, ps.o.DB, way.Environment)
	if err != nil {
		return bad, to, err
	}
	if len(stood) == 0 {
		return bad, to, problem.New(problem.Conflict, "%s runs no release that could be gone back from", way.Environment)
	}
	if bad, err = ps.o.Releases.Get(ctx, stood[0].Release); err != nil {
		return bad, to, err
	}
	opening, err := ps.opening(ctx, way.Environment, policyOf(env), bad, true)
	switch {
	case err != nil:
		return bad, to, err
	case !opening.Open:
		return bad, to, problem.New(problem.Conflict, "%s; declare `exempt: [rollback]` where the way back is to stay open", opening.Reason)
	case bad.Spec.Rollback != "" && bad.Spec.Rollback != link.RollbackSafe && !way.Force:
		return bad, to, problem.New(problem.Conflict, "release %s is %s, so going back from it may lose data; promote a release that mends it, or say --force", bad.Name, bad.Spec.Rollback)
	}
	name, err := ps.before(ctx, stood, way)
	if err != nil {
		return bad, to, err
	}
	to, err = ps.o.Releases.Get(ctx, name)
	return bad, to, err
}

// before is the release to go back to: the one named, or the newest that ran
// before the present one came there first; in any case one that was verified
// there, and is not rejected.
func (ps *Promotions) before(ctx context.Context, stood []rollout.Stood, way Return) (string, error) {
	present := 0
	for i, s := range stood {
		if s.Digest == stood[0].Digest {
			present = i // when it came there first
		}
	}
	for i, s := range stood {
		if s.Digest == stood[0].Digest || way.To != "" && s.Release != way.To || way.To == "" && i < present {
			continue
		}
		v, err := verdict(ctx, ps.o.DB, way.Environment, s.Digest)
		if err != nil {
			return "", err
		}
		against, err := rejected(ctx, ps.o.DB, way.Environment, s.Digest)
		if err != nil {
			return "", err
		}
		if v != nil && v.Passed && against == nil {
			return s.Release, nil
		}
	}
	if way.To != "" {
		return "", problem.New(problem.Conflict, "%s did not run in %s, or did not do well there; `slipway promotion list --environment %s` shows what did", way.To, way.Environment, way.Environment).At("to")
	}
	return "", problem.New(problem.Conflict, "no release ran well in %s before %s", way.Environment, stood[0].Release)
}

// Unverify records that somebody found the release wanting that an environment
// runs: what waits for it downstream is cancelled.
func (ps *Promotions) Unverify(ctx context.Context, actor access.Actor, environment, reason string) (Verification, error) {
	if err := checkReason(reason); err != nil {
		return Verification{}, err
	}
	return ps.note(ctx, actor, environment, reason, func(v *Verification) error { return nil })
}

// Verify looks once more at the release that an environment runs, by the gates
// it was verified by. Whatever they say counts from then on; if they cannot
// tell, nothing changes.
func (ps *Promotions) Verify(ctx context.Context, actor access.Actor, environment, reason string) (v Verification, err error) {
	env, err := ps.o.Environments.Get(ctx, environment)
	if err != nil {
		return v, err
	}
	if err := checkReason(reason); err != nil {
		return v, err
	}
	gates := verifying(policyOf(env).Verify)
	release, err := ps.current(ctx, environment)
	if err != nil {
		return v, err
	}
	subject := gate.Subject{Environment: environment, Release: release, Requester: actor.Who(), Since: ps.o.Now()}
	results, err := ps.o.Gates.Judge(ctx, ps.o.Now(), gates, subject)
	if err != nil {
		return v, err
	}
	verdict, reasons := gate.Combine(results, len(gates) == 0)
	if !verdict.Lets() && verdict != gate.Fail {
		return v, problem.New(problem.Conflict, "there is no verdict: %s", strings.Join(reasons, "; "))
	}
	return ps.note(ctx, actor, environment, reason, func(v *Verification) error {
		if v.Digest != release.Digest {
			return errMoved
		}
		v.Passed, v.Results = verdict.Lets(), results
		if !v.Passed {
			v.Reason = strings.Join(reasons, "; ")
		}
		return nil
	})
}

// current is the release that an environment runs.
func (ps *Promotions) current(ctx context.Context, environment string) (link.Release, error) {
	stood, err := ps.o.Rollouts.Stood(ctx, ps.o.DB, environment)
	if err != nil {
		return link.Release{}, err
	}
	if len(stood) == 0 {
		return link.Release{}, problem.New(problem.Conflict, "%s runs no release", environment)
	}
	return ps.o.Releases.Get(ctx, stood[0].Release)
}

// note records a verdict on the release that an environment runs.
func (ps *Promotions) note(ctx context.Context, actor access.Actor, environment, reason string, say func(*Verification) error) (v Verification, err error) {
	release, err := ps.current(ctx, environment)
	if err != nil {
		return v, err
	}
	err = ps.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		v = Verification{Environment: environment, Release: release.Name, Digest: release.Digest, At: ps.o.Now().UTC(), By: actor.Name, Reason: reason}
		if err := say(&v); err != nil {
			return err
		}
		return ps.record(ctx, tx, v)
	})
	ps.kick.Ring()
	return v, err
}
