package gate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/control/release"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/stamp/query"
)

var (
	ann = access.Actor{Name: "ann"}
	bob = access.Actor{Name: "bob"}
	v1  = link.Release{Name: "v1.4.0", Digest: strings.Repeat("ab", 32)}
)

// world is gates with what they ask, on a clock that tests set.
type world struct {
	*gate.Gates
	log        *audit.Log
	clock      time.Time
	components []release.Component
	answers    func(query string) []fleet.Answer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	guard, err := outbound.New([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{clock: now}
	w.log = audit.NewLog(db, func() time.Time { return w.clock })
	w.Gates = gate.New(gate.Options{
		DB: db, Audit: w.log, Now: func() time.Time { return w.clock }, Guard: guard,
		Query: func(_ context.Context, _, _ string, req link.RunQuery) ([]fleet.Answer, error) {
			return w.answers(req.Query), nil
		},
		Release: func(_ context.Context, name string) (link.Release, error) {
			if name != v1.Name {
				return link.Release{}, problem.New(problem.NotFound, "there is no release %q", name)
			}
			return v1, nil
		},
		Components: func(context.Context, string) ([]release.Component, error) { return w.components, nil },
	})
	err = db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO environment (name, spec, version, created_at, updated_at) VALUES ('test', '{}', 1, 0, 0)")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// audited reports whether the last entry of the log is of the actor and action.
func (w *world) audited(t *testing.T, actor access.Actor, action string) {
	t.Helper()
	entries, err := w.log.List(t.Context(), "test", audit.Filter{Limit: 1})
	if err != nil || len(entries) != 1 || entries[0].Actor != actor.Name || entries[0].Action != action {
		t.Errorf("the log ends with %+v, %v; want %s by %s", entries, err, action, actor.Name)
	}
}

func (w *world) verdict(t *testing.T, g resource.Gate, s gate.Subject, want gate.Verdict, reason string) gate.Result {
	t.Helper()
	g.Name = "g"
	r := w.Evaluate(t.Context(), w.clock, g, s)
	if r.Verdict != want || !strings.Contains(r.Reason, reason) {
		t.Errorf("%s: %s, not %s: %s", r.Kind, r.Verdict, want, r.Reason)
	}
	if r.Gate != "g" || r.Kind != g.Kind() || !r.At.Equal(w.clock) || r.Evaluator == "" {
		t.Errorf("not whole: %+v", r)
	}
	return r
}

func wants(t *testing.T, err error, kind problem.Kind) {
	t.Helper()
	if !problem.Is(err, kind) {
		t.Errorf("got %v, want a problem of kind %s", err, kind)
	}
}

func TestTestResults(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	s := gate.Subject{Release: v1, Environment: "staging"}
	unit := resource.Gate{Tests: &resource.TestsGate{Suites: []string{"unit", "integration"}, MaxAge: "7d", Environment: "test"}}
	add := func(environment, suite, report string) error {
		w.clock = w.clock.Add(time.Second)
		_, err := w.AddTests(ctx, bob, "v1.4.0", environment, suite, []gate.Report{{Name: "a.xml", Content: report}})
		return err
	}
	const good, bad = "<testsuite><testcase name='a'/></testsuite>", "<testsuite><testcase name='a'/><testcase name='b'><failure/></testcase></testsuite>"
	w.verdict(t, resource.Gate{Tests: &resource.TestsGate{}}, s, gate.Pending, "no test results")
	for _, err := range []error{add("test", "unit", bad), add("", "integration", good), add("test", "integration", good)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w.audited(t, bob, "test-results.upload")
	w.verdict(t, unit, s, gate.Fail, "1 of 2 tests of unit failed")
	if err := add("test", "unit", good); err != nil {
		t.Fatal(err)
	}
	w.verdict(t, unit, s, gate.Pass, "1 tests of unit ran and 0 failed")
	if err := add("test", "unit", "<testsuite/>"); err != nil {
		t.Fatal(err)
	}
	w.verdict(t, unit, s, gate.Fail, "only 0 tests of unit ran")
	if err := add("test", "unit", good); err != nil {
		t.Fatal(err)
	}
	w.clock = w.clock.Add(8 * 24 * time.Hour)
	w.verdict(t, unit, s, gate.Fail, "old")
	all, err := w.Tests(ctx, "v1.4.0")
	if err != nil || len(all) != 6 || all[0].Suite != "unit" || all[0].Summary.Tests != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	wants(t, add("nowhere", "unit", good), problem.NotFound)
	wants(t, add("test", "Unit Tests", good), problem.Invalid)
	wants(t, add("test", "unit", "nothing"), problem.Invalid)
	_, err = w.AddTests(ctx, bob, "v9", "test", "unit", []gate.Report{{Content: good}})
	wants(t, err, problem.NotFound)
	_, err = w.AddTests(ctx, bob, "v1.4.0", "test", "unit", nil)
	wants(t, err, problem.Invalid)
}

func TestApprovals(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	s, g := gate.Subject{Promotion: "p1", Requester: "ann"}, resource.Gate{Approvals: &resource.ApprovalsGate{}}
	wants(t, w.Approve(ctx, ann, s, "fine"), problem.Denied)
	wants(t, w.Approve(ctx, bob, s, " "), problem.Invalid)
	wants(t, w.Withdraw(ctx, bob, "p1"), problem.NotFound)
	w.verdict(t, g, s, gate.Pending, "anybody but ann")
	for _, step := range []struct {
		do     func() error
		action string
		want   gate.Verdict
	}{
		{func() error { return w.Approve(ctx, bob, s, "fine") }, "promotion.approve", gate.Pass},
		{func() error { return w.Reject(ctx, bob, s, "it leaks") }, "promotion.reject", gate.Fail},
		{func() error { return w.Withdraw(ctx, bob, "p1") }, "promotion.withdraw", gate.Pending},
		{func() error { return w.Approve(ctx, bob, s, "it does not") }, "promotion.approve", gate.Pass},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		w.audited(t, bob, step.action)
		w.verdict(t, g, s, step.want, "")
	}
	said, err := w.Approvals(ctx, "p1")
	if err != nil || len(said) != 3 || said[0].WithdrawnAt == nil || said[2].WithdrawnAt != nil || said[2].Reason != "it does not" {
		t.Errorf("%+v, %v", said, err)
	}
	w.verdict(t, g, gate.Subject{Promotion: "p2", Requester: "ann"}, gate.Pending, "0 of 1")
}

func TestHistoryKeepsEveryChange(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	keep := func(verdict gate.Verdict, n int) {
		for range n {
			w.clock = w.clock.Add(time.Second)
			r := gate.Result{Gate: "g", Kind: "tests", Verdict: verdict, Reason: strings.Repeat("r", 3000), At: w.clock, Samples: 1, Evidence: json.RawMessage(`"` + strings.Repeat("e", 70_000) + `"`)}
			if err := w.Keep(ctx, "p1", []gate.Result{r, {Gate: "other", Verdict: gate.Pass, At: w.clock}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	keep(gate.Pending, 30)
	keep(gate.Fail, 1)
	keep(gate.Pass, 40)
	all, err := w.History(ctx, "p1")
	if err != nil {
		t.Fatal(err)
	}
	of := map[string][]gate.Verdict{}
	for _, r := range all {
		of[r.Gate] = append(of[r.Gate], r.Verdict)
		if len(r.Evidence) > 1000 || len(r.Reason) > 2100 {
			t.Errorf("%d bytes of evidence and %d of reason were kept", len(r.Evidence), len(r.Reason))
		}
	}
	changes := slices.Compact(slices.Clone(of["g"]))
	if !slices.Equal(changes, []gate.Verdict{gate.Pending, gate.Fail, gate.Pass}) || len(of["g"]) != 3+20 || len(of["other"]) != 1+20 {
		t.Errorf("kept %v", of)
	}
	last, err := w.Latest(ctx, "p1")
	if err != nil || len(last) != 2 || last[0].Verdict != gate.Pass || !last[0].At.Equal(w.clock) {
		t.Errorf("%+v, %v", last, err)
	}
}

func TestJudgeKeepsWhatItFinds(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	gates := []resource.Gate{{Name: "soaked", Key: true, Soak: &resource.SoakGate{For: "1h"}}, {Name: "agreed", Approvals: &resource.ApprovalsGate{}}}
	verified := now.Add(-2 * time.Hour)
	results, err := w.Judge(ctx, now, gates, gate.Subject{Promotion: "p1", Upstream: "test", VerifiedAt: &verified, Ran: []gate.Stretch{{From: verified, Healthy: true}}})
	if err != nil || len(results) != 2 || results[0].Gate != "soaked" || results[0].Verdict != gate.Pass || results[1].Verdict != gate.Pending {
		t.Fatalf("%+v, %v", results, err)
	}
	if verdict, reasons := gate.Combine(results, false); verdict != gate.Warn || len(reasons) != 1 {
		t.Errorf("%s %v", verdict, reasons)
	}
	kept, err := w.Latest(ctx, "p1")
	if err != nil || len(kept) != 2 || kept[1].Value == nil || *kept[1].Value != 7200 || !kept[1].Key {
		t.Errorf("%+v, %v", kept, err)
	}
}

func TestHalts(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	_, err := w.Halt(ctx, ann, gate.Halt{Reason: "r", Environment: "nowhere"}, 0)
	wants(t, err, problem.NotFound)
	_, err = w.Halt(ctx, ann, gate.Halt{}, 0)
	wants(t, err, problem.Invalid)
	_, err = w.Halt(ctx, ann, gate.Halt{Reason: "r", Exempt: []string{"me"}}, 0)
	wants(t, err, problem.Invalid)
	all, err := w.Halt(ctx, ann, gate.Halt{Reason: "an incident", Exempt: []string{"rollback"}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.audited(t, ann, "halt")
	w.clock = w.clock.Add(time.Second)
	one, err := w.Halt(ctx, bob, gate.Halt{Reason: "a patch", Environment: "test"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	on := func(environment string, want ...string) {
		t.Helper()
		halts, err := w.Halts(ctx, environment)
		var ids []string
		for _, h := range halts {
			ids = append(ids, h.ID)
		}
		if err != nil || !slices.Equal(ids, want) {
			t.Errorf("%q: %v, %v; want %v", environment, ids, err, want)
		}
	}
	on("test", all.ID, one.ID)
	on("production", all.ID)
	on("", all.ID, one.ID)
	halts, err := w.Halts(ctx, "production")
	if err != nil || gate.Open(w.clock, nil, halts, resource.WorkRelease).Open || !gate.Open(w.clock, nil, halts, resource.WorkRollback).Open {
		t.Errorf("%+v, %v", halts, err)
	}
	w.clock = w.clock.Add(2 * time.Hour)
	on("test", all.ID)
	_, err = w.Lift(ctx, bob, one.ID, "over")
	wants(t, err, problem.Conflict)
	_, err = w.Lift(ctx, bob, "h-none", "over")
	wants(t, err, problem.NotFound)
	if lifted, err := w.Lift(ctx, bob, all.ID, "over"); err != nil || lifted.LiftedBy != "bob" {
		t.Errorf("%+v, %v", lifted, err)
	}
	w.audited(t, bob, "halt.lift")
	on("test")
	if past, err := w.PastHalts(ctx); err != nil || len(past) != 2 || past[0].ID != one.ID || past[1].LiftedAt == nil {
		t.Errorf("%+v, %v", past, err)
	}
}

func TestDevicesGate(t *testing.T) {
	w := newWorld(t)
	s := gate.Subject{Environment: "staging", Upstream: "test"}
	g := resource.Gate{Devices: &resource.DevicesGate{Where: "tags.canary = true", Must: "properties.reported.selfTest = 'ok'", AtLeast: 3, Share: 0.9}}
	row := func(n int) []json.RawMessage { return []json.RawMessage{json.RawMessage(fmt.Sprintf(`{"n":%d}`, n))} }
	var counts [2][]int // of each stamp: asked about, holding
	w.answers = func(text string) (all []fleet.Answer) {
		if _, err := query.ParseStatement(text); err != nil {
			t.Errorf("no stamp understands %s: %v", text, err)
		}
		i := 0
		if strings.Contains(text, "selfTest") {
			if want := "WHERE (tags.canary = true) AND (properties.reported.selfTest = 'ok')"; !strings.HasSuffix(text, want) {
				t.Errorf("asked %s", text)
			}
			i = 1
		}
		for stamp, n := range counts[i] {
			all = append(all, fleet.Answer{Stamp: fmt.Sprintf("test-%d", stamp), Rows: link.Rows{Items: row(n)}})
		}
		return all
	}
	for _, c := range []struct {
		asked, hold []int
		want        gate.Verdict
		reason      string
	}{
		{[]int{0, 0}, []int{0, 0}, gate.Inconclusive, "no device"},
		{nil, nil, gate.Inconclusive, "no device"},
		{[]int{2, 0}, []int{2, 0}, gate.Pending, "and must for 3"},
		{[]int{5, 5}, []int{5, 4}, gate.Pass, "9 of 10 devices in test"},
		{[]int{5, 5}, []int{5, 3}, gate.Fail, "8 of 10"},
	} {
		counts = [2][]int{c.asked, c.hold}
		w.verdict(t, g, s, c.want, c.reason)
	}
	w.answers = func(string) []fleet.Answer {
		return []fleet.Answer{{Stamp: "a", Rows: link.Rows{Items: row(9)}}, {Stamp: "b", Problem: "it is away"}}
	}
	w.verdict(t, g, s, gate.Error, "stamp b did not answer")
	w.answers = func(string) []fleet.Answer {
		return []fleet.Answer{{Stamp: "a", Rows: link.Rows{Items: []json.RawMessage{[]byte(`{"n":"many"}`)}}}}
	}
	w.verdict(t, g, s, gate.Error, "no count")
}

func TestWebhookGate(t *testing.T) {
	w := newWorld(t)
	reply := func(http.ResponseWriter) {}
	var question gate.Question
	var signed [4]string
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(body, &question)
		}
		if err != nil {
			t.Error(err)
		}
		signed = [4]string{r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp"), r.Header.Get("Webhook-Signature"), string(body)}
		reply(rw)
	}))
	defer server.Close()
	g := resource.Gate{Webhook: &resource.WebhookGate{URL: server.URL, Timeout: "1s"}}
	s := gate.Subject{Release: v1, Environment: "staging", Promotion: "p1", Requester: "ann"}
	says := func(status int, text string) {
		reply = func(rw http.ResponseWriter) {
			rw.WriteHeader(status)
			if _, err := io.WriteString(rw, text); err != nil {
				t.Error(err)
			}
		}
	}
	for _, c := range []struct {
		status int
		text   string
		want   gate.Verdict
		reason string
	}{
		{200, `{"verdict":"pass","reason":"QA is fine"}`, gate.Pass, "QA is fine"},
		{200, `{"verdict":"fail","reason":"QA is not"}`, gate.Fail, "QA is not"},
		{200, `{"verdict":"pending"}`, gate.Pending, "no reason"},
		{200, `{"verdict":"waived"}`, gate.Error, "without a verdict"},
		{200, `<html>log in</html>`, gate.Error, "without a verdict"},
		{204, ``, gate.Error, "without a verdict"},
		{500, `{"verdict":"pass"}`, gate.Error, "answered 500"},
		{302, `{"verdict":"pass"}`, gate.Error, "answered 302"},
		{200, `{"verdict":"pass"}` + strings.Repeat(" ", 70_000), gate.Error, "more than"},
	} {
		says(c.status, c.text)
		w.verdict(t, g, s, c.want, c.reason)
	}
	if question.Digest != v1.Digest || question.Promotion != "p1" || question.Requester != "ann" {
		t.Errorf("asked %+v", question)
	}
	checkSignature(t, w, signed)
	answered := make(chan struct{})
	reply = func(http.ResponseWriter) { <-answered }
	w.verdict(t, g, s, gate.Error, "did not answer")
	close(answered)
	guard, err := outbound.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	o := w.Options
	o.Guard = guard
	w.Gates = gate.New(o)
	w.verdict(t, g, s, gate.Error, "not a public address")
}

func TestSBOMGate(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	shipped := v1
	shipped.Spec.SBOM = []link.Artifact{{File: "bom.json"}}
	s, g := gate.Subject{Release: shipped}, resource.Gate{SBOM: &resource.SBOMGate{Deadline: "30d"}}
	upload := func(list string) {
		t.Helper()
		if _, err := w.AddVulnerabilities(ctx, bob, []byte(list)); err != nil {
			t.Fatal(err)
		}
		w.audited(t, bob, "vulnerabilities.upload")
	}
	w.verdict(t, g, gate.Subject{Release: v1}, gate.Fail, "no bill of materials")
	w.verdict(t, g, s, gate.Fail, "lists nothing")
	w.components = []release.Component{{Name: "openssl", Version: "3.0.1", PURL: "pkg:generic/openssl@3.0.1"}, {Name: "yaml", Version: "1.2.0", PURL: "pkg:golang/example.com/yaml@v1.2.0"}}
	w.verdict(t, g, s, gate.Inconclusive, "no vulnerabilities were uploaded")
	const old = `{"id":"GO-1","summary":"crash","published":"2026-01-01T00:00:00Z","database_specific":{"severity":"HIGH"},
		"affected":[{"package":{"ecosystem":"Go","name":"example.com/yaml"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"%s"}]}]}]}`
	upload(fmt.Sprintf(old, "1.1.0"))
	w.verdict(t, g, s, gate.Pass, "no known vulnerability in 2 components")
	upload("[" + fmt.Sprintf(old, "1.3.0") + "]")
	w.verdict(t, g, s, gate.Fail, "GO-1 in yaml 1.2.0 (high)")
	w.verdict(t, resource.Gate{SBOM: &resource.SBOMGate{Severity: "critical"}}, s, gate.Pass, "")
	w.verdict(t, resource.Gate{SBOM: &resource.SBOMGate{Deadline: "365d"}}, s, gate.Warn, "within their deadline")
	upload(`{"vulns":[{"id":"GO-1","withdrawn":"2026-11-01T00:00:00Z"},{"id":"X-2","affected":[{"package":{"purl":"pkg:generic/openssl"},"versions":["3.0.1"]}]}]}`)
	r := w.verdict(t, g, s, gate.Warn, "X-2 in openssl")
	if r.Next == nil || !r.Next.Equal(now.Add(30*24*time.Hour)) || *r.Value != 1 {
		t.Errorf("%+v", r)
	}
	// Uploading it again does not begin its deadline anew.
	w.clock = now.Add(29 * 24 * time.Hour)
	w.verdict(t, g, s, gate.Inconclusive, "last uploaded")
	upload(`[{"id":"X-2","affected":[{"package":{"purl":"pkg:generic/openssl"},"versions":["3.0.1"]}]}]`)
	w.clock = now.Add(31 * 24 * time.Hour)
	w.verdict(t, g, s, gate.Fail, "X-2 in openssl 3.0.1 (unrated)")
	if found, err := w.Vulnerable(ctx, shipped.Name); err != nil || len(found) != 1 || found[0].ID != "X-2" || found[0].Component.Name != "openssl" || !found[0].Due.IsZero() {
		t.Errorf("%+v, %v", found, err)
	}
	w.components = append(w.components[1:], release.Component{Name: "vendored"})
	w.verdict(t, g, s, gate.Warn, "1 have no package URL")
	if all, err := w.Vulnerabilities(ctx, "", 10); err != nil || len(all) != 1 || all[0].ID != "X-2" || !all[0].KnownAt.Equal(now) {
		t.Errorf("%+v, %v", all, err)
	}
	for _, list := range []string{"", "[]", "{}", `[{"id":""}]`, `[{"id":"a","affected":7}]`} {
		_, err := w.AddVulnerabilities(ctx, bob, []byte(list))
		wants(t, err, problem.Invalid)
	}
}

// TestSourcesThatFailAreNoSuccess takes away what each kind of gate asks.
func TestSourcesThatFailAreNoSuccess(t *testing.T) {
	w := newWorld(t)
	o := w.Options
	away := problem.New(problem.NotReady, "it is away")
	o.Query = func(context.Context, string, string, link.RunQuery) ([]fleet.Answer, error) { return nil, away }
	o.Components = func(context.Context, string) ([]release.Component, error) { return nil, away }
	o.Prometheus = "http://127.0.0.1:1"
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	o.DB = db
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	w.Gates = gate.New(o)
	s := gate.Subject{Release: v1, Environment: "staging", Upstream: "test", Promotion: "p"}
	s.Release.Spec.SBOM = []link.Artifact{{File: "bom.json"}}
	for _, g := range []resource.Gate{
		{Tests: &resource.TestsGate{}}, {Approvals: &resource.ApprovalsGate{}}, {Devices: &resource.DevicesGate{Must: "x = 1"}}, {SBOM: &resource.SBOMGate{}},
		{PromQL: &resource.PromQLGate{Query: "up", Min: ptr(0.0), OnNoData: resource.NoDataPass}},
		{SLO: &resource.SLOGate{Objective: 0.9, Good: "g[{{window}}]", Total: "t[{{window}}]", OnNoData: resource.NoDataPass}},
		{Webhook: &resource.WebhookGate{URL: "http://127.0.0.1:1"}}, {},
	} {
		w.verdict(t, g, s, gate.Error, "")
	}
}
