package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/endpoint"
	"github.com/slipway/slipway/internal/stamp/route"
	"github.com/slipway/slipway/internal/stamp/telemetry"
)

// worker delivers for one route as it was declared.
type worker struct {
	engine  *Engine
	name    string
	spec    link.RouteSpec
	text    string
	rule    *route.Rule
	program Program // nil where messages go as they are
	target  endpoint.Endpoint
	reader  telemetry.Reader
	logger  *slog.Logger

	position uint64 // what is settled
	health   health
	replay   chan struct{} // dead letters are to be sent once more
	cancel   context.CancelFunc
	ended    chan struct{}
}

func (w *worker) start(ctx context.Context) {
	ctx, w.cancel = context.WithCancel(ctx)
	w.again() // what waited when the process ended
	go func() {
		defer close(w.ended)
		w.run(ctx)
		if err := w.target.Close(); err != nil {
			w.logger.Debug("endpoint not closed", "error", err)
		}
		if w.program != nil {
			if err := w.program.Close(); err != nil {
				w.logger.Debug("processor not closed", "error", err)
			}
		}
	}()
}

// stop ends the worker and waits for it.
func (w *worker) stop() {
	w.cancel()
	<-w.ended
}

func (w *worker) again() {
	select {
	case w.replay <- struct{}{}:
	default:
	}
}

// resume is how long a worker waits before it reads its log anew.
const resume = time.Second

func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := w.follow(ctx)
		if ctx.Err() != nil || problem.Is(err, problem.Stale) {
			return
		}
		w.logger.Warn("the route reads its log anew", "error", err)
		w.wait(ctx, resume)
	}
}

// follow reads the log from the position on and delivers, until something
// fails that is not the endpoint.
func (w *worker) follow(ctx context.Context) error {
	first, last, err := w.reader.Bounds(ctx)
	if err != nil {
		return err
	}
	if w.position > last {
		// The log is younger than the position: restored, or made anew.
		w.logger.Warn("the log ends before the route's position; reading all of it", "position", w.position, "end", last)
		w.position = max(first, 1) - 1
	}
	ctx, cancel := context.WithCancel(ctx)
	records, failed := make(chan link.LogRecord), make(chan error, 1)
	defer func() {
		cancel()
		<-failed
	}()
	go func() {
		err := w.reader.Follow(ctx, w.position, func(r link.LogRecord) error {
			select {
			case records <- r:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		failed <- err
		close(failed)
	}()
	for {
		b, err := w.gather(ctx, records, failed)
		if err != nil {
			return err
		}
		if err := w.deliver(ctx, b); err != nil {
			return err
		}
	}
}

// batch is what is gathered of the log.
type batch struct {
	messages []endpoint.Message
	bytes    int64
	upTo     uint64
	passed   uint64
	lost     uint64
}

const (
	// passFlush is how long a position may lag that moves over what the route
	// does not take, and passMax by how many records.
	passFlush = time.Second
	passMax   = 10_000
)

var errEnded = errors.New("the log ended")

// gather takes records until a batch is full or has waited long enough.
func (w *worker) gather(ctx context.Context, records <-chan link.LogRecord, failed <-chan error) (b batch, err error) {
	b.upTo = w.position
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return b, ctx.Err()
		case err := <-failed:
			return b, errors.Join(errEnded, err)
		case <-w.replay:
			if err := w.resend(ctx); err != nil {
				return b, err
			}
		case <-due:
			return b, nil
		case r := <-records:
			taken, err := w.add(ctx, &b, r)
			if err != nil {
				return b, err
			}
			if len(b.messages) >= w.spec.Batch.Messages || b.bytes >= w.spec.Batch.Bytes || b.passed >= passMax {
				return b, nil
			}
			switch {
			case taken && len(b.messages) == 1:
				due = time.After(time.Duration(w.spec.Batch.Wait) * time.Second)
			case due == nil:
				due = time.After(passFlush)
			}
		}
	}
}

// add puts a record into a batch, or passes over it.
func (w *worker) add(ctx context.Context, b *batch, r link.LogRecord) (taken bool, err error) {
	if r.Sequence <= b.upTo {
		return false, nil
	}
	b.lost += r.Sequence - b.upTo - 1
	b.upTo = r.Sequence
	out, taken := w.rule.Take(r, func() (any, bool) { return w.engine.Twin(ctx, r.DeviceID) })
	if !taken || link.IsProbe(r.DeviceID) {
		b.passed++
		return false, nil
	}
	m, err := endpoint.Seal(out)
	if err != nil {
		return false, err
	}
	b.messages = append(b.messages, m)
	b.bytes += int64(len(m.JSON))
	return true, nil
}

// deliver takes a batch to its end and stores what became of it. Only then
// does the position move on.
func (w *worker) deliver(ctx context.Context, b batch) error {
	o := outcome{position: b.upTo, counts: counts{passed: b.passed, lost: b.lost}}
	messages, err := w.process(ctx, b.messages, &o)
	if err == nil {
		err = w.send(ctx, messages, &o)
	}
	if err != nil {
		return err
	}
	o.dead = uint64(len(o.letters))
	// What was delivered is noted even while the stamp stops.
	err = w.engine.store.settle(context.WithoutCancel(ctx), w.name, w.text, o, w.engine.Now())
	if err == nil {
		w.position = b.upTo
	}
	return err
}

// send offers messages to the endpoint until it has taken or refused each, or
// they are too old.
func (w *worker) send(ctx context.Context, messages []endpoint.Message, o *outcome) error {
	attempts := 0
	for len(messages) > 0 {
		if pause := w.health.pause(w.engine.Now()); pause > 0 {
			messages = w.giveUp(messages, attempts, o)
			if len(messages) == 0 {
				return nil
			}
			w.wait(ctx, min(pause, w.untilTooOld(messages[0])))
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue
		}
		attempts++
		err := w.target.Send(ctx, messages)
		switch {
		case err == nil:
			w.health.fine()
			o.delivered += uint64(len(messages))
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case refused(err) && len(messages) > 1:
			// One of them is to blame: find it by offering each alone.
			for i := range messages {
				if err := w.send(ctx, messages[i:i+1], o); err != nil {
					return err
				}
			}
			return nil
		case refused(err):
			w.health.refused(err, w.engine.Now())
			o.letters = append(o.letters, letter{messages[0], problem.Of(err).Error(), attempts})
			return nil
		}
		w.health.failed(err, w.engine.Now())
		w.logger.Debug("not delivered; trying again", "error", err, "attempts", attempts)
	}
	return nil
}

// refused tells whether an endpoint will never take what it was offered.
func refused(err error) bool {
	return problem.Is(err, problem.Invalid) || problem.Is(err, problem.TooLarge)
}

func (w *worker) age() time.Duration { return time.Duration(w.spec.MaxAge) * time.Second }

// untilTooOld is how long a message may still be tried; never quite nothing,
// so that waiting for it makes progress.
func (w *worker) untilTooOld(m endpoint.Message) time.Duration {
	return max(m.EnqueuedTime.Add(w.age()).Sub(w.engine.Now()), time.Millisecond)
}

// giveUp makes dead letters of the messages that have become too old while
// their endpoint fails, and returns the others.
func (w *worker) giveUp(messages []endpoint.Message, attempts int, o *outcome) []endpoint.Message {
	now := w.engine.Now()
	for len(messages) > 0 && !now.Before(messages[0].EnqueuedTime.Add(w.age())) {
		o.letters = append(o.letters, letter{messages[0], "older than maxAgeSeconds while the endpoint fails: " + w.health.reason(), attempts})
		messages = messages[1:]
	}
	return messages
}

// resend offers the dead letters that people want sent once more.
func (w *worker) resend(ctx context.Context) error {
	for ctx.Err() == nil {
		letters, err := w.engine.store.waiting(ctx, w.name, w.spec.Batch.Messages, w.spec.Batch.Bytes)
		if err != nil || len(letters) == 0 {
			return err
		}
		if err := w.resendBatch(ctx, letters); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (w *worker) resendBatch(ctx context.Context, letters []link.DeadLetter) error {
	if w.program != nil && len(letters) > 1 {
		for i := range letters {
			if err := w.resendBatch(ctx, letters[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	messages := make([]endpoint.Message, len(letters))
	for i, l := range letters {
		var r link.LogRecord
		if err := json.Unmarshal(l.Message, &r); err != nil {
			return err
		}
		messages[i] = endpoint.Message{DeviceID: r.DeviceID, Sequence: r.Sequence, EnqueuedTime: r.EnqueuedTime, JSON: l.Message}
	}
	settled := context.WithoutCancel(ctx)
	var o outcome
	messages, err := w.process(ctx, messages, &o)
	if err == nil && len(messages) > 0 {
		err = w.target.Send(ctx, messages)
	}
	switch {
	case len(o.letters) > 0:
		return w.engine.store.stillDead(settled, letters, o.letters[0].reason, w.engine.Now())
	case err == nil:
		w.health.fine()
		return w.engine.store.revived(settled, w.name, letters)
	case ctx.Err() != nil:
		return ctx.Err()
	case refused(err) && len(letters) > 1:
		for i := range letters {
			if err := w.resendBatch(ctx, letters[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	return w.engine.store.stillDead(settled, letters, text(err), w.engine.Now())
}

func (w *worker) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// backoff is the pause after n failures in a row: doubling from half a second
// to a minute, less up to half of it by chance.
func backoff(n int, chance float64) time.Duration {
	const least, most = 500 * time.Millisecond, time.Minute
	pause := most
	if n < 8 {
		pause = min(most, least<<(n-1))
	}
	return pause - time.Duration(float64(pause)*chance/2)
}

func chance() float64 { return rand.Float64() }
