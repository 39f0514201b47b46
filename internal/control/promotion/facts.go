package promotion

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// outside is what is found out before a change begins, as it takes time or
// asks others.
type outside struct {
	state    State // of the promotion it was found out for
	gone     string
	release  link.Release
	policy   resource.RolloutSpec
	stamps   rollout.Facts
	opening  gate.Opening
	gates    []gate.Result
	unknown  bool
	signed   string
	verify   bool
	verdicts []gate.Result
	within   time.Duration
}

// outside finds out what a promotion's next step needs that its database does
// not know. env is nil if the environment is gone; ask has gates looked at anew
// that are due, for as long as ctx lasts.
func (ps *Promotions) outside(ctx context.Context, p Promotion, env *resource.Environment, ask bool) (o outside, err error) {
	o.state = p.State
	if env == nil {
		o.gone = "environment " + p.Environment + " is gone"
		return o, nil
	}
	if o.release, err = ps.o.Releases.Get(ctx, p.Release); problem.Is(err, problem.NotFound) || err == nil && o.release.Digest != p.Digest {
		o.gone = "release " + p.Release + " is gone"
		return o, nil
	} else if err != nil {
		return o, err
	}
	spec := policyOf(*env)
	o.policy = rollout.Whole(&spec, env.Spec.PromotesFrom == "")
	o.verify, o.within = len(spec.Verify) > 0, spec.VerifyWithin.Duration(resource.DefaultVerifyWithin)
	if p.State == Verifying {
		o.verdicts, _ = ps.judge(ctx, p, o.release, verifying(spec.Verify), ask)
		return o, nil
	}
	if !p.State.Waits() {
		return o, nil
	}
	return o, ps.entrance(ctx, p, spec, &o, ask)
}

// entrance finds out what lets a waiting promotion enter.
func (ps *Promotions) entrance(ctx context.Context, p Promotion, spec resource.PromotionSpec, o *outside, ask bool) (err error) {
	known := false
	if o.gates, known = ps.judge(ctx, p, o.release, spec.Gates, ask); !known {
		o.unknown = true
	}
	if o.opening, err = ps.opening(ctx, p.Environment, spec, o.release, p.Back); err != nil {
		return err
	}
	admitted, reason, err := ps.o.Signing.Admitted(ctx, p.Environment, p.Release)
	if err != nil {
		return err
	}
	if !admitted {
		o.signed = reason
	}
	o.stamps, err = ps.o.Rollouts.Facts(ctx, p.Environment)
	return err
}

func (ps *Promotions) opening(ctx context.Context, environment string, spec resource.PromotionSpec, release link.Release, back bool) (gate.Opening, error) {
	halts, err := ps.o.Gates.Halts(ctx, environment)
	return gate.Open(ps.o.Now(), spec.Freeze, halts, gate.WorkOf(release, back)), err
}

// policyOf is how releases enter an environment, which may not say.
func policyOf(env resource.Environment) resource.PromotionSpec {
	if env.Spec.Promotion == nil {
		return resource.PromotionSpec{}
	}
	return *env.Spec.Promotion
}

// verifying are gates under names of their own, as their results are kept
// beside those of the gates that let a release in.
func verifying(gates []resource.Gate) []resource.Gate {
	all := make([]resource.Gate, len(gates))
	for i, g := range gates {
		g.Name = "verify/" + g.Name
		all[i] = g
	}
	return all
}

// facts are what is so beside a promotion, by the database and by what was
// found out.
func (ps *Promotions) facts(ctx context.Context, tx *sqldb.Tx, p Promotion, o outside, now time.Time) (f Facts, err error) {
	f = Facts{Gone: o.gone, Opening: o.opening, Gates: o.gates, Unknown: o.unknown, Signed: o.signed, Verify: o.verify, Verdicts: o.verdicts, VerifyWithin: o.within}
	if p.Upstream != "" {
		if f.Upstream, err = verdict(ctx, tx, p.Upstream, p.Digest); err != nil {
			return f, err
		}
	}
	if f.Rejected, err = rejected(ctx, tx, p.Environment, p.Digest); err != nil {
		return f, err
	}
	if f.Holds, err = holds(ctx, tx, p.Environment, now); err != nil {
		return f, err
	}
	if f.Waiver, err = waiver(ctx, tx, p.Environment, p.Digest, now); err != nil {
		return f, err
	}
	running, err := first(ctx, tx, "environment = ? AND running = 1", p.Environment)
	if err != nil {
		return f, err
	}
	if running != nil && running.ID != p.ID {
		f.Busy = running.ID
	}
	if p.Rollout != "" {
		r, err := ps.o.Rollouts.Get(ctx, tx, p.Rollout)
		f.Rollout = &r
		return f, err
	}
	return f, nil
}

// judged are the last verdicts on a promotion.
type judged struct {
	at      time.Time
	busy    bool
	known   bool
	results []gate.Result
}

// judge returns the last verdicts of gates on a promotion, and if asked has them
// looked at anew when that is due: by itself, as it may take long. known says that they
// were looked at before.
func (ps *Promotions) judge(ctx context.Context, p Promotion, release link.Release, gates []resource.Gate, ask bool) ([]gate.Result, bool) {
	key := p.ID + "/" + phase(p.State)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if len(gates) == 0 {
		delete(ps.judged, key)
		return nil, true
	}
	last, now := ps.judged[key], ps.o.Now()
	if !ask || last.busy || last.known && now.Sub(last.at) < judgeEvery {
		return last.results, last.known
	}
	last.busy = true
	ps.judged[key] = last
	ps.judging.Go(func() { ps.look(ctx, key, p, release, gates) })
	return last.results, last.known
}

func phase(s State) string {
	if s.Waits() {
		return "enter"
	}
	return "verify"
}

func (ps *Promotions) look(ctx context.Context, key string, p Promotion, release link.Release, gates []resource.Gate) {
	subject, err := ps.subject(ctx, p, release)
	var results []gate.Result
	if err == nil {
		results, err = ps.o.Gates.Judge(ctx, ps.o.Now(), gates, subject)
	}
	ps.complain(ctx, err)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if err != nil {
		last := ps.judged[key]
		last.busy = false
		ps.judged[key] = last
		return
	}
	for other, j := range ps.judged {
		if !j.busy && ps.o.Now().Sub(j.at) > time.Hour {
			delete(ps.judged, other)
		}
	}
	ps.judged[key] = judged{at: ps.o.Now(), known: true, results: results}
	ps.kick.Ring()
}

// forget has the gates of a promotion looked at anew at once.
func (ps *Promotions) forget(p Promotion) {
	ps.mu.Lock()
	last := ps.judged[p.ID+"/enter"]
	last.at = time.Time{}
	ps.judged[p.ID+"/enter"] = last
	ps.mu.Unlock()
	ps.kick.Ring()
}

// subject is a promotion as gates judge it.
func (ps *Promotions) subject(ctx context.Context, p Promotion, release link.Release) (gate.Subject, error) {
	s := gate.Subject{Environment: p.Environment, Release: release, Promotion: p.ID, Requester: p.requester(), Since: p.CreatedAt, Upstream: p.Upstream}
	if p.Upstream == "" {
		return s, nil
	}
	v, err := verdict(ctx, ps.o.DB, p.Upstream, p.Digest)
	if err != nil {
		return s, err
	}
	if v != nil && v.Passed {
		s.VerifiedAt = &v.At
	}
	s.Ran, err = stretches(ctx, ps.o.DB, p.Upstream, p.Digest)
	return s, err
}

// watch notes of each environment that another one soaks in whether its
// release runs well.
func (ps *Promotions) watch(ctx context.Context) error {
	environments, err := ps.o.Environments.List(ctx)
	if err != nil {
		return err
	}
	soaked := map[string]bool{}
	for _, env := range environments {
		for _, g := range policyOf(env).Gates {
			soaked[env.Spec.PromotesFrom] = soaked[env.Spec.PromotesFrom] || g.Soak != nil
		}
	}
	stamps, err := ps.o.Environments.Stamps(ctx)
	if err != nil {
		return err
	}
	for _, env := range environments {
		if !soaked[env.Metadata.Name] {
			continue
		}
		stood, err := ps.o.Rollouts.Stood(ctx, ps.o.DB, env.Metadata.Name)
		if err != nil {
			return err
		}
		if len(stood) == 0 {
			continue
		}
		if err := ps.stretch(ctx, env.Metadata.Name, stood[0].Digest, ps.well(env, stamps), ps.o.Now()); err != nil {
			return err
		}
	}
	return nil
}

// well reports whether an environment's release runs well: each stamp tells of
// itself, and no more of its devices have failed than may.
func (ps *Promotions) well(env resource.Environment, stamps []resource.Stamp) bool {
	policy := policyOf(env)
	most := rollout.Whole(&policy, env.Spec.PromotesFrom == "").Health.MaxFailures
	for _, s := range stamps {
		if s.Spec.Environment != env.Metadata.Name {
			continue
		}
		o, seen := ps.o.Environments.Observed(s.Metadata.Name)
		if !seen || ps.o.Now().Sub(o.At) > 3*stretchEvery || o.Releases == nil || o.Releases.Halted != "" {
			return false
		}
		if c := o.Releases.Devices; c.Attempted() > 0 && float64(c.Failures()) > most*float64(c.Attempted()) {
			return false
		}
	}
	return true
}
