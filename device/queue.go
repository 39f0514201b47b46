package device

import (
	"crypto/rand"
	"sync"
)

// queue keeps telemetry until the hub has it: first in, first out, bounded,
// the oldest dropped first.
type queue struct {
	mu       sync.Mutex
	limit    int
	waiting  []*outgoing // not handed to a session, or handed back by one
	arrived  chan struct{}
	closed   bool
	counters Counters
}

// Counters say what became of telemetry.
type Counters struct {
	Queued  int    // waiting for a connection
	Acked   uint64 // the hub has them
	Dropped uint64 // by the full queue, or given up
}

// outgoing is one message on its way.
type outgoing struct {
	Message
	losses int // connections lost while it was the first they had to acknowledge
	done   chan struct{}
	err    error
}

func newQueue(limit int) *queue { return &queue{limit: limit, arrived: make(chan struct{}, 1)} }

// finish tells the sender; the queue is locked.
func (q *queue) finish(o *outgoing, err error) {
	switch err {
	case nil:
		q.counters.Acked++
	case ErrDropped, ErrGivenUp:
		q.counters.Dropped++
	}
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
		q.finish(o, ErrClosed)
		return o
	}
	q.waiting = append(q.waiting, o)
	q.trim()
	q.wake()
	return o
}

// trim drops the oldest messages beyond the limit.
func (q *queue) trim() {
	for len(q.waiting) > q.limit {
		q.finish(q.waiting[0], ErrDropped)
		q.waiting[0] = nil
		q.waiting = q.waiting[1:]
	}
}

func (q *queue) wake() {
	select {
	case q.arrived <- struct{}{}:
	default:
	}
}

// take removes up to n messages.
func (q *queue) take(n int) []*outgoing {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.waiting))
	taken := append([]*outgoing(nil), q.waiting[:n]...)
	clear(q.waiting[:n])
	q.waiting = q.waiting[n:]
	return taken
}

// acked notes that the hub has a message.
func (q *queue) acked(o *outgoing) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.finish(o, nil)
}

// giveBack puts messages that were not acknowledged in front, in their order.
func (q *queue) giveBack(messages []*outgoing) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		for _, o := range messages {
			q.finish(o, ErrClosed)
		}
		return
	}
	q.waiting = append(append([]*outgoing(nil), messages...), q.waiting...)
	q.trim()
}

// lost gives back what a lost connection had not acknowledged. A hub closes
// the connection on a message it cannot take, so one that was first in line
// for tries lost connections is given up; it would hold up all others for ever.
func (q *queue) lost(messages []*outgoing, tries int) {
	if len(messages) > 0 {
		if messages[0].losses++; messages[0].losses >= tries {
			q.mu.Lock()
			q.finish(messages[0], ErrGivenUp)
			q.mu.Unlock()
			messages = messages[1:]
		}
	}
	q.giveBack(messages)
}

func (q *queue) count() Counters {
	q.mu.Lock()
	defer q.mu.Unlock()
	counters := q.counters
	counters.Queued = len(q.waiting)
	return counters
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, o := range q.waiting {
		q.finish(o, ErrClosed)
	}
	q.waiting = nil
}
