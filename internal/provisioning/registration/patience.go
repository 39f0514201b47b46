package registration

import (
	"context"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// rest is how long a stamp that let a request time out is left alone.
const rest = 5 * time.Second

// patience keeps a stamp that hangs from taking up every worker: once it has
// let a request time out, requests to it fail at once, but for one at a time
// that finds out whether it answers again.
type patience struct {
	stamps Stamps
	now    func() time.Time

	mu    sync.Mutex
	until map[string]time.Time // stamps left alone
}

func newPatience(stamps Stamps, now func() time.Time) *patience {
	return &patience{stamps: stamps, now: now, until: map[string]time.Time{}}
}

// Put asks a stamp to make or renew an identity.
func (p *patience) Put(ctx context.Context, stamp string, req link.PutIdentity) (link.IdentityResult, error) {
	return ask(p, stamp, func() (link.IdentityResult, error) { return p.stamps.Put(ctx, stamp, req) })
}

// Remove asks a stamp to take an identity away.
func (p *patience) Remove(ctx context.Context, stamp string, req link.RemoveIdentity) (link.RemovedIdentity, error) {
	return ask(p, stamp, func() (link.RemovedIdentity, error) { return p.stamps.Remove(ctx, stamp, req) })
}

// Query asks a stamp for devices.
func (p *patience) Query(ctx context.Context, stamp string, req link.QueryDevices) (link.Devices, error) {
	return ask(p, stamp, func() (link.Devices, error) { return p.stamps.Query(ctx, stamp, req) })
}

func ask[Answer any](p *patience, stamp string, call func() (Answer, error)) (answer Answer, err error) {
	if !p.admits(stamp) {
		return answer, problem.New(problem.NotReady, "stamp %s does not answer; it is tried again", stamp)
	}
	answer, err = call()
	p.note(stamp, problem.Is(err, problem.TimedOut))
	return answer, err
}

// admits says whether a stamp may be asked now. The first to come after its
// rest tries it, and the others go on waiting for what that shows.
func (p *patience) admits(stamp string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	until, resting := p.until[stamp]
	if !resting {
		return true
	}
	now := p.now()
	if now.Before(until) {
		return false
	}
	p.until[stamp] = now.Add(stepTimeout)
	return true
}

func (p *patience) note(stamp string, timedOut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if timedOut {
		p.until[stamp] = p.now().Add(rest)
	} else {
		delete(p.until, stamp)
	}
}
