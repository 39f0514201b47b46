package configuration_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/configuration"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

var (
	noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	ann  = access.Actor{Name: "ann"}
	bob  = access.Actor{Name: "bob"}
)

// world is a path of two environments, of which the second wants somebody to
// agree and the version to have been in force for an hour before.
type world struct {
	*configuration.Configurations
	t   *testing.T
	now time.Time
	log *audit.Log

	mu  sync.Mutex
	put map[string][]link.HeldConfiguration
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
	w := &world{t: t, now: noon, put: map[string][]link.HeldConfiguration{}}
	clock := func() time.Time { return w.now }
	if w.log, err = audit.Open(t.Context(), db, make([]byte, 32), clock); err != nil {
		t.Fatal(err)
	}
	gates := gate.New(gate.Options{DB: db, Audit: w.log, Now: clock, Guard: outbound.Closed()})
	environments := map[string]resource.Environment{
		"test": {Metadata: resource.Metadata{Name: "test"}},
		"live": {Metadata: resource.Metadata{Name: "live"}, Spec: resource.EnvironmentSpec{PromotesFrom: "test", Configuration: &resource.ConfigurationPolicy{Gates: []resource.Gate{
			{Name: "agreed", Approvals: &resource.ApprovalsGate{}}, {Name: "soaked", Soak: &resource.SoakGate{For: "1h"}},
		}}}},
	}
	err = db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		for name := range environments {
			if _, err := tx.Exec(ctx, "INSERT INTO environment (name, spec, version, created_at, updated_at) VALUES (?, '{}', 1, 0, 0)", name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Configurations = configuration.New(configuration.Options{
		DB: db, Audit: w.log, Gates: gates, Logger: slog.New(slog.DiscardHandler), Now: clock,
		Environment: func(_ context.Context, name string) (resource.Environment, error) {
			env, known := environments[name]
			if !known {
				return env, problem.New(problem.NotFound, "there is no environment %q", name)
			}
			return env, nil
		},
		Stamps: func(context.Context) ([]resource.Stamp, error) {
			return []resource.Stamp{{Metadata: resource.Metadata{Name: "test-1"}, Spec: resource.StampSpec{Environment: "test"}}, {Metadata: resource.Metadata{Name: "live-1"}, Spec: resource.StampSpec{Environment: "live"}}}, nil
		},
		Put: func(_ context.Context, stamp string, all link.WantedConfigurations) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.put[stamp] = all.Items
			return nil
		},
	})
	return w
}

const schema = `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"every":{"type":"integer","minimum":1,"maximum":3600}},"required":["every"],"additionalProperties":false}`

func (w *world) define(schema string) {
	w.t.Helper()
	if _, err := w.Define(w.t.Context(), ann, configuration.Definition{Name: "pace", Schema: json.RawMessage(schema)}, "", "how often devices report"); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) write(content string) int64 {
	w.t.Helper()
	v, err := w.Write(w.t.Context(), ann, "pace", json.RawMessage(content), "it is time")
	if err != nil {
		w.t.Fatal(err)
	}
	return v.Number
}

func (w *world) promote(environment string, number int64) configuration.Change {
	w.t.Helper()
	if _, err := w.Promote(w.t.Context(), ann, configuration.Ask{Environment: environment, Name: "pace", Number: number, Reason: "r"}); err != nil {
		w.t.Fatal(err)
	}
	return w.last(environment)
}

func (w *world) last(environment string) configuration.Change {
	w.t.Helper()
	all, err := w.Changes(w.t.Context(), "pace", environment, 1)
	if err != nil || len(all) == 0 {
		w.t.Fatalf("%v %v", all, err)
	}
	return all[0]
}

func (w *world) inForce(environment string) int64 {
	w.t.Helper()
	l, err := w.Get(w.t.Context(), "pace")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range l.Standings {
		if s.Environment == environment {
			return s.Number
		}
	}
	return 0
}

// A version is held against its schema, and the field at fault is named.
func TestVersionsMeetTheirSchema(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.define(schema)
	for content, field := range map[string]string{
		`{"every":0}`: "content.every", `{"every":"5"}`: "content.every", `{}`: "content", `{"every":5,"more":1}`: "content", `[1]`: "content", `5`: "content",
		`{"every":5,"$metadata":1}`: "content", `{"slipway":1}`: "content", `{"every":` + strings.Repeat("1", 70_000) + `}`: "content",
	} {
		_, err := w.Write(t.Context(), ann, "pace", json.RawMessage(content), "r")
		if p := problem.Of(err); err == nil || p.Field != field || p.Kind != problem.Invalid && p.Kind != problem.TooLarge {
			t.Errorf("%.40s: %v at %q", content, err, p.Field)
		}
	}
	if _, err := w.Write(t.Context(), ann, "pace", json.RawMessage(`{"every":5}`), " "); problem.Of(err).Field != "reason" {
		t.Errorf("without a reason: %v", err)
	}
	if _, err := w.Write(t.Context(), ann, "other", json.RawMessage(`{"every":5}`), "r"); !problem.Is(err, problem.NotFound) {
		t.Errorf("of none: %v", err)
	}
	for _, bad := range []string{`{"type":"nothing"}`, `{"$ref":"https://example.com/other.json"}`, `{"$ref":"file:///etc/passwd"}`, `5`, `{"pattern":"("}`} {
		if _, err := w.Define(t.Context(), ann, configuration.Definition{Name: "bad", Schema: json.RawMessage(bad)}, "", "r"); problem.Of(err).Field != "schema" {
			t.Errorf("schema %s: %v", bad, err)
		}
	}
	w.promote("test", w.write(`{"every":3000}`))
	_, err := w.Define(t.Context(), ann, configuration.Definition{Name: "pace", Schema: json.RawMessage(strings.Replace(schema, "3600", "60", 1))}, "", "r")
	if !problem.Is(err, problem.Conflict) || !strings.Contains(err.Error(), "in force in test") {
		t.Errorf("a schema that what is in force does not meet: %v", err)
	}
	if _, err := w.Define(t.Context(), ann, configuration.Definition{Name: "pace"}, "7", "r"); !problem.Is(err, problem.Stale) {
		t.Errorf("with another ETag: %v", err)
	}
}

// A version goes the way that releases go, waits for what the environment
// wants, and back by one command.
func TestAVersionGoesFromEnvironmentToEnvironmentAndBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.define(schema)
	first, second := w.write(`{"every":60}`), w.write(`{"every":30}`)
	if c := w.promote("test", first); c.State != configuration.InForce || w.inForce("test") != first {
		t.Fatalf("into the first environment: %+v", c)
	}
	if c := w.promote("live", second); c.State != configuration.Waiting || !strings.Contains(strings.Join(c.Blocks, ";"), "not in force in test") {
		t.Errorf("what was not tried before: %+v", c)
	}
	if c := w.promote("live", 0); c.Number != first || c.State != configuration.Waiting || len(c.Blocks) != 2 {
		t.Errorf("what test has waits for people and for time: %+v", c)
	}
	if all, err := w.Changes(t.Context(), "pace", "live", 10); err != nil || len(all) != 2 || all[1].State != configuration.Superseded {
		t.Errorf("the one before is superseded: %+v %v", all, err)
	}
	if _, err := w.Approve(t.Context(), ann, "live", "pace", "mine"); !problem.Is(err, problem.Denied) {
		t.Errorf("who asked agrees: %v", err)
	}
	if c, err := w.Approve(t.Context(), bob, "live", "pace", "looks right"); err != nil || c.State != configuration.Waiting {
		t.Errorf("before its time: %+v %v", c, err)
	}
	w.now = w.now.Add(2 * time.Hour)
	if err := w.Step(t.Context()); err != nil || w.inForce("live") != first {
		t.Fatalf("agreed and soaked: %v %+v", err, w.last("live"))
	}
	w.promote("test", second)
	w.now = w.now.Add(2 * time.Hour)
	w.promote("live", second)
	if _, err := w.Approve(t.Context(), bob, "live", "pace", "too"); err != nil || w.inForce("live") != second {
		t.Fatalf("the second: %v %+v", err, w.last("live"))
	}
	back, err := w.Rollback(t.Context(), ann, configuration.Ask{Environment: "live", Name: "pace", Reason: "batteries"})
	if err != nil || back.State != configuration.InForce || w.inForce("live") != first || w.inForce("test") != second {
		t.Errorf("back: %+v %v", back, err)
	}
	if _, err := w.Rollback(t.Context(), ann, configuration.Ask{Environment: "live", Name: "pace", Number: first, Reason: "again"}); !problem.Is(err, problem.Conflict) {
		t.Errorf("back to where it is: %v", err)
	}
	if changes, err := w.Diff(t.Context(), "pace", first, second); err != nil || len(changes) != 1 || changes[0].Path != "/every" {
		t.Errorf("diff: %+v %v", changes, err)
	}
	entries, err := w.log.List(t.Context(), "test", audit.Filter{Action: "configuration.rollback"})
	if err != nil || len(entries) != 1 || entries[0].Reason != "batteries" || entries[0].Environment != "live" {
		t.Errorf("audit: %+v %v", entries, err)
	}
}

// What is in force is what stamps are told; what was withdrawn is not.
func TestStampsAreToldWhatIsInForce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.define("")
	w.promote("test", w.write(`{"every":60,"net":{"a":[1]}}`))
	w.promote("live", 1)
	if _, err := w.Withdraw(t.Context(), bob, "live", "pace", "not yet"); err != nil || w.last("live").State != configuration.Withdrawn {
		t.Fatal(err)
	}
	if _, err := w.Withdraw(t.Context(), bob, "live", "pace", "again"); !problem.Is(err, problem.NotFound) {
		t.Errorf("twice: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	told := func() (test, live []link.HeldConfiguration, known bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		_, known = w.put["live-1"]
		return w.put["test-1"], w.put["live-1"], known && w.put["test-1"] != nil
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(5 * time.Millisecond) {
		if _, _, known := told(); known {
			break
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	test, live, _ := told()
	if len(live) != 0 || len(test) != 1 || test[0].ID != "slipway-pace-1" || test[0].Target != "*" || test[0].Content["properties.desired.every"] != 60.0 {
		t.Errorf("test has %+v, live %+v", test, live)
	}
}
