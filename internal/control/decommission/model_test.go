package decommission_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/control/decommission"
)

// Whatever is found out in whatever order: a device is taken off only once it
// is barred, and told before that if it was to be; nothing is undone but by
// somebody; and where everything answers, it ends.
func TestStepsOfADecommissioning(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 12, 20, 12, 0, 0, 0, time.UTC)
		d := decommission.Decommission{ID: "decommission-1", State: decommission.Barring, Wipe: decommission.Wipe{Seconds: rapid.Int64Range(0, 100).Draw(t, "seconds")}}
		facts := rapid.Custom(func(t *rapid.T) decommission.Facts {
			f := decommission.Facts{Barred: rapid.Bool().Draw(t, "barred"), Off: rapid.Bool().Draw(t, "off"), Free: rapid.Bool().Draw(t, "free")}
			if rapid.Bool().Draw(t, "answers") {
				f.Answer = &decommission.Answer{Status: rapid.IntRange(100, 599).Draw(t, "status")}
			}
			return f
		})
		order := map[decommission.State]int{decommission.Barring: 0, decommission.Wiping: 1, decommission.Removing: 2, decommission.Done: 3, decommission.Lifting: 4, decommission.Lifted: 5}
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, 60).Draw(t, "passed")) * time.Second)
			before := d
			if rapid.IntRange(0, 9).Draw(t, "lift") == 0 {
				lifted, err := decommission.Lift(d, "anna", "a mistake")
				if (err == nil) != (d.State == decommission.Barring || d.State == decommission.Wiping || d.State == decommission.Done) {
					t.Fatalf("taken back while %s: %v", d.State, err)
				}
				d = lifted
			} else {
				d = decommission.Step(now, d, facts.Draw(t, "facts"))
			}
			if order[d.State] < order[before.State] {
				t.Fatalf("it went from %s back to %s", before.State, d.State)
			}
			holds(t, d, now)
		}
		all := decommission.Facts{Barred: true, Off: true, Free: true, Answer: &decommission.Answer{Status: 200}}
		for range 4 {
			d = decommission.Step(now, d, all)
		}
		if d.Active() {
			t.Fatalf("it does not end: %+v", d)
		}
	})
}

// holds are what is true of every decommissioning.
func holds(t *rapid.T, d decommission.Decommission, now time.Time) {
	t.Helper()
	past := d.State == decommission.Removing || d.State == decommission.Done
	switch {
	case (past || d.State == decommission.Wiping) && d.BarredAt == nil:
		t.Fatalf("%s before it was barred", d.State)
	case past && d.Wipe.Outcome == "":
		t.Fatalf("%s, and nothing is known of the wipe order", d.State)
	case past && d.Wipe.Seconds == 0 && d.Wipe.Outcome != decommission.Skipped:
		t.Fatalf("it was not to be asked, and %s", d.Wipe.Outcome)
	case d.Wipe.Outcome == decommission.Wiped && (d.Wipe.Status < 200 || d.Wipe.Status > 299):
		t.Fatalf("it answered %d, and counts as wiped", d.Wipe.Status)
	case d.State == decommission.Wiping && d.Wipe.Next != nil && d.Wipe.Next.After(*d.Wipe.Until):
		t.Fatalf("it is told again at %s, after %s", d.Wipe.Next, d.Wipe.Until)
	case d.State == decommission.Done && d.RemovedAt == nil:
		t.Fatal("it is a tombstone, and nobody knows since when")
	case d.State == decommission.Lifted && d.Due(now):
		t.Fatal("there is something to do after it was lifted")
	}
}
