package grant

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Covering finds a grant by which somebody may do something to a target in an
// environment at this moment.
func (gs *Grants) Covering(ctx context.Context, actor access.Actor, environment, permission string, t Target) (g Grant, found bool, err error) {
	person := PartyOf(actor).Person
	if person == "" {
		return g, false, nil
	}
	all, err := sqldb.Rows(ctx, gs.o.DB, scanRecord, selectGrants+" WHERE person = ? AND environment = ? AND state IN (?, ?)", person, environment, string(Active), string(Scheduled))
	if err != nil {
		return g, false, err
	}
	for _, r := range all {
		if !r.Scope.Covers(permission, t) {
			continue
		}
		// One that is to begin by now begins; one that is over is over.
		if g, err = gs.current(ctx, r.Grant); err != nil {
			return g, false, err
		}
		if g.On(gs.now()) {
			return g, true, nil
		}
	}
	return Grant{}, false, nil
}

// lookEvery bounds how long something that was begun under a grant goes on
// after the grant has ended in a way that did not wake it.
const lookEvery = 500 * time.Millisecond

// Hold returns a context for something begun under a grant: it ends when the
// grant does, with the reason as its cause. Let go of it when that is done.
func (gs *Grants) Hold(ctx context.Context, id string) (held context.Context, letGo context.CancelFunc) {
	held, cut := context.WithCancelCause(ctx)
	go func() {
		for {
			changed := gs.bell.Next()
			left, err := gs.left(held, id)
			if err != nil {
				cut(err)
				return
			}
			look := time.NewTimer(min(left, lookEvery))
			select {
			case <-held.Done():
			case <-look.C:
			case <-changed:
			}
			look.Stop()
			if held.Err() != nil {
				return
			}
		}
	}()
	return held, func() { cut(context.Canceled) }
}

// left is how long a grant still lasts, or why it is over.
func (gs *Grants) left(ctx context.Context, id string) (time.Duration, error) {
	r, err := read(ctx, gs.o.DB, id)
	if err != nil {
		return 0, err
	}
	if now := gs.now(); r.On(now) {
		return r.Until.Sub(now), nil
	}
	how := r.End
	if how == "" {
		how = EndExpired
	}
	return 0, problem.New(problem.Denied, "grant %s in %s is over: %s", id, r.Environment, how)
}

// Over says why a context of Hold ended, if the end of its grant is the reason.
func Over(held context.Context) error {
	if cause := context.Cause(held); problem.Is(cause, problem.Denied) {
		return cause
	}
	return nil
}

// use is a permission of a grant, and uses how often it was used.
type (
	use  struct{ grant, permission string }
	uses struct {
		count int64
		last  time.Time
	}
)

// Use notes that a permission of a grant was used. The figure is for reviews;
// what was done stands in the audit log and in the records of sessions.
func (gs *Grants) Use(id, permission string) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	u := gs.used[use{id, permission}]
	gs.used[use{id, permission}] = uses{u.count + 1, gs.now()}
}

// flush stores what was used since the last time.
func (gs *Grants) flush(ctx context.Context) error {
	gs.mu.Lock()
	taken := gs.used
	gs.used = map[use]uses{}
	gs.mu.Unlock()
	if len(taken) == 0 {
		return nil
	}
	err := gs.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for what, u := range taken {
			if _, err := tx.Exec(ctx, `INSERT INTO access_grant_use (grant_id, permission, uses, last_at) VALUES (?, ?, ?, ?)
				ON CONFLICT (grant_id, permission) DO UPDATE SET uses = access_grant_use.uses + excluded.uses, last_at = excluded.last_at`,
				what.grant, what.permission, u.count, sqldb.Micros(u.last)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		gs.mu.Lock()
		defer gs.mu.Unlock()
		for what, u := range taken {
			now := gs.used[what]
			gs.used[what] = uses{now.count + u.count, u.last}
		}
	}
	return err
}
