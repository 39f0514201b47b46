package device

import (
	"crypto/rand"
	"sync"
)

// queue keeps telemetry until the hub has it: first in, first out, bounded,
// the oldest dropped first.
type queue struct {
	mu      sync.Mutex
	limit   int
	waiting []*outgoing // not handed to a session, or handed back by one
	arrived chan struct{}
	closed  bool
}

// outgoing is one message on its way.
type outgoing struct {
	Message
	done chan struct{}
	err  error
}

func newQueue(limit int) *queue { return &queue{limit: limit, arrived: make(chan struct{}, 1)} }

func (o *outgoing) finish(err error) {
	o.err = err
	close(o.done)
}

func (q *queue) add(m Message) *outgoing {
	if m.ID == "" {
		m.ID = rand.Text()
	}
	o := &outgoing{Message: m, done: make(chan struct{})}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		o.finish(ErrClosed)
		return o
	}
	if len(q.waiting) >= q.limit {
		q.waiting[0].finish(ErrDropped)
		q.waiting = q.waiting[1:]
	}
	q.waiting = append(q.waiting, o)
	select {
	case q.arrived <- struct{}{}:
	default:
	}
	return o
}

// take removes up to n messages.
func (q *queue) take(n int) []*outgoing {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.waiting))
	taken := append([]*outgoing(nil), q.waiting[:n]...)
	q.waiting = q.waiting[n:]
	return taken
}

// giveBack puts messages that were not acknowledged in front, in their order.
func (q *queue) giveBack(messages []*outgoing) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		for _, o := range messages {
			o.finish(ErrClosed)
		}
		return
	}
	q.waiting = append(append([]*outgoing(nil), messages...), q.waiting...)
	for len(q.waiting) > q.limit {
		q.waiting[0].finish(ErrDropped)
		q.waiting = q.waiting[1:]
	}
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, o := range q.waiting {
		o.finish(ErrClosed)
	}
	q.waiting = nil
}
