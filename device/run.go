package device

import (
	"context"
	"sync"
	"time"
)

// Run keeps the device connected until ctx ends, and returns nil then. A
// client runs once.
func (c *Client) Run(ctx context.Context) error {
	c.mu.Lock()
	again := c.started
	c.started = true
	c.mu.Unlock()
	if again {
		return ErrClosed
	}
	var handlers sync.WaitGroup
	handlers.Go(c.inbox.run)
	defer func() {
		close(c.ended)
		c.queue.close()
		c.running.Wait()
		c.inbox.close()
		handlers.Wait()
		c.https().CloseIdleConnections()
	}()
	state := c.load()
	c.chance = c.config.Chance(c.config.RegistrationID, state.Boot)
	state.Retry = c.config.Policy.Booted(state.Retry, time.Now(), c.chance)
	c.save(state)
	for sleep(ctx, c.config.Policy.Wait(state.Retry, time.Now())) {
		state.Retry = c.config.Policy.Begin(state.Retry, time.Now())
		c.attempt(ctx, &state)
	}
	return nil
}

// attempt makes one attempt and, when it connects, stays until the connection
// is gone.
func (c *Client) attempt(ctx context.Context, state *persistent) {
	if err := c.locate(ctx, state); err != nil {
		c.failed(ctx, state, err)
		return
	}
	s, err := c.connect(ctx, state.Assignment)
	if err != nil {
		c.failed(ctx, state, err)
		return
	}
	c.stay(ctx, state, s)
}

// locate finds out where the device belongs, which it mostly knows. When a
// whole campaign did not reach the hub it asks whether that is still right,
// and if nobody can say it tries the hub again.
func (c *Client) locate(ctx context.Context, state *persistent) error {
	known := state.Assignment != Assignment{}
	if known && !state.Ask {
		return nil
	}
	assignment, err := c.provision(ctx)
	state.Ask = false
	if known {
		state.Retry = c.config.Policy.Move(state.Retry, time.Now())
	}
	if err != nil {
		if !known {
			return err
		}
		c.logger.Warn("provisioning cannot say whether the hub is still ours", "error", err)
		return nil
	}
	state.Assignment = assignment
	c.save(*state)
	c.tell(Event{Kind: Provisioned, Assignment: assignment})
	return nil
}

// stay uses the connection until it is gone.
func (c *Client) stay(ctx context.Context, state *persistent, s *session) {
	policy := c.config.Policy
	state.Retry = policy.Up(state.Retry, time.Now())
	c.save(*state)
	c.enter(s)
	c.tell(Event{Kind: Connected, Assignment: state.Assignment})
	err := s.run(ctx, policy.Stable, func() {
		state.Retry = policy.Held(state.Retry)
		c.save(*state)
	})
	c.leave()
	c.tell(Event{Kind: Disconnected, Assignment: state.Assignment, Err: err})
	if ctx.Err() != nil || err == errRenew {
		state.Retry = policy.Left(state.Retry)
		c.save(*state)
		return
	}
	var delay time.Duration
	if away, told := err.(sentAway); told {
		state.Retry, delay = policy.SentAway(state.Retry, time.Now(), away.after, c.chance)
	} else {
		state.Retry, delay = policy.Down(state.Retry, time.Now(), c.chance)
	}
	c.pause(state, delay, nil)
}

// failed decides what a failed attempt leads to: a refusal by the hub means
// the device belongs elsewhere, which is asked once per campaign; other final
// answers end the campaign; the rest is tried again.
func (c *Client) failed(ctx context.Context, state *persistent, err error) {
	if ctx.Err() != nil {
		return
	}
	policy, now := c.config.Policy, time.Now()
	refusal := asRefusal(err)
	if refusal != nil {
		c.tell(Event{Kind: Refused, Assignment: state.Assignment, Err: err})
	}
	var delay time.Duration
	switch {
	case refusal == nil:
		state.Retry, delay = policy.Failed(state.Retry, now, 0, c.chance)
	case refusal.ByHub && refusal.Permanent && !state.Retry.Moved:
		state.Assignment, state.Retry = Assignment{}, policy.Move(state.Retry, now)
		c.save(*state)
		return
	case refusal.Permanent:
		state.Retry, delay = policy.GiveUp(state.Retry, now, c.chance)
	default:
		state.Retry, delay = policy.Failed(state.Retry, now, refusal.RetryAfter, c.chance)
	}
	c.pause(state, delay, err)
}

// pause tells how long the device will be quiet, and why.
func (c *Client) pause(state *persistent, delay time.Duration, err error) {
	kind := Waiting
	if state.Retry.Dormant {
		kind, state.Ask = Dormant, true
	}
	c.save(*state)
	c.tell(Event{Kind: kind, Assignment: state.Assignment, Delay: delay, Err: err})
}

// enter makes s the session that calls use.
func (c *Client) enter(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session, c.assignment = s, Assignment{Hub: s.hub, DeviceID: s.deviceID}
	close(c.ready)
}

func (c *Client) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.session.gone)
	c.session = nil
	c.ready = make(chan struct{})
}

// connected waits for a session.
func (c *Client) connected(ctx context.Context) (*session, error) {
	for {
		c.mu.Lock()
		s, ready := c.session, c.ready
		c.mu.Unlock()
		if s != nil {
			return s, nil
		}
		select {
		case <-ready:
		case <-c.ended:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
