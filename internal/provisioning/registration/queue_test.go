package registration

import (
	"testing"
	"time"
)

func TestAQueueSaysWhenToAskAgain(t *testing.T) {
	now := time.Now()
	var q queue
	q.look(0, now)
	if q.poll() != soonest {
		t.Errorf("an empty queue says %s", q.poll())
	}
	// A hundred are worked off each second.
	for range 60 {
		for range 50 {
			q.ended()
		}
		now = now.Add(500 * time.Millisecond)
		q.look(4000, now)
	}
	if wait := q.wait(); wait < 35*time.Second || wait > 45*time.Second {
		t.Errorf("4000 at 100/s wait %s", wait)
	}
	if poll := q.poll(); poll < 17*time.Second || poll > 23*time.Second {
		t.Errorf("they are to ask again after %s", poll)
	}
	if come, full := q.full(); full {
		t.Errorf("full: %s", come)
	}
	for range 1001 {
		q.took()
	}
	if come, full := q.full(); !full || come < 45*time.Second || come > 55*time.Second {
		t.Errorf("5001 at 100/s: full %t, come again after %s", full, come)
	}
	// Nothing is worked off: it does not say never.
	for range 100 {
		now = now.Add(time.Second)
		q.look(maxDue+1, now)
	}
	if come, full := q.full(); !full || come != farthest || q.poll() != latest {
		t.Errorf("stuck: full %t, come again after %s, poll after %s", full, come, q.poll())
	}
	q.look(crowded, now.Add(time.Second))
	if _, full := q.full(); full || q.poll() != soonest {
		t.Errorf("it stays full: poll after %s", q.poll())
	}
}
