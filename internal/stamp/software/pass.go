package software

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/link"
)

// pass is how far the leading process has come with looking at devices; it
// begins anew with the process.
type pass struct {
	version   int64  // of the document the rest is about
	enrolling string // no stranger up to this id
	enrolled  bool
	handed    string // the rollout whose devices the base has taken over as they are
	matching  string // the condition was tried up to this id
	matched   bool
	everyone  string // all devices were looked at up to this id
	looking   bool
	forgotAt  time.Time
}

// round does the most urgent thing there is to do, and reports whether there
// may be more.
func (e *Engine) round(ctx context.Context) (more bool, err error) {
	p := e.plan.Load()
	if p == nil {
		return false, nil
	}
	if p, err = e.adopt(ctx, p); err != nil {
		return false, err
	}
	some := false
	for _, do := range []func(context.Context, *plan) (bool, error){e.lookAtTouched, e.lookAtDue, e.leave, e.enrolStrangers, e.stretch, e.giveOrders, e.arrive, e.match, e.rebase} {
		p = e.plan.Load()
		if p.course.Version != p.Version {
			return true, nil // a newer document has come
		}
		did, err := do(ctx, p)
		if err != nil {
			return false, err
		}
		some = some || did
	}
	if some {
		return true, nil
	}
	if did, err := e.lookAtEveryone(ctx, p); err != nil || did {
		return did, err
	}
	if e.complete.Swap(p.Version) != p.Version {
		e.census.stale.Store(true)
	}
	return false, e.tidy(ctx, p)
}

// adopt sets the course of a document that has come.
func (e *Engine) adopt(ctx context.Context, p *plan) (*plan, error) {
	if p.course.Version != p.Version {
		charted, err := e.chart(ctx, p, p.follow(e.Now().UTC()))
		if err != nil {
			return p, err
		}
		p = charted
	}
	if e.pass.version != p.Version {
		e.pass.version, e.pass.handed, e.pass.matching, e.pass.matched = p.Version, "", "", false
		return p, e.consider(ctx, p)
	}
	return p, nil
}

// lookAtTouched looks at devices that have changed.
func (e *Engine) lookAtTouched(ctx context.Context, p *plan) (bool, error) {
	ids, all := e.touched.Take(page)
	if all {
		e.pass.everyone, e.pass.looking = "", true
		e.pass.enrolling, e.pass.enrolled = "", false
	}
	err := e.lookAt(ctx, p, ids)
	if err != nil {
		for _, id := range ids {
			e.Touch(id)
		}
	}
	return len(ids) > 0, err
}

func (e *Engine) lookAt(ctx context.Context, p *plan, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	return e.look(ctx, p, ids)
}

// lookAtDue looks at devices whose time is up.
func (e *Engine) lookAtDue(ctx context.Context, p *plan) (bool, error) {
	ids, err := e.due(ctx, e.Now(), page)
	if err == nil {
		err = e.lookAt(ctx, p, ids)
	}
	return len(ids) > 0, err
}

// handed is how many devices the base takes over at once.
const handed = 2000

// leave has devices leave a rollout that is no more: those that run towards the
// base anyhow all at once, the others back to it.
func (e *Engine) leave(ctx context.Context, p *plan) (bool, error) {
	rollout, ids, err := e.outdated(ctx, "rollout", "wave > 0", p.rolloutID(), page)
	if err != nil || len(ids) == 0 {
		return false, err
	}
	if p.Base != nil && e.pass.handed != rollout {
		n, err := e.hand(ctx, rollout, p.baseDigest(), handed)
		if err != nil || n > 0 {
			return true, err
		}
		e.pass.handed = rollout
	}
	return true, e.lookAt(ctx, p, ids)
}

// strangersAtOnce is how many devices are given places in one commit.
const strangersAtOnce = 1000

// enrolStrangers gives places to devices that have none.
func (e *Engine) enrolStrangers(ctx context.Context, _ *plan) (bool, error) {
	if e.pass.enrolled {
		return false, nil
	}
	ids, err := e.strangers(ctx, e.pass.enrolling, strangersAtOnce)
	if err != nil {
		return false, err
	}
	if len(ids) == 0 {
		e.pass.enrolled = true
		return false, nil
	}
	e.pass.enrolling = ids[len(ids)-1]
	e.census.stale.Store(true)
	return true, e.enrol(ctx, ids, e.Now())
}

// stretch works out how far the rollout reaches, once for each document, when
// all devices have their places.
func (e *Engine) stretch(ctx context.Context, p *plan) (bool, error) {
	if p.Rollout == nil || !e.pass.enrolled || p.course.Reached == p.Version {
		return false, nil
	}
	c := p.course
	to, err := reached(ctx, e.db, c.Stretch.Start, p.Rollout.Reach)
	if err != nil {
		return false, err
	}
	c.Stretch, c.Reached = c.Stretch.Extended(to), p.Version
	_, err = e.chart(ctx, p, c)
	return true, err
}

// arrive has the rollout reach the devices of its stretch.
func (e *Engine) arrive(ctx context.Context, p *plan) (bool, error) {
	if p.Rollout == nil {
		return false, nil
	}
	ids, err := e.unreached(ctx, p.course.Stretch, page)
	if err == nil {
		err = e.lookAt(ctx, p, ids)
	}
	return len(ids) > 0, err
}

// match has the rollout reach the devices that its condition names.
func (e *Engine) match(ctx context.Context, p *plan) (bool, error) {
	if p.Rollout == nil || p.where == nil || e.pass.matched {
		return false, nil
	}
	found, err := e.Devices.Query(ctx, link.QueryDevices{Where: p.Rollout.Reach.Where, After: e.pass.matching, Limit: page})
	if err != nil {
		return false, err
	}
	ids := make([]string, len(found.Items))
	for i, d := range found.Items {
		ids[i] = d.DeviceID
	}
	if err := e.lookAt(ctx, p, ids); err != nil {
		return false, err
	}
	if e.pass.matched = !found.More; found.More {
		e.pass.matching = ids[len(ids)-1]
	}
	return true, nil
}

// rebase has devices that no rollout reaches follow the base.
func (e *Engine) rebase(ctx context.Context, p *plan) (bool, error) {
	_, ids, err := e.outdated(ctx, "target", "wave = 0", p.baseDigest(), page)
	if err == nil {
		err = e.lookAt(ctx, p, ids)
	}
	return len(ids) > 0, err
}

// giveOrders gives orders to devices that wait for one, as far as that may be.
func (e *Engine) giveOrders(ctx context.Context, p *plan) (bool, error) {
	var ids []string
	if p.Base != nil && e.files.ready(p.Base) {
		waiting, err := e.queued(ctx, "", page)
		if err != nil {
			return false, err
		}
		ids = waiting
	}
	if p.Rollout != nil && !p.Rollout.Paused && p.course.Halted == "" && e.files.ready(&p.Rollout.Release) {
		room, err := e.room(ctx, p, nil)
		if err != nil {
			return false, err
		}
		waiting, err := e.queued(ctx, p.Rollout.ID, min(room, page))
		if err != nil {
			return false, err
		}
		ids = append(ids, waiting...)
	}
	return len(ids) > 0, e.lookAt(ctx, p, ids)
}

// lookAtEveryone looks at a page of all devices, where somebody has asked for it.
func (e *Engine) lookAtEveryone(ctx context.Context, p *plan) (bool, error) {
	if !e.pass.looking {
		return false, nil
	}
	ids, err := e.after(ctx, e.pass.everyone, page)
	if err != nil {
		return false, err
	}
	if len(ids) == 0 {
		e.pass.looking = false
		return true, nil
	}
	e.pass.everyone = ids[len(ids)-1]
	return true, e.lookAt(ctx, p, ids)
}

// tidyEvery is how often what nobody needs any more is dropped.
const tidyEvery = time.Hour

func (e *Engine) tidy(ctx context.Context, p *plan) error {
	now := e.Now()
	if now.Sub(e.pass.forgotAt) < tidyEvery {
		return nil
	}
	e.pass.forgotAt = now
	if err := e.forget(ctx, p); err != nil {
		return err
	}
	return e.sweep(ctx)
}
