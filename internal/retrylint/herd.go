package retrylint

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Herd is a number of clients that lose their connection at one moment.
type Herd struct {
	Clients int
	Outage  time.Duration // after which the server is back
	Admits  float64       // connections the server admits each second
	Seed    uint64
}

// Outcome is what the herd does, and what becomes of it.
type Outcome struct {
	Clients  int      `json:"clients"`
	Outage   Duration `json:"outage"`
	Admits   float64  `json:"admits"`
	Attempts float64  `json:"attemptsPerClient"`
	Peak     int      `json:"peakAttemptsPerSecond"` // once the server is back
	// Ideal is how long admitting all takes at least; P50, P99 and Last are when
	// so many are back. All count from the server's return. Away are those that
	// were not back after the horizon.
	Ideal Duration `json:"ideal"`
	P50   Duration `json:"p50"`
	P99   Duration `json:"p99"`
	Last  Duration `json:"last"`
	Away  int      `json:"away"`
}

// horizon is how long a herd is followed after the server is back.
const horizon = 4 * time.Hour

// MaxClients bounds a herd.
const MaxClients = 1_000_000

// attempt is a client's next one.
type attempt struct {
	at     float64 // seconds since the cut
	client int32
}

type queue []attempt

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(attempt)) }
func (q *queue) Pop() any          { last := (*q)[len(*q)-1]; *q = (*q)[:len(*q)-1]; return last }

// client is where one of the herd stands in its campaign.
type client struct {
	tried    int
	began    float64
	previous float64 // the last interval
}

// Run follows a herd with the plan's outermost layer; what the layers below
// repeat comes on top of each of its attempts.
func Run(p Plan, h Herd) Outcome {
	layer, below := p.Layers[0], 1.0
	for _, l := range p.Layers[1:] {
		below *= min(l.tries(), endless)
	}
	source := rand.New(rand.NewPCG(h.Seed, 1))
	clients := make([]client, h.Clients)
	waiting := make(queue, 0, h.Clients)
	for i := range clients {
		waiting = append(waiting, attempt{clients[i].next(layer, source, 0), int32(i)})
	}
	heap.Init(&waiting)
	back, end := h.Outage.Seconds(), (h.Outage + horizon).Seconds()
	door := bucket{rate: h.Admits, tokens: h.Admits, at: back}
	perSecond := map[int]int{}
	var returned []float64
	attempts := 0.0
	for len(waiting) > 0 && waiting[0].at < end {
		a := heap.Pop(&waiting).(attempt)
		attempts += below
		if a.at >= back {
			perSecond[int(a.at)]++
			if door.admits(a.at) {
				returned = append(returned, a.at-back)
				continue
			}
		}
		if next := clients[a.client].next(layer, source, a.at); !math.IsInf(next, 1) {
			heap.Push(&waiting, attempt{next, a.client})
		}
	}
	return h.outcome(attempts, perSecond, returned)
}

func (h Herd) outcome(attempts float64, perSecond map[int]int, returned []float64) Outcome {
	o := Outcome{Clients: h.Clients, Outage: Duration(h.Outage), Admits: h.Admits, Attempts: attempts / float64(h.Clients), Away: h.Clients - len(returned)}
	o.Ideal = seconds(float64(h.Clients) / h.Admits)
	for _, n := range perSecond {
		o.Peak = max(o.Peak, n)
	}
	slices.Sort(returned)
	at := func(share float64) Duration {
		if n := int(math.Ceil(share * float64(h.Clients))); n <= len(returned) {
			return seconds(returned[n-1])
		}
		return Duration(-1) // so many are not back
	}
	o.P50, o.P99, o.Last = at(0.5), at(0.99), at(1)
	return o
}

func seconds(s float64) Duration {
	return Duration(time.Duration(s * float64(time.Second)).Round(time.Millisecond))
}

// next is when the client tries again after a failure at now, infinite when it
// does not.
func (c *client) next(l Layer, source *rand.Rand, now float64) float64 {
	if c.tried == 0 {
		c.began = now
	}
	c.tried++
	if c.tried <= l.Immediate {
		return now
	}
	n := c.tried - l.Immediate
	if l.Attempts > 0 && n > l.Attempts || l.Elapsed > 0 && now-c.began > time.Duration(l.Elapsed).Seconds() {
		*c = client{}
		if l.Dormant == 0 {
			return math.Inf(1)
		}
		return now + time.Duration(l.Dormant).Seconds()*(1+0.5*source.Float64())
	}
	c.previous = l.interval(n, c.previous, source)
	return now + c.previous
}

// interval is the nth wait of a campaign, in seconds.
func (l Layer) interval(n int, previous float64, source *rand.Rand) float64 {
	base, top := time.Duration(l.Base).Seconds(), math.Inf(1)
	if l.Cap > 0 {
		top = time.Duration(l.Cap).Seconds()
	}
	length := base
	switch l.Interval {
	case "exponential":
		length = min(top, base*math.Pow(2, float64(min(n-1, 60))))
	case "decorrelated":
		return min(top, base+source.Float64()*max(0, 3*max(previous, base)-base))
	}
	spread, _ := l.spread()
	switch l.Jitter {
	case "full", "equal":
		return length * (1 - spread*source.Float64())
	}
	return length * (1 + spread*(2*source.Float64()-1))
}

// bucket is the server's admission.
type bucket struct{ rate, tokens, at float64 }

func (b *bucket) admits(now float64) bool {
	b.tokens, b.at = min(b.rate, b.tokens+(now-b.at)*b.rate), now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
