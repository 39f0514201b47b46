// Package throttle holds each kind of operation on a stamp to a rate of its
// own, so that a back end that asks for too much of one kind leaves room for
// all others.
package throttle

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/slipway/slipway/internal/problem"
)

// Kind is a kind of operation.
type Kind string

// The kinds, named as in a stamp's configuration.
const (
	Registry       Kind = "registry"       // identities read or changed, one by one or in bulk
	TwinReads      Kind = "twinReads"      // by devices and back ends
	TwinUpdates    Kind = "twinUpdates"    // the same
	Methods        Kind = "methods"        // direct methods
	Messages       Kind = "messages"       // messages for devices, and what became of them
	Queries        Kind = "queries"        // pages of queries
	Jobs           Kind = "jobs"           // jobs, imports and exports, made or looked at
	Configurations Kind = "configurations" // the same of configurations
	Uploads        Kind = "uploads"        // files that devices begin
)

// Rates are how many operations a second a stamp takes of each kind; what is
// not named is not limited.
type Rates map[Kind]float64

// Default is what suits one machine: it is past what back ends do, and below
// what keeps a stamp from serving its devices.
var Default = Rates{
	Registry: 1000, TwinReads: 20_000, TwinUpdates: 20_000, Methods: 1000, Messages: 1000, Queries: 100, Jobs: 50, Configurations: 20, Uploads: 200,
}

// Kinds are all there are, in order of name.
func Kinds() []Kind {
	return []Kind{Configurations, Jobs, Messages, Methods, Queries, Registry, TwinReads, TwinUpdates, Uploads}
}

// Known reports whether there is such a kind.
func Known(kind Kind) bool { return slices.Contains(Kinds(), kind) }

// burst is for how many seconds a quiet stamp takes operations all at once.
const burst = 5

// Throttle counts operations. It may be used by several goroutines; nil limits
// nothing.
type Throttle struct {
	rates   Rates
	refused map[Kind]*atomic.Uint64

	mu     sync.RWMutex
	shares int
	paces  map[Kind]*rate.Limiter
}

// New returns a throttle that has seen nothing yet.
func New(rates Rates) *Throttle {
	t := &Throttle{rates: rates, refused: map[Kind]*atomic.Uint64{}}
	for _, kind := range Kinds() {
		t.refused[kind] = &atomic.Uint64{}
	}
	t.Divide(1)
	return t
}

// Divide has the rates hold for so many processes together, each taking its
// share.
func (t *Throttle) Divide(processes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if processes = max(1, processes); processes == t.shares {
		return
	}
	t.shares, t.paces = processes, map[Kind]*rate.Limiter{}
	for kind, limit := range t.rates {
		if limit > 0 {
			share := limit / float64(processes)
			t.paces[kind] = rate.NewLimiter(rate.Limit(share), max(1, int(math.Ceil(share*burst))))
		}
	}
}

// Allow takes n operations of a kind, or says when there is room for them: all
// or none.
func (t *Throttle) Allow(kind Kind, n int, now time.Time) error {
	if t == nil {
		return nil
	}
	t.mu.RLock()
	pace := t.paces[kind]
	t.mu.RUnlock()
	if pace == nil {
		return nil
	}
	places := pace.ReserveN(now, min(n, pace.Burst()))
	wait := places.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	places.CancelAt(now)
	t.refused[kind].Add(1)
	return problem.New(problem.Busy, "the stamp takes %g of these operations a second. Operation type: %s", t.rates[kind], kind).After(wait)
}

// Refused is how many requests of each kind were put off since start.
func (t *Throttle) Refused() map[Kind]uint64 {
	all := make(map[Kind]uint64, len(t.refused))
	for kind, n := range t.refused {
		all[kind] = n.Load()
	}
	return all
}
