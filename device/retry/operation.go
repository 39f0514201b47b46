package retry

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// Once allows an operation one immediate retry, and no second one.
type Once struct{ used bool }

// Immediate reports whether to try again at once; the next call says no.
func (o *Once) Immediate() bool {
	first := !o.used
	o.used = true
	return first
}

// Operation is one request over a connection and its repetitions.
type Operation struct {
	began time.Time
	tries int
	once  Once
}

// Failure is why a request has no answer to be content with.
type Failure struct {
	Status     int           // the answer's; 0 when none came
	RetryAfter time.Duration // what the answer asked for
	Lost       bool          // the connection went away, and a campaign brings it back
}

// Operate begins an operation, which earns the budget a share of a retry.
func (p Policy) Operate(now time.Time, b *Budget) Operation {
	b.Request(now)
	return Operation{began: now}
}

// Again notes a failed try and says whether and when to make another. After a
// lost connection the campaign's own delays have spread the devices already.
func (p Policy) Again(o Operation, f Failure, now time.Time, b *Budget, r *rand.Rand) (next Operation, delay time.Duration, again bool) {
	o.tries++
	asked := clamp(f.RetryAfter)
	switch {
	case f.Status != 0 && !Transient(f.Status), o.tries >= p.Tries:
		return o, 0, false
	case f.Lost:
	case asked > 0:
		delay = p.honour(asked, r)
	case fault(f.Status) && o.once.Immediate():
	default:
		delay = jitter(p.ceiling(o.tries-1), r)
	}
	if now.Add(delay).Sub(o.began) > p.Elapsed || !b.Retry(now) {
		return o, 0, false
	}
	return o, delay, true
}

// fault tells a slip, which may be gone at once, from a server with too much
// to do, to which coming back at once adds more.
func fault(status int) bool {
	return status == http.StatusInternalServerError || status == http.StatusBadGateway || status == http.StatusGatewayTimeout
}

// Budget keeps retries below a share of requests, with a floor. It may be
// used by several goroutines.
type Budget struct {
	Share float64 // retries earned by each request
	Floor float64 // retries earned each second
	Most  float64 // that may be saved up

	mu     sync.Mutex
	tokens float64
	at     time.Time
}

// NewBudget allows a retry for every five requests and one every ten seconds.
func NewBudget(now time.Time) *Budget {
	return &Budget{Share: 0.2, Floor: 0.1, Most: 10, tokens: 10, at: now}
}

// Request earns a share of a retry.
func (b *Budget) Request(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.earn(now)
	b.tokens = min(b.Most, b.tokens+b.Share)
}

// Retry spends a retry if there is one.
func (b *Budget) Retry(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.earn(now)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (b *Budget) earn(now time.Time) {
	b.tokens = min(b.Most, b.tokens+b.Floor*max(0, now.Sub(b.at).Seconds()))
	b.at = now
}
