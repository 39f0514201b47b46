package insight_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/control/insight"
	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/rollout"
)

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func at(hours int) time.Time { return noon.Add(time.Duration(hours) * time.Hour) }

func pointer(t time.Time) *time.Time { return &t }

// records are a fortnight of an environment: v1 arrives, v2 goes back by itself
// on its first stamp, v3 arrives and is found bad a day later, v2 and v4 arrive.
func records() insight.Records {
	ended := func(id, release string, began, end int, state promotion.State) promotion.Promotion {
		return promotion.Promotion{ID: id, Environment: "production", Release: release, State: state, Rollout: "r-" + id, CreatedAt: at(began - 1), EndedAt: pointer(at(end))}
	}
	way := func(id string, began int, done int) rollout.Rollout {
		return rollout.Rollout{ID: "r-" + id, CreatedAt: at(began), Stamps: []rollout.Stamp{
			{Name: "eu-1", BeganAt: pointer(at(began)), DoneAt: pointer(at(done - 1))}, {Name: "us-1", BeganAt: pointer(at(began + 1)), DoneAt: pointer(at(done))},
		}}
	}
	bad := way("p2", 20, 22)
	bad.Stamps = []rollout.Stamp{{Name: "eu-1", BeganAt: pointer(at(20)), Failed: true}, {Name: "us-1"}}
	bad.Cause, bad.ReturnedAt = &rollout.Cause{Stamp: "eu-1", By: rollout.Robot, At: at(21), Failed: true}, pointer(at(21))
	back := promotion.Promotion{ID: "p4", Release: "v1", From: "v3", Back: true, State: promotion.Succeeded, Rollout: "r-p4", CreatedAt: at(60), EndedAt: pointer(at(62))}
	return insight.Records{
		Environment: "production",
		Promotions: []promotion.Promotion{
			ended("p1", "v1", 0, 10, promotion.Succeeded), ended("p2", "v2", 20, 23, promotion.RolledBack), ended("p3", "v3", 30, 36, promotion.Succeeded), back,
			ended("p5", "v4", 100, 104, promotion.Succeeded),
			{ID: "p6", Release: "v5", State: promotion.Aborted, CreatedAt: at(110), EndedAt: pointer(at(111))}, // it never ran
		},
		Rollouts: []rollout.Rollout{way("p1", 0, 9), bad, way("p3", 30, 35), way("p4", 60, 61), way("p5", 100, 103)},
		Made:     map[string]time.Time{"v1": at(-10), "v2": at(15), "v3": at(26), "v4": at(4)},
	}
}

func TestFiguresOfAFortnight(t *testing.T) {
	t.Parallel()
	all := insight.Changes(records())
	f := insight.Measure("production", "", all, at(0), at(14*24))
	if f.Deployments != 3 || f.Changes != 4 || f.Failed != 2 || f.Open != 0 || f.FailureRate == nil || *f.FailureRate != 0.5 || f.PerWeek != 1.5 {
		t.Errorf("%+v", f)
	}
	// Lead times are 20, 10 and 100 hours: a rank between two is the greater one.
	if f.Lead == nil || f.Lead.Count != 3 || f.Lead.MedianSeconds != 20*3600 || f.Lead.MaxSeconds != 100*3600 {
		t.Errorf("lead %+v", f.Lead)
	}
	// v2 was bad at 21 and gone at 23; v3 was gone back from at 60, which was done at 62.
	if f.Restore == nil || f.Restore.Count != 2 || f.Restore.MedianSeconds != 2*3600 || f.Restore.P90Seconds != 2*3600 {
		t.Errorf("restore %+v", f.Restore)
	}
	eu, us := insight.Measure("production", "eu-1", all, at(0), at(14*24)), insight.Measure("production", "us-1", all, at(0), at(14*24))
	if eu.Changes != 4 || eu.Failed != 2 || us.Changes != 3 || us.Failed != 1 || us.Deployments != 3 {
		t.Errorf("eu %+v, us %+v", eu, us)
	}
	if places := insight.Places(all); !slices.Equal(places, [][2]string{{"production", ""}, {"production", "eu-1"}, {"production", "us-1"}}) {
		t.Errorf("%v", places)
	}
}

func TestNothingHappened(t *testing.T) {
	t.Parallel()
	f := insight.Measure("production", "", nil, at(0), at(24))
	if f.Deployments != 0 || f.FailureRate != nil || f.Lead != nil || f.Restore != nil || len(f.Buckets) != 1 {
		t.Errorf("%+v", f)
	}
}

// TestFiguresHold checks what must hold whatever happened: figures add up over a
// split of the time, do not depend on order, and lie between what was measured.
func TestFiguresHold(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var all []insight.Change
		for range rapid.IntRange(0, 30).Draw(t, "changes") {
			end := at(rapid.IntRange(-48, 24*40).Draw(t, "end"))
			c := insight.Change{Environment: rapid.SampledFrom([]string{"test", "production"}).Draw(t, "environment"), Made: end.Add(-time.Duration(rapid.IntRange(-5, 500).Draw(t, "lead")) * time.Hour), Ended: end, Arrived: rapid.Bool().Draw(t, "arrived")}
			if rapid.Bool().Draw(t, "failed") {
				c.Failed = end.Add(time.Hour)
				if rapid.Bool().Draw(t, "restored") {
					c.Restored = c.Failed.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "hours")) * time.Hour)
				}
			}
			all = append(all, c)
		}
		from, to := at(0), at(24*rapid.IntRange(2, 45).Draw(t, "days"))
		middle := at(24 * rapid.IntRange(1, int(to.Sub(from).Hours()/24)-1).Draw(t, "middle"))
		whole, first, second := insight.Measure("test", "", all, from, to), insight.Measure("test", "", all, from, middle), insight.Measure("test", "", all, middle, to)
		if whole.Changes != first.Changes+second.Changes || whole.Deployments != first.Deployments+second.Deployments || whole.Failed != first.Failed+second.Failed || whole.Open != first.Open+second.Open {
			t.Fatalf("%+v is not %+v and %+v", whole, first, second)
		}
		turned := slices.Clone(all)
		slices.Reverse(turned)
		again := insight.Measure("test", "", turned, from, to)
		if again.Changes != whole.Changes || (again.Lead == nil) != (whole.Lead == nil) || again.Lead != nil && *again.Lead != *whole.Lead {
			t.Fatalf("%+v in another order is %+v", whole, again)
		}
		if whole.FailureRate != nil && (*whole.FailureRate < 0 || *whole.FailureRate > 1) || (whole.FailureRate == nil) != (whole.Changes == 0) {
			t.Fatalf("the rate is %v of %d", whole.FailureRate, whole.Changes)
		}
		for _, s := range []*insight.Spread{whole.Lead, whole.Restore} {
			if s != nil && (s.MedianSeconds < 0 || s.MedianSeconds > s.P90Seconds || s.P90Seconds > s.MaxSeconds) {
				t.Fatalf("%+v", s)
			}
		}
		deployments, failed := 0, 0
		for _, b := range whole.Buckets {
			deployments, failed = deployments+b.Deployments, failed+b.Failed
		}
		if deployments != whole.Deployments || failed != whole.Failed {
			t.Fatalf("stretches add up to %d and %d: %+v", deployments, failed, whole)
		}
	})
}
