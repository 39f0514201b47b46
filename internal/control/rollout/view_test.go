package rollout_test

import (
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/link"
)

// TestARolloutThatIsOverShowsWhatItCameTo looks at a rollout after its stamps
// have gone on to another one.
func TestARolloutThatIsOverShowsWhatItCameTo(t *testing.T) {
	census := link.UpdateCensus{Updated: 11, Failed: 1}
	r := rollout.Rollout{ID: "rollout-1", State: rollout.Succeeded, Stamps: []rollout.Stamp{{
		Name: "one", State: rollout.Done, Waves: []rollout.WaveEnd{{Wave: 1, Census: link.UpdateCensus{Updated: 1}}, {Wave: 2, Census: census}},
	}}}
	facts := rollout.Facts{"one": {Progress: &link.Progress{Rollout: "rollout-2", Reached: link.UpdateCensus{Pending: 5}, Devices: link.UpdateCensus{Updated: 12}}}}
	if shown := rollout.Watch(r, facts, time.Now()).Details[0]; shown.Reached != census {
		t.Errorf("%+v", shown)
	}
}
