package sqldb_test

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/seal"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

var safe = fstest.MapFS{"001_safe.sql": {Data: []byte("-- +goose Up\nCREATE TABLE safe (owner TEXT NOT NULL, name TEXT NOT NULL, note TEXT NOT NULL, raw BLOB, PRIMARY KEY (owner, name));\n")}}

var (
	note = sqldb.Sealed{Table: "safe", Key: []string{"owner", "name"}, Name: "note"}
	raw  = sqldb.Sealed{Table: "safe", Key: []string{"owner", "name"}, Name: "raw", Bytes: true}
)

// vault is a database with secrets, and the clock of its keys.
type vault struct {
	t    *testing.T
	at   string
	keys seal.Source
	db   *sqldb.DB
	now  time.Time
}

func newVault(t *testing.T) *vault {
	v := &vault{t: t, at: sqldbtest.At(t), keys: seal.Source{File: filepath.Join(t.TempDir(), seal.FileName)}, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	t.Cleanup(func() { v.close() })
	return v
}

func (v *vault) close() {
	if v.db != nil {
		if err := v.db.Close(); err != nil {
			v.t.Error(err)
		}
	}
	v.db = nil
}

func (v *vault) open() {
	v.t.Helper()
	v.close()
	var err error
	if v.db, err = sqldb.Open(v.t.Context(), v.at, safe); err != nil {
		v.t.Fatal(err)
	}
}

func (v *vault) seal() error {
	return v.db.KeepSealed(v.t.Context(), v.keys, []sqldb.Sealed{note, raw}, func() time.Time { return v.now })
}

func (v *vault) reopen() {
	v.t.Helper()
	v.open()
	if err := v.seal(); err != nil {
		v.t.Fatal(err)
	}
}

func (v *vault) put(name, text string) {
	v.t.Helper()
	if err := v.db.Commit(v.t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO safe (owner, name, note, raw) VALUES ('o', ?, ?, ?) ON CONFLICT (owner, name) DO UPDATE SET note = excluded.note, raw = excluded.raw",
			name, tx.Seal(note, []byte(text), "o", name), tx.Seal(raw, []byte(text), "o", name))
		return err
	}); err != nil {
		v.t.Fatal(err)
	}
}

func (v *vault) get(name string) (text string, err error) {
	text, _, err = sqldb.Row(v.t.Context(), v.db, func(r *sql.Rows) (s string, err error) {
		var owner, name string
		var bytes []byte
		if err := r.Scan(&owner, &name, note.Into(&s, &owner, &name), raw.Into(&bytes, &owner, &name)); err != nil {
			return "", err
		}
		if string(bytes) != s {
			v.t.Errorf("%s: %q as bytes, %q as text", name, bytes, s)
		}
		return s, nil
	}, "SELECT owner, name, note, raw FROM safe WHERE name = ?", name)
	return text, err
}

func (v *vault) wants(name, want string) {
	v.t.Helper()
	if got, err := v.get(name); err != nil || got != want {
		v.t.Errorf("%s is %q, not %q: %v", name, got, want, err)
	}
}

// holds reports whether the database's files contain a text.
func (v *vault) holds(text string) bool {
	v.t.Helper()
	files, err := filepath.Glob(v.at + "*")
	if err != nil || len(files) == 0 {
		v.t.Fatal(files, err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			v.t.Fatal(err)
		}
		if bytes.Contains(content, []byte(text)) {
			return true
		}
	}
	return false
}

func (v *vault) state() sqldb.SealingState {
	v.t.Helper()
	state, err := v.db.Sealing(v.t.Context())
	if err != nil {
		v.t.Fatal(err)
	}
	return state
}

func TestSecretsOfAnOlderProgramAreSealedWhenANewerOneOpensThem(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.open()
	for _, name := range []string{"a", "b"} {
		v.put(name, "planted-secret-"+name)
	}
	v.put("gone", "planted-secret-gone")
	if !sqldb.IsURL(v.at) && !v.holds("planted-secret-a") {
		t.Error("the test does not find what was not sealed")
	}
	v.reopen()
	v.wants("a", "planted-secret-a")
	v.put("late", "planted-secret-late")
	v.wants("late", "planted-secret-late")
	if state := v.state(); state.Done != 8 || state.Left != 0 || len(state.Keys) != 1 {
		t.Errorf("%+v", state)
	}
	if !sqldb.IsURL(v.at) && v.holds("planted-secret") {
		t.Error("secrets are in the files of the database")
	}
	v.reopen()
	v.wants("b", "planted-secret-b")
}

func TestSealedSecretsNeedTheirKeysAndTheirPlaces(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.reopen()
	v.put("a", "one")
	v.put("b", "two")
	if err := v.db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE safe SET note = (SELECT note FROM safe WHERE name = 'b') WHERE name = 'a'")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if text, err := v.get("a"); !problem.Is(err, problem.Conflict) && err == nil {
		t.Errorf("a secret is read in the place of another: %q", text)
	}
	kept, err := os.ReadFile(v.keys.File)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(v.keys.File); err != nil {
		t.Fatal(err)
	}
	v.open()
	if err := v.seal(); err == nil || !strings.Contains(err.Error(), "is missing; put it back") {
		t.Errorf("without its keys the database opens: %v", err)
	}
	if _, err := os.Stat(v.keys.File); err == nil {
		t.Error("other keys were made")
	}
	if err := os.WriteFile(v.keys.File, seal.Ring{seal.Generate(v.now)}.Text(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := v.seal(); !problem.Is(err, problem.Conflict) {
		t.Errorf("with other keys it opens: %v", err)
	}
	if err := os.WriteFile(v.keys.File, kept, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(v.keys.File, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := v.seal(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("keys that everybody reads are taken: %v", err)
	}
	if err := os.Chmod(v.keys.File, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := v.seal(); err != nil {
		t.Error(err)
	}
	v.wants("b", "two")
}

func TestASealingKeyIsReplacedAndMayBeInterruptedAnywhere(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.reopen()
	step := func(later time.Duration) {
		t.Helper()
		v.now = v.now.Add(later)
		if err := v.db.StepSealing(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	v.put("a", "one")
	old := v.state().Keys[0]
	ring, err := v.keys.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := v.keys.Write(append(seal.Ring{seal.Generate(v.now)}, ring...)); err != nil { // as slipway keys rotate does
		t.Fatal(err)
	}
	step(time.Second)
	v.put("b", "two")
	if state := v.state(); len(state.Keys) != 2 || state.Done != 0 || state.Left != 4 {
		t.Errorf("a key seals before other processes know it: %+v", state)
	}
	v.reopen() // anew, in the middle
	v.wants("a", "one")
	step(seal.Settling)
	if state := v.state(); state.Done != 4 || state.Left != 0 || len(state.Keys) != 2 {
		t.Errorf("%+v", state)
	}
	v.reopen()
	step(time.Second)
	step(time.Second)
	if len(v.state().Keys) != 2 {
		t.Error("the old key went before everybody has stopped using it")
	}
	step(seal.Settling)
	if state := v.state(); len(state.Keys) != 1 || state.Keys[0].ID == old.ID || state.Keys[0].Secrets != 4 {
		t.Errorf("%+v", state)
	}
	v.reopen()
	v.wants("a", "one")
	v.wants("b", "two")
	if ring, err := v.keys.Read(t.Context()); err != nil || ring.Has(old.ID) || len(ring) != 1 {
		t.Errorf("the old key is still there: %v", err)
	}
}

func TestKeysOfACommandAreItsOwnersToRotate(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	file := filepath.Join(t.TempDir(), "ring")
	first := seal.Generate(v.now)
	if err := os.WriteFile(file, seal.Ring{first}.Text(), 0o600); err != nil {
		t.Fatal(err)
	}
	v.keys = seal.Source{Command: []string{"cat", file}}
	v.reopen()
	v.put("a", "one")
	if err := v.keys.Write(seal.Ring{first}); !problem.Is(err, problem.Conflict) {
		t.Error(err)
	}
	v.now = v.now.Add(time.Hour)
	second := seal.Generate(v.now.Add(-seal.Settling))
	if err := os.WriteFile(file, seal.Ring{second, first}.Text(), 0o600); err != nil {
		t.Fatal(err)
	}
	v.reopen()
	if err := v.db.StepSealing(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state := v.state(); state.Keys[0].ID != second.ID || state.Done != 2 || state.Left != 0 {
		t.Errorf("%+v", state)
	}
	v.wants("a", "one")
}
