package registration

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/enrollment"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/trail"
)

const (
	// stepTimeout bounds one request to a stamp.
	stepTimeout = 10 * time.Second
	// sweepEvery is how often unfinished registrations are looked for.
	sweepEvery = 500 * time.Millisecond
	// maxBusy bounds the registrations taken up at once; the others stay due
	// and are found when there is room. A page of the sweep is larger, so that
	// those taken up already do not hide them.
	maxBusy   = 1000
	sweepPage = 2 * maxBusy
)

// work takes a registration as far as it goes now, in the background. One
// worker at a time has it; a call meanwhile makes it look again.
func (s *Service) work(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if s.busy[key] {
		s.again[key] = true
		return
	}
	if len(s.busy) >= maxBusy {
		s.more = true
		return
	}
	s.busy[key] = true
	s.working.Go(func() {
		s.workers <- struct{}{}
		defer func() { <-s.workers }()
		for {
			if err := s.drive(context.Background(), key); err != nil {
				s.logger.Error("registration not worked on", "registration", key, "error", err)
			}
			if s.done(key) {
				return
			}
		}
	})
}

// done gives a registration back unless somebody wants it looked at again.
func (s *Service) done(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.again[key] && !s.closed {
		delete(s.again, key)
		return false
	}
	delete(s.again, key)
	delete(s.busy, key)
	s.queue.ended()
	if s.more && len(s.busy) < maxBusy/2 {
		s.more = false
		wake(s.kick)
	}
	return true
}

// drive takes steps until there is none to take, or one fails and has to wait.
func (s *Service) drive(ctx context.Context, key string) error {
	for {
		r, known, err := byKey(ctx, s.db, key)
		if err != nil || !known || r.Due == nil || s.isClosed() {
			return err
		}
		if r.Due.After(s.now()) {
			return nil
		}
		err = s.traced(ctx, r)
		if errors.Is(err, errChanged) {
			continue
		}
		s.meters.steps.WithLabelValues(metrics.Result(err)).Inc()
		if err != nil {
			return s.fail(ctx, r, err)
		}
	}
}

func (s *Service) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// traced takes a step as a part of the request that its device waits for.
func (s *Service) traced(ctx context.Context, r Record) error {
	ctx, work := trail.Under(s.meters.of(ctx, r.Key), "step "+string(r.Phase))
	work.Say("plane", link.ProvisioningPeer).Say("device", r.DeviceID).Say("stamp", r.Stamp)
	err := s.step(ctx, r)
	work.End(err)
	return err
}

// step takes the one step that a registration's phase calls for.
func (s *Service) step(ctx context.Context, r Record) error {
	spec, err := s.spec(ctx, r)
	if err != nil {
		return err
	}
	switch r.Phase {
	case link.PhaseWaiting:
		return s.stepWaiting(ctx, r, spec)
	case link.PhaseRemoving:
		return s.stepRemoving(ctx, r, spec)
	}
	return s.stepPut(ctx, r, spec)
}

// change applies a step's result to the record as it was loaded.
func (s *Service) change(ctx context.Context, r Record, apply func(ctx context.Context, tx *sqldb.Tx, r *Record) error) error {
	return s.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		fresh := r // apply may run again
		fresh.UpdatedAt = s.clock()
		if err := apply(ctx, tx, &fresh); err != nil {
			return err
		}
		return save(ctx, tx, &fresh)
	})
}

// stepWaiting chooses a stamp for a device that asks for one.
func (s *Service) stepWaiting(ctx context.Context, r Record, spec link.EnrollmentSpec) error {
	return s.change(ctx, r, func(ctx context.Context, tx *sqldb.Tx, r *Record) error {
		barred, err := s.barred(ctx, tx, r.Key)
		if err != nil {
			return err
		}
		if !r.Open || barred {
			r.Open, r.Due = false, nil
			return nil
		}
		return s.choose(ctx, tx, r, spec, s.clock())
	})
}

// stepPut makes the identity on the stamp that was chosen, or renews the
// credentials of one that is there.
func (s *Service) stepPut(ctx context.Context, r Record, spec link.EnrollmentSpec) error {
	stamp, known := s.directory.Current().Stamp(r.Stamp)
	if r.Phase == link.PhaseCreating && (!known || !r.stays(stamp, known, spec)) {
		// It may be there already: only a confirmed removal allows another choice.
		return s.change(ctx, r, func(_ context.Context, _ *sqldb.Tx, r *Record) error {
			return r.leave("stamp "+r.Stamp+" is no longer open to it", s.clock())
		})
	}
	put := link.PutIdentity{DeviceID: r.DeviceID, Epoch: r.Epoch, Auth: r.Auth, Enrollment: r.Enrollment, Tenant: r.Tenant}
	if r.Phase == link.PhaseCreating {
		if c := r.Extra.Choice; c != nil && c.InitialTwin != nil {
			spec.InitialTwin = c.InitialTwin
		}
		if put.Twin = r.Twin; put.Twin == nil {
			put.Twin = enrollment.InitialTwin(spec)
		}
	}
	if s.Issuer != nil {
		var err error
		if put.Auth.Issuer, put.Auth.Revoked, err = s.Issuer.Trust(ctx, r.Key, r.Home); err != nil {
			return err
		}
	}
	asking, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if _, err := s.stamps.Put(asking, r.Stamp, put); err != nil {
		return err
	}
	err := s.change(ctx, r, func(ctx context.Context, tx *sqldb.Tx, r *Record) error {
		if r.Phase == link.PhaseAssigned {
			r.confirmed()
			return nil
		}
		if err := r.assigned(s.clock()); err != nil {
			return err
		}
		return arrived(ctx, tx, r)
	})
	if err == nil {
		s.meters.settled(ctx, r.Key)
	}
	return err
}

// stepRemoving takes the device off its stamp. Only the stamp's receipt frees
// the place and lets another stamp be chosen.
func (s *Service) stepRemoving(ctx context.Context, r Record, spec link.EnrollmentSpec) error {
	reason := "moved to " + r.Environment
	asking, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	receipt, err := s.stamps.Remove(asking, r.Stamp, link.RemoveIdentity{DeviceID: r.DeviceID, Epoch: r.Epoch, Reason: reason, To: r.Environment})
	if err != nil {
		return err
	}
	return s.change(ctx, r, func(ctx context.Context, tx *sqldb.Tx, r *Record) error {
		if err := r.take(ctx, tx, -1); err != nil {
			return err
		}
		barred, err := s.barred(ctx, tx, r.Key)
		if err != nil {
			return err
		}
		if err := r.left(receipt, keepsTwin(spec) && !barred, reason, s.clock()); err != nil {
			return err
		}
		return departed(ctx, tx, r, receipt.Connected)
	})
}

// fail notes why a step did not work and when it is tried again. A stamp that
// says the assignment is over there means that this record must begin anew
// elsewhere, which a removal confirms.
func (s *Service) fail(ctx context.Context, r Record, failure error) error {
	now := s.clock()
	err := s.change(ctx, r, func(_ context.Context, _ *sqldb.Tx, r *Record) error {
		if problem.Is(failure, problem.Conflict) && r.Phase != link.PhaseRemoving {
			return r.leave(problem.Of(failure).Message, now)
		}
		r.failed(failure, backoff(r.Attempts, rand.Float64()), now)
		return nil
	})
	if problem.Is(failure, problem.Internal) {
		s.logger.Error("registration step failed", "registration", r.Key, "phase", r.Phase, "stamp", r.Stamp, "error", failure)
	}
	if errors.Is(err, errChanged) {
		return nil
	}
	return err
}

// Run works on whatever is due until ctx ends, and waits for what it began.
func (s *Service) Run(ctx context.Context) error {
	defer s.close()
	return repeat(ctx, sweepEvery, s.kick, func() {
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.logger.Error("unfinished registrations not looked at", "error", err)
		}
	})
}

// repeat calls work now, on every tick and on every kick until ctx ends.
func repeat(ctx context.Context, every time.Duration, kick <-chan struct{}, work func()) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		work()
		select {
		case <-ctx.Done():
			return nil
		case <-kick:
		case <-tick.C:
		}
	}
}

func (s *Service) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.working.Wait()
}

// sweep takes up registrations whose next step is due.
func (s *Service) sweep(ctx context.Context) error {
	keys, err := sqldb.Rows(ctx, s.db, scanText, "SELECT id FROM registration WHERE due <= ? ORDER BY due LIMIT ?", sqldb.Micros(s.now()), sweepPage)
	for _, key := range keys {
		s.work(key)
	}
	if err != nil {
		return err
	}
	due := int64(len(keys))
	if due == sweepPage {
		due, _, err = sqldb.Row(ctx, s.db, scanInt, "SELECT count(*) FROM registration WHERE due <= ?", sqldb.Micros(s.now()))
	}
	s.queue.look(int(due), s.now())
	return err
}

// wake makes the one who listens to kick look at once.
func wake(kick chan<- struct{}) {
	select {
	case kick <- struct{}{}:
	default:
	}
}
