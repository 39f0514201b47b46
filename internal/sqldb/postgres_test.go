package sqldb_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

func openAt(t *testing.T, at string) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), at, tables)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Logf("close: %v", err)
		}
	})
	return db
}

// TestOneProcessWritesAtATime holds that a second process is not let near a
// database, and that one whose place was taken does not write any more.
func TestOneProcessWritesAtATime(t *testing.T) {
	t.Parallel()
	server := sqldbtest.Start(t)
	at := func(schema string) string {
		url, err := sqldb.InSchema(server.URL, schema)
		if err != nil {
			t.Fatal(err)
		}
		return url
	}
	first := openAt(t, at("one"))
	soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := sqldb.Open(soon, at("one"), tables); err == nil {
		t.Fatal("a second process was let in")
	}
	openAt(t, at("two")) // another schema is another database
	if err := first.Commit(t.Context(), insert("a", 1)); err != nil {
		t.Fatal(err)
	}
	// The first loses its connection, and the second comes before it is back.
	server.Kill()
	server.Resume()
	second := openAt(t, at("one"))
	if err := first.Commit(t.Context(), insert("b", 2)); !problem.Is(err, problem.NotReady) {
		t.Errorf("wrote beside another process: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { // the server may not yet have seen the second leave
		err := first.Commit(t.Context(), insert("b", 2))
		if err == nil {
			t.Fatal("wrote after another process had")
		}
		return problem.Is(err, problem.Conflict)
	})
	if err := first.Watch(t.Context()); !problem.Is(err, problem.Conflict) {
		t.Errorf("the process does not end: %v", err)
	}
	third := openAt(t, at("one"))
	if n := count(t, third); n != 1 {
		t.Errorf("%d rows, not 1", n)
	}
}

// TestADatabaseThatWasAwayIsUsedAgain kills the server and sees that callers are
// told, and that everything works once it is back.
func TestADatabaseThatWasAwayIsUsedAgain(t *testing.T) {
	t.Parallel()
	server := sqldbtest.Start(t)
	db := openAt(t, server.URL)
	for round := range 3 {
		if err := db.Commit(t.Context(), insert(fmt.Sprint("before-", round), round)); err != nil {
			t.Fatal(err)
		}
		server.Kill()
		if err := db.Commit(t.Context(), insert(fmt.Sprint("during-", round), round)); !problem.Is(err, problem.NotReady) {
			t.Errorf("without a database: %v", err)
		}
		if _, _, err := sqldb.Row(t.Context(), db, func(r *sql.Rows) (n int, err error) { return n, r.Scan(&n) }, "SELECT count(*) FROM item"); !problem.Is(err, problem.NotReady) {
			t.Errorf("read without a database: %v", err)
		}
		server.Resume()
		until(t, func() bool { return db.Commit(t.Context(), insert(fmt.Sprint("after-", round), round)) == nil })
		if n := count(t, db); n != 2*(round+1) {
			t.Errorf("%d rows after round %d", n, round)
		}
	}
}

func until(t *testing.T, so func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !so() {
		select {
		case <-ctx.Done():
			t.Fatal("not in time")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestPlaceholdersAreNumbered(t *testing.T) {
	for text, want := range map[string]string{
		"SELECT 1":                            "SELECT 1",
		"a = ? AND b IN (?, ?)":               "a = $1 AND b IN ($2, $3)",
		"a = '?' AND b = ? AND c = 'it''s ?'": "a = '?' AND b = $1 AND c = 'it''s ?'",
	} {
		if got := sqldb.Numbered(text); got != want {
			t.Errorf("%s becomes %s", text, got)
		}
	}
}
