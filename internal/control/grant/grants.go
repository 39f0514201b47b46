package grant

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/tasks"
)

// Options are what grants need of the rest of control.
type Options struct {
	DB    *sqldb.DB
	Audit *audit.Log
	// Environment reads what is declared of an environment.
	Environment func(ctx context.Context, q sqldb.Querier, name string) (resource.EnvironmentSpec, error)
	// People tells who people are and who decides.
	People People
	Rights Rights
	// Known reports whether a permission is one that a grant can give.
	Known func(permission string) bool
	// Alarm tells those who must know that somebody has broken the glass. It is
	// tried again until it succeeds.
	Alarm  func(ctx context.Context, g Grant, policy resource.GrantPolicy) error
	Logger *slog.Logger
	Now    func() time.Time
}

// People is what grants need to know of people.
type People interface {
	// Party finds a person or a program by the name that stands for them.
	Party(ctx context.Context, q sqldb.Querier, person string) (Party, error)
	// Decides reports whether somebody may agree to grants in an environment:
	// with the role, or whoever may there if none is named.
	Decides(ctx context.Context, q sqldb.Querier, person, environment, role string) (bool, error)
	// Kin reports whether somebody, by a token that maker made for them, cannot
	// be told from another person.
	Kin(ctx context.Context, q sqldb.Querier, person, maker, other string) (bool, error)
}

// Grants keeps grants, in control's database.
type Grants struct {
	o    Options
	bell tasks.Bell // rings whenever a grant changes

	mu   sync.Mutex
	used map[use]uses // what is not stored yet
}

// New returns the grants kept in o.DB.
func New(o Options) *Grants { return &Grants{o: o, used: map[use]uses{}} }

func (gs *Grants) now() time.Time { return gs.o.Now().UTC().Truncate(time.Microsecond) }

// PartyOf is who an actor is, for whom a token or a session was only the way
// to come here. A program is not the person who answers for it, and a token
// that belongs to nobody is no person at all.
func PartyOf(a access.Actor) Party {
	switch a.Kind {
	case access.Human:
		return Party{Person: a.Person, Name: a.Name, Maker: a.Maker}
	case access.Service, access.Agent:
		return Party{Person: a.Name, Name: a.Name, Program: true, Sponsor: a.Person, Maker: a.Maker}
	}
	return Party{Name: a.Name}
}

// facts are what a grant goes by, of what is stored.
func (gs *Grants) facts(ctx context.Context, q sqldb.Querier, environment string) (Facts, *failure, error) {
	spec, err := gs.o.Environment(ctx, q, environment)
	if err != nil {
		return Facts{}, nil, err
	}
	failed := &failure{}
	policy, now := spec.GrantPolicy(), gs.now()
	mine := func(person string, counts func(Grant) bool) bool {
		all, err := sqldb.Rows(ctx, q, scanRecord, selectGrants+" WHERE person = ? AND state IN (?, ?)", person, string(Active), string(ReviewDue))
		failed.note(err)
		for _, r := range all {
			if r.BreakGlass && counts(r.Grant) {
				return true
			}
		}
		return false
	}
	return Facts{
		Now: now, Policy: policy,
		Eligible: func(person string) bool {
			yes, err := gs.o.People.Decides(ctx, q, person, environment, policy.Approver)
			failed.note(err)
			return yes && err == nil
		},
		Kin: func(p Party, person string) bool {
			yes, err := gs.o.People.Kin(ctx, q, p.Person, p.Maker, person)
			failed.note(err)
			return yes || err != nil
		},
		Owes: func(person string) bool {
			return mine(person, func(g Grant) bool { return g.overdueBy(now, policy) })
		},
		Broken: func(person string) bool {
			return mine(person, func(g Grant) bool { return g.Environment == environment && g.On(now) })
		},
	}, failed, nil
}

// failure remembers that a fact could not be found out, so that nothing is
// decided by its absence.
type failure struct{ err error }

func (f *failure) note(err error) {
	if f.err == nil {
		f.err = err
	}
}

// overdueBy is Overdue also for a grant that nobody has looked at since it
// ended.
func (g Grant) overdueBy(now time.Time, policy resource.GrantPolicy) bool {
	return g.Overdue(now) || g.State == Active && !now.Before(g.Until.Add(policy.ReviewWait(g.BreakGlass)))
}

// Asking is what somebody asks for.
type Asking struct {
	Environment string
	Person      string // who is to act; empty is who asks
	Request     Request
	Draft       bool // not asked for yet
}

// maxOpen bounds the grants of one person that nobody has decided on.
const maxOpen = 20

// Ask asks for a grant, for oneself or for somebody else.
func (gs *Grants) Ask(ctx context.Context, actor access.Actor, a Asking) (g Grant, err error) {
	if err := a.Request.Scope.check(gs.o.Known); err != nil {
		return g, err
	}
	action := "grant.request"
	if a.Draft {
		action = "grant.draft"
	}
	err = gs.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		by := PartyOf(actor)
		of := by
		if a.Person != "" && a.Person != by.Person {
			if of, err = gs.o.People.Party(ctx, tx, a.Person); err != nil {
				return problem.Of(err).At("person")
			}
		}
		if err := gs.room(ctx, tx, of.Person); err != nil {
			return err
		}
		f, failed, err := gs.facts(ctx, tx, a.Environment)
		if err != nil {
			return err
		}
		if g, err = Make(a.Request, by, of, a.Draft, f); err != nil || failed.err != nil {
			return firstOf(failed.err, err)
		}
		g.Environment = a.Environment
		return gs.insert(ctx, tx, &g, action, actor.Name)
	})
	gs.bell.Ring()
	return g, err
}

// room refuses a request of somebody who has many open.
func (gs *Grants) room(ctx context.Context, tx *sqldb.Tx, person string) error {
	for _, state := range []State{Draft, Pending} {
		all, _, err := Filter{Person: person, State: state, Limit: maxOpen}.list(ctx, tx)
		if err != nil {
			return err
		}
		if len(all) >= maxOpen {
			return problem.New(problem.Conflict, "%d grants of that person are %s, the most there may be; withdraw some", len(all), state)
		}
	}
	return nil
}

// BreakGlass gives somebody a grant at once, in an emergency.
func (gs *Grants) BreakGlass(ctx context.Context, actor access.Actor, environment string, r Request) (g Grant, err error) {
	if err := r.Scope.check(gs.o.Known); err != nil {
		return g, err
	}
	err = gs.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		f, failed, err := gs.facts(ctx, tx, environment)
		if err != nil {
			return err
		}
		if g, err = BreakGlass(r, PartyOf(actor), f); err != nil || failed.err != nil {
			return firstOf(failed.err, err)
		}
		g.Environment = environment
		return gs.insert(ctx, tx, &g, "grant.breakGlass", actor.Name)
	})
	if err == nil {
		gs.o.Logger.Warn("somebody broke the glass", "grant", g.ID, "environment", environment, "person", g.Name, "until", g.Until)
	}
	gs.bell.Ring()
	return g, err
}

// Say takes what somebody says of a grant.
func (gs *Grants) Say(ctx context.Context, actor access.Actor, id string, w Word) (g Grant, err error) {
	if w.Verb == Amend {
		if err := w.Request.Scope.check(gs.o.Known); err != nil {
			return g, err
		}
	}
	w.By = PartyOf(actor)
	var refused error
	err = gs.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := read(ctx, tx, id)
		if err != nil {
			return err
		}
		f, failed, err := gs.facts(ctx, tx, r.Environment)
		if err != nil {
			return err
		}
		g, refused = Say(r.Grant, w, f)
		if failed.err != nil {
			return failed.err
		}
		if refused != nil {
			return gs.aged(ctx, tx, r, g)
		}
		return gs.save(ctx, tx, r, g, "grant."+string(w.Verb), actor.Name, g.said(w))
	})
	gs.bell.Ring()
	return g, firstOf(err, refused)
}

// said says in a line what a word did.
func (g Grant) said(w Word) string {
	text := g.Environment + ", " + g.Name + ": now " + wordOf(g.State)
	if w.Verb == Amend {
		text = g.summary()
	}
	if w.Reason != "" {
		text += ": " + w.Reason
	}
	return text
}

// aged stores what time alone has done to a grant.
func (gs *Grants) aged(ctx context.Context, tx *sqldb.Tx, before record, next Grant) error {
	action := map[State]string{Active: "grant.begin", Scheduled: "grant.schedule", Pending: "grant.void", Expired: "grant.expire", ReviewDue: "grant.expire"}[next.State]
	return gs.save(ctx, tx, before, next, action, Robot, next.Environment+", "+next.Name)
}

// settle does to a grant what time does, if there is anything.
func (gs *Grants) settle(ctx context.Context, id string) (g Grant, err error) {
	err = gs.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := read(ctx, tx, id)
		if err != nil {
			return err
		}
		f, failed, err := gs.facts(ctx, tx, r.Environment)
		if err != nil {
			return err
		}
		if g = Step(r.Grant, f); failed.err != nil {
			return failed.err
		}
		return gs.aged(ctx, tx, r, g)
	})
	gs.bell.Ring()
	return g, err
}

// current is a grant as it is now: what time has done to it is stored first.
func (gs *Grants) current(ctx context.Context, g Grant) (Grant, error) {
	if due := g.due(); due == nil || gs.now().Before(*due) {
		return g, nil
	}
	return gs.settle(ctx, g.ID)
}

// Get returns a grant.
func (gs *Grants) Get(ctx context.Context, id string) (Grant, error) {
	r, err := read(ctx, gs.o.DB, id)
	if err != nil {
		return Grant{}, err
	}
	return gs.current(ctx, r.Grant)
}

// List returns grants, newest first, and the Before of the next page.
func (gs *Grants) List(ctx context.Context, f Filter) ([]Grant, int64, error) {
	all, next, err := f.list(ctx, gs.o.DB)
	for i := range all {
		if err == nil {
			all[i], err = gs.current(ctx, all[i])
		}
	}
	return all, next, err
}

// firstOf is the first error of several.
func firstOf(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}
