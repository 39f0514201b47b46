package console

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/care"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/decommission"
	"github.com/slipway/slipway/internal/control/erasure"
	"github.com/slipway/slipway/internal/control/retention"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

var (
	_ Retention     = (*retention.Retention)(nil)
	_ Erasures      = (*erasure.Erasures)(nil)
	_ Decommissions = (*decommission.Decommissions)(nil)
)

// retentionOf, erasuresOf and retiredOf are of a world with devices, and empty
// in one without.
type (
	retentionOf struct{ *world }
	erasuresOf  struct{ *world }
	retiredOf   struct{ *world }
)

func (r retentionOf) Overview(context.Context) (o retention.RetentionOverview, err error) {
	o.Settings, o.Version, o.Kinds = retention.Settings{EveryHours: 24}, 3, care.Kinds(map[string]int{"uploads": 30})
	if len(r.levels) == 0 {
		return o, nil
	}
	ended, next := noon.Add(-time.Hour), noon.Add(23*time.Hour)
	o.Planes = []retention.PlaneCleaning{
		{Plane: "control", Version: 3, Last: &link.CareRun{Number: 4, BegunAt: ended, EndedAt: &ended, Removed: []link.CareFound{{Kind: "sessions", Count: 12}, {Kind: "exposures", Count: 400}}}, Next: &next},
		{Plane: "stamp.test-eu", Version: 2, Last: &link.CareRun{Number: 1, BegunAt: ended, Problem: "the disk is full"}},
		{Plane: "stamp.production-eu", Away: "the stamp does not answer"},
	}
	o.Holds = []retention.LegalHold{{ID: "legal-hold-2", On: link.CareHold{Device: "pump-0001"}, Reason: "case <b>7</b>", PlacedBy: "anna", PlacedAt: noon}, {ID: "legal-hold-1", On: link.CareHold{Tenant: "acme"}, Reason: "audit", PlacedBy: "berta", PlacedAt: noon}}
	return o, nil
}

func (r retentionOf) DryRun(context.Context, []string, map[string]int) ([]retention.Trial, error) {
	oldest := noon.AddDate(0, -3, 0)
	return []retention.Trial{{Plane: "control"}, {Plane: "stamp.test-eu", Items: []link.CareFound{{Kind: "uploads", Count: 77, Oldest: &oldest, Bytes: 5 << 20}}}}, nil
}

func (r retentionOf) RunNow(_ context.Context, _ access.Actor, only []string) ([]string, error) {
	r.said = append(r.said, fmt.Sprint("clean up ", only))
	return only, nil
}

func (r retentionOf) Place(_ context.Context, _ access.Actor, on link.CareHold, reason string) (retention.LegalHold, error) {
	r.said = append(r.said, fmt.Sprintf("hold %s%s: %s", on.Device, on.Tenant, reason))
	return retention.LegalHold{}, nil
}

func (r retentionOf) Lift(_ context.Context, _ access.Actor, id, reason string) (retention.LegalHold, error) {
	r.said = append(r.said, "lift "+id+": "+reason)
	return retention.LegalHold{}, nil
}

func (e erasuresOf) List(context.Context, int) ([]erasure.Erasure, error) {
	if len(e.levels) == 0 {
		return nil, nil
	}
	one, _ := e.Get(context.Background(), "erasure-2")
	ended := noon
	return []erasure.Erasure{one, {ID: "erasure-1", Kind: "tenant", State: erasure.Done, Devices: 12, Erased: 12, At: noon, EndedAt: &ended}}, nil
}

func (e erasuresOf) Get(_ context.Context, id string) (erasure.Erasure, error) {
	if id != "erasure-2" {
		return erasure.Erasure{}, problem.New(problem.NotFound, "there is no erasure %q", id)
	}
	return erasure.Erasure{ID: id, Kind: "device", Subject: "pump-0003", Reason: "request 1207", State: erasure.Erasing, Devices: 1, By: "anna", At: noon, Problem: "stamp.production-eu: the stamp does not answer", Planes: []erasure.PlaneErasure{
		{Plane: "stamp.test-eu", Removed: []link.CareFound{{Kind: "telemetry", Count: 4711}, {Kind: "uploads", Count: 3}}}, {Plane: "stamp.production-eu", Waits: "the stamp does not answer"}}}, nil
}

func (e erasuresOf) Start(_ context.Context, _ access.Actor, kind, subject, reason string) (erasure.Erasure, error) {
	e.said = append(e.said, "erase "+kind+" "+subject+": "+reason)
	return erasure.Erasure{ID: "erasure-2"}, nil
}

func (e erasuresOf) Prove(context.Context, access.Actor, string) (erasure.ErasureProof, error) {
	return erasure.ErasureProof{Format: "slipway-erasure-proof/1"}, nil
}

func (d retiredOf) Of(_ context.Context, id string) (decommission.Decommission, error) {
	if id != "pump-0002" {
		return decommission.Decommission{}, problem.New(problem.NotFound, "device %s was not decommissioned", id)
	}
	until := noon.Add(time.Hour)
	return decommission.Decommission{ID: "decommission-1", Device: id, Reason: "sold", State: decommission.Wiping, By: "anna", At: noon, Wipe: decommission.Wipe{Seconds: 3600, Until: &until, Tries: 3}, Problem: "device pump-0002 is not connected"}, nil
}

func (d retiredOf) List(ctx context.Context, _ int) ([]decommission.Decommission, error) {
	if len(d.levels) == 0 {
		return nil, nil
	}
	one, err := d.Of(ctx, "pump-0002")
	done := one
	done.ID, done.Device, done.State, done.Wipe.Outcome, done.Wipe.Status = "decommission-0", "pump-0009", decommission.Done, decommission.Wiped, 200
	return []decommission.Decommission{one, done}, err
}

func (d retiredOf) Start(_ context.Context, _ access.Actor, r decommission.Request) (decommission.Decommission, error) {
	d.said = append(d.said, fmt.Sprintf("decommission %s after %d s: %s", r.Device, r.Seconds, r.Reason))
	return decommission.Decommission{}, nil
}

func (d retiredOf) TakeBack(_ context.Context, _ access.Actor, device, reason string) (decommission.Decommission, error) {
	d.said = append(d.said, "recommission "+device+": "+reason)
	return decommission.Decommission{}, nil
}

func init() {
	pages = append(pages, "/care", "/care?try=1", "/erasures/erasure-2")
}

func TestDataCareIsShownAndDone(t *testing.T) {
	nothing := asBrowser(t, newWorld()).get("/care", http.StatusOK)
	checkPage(t, "/care", nothing, true)
	has(t, nothing, "Nothing was erased yet", "None. While one is on", "30 days", "for good")
	w := populated()
	w.addDevice(w.devices[1])
	w.addDevice(w.devices[2])
	browser := asBrowser(t, w)
	has(t, browser.get("/care", http.StatusOK), "12 sessions, 400 exposures", "the disk is full", "the stamp does not answer", "has not heard", "case &lt;b&gt;7&lt;/b&gt;", "erasure-1", "wiping", "wiped (200)")
	hasNot(t, browser.get("/care", http.StatusOK), "What would go now")
	has(t, browser.get("/care?try=1", http.StatusOK), "What would go now", "77", "5 MiB", "Nothing was removed")
	has(t, browser.get("/erasures/erasure-2", http.StatusOK), "It waits.", "4711 telemetry", "pump-0003")
	has(t, browser.get("/erasures/erasure-2/proof", http.StatusOK), "slipway-erasure-proof/1")
	has(t, browser.get("/devices/pump-0002", http.StatusOK), "wiping", "is not connected", "Take it back")
	has(t, browser.get("/devices/pump-0001", http.StatusOK), "Decommission")
	for _, c := range []struct {
		path, said string
		form       []string
	}{
		{"/care/run", "clean up []", nil},
		{"/care/holds", "hold acme: r", []string{"kind", "tenant", "subject", "acme", "reason", "r"}},
		{"/care/holds/legal-hold-1/lift", "lift legal-hold-1: r", []string{"reason", "r"}},
		{"/care/erasures", "erase device d: r", []string{"kind", "device", "subject", "d", "again", "d", "reason", "r"}},
		{"/devices/pump-0001/decommission", "decommission pump-0001 after 600 s: r", []string{"minutes", "10", "reason", "r"}},
		{"/devices/pump-0002/recommission", "recommission pump-0002: r", []string{"reason", "r"}},
	} {
		w.said = nil
		browser.post(c.path, http.StatusSeeOther, filled(c.form...))
		if len(w.said) != 1 || w.said[0] != c.said {
			t.Errorf("POST %s: %q", c.path, w.said)
		}
	}
	w.said = nil
	browser.post("/care/erasures", http.StatusUnprocessableEntity, filled("kind", "device", "subject", "d", "again", "e", "reason", "r"))
	browser.post("/devices/pump-0001/decommission", http.StatusUnprocessableEntity, filled("minutes", "soon", "reason", "r"))
	if len(w.said) != 0 {
		t.Errorf("in spite of a mistake: %q", w.said)
	}
}
