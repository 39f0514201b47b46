package provisioning_test

import (
	"slices"
	"testing"

	"github.com/slipway/slipway/internal/care"
	"github.com/slipway/slipway/internal/link"
)

// Provisioning cleans every kind up that is said of it.
func TestProvisioningCaresForWhatItKeeps(t *testing.T) {
	p := start(t)
	plan := link.CarePlan{Version: 1, EveryHours: 24, Days: map[string]int{}, Holds: []link.CareHold{{Tenant: "acme"}, {Device: "d"}}}
	for _, kind := range care.Of(care.Provisioning) {
		if !slices.Contains(p.Holdings(), kind) {
			t.Errorf("provisioning cleans up no %s", kind)
		}
		plan.Days[kind] = 1
	}
	for range 2 { // with a hold, and without
		ask(p, link.CarePut, plan)
		ask(p, link.CareLook, link.LookCare{})
		ask(p, link.CareRunNow, link.None{})
		until(t, "has cleaned up", func() bool {
			runs := ask(p, link.CareRuns, link.ListCareRuns{})
			return int64(len(runs.Ended)) == plan.Version && runs.Last.Problem == ""
		})
		plan.Version, plan.Holds = 2, nil
	}
}
