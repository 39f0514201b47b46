package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/slipway/slipway/internal/problem"
)

// tablesFile lists the tables of a copy of PostgreSQL, those first that others
// refer to; the rows of each are in a file beside it, as COPY writes them.
const tablesFile = "tables.json"

// table is one of them.
type table struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns"`
	Rows    int64    `json:"rows"`
	Serial  []string `json:"serial,omitempty"` // columns that number rows
	order   string   // its key
	refers  []string
}

func (t table) file() string { return t.Name + ".copy" }

func quoted(names []string) string {
	var all []string
	for _, name := range names {
		all = append(all, pgx.Identifier{name}.Sanitize())
	}
	return strings.Join(all, ", ")
}

// copyTables writes the rows of every table as one snapshot of the server has
// them, in the order of their keys: so two copies differ where rows do.
func (db *DB) copyTables(ctx context.Context, dir string) (Copied, error) {
	c := Copied{Engine: PostgreSQL, Rows: map[string]int64{}, Files: []string{tablesFile}}
	conn, err := db.readers.Conn(ctx)
	if err != nil {
		return c, asProblem(err)
	}
	err = conn.Raw(func(raw any) error {
		server := raw.(*stdlib.Conn).Conn()
		tx, err := server.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it has changed nothing
		tables, err := tablesOf(ctx, tx)
		if err != nil {
			return err
		}
		for i := range tables {
			t := &tables[i]
			if t.Rows, err = copyTo(ctx, server.PgConn(), *t, filepath.Join(dir, t.file())); err != nil {
				return fmt.Errorf("copy table %s: %w", t.Name, err)
			}
			c.Rows[t.Name] = t.Rows
			c.Files = append(c.Files, t.file())
		}
		if err := tx.QueryRow(ctx, "SELECT max(version_id) FROM goose_db_version").Scan(&c.Schema); err != nil {
			return err
		}
		text, err := json.Marshal(tables)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, tablesFile), text, 0o600)
	})
	return c, asProblem(errors.Join(err, conn.Close()))
}

func copyTo(ctx context.Context, server *pgconn.PgConn, t table, name string) (rows int64, err error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	done, err := server.CopyTo(ctx, file, fmt.Sprintf("COPY (SELECT %s FROM %s%s) TO STDOUT (FORMAT binary)", quoted(t.Columns), pgx.Identifier{t.Name}.Sanitize(), t.order))
	return done.RowsAffected(), err
}

// bookkeeping are tables of the schema's own history and owner, which a loaded
// schema has anew.
var bookkeeping = []string{"goose_db_version", "slipway_owner"}

const describeTables = `SELECT c.relname,
	array(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum)::text[],
	array(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attidentity <> '')::text[],
	array(SELECT a.attname FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(n, place) JOIN pg_attribute a ON a.attnum = k.n
		WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid ORDER BY k.place)::text[],
	array(SELECT DISTINCT p.relname FROM pg_constraint f JOIN pg_class p ON p.oid = f.confrelid WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.confrelid <> c.oid)::text[]
	FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace ORDER BY c.relname`

// tablesOf lists the tables of the schema, those first that others refer to.
func tablesOf(ctx context.Context, tx pgx.Tx) ([]table, error) {
	rows, err := tx.Query(ctx, describeTables)
	if err != nil {
		return nil, err
	}
	var all []table
	for rows.Next() {
		var t table
		var key []string
		if err := rows.Scan(&t.Name, &t.Columns, &t.Serial, &key, &t.refers); err != nil {
			rows.Close()
			return nil, err
		}
		if len(key) > 0 {
			t.order = " ORDER BY " + quoted(key)
		}
		if !slices.Contains(bookkeeping, t.Name) {
			all = append(all, t)
		}
	}
	return ordered(all), rows.Err()
}

// ordered puts tables behind those they refer to.
func ordered(all []table) []table {
	var out []table
	placed := map[string]bool{}
	for len(out) < len(all) {
		before := len(out)
		for _, t := range all {
			if !placed[t.Name] && !slices.ContainsFunc(t.refers, func(to string) bool { return !placed[to] }) {
				out, placed[t.Name] = append(out, t), true
			}
		}
		if len(out) == before {
			return all // they refer to one another; loading says so
		}
	}
	return out
}

// Load brings a copy of PostgreSQL, in a directory, into a schema that is not
// there yet or has no table. The schema has its name only once all is in it.
func Load(ctx context.Context, at string, migrations fs.FS, dir string, schemaVersion int64) error {
	if err := CheckURL(at); err != nil {
		return err
	}
	config, err := pgx.ParseConfig(at)
	if err != nil {
		return errors.New("the URL of the database cannot be read")
	}
	schema := config.RuntimeParams["search_path"]
	if schema == "" {
		schema = "public"
	}
	draft := schema + "_restoring"
	server, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return asProblem(err)
	}
	defer server.Close(context.WithoutCancel(ctx))
	if err := free(ctx, server, schema); err != nil {
		return err
	}
	if _, err := server.Exec(ctx, "DROP SCHEMA IF EXISTS "+draft+" CASCADE; CREATE SCHEMA "+draft); err != nil {
		return asProblem(err)
	}
	config.RuntimeParams["search_path"] = draft
	pool := stdlib.OpenDB(*config)
	err = fill(ctx, pool, migrations, dir, schemaVersion)
	if err = errors.Join(err, pool.Close()); err != nil {
		_, dropping := server.Exec(context.WithoutCancel(ctx), "DROP SCHEMA IF EXISTS "+draft+" CASCADE")
		return asProblem(errors.Join(err, dropping))
	}
	_, err = server.Exec(ctx, "BEGIN; DROP SCHEMA IF EXISTS "+schema+"; ALTER SCHEMA "+draft+" RENAME TO "+schema+"; COMMIT")
	return asProblem(err)
}

// free refuses a schema in which there is something.
func free(ctx context.Context, server *pgx.Conn, schema string) error {
	var tables int
	if err := server.QueryRow(ctx, "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1", schema).Scan(&tables); err != nil {
		return asProblem(err)
	}
	if tables > 0 {
		return problem.New(problem.Conflict, "the schema %s is not empty; restore into a database or schema that is", schema)
	}
	return nil
}

func fill(ctx context.Context, pool *sql.DB, migrations fs.FS, dir string, schemaVersion int64) error {
	provider, err := goose.NewProvider(goose.DialectPostgres, pool, translated{migrations})
	if err != nil {
		return err
	}
	if _, err := provider.UpTo(ctx, schemaVersion); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, tablesFile))
	if err != nil {
		return err
	}
	var tables []table
	if err := json.Unmarshal(text, &tables); err != nil {
		return fmt.Errorf("%s: %w", tablesFile, err)
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	err = conn.Raw(func(raw any) error {
		return pgx.BeginFunc(ctx, raw.(*stdlib.Conn).Conn(), func(tx pgx.Tx) error {
			for _, t := range slices.Backward(tables) { // migrations have put rows into some
				if _, err := tx.Exec(ctx, "DELETE FROM "+pgx.Identifier{t.Name}.Sanitize()); err != nil {
					return err
				}
			}
			for _, t := range tables {
				if err := copyFrom(ctx, tx, t, filepath.Join(dir, t.Name+".copy")); err != nil {
					return fmt.Errorf("load table %s: %w", t.Name, err)
				}
			}
			return nil
		})
	})
	return errors.Join(err, conn.Close())
}

func copyFrom(ctx context.Context, tx pgx.Tx, t table, name string) (err error) {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	done, err := tx.Conn().PgConn().CopyFrom(ctx, file, fmt.Sprintf("COPY %s (%s) FROM STDIN (FORMAT binary)", pgx.Identifier{t.Name}.Sanitize(), quoted(t.Columns)))
	if err != nil {
		return err
	}
	if done.RowsAffected() != t.Rows {
		return fmt.Errorf("there came %d rows of %d", done.RowsAffected(), t.Rows)
	}
	for _, column := range t.Serial {
		_, err = tx.Exec(ctx, fmt.Sprintf("SELECT setval(pg_get_serial_sequence($1, $2), greatest((SELECT coalesce(max(%[1]s), 0) FROM %[2]s), 0) + 1, false)", pgx.Identifier{column}.Sanitize(), pgx.Identifier{t.Name}.Sanitize()), pgx.Identifier{t.Name}.Sanitize(), column)
		if err != nil {
			return err
		}
	}
	return nil
}
