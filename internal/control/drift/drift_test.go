package drift_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/drift"
	"github.com/slipway/slipway/internal/control/environment"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

// world is an installation of two environments with a stamp each, in which
// things can be otherwise than declared.
type world struct {
	*drift.Drift
	t         *testing.T
	now       time.Time
	db        *sqldb.DB
	log       *audit.Log
	held      map[string]link.Held
	away      map[string]bool
	directory link.Directory
	groups    []link.Enrollment
	wanted    []link.Route
	twins     []string
	asked     int
}

func (w *world) List(context.Context) ([]resource.Environment, error) {
	return []resource.Environment{{Metadata: resource.Metadata{Name: "staging"}}, {Metadata: resource.Metadata{Name: "live"}, Spec: resource.EnvironmentSpec{PromotesFrom: "staging"}}}, nil
}

func (w *world) Stamps(context.Context) ([]resource.Stamp, error) {
	return []resource.Stamp{
		{Metadata: resource.Metadata{Name: "staging-1"}, Spec: resource.StampSpec{Environment: "staging", Region: "eu", Capacity: 10}},
		{Metadata: resource.Metadata{Name: "live-1"}, Spec: resource.StampSpec{Environment: "live", Region: "us", Capacity: 20}},
	}, nil
}

func (w *world) Template(context.Context, string) (resource.Derived, bool, error) {
	return resource.Derived{}, false, nil
}
func (w *world) LinkedRoutes(context.Context, string) ([]link.Route, error) { return nil, nil }
func (w *world) Wanted(_ context.Context, stamp string) (link.Routes, error) {
	if stamp == "live-1" {
		return link.Routes{Routes: w.wanted}, nil
	}
	return link.Routes{}, nil
}
func (w *world) Directory(context.Context) (link.Directory, error) {
	return link.Directory{Environments: []link.Environment{{Name: "staging"}, {Name: "live", PromotesFrom: "staging"}}}, nil
}
func (w *world) Derivation(context.Context, string) (environment.Derivation, error) {
	return environment.Derivation{}, nil
}
func (w *world) Observed(string) (link.Observed, bool) {
	return link.Observed{Version: "1", At: w.now}, true
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
	w := &world{t: t, now: noon, db: db, held: map[string]link.Held{}, away: map[string]bool{}}
	if w.log, err = audit.Open(t.Context(), db, make([]byte, 32), func() time.Time { return w.now }); err != nil {
		t.Fatal(err)
	}
	w.directory, _ = w.Directory(t.Context())
	w.Drift = drift.New(w.options())
	return w
}

func (w *world) options() drift.Options {
	return drift.Options{
		DB: w.db, Audit: w.log, Fleet: w, Version: "1", Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now },
		Running:        func(context.Context) ([]drift.Running, error) { return nil, nil },
		Flags:          func(context.Context) (map[string]string, error) { return map[string]string{}, nil },
		FlagsOf:        func(context.Context, string) (any, error) { return nil, nil },
		Enrollments:    func(context.Context) ([]link.Enrollment, error) { return w.groups, nil },
		Configurations: func(context.Context, string) ([]link.HeldConfiguration, error) { return nil, nil },
		HeldDirectory:  func(context.Context) (link.Directory, error) { return w.directory, nil },
		Held: func(_ context.Context, stamp string) (link.Held, error) {
			if w.away[stamp] {
				return link.Held{}, problem.New(problem.NotReady, "it does not answer")
			}
			return w.held[stamp], nil
		},
		Sample: func(_ context.Context, stamp, after string) (page link.Rows, err error) {
			if stamp != "live-1" {
				return page, nil
			}
			w.asked++
			var from int
			if after != "" {
				if _, err := fmt.Sscan(after, &from); err != nil {
					return page, err
				}
			}
			for _, twin := range w.twins[from:min(from+2, len(w.twins))] {
				page.Items = append(page.Items, json.RawMessage(twin))
			}
			if from+2 < len(w.twins) {
				page.Next = fmt.Sprint(from + 2)
			}
			return page, nil
		},
	}
}

// look looks, and once more when the grace is over.
func (w *world) look() []drift.Finding {
	w.t.Helper()
	for range 2 {
		if err := w.Look(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		w.now = w.now.Add(30 * time.Second)
	}
	if err := w.Look(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return w.Findings("").Findings
}

func (w *world) expect(what string, want ...string) {
	w.t.Helper()
	var have []string
	for _, f := range w.look() {
		have = append(have, string(f.Class)+" "+f.Object)
	}
	slices.Sort(have)
	if strings.Join(have, ", ") != strings.Join(want, ", ") {
		w.t.Errorf("%s: %q, and not %q", what, have, want)
	}
}

func hook(secret string) link.RouteSpec {
	return link.RouteSpec{Source: "telemetry", Endpoint: link.Endpoint{Webhook: &link.Webhook{URL: "https://example.com", Secret: secret}}}
}

// Each thing that may be otherwise is made so, is found within a minute, and
// gone when it is as declared again.
func TestWhatIsOtherwiseIsFoundAndGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expect("in order")
	w.wanted = []link.Route{{Name: "out", Spec: hook("whsec_a")}}
	w.expect("a route that did not arrive", "missing route/out on live-1")
	w.held["live-1"] = link.Held{Routes: []link.Route{{Name: "out", Spec: drift.Digested(hook("whsec_b"))}}}
	w.expect("another secret", "changed route/out on live-1")
	if f := w.Findings("live").Findings; strings.Contains(string(f[0].Declared)+string(f[0].Live)+f[0].Text, "whsec_a") {
		t.Errorf("a secret is shown: %+v", f)
	}
	w.held["live-1"] = link.Held{Routes: []link.Route{{Name: "out", Spec: drift.Digested(hook("whsec_a"))}}}
	w.expect("as declared again")
	w.held["staging-1"] = link.Held{Routes: []link.Route{{Name: "left", Spec: hook("")}}, Tenants: []link.Tenant{{Name: "acme"}}, Base: "v1"}
	w.expect("what nothing declares", "changed release on staging-1", "unmanaged route/left on staging-1", "unmanaged tenant/acme on staging-1")
	w.held["staging-1"] = link.Held{}
	w.directory.Environments[1].PromotesFrom = ""
	w.expect("provisioning knows another path", "missing environment/live at provisioning")
	w.directory, _ = w.Directory(t.Context())
	w.away["live-1"] = true
	w.now = w.now.Add(time.Hour)
	w.expect("a stamp that says nothing", "stale stamp/live-1")
	if counts, at := w.Open(); len(counts) != 1 || counts[0] != (drift.Count{Environment: "live", Class: drift.Stale, Count: 1}) || at != w.now {
		t.Errorf("open: %+v", counts)
	}
	w.away["live-1"] = false
	w.expect("it answers")
}

// Enrolments are held against what was declared through control.
func TestEnrolmentsChangedBehindControl(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group := link.Enrollment{Kind: link.Group, Name: "g", Spec: link.EnrollmentSpec{Environment: "live", Reprovision: "migrate", Attestation: link.Attestation{SymmetricKey: &link.SymmetricKey{PrimaryKey: "a2V5"}}}}
	declare := func(spec *link.EnrollmentSpec) {
		err := w.db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			return drift.Declare(ctx, tx, link.Group, "g", spec, w.now)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	old := group
	old.Name = "old"
	w.groups = []link.Enrollment{old}
	w.expect("one that was there before anybody looked")
	w.groups = []link.Enrollment{old, group}
	w.expect("made by a back end", "unmanaged enrolment group/g")
	declare(&group.Spec)
	w.expect("declared")
	other := group
	other.Spec.Attestation.SymmetricKey = &link.SymmetricKey{PrimaryKey: "b3RoZXI="}
	w.groups = []link.Enrollment{old, other}
	w.expect("another key", "changed enrolment group/g")
	w.groups = []link.Enrollment{old}
	w.expect("gone", "missing enrolment group/g")
	declare(nil)
	w.expect("deleted through control")
}

// Acceptances are kept and recorded, and survive a restart; so does when a
// difference was first seen.
func TestPeopleAnswerForDifferences(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := access.Actor{Name: "ann"}
	w.held["live-1"] = link.Held{Base: "v9"}
	found := w.look()
	if len(found) != 1 {
		t.Fatalf("%+v", found)
	}
	for name, of := range map[string]drift.AcceptOf{
		"nobody": {Reason: "r", For: time.Hour}, "no reason": {Owner: "ann", For: time.Hour}, "for ever": {Owner: "ann", Reason: "r", For: 400 * 24 * time.Hour},
	} {
		if _, err := w.Accept(t.Context(), ann, found[0].ID, "live", of); !problem.Is(err, problem.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	of := drift.AcceptOf{Owner: "ann", Reason: "a trial", For: time.Hour}
	if _, err := w.Accept(t.Context(), ann, found[0].ID, "staging", of); !problem.Is(err, problem.Invalid) {
		t.Errorf("as another environment's: %v", err)
	}
	if _, err := w.Accept(t.Context(), ann, "none", "live", of); !problem.Is(err, problem.NotFound) {
		t.Errorf("what is not there: %v", err)
	}
	a, err := w.Accept(t.Context(), ann, found[0].ID, "live", of)
	if err != nil || w.Findings("live").Findings[0].Class != drift.Accepted {
		t.Fatalf("%v: %+v", err, w.Findings("live"))
	}
	w.expect("accepted", "accepted release on live-1")
	w.now = w.now.Add(2 * time.Hour)
	w.expect("its time is over", "changed release on live-1")
	if err := w.Retract(t.Context(), ann, a.ID); err != nil {
		t.Fatal(err)
	}
	if err := w.Retract(t.Context(), ann, a.ID); !problem.Is(err, problem.NotFound) {
		t.Errorf("twice: %v", err)
	}
	entries, err := w.log.List(t.Context(), "test", audit.Filter{})
	actions := map[string]int{}
	for _, e := range entries {
		actions[e.Action]++
	}
	if err != nil || actions["drift.accept"] != 1 || actions["drift.retract"] != 1 {
		t.Errorf("audit: %v %v", actions, err)
	}
	before := w.Findings("").Findings[0].Since
	w.Drift = drift.New(w.options()) // another process
	ctx, cancel := context.WithCancel(t.Context())
	running := make(chan error)
	go func() { running <- w.Run(ctx) }()
	for deadline := time.Now().Add(time.Minute); w.Findings("").At != w.now && time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
	}
	cancel()
	if err := <-running; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if f := w.Findings("").Findings; len(f) != 1 || f[0].Since != before {
		t.Errorf("after a restart it is first seen %v, not %v", f, before)
	}
}

// Scores of neighbours are written down when they change, and can be answered
// for place by place.
func TestParityOfNeighboursIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expect("in order")
	r, err := w.Parity(t.Context(), "staging", "live")
	if err != nil || r.Score >= 1 || len(r.Unexplained()) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, item := range r.Unexplained() {
		if _, err := w.AcceptParity(t.Context(), access.Actor{Name: "ann"}, "staging", "live", item.Path, drift.AcceptOf{Owner: "ann", Reason: "r", For: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	w.look()
	if s, known, err := w.NewestParity(t.Context(), "staging", "live"); err != nil || !known || s.Score != 1 || s.Unexplained != 0 {
		t.Errorf("newest %+v, %v", s, err)
	}
	if all, err := w.Scores(t.Context(), "staging", "live", 10); err != nil || len(all) != 2 {
		t.Errorf("history %+v, %v", all, err)
	}
	if newest, known := w.Newest("staging"); !known || newest.To != "live" || newest.Score != 1 {
		t.Errorf("newest of staging: %+v", newest)
	}
	if _, err := w.Parity(t.Context(), "staging", "mars"); !problem.Is(err, problem.NotFound) {
		t.Errorf("with none: %v", err)
	}
}

// Twins are read a page at each look, and counted by model over whole passes.
func TestTwinsAreCountedAPageAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const twin = `{"deviceId":"d%d","modelId":"m%d","connectionState":"%s","properties":{"desired":{"every":"60s","net":{"a":1},"slipway":{"order":1},"$metadata":{"$lastUpdated":"2026-11-01T00:00:00Z"}},"reported":%s}}`
	for i, c := range []struct {
		model    int
		state    string
		reported string
	}{
		{1, "Connected", `{"every":"1m","net":{"a":1,"b":2}}`}, {1, "Connected", `{"every":"5m","net":{"a":1}}`}, {1, "Disconnected", `{"every":"5m","net":{"a":1}}`},
		{2, "Connected", `{"every":"60s"}`}, {2, "Connected", `{"every":"60s","net":{"a":2}}`},
	} {
		w.twins = append(w.twins, fmt.Sprintf(twin, i, c.model, c.state, c.reported))
	}
	w.look() // a pass
	w.expect("and another", "changed twins of m1 on live-1", "changed twins of m2 on live-1")
	all := w.Devices("live")
	if len(all) != 2 || w.asked != 6 {
		t.Fatalf("%+v after %d pages", all, w.asked)
	}
	if r := all[0]; r.Looked != 3 || r.Same != 1 || r.Changed != 1 || r.Pending != 1 || !r.Whole || r.Paths["every"] != 1 {
		t.Errorf("m1: %+v", r)
	}
	if r := all[1]; r.Looked != 2 || r.Changed != 1 || r.Missing != 1 || r.Paths["net"] != 1 {
		t.Errorf("m2: %+v", r)
	}
}
