package promotion_test

import (
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/resource"
)

// TestTheBoardShowsWhatRunsAndWhatWants looks at it in the middle of a rollout.
func TestTheBoardShowsWhatRunsAndWhatWants(t *testing.T) {
	w := pipeline(t, &resource.PromotionSpec{Rollout: &resource.RolloutSpec{Waves: []resource.Wave{{Share: 0.1, Soak: "1h"}}}})
	first := w.start("test", "v1")
	w.settle(first.ID, 20)
	w.promoted("v1", "staging")
	p := w.start("production", "v1")
	for range 6 {
		w.tick(time.Second)
	}
	lanes, err := w.promotions.Board(t.Context())
	must(t, err)
	if len(lanes) != 3 || lanes[0].Environment != "test" || lanes[0].Current == nil || lanes[0].Current.Release != "v1" || !lanes[0].Verification.Passed {
		t.Fatalf("%+v", lanes)
	}
	production := lanes[2]
	if production.Running == nil || production.Running.ID != p.ID || production.Current != nil || !production.Opening.Open || len(production.Stamps) != 3 {
		t.Fatalf("%+v", production)
	}
	canary := production.Rollout.Details[0]
	if canary.Stamp != "canary" || !canary.Heard || canary.Reached.Updated != 20 || canary.Wave != 1 || canary.Waves != 2 || canary.Until == nil || len(canary.Verdicts) == 0 {
		t.Errorf("%+v", canary)
	}
	cells, err := w.rollouts.Matrix(t.Context(), "v1")
	must(t, err)
	if len(cells) != 3 { // test-1, staging-1 and the canary
		t.Fatalf("%+v", cells)
	}
	if c := cells[0]; c.Stamp != "canary" || c.Release != "v1" || c.OnRelease != 20 || c.Total != 20 {
		t.Errorf("%+v", c)
	}
	r, err := w.rollouts.Skip(t.Context(), bob, production.Running.Rollout, "", "it has been quiet")
	must(t, err)
	if s := r.Stamps[0]; s.Wave != 2 || s.Waves[0].Outcome != rollout.Skipped || s.Waves[0].By != "bob" {
		t.Errorf("%+v", s)
	}
	if _, err := w.rollouts.Pause(t.Context(), bob, r.ID, ""); err == nil {
		t.Error("a pause without a reason was taken")
	}
	_, err = w.rollouts.Pause(t.Context(), bob, r.ID, "the grid operator asked")
	must(t, err)
	w.tick(time.Second)
	if doc := w.stamps["canary"].doc; doc.Rollout == nil || !doc.Rollout.Paused {
		t.Errorf("%+v", doc)
	}
	if d := w.show(p.ID); len(d.Blocks) != 1 || d.Blocks[0].Rule != promotion.RuleWave {
		t.Errorf("%+v", d.Blocks)
	}
}
