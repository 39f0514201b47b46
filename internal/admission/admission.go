// Package admission lets arrivals in at a rate, and gives each of those it
// cannot take yet a time at which it will: what comes together is spread by
// whoever knows how many came. It keeps its promises before it takes others,
// so that nobody is refused while those who came later get in.
package admission

import (
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"time"
)

// Options are what a gate goes by.
type Options struct {
	Rate  float64 // arrivals admitted each second
	Burst int     // admitted at once after a quiet time
	// Most bounds how many promises are kept at a time, and with them the
	// memory; 0 means MaxPromises. Who comes beyond it is told a time that is
	// not kept for it.
	Most int
}

const (
	// MaxPromises is how many are kept where nothing else is said.
	MaxPromises = 1 << 20
	// promised is the part of the rate that is promised. The rest is for those
	// who may not wait, and for those who come late.
	promised = 0.9
	// soonest is the shortest time anybody is told: a client that is to wait
	// does so for a second at least.
	soonest = time.Second
	// Longest is the longest time anybody is told.
	Longest = time.Hour
	// early is how much before its time an arrival is taken at its word, as
	// clients round and clocks differ.
	early = 500 * time.Millisecond
	// grace is how long after its time a promise is kept.
	grace = 5 * time.Minute
)

// Gate admits arrivals. It may be used by several goroutines. It knows them by a
// hash, as who comes may say of itself what it likes, and at any length.
type Gate struct {
	options Options
	seed    maphash.Seed

	mu       sync.Mutex
	tokens   float64
	at       time.Time            // when tokens were counted
	next     time.Time            // the first time that nobody was promised
	promises map[uint64]time.Time // by who came
	order    []promise            // the same by time, with some that are kept already
	counts   Counts
}

type promise struct {
	key uint64
	at  time.Time
}

// Counts are what a gate has done since it was made.
type Counts struct {
	Admitted uint64 // arrivals let in
	Refused  uint64 // arrivals told to come back
	Promised uint64 // times told
	Kept     uint64 // arrivals let in at the time they were told
	Broken   uint64 // arrivals that came at their time and had to be told another
	Waiting  int    // promises that are out
}

// New returns a gate that is open.
func New(o Options) *Gate {
	if o.Most == 0 {
		o.Most = MaxPromises
	}
	return &Gate{options: o, seed: maphash.MakeSeed(), tokens: float64(o.Burst), promises: map[uint64]time.Time{}}
}

// Arrive says whether the one that comes may come in, or else after how long
// it may. Urgent arrivals do not wait behind the promises of others.
func (g *Gate) Arrive(who string, urgent bool, now time.Time) (admitted bool, after time.Duration) {
	key := maphash.String(g.seed, who)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refill(now)
	g.forget(now)
	at, known := g.promises[key]
	due := known && !now.Before(at.Add(-early))
	if g.tokens >= g.needed(urgent || due) {
		g.tokens--
		g.counts.Admitted++
		if known {
			delete(g.promises, key)
		}
		if due {
			g.counts.Kept++
		}
		return true, 0
	}
	g.counts.Refused++
	switch {
	case due:
		g.counts.Broken++
		return false, soonest // its time stays what it was, so it goes before others
	case known:
		return false, max(at.Sub(now), soonest)
	case urgent:
		return false, soonest // a part of the rate is not promised
	}
	return false, g.promise(key, now)
}

// needed is how many arrivals there must be room for, that one may come in. As
// long as promises are out, others only get what they leave.
func (g *Gate) needed(first bool) float64 {
	if first || len(g.promises) == 0 {
		return 1
	}
	return max(1, float64(g.options.Burst)/2)
}

// promise finds the next time nobody was told.
func (g *Gate) promise(key uint64, now time.Time) time.Duration {
	if first := now.Add(soonest); g.next.Before(first) {
		g.next = first
	}
	at := g.next
	if at.Sub(now) > Longest || len(g.promises) >= g.options.Most {
		return Longest/2 + rand.N(Longest/2)
	}
	g.next = at.Add(time.Duration(float64(time.Second) / (g.options.Rate * promised)))
	g.order = append(g.order, promise{key, at})
	g.promises[key] = at
	g.counts.Promised++
	return at.Sub(now)
}

func (g *Gate) refill(now time.Time) {
	if !g.at.IsZero() && now.After(g.at) {
		g.tokens = min(float64(g.options.Burst), g.tokens+now.Sub(g.at).Seconds()*g.options.Rate)
	}
	if g.at.IsZero() || now.After(g.at) {
		g.at = now
	}
}

// forget drops promises whose time has long passed, and those that were kept
// from the order.
func (g *Gate) forget(now time.Time) {
	n := 0
	for ; n < len(g.order); n++ {
		p := g.order[n]
		if at, out := g.promises[p.key]; out && at.Equal(p.at) {
			if now.Sub(at) < grace {
				break
			}
			delete(g.promises, p.key)
		}
	}
	if g.order = g.order[n:]; len(g.order) == 0 {
		g.order = nil
	}
}

// Counts returns what the gate has done.
func (g *Gate) Counts() Counts {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.counts
	c.Waiting = len(g.promises)
	return c
}
