package access

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/slipway/slipway/internal/problem"
)

// Failures per address: some at once, then one every two seconds.
const (
	failureBurst = 20
	failureEvery = 2 * time.Second
	maxRemotes   = 10_000
)

// Patience makes somebody wait who failed often: an address, or whatever else
// is named.
func (a *Access) Patience(remote string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if limiter := a.failures[remote]; limiter != nil && limiter.TokensAt(a.now()) < 1 {
		return problem.New(problem.Busy, "too many wrong tokens, passwords or codes; wait a little").After(failureEvery)
	}
	return nil
}

// Failed counts a failure of somebody.
func (a *Access) Failed(remote string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	limiter := a.failures[remote]
	if limiter == nil {
		if len(a.failures) >= maxRemotes {
			clear(a.failures)
		}
		limiter = rate.NewLimiter(rate.Every(failureEvery), failureBurst)
		a.failures[remote] = limiter
	}
	limiter.AllowN(a.now(), 1)
}
