package tenant

import (
	"math"
	"slices"
	"sync"
	"time"
)

// Turns shares what a stamp takes each second among the tenants that want more
// than that together: each gets as much as any other, however many of its
// devices wait, and what one leaves the others have. It is fair queuing by
// virtual time: a tenant's next message is due when it has been served as much as
// the others, and the one that is due first is next.
type Turns struct {
	rate, burst float64
	now         func() time.Time

	mu      sync.Mutex
	tokens  float64
	at      time.Time // when tokens were counted
	clock   float64   // what a tenant has been served that waits for its turn
	tenants map[string]*line
	waiting []*line     // those with somebody in it
	timer   *time.Timer // runs while anybody waits
}

// line is a tenant's devices, the first to come first.
type line struct {
	due     float64
	waiting []*turn
}

// turn is a place in a line.
type turn struct {
	messages float64
	come     chan struct{}
	left     bool // whoever had it has gone
}

// maxLines is how many tenants without anybody in line are remembered: for those
// that are not, only that they have just had their turn is forgotten.
const maxLines = 1024

// NewTurns takes so many messages a second; a second's worth may come at once.
func NewTurns(rate float64, now func() time.Time) *Turns {
	burst := max(1, math.Floor(rate))
	return &Turns{rate: rate, burst: burst, now: now, tokens: burst, at: now(), tenants: map[string]*line{}}
}

// Take waits for the turn of some messages of a tenant, and reports whether it
// came before over was closed.
func (t *Turns) Take(tenant string, messages int, over <-chan struct{}) bool {
	mine := t.enter(tenant, messages)
	select {
	case <-mine.come:
		return true
	default:
	}
	select {
	case <-mine.come:
		return true
	case <-over:
		t.mu.Lock()
		defer t.mu.Unlock()
		mine.left = true
		return false
	}
}

// enter takes a place in the tenant's line. More messages than a burst are as
// many as that: they would never come.
func (t *Turns) enter(tenant string, messages int) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.tenants[tenant]
	if one == nil {
		if len(t.tenants) >= maxLines {
			t.forget()
		}
		one = &line{}
		t.tenants[tenant] = one
	}
	if len(one.waiting) == 0 {
		one.due = max(one.due, t.clock)
		t.waiting = append(t.waiting, one)
	}
	mine := &turn{messages: min(float64(messages), t.burst), come: make(chan struct{})}
	one.waiting = append(one.waiting, mine)
	t.serve()
	return mine
}

// serve gives turns for as many messages as may be taken by now, and comes back
// when the next may be. The caller holds mu.
func (t *Turns) serve() {
	now := t.now()
	t.tokens = min(t.burst, t.tokens+t.rate*now.Sub(t.at).Seconds())
	t.at = now
	for {
		next := t.first()
		if next == nil {
			return
		}
		mine := next.waiting[0]
		if t.tokens < mine.messages {
			t.comeBack(time.Duration(math.Ceil((mine.messages - t.tokens) / t.rate * float64(time.Second))))
			return
		}
		t.tokens -= mine.messages
		t.clock = next.due
		next.due += mine.messages
		next.waiting = next.waiting[1:]
		close(mine.come)
	}
}

// first is the line whose turn it is, without those who have left it; nil if
// nobody waits.
func (t *Turns) first() (next *line) {
	t.waiting = slices.DeleteFunc(t.waiting, func(one *line) bool {
		for len(one.waiting) > 0 && one.waiting[0].left {
			one.waiting = one.waiting[1:]
		}
		if len(one.waiting) > 0 && (next == nil || one.due < next.due) {
			next = one
		}
		return len(one.waiting) == 0
	})
	return next
}

func (t *Turns) comeBack(in time.Duration) {
	if t.timer != nil {
		t.timer.Stop()
	}
	t.timer = time.AfterFunc(in, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.serve()
	})
}

// forget drops tenants nobody of whom waits. The caller holds mu.
func (t *Turns) forget() {
	for name, one := range t.tenants {
		if len(one.waiting) == 0 {
			delete(t.tenants, name)
		}
	}
}
