package registration

import (
	"sync"
	"time"
)

// queue knows how many registrations wait to be worked on and how fast they
// are, so that devices can be told when it makes sense to ask again. Polls that
// come too early would be what keeps the queue from getting shorter.
type queue struct {
	mu     sync.Mutex
	due    int       // whose next step is due
	rate   float64   // worked off each second, of late
	worked int       // since looked
	looked time.Time // zero before the first look
}

const (
	// maxDue is from how many on others are told to register later.
	maxDue = 5000
	// crowded is from how many on devices are asked to poll less often.
	crowded = 500
	// leastRate is assumed before anything is known.
	leastRate = 10.0
	// The bounds of what devices are told.
	soonest  = time.Second
	latest   = time.Minute
	farthest = 5 * time.Minute
)

// took notes that one more is due, and ended that one less is.
func (q *queue) took() { q.mu.Lock(); q.due++; q.mu.Unlock() }

func (q *queue) ended() { q.mu.Lock(); q.due--; q.worked++; q.mu.Unlock() }

// look takes over how many are due really. While many are, it learns how fast
// they are worked off.
func (q *queue) look(due int, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if span := now.Sub(q.looked).Seconds(); !q.looked.IsZero() && span > 0 && (due > crowded || q.rate == 0) {
		q.rate += (float64(q.worked)/span - q.rate) * min(1, span/5) // over some five seconds
	}
	q.due, q.worked, q.looked = due, 0, now
}

// wait is how long one that comes now is likely to wait.
func (q *queue) wait() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.due <= crowded {
		return 0
	}
	return time.Duration(float64(q.due) / max(q.rate, leastRate) * float64(time.Second))
}

// poll is when one that waits is to ask again: half of what is left of its
// wait, so that few ask often and nobody waits much longer than needed.
func (q *queue) poll() time.Duration { return min(max(q.wait()/2, soonest), latest) }

// full reports whether no more are taken, and when to come again.
func (q *queue) full() (come time.Duration, full bool) {
	wait := q.wait()
	q.mu.Lock()
	defer q.mu.Unlock()
	return min(max(wait, soonest), farthest), q.due > maxDue
}
