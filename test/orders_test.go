package test

import (
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/device/update"
	"github.com/slipway/slipway/internal/control/rollout"
)

// orders are when simulated devices began to follow what they were told.
type orders struct {
	mu  sync.Mutex
	all []ordered
}

type ordered struct {
	hub, release string
	at           time.Time
}

func (o *orders) note(hub string, order update.Order) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, ordered{hub, order.Release, time.Now()})
}

// of is how long after begin the first and the last devices of a hub, or of
// any, began to follow a release, and how many did before end.
func (o *orders) of(release, hub string, begin, end time.Time) (first, last time.Duration, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, one := range o.all {
		if one.release != release || !strings.HasPrefix(one.hub, hub) || one.at.Before(begin) || one.at.After(end) {
			continue
		}
		if last = one.at.Sub(begin).Round(time.Millisecond); n == 0 {
			first = last
		}
		n++
	}
	return first, last, n
}

// pace tells how long after the beginning of each wave devices followed it.
func (p *pipeline) pace(log []rollout.Event, release string) {
	p.t.Helper()
	for i, e := range log {
		if e.What != "began" && e.What != "wave" {
			continue
		}
		end := time.Now()
		for _, later := range log[i+1:] {
			if later.Stamp == e.Stamp {
				end = later.At
				break
			}
		}
		first, last, n := p.orders.of(release, p.parts[e.Stamp].address, e.At, end)
		p.t.Logf("%s, wave %d: the first of %d devices was told after %s, the last after %s", e.Stamp, e.Wave, n, first, last)
		if n == 0 || first > slow {
			p.t.Errorf("%s, wave %d: the first of %d devices was told after %s", e.Stamp, e.Wave, n, first)
		}
	}
}
