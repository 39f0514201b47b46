package update

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/slipway/slipway/device/retry"
)

// act does what a phase asks for and returns what came of it. An error means
// that nothing came of it yet.
func (u *Updater) act(ctx context.Context, s State) (event, error) {
	switch s.Phase {
	case Offered:
		return u.verify(ctx, s), nil
	case Downloading:
		return outcome(onDownloaded, u.download(ctx, s)), nil
	case Waiting:
		return u.await(ctx, s)
	case Preparing:
		return outcome(onPrepared, u.each(ctx, s, u.prepare)), nil
	case Installing:
		e := outcome(onSet, u.each(ctx, s, u.install))
		e.boot = u.boot(s)
		return e, nil
	case Armed:
		err := u.restart(ctx, s, u.greatest(s))
		if restarts(err) {
			return event{}, err
		}
		return outcome(onStarted, err), nil
	case Trial:
		return outcome(onHealthy, u.prove(ctx, s)), nil
	case Committing:
		return outcome(onCommitted, u.each(ctx, s, func(ctx context.Context, h Handler, t Task) error { return h.Commit(ctx, t) })), nil
	case Reverting:
		err := u.each(ctx, s, func(ctx context.Context, h Handler, t Task) error { return h.Rollback(ctx, t) })
		return event{kind: onUndone, boot: u.boot(s)}, err
	case Returning:
		what := RestartService
		if s.Tried {
			what = u.greatest(s)
		}
		return event{kind: onReturned}, u.restart(ctx, s, what)
	}
	return u.rest(ctx, s)
}

func outcome(well kind, err error) event {
	if err != nil {
		return event{kind: onFailed, reason: err.Error()}
	}
	return event{kind: well}
}

func restarts(err error) bool {
	var restart *ErrRestart
	return errors.As(err, &restart)
}

// rest waits for the next order, which may have come while another was
// brought to its end.
func (u *Updater) rest(ctx context.Context, s State) (event, error) {
	if err := errors.Join(u.loader.sweep(nil), os.RemoveAll(filepath.Join(u.config.Directory, "work"))); err != nil {
		return event{}, err
	}
	u.mu.Lock()
	offer := u.offer
	u.mu.Unlock()
	if offer.kind == onOffer && offer.order.Order > s.Last && offer.hub == s.Hub {
		return offer, nil
	}
	select {
	case <-ctx.Done():
	case <-u.changed:
	}
	return event{}, nil
}

func (u *Updater) verify(ctx context.Context, s State) event {
	var counter int64
	var at time.Time
	begin := time.Now()
	err := u.campaign(ctx, func(ctx context.Context) (gained int64, err error) {
		counter, at, err = u.signed.verify(ctx, s.Order, s.Changes(), u.config.Hardware)
		var refused *Refusal
		if errors.As(err, &refused) && refused.Behind && time.Since(begin) < u.config.Lag {
			err = errors.New(refused.Reason) // not final yet
		}
		return 0, err
	})
	e := outcome(onChecked, err)
	e.counter, e.at = counter, at
	return e
}

// enough is what a transfer has to bring for its failure to be forgiven.
const enough = 16 << 10

// campaign tries as the one policy has it, until the hub is refused for good
// or a whole campaign was in vain.
func (u *Updater) campaign(ctx context.Context, try func(context.Context) (gained int64, err error)) error {
	var state retry.State
	for {
		state = u.config.Policy.Begin(state, time.Now())
		gained, err := try(ctx)
		var refused *Refusal
		if err == nil || ctx.Err() != nil || errors.As(err, &refused) {
			return err
		}
		if gained >= enough {
			state = u.config.Policy.Begin(retry.State{}, time.Now())
		}
		var after time.Duration
		var answer *statusError
		if errors.As(err, &answer) {
			if after = answer.after; !retry.Transient(answer.status) && answer.status != http.StatusRequestedRangeNotSatisfiable {
				return err
			}
		}
		var delay time.Duration
		if state, delay = u.config.Policy.Failed(state, time.Now(), after, u.chance); state.Dormant {
			return fmt.Errorf("given up: %w", err)
		}
		u.logger.Info("the hub is asked again", "after", delay, "error", err)
		u.pause(ctx, delay)
	}
}

func (u *Updater) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (u *Updater) download(ctx context.Context, s State) error {
	var all []Artifact
	var total, done int64
	for _, software := range s.Changes() {
		all = append(all, software.Artifacts...)
	}
	if err := os.MkdirAll(u.loader.directory, 0o700); err != nil {
		return err
	}
	if err := errors.Join(u.loader.sweep(all), u.loader.room(all)); err != nil {
		return err
	}
	for _, a := range all {
		total += a.Size
	}
	for _, a := range all {
		if err := u.fetch(ctx, a, func(offset int64) { u.advance(int((done + offset) * 100 / max(total, 1))) }); err != nil {
			return err
		}
		done += a.Size
	}
	return nil
}

// fetch has an artifact here whole, and verified.
func (u *Updater) fetch(ctx context.Context, a Artifact, progress func(offset int64)) (err error) {
	if u.loader.check(a) == nil {
		return nil
	}
	p, err := u.loader.open(a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.file.Close()) }()
	best := p.offset // what was here already and comes again is no gain
	return u.campaign(ctx, func(ctx context.Context) (gained int64, err error) {
		before := best
		err = u.loader.advance(ctx, p, func(int64) {
			best = max(best, p.offset)
			progress(p.offset)
		})
		return best - before, err
	})
}

// advance notes how far a download is, and has it told now and then.
func (u *Updater) advance(percent int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if percent >= u.progress+10 {
		u.progress = percent
		signal(u.report)
	}
}

// glance is how soon a window that opens, or a veto that is withdrawn, is seen.
const glance = 5 * time.Second

// await waits for the time to install.
func (u *Updater) await(ctx context.Context, s State) (event, error) {
	for held := false; ; held = true {
		if u.mayInstall(s, u.config.Clock()) {
			return event{kind: onOpened}, nil
		}
		if !held {
			u.hear(event{kind: onHeld, job: s.Job})
		}
		u.pause(ctx, min(glance, max(u.config.Policy.Base, 10*time.Millisecond)*5))
		if ctx.Err() != nil {
			return event{}, nil
		}
	}
}

func (u *Updater) mayInstall(s State, now time.Time) bool {
	if !open(u.config.Windows, now.In(u.config.Zone)) {
		return false
	}
	if u.config.Veto == "" || now.Sub(s.Ready) >= u.config.VetoFor {
		return true
	}
	_, err := os.Stat(u.config.Veto)
	return errors.Is(err, os.ErrNotExist)
}

// each does one thing for each kind of software that changes.
func (u *Updater) each(ctx context.Context, s State, do func(context.Context, Handler, Task) error) error {
	for _, software := range s.Changes() {
		c, known := u.config.Components[software.Name]
		if !known { // it was, when the order was taken up
			return fmt.Errorf("this device has no software %s any more", software.Name)
		}
		limited, cancel := context.WithTimeout(ctx, u.config.Limit)
		err := do(limited, c.Handler, u.task(s, software))
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", software.Name, err)
		}
	}
	return nil
}

func (u *Updater) task(s State, software Software) Task {
	t := Task{
		Job: s.Job, Software: software, Previous: s.Running[software.Name].Version,
		Files: map[string]string{}, Directory: filepath.Join(u.config.Directory, "work", software.Name),
	}
	for _, a := range software.Artifacts {
		t.Files[a.File] = u.loader.path(a)
	}
	return t
}

// prepare looks at the artifacts once more, as they may have lain for days.
func (u *Updater) prepare(ctx context.Context, h Handler, t Task) error {
	for _, a := range t.Software.Artifacts {
		if err := u.loader.check(a); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(t.Directory, 0o700); err != nil {
		return err
	}
	return h.Prepare(ctx, t)
}

// install leaves a device alone that runs the new slot already: what does not
// run now is the way back.
func (u *Updater) install(ctx context.Context, h Handler, t Task) error {
	if h.Restart() == RestartDevice {
		if runs, err := h.Runs(ctx, t); err != nil || runs {
			return err
		}
	}
	return h.Install(ctx, t)
}

// runs reports whether all new software is what runs.
func (u *Updater) runs(ctx context.Context, s State) (bool, error) {
	if !s.Phase.begun() {
		return false, nil
	}
	all := true
	err := u.each(ctx, s, func(ctx context.Context, h Handler, t Task) error {
		runs, err := h.Runs(ctx, t)
		all = all && runs
		return err
	})
	return all, err
}

// greatest is what has to start anew for all that changes.
func (u *Updater) greatest(s State) Restart {
	what := RestartService
	for _, software := range s.Changes() {
		if c, known := u.config.Components[software.Name]; known {
			what = max(what, c.Handler.Restart())
		}
	}
	return what
}

// boot names what starts anew: it is another after it has. Services do not
// outlive this process in any way it could tell.
func (u *Updater) boot(s State) string {
	switch u.greatest(s) {
	case RestartAgent:
		return u.process
	case RestartDevice:
		return u.config.Boot()
	}
	return ""
}

// restart starts what is installed now.
func (u *Updater) restart(ctx context.Context, s State, what Restart) error {
	for _, software := range s.Changes() {
		if service := u.config.Components[software.Name].Service; service != nil && what != RestartDevice {
			if err := service.Restart(ctx); err != nil {
				return fmt.Errorf("start %s: %w", software.Name, err)
			}
		}
	}
	if what > RestartService {
		return &ErrRestart{what}
	}
	return nil
}

// ensure has everything run that may: not what is half changed.
func (u *Updater) ensure(ctx context.Context, s State) error {
	if ctx.Err() != nil {
		return nil
	}
	changing := map[string]bool{}
	if s.Phase == Installing || s.Phase == Armed || s.Phase == Reverting || s.Phase == Returning {
		for _, software := range s.Changes() {
			changing[software.Name] = true
		}
	}
	var errs []error
	for name, c := range u.config.Components {
		if c.Service != nil && !changing[name] {
			errs = append(errs, c.Service.Ensure(ctx))
		}
	}
	return errors.Join(errs...)
}

// prove has the new software prove itself: the hub acknowledges that it was
// told of it, and services and the self-test are well when it has run a while.
func (u *Updater) prove(ctx context.Context, s State) error {
	limited, cancel := context.WithTimeout(ctx, u.config.Deadline)
	defer cancel()
	err := u.health(limited, s)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("not well within %s: %w", u.config.Deadline, err)
	}
	return err
}

func (u *Updater) health(ctx context.Context, s State) error {
	if err := u.tellTrial(ctx, s); err != nil {
		return fmt.Errorf("the hub could not be told: %w", err)
	}
	u.pause(ctx, u.config.Settle)
	if err := u.check(ctx, s); err != nil {
		return err
	}
	if err := u.config.SelfTest(ctx); err != nil {
		return fmt.Errorf("self-test: %w", err)
	}
	return errors.Join(u.check(ctx, s), ctx.Err())
}

// tellTrial tells the hub by a report of its own: who can do that has a
// connection that works, whatever was true before the start.
func (u *Updater) tellTrial(ctx context.Context, s State) error {
	patch, err := json.Marshal(s.report(ReportTrial, u.facts).Patch())
	if err != nil {
		return err
	}
	for {
		if _, err = u.hub.Report(ctx, patch); err == nil || ctx.Err() != nil {
			return err
		}
		u.pause(ctx, u.config.Policy.Base)
	}
}

func (u *Updater) check(ctx context.Context, s State) error {
	for _, software := range s.Changes() {
		if service := u.config.Components[software.Name].Service; service != nil {
			if err := service.Check(ctx); err != nil {
				return fmt.Errorf("%s: %w", software.Name, err)
			}
		}
	}
	return nil
}
