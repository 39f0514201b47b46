package sqldbtest

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
)

// test is a test, or one try of a property.
type test interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Cleanup(func())
}

// At names a database for a test, empty and gone with it: a file of SQLite, or
// a schema of the PostgreSQL server that SLIPWAY_TEST_DATABASE names.
func At(t test) string {
	t.Helper()
	server := os.Getenv("SLIPWAY_TEST_DATABASE")
	if server == "" {
		return file(t)
	}
	at, err := url.Parse(server)
	if err != nil {
		t.Fatalf("%v", err)
	}
	schema := "test_" + strings.ToLower(rand.Text())
	t.Cleanup(func() {
		if err := drop(server, schema); err != nil {
			t.Errorf("%v", err)
		}
	})
	values := at.Query()
	values.Set("search_path", schema)
	at.RawQuery = values.Encode()
	return at.String()
}

func file(t test) string {
	dir, err := os.MkdirTemp("", "sqldb")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("%v", err)
		}
	})
	return filepath.Join(dir, "test.db")
}

func drop(server, schema string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "DROP SCHEMA IF EXISTS "+schema+" CASCADE")
	return errors.Join(err, conn.Close(ctx))
}
