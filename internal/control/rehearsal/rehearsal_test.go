package rehearsal_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/control/rehearsal"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

// scene is an installation with one stamp and two releases.
type scene struct {
	*rehearsal.Rehearsals
	now      time.Time
	devices  int
	schema   int64
	running  string
	log      *audit.Log
	operator access.Actor
}

func newScene(t interface {
	Helper()
	Fatalf(string, ...any)
	Errorf(string, ...any)
	Cleanup(func())
}) *scene {
	t.Helper()
	ctx := context.Background()
	db, err := sqldb.Open(ctx, sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("%v", err)
		}
	})
	s := &scene{now: time.Date(2026, 12, 20, 12, 0, 0, 0, time.UTC), devices: 1000, schema: 40, running: "v1", operator: access.Actor{Name: "olga"}}
	clock := func() time.Time { return s.now }
	if s.log, err = audit.Open(ctx, db, make([]byte, 32), clock); err != nil {
		t.Fatalf("%v", err)
	}
	s.Rehearsals = rehearsal.New(rehearsal.Options{
		DB: db, Audit: s.log, Seed: make([]byte, 32), Now: clock,
		Environment: func(_ context.Context, name string) (e resource.Environment, err error) {
			e.Metadata.Name = name
			if name != "production" {
				err = problem.New(problem.NotFound, "there is no environment %q", name)
			}
			return e, err
		},
		Stamps: func(context.Context) ([]resource.Stamp, error) {
			one := resource.Stamp{Spec: resource.StampSpec{Environment: "production"}, Status: &resource.StampStatus{Assigned: s.devices}}
			one.Metadata.Name = "eu-1"
			return []resource.Stamp{one}, nil
		},
		Release: func(_ context.Context, name string) (link.Release, error) {
			return link.Release{Name: name, Digest: "digest of " + name, Spec: link.ReleaseSpec{Migrations: []link.Migration{{Name: "m", Kind: "twin", Up: "."}}}}, nil
		},
		Running: func(context.Context, string, string) (string, error) { return s.running, nil },
		Schema:  func(context.Context, string) (int64, error) { return s.schema, nil },
	})
	return s
}

// good is the evidence of a rehearsal that passes.
func good(work link.RehearsalWork) link.RehearsalEvidence {
	e := link.RehearsalEvidence{
		Rehearsal: work.Rehearsal, Digest: work.Release.Digest, Devices: 1000, Destroyed: true, Databases: []link.RehearsedData{{Name: "stamp", Schema: 40}},
		Migrations: []link.RehearsedMigration{{Name: "m", Kind: "twin", Milliseconds: 900, WaitMillis: 20, Before: 100 << 20, After: 110 << 20}},
	}
	if work.Running != nil {
		e.Running = work.Running.Digest
	}
	for _, name := range []string{"mask", "leaks", "migrate", "kept", "old code", "destroyed"} {
		e.Checks = append(e.Checks, link.RehearsalCheck{Name: name, Verdict: link.Pass})
	}
	return e
}

func (s *scene) rehearsed(t *testing.T, change func(*link.RehearsalEvidence)) rehearsal.Rehearsal {
	t.Helper()
	ctx := t.Context()
	asked, err := s.Start(ctx, s.operator, "production", "", "v2")
	if err != nil {
		t.Fatal(err)
	}
	work, err := s.Claim(ctx, s.operator, "host-1", asked.ID)
	if err != nil {
		t.Fatal(err)
	}
	e := good(work)
	change(&e)
	done, err := s.Conclude(ctx, s.operator, asked.ID, e)
	if err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(time.Second)
	return done
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	fail := func(name string) func(*link.RehearsalEvidence) {
		return func(e *link.RehearsalEvidence) {
			e.Checks = append(e.Checks, link.RehearsalCheck{Name: name, Verdict: link.Fail, Detail: "found"})
		}
	}
	tests := map[string]struct {
		change  func(*link.RehearsalEvidence)
		verdict string
		says    string
	}{
		"all is well":             {func(*link.RehearsalEvidence) {}, link.Pass, ""},
		"a check failed":          {fail("kept"), link.Fail, "kept: found"},
		"others waited":           {func(e *link.RehearsalEvidence) { e.Migrations[0].WaitMillis = 1500 }, link.Fail, "others waited 1.5 s"},
		"it took long":            {func(e *link.RehearsalEvidence) { e.Migrations[0].Milliseconds = 3_700_000 }, link.Fail, "took 3700 s"},
		"it grew":                 {func(e *link.RehearsalEvidence) { e.Migrations[0].After = 250 << 20 }, link.Fail, "2.5 times as large"},
		"a migration is missing":  {func(e *link.RehearsalEvidence) { e.Migrations = nil }, link.Inconclusive, "m: was not tried"},
		"nobody looked for leaks": {func(e *link.RehearsalEvidence) { e.Checks = e.Checks[2:] }, link.Inconclusive, "leaks: was not looked at"},
		"no devices":              {func(e *link.RehearsalEvidence) { e.Devices = 0 }, link.Inconclusive, "no devices"},
		"it broke off":            {func(e *link.RehearsalEvidence) { e.Failure = "the disk is full" }, link.Inconclusive, "the disk is full"},
		"copies are there":        {func(e *link.RehearsalEvidence) { e.Destroyed = false }, link.Fail, "still there"},
		"of another release":      {func(e *link.RehearsalEvidence) { e.Digest = "x" }, link.Inconclusive, "another release"},
	}
	for name, test := range tests {
		got := s.rehearsed(t, test.change)
		if got.Verdict != test.verdict || !strings.Contains(strings.Join(got.Reasons, "\n"), test.says) {
			t.Errorf("%s: %s %v", name, got.Verdict, got.Reasons)
		}
		key, err := base64.StdEncoding.DecodeString(got.Key)
		signature, err2 := base64.StdEncoding.DecodeString(got.Signature)
		if err != nil || err2 != nil || !ed25519.Verify(key, []byte(got.Signed), signature) {
			t.Errorf("%s: the signature is not of what was signed", name)
		}
	}
}

// TestVoid has what was rehearsed on move on.
func TestVoid(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.rehearsed(t, func(*link.RehearsalEvidence) {})
	held := func() []string {
		newest, err := s.Newest(t.Context(), "production", "digest of v2")
		if err != nil || newest == nil || newest.Verdict != link.Pass {
			t.Fatalf("%v, %v", newest, err)
		}
		return newest.Void
	}
	if void := held(); len(void) > 0 {
		t.Fatalf("void at once: %v", void)
	}
	for says, move := range map[string]func() func(){
		"there were 1000 devices, and now there are 1300": func() func() { s.devices = 1300; return func() { s.devices = 1000 } },
		"now there are 700":    func() func() { s.devices = 700; return func() { s.devices = 1000 } },
		"now are of 41":        func() func() { s.schema = 41; return func() { s.schema = 40 } },
		"another release runs": func() func() { s.running = "v1b"; return func() { s.running = "v1" } },
		"and may be 720h":      func() func() { s.now = s.now.AddDate(0, 0, 31); return func() { s.now = s.now.AddDate(0, 0, -31) } },
	} {
		back := move()
		if void := strings.Join(held(), "\n"); !strings.Contains(void, says) {
			t.Errorf("%q: %v", says, void)
		}
		back()
	}
	s.devices, s.schema = 1190, 0 // as many more as are allowed, and no backup that tells
	if void := held(); len(void) > 0 {
		t.Errorf("void: %v", void)
	}
	s.running = "v2" // it is there itself by now
	if void := held(); len(void) > 0 {
		t.Errorf("void: %v", void)
	}
	if other, err := s.Newest(t.Context(), "production", "digest of v3"); err != nil || other != nil {
		t.Errorf("%v, %v", other, err)
	}
}

func TestOneAtATime(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ctx := t.Context()
	first, err := s.Start(ctx, s.operator, "production", "", "v2")
	if err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(time.Second)
	if again, err := s.Start(ctx, s.operator, "production", "eu-1", "v2"); err != nil || again.ID != first.ID {
		t.Errorf("%v, %v", again.ID, err)
	}
	if _, err := s.Start(ctx, s.operator, "production", "us-1", "v2"); !problem.Is(err, problem.NotFound) {
		t.Errorf("%v", err)
	}
	if _, err := s.Claim(ctx, s.operator, "h", first.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Claim(ctx, s.operator, "h", ""); !problem.Is(err, problem.NotFound) {
		t.Errorf("%v", err)
	}
	if _, err := s.Advance(ctx, access.Actor{Name: "eve"}, first.ID, "x"); !problem.Is(err, problem.Denied) {
		t.Errorf("%v", err)
	}
	if _, err := s.Cancel(ctx, s.operator, first.ID); err != nil {
		t.Fatal(err)
	}
	if cancelled, err := s.Advance(ctx, s.operator, first.ID, "x"); err != nil || !cancelled {
		t.Errorf("%v, %v", cancelled, err)
	}
	e := good(link.RehearsalWork{Rehearsal: first.ID, Release: link.Release{Digest: "digest of v2"}})
	e.Failure = "it was cancelled"
	if done, err := s.Conclude(ctx, s.operator, first.ID, e); err != nil || done.Verdict != rehearsal.Cancelled {
		t.Errorf("%v, %v", done.Verdict, err)
	}
	if newest, err := s.Newest(ctx, "production", "digest of v2"); err != nil || newest != nil {
		t.Errorf("a cancelled one counts: %v, %v", newest, err)
	}
	entries, err := s.log.List(ctx, "olga", audit.Filter{Object: "rehearsal/" + first.ID, Limit: 20})
	if err != nil || len(entries) != 4 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

// TestHosts has hosts take rehearsals up, fall silent and come back, and people
// cancel: each rehearsal ends once, and says why.
func TestHosts(t *testing.T) {
	t.Parallel()
	s, tries := newScene(t), 0
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		tries++
		s.now = s.now.Add(48 * time.Hour) // what tries before have left is over by then
		if err := s.Step(ctx); err != nil {
			t.Fatal(err)
		}
		r, err := s.Start(ctx, s.operator, "production", "", fmt.Sprint("v", tries))
		if err != nil {
			t.Fatal(err)
		}
		ended := ""
		for range rapid.IntRange(1, 15).Draw(t, "steps") {
			var err error
			switch rapid.IntRange(0, 4).Draw(t, "does") {
			case 0:
				_, err = s.Claim(ctx, s.operator, "h", r.ID)
			case 1:
				_, err = s.Advance(ctx, s.operator, r.ID, "copying")
			case 2:
				s.now = s.now.Add(time.Duration(rapid.IntRange(1, 200).Draw(t, "seconds")) * time.Second)
				err = s.Step(ctx)
			case 3:
				_, err = s.Cancel(ctx, s.operator, r.ID)
			case 4:
				_, err = s.Conclude(ctx, s.operator, r.ID, good(link.RehearsalWork{Rehearsal: r.ID, Release: link.Release{Digest: r.Digest}, Running: &link.Release{Digest: "digest of v1"}}))
			}
			if err != nil && !problem.Is(err, problem.Conflict) && !problem.Is(err, problem.NotFound) {
				t.Fatal(err)
			}
			now, err := s.Get(ctx, r.ID)
			if err != nil || now.Attempt > 3 {
				t.Fatalf("%+v, %v", now, err)
			}
			if ended != "" && (now.State != rehearsal.Ended || now.Signature != ended) {
				t.Fatalf("it ended, and is %s with another signature", now.State)
			}
			if now.State == rehearsal.Ended {
				if ended = now.Signature; ended == "" || now.Verdict == "" || now.Verdict != link.Pass && len(now.Reasons) == 0 {
					t.Fatalf("%+v", now)
				}
			}
		}
	})
}
