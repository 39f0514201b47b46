package readiness_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/readiness"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// sound are facts by which every check is green: the remedy of everything that
// the matrix plants.
func sound() readiness.Facts {
	lately, days := now.Add(-2*time.Minute), 400.0
	drifting, budget := int64(0), 0.8
	f := readiness.Facts{
		Environment: "production", At: now,
		Graph:    &readiness.Graph{Upstream: []string{"staging", "test"}, Final: true},
		Template: &readiness.Template{Name: "standard"},
		Current: &readiness.Current{
			Release: "v2", Digest: "d2", Since: lately, NeedsApproval: 1, Approvals: []string{"mia"}, HasMigrations: true, Class: "safe",
			Verified: []readiness.Verified{{Environment: "staging", Known: true, Passed: true, Digest: "d2", At: lately}, {Environment: "test", Known: true, Passed: true, Digest: "d2", At: lately}},
		},
		Parity:      &readiness.Parity{With: "staging", Score: 0.98, Threshold: 0.9, At: now},
		Shared:      &readiness.Shared{Compared: 4},
		Rehearsal:   &readiness.Rehearsal{Release: "v2", Passed: true, Summary: "3 statements in 2 s", At: lately},
		Drift:       &readiness.Drift{Compared: 40, At: now},
		Flags:       &readiness.FlagFacts{Flags: 2, Where: "staging", KilledAt: lately},
		Stamps:      &readiness.StampFacts{Stamps: []readiness.StampFact{{Name: "eu-1", Region: "eu", Capacity: 100, Ring: true, Processes: 2, Taken: 10}}, Taken: 10, Places: 100, Days: &days},
		Tenants:     &readiness.TenantFacts{Tenants: 2},
		Registry:    &readiness.Registry{Enrolments: 3, Devices: 10, Attested: map[string]int{"certificate": 3}},
		Moves:       &readiness.MoveFacts{From: "staging", Last: "move-1", Arrived: 10, At: lately, Removed: 5, Rejected: 5},
		Expiries:    &readiness.Expiries{Items: []readiness.Expiry{{Kind: "authority", Name: "factory", At: now.AddDate(1, 0, 0)}}},
		Devices:     &readiness.DeviceFacts{Registered: 10, Updated: 9, Unreachable: 1, Drifting: &drifting},
		Updates:     &readiness.UpdateFacts{Software: 1, Admitted: true, Previous: "v1", SelfTests: 1},
		Telling:     &readiness.Telling{Up: []string{"control", "eu-1", "provisioning"}},
		Alerting:    &readiness.Alerting{Rules: 20, Receivers: 1, Pages: true, TestedAt: lately, TestedOK: true, OnCall: []string{"mia"}, Next: true},
		Logs:        &readiness.Logs{Retention: 60 * 24 * time.Hour, Wanted: 30 * 24 * time.Hour, Searchable: []string{"device", "release", "time"}, Proven: true, At: lately},
		Objectives:  &readiness.Objectives{Standings: []readiness.ObjectiveFact{{Name: "availability", State: "met", Budget: &budget}}},
		Clocks:      &readiness.Clocks{Processes: 3, Worst: 20 * time.Millisecond, Of: "eu-1"},
		Rights:      &readiness.Rights{Controlled: true, ReviewedAt: lately},
		Grants:      &readiness.GrantFacts{Approvals: 1, SelfRefused: true, SelfAnswer: "refused", BreakGlass: true, BrokenAt: lately, WaiversNeed: 1},
		Audit:       &readiness.AuditFacts{Size: 100, Proven: true, Witnesses: 1, At: now},
		Posture:     &readiness.Posture{Listeners: 4, Encrypted: true, Endpoints: 6, Fronted: true, DefaultsSearched: true, Disclosure: "security@example.com", SupportUntil: now.AddDate(5, 0, 0), At: now},
		Components:  &readiness.Components{Components: 30, ListedAt: lately, Signed: true, Provenance: "https://example.com/commit/1"},
		Growth:      &readiness.GrowthFacts{Rules: 1, Places: 100, Taken: 10},
		Backups:     &readiness.BackupFacts{Configured: true, Planes: 3, OffHost: true, Encrypted: true, Immutable: true, NewestAt: lately, DrillAt: lately, DrillResult: "pass", PassedAt: lately, DrillLimit: 7 * 24 * time.Hour},
		Rollback:    &readiness.RollbackFacts{RehearsedAt: lately, Rehearsed: "staging", Automatic: true, ProvenAt: lately, Proven: "release v1.9 in staging"},
		Waivers:     &readiness.WaiverFacts{UsedAt: lately, Used: "waiver-1"},
		Stopping:    &readiness.StoppingFacts{Freezes: 1, HaltedAt: lately, Halted: "staging"},
		DataCare:    &readiness.DataCare{Classes: 2, Retention: true, Residency: true, Erasure: true, At: now},
		AuditedJobs: &readiness.CleanUps{Jobs: 1, LastAt: lately},
		Incidents:   &readiness.Incidents{Channel: "#incidents", Template: "We are looking into …", At: lately},
	}
	for _, name := range []string{"unit", "integration", "performance"} {
		f.Current.Suites = append(f.Current.Suites, readiness.Suite{Name: name, Environment: "staging", Release: "v2", Tests: 10, At: lately})
	}
	for _, name := range exercises {
		f.Tests = append(f.Tests, readiness.Suite{Name: name, Environment: "staging", Release: "v2", Tests: 3, At: lately})
	}
	return f
}

// exercises are the suites that exercise an installation, by the check that goes
// by each.
var exercises = map[string]string{
	"S2": "limits", "S4": "stamp-isolation", "P5": "decommission", "R1": "retry-conformance", "R2": "reconnect-herd", "H2": "rolling-restart", "H3": "double-load", "B3": "disaster-recovery",
	"P4": "certificate-rotation", "H1": "failover",
}

// plants are the failures, by the check that must see each.
var plants = map[string][]func(*readiness.Facts){
	"E1": {func(f *readiness.Facts) { f.Graph.Upstream = nil }},
	"E2": {func(f *readiness.Facts) { f.Template.Name = "" }, func(f *readiness.Facts) { f.Template.Unexplained = 2 }},
	"E3": {
		func(f *readiness.Facts) { f.Current.Verified[0].Digest = "d1" },
		func(f *readiness.Facts) { f.Current.Verified[1].Passed = false },
		func(f *readiness.Facts) { f.Current.Verified[0].Known = false },
		func(f *readiness.Facts) { f.Current.Verified = nil },
	},
	"E4": {func(f *readiness.Facts) { f.Current.Suites = f.Current.Suites[1:] }, func(f *readiness.Facts) { f.Current.Suites[2].Failed = 1 }, func(f *readiness.Facts) { f.Current.Suites[0].Skipped = 10 }},
	"E5": {func(f *readiness.Facts) { f.Parity.Score = 0.8 }, func(f *readiness.Facts) { f.Parity.Missing = []string{"database"} }},
	"E6": {func(f *readiness.Facts) { f.Shared.Same = []string{"a key of test/line and production/line"} }},
	"E7": {func(f *readiness.Facts) { f.Current.Approvals = nil }},
	"E8": {
		func(f *readiness.Facts) { f.Rehearsal.Passed = false },
		func(f *readiness.Facts) { f.Rehearsal.Void = "the schema moved on" },
		func(f *readiness.Facts) { f.Rehearsal.Release = "v1" },
	},
	"E9": {func(f *readiness.Facts) { f.Drift.Unexplained = []string{"stamp/eu-1 capacity"} }, func(f *readiness.Facts) { f.Drift.Invalid = []string{"route/r"} }},
	"F1": {func(f *readiness.Facts) { f.Flags.Unexercised = []string{"fast"} }, func(f *readiness.Facts) { f.Flags.Where = "" }},
	"F2": {func(f *readiness.Facts) { f.Flags.Overdue = []string{"old"} }, func(f *readiness.Facts) { f.Flags.Ownerless = []string{"stray"} }},
	"S1": {
		func(f *readiness.Facts) { f.Stamps.Taken = 81 },
		func(f *readiness.Facts) { days := 20.0; f.Stamps.Days = &days },
		func(f *readiness.Facts) { f.Stamps.Stamps[0].Capacity = 0 },
		func(f *readiness.Facts) { f.Stamps.Stamps = nil },
	},
	"S3": {func(f *readiness.Facts) { f.Tenants.Homeless = []string{"acme"} }, func(f *readiness.Facts) { f.Tenants.Misplace = []string{"us-1"} }},
	"S5": {func(f *readiness.Facts) { f.Stamps.Stamps[0].Ring = false }},
	"P1": {func(f *readiness.Facts) { f.Registry.Duplicates = []string{"a and b"} }, func(f *readiness.Facts) { f.Registry.Attested["none"] = 1 }},
	"P2": {func(f *readiness.Facts) { f.Moves.Arrived = 0 }},
	"P3": {func(f *readiness.Facts) { f.Moves.Present = []string{"pump-1 on staging-1"} }},
	"P4": {func(f *readiness.Facts) { f.Expiries.Items[0].At = now.AddDate(0, 0, 59) }},
	"D1": {func(f *readiness.Facts) { f.Devices.Registered = 12 }, func(f *readiness.Facts) { f.Devices.Updated, f.Devices.Failed = 8, 1 }},
	"D2": {func(f *readiness.Facts) { f.Updates.Admitted = false }, func(f *readiness.Facts) { f.Updates.Previous = "" }, func(f *readiness.Facts) { f.Updates.SelfTests = 0 }},
	"D3": {func(f *readiness.Facts) { n := int64(1); f.Devices.Drifting = &n }},
	"O1": {func(f *readiness.Facts) { f.Telling.Silent = []string{"eu-1"} }, func(f *readiness.Facts) { f.Telling.Absent = []string{"stamp/eu-2"} }},
	"O2": {
		func(f *readiness.Facts) { f.Alerting.Receivers = 0 }, func(f *readiness.Facts) { f.Alerting.TestedOK = false },
		func(f *readiness.Facts) { f.Alerting.Pages = false }, func(f *readiness.Facts) { f.Alerting.Rules = 0 }, func(f *readiness.Facts) { f.Alerting.Broken = []string{"mine"} },
	},
	"O3": {func(f *readiness.Facts) { f.Logs.Retention = time.Hour }, func(f *readiness.Facts) { f.Logs.Searchable = []string{"time"} }, func(f *readiness.Facts) { f.Logs.Proven = false }},
	"O4": {func(f *readiness.Facts) { f.Objectives.Standings[0].State = "missed" }},
	"O5": {func(f *readiness.Facts) { f.Alerting.OnCall = nil }, func(f *readiness.Facts) { f.Alerting.Next = false }, func(f *readiness.Facts) { f.Alerting.Unguided = []string{"Mine"} }},
	"O6": {func(f *readiness.Facts) { f.Clocks.Worst = time.Second }},
	"A1": {func(f *readiness.Facts) { f.Rights.Controlled, f.Rights.Writers = false, []string{"max as operator"} }},
	"A2": {func(f *readiness.Facts) { f.Rights.Unused = []string{"max as operator"} }},
	"A3": {
		func(f *readiness.Facts) { f.Grants.SelfRefused = false }, func(f *readiness.Facts) { f.Grants.Approvals = 0 },
		func(f *readiness.Facts) { f.Grants.WaiverSelf = true }, func(f *readiness.Facts) { f.Grants.WaiversNeed = 0 },
	},
	"A4": {func(f *readiness.Facts) { f.Grants.Overdue = []string{"grant-1"} }, func(f *readiness.Facts) { f.Grants.BreakGlass = false }},
	"A5": {func(f *readiness.Facts) { f.Audit.Proven = false }, func(f *readiness.Facts) { f.Audit.Witnesses = 0 }, func(f *readiness.Facts) { f.Audit.Behind = []string{"file"} }},
	"A6": {func(f *readiness.Facts) { f.Rights.Leavers = []string{"max"} }},
	"C1": {func(f *readiness.Facts) { f.Posture.TLS = []string{":1883"} }, func(f *readiness.Facts) { f.Posture.Encrypted = false }, func(f *readiness.Facts) { f.Posture.PlainSecrets = []string{"control.yaml"} }},
	"C2": {func(f *readiness.Facts) { f.Posture.Undeclared = []string{":9000"} }, func(f *readiness.Facts) { f.Posture.Fronted = false }},
	"C3": {
		func(f *readiness.Facts) { f.Components.Late = []string{"CVE-1"} }, func(f *readiness.Facts) { f.Components.Components = 0 },
		func(f *readiness.Facts) { f.Components.ListedAt = now.AddDate(0, 0, -8) },
	},
	"C4": {func(f *readiness.Facts) { f.Components.Signed = false }, func(f *readiness.Facts) { f.Components.Provenance = "" }},
	"C5": {func(f *readiness.Facts) { f.Posture.Defaults = []string{"admin/admin"} }},
	"C6": {func(f *readiness.Facts) { f.Posture.Disclosure = "" }, func(f *readiness.Facts) { f.Posture.SupportUntil = now.AddDate(0, 0, -1) }, func(f *readiness.Facts) { f.Posture.SupportUntil = time.Time{} }},
	"H1": {func(f *readiness.Facts) { f.Stamps.Stamps[0].Processes = 1 }},
	"H4": {func(f *readiness.Facts) { f.Growth.Advice = []string{"room is scarce"} }},
	"B1": {
		func(f *readiness.Facts) { f.Backups.Late = []string{"control"} }, func(f *readiness.Facts) { f.Backups.OffHost = false }, func(f *readiness.Facts) { f.Backups.Configured = false },
		func(f *readiness.Facts) { f.Backups.Immutable = false }, func(f *readiness.Facts) { f.Backups.Encrypted = false },
	},
	"B2": {func(f *readiness.Facts) { f.Backups.DrillResult = "fail" }, func(f *readiness.Facts) { f.Backups.PassedAt = now.AddDate(0, 0, -8) }},
	"K1": {func(f *readiness.Facts) { f.Rollback.RehearsedAt = time.Time{} }},
	"K2": {func(f *readiness.Facts) { f.Rollback.Automatic = false }},
	"K3": {func(f *readiness.Facts) { f.Waivers.Owed = []string{"waiver-1"} }},
	"K4": {func(f *readiness.Facts) { f.Stopping.Freezes = 0 }},
	"L1": {func(f *readiness.Facts) { f.DataCare.Erasure = false }, func(f *readiness.Facts) { f.DataCare.Retention = false }, func(f *readiness.Facts) { f.DataCare.Classes = 0 }},
	"L2": {func(f *readiness.Facts) { f.AuditedJobs.Unsafe = []string{"job-1"} }},
	"L3": {func(f *readiness.Facts) { f.Tests[0].At = now.AddDate(-2, 0, 0) }},
	"M1": {func(f *readiness.Facts) { f.Expiries.Items[0].At = now.Add(-time.Hour) }},
	"M2": {func(f *readiness.Facts) { f.Incidents.Channel = "" }, func(f *readiness.Facts) { f.Incidents.Template = "" }},
}

var everybody = func() map[readiness.Topic]string {
	owners := map[readiness.Topic]string{}
	for _, t := range readiness.Topics {
		owners[t.Topic] = "mia"
	}
	return owners
}()

func resultOf(t *testing.T, v readiness.Verdict, id string) readiness.Result {
	t.Helper()
	i := slices.IndexFunc(v.Results, func(r readiness.Result) bool { return r.ID == id })
	if i < 0 {
		t.Fatalf("%s has no result", id)
	}
	return v.Results[i]
}

// TestEachPlantedFailureTurnsItsCheckRedAndItsRemedyGreen goes by the list of
// checks, so that one without a failure here fails.
func TestEachPlantedFailureTurnsItsCheckRedAndItsRemedyGreen(t *testing.T) {
	t.Parallel()
	for _, check := range readiness.All() {
		failures := plants[check.ID]
		if suite := exercises[check.ID]; suite != "" {
			failures = append(failures, func(f *readiness.Facts) {
				for i := range f.Tests {
					if f.Tests[i].Name == suite {
						f.Tests[i].Failed = 1
					}
				}
			})
		}
		if len(failures) == 0 {
			t.Errorf("no failure is planted for %s: %s", check.ID, check.Title)
		}
		for i, plant := range failures {
			before := resultOf(t, readiness.Concluded(now, sound(), nil, everybody), check.ID)
			if before.State != readiness.Green || len(before.Evidence) == 0 || before.At == nil {
				t.Fatalf("%s is %s before anything is wrong: %s, evidence %v", check.ID, before.State, before.Summary, before.Evidence)
			}
			facts := sound()
			plant(&facts)
			v := readiness.Concluded(now, facts, nil, everybody)
			planted := resultOf(t, v, check.ID)
			// A way back that nobody went, and a way of trying that nobody tried, is
			// no evidence rather than evidence against.
			if planted.State != readiness.Red && !(check.ID == "K1" && planted.State == readiness.Unknown) {
				t.Errorf("%s is %s with failure %d: %s", check.ID, planted.State, i, planted.Summary)
			}
			if planted.Do == "" || planted.Summary == before.Summary {
				t.Errorf("%s does not say what to do, or what is wrong: %q", check.ID, planted.Summary)
			}
			if check.Level == readiness.Blocks && v.Ready {
				t.Errorf("production is ready with %s %s", check.ID, planted.State)
			}
		}
	}
	for id := range plants {
		if _, known := readiness.Find(id); !known {
			t.Errorf("a failure is planted for %s, which is no check", id)
		}
	}
}

func TestNothingPassesWithoutEvidence(t *testing.T) {
	t.Parallel()
	v := readiness.Concluded(now, readiness.Facts{Environment: "production", At: now}, nil, nil)
	for _, r := range v.Results {
		if r.State.Passes() && r.ID != "L3" {
			t.Errorf("%s is %s of nothing: %s", r.ID, r.State, r.Summary)
		}
	}
	if v.Ready || v.Score > 5 {
		t.Errorf("of nothing it is ready: %v, score %d", v.Ready, v.Score)
	}
}

func TestEvidenceGrowsOld(t *testing.T) {
	t.Parallel()
	for _, check := range readiness.All() {
		r := resultOf(t, readiness.Judge(sound(), readiness.Evaluate(now.Add(check.Fresh+2*time.Minute), withLast(sound()), nil, everybody), everybody), check.ID)
		if r.State.Passes() {
			t.Errorf("%s is %s once its evidence is %s old: %s", check.ID, r.State, check.Fresh, r.Summary)
		}
		if r = resultOf(t, readiness.Concluded(now.Add(check.Fresh/2), sound(), nil, everybody), check.ID); r.State == readiness.Stale && check.ID != "M1" {
			t.Errorf("%s is stale after half its time: %s", check.ID, r.Summary)
		}
	}
}

// withLast adds what else follows from the results of others.
func withLast(f readiness.Facts) readiness.Facts {
	f.Plan, f.Compliance = &readiness.Plan{Owner: "mia", Items: 3}, &readiness.Covered{Frameworks: 6, Controls: 60, At: now}
	return f
}

func TestAnswersCountWhereThereIsNoEvidence(t *testing.T) {
	t.Parallel()
	answer := readiness.Answer{Environment: "production", Check: "S4", Applies: true, Owner: "mia", Reason: "tried by hand", Until: now.Add(time.Hour)}
	facts := sound()
	facts.Tests = nil
	for _, c := range []struct {
		what  string
		at    time.Time
		facts readiness.Facts
		say   func(*readiness.Answer)
		want  readiness.State
	}{
		{"no evidence", now, facts, func(*readiness.Answer) {}, readiness.Manual},
		{"it does not apply", now, facts, func(a *readiness.Answer) { a.Applies = false }, readiness.NotApplicable},
		{"the answer is over", now.Add(time.Hour), facts, func(*readiness.Answer) {}, readiness.Unknown},
		{"there is evidence", now, sound(), func(*readiness.Answer) {}, readiness.Green},
		{"there is evidence against it", now, func() readiness.Facts {
			f := sound()
			for i := range f.Tests {
				f.Tests[i].Failed = 1
			}
			return f
		}(), func(*readiness.Answer) {}, readiness.Red},
		{"the evidence is old", now.AddDate(1, 0, 0), sound(), func(a *readiness.Answer) { a.Until = now.AddDate(2, 0, 0) }, readiness.Manual},
	} {
		a := answer
		c.say(&a)
		if r := resultOf(t, readiness.Concluded(c.at, c.facts, []readiness.Answer{a}, everybody), "S4"); r.State != c.want || r.Answer == nil {
			t.Errorf("%s: %s, and not %s: %s", c.what, r.State, c.want, r.Summary)
		}
	}
}

func TestAWaiverIsSomethingToKnow(t *testing.T) {
	t.Parallel()
	facts := sound()
	facts.Current.Verified[0].Known, facts.Current.Waiver = false, "waiver-1"
	if r := resultOf(t, readiness.Concluded(now, facts, nil, everybody), "E3"); r.State != readiness.Amber {
		t.Errorf("%s: %s", r.State, r.Summary)
	}
}

func TestEverythingSoundIsReadyWithAFullScore(t *testing.T) {
	t.Parallel()
	v := readiness.Concluded(now, sound(), nil, everybody)
	if !v.Ready || v.Score != 100 || v.Summary != "ready" || len(v.Scorecards) != len(readiness.Topics) {
		t.Errorf("%+v", v)
	}
}

// TestRemediesAreDescribed finds each document that a check points to.
func TestRemediesAreDescribed(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range readiness.All() {
		if seen[c.ID] || c.Title == "" || c.Do == "" || c.Fresh <= 0 || !readiness.KnownTopic(c.Topic) {
			t.Errorf("%s stands twice, or lacks something: %+v", c.ID, c)
		}
		seen[c.ID] = true
		if _, err := os.Stat(filepath.Join("../../../docs", c.Doc)); err != nil || !strings.HasSuffix(c.Doc, ".md") {
			t.Errorf("%s: %v", c.ID, err)
		}
	}
}

// TestFrameworksAnswerToEveryCheck holds the mapping against the checks.
func TestFrameworksAnswerToEveryCheck(t *testing.T) {
	t.Parallel()
	results := readiness.Concluded(now, sound(), nil, everybody).Results
	mapped := map[string]bool{}
	for _, f := range readiness.Frameworks() {
		ids := map[string]bool{}
		for _, c := range f.Controls {
			if ids[c.ID] || c.Asks == "" {
				t.Errorf("%s %s stands twice, or asks nothing", f.ID, c.ID)
			}
			ids[c.ID] = true
			for _, id := range c.Checks {
				mapped[id] = true
				if _, known := readiness.Find(id); !known {
					t.Errorf("%s %s names %s, which is no check", f.ID, c.ID, id)
				}
			}
		}
		a := readiness.Assess(f, results)
		if a.Counts[readiness.NotMet] != 0 || a.Counts[readiness.Met] == 0 || a.Counts[readiness.Met]+a.Counts[readiness.Uncovered] != len(f.Controls) {
			t.Errorf("%s of sound facts: %v", f.ID, a.Counts)
		}
		none := readiness.Assess(f, readiness.Concluded(now, readiness.Facts{At: now}, nil, nil).Results)
		if none.Counts[readiness.Met] != 0 {
			t.Errorf("%s of no facts: %v", f.ID, none.Counts)
		}
	}
	for _, c := range readiness.All() {
		if !mapped[c.ID] {
			t.Errorf("no framework is mapped to %s", c.ID)
		}
	}
}
