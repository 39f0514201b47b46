package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/blob"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

var secret = bytes.Repeat([]byte{3}, 32)

func openAt(t testing.TB, at string) (*sqldb.DB, *audit.Log) {
	t.Helper()
	db, err := sqldb.Open(t.Context(), at, migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	log, err := audit.Open(t.Context(), db, secret, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return db, log
}

func open(t testing.TB) (*sqldb.DB, *audit.Log) { return openAt(t, sqldbtest.At(t)) }

// fill records n entries about as many devices.
func fill(t testing.TB, db *sqldb.DB, log *audit.Log, n int) {
	t.Helper()
	const together = 500
	for from := 0; from < n; from += together {
		err := db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			ctx = audit.With(ctx, audit.Request{Actor: "anna", Person: "p1", Token: "t1"})
			for i := from; i < min(n, from+together); i++ {
				if err := log.Record(ctx, tx, audit.Entry{Actor: "anna", Action: "twin.patch", Object: fmt.Sprintf("device/sensor-%d", i), Outcome: audit.Done, Detail: `{"tags":{"n":1}}`}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func export(t testing.TB, log *audit.Log) string {
	t.Helper()
	var b bytes.Buffer
	e, err := log.Export(t.Context(), "anna")
	if err == nil {
		err = e.Write(t.Context(), &b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func verify(t testing.TB, text string, trust audit.Trust) audit.Report {
	t.Helper()
	r, err := audit.Verify(strings.NewReader(text), trust)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhatIsRecordedVerifiesAndSurvivesARestart(t *testing.T) {
	t.Parallel()
	at := sqldbtest.At(t)
	db, err := sqldb.Open(t.Context(), at, migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(t.Context(), db, secret, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, db, log, 40)
	first, err := log.Checkpoint(t.Context(), "anna")
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db, log = openAt(t, at)
	fill(t, db, log, 30)
	r := verify(t, export(t, log), audit.Trust{Key: first.Key, Checkpoints: []string{first.Note}})
	if !r.Verified() || r.Entries != 72 || r.Size != 72 || r.Checkpoints != 2 || !r.KeyTrusted {
		t.Errorf("%+v", r)
	}
	c, err := log.Continue(t.Context(), first.Size, 0)
	if err == nil {
		err = audit.VerifyContinuation(c, first.Key)
	}
	if err != nil {
		t.Error(err)
	}
	c.From, c.To = c.To, c.From
	if audit.VerifyContinuation(c, first.Key) == nil {
		t.Error("a log that got shorter is taken for one that went on")
	}
	if _, err := audit.Open(t.Context(), db, bytes.Repeat([]byte{4}, 32), time.Now); !problem.Is(err, problem.Conflict) {
		t.Errorf("with another secret: %v", err)
	}
}

// TestEachWayToFalsifyAnExportIsFound changes an export in every way there is.
func TestEachWayToFalsifyAnExportIsFound(t *testing.T) {
	t.Parallel()
	db, log := open(t)
	fill(t, db, log, 20)
	middle, err := log.Checkpoint(t.Context(), "anna")
	if err != nil {
		t.Fatal(err)
	}
	fill(t, db, log, 20)
	whole := strings.SplitAfter(strings.TrimSuffix(export(t, log), "\n"), "\n")
	last := len(whole) - 1
	whole[last] += "\n"
	at := func(sequence int) int { // the line of a leaf
		return slices.IndexFunc(whole, func(l string) bool { return strings.HasPrefix(l, fmt.Sprintf(`{"leaf":{"sequence":%d,`, sequence)) })
	}
	edit := func(old, next string) func([]string) []string {
		return func(lines []string) []string {
			if !strings.Contains(lines[at(7)], old) {
				t.Fatalf("there is no %s in %s", old, lines[at(7)])
			}
			lines[at(7)] = strings.Replace(lines[at(7)], old, next, 1)
			return lines
		}
	}
	for name, c := range map[string]struct {
		falsify  func([]string) []string
		sequence int64
		says     string
	}{
		"time":       {edit(`"at":"2`, `"at":"1`), 7, "edited"},
		"action":     {edit("twin.patch", "twin.replace"), 7, "edited"},
		"person":     {edit(`"p1"`, `"p2"`), 7, "edited"},
		"outcome":    {edit(`"done"`, `"failed"`), 7, "edited"},
		"actor":      {edit("anna", "berta"), 7, "who acted was edited"},
		"object":     {edit("sensor-6", "sensor-5"), 7, "acted on was edited"},
		"detail":     {edit(`\"n\":1`, `\"n\":2`), 7, "acted on was edited"},
		"deleted":    {func(l []string) []string { return slices.Delete(l, at(7), at(7)+1) }, 7, "missing"},
		"twice":      {func(l []string) []string { return slices.Insert(l, at(8), l[at(7)]) }, 7, "there twice"},
		"reordered":  {func(l []string) []string { i, j := at(7), at(8); l[i], l[j] = l[j], l[i]; return l }, 7, "missing"},
		"truncated":  {func(l []string) []string { return l[:at(30)] }, 22, "cut off"},
		"last entry": {func(l []string) []string { return slices.Delete(l, at(42), at(42)+1) }, 42, "missing"},
		"half":       {func(l []string) []string { l[at(7)] = l[at(7)][:50] + "\n"; return l }, 7, "missing"},
		"another checkpoint": {func(l []string) []string {
			l[len(l)-1] = strings.Replace(l[len(l)-1], `\n42\n`, `\n41\n`, 1)
			return l
		}, 42, "worth nothing"},
		"rehashed": {func(l []string) []string {
			l[at(7)] = rehashed(t, l[at(7)], l[at(8)])
			return l
		}, 1, "was edited or removed together with its hash"},
	} {
		r := verify(t, strings.Join(c.falsify(slices.Clone(whole)), ""), audit.Trust{Key: middle.Key})
		if !slices.ContainsFunc(r.Findings, func(f audit.Finding) bool { return f.Sequence == c.sequence && strings.Contains(f.Problem, c.says) }) {
			t.Errorf("%s: want entry %d %s, found %+v", name, c.sequence, c.says, r.Findings)
		}
	}
	if r := verify(t, strings.Join(whole, ""), audit.Trust{Key: middle.Key}); !r.Verified() {
		t.Errorf("untouched: %+v", r.Findings)
	}
	// A shorter log that is signed itself is found out by what was seen before.
	short := strings.Join(whole[:at(22)+0], "")
	if r := verify(t, short, audit.Trust{Key: middle.Key}); !r.Verified() {
		t.Fatalf("the log as it was: %+v", r.Findings)
	}
	var newest string
	for _, line := range whole {
		var l audit.Line
		if err := json.Unmarshal([]byte(line), &l); err == nil && l.Checkpoint != "" {
			newest = l.Checkpoint
		}
	}
	r := verify(t, short, audit.Trust{Key: middle.Key, Checkpoints: []string{newest}})
	if len(r.Findings) != 1 || r.Findings[0].Sequence != 22 || !strings.Contains(r.Findings[0].Problem, "covers 42") {
		t.Errorf("a smaller tree than the last seen: %+v", r.Findings)
	}
	_, other := open(t)
	foreign, err := other.Latest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := audit.Verify(strings.NewReader(strings.Join(whole, "")), audit.Trust{Key: foreign.Key}); err == nil {
		t.Error("the key of another log is taken")
	}
}

// rehashed makes a line say something else with a hash that fits: that of
// another line is as good as any.
func rehashed(t *testing.T, line, other string) string {
	t.Helper()
	var one, two audit.Line
	if err := errors.Join(json.Unmarshal([]byte(line), &one), json.Unmarshal([]byte(other), &two)); err != nil {
		t.Fatal(err)
	}
	sequence := one.Leaf.Sequence
	*one.Leaf = *two.Leaf
	one.Leaf.Sequence, one.Actor, one.About = sequence, two.Actor, two.About
	one.Hash = audit.HashOf(one)
	text, err := json.Marshal(one)
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// TestTheDatabaseCannotBeChangedUnnoticed does to the tables what somebody
// with access to them could.
func TestTheDatabaseCannotBeChangedUnnoticed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		statements []string
		sequence   int64
		stops      bool // whether the log takes no more
	}{
		"edit":                 {[]string{"UPDATE audit SET action = 'nothing' WHERE sequence = 5"}, 5, false},
		"edit of a payload":    {[]string{"UPDATE audit_payload SET actor = 'berta' WHERE sequence = 5"}, 5, false},
		"delete":               {[]string{"DELETE FROM audit_payload WHERE sequence = 5", "DELETE FROM audit WHERE sequence = 5"}, 5, false},
		"reorder":              {[]string{"DELETE FROM audit_payload", "UPDATE audit SET sequence = -5 WHERE sequence = 5", "UPDATE audit SET sequence = 5 WHERE sequence = 6", "UPDATE audit SET sequence = 6 WHERE sequence = -5"}, 5, false},
		"truncate":             {[]string{"DELETE FROM audit_payload WHERE sequence > 15", "DELETE FROM audit WHERE sequence > 15"}, 16, true},
		"truncate with hashes": {[]string{"DELETE FROM audit_payload WHERE sequence > 15", "DELETE FROM audit WHERE sequence > 15", "DELETE FROM audit_hash WHERE id >= 26"}, 16, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, log := open(t)
			fill(t, db, log, 20)
			seen, err := log.Checkpoint(t.Context(), "anna")
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				for _, s := range c.statements {
					if _, err := tx.Exec(ctx, s); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if c.stops {
				if _, err := log.Export(t.Context(), "anna"); err == nil {
					t.Error("a log that was cut off is signed as if nothing were")
				}
				return
			}
			r := verify(t, export(t, log), audit.Trust{Key: seen.Key, Checkpoints: []string{seen.Note}})
			if !slices.ContainsFunc(r.Findings, func(f audit.Finding) bool { return f.Sequence == c.sequence }) {
				t.Errorf("entry %d is not named: %+v", c.sequence, r.Findings)
			}
		})
	}
}

func TestAnEntryIsProven(t *testing.T) {
	t.Parallel()
	db, log := open(t)
	fill(t, db, log, 33)
	e, p, err := log.Show(t.Context(), "anna", 12)
	if err != nil || e.Object != "device/sensor-11" || e.Person != "p1" {
		t.Fatalf("%+v, %v", e, err)
	}
	if proven, err := audit.VerifyProof(p, p.Checkpoint.Key); err != nil || proven.Object != e.Object || !proven.At.Equal(e.At) {
		t.Errorf("%+v, %v", proven, err)
	}
	text, err := json.Marshal(p)
	if err != nil || !audit.IsProof(text) || audit.IsProof([]byte(export(t, log))) {
		t.Errorf("%v: %s", err, text)
	}
	for _, edit := range [][2]string{{"sensor-11", "sensor-12"}, {"twin.patch", "twin.purge"}, {`"sequence":12`, `"sequence":13`}} {
		falsified := p
		falsified.Line = bytes.Replace(p.Line, []byte(edit[0]), []byte(edit[1]), 1)
		if _, err := audit.VerifyProof(falsified, ""); err == nil {
			t.Errorf("%s is taken", edit)
		}
	}
	p.Path[0], p.Path[1] = p.Path[1], p.Path[0]
	if _, err := audit.VerifyProof(p, ""); err == nil {
		t.Error("another path is taken")
	}
}

// TestWhatIsErasedLeavesTheProofs erases who and what, and finds neither again.
func TestWhatIsErasedLeavesTheProofs(t *testing.T) {
	t.Parallel()
	db, log := open(t)
	fill(t, db, log, 9)
	before, err := log.Checkpoint(t.Context(), "anna")
	if err != nil {
		t.Fatal(err)
	}
	if looked, err := log.List(t.Context(), "berta", audit.Filter{Object: "device/sensor-3"}); err != nil || len(looked) != 1 {
		t.Fatalf("%+v, %v", looked, err)
	}
	for _, c := range []struct {
		erase audit.Erasure
		want  int64
	}{{audit.Erasure{Object: "device/sensor-3", Reason: "its owner asked"}, 1}, {audit.Erasure{Actor: "anna", Reason: "she left"}, 10}} {
		if n, err := log.Erase(t.Context(), "berta", c.erase); err != nil || n != c.want {
			t.Fatalf("%+v: %d, %v", c.erase, n, err)
		}
	}
	for _, e := range []audit.Erasure{{Reason: "r"}, {Actor: "a", Object: "device/a", Reason: "r"}, {Object: "a", Reason: "r"}, {Actor: "a"}} {
		if _, err := log.Erase(t.Context(), "berta", e); !problem.Is(err, problem.Invalid) {
			t.Errorf("%+v: %v", e, err)
		}
	}
	text := export(t, log)
	if strings.Count(text, "anna") != 1 || strings.Contains(text, "sensor-3") || !strings.Contains(text, "sensor-4\"") {
		t.Errorf("%s", text) // the one is whoever exported it
	}
	if r := verify(t, text, audit.Trust{Key: before.Key, Checkpoints: []string{before.Note}}); !r.Verified() || r.Erased != 11 {
		t.Errorf("%+v", r)
	}
	e, p, err := log.Show(t.Context(), "berta", 4)
	if err != nil || e.Actor != "" || e.Object != "" || len(e.Erased) != 2 {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := audit.VerifyProof(p, before.Key); err != nil {
		t.Error(err)
	}
}

// TestWithoutItsEntryNothingIsChanged takes the log away.
func TestWithoutItsEntryNothingIsChanged(t *testing.T) {
	t.Parallel()
	db, log := open(t)
	fill(t, db, log, 3)
	if err := db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM audit_hash WHERE id >= 3")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM audit_witness"); err != nil {
			return err
		}
		return log.Record(ctx, tx, audit.Entry{Actor: "anna", Action: "x", Outcome: audit.Done})
	}); !problem.Is(err, problem.Internal) {
		t.Errorf("a change without an entry: %v", err)
	}
	if err := log.Around(t.Context(), audit.Entry{Actor: "anna", Action: "x"}, func(*audit.Entry) error {
		t.Error("another plane is asked though that cannot be recorded")
		return nil
	}); err == nil {
		t.Error("no error")
	}
}

func TestAMutationElsewhereIsOneEntryWithItsOutcome(t *testing.T) {
	t.Parallel()
	db, log := open(t)
	ctx := audit.With(t.Context(), audit.Request{ID: "r1", Actor: "anna", Person: "p1", Token: "t1"})
	audit.Under(ctx, "test", "g1")
	if err := log.Around(ctx, audit.Entry{Actor: "anna", Action: "twin.patch", Object: "device/a", Detail: "this"}, func(o *audit.Entry) error { o.After = audit.Digest("a"); return nil }); err != nil {
		t.Fatal(err)
	}
	failed := problem.New(problem.NotReady, "its stamp is away")
	ctx = audit.With(t.Context(), audit.Request{ID: "r2", Actor: "anna"})
	if err := log.Around(ctx, audit.Entry{Actor: "anna", Action: "twin.patch", Object: "device/b"}, func(*audit.Entry) error { return failed }); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	ctx = audit.With(t.Context(), audit.Request{ID: "r3", Actor: "anna"})
	if err := db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return errors.Join(
			log.Record(ctx, tx, audit.Entry{Actor: "slipway", Action: "signing.admit", Object: "release/a", Outcome: audit.Done}),
			log.Record(ctx, tx, audit.Entry{Actor: "anna", Action: "release.create", Object: "release/a", Outcome: audit.Done}),
			log.Record(ctx, tx, audit.Entry{Actor: "anna", Action: "release.tell", Object: "release/a", Outcome: audit.Done}))
	}); err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string]string{
		"r1": "twin.patch device/a done this",
		"r2": "twin.patch device/b failed its stamp is away",
		"r3": "release.tell release/a done  and so,release.create release/a done ,signing.admit release/a done  and so",
	} {
		all, err := log.List(t.Context(), "berta", audit.Filter{Request: request})
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, e := range all {
			line := fmt.Sprintf("%s %s %s %s", e.Action, e.Object, e.Outcome, e.Detail)
			if e.Consequence {
				line += " and so"
			}
			lines = append(lines, line)
		}
		if got := strings.Join(lines, ","); got != want {
			t.Errorf("%s: %s, want %s", request, got, want)
		}
	}
	all, err := log.List(t.Context(), "berta", audit.Filter{Request: "r1"})
	if err != nil || len(all) != 1 || all[0].Person != "p1" || all[0].Token != "t1" || all[0].Grant != "g1" || all[0].After != audit.Digest("a") || all[0].OutcomeAt == 0 {
		t.Errorf("%+v, %v", all, err)
	}
	reads, err := log.List(t.Context(), "berta", audit.Filter{Actor: "berta", Action: "audit.*"})
	if err != nil || len(reads) != 4 || reads[0].Detail != "request r1" {
		t.Errorf("%+v, %v", reads, err)
	}
	if r := verify(t, export(t, log), audit.Trust{}); !r.Verified() || r.KeyTrusted {
		t.Errorf("%+v", r)
	}
}

// TestEntriesFromBeforeTheTreeAreTakenIn begins with the table as it was.
func TestEntriesFromBeforeTheTreeAreTakenIn(t *testing.T) {
	t.Parallel()
	db, _ := open(t)
	if err := db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		for i := range 1203 {
			if _, err := tx.Exec(ctx, "INSERT INTO audit_before (at, actor, action, object, outcome, detail) VALUES (?, 'carl', 'old', ?, 'done', '')", 1_000_000*(i+1), fmt.Sprintf("thing/%d", i)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(t.Context(), db, secret, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	all, err := log.List(t.Context(), "anna", audit.Filter{Actor: "carl", Limit: audit.MaxPage})
	if err != nil || len(all) != audit.MaxPage || all[0].Object != "thing/1202" || !all[0].At.Equal(time.Unix(1203, 0)) {
		t.Errorf("%d entries, %+v, %v", len(all), all[0], err)
	}
	if r := verify(t, export(t, log), audit.Trust{}); !r.Verified() || r.Entries != 1205 {
		t.Errorf("%+v", r)
	}
}

func TestWitnessesKeepCheckpoints(t *testing.T) {
	t.Parallel()
	db, log := open(t)
	file, dir := filepath.Join(t.TempDir(), "witness"), t.TempDir()
	var sent []string
	away := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(r.Body); err != nil {
			t.Error(err)
		}
		sent = append(sent, b.String())
	}))
	defer server.Close()
	log.Witnesses = []audit.Witness{audit.InFile(file), audit.AtURL(server.URL, server.Client()), audit.InBucket("b", blob.Dir(dir))}
	fill(t, db, log, 5)
	if err := log.Publish(t.Context()); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("a witness that is away: %v", err)
	}
	states, err := log.WitnessStates(t.Context())
	if err != nil || len(states) != 3 || states[0].Size != 5 || states[1].Size != 0 || states[1].Problem == "" || states[2].Size != 5 {
		t.Errorf("%+v, %v", states, err)
	}
	away = false
	fill(t, db, log, 4)
	for range 2 { // the second has nothing to tell
		if err := log.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := audit.SplitCheckpoints(kept)
	objects, err := blob.Dir(dir).List(t.Context(), "checkpoints/")
	if err != nil || len(all) != 2 || len(sent) != 1 || sent[0] != all[1] || len(objects) != 2 {
		t.Errorf("%d in the file, %d sent, %v, %v", len(all), len(sent), objects, err)
	}
	c, err := log.Latest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r := verify(t, export(t, log), audit.Trust{Key: c.Key, Checkpoints: all}); !r.Verified() {
		t.Errorf("%+v", r.Findings)
	}
}

func FuzzVerify(f *testing.F) {
	db, log := openAt(f, filepath.Join(f.TempDir(), "control.db"))
	fill(f, db, log, 3)
	whole := export(f, log)
	f.Add(whole)
	f.Add(strings.Replace(whole, "sensor-1", "sensor-2", 1))
	f.Fuzz(func(t *testing.T, text string) {
		r, err := audit.Verify(strings.NewReader(text), audit.Trust{})
		if err == nil && r.Verified() && strings.Contains(whole, r.Key) && strings.Count(text, "sensor-1") != strings.Count(whole, "sensor-1") {
			t.Errorf("taken for good: %s", text)
		}
	})
}

// BenchmarkVerify is of an export of 100,000 entries, as from a file.
func BenchmarkVerify(b *testing.B) {
	db, log := openAt(b, filepath.Join(b.TempDir(), "control.db"))
	const n = 100_000
	fill(b, db, log, n)
	text := export(b, log)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if r := verify(b, text, audit.Trust{}); !r.Verified() || r.Entries != n+1 {
			b.Fatal(r)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/100000-entries")
}

// BenchmarkRecord is of what an entry adds to a change.
func BenchmarkRecord(b *testing.B) {
	db, log := openAt(b, filepath.Join(b.TempDir(), "control.db"))
	for b.Loop() {
		fill(b, db, log, 500)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/500, "µs/entry")
}
