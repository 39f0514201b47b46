package console

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/release"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/control/signing"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// story is what the console shows of releases: v1.5.0 runs in dev, v1.4.0 is
// verified in test and on its way to production, and v1.3.9 is what was there.
type story struct {
	releases []link.Release
	lanes    []promotion.Lane
	view     rollout.View
	halts    []gate.Halt
	updates  []link.Update
	said     []string // what people did
	refuse   error    // what they are told
}

type (
	releasesOf   struct{ *world }
	promotionsOf struct{ *world }
	rolloutsOf   struct{ *world }
	gatesOf      struct{ *world }
	signingOf    struct{ *world }
)

// What the console is given is what these packages have.
var (
	_ Releases   = (*release.Releases)(nil)
	_ Signing    = (*signing.Signing)(nil)
	_ Promotions = (*promotion.Promotions)(nil)
	_ Rollouts   = (*rollout.Rollouts)(nil)
	_ Gates      = (*gate.Gates)(nil)
)

func ptr[T any](v T) *T { return &v }

// say notes what somebody did, or refuses it.
func (w *world) say(parts ...string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return w.refuse
	}
	w.said = append(w.said, strings.Join(parts, " "))
	return nil
}

func aRelease(n int, name, firmware string) link.Release {
	file := func(name string, size int64) link.Artifact {
		return link.Artifact{File: name, Size: size, SHA256: strings.Repeat(fmt.Sprintf("%x", (n*7+len(name))%16), 64)}
	}
	return link.Release{Name: name, Digest: strings.Repeat(fmt.Sprint(n%10), 64), Counter: int64(n), CreatedAt: noon.Add(time.Duration(n-9) * 26 * time.Hour), CreatedBy: "ci",
		Spec: link.ReleaseSpec{Type: link.ReleaseFeature, Rollback: link.RollbackSafe, Notes: "Reports the pressure every second while a pump starts.\nMends the reading of worn valves.", Source: "https://git.example.com/pumps/commit/8c1f0a7e5a354a0cb0cd",
			Software: []link.Software{
				{Name: "firmware", Version: firmware, Hardware: []string{"pump-a", "pump-b"}, Handler: "rauc", Artifacts: []link.Artifact{file("firmware.raucb", 48_300_112)}},
				{Name: "firmware", Version: firmware, Hardware: []string{"gateway"}, Handler: "swupdate", Artifacts: []link.Artifact{file("gateway.swu", 131_072_000), file("gateway.cfg", 812)}},
				{Name: "model", Version: "7", Handler: "files", Artifacts: []link.Artifact{file("wear.onnx", 2_400_000)}}},
			Configuration: map[string]any{"telemetry": map[string]any{"everySeconds": 10, "burst": true}, "log": "warn"},
			Routes:        []link.ReleaseRoute{{Name: "hot-pumps", Spec: link.RouteSpec{Source: "telemetry", Where: "$body.temperature > 80", Endpoint: link.Endpoint{Webhook: &link.Webhook{URL: "https://alerts.example.com/pumps"}}}}},
			Flags:         json.RawMessage(`{"flags":{"wear-forecast":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[true,"on"]}}}}`),
			Migrations:    []link.Migration{{Name: "0007-pressure", Kind: "sql", Up: "ALTER TABLE reading ADD COLUMN pressure REAL", Down: "ALTER TABLE reading DROP COLUMN pressure"}, {Name: "0008-site", Kind: "twin", Up: "tags.site = tags.plant"}},
			SBOM:          []link.Artifact{file("sbom.cdx.json", 91_222)}}}
}

func verdictOf(name, kind string, v gate.Verdict, samples int64, reason string) gate.Result {
	return gate.Result{Gate: name, Kind: kind, Key: true, Verdict: v, Reason: reason, At: noon.Add(-20 * time.Second), Samples: samples, Evaluator: "slipway/gate/1"}
}

// tell fills a world with the story.
func (w *world) tell() {
	w.releases = []link.Release{aRelease(9, "v1.5.0", "1.5.0"), aRelease(8, "v1.4.0", "1.4.0"), aRelease(7, "v1.4.0-bad", "1.3.9-bad"), aRelease(6, "v1.3.9", "1.3.9")}
	w.releases[2].Spec.Type, w.releases[2].Spec.Rollback = link.ReleaseSecurity, link.RollbackForwardOnly
	w.view = aRollout(w.releases[1])
	w.halts = []gate.Halt{{ID: "h-past", Environment: "test", Reason: "the rack is moved", Actor: "ops", At: noon.Add(-50 * time.Hour), LiftedBy: "ops", LiftedAt: ptr(noon.Add(-47 * time.Hour))}}
	for i := range 40 {
		states := []link.UpdateState{link.UpdateDone, link.UpdateDone, link.UpdatePending, link.UpdateDone, link.UpdateFailed, link.UpdateUnreachable, link.UpdateRolledBack, link.UpdateExempt}
		u := link.Update{DeviceID: fmt.Sprintf("pump-%04d", i), Stamp: "production-eu", Release: "v1.4.0", Rollout: "rollout-12", Order: 31, State: states[i%len(states)], Reason: "confirmed", Attempts: 1, Hardware: []string{"pump-a", "pump-b", "gateway"}[i%3],
			Running: map[string]string{"firmware": "1.4.0"}, Wave: 1 + i%2, OrderedAt: ptr(noon.Add(-4 * time.Minute)), UpdatedAt: noon.Add(-time.Duration(i) * 7 * time.Second)}
		switch u.State {
		case link.UpdatePending:
			u.Reason, u.Progress = "downloading", 37+i
		case link.UpdateFailed:
			u.Reason, u.Attempts, u.Running = "attempt 3 of 3: self-test: pressure sensor does not answer", 3, map[string]string{"firmware": "1.3.9"}
		case link.UpdateUnreachable:
			u.Reason, u.Attempts = "it has not been connected for 1h0m0s", 0
		case link.UpdateExempt:
			u.Reason, u.Attempts = "the release has nothing for gateway", 0
		case link.UpdateRolledBack:
			u.Reason, u.Running = "the health check did not pass within 60 s", map[string]string{"firmware": "1.3.9"}
		}
		w.updates = append(w.updates, u)
	}
	w.lanes = w.theLanes()
}

// aRollout is v1.4.0 in its second wave on the first of three stamps.
func aRollout(r link.Release) rollout.View {
	whole := resource.RolloutSpec{Waves: []resource.Wave{{Name: "canary", Share: 0.01, Count: 10}, {Name: "few", Share: 0.1}, {Name: "half", Share: 0.5}, {Name: "all", Share: 1}}}.Whole(false)
	began, wave := noon.Add(-31*time.Minute), noon.Add(-9*time.Minute)
	done := rollout.WaveEnd{Wave: 1, At: wave, Outcome: rollout.Passed, Census: link.UpdateCensus{Updated: 84}}
	all := func(wave int) (ends []rollout.WaveEnd) {
		for n := 1; n <= wave; n++ {
			ends = append(ends, rollout.WaveEnd{Wave: n, At: began, Outcome: rollout.Passed})
		}
		return ends
	}
	roll := rollout.Rollout{ID: "rollout-12", Promotion: "promotion-11", Environment: "production", Release: r.Name, Digest: r.Digest, Kind: "feature", Class: "safe", From: "v1.3.9", State: rollout.Running, Policy: whole, CreatedAt: began,
		Stamps: []rollout.Stamp{
			{Name: "production-canary", Ring: 0, State: rollout.Done, Base: "v1.3.9", Wave: 4, BeganAt: &began, WaveAt: &began, DoneAt: &wave, Waves: all(4)},
			{Name: "production-eu", Ring: 1, State: rollout.Moving, Base: "v1.3.9", Wave: 2, BeganAt: &began, WaveAt: &wave, Waves: []rollout.WaveEnd{done}, LookedAt: ptr(noon),
				Compared: &rollout.Evidence{Updated: link.Health{Devices: 590, DeviceSeconds: 318_600, Reconnects: 44, Messages: 31_700}, Others: link.Health{Devices: 7700, DeviceSeconds: 4_158_000, Reconnects: 498, Messages: 415_200}, Reconnects: []float64{2.1, 2.6, 2.9, 2.2, 1.1, -3, -9, -30}}},
			{Name: "production-us", Ring: 2, State: rollout.Waiting, Base: "v1.3.9"}},
		Log: []rollout.Event{{At: began, What: "begun", By: "maria", Reason: "the pumps of Acme need it"}, {At: began, What: "stampBegun", Stamp: "production-canary", Wave: 1}, {At: wave, What: "wavePassed", Stamp: "production-eu", Wave: 1, By: rollout.Robot}}}
	health := roll.Stamps[1].Compared
	facts := rollout.Facts{
		"production-canary": {Ring: 0, SeenAt: noon, Progress: &link.Progress{Rollout: roll.ID, Wave: 4, Complete: true, Devices: link.UpdateCensus{Updated: 118, Exempt: 2}, Reached: link.UpdateCensus{Updated: 118, Exempt: 2}}},
		"production-eu": {Ring: 1, SeenAt: noon, Progress: &link.Progress{Rollout: roll.ID, Wave: 2, Complete: true, Updated: health.Updated, Others: health.Others,
			Devices: link.UpdateCensus{Updated: 8162, Pending: 171, Failed: 9, RolledBack: 4, Unreachable: 38, Exempt: 16},
			Reached: link.UpdateCensus{Updated: 590, Pending: 171, Failed: 9, RolledBack: 4, Unreachable: 38, Exempt: 16}, WaveOnly: link.UpdateCensus{Updated: 508, Pending: 171, Failed: 7, RolledBack: 4, Unreachable: 38, Exempt: 16},
			ByHardware: map[string]link.UpdateCensus{"pump-a": {Updated: 400, Pending: 91, Failed: 5, RolledBack: 2, Unreachable: 20}, "pump-b": {Updated: 190, Pending: 80, Failed: 4, RolledBack: 2, Unreachable: 18}, "gateway": {Exempt: 16}}}},
		"production-us": {Ring: 2, SeenAt: noon, Progress: &link.Progress{Complete: true, Devices: link.UpdateCensus{Updated: 804}}},
	}
	return rollout.Watch(roll, facts, noon)
}

func (w *world) theLanes() []promotion.Lane {
	cells, _ := rolloutsOf{w}.Matrix(context.Background(), "")
	in := func(environment string) (some []rollout.Cell) {
		for _, c := range cells {
			if c.Environment == environment {
				some = append(some, c)
			}
		}
		return some
	}
	open := gate.Opening{Open: true, Reason: "no freeze is on"}
	soak := verdictOf("soak", "soak", gate.Pending, 1, "it ran well for 3h12m of 24h")
	soak.Next = ptr(noon.Add(20 * time.Hour))
	tests := verdictOf("integration", "tests", gate.Pass, 412, "412 tests ran and none failed")
	tests.Evidence, tests.Threshold = json.RawMessage(`{"suites":[{"suite":"integration","tests":412,"failures":0}]}`), "at most 0 failures"
	p95 := verdictOf("latency", "promql", gate.Fail, 60, "the last value is 512, above 400")
	p95.Value, p95.Threshold, p95.Window, p95.Query = ptr(512.25), "at most 400", "10m", `histogram_quantile(0.95, sum by (le) (rate(request_ms_bucket{environment="test"}[5m])))`
	people := verdictOf("owners", "approvals", gate.Pending, 1, "1 of 2 people agree: jonas")
	return []promotion.Lane{
		{Environment: "dev", DisplayName: "Dev", Automatic: true, Current: &rollout.Stood{Release: "v1.5.0", From: noon.Add(-40 * time.Minute)}, Verification: &promotion.Verification{Passed: true}, Opening: open, Last: []promotion.Promotion{}, Stamps: in("dev")},
		{Environment: "test", DisplayName: "Test", PromotesFrom: "dev", Automatic: true, Current: &rollout.Stood{Release: "v1.4.0", From: noon.Add(-30 * time.Hour)}, Verification: &promotion.Verification{Passed: true}, Opening: open, Stamps: in("test"),
			Waiting: &promotion.Promotion{ID: "promotion-14", Environment: "test", Upstream: "dev", Release: "v1.5.0", State: promotion.Blocked, Automatic: true, By: promotion.Robot, CreatedAt: noon.Add(-35 * time.Minute), Gates: []gate.Result{tests, p95},
				Blocks: []promotion.Block{{Rule: promotion.RuleGate, Object: "latency", Reason: "gate latency: the last value is 512, above 400"}}}},
		{Environment: "staging", DisplayName: "Staging", PromotesFrom: "test", Current: &rollout.Stood{Release: "v1.4.0", From: noon.Add(-28 * time.Hour)}, Verification: &promotion.Verification{Passed: true}, Opening: open, Stamps: in("staging"),
			Holds: []promotion.Hold{{ID: "hold-9", Environment: "staging", Owner: "jonas", Reason: "the load test runs until the evening", At: noon.Add(-time.Hour), Until: ptr(noon.Add(5 * time.Hour))}},
			Last:  []promotion.Promotion{{ID: "promotion-8", Environment: "staging", Release: "v1.4.0-bad", State: promotion.RolledBack, CreatedAt: noon.Add(-41 * time.Hour), Outcome: "of the wave 12 devices tried and 12 failed, which is 100 %"}, {ID: "promotion-6", Environment: "staging", Release: "v1.3.9", State: promotion.Succeeded, CreatedAt: noon.Add(-24 * 24 * time.Hour)}}, Rejections: theRejections()},
		{Environment: "production", DisplayName: "Production", PromotesFrom: "staging", Current: &rollout.Stood{Release: "v1.3.9", From: noon.Add(-21 * 24 * time.Hour)}, Verification: &promotion.Verification{Passed: true}, Stamps: in("production"),
			Opening: gate.Opening{Reason: "frozen by year-end until 2027-01-04T00:00:00Z: the plants run without people", Next: ptr(noon.Add(9 * 24 * time.Hour))},
			Running: &promotion.Promotion{ID: "promotion-11", Environment: "production", Release: "v1.4.0", State: promotion.Running, By: "maria", Reason: "the pumps of Acme need it", Rollout: "rollout-12", CreatedAt: noon.Add(-31 * time.Minute)}, Rollout: &w.view,
			Waiting: &promotion.Promotion{ID: "promotion-13", Environment: "production", Upstream: "staging", Release: "v1.4.1", State: promotion.Blocked, By: "maria", Reason: "hotfix of the valve reading", CreatedAt: noon.Add(-6 * time.Minute), Gates: []gate.Result{tests, soak, people},
				Blocks: []promotion.Block{{Rule: promotion.RuleGate, Object: "soak", Reason: "gate soak: it ran well for 3h12m of 24h", Next: soak.Next}, {Rule: promotion.RuleGate, Object: "owners", Reason: "gate owners: 1 of 2 people agree: jonas"}}},
			Waivers: []promotion.Waiver{{ID: "waiver-3", Environment: "production", Release: "v1.4.1", Class: "incident", Ticket: "INC-4711", By: "maria", Needs: 2, Approvals: []promotion.Agreed{{By: "jonas"}}, Until: noon.Add(time.Hour)}}},
	}
}

func theRejections() []promotion.Rejection {
	return []promotion.Rejection{{Environment: "staging", Release: "v1.4.0-bad", By: promotion.Robot, At: noon.Add(-40 * time.Hour), Reason: "of the wave 12 devices tried and 12 failed"}}
}

func (r releasesOf) Get(_ context.Context, name string) (link.Release, error) {
	for _, one := range r.releases {
		if one.Name == name {
			return one, nil
		}
	}
	return link.Release{}, problem.New(problem.NotFound, "there is no release %q", name)
}

func (r releasesOf) List(_ context.Context, before int64, limit int) (all []link.Release, err error) {
	for _, one := range r.releases {
		if (before == 0 || one.Counter < before) && len(all) < limit {
			all = append(all, one)
		}
	}
	return all, nil
}

func (r releasesOf) Components(context.Context, string) (all []release.Component, err error) {
	for i, name := range []string{"busybox", "musl", "openssl", "zlib", "linux", "u-boot", "mosquitto-clients", "curl"} {
		for v := range 30 {
			all = append(all, release.Component{Name: name, Version: fmt.Sprintf("%d.%d.1", i+1, v), PURL: fmt.Sprintf("pkg:generic/%s@%d.%d.1", name, i+1, v)})
		}
	}
	return all, nil
}

func (r releasesOf) Diff(ctx context.Context, a, b string) ([]release.Change, error) {
	from, err := r.Get(ctx, a)
	if err != nil {
		return nil, err
	}
	to, err := r.Get(ctx, b)
	if err != nil {
		return nil, err
	}
	from.Spec.Configuration = map[string]any{"telemetry": map[string]any{"everySeconds": 30}, "debug": true}
	from.Spec.Migrations = nil
	return release.Diff(release.Side{Spec: from.Spec, Components: []release.Component{{Name: "openssl", Version: "3.0.1"}}}, release.Side{Spec: to.Spec, Components: []release.Component{{Name: "openssl", Version: "3.0.2"}}}), nil
}

func (s signingOf) Admitted(_ context.Context, environment, release string) (bool, string, error) {
	if environment == "test" {
		return true, "", nil
	}
	return false, fmt.Sprintf("release %s was not let into %s", release, environment), nil
}

func (p promotionsOf) Board(context.Context) ([]promotion.Lane, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lanes, nil
}

func (p promotionsOf) Show(_ context.Context, id string) (promotion.Dossier, error) {
	for _, lane := range p.lanes {
		for _, one := range []*promotion.Promotion{lane.Waiting, lane.Running} {
			if one != nil && one.ID == id {
				d := promotion.Dossier{Promotion: *one, Verification: &promotion.Verification{Passed: true, At: noon.Add(-27 * time.Hour), By: promotion.Robot},
					Approvals: []gate.Approval{{Person: "jonas", Approves: true, Reason: "tried on the bench", At: noon}, {Person: "eva", Reason: "not before the audit", At: noon, WithdrawnAt: &noon}}}
				d.Log = []promotion.StateChange{{At: noon.Add(-6 * time.Minute), State: promotion.Requested, By: "maria", Reason: one.Reason}, {At: noon, State: one.State, By: promotion.Robot, Reason: "gate soak: it ran well for 3h12m of 24h"}}
				return d, nil
			}
		}
	}
	return promotion.Dossier{}, problem.New(problem.NotFound, "there is no promotion %q", id)
}

func (p promotionsOf) Verifications(context.Context, string) ([]promotion.Verification, error) {
	return []promotion.Verification{{Environment: "test", Passed: true, At: noon.Add(-29 * time.Hour)}}, nil
}

func (p promotionsOf) Rejections(context.Context, string) ([]promotion.Rejection, error) {
	return theRejections(), nil
}

func (p promotionsOf) Start(_ context.Context, actor access.Actor, environment, release, reason string) (one promotion.Promotion, err error) {
	return one, p.say(actor.Name, "promotes", release, "to", environment, reason)
}

func (p promotionsOf) Retry(_ context.Context, _ access.Actor, id, reason string) (one promotion.Promotion, err error) {
	return one, p.say("retry", id, reason)
}

func (p promotionsOf) Approve(_ context.Context, _ access.Actor, id, reason string) (one promotion.Promotion, err error) {
	return one, p.say("approve", id, reason)
}

func (p promotionsOf) Reject(_ context.Context, _ access.Actor, id, reason string) (one promotion.Promotion, err error) {
	return one, p.say("reject", id, reason)
}

func (p promotionsOf) Abort(_ context.Context, _ access.Actor, id, reason string, leave, force bool) (one promotion.Promotion, err error) {
	return one, p.say("withdraw", id, reason)
}

func (p promotionsOf) Rollback(_ context.Context, _ access.Actor, way promotion.Return) (one promotion.Promotion, err error) {
	return one, p.say("rollback", way.Environment, way.To, way.Reason, fmt.Sprint(way.Force))
}

func (p promotionsOf) Hold(_ context.Context, _ access.Actor, environment, reason string, all bool, life time.Duration) (h promotion.Hold, err error) {
	return h, p.say("hold", environment, reason, fmt.Sprint(all), life.String())
}

func (p promotionsOf) EndHold(_ context.Context, _ access.Actor, id string) (h promotion.Hold, err error) {
	return h, p.say("end", id)
}

func (p promotionsOf) Lift(_ context.Context, _ access.Actor, environment, release, reason string) (r promotion.Rejection, err error) {
	return r, p.say("lift", environment, release, reason)
}

func (p promotionsOf) ApproveWaiver(_ context.Context, _ access.Actor, id string) (v promotion.Waiver, err error) {
	return v, p.say("approve", id)
}

func (p promotionsOf) ReviewWaiver(_ context.Context, _ access.Actor, id, found string) (v promotion.Waiver, err error) {
	return v, p.say("review", id, found)
}

func (r rolloutsOf) Show(_ context.Context, id string) (rollout.View, error) {
	if id != r.view.ID {
		return rollout.View{}, problem.New(problem.NotFound, "there is no rollout %q", id)
	}
	return r.view, nil
}

func (r rolloutsOf) Matrix(_ context.Context, release string) ([]rollout.Cell, error) {
	if len(r.releases) == 0 {
		return nil, nil
	}
	seen := noon
	all := []rollout.Cell{
		{Environment: "dev", Stamp: "dev-1", Ring: 1, Base: "v1.5.0", OnBase: 6, Total: 6, SeenAt: &seen},
		{Environment: "test", Stamp: "test-1", Ring: 1, Base: "v1.4.0", OnBase: 38, Total: 40, SeenAt: &seen},
		{Environment: "staging", Stamp: "staging-1", Ring: 1, Base: "v1.4.0", OnBase: 120, Total: 120, SeenAt: &seen},
		{Environment: "production", Stamp: "production-canary", Ring: 0, Base: "v1.3.9", Rollout: "rollout-12", Release: "v1.4.0", Wave: 4, Waves: 4, OnRelease: 118, Total: 120, Share: 0.983, SeenAt: &seen},
		{Environment: "production", Stamp: "production-eu", Ring: 1, Base: "v1.3.9", Rollout: "rollout-12", Release: "v1.4.0", Wave: 2, Waves: 4, OnBase: 7572, OnRelease: 590, Total: 8400, Share: 0.0702, SeenAt: &seen},
		{Environment: "production", Stamp: "production-us", Ring: 2, Base: "v1.3.9", OnBase: 804, Total: 804},
	}
	return slices.DeleteFunc(all, func(c rollout.Cell) bool { return release != "" && !c.Runs(release) }), nil
}

func (r rolloutsOf) Pause(_ context.Context, _ access.Actor, id, reason string) (one rollout.Rollout, err error) {
	return one, r.say("pause", id, reason)
}

func (r rolloutsOf) Resume(_ context.Context, _ access.Actor, id, reason string) (one rollout.Rollout, err error) {
	return one, r.say("resume", id, reason)
}

func (r rolloutsOf) Skip(_ context.Context, _ access.Actor, id, stamp, reason string) (one rollout.Rollout, err error) {
	return one, r.say("skip", id, stamp, reason)
}

func (r rolloutsOf) Abort(_ context.Context, _ access.Actor, id, reason string, leave, force bool) (one rollout.Rollout, err error) {
	return one, r.say("abort", id, reason, fmt.Sprint(leave, force))
}

func (g gatesOf) Vulnerable(context.Context, string) ([]gate.Finding, error) {
	return []gate.Finding{
		{Vulnerability: gate.Vulnerability{ID: "CVE-2022-0778", Severity: "high", Summary: "Parsing a certificate may never end", KnownAt: noon.Add(-90 * 24 * time.Hour)}, Component: release.Component{Name: "openssl", Version: "3.0.1"}},
		{Vulnerability: gate.Vulnerability{ID: "CVE-2023-45853", Severity: "low", Summary: "A long name in an archive overflows a buffer", KnownAt: noon.Add(-30 * 24 * time.Hour)}, Component: release.Component{Name: "zlib", Version: "4.3.1"}},
	}, nil
}

func (g gatesOf) PastHalts(context.Context) ([]gate.Halt, error) { return g.halts, nil }

func (g gatesOf) Halts(context.Context, string) ([]gate.Halt, error) {
	return slices.DeleteFunc(slices.Clone(g.halts), func(h gate.Halt) bool { return h.LiftedAt != nil }), nil
}

func (g gatesOf) Halt(_ context.Context, _ access.Actor, h gate.Halt, life time.Duration) (gate.Halt, error) {
	return h, g.say("halt", h.Environment, h.Reason, fmt.Sprint(h.Exempt), life.String())
}

func (g gatesOf) Lift(_ context.Context, _ access.Actor, id, reason string) (h gate.Halt, err error) {
	return h, g.say("lift", id, reason)
}

func (g gatesOf) History(context.Context, string) ([]gate.Result, error) {
	return []gate.Result{verdictOf("soak", "soak", gate.Pending, 1, "it ran well for 1h of 24h"), verdictOf("integration", "tests", gate.Inconclusive, 0, "no results")}, nil
}

func (w *world) Updates(_ context.Context, stamp string, req link.ListUpdates) (page link.Updates, err error) {
	if stamp == "production-us" {
		return page, problem.New(problem.NotReady, "stamp production-us does not answer")
	}
	for _, u := range w.updates {
		if u.DeviceID > req.After && (req.State == "" || u.State == req.State) {
			page.Items = append(page.Items, u)
		}
	}
	return page, nil
}

func (w *world) Update(_ context.Context, _, device string) (link.Update, error) {
	for _, u := range w.updates {
		if u.DeviceID == device {
			u.State, u.Reason, u.Progress = link.UpdatePending, "downloading", 62
			return u, nil
		}
	}
	return link.Update{}, problem.New(problem.NotFound, "device %s is to run no release", device)
}
