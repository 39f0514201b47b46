package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

func (c *Cluster) peer(id string) string { return c.Conn.Within(id) }

// Answer serves a call of the other processes.
func Answer[Req, Resp any](c *Cluster, call link.Call[Req, Resp], fn func(context.Context, Req) (Resp, error)) error {
	return bus.Answer(c.Conn, c.peer(c.id), call, fn)
}

// Ask makes a call of one other process.
func Ask[Req, Resp any](ctx context.Context, c *Cluster, id string, call link.Call[Req, Resp], req Req) (Resp, error) {
	return bus.Ask(ctx, c.Conn, c.peer(id), call, req)
}

// Reply is what one process answered.
type Reply[Resp any] struct {
	From   string
	Answer Resp
	Err    error
}

// AskAll makes a call of several processes at once and waits for all.
func AskAll[Req, Resp any](ctx context.Context, c *Cluster, ids []string, call link.Call[Req, Resp], req Req) []Reply[Resp] {
	replies := make([]Reply[Resp], len(ids))
	var asking sync.WaitGroup
	for i, id := range ids {
		asking.Go(func() {
			answer, err := Ask(ctx, c, id, call, req)
			c.answered(id, err)
			replies[i] = Reply[Resp]{id, answer, err}
		})
	}
	asking.Wait()
	return replies
}

// AskOthers makes a call of all other processes that are there.
func AskOthers[Req, Resp any](ctx context.Context, c *Cluster, call link.Call[Req, Resp], req Req) []Reply[Resp] {
	return AskAll(ctx, c, c.others(), call, req)
}

// Require makes a call of all other processes, each of which answers or is
// given up.
func Require[Req, Resp any](ctx context.Context, c *Cluster, call link.Call[Req, Resp], req Req) ([]Resp, error) {
	ids := c.others()
	answers, failures := make([]Resp, len(ids)), make([]error, len(ids))
	var asking sync.WaitGroup
	for i, id := range ids {
		asking.Go(func() { answers[i], failures[i] = require(ctx, c, id, call, req) })
	}
	asking.Wait()
	if err := errors.Join(failures...); err != nil {
		return nil, err
	}
	for wait := c.unnoticed(); wait > 0; wait = c.unnoticed() {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(min(wait, 100*time.Millisecond)):
		}
	}
	return answers, nil
}

// require asks one process until it answers, goes, or has not answered for too
// long.
func require[Req, Resp any](ctx context.Context, c *Cluster, id string, call link.Call[Req, Resp], req Req) (resp Resp, err error) {
	try, cancel := context.WithTimeout(ctx, claimWait)
	defer cancel()
	for began := time.Now(); listed(c.Members(), id); {
		resp, err = Ask(try, c, id, call, req)
		away := problem.Is(err, problem.NotReady)
		switch {
		case err == nil:
			return resp, nil
		case problem.Is(err, problem.TimedOut), away && time.Since(began) > awayFor:
			return resp, c.doubt(ctx, id, away)
		case !away:
			return resp, err
		}
		select {
		case <-ctx.Done():
			return resp, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return resp, nil
}

// AskLeader makes a call of the process that leads.
func AskLeader[Req, Resp any](ctx context.Context, c *Cluster, call link.Call[Req, Resp], req Req) (resp Resp, err error) {
	leader := c.Leader()
	if leader == "" {
		return resp, problem.New(problem.NotReady, "no process of stamp %s leads just now; try again", c.Stamp).After(time.Second)
	}
	return Ask(ctx, c, leader, call, req)
}

// Everywhere has every other process do something, and returns when each has,
// or is no more: its lease has ended, and it set itself apart before that.
// Processes that come meanwhile find in the database what is to be found.
func Everywhere[Req any](ctx context.Context, c *Cluster, call link.Call[Req, link.None], req Req) error {
	members, err := c.look(ctx, c.DB)
	if err != nil {
		return err
	}
	var waiting sync.WaitGroup
	failures := make(chan error, len(members))
	for _, m := range members {
		if m.ID != c.id {
			waiting.Go(func() { failures <- insist(ctx, c, m.ID, call, req) })
		}
	}
	waiting.Wait()
	close(failures)
	for err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

// insist asks one process until it has answered or is no more. One whose lease
// has ended, but which a server may still reach, is given the time in which it
// would have set itself apart.
func insist[Req any](ctx context.Context, c *Cluster, id string, call link.Call[Req, link.None], req Req) error {
	for {
		try, cancel := context.WithTimeout(ctx, askWait)
		_, err := Ask(try, c, id, call, req)
		cancel()
		silent := c.answered(id, err)
		if err == nil {
			return nil
		}
		gone, failed := c.gone(ctx, id)
		if failed == nil && (gone == left || gone == ended && silent > graveWait) {
			return nil
		}
		select {
		case <-ctx.Done():
			return problem.New(problem.NotReady, "process %s of stamp %s does not answer, and its lease has not ended yet; try again: %w", id, c.Stamp, err).After(time.Second)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// What a lease can be.
const (
	running = iota
	ended
	left // given back, or buried
)

func (c *Cluster) gone(ctx context.Context, id string) (int, error) {
	members, err := c.look(ctx, c.DB)
	if err != nil {
		return running, err
	}
	for _, m := range members {
		if m.ID == id && m.Left > 0 {
			return running, nil
		} else if m.ID == id {
			return ended, nil
		}
	}
	return left, nil
}

// Tell has the other processes hear some news. Whether they do, nobody knows;
// see bus.External.Gap.
func Tell[T any](c *Cluster, topic string, news T) error {
	return bus.Tell(c.Conn, c.Conn.Within("news."+topic), envelope[T]{c.id, news})
}

// Hear calls fn with the news of other processes.
func Hear[T any](c *Cluster, topic string, fn func(T)) error {
	return bus.Hear(c.Conn, c.Conn.Within("news."+topic), func(_ string, e envelope[T]) {
		if e.From != c.id {
			fn(e.News)
		}
	})
}

type envelope[T any] struct {
	From string `json:"from"`
	News T      `json:"news"`
}

// First makes a call of all other processes and returns the first that does not
// refuse, empty when all do.
func First[Req, Resp any](ctx context.Context, c *Cluster, call link.Call[Req, Resp], req Req) string {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	others := c.others()
	found := make(chan string, len(others))
	for _, id := range others {
		go func() {
			if _, err := Ask(ctx, c, id, call, req); err != nil {
				id = ""
			}
			found <- id
		}()
	}
	for range others {
		if id := <-found; id != "" {
			return id
		}
	}
	return ""
}
