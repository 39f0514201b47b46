package promotion

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// Hold keeps releases out of an environment for a while, or until it is ended
// if life is 0.
func (ps *Promotions) Hold(ctx context.Context, actor access.Actor, environment, reason string, all bool, life time.Duration) (h Hold, err error) {
	if err := checkReason(reason); err != nil {
		return h, err
	}
	if life < 0 {
		return h, problem.New(problem.Invalid, "a hold cannot have ended before it begins").At("expiresIn")
	}
	if _, err := ps.o.Environments.Get(ctx, environment); err != nil {
		return h, err
	}
	err = ps.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		id, err := rollout.ID(ctx, tx, "hold")
		if err != nil {
			return err
		}
		h = Hold{ID: id, Environment: environment, Owner: actor.Name, Reason: reason, All: all, At: ps.o.Now().UTC().Truncate(time.Microsecond)}
		if life > 0 {
			until := h.At.Add(life)
			h.Until = &until
		}
		return ps.putHold(ctx, tx, h, actor.Name, "hold.set")
	})
	ps.kick.Ring()
	return h, err
}

// EndHold ends a hold.
func (ps *Promotions) EndHold(ctx context.Context, actor access.Actor, id string) (h Hold, err error) {
	err = ps.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		var found bool
		h, found, err = sqldb.Row(ctx, tx, scanned[Hold], "SELECT document FROM hold WHERE id = ?", id)
		now := ps.o.Now().UTC()
		switch {
		case err != nil:
			return err
		case !found:
			return problem.New(problem.NotFound, "there is no hold %q", id)
		case !h.on(now):
			return problem.New(problem.Conflict, "hold %s has ended already", id)
		}
		h.EndedAt, h.EndedBy = &now, actor.Name
		return ps.putHold(ctx, tx, h, actor.Name, "hold.end")
	})
	ps.kick.Ring()
	return h, err
}

// Holds returns the holds that hold, of an environment if one is named.
func (ps *Promotions) Holds(ctx context.Context, environment string) ([]Hold, error) {
	return holds(ctx, ps.o.DB, environment, ps.o.Now())
}

// Rejections returns what is kept out of an environment, or of any if none is
// named.
func (ps *Promotions) Rejections(ctx context.Context, environment string) ([]Rejection, error) {
	return sqldb.Rows(ctx, ps.o.DB, scanned[Rejection], "SELECT document FROM rejection WHERE lifted = 0 AND (? = '' OR environment = ?) ORDER BY sequence DESC", environment, environment)
}

// Lift lets a rejected release enter an environment again, if it passes what
// others pass.
func (ps *Promotions) Lift(ctx context.Context, actor access.Actor, environment, release, reason string) (r Rejection, err error) {
	if err := checkReason(reason); err != nil {
		return r, err
	}
	what, err := ps.o.Releases.Get(ctx, release)
	if err != nil {
		return r, err
	}
	err = ps.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		known, err := rejected(ctx, tx, environment, what.Digest)
		if err != nil {
			return err
		}
		if known == nil {
			return problem.New(problem.NotFound, "release %s is not rejected in %s", release, environment)
		}
		now := ps.o.Now().UTC()
		r = *known
		r.LiftedAt, r.LiftedBy, r.LiftReason = &now, actor.Name, reason
		text, err := jsonOf(r)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE rejection SET lifted = 1, document = ? WHERE environment = ? AND digest = ? AND lifted = 0", text, environment, what.Digest); err != nil {
			return err
		}
		return ps.o.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "release.lift", Object: "release/" + release, Environment: environment, Outcome: audit.Done, Reason: reason})
	})
	ps.kick.Ring()
	return r, err
}

// Exception is what somebody asks a waiver for.
type Exception struct {
	Environment string
	Release     string
	Class       string
	Ticket      string
	Reason      string
	Gates       []string
	Life        time.Duration
}

// The limits of waivers.
const (
	maxWaiverLife = 7 * 24 * time.Hour
	waiverLife    = 24 * time.Hour
	maxTicket     = 500
)

// Waive asks that a release may enter an environment once without having been
// verified before. It counts once others agree.
func (ps *Promotions) Waive(ctx context.Context, actor access.Actor, e Exception) (w Waiver, err error) {
	if e.Life == 0 {
		e.Life = waiverLife
	}
	switch {
	case !slices.Contains(Classes, e.Class):
		return w, problem.New(problem.Invalid, "what made it needed is one of %s, not %q", strings.Join(Classes, ", "), e.Class).At("class")
	case e.Ticket == "" || len(e.Ticket) > maxTicket:
		return w, problem.New(problem.Invalid, "name the ticket, in 1 to %d characters", maxTicket).At("ticket")
	case e.Life < time.Minute || e.Life > maxWaiverLife:
		return w, problem.New(problem.Invalid, "a waiver lasts from a minute to %s, not %s", maxWaiverLife, e.Life).At("expiresIn")
	}
	if err := checkReason(e.Reason); err != nil {
		return w, err
	}
	env, err := ps.o.Environments.Get(ctx, e.Environment)
	if err != nil {
		return w, err
	}
	for _, name := range e.Gates {
		if !slices.ContainsFunc(policyOf(env).Gates, func(g resource.Gate) bool { return g.Name == name }) {
			return w, problem.New(problem.Invalid, "%s has no gate %q", e.Environment, name).At("gates")
		}
	}
	release, err := ps.o.Releases.Get(ctx, e.Release)
	if err != nil {
		return w, err
	}
	err = ps.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		id, err := rollout.ID(ctx, tx, "waiver")
		if err != nil {
			return err
		}
		now := ps.o.Now().UTC().Truncate(time.Microsecond)
		w = Waiver{
			ID: id, Environment: e.Environment, Release: release.Name, Digest: release.Digest, Class: e.Class, Ticket: e.Ticket, Reason: e.Reason,
			Gates: e.Gates, By: actor.Name, Person: answering(actor), Maker: actor.Maker, At: now, Until: now.Add(e.Life), Needs: max(policyOf(env).Waivers, 1), Approvals: []Agreed{},
		}
		return ps.putWaiver(ctx, tx, w, actor.Name, "waiver.ask", e.Ticket+": "+e.Reason)
	})
	return w, err
}

// ApproveWaiver records that somebody other than who asked agrees to a waiver.
func (ps *Promotions) ApproveWaiver(ctx context.Context, actor access.Actor, id string) (Waiver, error) {
	return ps.changeWaiver(ctx, id, actor, "waiver.approve", "", func(ctx context.Context, tx *sqldb.Tx, w *Waiver, now time.Time) error {
		switch {
		case w.requester() == actor.Who():
			return problem.New(problem.Denied, "%s asked for the waiver and cannot approve it; somebody else must", actor.Name)
		case w.UsedBy != "" || !now.Before(w.Until):
			return problem.New(problem.Conflict, "waiver %s was used, or its time is over", id)
		case slices.ContainsFunc(w.Approvals, func(a Agreed) bool { return a.By == actor.Who() }):
			return problem.New(problem.Conflict, "%s has approved the waiver already", actor.Name)
		}
		if err := ps.mayAgree(ctx, tx, actor, *w); err != nil {
			return err
		}
		w.Approvals = append(w.Approvals, Agreed{actor.Who(), now, actor.Maker})
		return nil
	})
}

// mayAgree refuses who cannot be told from those who asked for a waiver, or
// have agreed to it.
func (ps *Promotions) mayAgree(ctx context.Context, tx *sqldb.Tx, actor access.Actor, w Waiver) error {
	if err := ps.byPeople(ctx, actor, w.Environment); err != nil {
		return err
	}
	others := []string{w.requester(), w.Maker}
	for _, a := range w.Approvals {
		others = append(others, a.By, a.Maker)
	}
	return ps.o.Independent(ctx, tx, actor, others...)
}

// ReviewWaiver records what somebody found who looked at a waiver after it was
// used. It is not for who asked for it.
func (ps *Promotions) ReviewWaiver(ctx context.Context, actor access.Actor, id, found string) (Waiver, error) {
	if err := checkReason(found); err != nil {
		return Waiver{}, err
	}
	return ps.changeWaiver(ctx, id, actor, "waiver.review", found, func(ctx context.Context, tx *sqldb.Tx, w *Waiver, now time.Time) error {
		if err := ps.o.Independent(ctx, tx, actor, w.requester(), w.Maker); err != nil {
			return err
		}
		if !w.Owed() {
			return problem.New(problem.Conflict, "waiver %s owes no review: it was not used, or is reviewed already", id)
		}
		w.Review, w.ReviewedBy, w.ReviewedAt = found, actor.Name, &now
		return nil
	})
}

func (ps *Promotions) changeWaiver(ctx context.Context, id string, actor access.Actor, action, detail string, change func(context.Context, *sqldb.Tx, *Waiver, time.Time) error) (w Waiver, err error) {
	err = ps.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		var found bool
		w, found, err = sqldb.Row(ctx, tx, scanned[Waiver], "SELECT document FROM waiver WHERE id = ?", id)
		if err != nil {
			return err
		}
		if !found {
			return problem.New(problem.NotFound, "there is no waiver %q", id)
		}
		if err := change(ctx, tx, &w, ps.o.Now().UTC()); err != nil {
			return err
		}
		return ps.putWaiver(ctx, tx, w, actor.Name, action, detail)
	})
	ps.kick.Ring()
	return w, err
}

// Waivers returns the waivers of an environment, or of all if none is named,
// newest first; owed alone returns those that somebody must still review.
func (ps *Promotions) Waivers(ctx context.Context, environment string, owed bool) ([]Waiver, error) {
	all, err := sqldb.Rows(ctx, ps.o.DB, scanned[Waiver], "SELECT document FROM waiver WHERE ? = '' OR environment = ? ORDER BY id DESC", environment, environment)
	if owed {
		all = slices.DeleteFunc(all, func(w Waiver) bool { return !w.Owed() })
	}
	slices.SortFunc(all, func(a, b Waiver) int { return b.At.Compare(a.At) })
	return all, err
}

// answering is the person who answers for an actor, where that is another.
func answering(actor access.Actor) string {
	if actor.Who() == actor.Name {
		return ""
	}
	return actor.Who()
}
