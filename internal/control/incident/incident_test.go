package incident

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/control/monitor"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// world is incidents over a real database, with a clock of the test.
type world struct {
	*Incidents
	now time.Time
	log *audit.Log
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
	w := &world{now: noon}
	clock := func() time.Time { return w.now }
	w.log = audit.NewLog(db, clock)
	w.Incidents = New(Options{
		DB: db, Audit: w.log, Logger: slog.New(slog.DiscardHandler), Now: clock,
		Lines: func(_ context.Context, expression string, from, to time.Time, _ time.Duration) ([]monitor.Line, bool, error) {
			if !strings.Contains(expression, "disconnects") {
				return nil, false, nil
			}
			return []monitor.Line{{Labels: map[string]string{"environment": "production", "stamp": "eu-1"}, Points: []monitor.Point{{At: to.Add(-time.Minute), Value: 42}, {At: from, Value: 1}}}}, false, nil
		},
		Events: func(context.Context, string, link.ReadLog) (link.LogPage, error) {
			return link.LogPage{Items: []link.LogRecord{{Kind: "refused", EnqueuedTime: noon.Add(-time.Minute)}, {Kind: "old", EnqueuedTime: noon.Add(-48 * time.Hour)}}}, nil
		},
		Where: func(context.Context, string) (access.Place, error) {
			return access.Place{Environment: "production"}, nil
		},
		Environment: func(_ context.Context, name string) error {
			if name != "production" {
				return problem.New(problem.NotFound, "there is no environment %s", name)
			}
			return nil
		},
	})
	return w
}

var ann = access.Actor{Name: "ann"}

func (w *world) did(t *testing.T, action, environment string) {
	t.Helper()
	if err := w.log.Write(t.Context(), audit.Entry{Actor: "bob", Action: action, Object: "x", Environment: environment, Reason: "a secret reason"}); err != nil {
		t.Fatal(err)
	}
}

func TestAnIncidentFromItsAlertToWhatItWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fires := Episode{Fingerprint: "a", Name: "IngestSlow", Severity: resource.Page, Environment: "production", Stamp: "eu-1", Summary: "Messages are slow", OnCall: "ann", BeganAt: noon}
	other := Episode{Fingerprint: "b", Name: "DatabaseFailing", Severity: resource.Page, Environment: "production", BeganAt: noon}
	ticket := Episode{Fingerprint: "c", Name: "DeadLetters", Severity: resource.Ticket, Environment: "production", BeganAt: noon}
	alerted := func(all ...Episode) {
		t.Helper()
		for range 2 { // each is told again and again
			if err := w.Alerted(t.Context(), all); err != nil {
				t.Fatal(err)
			}
		}
	}
	alerted(fires, other, ticket)
	all, err := w.List(t.Context(), Filter{State: "unresolved"})
	if err != nil || len(all) != 1 || all[0].Title != "Messages are slow" || all[0].Owner != "ann" || all[0].OpenedBy != "alert/IngestSlow" {
		t.Fatal(all, err)
	}
	id := all[0].ID
	w.now = noon.Add(time.Hour)
	ended := w.now
	fires.EndedAt = &ended
	alerted(fires)
	if d, err := w.Show(t.Context(), id); err != nil || d.State != Open || len(d.Alerts) != 2 {
		t.Fatal(d, err)
	}
	other.EndedAt = &ended
	alerted(other)
	if d, _ := w.Show(t.Context(), id); d.State != Mitigated {
		t.Fatal(d)
	}
	again := Episode{Fingerprint: "a", Name: "IngestSlow", Severity: resource.Page, Environment: "production", BeganAt: w.now}
	alerted(again)
	if d, _ := w.Show(t.Context(), id); d.State != Open || len(d.Alerts) != 3 {
		t.Fatal(d)
	}
	if _, err := w.Set(t.Context(), ann, id, Resolved, " "); !problem.Is(err, problem.Invalid) {
		t.Error("resolved without a word", err)
	}
	if _, err := w.Set(t.Context(), ann, id, Resolved, "the disk was slow; it was changed"); err != nil {
		t.Fatal(err)
	}
	for _, do := range []func() error{
		func() error { _, err := w.Set(t.Context(), ann, id, Open, ""); return err },
		func() error { _, err := w.Own(t.Context(), ann, id, "bob"); return err },
	} {
		if err := do(); !problem.Is(err, problem.Conflict) {
			t.Error("what is resolved was changed", err)
		}
	}
	alerted(Episode{Fingerprint: "d", Name: "StampSilent", Severity: resource.Page, Environment: "production", BeganAt: w.now})
	if all, _ := w.List(t.Context(), Filter{State: "open"}); len(all) != 1 || all[0].ID == id {
		t.Error("what came after it was resolved is no other incident", all)
	}
	if all, _ := w.List(t.Context(), Filter{Environment: "test"}); len(all) != 0 {
		t.Error(all)
	}
}

func TestPeopleOpenIncidents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, bad := range []Incident{{}, {Title: "x", Severity: "loud"}, {Title: "x", BeganAt: noon.Add(time.Hour)}, {Title: "x", Environment: "mars"}, {Title: strings.Repeat("x", 201)}} {
		if _, err := w.Open(t.Context(), ann, bad, ""); err == nil {
			t.Errorf("%+v was opened", bad)
		}
	}
	i, err := w.Open(t.Context(), ann, Incident{Title: "no data", Environment: "production"}, "since nine")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Note(t.Context(), ann, i.ID, "a route is broken"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Own(t.Context(), ann, i.ID, "bob"); err != nil {
		t.Fatal(err)
	}
	// An alert about the same environment is another matter than people's own.
	if err := w.Alerted(t.Context(), []Episode{{Fingerprint: "a", Name: "A", Severity: resource.Page, Environment: "production", BeganAt: noon}}); err != nil {
		t.Fatal(err)
	}
	d, err := w.Show(t.Context(), i.ID)
	if err != nil || d.Owner != "bob" || len(d.Notes) != 3 || d.Notes[1].Text != "a route is broken" || len(d.Alerts) != 0 {
		t.Errorf("%+v %v", d, err)
	}
	if _, err := w.Show(t.Context(), "i-none"); !problem.Is(err, problem.NotFound) {
		t.Error(err)
	}
}

func TestTheTimelineJoinsWhatHappened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.now = noon.Add(-time.Hour)
	w.did(t, "promotion.start", "production")
	w.did(t, "rollout.pause", "test")
	w.did(t, "flag.put", "")
	w.did(t, "route.put", "production")
	w.did(t, "route.readSecrets", "production")
	w.did(t, "grant.break-glass", "production")
	w.did(t, "token.create", "")
	w.did(t, "audit.read", "")
	w.now = noon.Add(-5 * time.Hour)
	w.did(t, "promotion.start", "production")
	w.now = noon
	end := noon.Add(-10 * time.Minute)
	if err := w.Alerted(t.Context(), []Episode{{Fingerprint: "a", Name: "IngestSlow", Severity: resource.Page, Environment: "production", Summary: "slow", BeganAt: noon.Add(-20 * time.Minute), EndedAt: &end}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Open(t.Context(), ann, Incident{Title: "no data", Environment: "production"}, "since nine"); err != nil {
		t.Fatal(err)
	}
	w.now = noon.Add(time.Second)
	all, missing, err := w.Timeline(t.Context(), Window{Environment: "production", Device: "d1"})
	if err != nil || missing != "" {
		t.Fatal(missing, err)
	}
	if !slices.IsSortedFunc(all, func(a, b Moment) int { return b.At.Compare(a.At) }) {
		t.Error("not in order")
	}
	got := map[string][]string{}
	for _, m := range all {
		got[m.Kind] = append(got[m.Kind], m.What)
		if strings.Contains(fmt.Sprint(m), "secret reason") {
			t.Error("it says why: ", m)
		}
		slices.Sort(got[m.Kind])
	}
	for kind, want := range map[string]string{
		Releases: "[promotion.start]", Configuration: "[route.put]", Flags: "[flag.put]", Access: "[grant.break-glass]", Alerts: "[IngestSlow fires no more IngestSlow fires: slow]",
		Devices: "[42 connections ended within 2m30s refused]", IncidentNotes: "[note: since nine opened: no data]",
	} {
		if fmt.Sprint(got[kind]) != want {
			t.Errorf("%s: %v, not %s", kind, got[kind], want)
		}
	}
	if only, _, _ := w.Timeline(t.Context(), Window{Kinds: []string{Flags}}); len(only) != 1 {
		t.Error(only)
	}
	for _, bad := range []Window{{Kinds: []string{"weather"}}, {From: noon, To: noon.Add(-time.Hour)}, {From: noon.Add(-32 * 24 * time.Hour)}} {
		if _, _, err := w.Timeline(t.Context(), bad); !problem.Is(err, problem.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestWhatIsResolvedStaysSo takes an incident through any order of states.
func TestWhatIsResolvedStaysSo(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		i, err := Incident{ID: "i", Title: "t"}.opened(noon)
		if err != nil {
			t.Fatal(err)
		}
		for n := range rapid.IntRange(1, 12).Draw(t, "steps") {
			s := rapid.SampledFrom([]State{Open, Mitigated, Resolved, "gone"}).Draw(t, "state")
			text := rapid.SampledFrom([]string{"", "why"}).Draw(t, "text")
			next, err := i.to(s, text, noon.Add(time.Duration(n)*time.Second))
			switch {
			case err != nil && next != i:
				t.Fatal("a refused step changed something")
			case err == nil && (i.State == Resolved || i.State == s || next.State != s):
				t.Fatalf("%s to %s", i.State, s)
			case err == nil && s == Resolved && (next.Resolution == "" || next.ResolvedAt == nil):
				t.Fatal("resolved without a word")
			}
			i = next
		}
	})
}
