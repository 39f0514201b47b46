package sqldb_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

// library is a schema with what copies must get right: references, also of a
// table to itself, numbered rows, bytes, rows that migrations make.
var library = fstest.MapFS{"001_library.sql": {Data: []byte(`-- +goose Up
CREATE TABLE author (name TEXT PRIMARY KEY, mentor TEXT REFERENCES author (name));
CREATE TABLE book (id INTEGER PRIMARY KEY AUTOINCREMENT, author TEXT NOT NULL REFERENCES author (name), cover BLOB NOT NULL);
CREATE TABLE shelf (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL);
INSERT INTO shelf (id, version) VALUES (1, 1);
CREATE TABLE canary (id INTEGER PRIMARY KEY CHECK (id = 1), mark TEXT NOT NULL, at INTEGER NOT NULL);
`)}}

func stock(ctx context.Context, tx *sqldb.Tx) error {
	for _, text := range []string{
		"INSERT INTO author (name, mentor) VALUES ('zoe', NULL)", "INSERT INTO author (name, mentor) VALUES ('ann', 'zoe')",
		"INSERT INTO canary (id, mark, at) VALUES (1, 'sings', 5)", "UPDATE shelf SET version = 7",
	} {
		if _, err := tx.Exec(ctx, text); err != nil {
			return err
		}
	}
	for i := range 300 {
		if _, err := tx.Exec(ctx, "INSERT INTO book (author, cover) VALUES (?, ?)", []string{"zoe", "ann"}[i%2], []byte{byte(i), 0, 255}); err != nil {
			return err
		}
	}
	return nil
}

func books(t *testing.T, db *sqldb.DB) string {
	t.Helper()
	all, err := sqldb.Rows(t.Context(), db, func(r *sql.Rows) (s string, err error) {
		var id int64
		var cover []byte
		err = r.Scan(&id, &s, &cover)
		return fmt.Sprint(id, s, cover), err
	}, "SELECT id, author, cover FROM book ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, "\n")
}

func openLibrary(t *testing.T, at string) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), at, library)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func copyWhileOthersWrite(t *testing.T, db *sqldb.DB) (dir string, c sqldb.Copied, was string) {
	t.Helper()
	if err := db.Commit(t.Context(), stock); err != nil {
		t.Fatal(err)
	}
	dir, was = t.TempDir(), books(t, db)
	stop, writing := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				writing <- nil
				return
			default:
			}
			err := db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				_, err := tx.Exec(ctx, "UPDATE shelf SET version = version + 1")
				return err
			})
			if err != nil {
				writing <- err
				return
			}
		}
	}()
	c, err := db.Copy(t.Context(), dir)
	close(stop)
	if writeErr := <-writing; err != nil || writeErr != nil {
		t.Fatal(err, writeErr)
	}
	if c.Schema != 1 || c.Rows["book"] != 300 || c.Rows["author"] != 2 {
		t.Errorf("%+v", c)
	}
	return dir, c, was
}

func TestACopyOfSQLiteIsWhole(t *testing.T) {
	t.Parallel()
	db := openLibrary(t, filepath.Join(t.TempDir(), "library.db"))
	dir, _, was := copyWhileOthersWrite(t, db)
	file := filepath.Join(dir, sqldb.FileCopy)
	e, err := sqldb.ExamineFile(t.Context(), file)
	if err != nil || len(e.Faults) > 0 || e.Mark != "sings" || e.Rows["book"] != 300 {
		t.Fatalf("%+v, %v", e, err)
	}
	if got := books(t, openLibrary(t, file)); got != was {
		t.Error("the copy has other books")
	}
	damaged := filepath.Join(t.TempDir(), "damaged.db")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := 3 * 4096; i < 4*4096; i++ {
		content[i] = 0xff
	}
	if err := os.WriteFile(damaged, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if e, err := sqldb.ExamineFile(t.Context(), damaged); err == nil && len(e.Faults) == 0 {
		t.Error("a damaged file is taken for whole")
	}
}

func TestACopyOfPostgreSQLComesBackInAnotherSchema(t *testing.T) {
	t.Parallel()
	server := sqldbtest.Start(t)
	at := func(schema string) string {
		at, err := sqldb.InSchema(server.URL, schema)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	db := openLibrary(t, at("library"))
	dir, c, was := copyWhileOthersWrite(t, db)
	if err := sqldb.Load(t.Context(), at("library"), library, dir, c.Schema); !problem.Is(err, problem.Conflict) {
		t.Errorf("into a schema that is in use: %v", err)
	}
	if err := sqldb.Load(t.Context(), at("again"), library, dir, c.Schema); err != nil {
		t.Fatal(err)
	}
	e, err := sqldb.ExamineURL(t.Context(), at("again"))
	if err != nil || e.Mark != "sings" || e.Rows["book"] != 300 || e.Schema != 1 {
		t.Errorf("%+v, %v", e, err)
	}
	again := openLibrary(t, at("again"))
	if got := books(t, again); got != was {
		t.Error("the copy has other books")
	}
	err = again.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO book (author, cover) VALUES (?, ?)", "zoe", []byte{1})
		return err
	})
	if err != nil || !strings.Contains(books(t, again), "301zoe[1]") && !strings.Contains(books(t, again), "301 zoe [1]") {
		t.Errorf("rows are not numbered on: %v, %.200s", err, books(t, again)[max(0, len(books(t, again))-60):])
	}
	// A copy that is cut short leaves no schema.
	if err := os.Truncate(filepath.Join(dir, "book.copy"), 2000); err != nil {
		t.Fatal(err)
	}
	if err := sqldb.Load(t.Context(), at("half"), library, dir, c.Schema); err == nil {
		t.Error("a copy that is cut short was loaded")
	}
	if gone, err := sqldb.DropSchema(t.Context(), at("half")); err != nil || !gone {
		t.Error(gone, err)
	}
	if _, err := sqldb.ExamineURL(t.Context(), at("half_restoring")); err == nil {
		t.Error("half of it is there")
	}
}
