package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// A feed is bounded by credit: the server may be feedWindow items ahead of
// what the follower says it has worked off. A server that hears nothing for
// grantLapse stops.
const (
	feedWindow = 256
	grantEvery = 5 * time.Second
	grantLapse = 20 * time.Second
	maxFeeds   = 256 // feeds one AnswerFeed serves at once
)

var errFollowerGone = errors.New("the follower went away")

// AnswerFeed serves a feed under a peer's name until the connection closes. fn
// sends items until its context ends (the follower left) or it has no more.
func AnswerFeed[Req, Item any](c *Conn, peer string, feed link.Feed[Req, Item], fn func(ctx context.Context, req Req, send func(Item) error) error) error {
	slots := make(chan struct{}, maxFeeds)
	return c.serve(subject(peer, feed.Name), peer, func(m *nats.Msg) {
		select {
		case slots <- struct{}{}:
		default:
			c.finish(m.Reply, problem.New(problem.Busy, "%s serves too many feeds already", peer).After(5*time.Second))
			return
		}
		go func() {
			defer func() { <-slots }()
			c.finish(m.Reply, serveFeed(c, m, fn))
		}()
	})
}

func serveFeed[Req, Item any](c *Conn, m *nats.Msg, fn func(context.Context, Req, func(Item) error) error) error {
	var req Req
	if err := json.Unmarshal(m.Data, &req); err != nil {
		return problem.New(problem.Invalid, "the request cannot be read: %w", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	flow, err := c.watchGrants(m.Reply, cancel)
	if err != nil {
		return err
	}
	defer flow.stop()
	err = fn(ctx, req, func(item Item) error {
		if err := flow.take(ctx); err != nil {
			return err
		}
		body, err := json.Marshal(item)
		if err != nil {
			return err
		}
		return c.nc.Publish(m.Reply, body)
	})
	if errors.Is(context.Cause(ctx), errFollowerGone) {
		return nil
	}
	return err
}

// flow is the server's side of a feed's credit.
type flow struct {
	mu      sync.Mutex
	sent    int
	worked  int // what the follower has worked off
	more    chan struct{}
	lapse   *time.Timer
	watched *nats.Subscription
}

func (c *Conn) watchGrants(inbox string, cancel context.CancelCauseFunc) (*flow, error) {
	f := &flow{more: make(chan struct{}, 1)}
	f.lapse = time.AfterFunc(grantLapse, func() { cancel(errFollowerGone) })
	var err error
	f.watched, err = c.nc.Subscribe(inbox+".grant", func(grant *nats.Msg) {
		worked, err := strconv.Atoi(string(grant.Data))
		if err != nil || worked < 0 {
			cancel(errFollowerGone)
			return
		}
		f.lapse.Reset(grantLapse)
		f.mu.Lock()
		f.worked = max(f.worked, worked)
		f.mu.Unlock()
		select {
		case f.more <- struct{}{}:
		default:
		}
	})
	return f, err
}

func (f *flow) take(ctx context.Context) error {
	for {
		f.mu.Lock()
		free := f.sent-f.worked < feedWindow
		if free {
			f.sent++
		}
		f.mu.Unlock()
		if free {
			return context.Cause(ctx)
		}
		select {
		case <-f.more:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (f *flow) stop() {
	f.lapse.Stop()
	ignoreClosed(f.watched.Unsubscribe())
}

// finish ends a feed at the follower. A closed connection tells it the same.
func (c *Conn) finish(inbox string, err error) {
	m := nats.NewMsg(inbox)
	m.Header.Set(doneHeader, "1")
	if err != nil {
		setFault(m, err)
	}
	ignoreClosed(c.nc.PublishMsg(m))
}

// ignoreClosed names the one failure that a feed's farewell may meet: the
// connection is gone, and with it whoever would read it.
func ignoreClosed(error) {}

// Follow asks for a feed and calls each for every item, until ctx ends, the
// feed does, or each fails. The end of ctx is no error.
func Follow[Req, Item any](ctx context.Context, c *Conn, peer string, feed link.Feed[Req, Item], req Req, each func(Item) error) error {
	body, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("%s: %w", feed.Name, err)
	}
	if !c.nc.IsConnected() {
		return problem.New(problem.NotReady, "%s cannot be asked: this process is off the link; try again", peer)
	}
	inbox := feedOf(peer, nuid.Next())
	items, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("%s: %w", feed.Name, err)
	}
	defer func() {
		ignoreClosed(items.Unsubscribe())
		ignoreClosed(c.nc.Publish(inbox+".grant", []byte("-1")))
	}()
	if err := c.nc.PublishRequest(subject(peer, feed.Name), inbox, body); err != nil {
		return fmt.Errorf("%s: %w", feed.Name, err)
	}
	err = c.readFeed(ctx, peer, items, inbox, func(data []byte) error {
		var item Item
		if err := json.Unmarshal(data, &item); err != nil {
			return fmt.Errorf("%s: %w", feed.Name, err)
		}
		return each(item)
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// readFeed reads items, granting new ones as they are worked off.
func (c *Conn) readFeed(ctx context.Context, peer string, items *nats.Subscription, inbox string, each func([]byte) error) error {
	worked, granted := 0, time.Now()
	for {
		next, cancel := context.WithTimeout(ctx, grantEvery)
		m, err := items.NextMsgWithContext(next)
		cancel()
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			return problem.New(problem.NotReady, "%s is away; try again", peer)
		case err != nil && !errors.Is(err, context.DeadlineExceeded):
			return err
		case err == nil && m.Header.Get(faultHeader) != "":
			return faultOf(m)
		case err == nil && m.Header.Get(doneHeader) != "":
			return nil
		case err == nil:
			if err := each(m.Data); err != nil {
				return err
			}
			worked++
		}
		if worked%(feedWindow/4) == 0 || time.Since(granted) >= grantEvery {
			granted = time.Now()
			if err := c.nc.Publish(inbox+".grant", []byte(strconv.Itoa(worked))); err != nil {
				return err
			}
		}
	}
}
