package delivery

import (
	"errors"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// health is how an endpoint has behaved of late.
type health struct {
	mu       sync.Mutex
	failures int       // in a row
	since    time.Time // of the first of them
	next     time.Time // not before this
	retries  uint64
	last     string
	lastAt   time.Time
}

func (h *health) fine() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures, h.since, h.next = 0, time.Time{}, time.Time{}
}

// failed notes a failure that may pass, and when to try again.
func (h *health) failed(err error, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failures++; h.failures == 1 {
		h.since = now
	}
	h.retries++
	h.last, h.lastAt = text(err), now
	pause := backoff(h.failures, chance())
	var told *problem.Error
	if errors.As(err, &told) && told.RetryAfter > 0 {
		pause = told.RetryAfter
	}
	h.next = now.Add(pause)
}

// refused notes that the endpoint is there and did not want a message.
func (h *health) refused(err error, now time.Time) {
	h.fine()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last, h.lastAt = text(err), now
}

// pause is how long to leave the endpoint alone.
func (h *health) pause(now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.next.Sub(now)
}

func (h *health) reason() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

func (h *health) show(s *link.RouteState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.State = "running"
	s.Retries, s.Error = h.retries, h.last
	if !h.lastAt.IsZero() {
		at := h.lastAt.UTC()
		s.ErrorAt = &at
	}
	if h.failures > 0 {
		s.State = "failing"
		since := h.since.UTC()
		s.FailingFrom = &since
	}
}

// maxReason bounds what is kept of an error.
const maxReason = 500

// text is what people are shown of an endpoint's error. It comes from outside,
// so it may say what it likes, but not without end.
func text(err error) string {
	said := err.Error()
	return said[:min(len(said), maxReason)]
}
