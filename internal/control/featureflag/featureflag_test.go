package featureflag_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/featureflag"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

var ann = access.Actor{Name: "ann"}

// world is flags over two environments whose stamps run what a test says.
type world struct {
	*featureflag.Flags
	log      *audit.Log
	clock    time.Time
	running  []featureflag.Running
	releases map[string]string // documents of flags by release

	mu   sync.Mutex
	sent map[string]link.Flags
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
	w := &world{clock: time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC), releases: map[string]string{}, sent: map[string]link.Flags{}}
	w.log = audit.NewLog(db, func() time.Time { return w.clock })
	environments := []string{"staging", "production"}
	for _, name := range environments {
		if err := db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO environment (name, spec, version, created_at, updated_at) VALUES (?, '{}', 1, 0, 0)", name)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	w.Flags = featureflag.New(featureflag.Options{
		DB: db, Audit: w.log, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.clock },
		Environments: func(context.Context) (all []resource.Environment, err error) {
			for _, name := range environments {
				all = append(all, resource.Environment{Metadata: resource.Metadata{Name: name}})
			}
			return all, nil
		},
		Running: func(context.Context) ([]featureflag.Running, error) { return w.running, nil },
		Release: func(_ context.Context, name string) (link.Release, error) {
			return link.Release{Name: name, Spec: link.ReleaseSpec{Flags: json.RawMessage(w.releases[name])}}, nil
		},
		Put: func(_ context.Context, stamp string, flags link.Flags) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.sent[stamp] = flags
			return nil
		},
	})
	w.look(t)
	return w
}

func (w *world) look(t testing.TB) {
	t.Helper()
	if err := w.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// gets is what somebody gets, as "variant reason".
func (w *world) gets(t testing.TB, scope featureflag.Scope, key string) string {
	t.Helper()
	s, err := w.Of(scope)
	if err != nil {
		t.Fatal(err)
	}
	r := w.Evaluate(s, key, map[string]any{"targetingKey": "x"})
	return r.Variant + " " + r.Reason + r.ErrorCode
}

const switchOf = `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","metadata":{"owner":"ann"}}`

func declare(t *testing.T, w *world, key, text string) {
	t.Helper()
	var spec flag.Flag
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Put(t.Context(), ann, key, spec, "", false); err != nil {
		t.Fatal(err)
	}
}

var (
	staging    = featureflag.Scope{Environment: "staging"}
	production = featureflag.Scope{Environment: "production"}
)

// A release's flags come with it to each stamp, to the environment with its
// last ring, and go back with it; what people said stays.
func TestFlagsFollowReleases(t *testing.T) {
	w := newWorld(t)
	w.releases["v1"] = `{"flags":{"fast":` + switchOf + `}}`
	w.releases["v2"] = `{"flags":{"fast":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on"},"new":` + switchOf + `}}`
	w.running = []featureflag.Running{{"production", "canary", 0, "v1"}, {"production", "rest", 1, "v1"}}
	w.look(t)
	version := func() string {
		s, err := w.Of(production)
		if err != nil {
			t.Fatal(err)
		}
		return s.Version
	}
	first := version()
	w.running[0].Release = "v2"
	w.look(t)
	canary := featureflag.Scope{Environment: "production", Stamp: "canary"}
	if got := w.gets(t, canary, "fast") + ", " + w.gets(t, production, "fast"); got != "on STATIC, off STATIC" {
		t.Error(got)
	}
	if version() != first {
		t.Error("the environment has changed with its canary")
	}
	w.running[1].Release = "v2"
	w.look(t)
	if got := w.gets(t, production, "fast") + ", " + w.gets(t, production, "new"); got != "on STATIC, off STATIC" {
		t.Error(got)
	}
	if _, err := w.Kill(t.Context(), ann, "production", "fast", "", "it loses orders"); err != nil {
		t.Fatal(err)
	}
	w.running[0].Release, w.running[1].Release = "v1", "v1"
	w.look(t)
	if got := w.gets(t, production, "fast") + ", " + w.gets(t, production, "new"); got != "off STATIC,  FLAG_NOT_FOUND" {
		t.Error(got)
	}
	if _, err := w.Revive(t.Context(), ann, "production", "fast", "mended"); err != nil {
		t.Fatal(err)
	}
	if version() == first {
		t.Error("an overlay, even an empty one, is part of the version")
	}
	entries, err := w.log.List(t.Context(), "auditor", audit.Filter{Limit: 10})
	if err != nil || len(entries) != 2 || entries[0].Action != "flag.revive" || entries[1].Object != "flag/fast" {
		t.Errorf("%+v, %v", entries, err)
	}
}

func TestAKillSwitchIsAtOnceAndKeepsTheRest(t *testing.T) {
	w := newWorld(t)
	declare(t, w, "mode", `{"state":"ENABLED","variants":{"eager":"e","lazy":"l"},"defaultVariant":"lazy","targeting":{"if":[true,"eager"]}}`)
	if _, err := w.Kill(t.Context(), ann, "production", "mode", "", "why"); !problem.Is(err, problem.Invalid) || problem.Of(err).Field != "variant" {
		t.Errorf("no variant is off, and %v", err)
	}
	changed := w.Changed.Next()
	if _, err := w.Kill(t.Context(), ann, "production", "mode", "lazy", "why"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("it was answered before it came into effect")
	}
	if got := w.gets(t, production, "mode") + ", " + w.gets(t, staging, "mode"); got != "lazy STATIC, eager TARGETING_MATCH" {
		t.Error(got)
	}
	// Other changes leave the switch where it is.
	if _, err := w.Set(t.Context(), ann, featureflag.Edit{Environment: "production", Flag: "mode", Overlay: flag.Overlay{State: flag.Enabled}, Reason: "again"}); err != nil {
		t.Fatal(err)
	}
	if got := w.gets(t, production, "mode"); got != "lazy STATIC" {
		t.Error(got)
	}
	if _, err := w.Revive(t.Context(), ann, "production", "mode", "mended"); err != nil {
		t.Fatal(err)
	}
	if got := w.gets(t, production, "mode"); got != "eager TARGETING_MATCH" {
		t.Error(got)
	}
	if _, err := w.Revive(t.Context(), ann, "production", "mode", "mended"); !problem.Is(err, problem.Conflict) {
		t.Error(err)
	}
	history, err := w.History(t.Context(), "mode", 10)
	if err != nil || len(history) != 3 || history[0].Before.Killed != "lazy" || history[0].After.Killed != "" {
		t.Errorf("%+v, %v", history, err)
	}
}

func TestWhatIsSaidOfFlagsIsChecked(t *testing.T) {
	w := newWorld(t)
	declare(t, w, "fast", switchOf)
	maybe := "maybe"
	for name, c := range map[string]struct {
		edit  featureflag.Edit
		kind  problem.Kind
		field string
	}{
		"no reason":      {featureflag.Edit{Environment: "staging", Flag: "fast"}, problem.Invalid, "reason"},
		"no flag":        {featureflag.Edit{Environment: "staging", Flag: "slow", Reason: "x"}, problem.NotFound, ""},
		"no environment": {featureflag.Edit{Environment: "moon", Flag: "fast", Reason: "x"}, problem.NotFound, ""},
		"no variant":     {featureflag.Edit{Environment: "staging", Flag: "fast", Reason: "x", Overlay: flag.Overlay{DefaultVariant: &maybe}}, problem.Invalid, "overlay"},
		"a wrong rule":   {featureflag.Edit{Environment: "staging", Flag: "fast", Reason: "x", Overlay: flag.Overlay{Targeting: json.RawMessage(`{"iff":1}`)}}, problem.Invalid, "overlay.targeting.iff"},
		"a kill":         {featureflag.Edit{Environment: "staging", Flag: "fast", Reason: "x", Overlay: flag.Overlay{Killed: "off"}}, problem.Invalid, "overlay.killed"},
		"a stale ETag":   {featureflag.Edit{Environment: "staging", Flag: "fast", Reason: "x", IfMatch: `"7"`}, problem.Stale, ""},
	} {
		if _, err := w.Set(t.Context(), ann, c.edit); !problem.Is(err, c.kind) || problem.Of(err).Field != c.field {
			t.Errorf("%s: %v at %q", name, err, problem.Of(err).Field)
		}
	}
	entries, err := w.log.List(t.Context(), "auditor", audit.Filter{Limit: 10})
	if err != nil || len(entries) != 1 {
		t.Errorf("%+v, %v", entries, err)
	}
}

// State is carried over only for what was tried with every variant.
func TestPromotionOfState(t *testing.T) {
	w := newWorld(t)
	declare(t, w, "fast", switchOf)
	declare(t, w, "same", switchOf)
	on := "on"
	if _, err := w.Set(t.Context(), ann, featureflag.Edit{Environment: "staging", Flag: "fast", Overlay: flag.Overlay{DefaultVariant: &on}, Reason: "try"}); err != nil {
		t.Fatal(err)
	}
	differences, err := w.Diff(t.Context(), "staging", "production")
	if err != nil || len(differences) != 1 || differences[0].Text != "fast: the default is on in staging, off in production" {
		t.Fatalf("%+v, %v", differences, err)
	}
	w.gets(t, staging, "fast")
	if _, err := w.Promote(t.Context(), ann, "staging", "production", nil, "did well", false); !problem.Is(err, problem.Conflict) || !strings.Contains(err.Error(), "with off") {
		t.Errorf("it was never exercised with off: %v", err)
	}
	if _, err := w.Set(t.Context(), ann, featureflag.Edit{Environment: "staging", Flag: "fast", Reason: "and off"}); err != nil {
		t.Fatal(err)
	}
	w.gets(t, staging, "fast")
	if _, err := w.Set(t.Context(), ann, featureflag.Edit{Environment: "staging", Flag: "fast", Overlay: flag.Overlay{DefaultVariant: &on}, Reason: "and on"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Promote(t.Context(), ann, "staging", "production", []string{"same"}, "did well", false); !problem.Is(err, problem.Conflict) {
		t.Errorf("it differs in nothing: %v", err)
	}
	all, err := w.Promote(t.Context(), ann, "staging", "production", nil, "did well", false)
	if err != nil || len(all) != 1 || w.gets(t, production, "fast") != "on STATIC" {
		t.Errorf("%+v, %v", all, err)
	}
	if differences, err := w.Diff(t.Context(), "staging", "production"); err != nil || len(differences) != 0 {
		t.Errorf("%+v, %v", differences, err)
	}
}

func TestFindings(t *testing.T) {
	w := newWorld(t)
	declare(t, w, "orphan", `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","metadata":{"removeBy":"2026-11-30"}}`)
	declare(t, w, "fast", switchOf)
	on := "on"
	if _, err := w.Set(t.Context(), ann, featureflag.Edit{Environment: "production", Flag: "fast", Overlay: flag.Overlay{DefaultVariant: &on}, Reason: "on for all"}); err != nil {
		t.Fatal(err)
	}
	kinds := func() string {
		views, err := w.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, v := range views {
			for _, f := range v.Findings {
				all = append(all, f.Flag+" "+f.Kind)
			}
		}
		slices.Sort(all)
		return strings.Join(all, ", ")
	}
	w.gets(t, production, "fast")
	w.gets(t, staging, "fast")
	if got := kinds(); got != "fast unexercised, orphan overdue, orphan ownerless" {
		t.Error(got)
	}
	w.clock = w.clock.Add(31 * 24 * time.Hour)
	w.gets(t, production, "fast")
	if got := kinds(); got != "fast settled, fast unexercised, fast unused, orphan overdue, orphan ownerless" {
		t.Error(got)
	}
	exposures, err := w.Exposures(t.Context(), "fast", 60)
	if err != nil || len(exposures) != 3 || exposures[0].Day != "2026-12-01" || exposures[2].Evaluations != 1 {
		t.Errorf("%+v, %v", exposures, err)
	}
}

func TestExercisedCountsTheReleaseAlone(t *testing.T) {
	w := newWorld(t)
	w.releases["v1"], w.releases["v2"] = `{"flags":{"fast":`+switchOf+`}}`, `{"flags":{"fast":`+switchOf+`}}`
	w.running = []featureflag.Running{{"staging", "s", 0, "v1"}}
	w.look(t)
	w.gets(t, staging, "fast")
	w.running[0].Release = "v2"
	w.look(t)
	d, err := flag.Parse(json.RawMessage(w.releases["v2"]))
	if err != nil {
		t.Fatal(err)
	}
	if all, err := w.Exercised(t.Context(), "staging", "v2", d.Flags); err != nil || len(all) != 1 || len(all[0].Missing) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	w.gets(t, staging, "fast")
	if all, err := w.Exercised(t.Context(), "staging", "v2", d.Flags); err != nil || len(all) != 1 || !slices.Equal(all[0].Missing, []string{"on"}) {
		t.Errorf("%+v, %v", all, err)
	}
}

// Stamps are given the flags that are for devices, as their environment has
// them, and nothing else.
func TestStampsHearOfDevicesFlags(t *testing.T) {
	w := newWorld(t)
	w.running = []featureflag.Running{{"staging", "s", 0, ""}}
	declare(t, w, "cloud", switchOf)
	declare(t, w, "beep", `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on","metadata":{"devices":true}}`)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	has := func(want string) {
		t.Helper()
		for limit := time.Now().Add(20 * time.Second); ; {
			w.mu.Lock()
			d, err := flag.Parse(w.sent["s"].Document)
			w.mu.Unlock()
			if got := ""; err == nil && len(d.Flags) == 1 {
				if got = *d.Flags["beep"].DefaultVariant; got == want {
					return
				}
			}
			if time.Now().After(limit) {
				t.Fatalf("%s, %v", w.sent["s"].Document, err)
			}
			<-time.After(5 * time.Millisecond)
		}
	}
	has("on")
	if _, err := w.Kill(t.Context(), ann, "staging", "beep", "", "too loud"); err != nil {
		t.Fatal(err)
	}
	has("off")
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Whatever people do, what an environment gives out is what its records say:
// a kill switch that is thrown wins, and history adds up to what is so.
func TestOverlaysModel(t *testing.T) {
	w := newWorld(t)
	declare(t, w, "fast", switchOf)
	rapid.Check(t, func(rt *rapid.T) {
		environment := rapid.SampledFrom([]string{"staging", "production"}).Draw(rt, "environment")
		variant := rapid.SampledFrom([]string{"on", "off"}).Draw(rt, "variant")
		var err error
		switch rapid.IntRange(0, 2).Draw(rt, "act") {
		case 0:
			_, err = w.Kill(t.Context(), ann, environment, "fast", variant, "kill")
		case 1:
			_, err = w.Revive(t.Context(), ann, environment, "fast", "revive")
		case 2:
			_, err = w.Set(t.Context(), ann, featureflag.Edit{Environment: environment, Flag: "fast", Overlay: flag.Overlay{DefaultVariant: &variant}, Reason: "set"})
		}
		if err != nil && !problem.Is(err, problem.Conflict) {
			rt.Fatal(err)
		}
		history, err := w.History(t.Context(), "fast", 1000)
		if err != nil {
			rt.Fatal(err)
		}
		for _, environment := range []string{"staging", "production"} {
			i := slices.IndexFunc(history, func(c featureflag.Turn) bool { return c.Environment == environment })
			want := "off"
			if i >= 0 && history[i].After.DefaultVariant != nil {
				want = *history[i].After.DefaultVariant
			}
			if i >= 0 && history[i].After.Killed != "" {
				want = history[i].After.Killed
			}
			if got := w.gets(t, featureflag.Scope{Environment: environment}, "fast"); got != want+" STATIC" {
				rt.Fatalf("%s gives %s, not %s", environment, got, want)
			}
		}
	})
}
