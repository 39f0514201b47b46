package gate

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// TestOpenedSaysWhatOpenSays: the calendar of a month tells of each moment what
// is asked of that moment alone, without gaps.
func TestOpenedSaysWhatOpenSays(t *testing.T) {
	from, to := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		freezes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) resource.Freeze {
			return resource.Freeze{
				Name: "f", Reason: "r", Allow: rapid.Bool().Draw(t, "allow"), Timezone: rapid.SampledFrom([]string{"", "Europe/Berlin", "America/New_York"}).Draw(t, "zone"),
				Start:    rapid.SampledFrom([]string{"2026-02-27T22:00:00", "2026-03-14T09:30:00", "2025-01-01T00:00:00"}).Draw(t, "start"),
				Duration: resource.Span(rapid.SampledFrom([]string{"5h", "62h", "9d"}).Draw(t, "lasts")), RRule: rapid.SampledFrom([]string{"", "FREQ=WEEKLY;BYDAY=FR", "FREQ=DAILY"}).Draw(t, "rule"),
				Exempt: rapid.SampledFrom([][]string{nil, {resource.WorkSecurity}}).Draw(t, "exempt"),
			}
		}), 0, 3).Draw(t, "freezes")
		all, err := OpenedBetween(freezes, from, to)
		if err != nil {
			t.Fatal(err)
		}
		end := from
		for _, o := range all {
			if !o.From.Equal(end) || !o.To.After(o.From) {
				t.Fatalf("%v to %v after %v", o.From, o.To, end)
			}
			middle := o.From.Add(o.To.Sub(o.From) / 2)
			if asked := Open(middle, freezes, nil, resource.WorkRelease); asked.Open != o.Open {
				t.Fatalf("at %v it is open: %v, and the month says %v", middle, asked.Open, o.Open)
			}
			end = o.To
		}
		if !end.Equal(to) {
			t.Fatalf("the month ends at %v", end)
		}
	})
}

// TestProofIsFullWhereTheVerdictFails: what is drawn as proof is proof.
func TestProofIsFullWhereTheVerdictFails(t *testing.T) {
	policy, err := resource.Comparison{}.Check()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		health := func(name string) link.Health {
			return link.Health{DeviceSeconds: rapid.Float64Range(1, 1e6).Draw(t, name), Reconnects: rapid.Int64Range(0, 3000).Draw(t, name), Messages: rapid.Int64Range(0, 30000).Draw(t, name)}
		}
		c := Comparison{}.Next(policy, health("updated"), health("others"))
		e, verdict := c.Proof(policy), compared(policy, c).Verdict
		most := math.Max(e.Reconnects, math.Max(e.Louder, e.Quieter))
		if most < 0 || most > 1 || (verdict == Fail) != (most == 1) {
			t.Fatalf("proof %+v and the verdict %s", e, verdict)
		}
	})
}
