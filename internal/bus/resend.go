package bus

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/slipway/slipway/internal/problem"
)

// A log on servers that come and go is sent what they did not take until they
// do, each append under an id by which they know it again. Its order is kept:
// while the servers take nothing, the oldest append alone is tried, and when
// they have it all others follow.
const (
	// resendEvery is how often it is looked for appends that are overdue.
	resendEvery = 250 * time.Millisecond
	// resendAfter is how long an answer is waited for before an append is sent
	// again. One that had arrived is known by its id for forgetAfter.
	resendAfter = 2 * time.Second
	forgetAfter = time.Minute
)

// Fence has appends given up once live says no: what they say is no longer this
// process's to say, and must not come after what is said elsewhere.
func (l *Log) Fence(live func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fence = live
}

// keep notes what an append needs to be sent again, and reports whether it must
// wait until the servers take anything. The caller holds mu.
func (l *Log) keep(waiting *pendingAppend, data []byte) (queued bool) {
	waiting.data = append([]byte(nil), data...)
	l.kept += len(data)
	if !l.stalled {
		waiting.sent = waiting.at
	}
	return l.stalled
}

// send publishes an append. That it could not be sent, the next round of resend
// finds.
func (l *Log) send(n uint64, waiting *pendingAppend) {
	if !l.publish(n, waiting) {
		l.postpone(n)
	}
}

func (l *Log) publish(n uint64, waiting *pendingAppend) bool {
	return l.conn.nc.PublishMsg(&nats.Msg{
		Subject: waiting.subject, Reply: l.replyTo(n), Data: waiting.data, Header: nats.Header{nats.MsgIdHdr: {l.replyTo(n)}},
	}) == nil
}

// postpone has an append sent again, and all later ones wait for it.
func (l *Log) postpone(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if waiting, ok := l.pending[n]; ok {
		waiting.sent, l.stalled = time.Time{}, true
	}
}

// resend tries the oldest append again where the servers take nothing.
func (l *Log) resend(now time.Time) {
	if !l.conn.elsewhere {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	oldest, found := l.oldest()
	if !found || !l.conn.nc.IsConnected() {
		return
	}
	waiting := l.pending[oldest]
	if now.Sub(waiting.sent) <= resendAfter {
		return
	}
	l.stalled, l.probe = true, oldest
	waiting.sent = now
	if !l.publish(oldest, waiting) {
		waiting.sent = time.Time{}
	}
}

// oldest is the first append that the servers have not answered. The caller
// holds mu.
func (l *Log) oldest() (first uint64, found bool) {
	for n := range l.pending {
		if _, held := l.held[n]; !held && (!found || n < first) {
			first, found = n, true
		}
	}
	return first, found
}

// resume sends all appends that wait once the one that was tried is through.
func (l *Log) resume(through uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, more := l.oldest(); !l.stalled || l.probe != through && more {
		return
	}
	l.stalled, l.probe = false, 0
	now := time.Now()
	for _, n := range slices.Sorted(maps.Keys(l.pending)) {
		waiting := l.pending[n]
		if _, held := l.held[n]; held {
			continue
		}
		waiting.sent = now
		if !l.publish(n, waiting) {
			waiting.sent, l.stalled = time.Time{}, true
		}
	}
}

// hold keeps an acknowledgement until it is certain that it counts, and reports
// whether it has to.
func (l *Log) hold(n, sequence uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting, ok := l.pending[n]
	if !ok || l.fence == nil || l.conn.certain() {
		return false
	}
	if l.held == nil {
		l.held = map[uint64]uint64{}
	}
	l.held[n], waiting.sent = sequence, time.Now()
	return true
}

// release passes on what was held, in order.
func (l *Log) release() {
	if !l.conn.certain() {
		return
	}
	l.mu.Lock()
	held := l.held
	l.held = nil
	l.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(held)) {
		l.settle(n, held[n], nil)
	}
}

// fenced gives up what no longer counts.
func (l *Log) fenced() {
	l.mu.Lock()
	var given []uint64
	if l.fence != nil && !l.fence() {
		given = slices.Collect(maps.Keys(l.pending))
	}
	l.mu.Unlock()
	for _, n := range given {
		l.settle(n, 0, problem.New(problem.NotReady, "the process does not serve devices just now"))
	}
}

// insist asks for something of a log until the servers answer or ctx ends: one
// that goes away takes what it was asked along.
func insist[T any](ctx context.Context, l *Log, get func(context.Context) (T, error)) (T, error) {
	if !l.conn.elsewhere {
		return get(ctx)
	}
	for {
		try, cancel := context.WithTimeout(ctx, resendAfter)
		got, err := get(try)
		cancel()
		if err == nil || errors.Is(err, jetstream.ErrMsgNotFound) || ctx.Err() != nil {
			return got, err
		}
		select {
		case <-ctx.Done():
			return got, err
		case <-time.After(resendEvery):
		}
	}
}
