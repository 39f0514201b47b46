package rehearsal

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// Start makes a rehearsal due: of a release, on the data of a stamp of an
// environment (empty: the one with the most devices). One that has not ended
// yet is it.
func (rs *Rehearsals) Start(ctx context.Context, actor access.Actor, environment, stamp, release string) (r Rehearsal, err error) {
	env, err := rs.Environment(ctx, environment)
	if err != nil {
		return r, err
	}
	found, err := rs.Release(ctx, release)
	if err != nil {
		return r, err
	}
	if stamp, err = rs.stampOf(ctx, environment, stamp); err != nil {
		return r, err
	}
	beside, err := rs.Running(ctx, environment, stamp)
	if err != nil {
		return r, err
	}
	now := rs.Now().UTC()
	r = Rehearsal{
		ID: "rehearsal-" + now.Format("20060102T150405.000Z"), State: Due, Environment: environment, Stamp: stamp, Release: found.Name, Digest: found.Digest, Beside: beside,
		AskedBy: actor.Name, CreatedAt: now, Limits: env.Spec.Rehearsal.Limits(),
	}
	err = rs.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		left, err := sqldb.Rows(ctx, tx, scan, selectAll+" WHERE active = 1")
		if err != nil {
			return err
		}
		for _, one := range left {
			if one.Environment == environment && one.Stamp == stamp && one.Digest == found.Digest && one.CancelledBy == "" {
				r = one.Rehearsal
				return nil
			}
		}
		if len(left) >= maxActive {
			return problem.New(problem.Conflict, "%d rehearsals wait or run, the most there may be; cancel some", len(left))
		}
		if err := insert(ctx, tx, r); err != nil {
			return err
		}
		return rs.note(ctx, tx, actor, "rehearsal.start", r.ID, fmt.Sprintf("%s on the data of %s", release, stamp))
	})
	return r, err
}

// maxActive is how many rehearsals wait or run at most.
const maxActive = 50

// stampOf is the stamp whose data is copied.
func (rs *Rehearsals) stampOf(ctx context.Context, environment, stamp string) (string, error) {
	stamps, err := rs.Stamps(ctx)
	if err != nil {
		return "", err
	}
	chosen, most := "", -1
	for _, s := range stamps {
		if s.Spec.Environment != environment || stamp != "" && s.Metadata.Name != stamp {
			continue
		}
		devices := 0
		if s.Status != nil {
			devices = s.Status.Assigned
		}
		if devices > most {
			chosen, most = s.Metadata.Name, devices
		}
	}
	switch {
	case chosen == "" && stamp != "":
		return "", problem.New(problem.NotFound, "there is no stamp %q in %s", stamp, environment).At("stamp")
	case chosen == "":
		return "", problem.New(problem.Conflict, "%s has no stamp whose data could be copied", environment).At("environment")
	}
	return chosen, nil
}

// Cancel ends a rehearsal: one that runs ends when its host hears of it, which
// then clears away.
func (rs *Rehearsals) Cancel(ctx context.Context, actor access.Actor, id string) (r Rehearsal, err error) {
	err = rs.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		one, err := read(ctx, tx, id)
		if err != nil {
			return err
		}
		if one.State == Ended {
			return problem.New(problem.Conflict, "the rehearsal %s has ended", id)
		}
		if one.CancelledBy = actor.Name; one.State == Due {
			one.Rehearsal = rs.sign(conclude(rs.Now(), one.Rehearsal, Cancelled, "cancelled by "+actor.Name))
		}
		r = one.Rehearsal
		if err := save(ctx, tx, one); err != nil {
			return err
		}
		return rs.note(ctx, tx, actor, "rehearsal.cancel", id, "")
	})
	return r, err
}

// Claim hands a rehearsal that is due to a host, with what it needs to know: the
// oldest, or the one that is named.
func (rs *Rehearsals) Claim(ctx context.Context, actor access.Actor, host, id string) (work link.RehearsalWork, err error) {
	var r record
	err = rs.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		left, err := sqldb.Rows(ctx, tx, scan, selectAll+" WHERE active = 1 ORDER BY at")
		if err != nil {
			return err
		}
		for _, one := range left {
			if one.State != Due || id != "" && one.ID != id {
				continue
			}
			now := rs.Now().UTC()
			one.State, one.Host, one.Runner, one.StartedAt, one.HeardAt, one.Attempt = Running, host, actor.Name, &now, &now, one.Attempt+1
			r = one
			if err := save(ctx, tx, one); err != nil {
				return err
			}
			return rs.note(ctx, tx, actor, "rehearsal.begin", one.ID, host)
		}
		return problem.New(problem.NotFound, "no rehearsal is due")
	})
	if err != nil {
		return work, err
	}
	return rs.work(ctx, r.Rehearsal)
}

// work is what a host needs to know of a rehearsal.
func (rs *Rehearsals) work(ctx context.Context, r Rehearsal) (work link.RehearsalWork, err error) {
	work = link.RehearsalWork{Rehearsal: r.ID, Environment: r.Environment, Stamp: r.Stamp, Limits: r.Limits}
	if work.Release, err = rs.Release(ctx, r.Release); err != nil {
		return work, err
	}
	if work.Running, err = rs.running(ctx, r.Environment, r.Stamp); err != nil {
		return work, err
	}
	if work.Running != nil && work.Running.Digest == work.Release.Digest {
		work.Running = nil
	}
	env, err := rs.Environment(ctx, r.Environment)
	if err != nil {
		return work, err
	}
	spec := resource.RehearsalSpec{}
	if env.Spec.Rehearsal != nil {
		spec = *env.Spec.Rehearsal
	}
	work.Databases = spec.Databases
	work.Masking, err = json.Marshal(spec.Masking)
	return work, err
}

// Advance tells how far a rehearsal is, and hears whether it was cancelled.
func (rs *Rehearsals) Advance(ctx context.Context, actor access.Actor, id, phase string) (cancelled bool, err error) {
	err = rs.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := mine(ctx, tx, actor, id)
		if err != nil {
			return err
		}
		now := rs.Now().UTC()
		r.Phase, r.HeardAt, cancelled = phase, &now, r.CancelledBy != ""
		return save(ctx, tx, r)
	})
	return cancelled, err
}

// mine is a rehearsal that runs, and whoever says so runs it.
func mine(ctx context.Context, tx *sqldb.Tx, actor access.Actor, id string) (record, error) {
	r, err := read(ctx, tx, id)
	switch {
	case err != nil:
		return r, err
	case r.State != Running:
		return r, problem.New(problem.Conflict, "the rehearsal %s is %s and does not run", id, r.State)
	case r.Runner != actor.Name:
		return r, problem.New(problem.Denied, "the rehearsal %s is run by %s", id, r.Runner)
	}
	return r, nil
}

// Conclude takes the evidence of a rehearsal, judges it and signs what it
// amounts to.
func (rs *Rehearsals) Conclude(ctx context.Context, actor access.Actor, id string, e link.RehearsalEvidence) (done Rehearsal, err error) {
	now, err := rs.Get(ctx, id)
	if err != nil {
		return done, err
	}
	release, err := rs.Release(ctx, now.Release)
	if err != nil {
		return done, err
	}
	err = rs.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := mine(ctx, tx, actor, id)
		if err != nil {
			return err
		}
		if e.Rehearsal != id {
			return problem.New(problem.Invalid, "the evidence is of %.80q", e.Rehearsal).At("rehearsal")
		}
		verdict, reasons := Judge(e, release, r.Limits)
		if r.CancelledBy != "" && verdict != link.Pass {
			verdict, reasons = Cancelled, []string{"cancelled by " + r.CancelledBy}
		}
		e.Host = r.Host
		next := conclude(rs.Now(), r.Rehearsal, verdict, reasons...)
		next.Evidence = &e
		r.Rehearsal = rs.sign(next)
		done = r.Rehearsal
		if err := save(ctx, tx, r); err != nil {
			return err
		}
		return rs.note(ctx, tx, actor, "rehearsal.end", id, verdict)
	})
	return done, err
}
