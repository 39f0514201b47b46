package access

import (
	"context"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/tasks"
)

// Hold is a request that goes on: it ends when whoever sent it may no longer.
// Nothing is asked while it is as short as requests usually are.
type Hold struct {
	actor Actor
	ctx   context.Context // of the request, for what is asked about it
	cut   context.CancelCauseFunc

	looked time.Time // the zero time has it looked at next, as a right may have been lost just before

	mu     sync.Mutex
	checks []Recheck
}

// Recheck asks once more whether an actor may do what goes on.
type Recheck func(ctx context.Context, actor Actor) error

// holds are the requests that go on.
type holds struct {
	mu  sync.Mutex
	all map[*Hold]struct{}
}

const (
	lookEvery  = 250 * time.Millisecond // how soon a loss is noticed
	relook     = 15 * time.Second       // and what nobody tells of, such as a time that passes
	lookWait   = 5 * time.Second
	lookAtOnce = 16
)

type (
	holdKey  struct{}
	againKey struct{}
)

// Hold returns a context for a request that ends when the actor, or what Keep
// is told of, does not hold any more; the cause says why. Let go of it when the
// request is done.
func (a *Access) Hold(ctx context.Context, actor Actor) (held context.Context, letGo func()) {
	ctx, cut := context.WithCancelCause(ctx)
	h := &Hold{actor: actor, cut: cut}
	h.ctx = context.WithValue(ctx, holdKey{}, h)
	a.open.mu.Lock()
	defer a.open.mu.Unlock()
	a.open.all[h] = struct{}{}
	return h.ctx, func() {
		a.open.mu.Lock()
		delete(a.open.all, h)
		a.open.mu.Unlock()
		cut(nil)
	}
}

// Keep has a request that goes on end when a check that it has passed would
// not let it pass any more. It does nothing to what nobody holds.
func Keep(ctx context.Context, check Recheck) {
	if h, _ := ctx.Value(holdKey{}).(*Hold); h != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.checks = append(h.checks, check)
	}
}

// OnceMore returns a context by which is known that something is asked once
// more of what goes on, which is no use of a right.
func OnceMore(ctx context.Context) context.Context { return context.WithValue(ctx, againKey{}, true) }

// Again reports whether something is asked once more of what goes on.
func Again(ctx context.Context) bool { return ctx.Value(againKey{}) != nil }

// Cut is why a request was ended that had gone on, if a right that was lost is
// the reason.
func Cut(ctx context.Context) error {
	if cause := context.Cause(ctx); Lost(cause) {
		return cause
	}
	return nil
}

// Lost reports whether an answer says that somebody may not, and not that
// nobody could be asked.
func Lost(err error) bool {
	return err != nil && (problem.Is(err, problem.Unauthenticated) || problem.Is(err, problem.Denied))
}

// Loses notes within a change that somebody loses a right by it, so that what
// is open is looked at.
func Loses(ctx context.Context, tx *sqldb.Tx) error {
	_, err := tx.Exec(ctx, "UPDATE access_loss SET number = number + 1 WHERE id = 1")
	return err
}

// Watch ends requests that go on when whoever sent them may no longer, until
// ctx ends.
func (a *Access) Watch(ctx context.Context) error {
	seen := int64(-1)
	return tasks.Every(ctx, lookEvery, func() { seen = a.Look(ctx, seen) })
}

// Look does once what Watch repeats. It is told how many losses were seen, and
// tells how many are now.
func (a *Access) Look(ctx context.Context, seen int64) int64 {
	open := a.open.list()
	if len(open) == 0 {
		return seen
	}
	number, _, err := sqldb.Row(ctx, a.db, scanCount, "SELECT number FROM access_loss WHERE id = 1")
	if err != nil {
		return seen // nobody can be asked now; the next look will
	}
	a.look(open, number != seen)
	return number
}

func (o *holds) list() []*Hold {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make([]*Hold, 0, len(o.all))
	for h := range o.all {
		all = append(all, h)
	}
	return all
}

// look asks about what goes on: about everything, or about what was not asked
// about for a while.
func (a *Access) look(open []*Hold, everything bool) {
	now := a.now()
	var asking sync.WaitGroup
	places := make(chan struct{}, lookAtOnce)
	for _, h := range open {
		if !everything && now.Sub(h.looked) < relook && !h.actor.ended(now) {
			continue
		}
		h.looked = now
		places <- struct{}{}
		asking.Go(func() {
			defer func() { <-places }()
			if err := a.still(h); Lost(err) {
				h.cut(err)
			}
		})
	}
	asking.Wait()
}

// still says why a request may not go on.
func (a *Access) still(h *Hold) error {
	ctx, done := context.WithTimeout(OnceMore(h.ctx), lookWait)
	defer done()
	actor, err := a.Still(ctx, h.actor)
	if err != nil {
		return err
	}
	h.mu.Lock()
	checks := h.checks[:len(h.checks):len(h.checks)]
	h.mu.Unlock()
	for _, check := range checks {
		if err := check(ctx, actor); err != nil {
			return err
		}
	}
	return nil
}

// Still is an actor as it is now, by the session or the token it came by.
func (a *Access) Still(ctx context.Context, actor Actor) (Actor, error) {
	now := a.now()
	if actor.Session != "" {
		s, found, err := sqldb.Row(ctx, a.db, scanSession, selectSessions+" WHERE id = ? AND expires_at > ?", actor.Session, sqldb.Micros(now))
		if err == nil && !found {
			err = problem.New(problem.Unauthenticated, "the session is over; log in again")
		}
		if err != nil {
			return actor, err
		}
		return a.behind(ctx, s.About)
	}
	t, found, err := sqldb.Row(ctx, a.db, scanToken, selectTokens+" WHERE id = ?", actor.TokenID)
	if err == nil && (!found || t.expired(now)) {
		err = problem.New(problem.Unauthenticated, "the token was revoked, or has expired")
	}
	if err != nil {
		return actor, err
	}
	return a.bearer(ctx, t)
}

// ended reports whether the time of what an actor came by has passed.
func (a Actor) ended(now time.Time) bool { return a.Until != nil && !now.Before(*a.Until) }
