package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/trail"
)

const (
	defaultWait  = 10 * time.Second
	waitHeader   = "Slipway-Wait-Ms" // how long the asker will wait
	doneHeader   = "Slipway-Done"    // the last message of a feed
	faultHeader  = "Slipway-Problem" // the body is a problem, not an answer
	maxInService = 1024              // calls one Answer works on at once; more are refused as busy
)

// Answer serves a call under a peer's name until the connection closes. Where
// several processes answer as one peer, one of them is asked.
func Answer[Req, Resp any](c *Conn, peer string, call link.Call[Req, Resp], fn func(context.Context, Req) (Resp, error)) error {
	return answer(c, peer, subject(peer, call.Name), call.Name, func(ctx context.Context, _ string, req Req) (Resp, error) { return fn(ctx, req) })
}

// AnswerFrom is Answer for a call that each peer may make in its own name alone;
// fn is told by whom.
func AnswerFrom[Req, Resp any](c *Conn, peer string, call link.Call[Req, Resp], fn func(ctx context.Context, from string, req Req) (Resp, error)) error {
	begins := subject(peer, call.Name) + "."
	return answer(c, peer, begins+">", call.Name, func(ctx context.Context, at string, req Req) (Resp, error) {
		return fn(ctx, strings.TrimPrefix(at, begins), req)
	})
}

// In makes a call one that a peer makes in its own name, for AnswerFrom.
func In[Req, Resp any](call link.Call[Req, Resp], from string) link.Call[Req, Resp] {
	return link.Call[Req, Resp]{Name: call.Name + "." + from}
}

func answer[Req, Resp any](c *Conn, peer, on, name string, fn func(ctx context.Context, subject string, req Req) (Resp, error)) error {
	slots := make(chan struct{}, maxInService)
	return c.serve(on, peer, func(m *nats.Msg) {
		select {
		case slots <- struct{}{}:
		default:
			respond(m, nil, problem.New(problem.Busy, "%s is busy", peer).After(time.Second))
			return
		}
		c.busy.Add(1)
		go func() {
			defer func() { <-slots; c.busy.Add(-1) }()
			ctx, cancel := context.WithTimeout(trail.Extract(context.Background(), m.Header), waitOf(m))
			defer cancel()
			ctx, work := trail.Under(ctx, name)
			answering(work, peer)
			var req Req
			if err := json.Unmarshal(m.Data, &req); err != nil {
				work.End(err)
				respond(m, nil, problem.New(problem.Invalid, "%s: the request cannot be read: %w", name, err))
				return
			}
			resp, err := fn(ctx, m.Subject, req)
			work.End(err)
			respond(m, resp, err)
		}()
	})
}

// answering notes which plane does the work of a call.
func answering(work *trail.Work, peer string) {
	if stamp, isStamp := link.StampOfPeer(peer); isStamp {
		work.Say("plane", "stamp").Say("stamp", stamp)
		return
	}
	work.Say("plane", peer)
}

// service is what the connection answers on a subject.
type service struct {
	subject, peer string
	handle        nats.MsgHandler
	subscription  *nats.Subscription // nil while the connection is withdrawn
}

func (c *Conn) serve(subject, peer string, handle nats.MsgHandler) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := &service{subject: subject, peer: peer, handle: handle}
	c.serving = append(c.serving, one)
	if c.withdrawn {
		return nil
	}
	if err := c.begin(one); err != nil {
		return err
	}
	return c.announce()
}

func (c *Conn) begin(one *service) (err error) {
	one.subscription, err = c.nc.QueueSubscribe(one.subject, one.peer, one.handle)
	return err
}

// Withdraw has what is asked of the peer go to its other processes at once,
// until Return.
func (c *Conn) Withdraw() error {
	return c.withdraw(func(s *nats.Subscription) error { return s.Unsubscribe() })
}

// Leave is Withdraw for good, but for calls that have come already: they are
// answered, as Idle tells.
func (c *Conn) Leave() error {
	return c.withdraw(func(s *nats.Subscription) error {
		c.leaving = append(c.leaving, s)
		return s.Drain()
	})
}

func (c *Conn) withdraw(end func(*nats.Subscription) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.withdrawn = true
	var failures []error
	for _, one := range c.serving {
		if one.subscription != nil {
			failures = append(failures, end(one.subscription))
			one.subscription = nil
		}
	}
	return errors.Join(failures...)
}

// idleEvery is how often Idle looks.
const idleEvery = 10 * time.Millisecond

// Idle returns when all calls that had come before Leave are answered.
func (c *Conn) Idle(ctx context.Context) error {
	tick := time.NewTicker(idleEvery)
	defer tick.Stop()
	for !c.idle() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

func (c *Conn) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !slices.ContainsFunc(c.leaving, (*nats.Subscription).IsValid) && c.busy.Load() == 0
}

// Return undoes Withdraw.
func (c *Conn) Return() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.serving {
		if one.subscription == nil {
			if err := c.begin(one); err != nil {
				return err
			}
		}
	}
	c.withdrawn = false
	return nil
}

// announce returns when the server knows the subscriptions: whoever asks from
// then on finds somebody there. Off the link they go along when it is reached.
func (c *Conn) announce() error {
	if !c.nc.IsConnected() {
		return nil
	}
	err := c.nc.Flush()
	if errors.Is(err, nats.ErrConnectionClosed) && !c.nc.IsClosed() {
		return nil // it was lost just now, and comes back
	}
	return err
}

// Ask makes a call and waits for its answer, 10 s unless ctx says otherwise.
// Problems come back as they were; a peer that is away is problem.NotReady,
// one that does not answer in time problem.TimedOut.
func Ask[Req, Resp any](ctx context.Context, c *Conn, peer string, call link.Call[Req, Resp], req Req) (resp Resp, err error) {
	ctx, work := trail.Under(ctx, "ask "+call.Name)
	work.Say("peer", peer)
	defer func() { work.End(err) }()
	wait := defaultWait
	if deadline, ok := ctx.Deadline(); ok {
		wait = time.Until(deadline)
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	body, err := json.Marshal(req)
	if err != nil {
		return resp, fmt.Errorf("%s: %w", call.Name, err)
	}
	if !c.nc.IsConnected() {
		return resp, problem.New(problem.NotReady, "%s cannot be asked: this process is off the link; try again", peer)
	}
	m := nats.NewMsg(subject(peer, call.Name))
	m.Data = body
	m.Header.Set(waitHeader, strconv.FormatInt(wait.Milliseconds(), 10))
	trail.Inject(ctx, m.Header)
	answer, err := c.nc.RequestMsgWithContext(ctx, m)
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrConnectionClosed):
		return resp, problem.New(problem.NotReady, "%s is away; try again", peer)
	case errors.Is(err, context.DeadlineExceeded):
		return resp, problem.New(problem.TimedOut, "%s did not answer %s in time; try again", peer, call.Name)
	case err != nil:
		return resp, fmt.Errorf("%s: %w", call.Name, err)
	}
	if answer.Header.Get(faultHeader) != "" {
		return resp, faultOf(answer)
	}
	return resp, json.Unmarshal(answer.Data, &resp)
}

// Tell publishes a document to whoever listens; nobody may. Off the link it
// fails as not ready.
func Tell[T any](c *Conn, subject string, document T) error {
	if !c.nc.IsConnected() {
		return problem.New(problem.NotReady, "this process is off the link")
	}
	body, err := json.Marshal(document)
	if err != nil {
		return err
	}
	return c.nc.Publish(subject, body)
}

// Hear calls fn for each document told on a subject, which may be a pattern,
// one after another. Documents that cannot be read are passed over: the next
// one replaces them.
func Hear[T any](c *Conn, pattern string, fn func(subject string, document T)) error {
	_, err := c.nc.Subscribe(pattern, func(m *nats.Msg) {
		var document T
		if json.Unmarshal(m.Data, &document) == nil {
			fn(m.Subject, document)
		}
	})
	return err
}

func subject(peer, name string) string { return "call." + peer + "." + name }

func waitOf(m *nats.Msg) time.Duration {
	ms, err := strconv.ParseInt(m.Header.Get(waitHeader), 10, 64)
	if err != nil || ms <= 0 {
		return defaultWait
	}
	return min(time.Duration(ms)*time.Millisecond, 15*time.Minute)
}

// respond answers a request. Where that fails the asker runs into its own
// deadline, so there is nothing better to do with the error.
func respond(m *nats.Msg, answer any, err error) {
	reply := nats.NewMsg(m.Reply)
	if err == nil {
		reply.Data, err = json.Marshal(answer)
	}
	if err != nil {
		setFault(reply, err)
	}
	if m.RespondMsg(reply) != nil {
		return
	}
}

func setFault(m *nats.Msg, err error) {
	body, failed := json.Marshal(problem.Of(err))
	if failed != nil {
		body = []byte(`{"kind":"internal","message":"an error that cannot be told"}`)
	}
	m.Header.Set(faultHeader, "1")
	m.Data = body
}

func faultOf(m *nats.Msg) error {
	var fault problem.Error
	if err := json.Unmarshal(m.Data, &fault); err != nil {
		return fmt.Errorf("unreadable problem: %w", err)
	}
	return &fault
}
