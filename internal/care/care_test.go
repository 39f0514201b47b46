package care_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/slipway/slipway/internal/care"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

const tables = `-- +goose Up
CREATE TABLE care_plan (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL, asked INTEGER NOT NULL, document TEXT NOT NULL);
CREATE TABLE care_run (number INTEGER PRIMARY KEY, ended INTEGER NOT NULL, document TEXT NOT NULL);
CREATE TABLE care_erased (erasure TEXT NOT NULL, kind TEXT NOT NULL, count INTEGER NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (erasure, kind));
CREATE TABLE owner (device_id TEXT PRIMARY KEY, tenant TEXT NOT NULL);
CREATE TABLE file (name TEXT PRIMARY KEY, device_id TEXT NOT NULL, at INTEGER NOT NULL, size INTEGER NOT NULL, document TEXT NOT NULL);
CREATE TABLE page (file TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (file, number));
`

var noon = time.Date(2026, 12, 20, 12, 0, 0, 0, time.UTC)

// world is a plane with files of devices.
type world struct {
	*testing.T
	db    *sqldb.DB
	files care.Table
	plan  link.CarePlan
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), fstest.MapFS{"001_files.sql": {Data: []byte(tables)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{t, db, care.Table{
		DB: db, Of: "uploads", Name: "file", Key: "name", At: "at", Size: "size", Device: "file.device_id",
		Tenant:  "(SELECT o.tenant FROM owner o WHERE o.device_id = file.device_id)",
		Also:    []string{"DELETE FROM page WHERE file IN ({chosen})"},
		Columns: "name, at, size, document",
	}, link.CarePlan{Version: 1, EveryHours: 24, Days: map[string]int{"uploads": 30}}}
}

// keep stores n files of a device that are some days old.
func (w *world) keep(device string, n, days int) {
	w.Helper()
	err := w.db.Commit(w.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		for i := range n {
			name := fmt.Sprintf("%s/%d-%d", device, days, i)
			if _, err := tx.Exec(ctx, "INSERT INTO file (name, device_id, at, size, document) VALUES (?, ?, ?, 10, ?)", name, device, sqldb.Micros(noon.AddDate(0, 0, -days)), `{"n":1}`); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "INSERT INTO page (file, number) VALUES (?, 1)", name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) left() map[string]int {
	w.Helper()
	counts := map[string]int{}
	all, err := w.files.DB.Query(w.Context(), "SELECT f.device_id, count(*) FROM file f JOIN page p ON p.file = f.name GROUP BY f.device_id")
	if err != nil {
		w.Fatal(err)
	}
	defer all.Close()
	for all.Next() {
		var device string
		var n int
		if err := all.Scan(&device, &n); err != nil {
			w.Fatal(err)
		}
		counts[device] = n
	}
	if err := all.Err(); err != nil {
		w.Fatal(err)
	}
	return counts
}

func (w *world) keeper(holdings ...care.Holding) *care.Keeper {
	k := care.New(w.db, holdings, nil, slog.New(slog.DiscardHandler), func() time.Time { return noon })
	if _, err := k.Put(w.Context(), w.plan); err != nil {
		w.Fatal(err)
	}
	return k
}

// ended runs a keeper until a run has ended.
func (w *world) ended(k *care.Keeper, number int64) link.CareRun {
	w.Helper()
	ctx, stop := context.WithTimeout(w.Context(), time.Minute)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	defer func() { stop(); <-done }()
	for {
		runs, err := k.Runs(ctx, link.ListCareRuns{After: number - 1})
		if err != nil {
			w.Fatal(err)
		}
		if len(runs.Ended) > 0 {
			return runs.Ended[0]
		}
		select {
		case err := <-done:
			w.Fatalf("it ended: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// dying is a holding whose process ends after a batch.
type dying struct {
	care.Table
	die func()
}

func (d dying) Remove(ctx context.Context, cut care.Cut, note care.Note) (bool, error) {
	more, err := d.Table.Remove(ctx, cut, note)
	d.die()
	return more, err
}

// What is too old goes in batches, a dry run says so before, and a process that
// ends in the middle is followed by one that goes on and tells all of it.
func TestCleanUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keep("old", 1201, 31)
	w.keep("young", 3, 29)
	k := w.keeper(w.files)
	looks, err := k.Look(t.Context(), link.LookCare{})
	if err != nil || len(looks.Items) != 1 || looks.Items[0].Count != 1201 || looks.Items[0].Bytes != 12010 || !looks.Items[0].Oldest.Equal(noon.AddDate(0, 0, -31)) {
		t.Fatalf("the dry run says %+v, %v", looks, err)
	}
	if looks, err = k.Look(t.Context(), link.LookCare{Days: map[string]int{"uploads": 10}}); err != nil || looks.Items[0].Count != 1204 {
		t.Errorf("as if kept for ten days: %+v, %v", looks, err)
	}
	if got := w.left()["old"]; got != 1201 {
		t.Fatalf("a dry run leaves %d", got)
	}

	ctx, die := context.WithCancel(t.Context())
	if err := w.keeper(dying{w.files, die}).Run(ctx); err != nil {
		t.Fatal(err)
	}
	if got := w.left()["old"]; got != 701 {
		t.Fatalf("the process that died leaves %d", got)
	}
	run := w.ended(w.keeper(w.files), 1)
	if len(run.Removed) != 1 || run.Removed[0].Count != 1201 || run.Removed[0].Bytes != 12010 || run.Asked {
		t.Errorf("the run tells %+v", run)
	}
	if got := w.left(); !maps.Equal(got, map[string]int{"young": 3}) {
		t.Errorf("it leaves %v", got)
	}
	runs, err := k.Runs(t.Context(), link.ListCareRuns{})
	if err != nil || runs.Next == nil || !runs.Next.Equal(run.BegunAt.Add(24*time.Hour)) {
		t.Errorf("the next is at %v, %v", runs.Next, err)
	}
	if _, err := k.Ask(t.Context(), link.None{}); err != nil {
		t.Fatal(err)
	}
	if asked := w.ended(k, 2); !asked.Asked || len(asked.Removed) != 0 {
		t.Errorf("asked for: %+v", asked)
	}
}

func TestNothingGoesWithoutAPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keep("old", 1, 4000)
	k := care.New(w.db, []care.Holding{w.files}, nil, slog.New(slog.DiscardHandler), func() time.Time { return noon })
	if _, err := k.Look(t.Context(), link.LookCare{Days: map[string]int{"uploads": 1}}); !problem.Is(err, problem.NotReady) {
		t.Errorf("a look without a plan: %v", err)
	}
	if _, err := k.Ask(t.Context(), link.None{}); !problem.Is(err, problem.NotReady) {
		t.Errorf("a run without a plan: %v", err)
	}
	w.plan.Version = 3
	k = w.keeper(w.files)
	if _, err := k.Put(t.Context(), link.CarePlan{Version: 2, EveryHours: 1}); err != nil {
		t.Fatal(err)
	}
	if plan, _, err := care.ReadPlan(t.Context(), w.db); err != nil || plan.Version != 3 || plan.EveryHours != 24 {
		t.Errorf("after an older plan: %+v, %v", plan, err)
	}
	w.plan = link.CarePlan{Version: 4, EveryHours: 24, Paused: true, Days: map[string]int{"uploads": 0}}
	if looks, err := w.keeper(w.files).Look(t.Context(), link.LookCare{}); err != nil || len(looks.Items) != 0 {
		t.Errorf("what is kept for good: %+v, %v", looks, err)
	}
}

// What a hold is on stays, and so does what may be of a tenant that is held.
func TestHolds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hold link.CareHold
		left []string
	}{
		"a device":                  {link.CareHold{Device: "a"}, []string{"a", "a/cam"}},
		"a device that is not here": {link.CareHold{Device: "nobody"}, nil},
		"a tenant":                  {link.CareHold{Tenant: "acme"}, []string{"a", "gone"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for _, device := range []string{"a", "a/cam", "ab", "gone"} {
				w.keep(device, 2, 40)
			}
			err := w.db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				_, err := tx.Exec(ctx, "INSERT INTO owner (device_id, tenant) VALUES ('a', 'acme'), ('a/cam', 'other'), ('ab', 'other')")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			w.plan.Holds = []link.CareHold{c.hold}
			mixed := w.files
			mixed.Mixed = true
			if looks, err := w.keeper(mixed).Look(t.Context(), link.LookCare{}); err != nil || len(looks.Items) != 0 {
				t.Errorf("what cannot be told apart: %+v, %v", looks, err)
			}
			w.ended(w.keeper(w.files), 1)
			if got := slices.Sorted(maps.Keys(w.left())); !slices.Equal(got, c.left) && len(got)+len(c.left) > 0 {
				t.Errorf("it leaves %v, not %v", got, c.left)
			}
		})
	}
}

// Erasing takes all of one device and nothing of another, and says the same
// when it is asked again; export hands out what would be erased.
func TestEraseAndExport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keep("a", 700, 1)
	w.keep("a/cam", 1, 1)
	w.keep("ab", 2, 1)
	k := w.keeper(w.files)
	var rows []map[string]any
	err := k.Export(t.Context(), link.ExportSubject{Device: "a"}, func(item link.SubjectItem) error {
		var row map[string]any
		rows = append(rows, row)
		return json.Unmarshal(item.Row, &rows[len(rows)-1])
	})
	if err != nil || len(rows) != 701 || rows[0]["at"] != "2026-12-19T12:00:00Z" || fmt.Sprint(rows[0]["document"]) != "map[n:1]" || rows[0]["device_id"] != nil {
		t.Fatalf("%d rows, the first %v, %v", len(rows), rows[0], err)
	}
	for range 2 {
		erased, err := k.Erase(t.Context(), link.EraseSubject{Erasure: "erasure-1", Device: "a"})
		if err != nil || erased.More || len(erased.Removed) != 1 || erased.Removed[0] != (link.CareFound{Kind: "uploads", Count: 701, Bytes: 7010}) {
			t.Errorf("erased %+v, %v", erased, err)
		}
	}
	if got := w.left(); !maps.Equal(got, map[string]int{"ab": 2}) {
		t.Errorf("it leaves %v", got)
	}
}

func TestFloors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		days map[string]int
		at   string
	}{
		"an unknown kind":  {map[string]int{"nonsense": 3}, "days.nonsense"},
		"below the floor":  {map[string]int{"drills": 10}, "days.drills"},
		"names too short":  {map[string]int{"audit-names": 364}, "days.audit-names"},
		"entries of audit": {map[string]int{"audit": 400}, "days.audit"},
		"negative":         {map[string]int{"uploads": -1}, "days.uploads"},
		"beyond reason":    {map[string]int{"uploads": 1 << 40}, "days.uploads"},
	} {
		if err := care.CheckDays(c.days); !problem.Is(err, problem.Invalid) || problem.Of(err).Field != c.at {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := care.CheckDays(map[string]int{"uploads": 1, "drills": 0, "audit-names": 365}); err != nil {
		t.Error(err)
	}
	for _, plane := range []string{care.Control, care.Provisioning, care.Stamp} {
		if len(care.Of(plane)) == 0 {
			t.Errorf("%s keeps nothing", plane)
		}
	}
	if kinds := care.Kinds(map[string]int{"uploads": 5, "audit": 5}); !slices.ContainsFunc(kinds, func(k care.Kind) bool { return k.Name == "uploads" && k.Days == 5 }) || slices.ContainsFunc(kinds, func(k care.Kind) bool { return k.Name == "audit" && k.Days != 0 }) {
		t.Errorf("kinds are %+v", kinds)
	}
}
