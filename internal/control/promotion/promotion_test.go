package promotion_test

import (
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// pipeline is test → staging → production, with three stamps in rings there.
func pipeline(t *testing.T, production *resource.PromotionSpec) *world {
	t.Helper()
	w := newWorld(t)
	w.environment("test", "", nil)
	w.environment("staging", "test", nil)
	w.environment("production", "staging", production)
	w.stamp("test-1", "test", 1, 5)
	w.stamp("staging-1", "staging", 1, 20)
	for i, name := range []string{"canary", "prod-1", "prod-2"} {
		w.stamp(name, "production", i, 200)
	}
	for _, name := range []string{"v1", "v2", "v3", "v4"} {
		w.releases.add(name, link.ReleaseSpec{Routes: []link.ReleaseRoute{{Name: "alerts-" + name}}})
	}
	return w
}

func TestAReleaseTravelsToProductionByRingAndWave(t *testing.T) {
	w := pipeline(t, nil)
	p := w.start("production", "v1")
	w.tick(time.Second)
	if d := w.show(p.ID); d.State != promotion.Blocked || d.Blocks[0].Rule != promotion.RuleUpstream || !strings.Contains(d.Blocks[0].Reason, "not verified in staging") {
		t.Fatalf("%+v", d.Promotion)
	}
	w.promoted("v1", "test", "staging")
	d := w.settle(p.ID, 100)
	if d.State != promotion.Succeeded || w.current("production") != "v1" {
		t.Fatalf("%s %v", d.State, d.Blocks)
	}
	seen := map[string]int{}
	for _, e := range d.View.Log {
		if e.What == "began" {
			seen[e.Stamp] = len(seen)
		}
	}
	if seen["canary"] != 0 || seen["prod-1"] != 1 || seen["prod-2"] != 2 {
		t.Errorf("stamps began in the order %v", seen)
	}
	for _, name := range []string{"canary", "prod-1", "prod-2"} {
		w.tick(time.Second)
		s := w.stamps[name]
		if n := s.running()["v1"]; n != 200 {
			t.Errorf("%d devices of %s run v1", n, name)
		}
		if s.doc.Base == nil || s.doc.Base.Name != "v1" || s.doc.Rollout != nil {
			t.Errorf("%s is told %+v", name, s.doc)
		}
		var waves []int64
		for _, doc := range s.got {
			if doc.Rollout != nil && (len(waves) == 0 || waves[len(waves)-1] != int64(doc.Rollout.Wave)) {
				waves = append(waves, int64(doc.Rollout.Wave))
			}
		}
		if len(waves) != 4 {
			t.Errorf("%s had waves %v", name, waves)
		}
	}
	routes, err := w.rollouts.Routes(t.Context(), "prod-2")
	if err != nil || len(routes) != 1 || routes[0].Name != "alerts-v1" || routes[0].Spec.Environment != "production" {
		t.Errorf("%v, %v", routes, err)
	}
}

// A stamp that has maintenance windows, or is kept for a tenant that has, takes
// releases and their next waves inside them alone, and not later than its limit.
func TestAStampKeepsToItsMaintenanceWindows(t *testing.T) {
	w := newWorld(t)
	w.environment("test", "", &resource.PromotionSpec{Rollout: &resource.RolloutSpec{Waves: []resource.Wave{{Share: 0.5, Soak: "2h"}, {Share: 1}}}})
	s := w.stamp("test-1", "test", 1, 20)
	_, err := w.environments.PutTenant(t.Context(), ada, "hospital", resource.TenantSpec{Pace: &resource.Pace{
		Limit: "4d", Windows: []resource.Maintenance{{Start: "2026-01-03T22:00:00", Duration: "1h", RRule: "FREQ=DAILY", Timezone: "Europe/Berlin"}},
	}}, "", false)
	must(t, err)
	ring := 1
	_, err = w.environments.PutStamp(t.Context(), ada, "test-1", resource.StampSpec{Environment: "test", Region: "eu", Ring: &ring, Tenants: []string{"hospital"}}, "", false)
	must(t, err)
	w.releases.add("v1", link.ReleaseSpec{})
	w.releases.add("v2", link.ReleaseSpec{Type: link.ReleaseSecurity})
	berlin, err := time.LoadLocation("Europe/Berlin")
	must(t, err)
	hour := func() int { return w.clock.now().In(berlin).Hour() }
	for hour() != 12 {
		w.clock.pass(time.Hour)
	}
	p := w.start("test", "v1")
	began := map[int]int{} // hours at which waves began
	for range 40 {
		w.tick(time.Hour)
		d := w.show(p.ID)
		if d.State.Over() {
			break
		}
		for _, st := range d.View.Stamps {
			if _, known := began[st.Wave]; !known && st.Wave > 0 {
				began[st.Wave] = hour()
			}
		}
		if hour() == 15 && (!strings.Contains(d.View.Held+d.View.Details[0].Waits, "maintenance windows of tenant hospital") || d.View.Until == nil && d.View.Details[0].Until == nil) {
			t.Fatalf("it waits for %+v", d.View)
		}
	}
	if d := w.show(p.ID); d.State != promotion.Succeeded || began[1] != 22 || began[2] != 22 || s.running()["v1"] != 20 {
		t.Errorf("%s, with waves begun at %v", d.State, began)
	}
	for hour() != 12 {
		w.clock.pass(time.Hour)
	}
	p = w.start("test", "v2")
	if d := w.settle(p.ID, 3); d.State != promotion.Verifying && d.View.Stamps[0].Wave == 0 {
		t.Errorf("a release for security is %s", d.State)
	}
}

func TestABadReleaseComesBackByItself(t *testing.T) {
	for name, bad := range map[string]func(*fakeStamp){
		"fails": func(s *fakeStamp) { s.fails = func(release string, _ int) bool { return release == "v2" } },
		"reconnects": func(s *fakeStamp) {
			s.health = func(release string) int64 {
				if release == "v2" {
					return 3
				}
				return 1
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := pipeline(t, nil)
			w.promoted("v1", "test", "staging", "production")
			w.promoted("v2", "test", "staging")
			for _, stamp := range []string{"canary", "prod-1", "prod-2"} {
				bad(w.stamps[stamp])
			}
			p := w.start("production", "v2")
			d := promotion.Dossier{}
			for range 60 {
				if d = w.settle(p.ID, 1); d.State.Over() {
					break
				}
				w.clock.pass(9 * time.Second)
			}
			if d.State != promotion.RolledBack || w.current("production") != "v1" {
				t.Fatalf("%s: %s %+v", d.State, d.Outcome, d.View)
			}
			w.tick(time.Second)
			for _, stamp := range []string{"canary", "prod-1", "prod-2"} {
				if got := w.stamps[stamp].running(); got["v1"] != 200 {
					t.Errorf("%s runs %v", stamp, got)
				}
				exposed := 0
				for _, doc := range w.stamps[stamp].got {
					if doc.Rollout != nil && doc.Rollout.Release.Name == "v2" {
						exposed = max(exposed, doc.Rollout.Wave)
					}
				}
				if stamp != "canary" && exposed > 0 {
					t.Errorf("%s was told of v2 in wave %d", stamp, exposed)
				}
			}
			against, err := w.promotions.Rejections(t.Context(), "production")
			if err != nil || len(against) != 1 || against[0].Release != "v2" {
				t.Errorf("%v, %v", against, err)
			}
			if w.notary.admitted["production/v2"] || !w.notary.admitted["production/v1"] {
				t.Errorf("devices may install %v", w.notary.admitted)
			}
			again := w.start("production", "v2")
			w.tick(time.Second)
			if d := w.show(again.ID); d.State != promotion.Blocked || d.Blocks[0].Rule != promotion.RuleRejection {
				t.Errorf("a rejected release is %s: %v", d.State, d.Blocks)
			}
		})
	}
}

func TestRollbackAfterSuccess(t *testing.T) {
	w := pipeline(t, nil)
	w.promoted("v1", "test", "staging", "production")
	w.promoted("v2", "test", "staging", "production")
	w.environment("after", "production", nil)
	w.notary.unsigned = true
	waiting := w.start("after", "v2")
	w.tick(time.Second)
	if d := w.show(waiting.ID); d.State != promotion.Queued || d.Blocks[0].Rule != promotion.RuleSigning {
		t.Fatalf("%s %v", d.State, d.Blocks)
	}
	p, err := w.promotions.Rollback(t.Context(), bob, promotion.Return{Environment: "production", Reason: "customers complain"})
	if err != nil || p.Release != "v1" || p.State != promotion.Running {
		t.Fatalf("%+v, %v", p, err)
	}
	w.restart() // what every stamp is to run is written already
	w.deliver()
	for _, stamp := range []string{"canary", "prod-1", "prod-2"} {
		if doc := w.stamps[stamp].doc; doc.Base.Name != "v1" || doc.Rollout != nil {
			t.Errorf("%s is told %+v", stamp, doc)
		}
	}
	if d := w.settle(p.ID, 5); d.State != promotion.Succeeded || w.current("production") != "v1" {
		t.Fatalf("%s", d.State)
	}
	if d := w.show(waiting.ID); d.State != promotion.Aborted || !strings.Contains(d.Outcome, "revoked") {
		t.Errorf("downstream is %s: %s", d.State, d.Outcome)
	}
	if on, err := w.promotions.Holds(t.Context(), "production"); err != nil || len(on) != 1 || on[0].Owner != "bob" {
		t.Errorf("%v, %v", on, err)
	}
	_, err = w.promotions.Rollback(t.Context(), bob, promotion.Return{Environment: "production", Reason: "further"})
	if said := conflict(t, err); !strings.Contains(said, "no release ran well in production before v1") {
		t.Error(said)
	}
}

func TestForwardOnlyStaysUntilSomebodyDecides(t *testing.T) {
	w := pipeline(t, &resource.PromotionSpec{Rollout: &resource.RolloutSpec{Waves: []resource.Wave{{Share: 0.1}, {Share: 1}}}})
	w.promoted("v1", "test", "staging", "production")
	w.releases.add("v5", link.ReleaseSpec{Rollback: link.RollbackForwardOnly})
	w.releases.add("v6", link.ReleaseSpec{})
	w.promoted("v5", "test", "staging")
	w.stamps["canary"].fails = func(release string, device int) bool { return release == "v5" && device > 2 }
	p := w.start("production", "v5")
	d := w.settle(p.ID, 20)
	if d.State != promotion.Running || d.View.State != rollout.Paused || !d.View.Cause.Failed {
		t.Fatalf("%s %s", d.State, d.View.State)
	}
	_, err := w.promotions.Abort(t.Context(), ada, p.ID, "back", false, false)
	if said := conflict(t, err); !strings.Contains(said, "forward-only") {
		t.Error(said)
	}
	if _, err := w.promotions.Abort(t.Context(), ada, p.ID, "v6 mends it", true, false); err != nil {
		t.Fatal(err)
	}
	if d := w.settle(p.ID, 5); d.State != promotion.Failed {
		t.Fatalf("%s", d.State)
	}
	before := w.stamps["canary"].running()
	if before["v5"] == 0 {
		t.Fatal("no device runs v5")
	}
	w.promoted("v6", "test", "staging")
	w.stamps["canary"].fails = func(string, int) bool { return false }
	d = w.settle(w.start("production", "v6").ID, 60)
	if d.State != promotion.Succeeded || w.stamps["canary"].running()["v6"] != 200 {
		t.Fatalf("%s %v", d.State, w.stamps["canary"].running())
	}
	for _, doc := range w.stamps["canary"].got {
		if doc.Rollout != nil && doc.Rollout.Release.Name == "v6" && doc.Base != nil {
			t.Fatalf("devices on a release that leads only forward were told to go back to %s", doc.Base.Name)
		}
	}
}

func TestSupersedingAndQueueing(t *testing.T) {
	w := pipeline(t, nil)
	w.promoted("v1", "test", "staging")
	w.promoted("v2", "test", "staging")
	w.promoted("v3", "test", "staging")
	runs := w.start("production", "v1")
	w.tick(time.Second)
	second := w.start("production", "v2")
	w.tick(time.Second)
	if d := w.show(second.ID); d.State != promotion.Queued || d.Blocks[0].Object != runs.ID {
		t.Fatalf("%s %v", d.State, d.Blocks)
	}
	third := w.start("production", "v3")
	if same := w.start("production", "v3"); same.ID != third.ID {
		t.Errorf("asked for twice: %s and %s", third.ID, same.ID)
	}
	if d := w.show(second.ID); d.State != promotion.Superseded {
		t.Errorf("the older one is %s", d.State)
	}
	if d := w.settle(runs.ID, 60); d.State != promotion.Succeeded {
		t.Errorf("the one that ran is %s", d.State)
	}
	if d := w.settle(third.ID, 60); d.State != promotion.Succeeded || w.current("production") != "v3" {
		t.Errorf("the newest is %s", d.State)
	}
}

func TestAWaiverLetsAHotfixInOnce(t *testing.T) {
	w := pipeline(t, nil)
	w.promoted("v1", "test", "staging", "production")
	wv, err := w.promotions.Waive(t.Context(), ada, promotion.Exception{Environment: "production", Release: "v2", Class: "incident", Ticket: "INC-7", Reason: "all pumps stand still"})
	if err != nil {
		t.Fatal(err)
	}
	p := w.start("production", "v2")
	w.tick(time.Second)
	if d := w.show(p.ID); d.State != promotion.Blocked {
		t.Fatalf("%s", d.State)
	}
	_, err = w.promotions.ApproveWaiver(t.Context(), ada, wv.ID)
	if said := conflict(t, err); !strings.Contains(said, "somebody else") {
		t.Error(said)
	}
	if _, err := w.promotions.ApproveWaiver(t.Context(), bob, wv.ID); err != nil {
		t.Fatal(err)
	}
	if d := w.settle(p.ID, 80); d.State != promotion.Succeeded || d.Waiver != wv.ID {
		t.Fatalf("%s %v", d.State, d.Blocks)
	}
	owed, err := w.promotions.Waivers(t.Context(), "", true)
	if err != nil || len(owed) != 1 || owed[0].UsedBy != p.ID {
		t.Fatalf("%v, %v", owed, err)
	}
	if _, err := w.promotions.ReviewWaiver(t.Context(), bob, wv.ID, "it was right"); err != nil {
		t.Fatal(err)
	}
	if owed, err := w.promotions.Waivers(t.Context(), "", true); err != nil || len(owed) != 0 {
		t.Errorf("%v, %v", owed, err)
	}
}

func TestTheRobotTakesWhatIsVerifiedAndDoesNotUndoPeople(t *testing.T) {
	w := pipeline(t, &resource.PromotionSpec{Automatic: true})
	w.promoted("v1", "test", "staging")
	w.until("v1 is in production", func() bool { w.tick(time.Second); return w.current("production") == "v1" })
	w.promoted("v2", "test", "staging")
	w.until("v2 is in production", func() bool { w.tick(time.Second); return w.current("production") == "v2" })
	back, err := w.promotions.Rollback(t.Context(), bob, promotion.Return{Environment: "production", Reason: "v2 is slow"})
	if err != nil {
		t.Fatal(err)
	}
	w.settle(back.ID, 5)
	w.promoted("v3", "test", "staging")
	for range 10 {
		w.tick(time.Second)
	}
	if got := w.current("production"); got != "v1" {
		t.Fatalf("the robot has undone bob: production runs %s", got)
	}
	on, err := w.promotions.Holds(t.Context(), "production")
	if err != nil || len(on) != 1 {
		t.Fatalf("%v, %v", on, err)
	}
	if _, err := w.promotions.EndHold(t.Context(), bob, on[0].ID); err != nil {
		t.Fatal(err)
	}
	w.until("v3 is in production", func() bool { w.tick(time.Second); return w.current("production") == "v3" })
}

func TestApprovalsAndFreezesSayWhoAndWhen(t *testing.T) {
	w := newWorld(t)
	at := w.clock.now()
	w.environment("test", "", &resource.PromotionSpec{
		Gates:  []resource.Gate{{Name: "four-eyes", Approvals: &resource.ApprovalsGate{Count: 1}}},
		Freeze: []resource.Freeze{{Name: "fair", Reason: "the trade fair", Start: at.Format("2006-01-02T15:04:05"), Duration: "2h"}},
	})
	w.releases.add("v1", link.ReleaseSpec{})
	p := w.start("test", "v1")
	rule := func(want string) promotion.Block {
		t.Helper()
		var found promotion.Block
		w.until("it is blocked by "+want, func() bool {
			w.tick(time.Second)
			for _, b := range w.show(p.ID).Blocks {
				if b.Rule == want && b.Object != "gates" {
					found = b
					return true
				}
			}
			return false
		})
		return found
	}
	if b := rule(promotion.RuleFreeze); b.Next == nil || b.Next.Sub(at) != 2*time.Hour || !strings.Contains(b.Reason, "trade fair") {
		t.Errorf("%+v", b)
	}
	if b := rule(promotion.RuleGate); b.Object != "four-eyes" || !strings.Contains(b.Reason, "anybody but ada") {
		t.Errorf("%+v", b)
	}
	if _, err := w.promotions.Approve(t.Context(), ada, p.ID, "mine"); err == nil {
		t.Error("ada approved what she asked for")
	}
	if _, err := w.promotions.Approve(t.Context(), bob, p.ID, "looks good"); err != nil {
		t.Fatal(err)
	}
	w.clock.pass(2 * time.Hour)
	w.until("it has succeeded", func() bool { w.tick(time.Second); return w.show(p.ID).State == promotion.Succeeded })
}
