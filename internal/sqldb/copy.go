package sqldb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
)

// Copied is what Copy has written.
type Copied struct {
	Engine Dialect
	Schema int64            // number of the last migration
	Rows   map[string]int64 // of each table
	Files  []string         // names in the directory
}

// FileCopy is the file of a copy of a SQLite database.
const FileCopy = "database.sqlite"

// Copy writes the database as it is at one moment into an empty directory,
// while others go on to write: a SQLite file, or the rows of each table.
func (db *DB) Copy(ctx context.Context, dir string) (Copied, error) {
	if db.dialect == PostgreSQL {
		return db.copyTables(ctx, dir)
	}
	file := filepath.Join(dir, FileCopy)
	if err := db.copyFile(ctx, file); err != nil {
		return Copied{}, fmt.Errorf("copy the database: %w", err)
	}
	at, err := sql.Open("sqlite", "file:"+file+"?mode=ro&immutable=1")
	if err != nil {
		return Copied{}, err
	}
	c := Copied{Engine: SQLite, Files: []string{FileCopy}}
	if c.Rows, err = sqliteRows(ctx, at); err == nil {
		err = at.QueryRowContext(ctx, "SELECT max(version_id) FROM goose_db_version").Scan(&c.Schema)
	}
	return c, errors.Join(err, at.Close())
}

// copyFile copies all pages in one step: in several, each change by others
// would have it begin anew.
func (db *DB) copyFile(ctx context.Context, file string) error {
	conn, err := db.readers.Conn(ctx)
	if err != nil {
		return err
	}
	err = conn.Raw(func(raw any) error {
		source, ok := raw.(interface {
			NewBackup(to string) (*sqlite.Backup, error)
		})
		if !ok {
			return errors.New("the driver makes no copies")
		}
		backup, err := source.NewBackup(file)
		if err != nil {
			return err
		}
		_, err = backup.Step(-1)
		return errors.Join(err, backup.Finish())
	})
	return errors.Join(err, conn.Close())
}

// sqliteRows counts what is in each table.
func sqliteRows(ctx context.Context, at *sql.DB) (map[string]int64, error) {
	names, err := texts(ctx, at, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
	if err != nil {
		return nil, err
	}
	rows := map[string]int64{}
	for _, name := range names {
		var n int64
		if err := at.QueryRowContext(ctx, `SELECT count(*) FROM "`+name+`"`).Scan(&n); err != nil {
			return nil, err
		}
		rows[name] = n
	}
	return rows, nil
}

func texts(ctx context.Context, at *sql.DB, query string) ([]string, error) {
	rows, err := at.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// Examined is what Examine has found.
type Examined struct {
	Schema int64
	Rows   map[string]int64
	Mark   string   // of the canary
	Faults []string // of the file, of references between its rows
}

// maxFaults is how many faults are told.
const maxFaults = 20

// ExamineFile looks through a SQLite file that nobody works on: whether its
// pages and the references between its rows are whole, and what is in it.
func ExamineFile(ctx context.Context, file string) (e Examined, err error) {
	at, err := sql.Open("sqlite", "file:"+file+"?mode=ro&immutable=1")
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, at.Close()) }()
	at.SetMaxOpenConns(1)
	whole, err := texts(ctx, at, fmt.Sprintf("PRAGMA integrity_check(%d)", maxFaults))
	if err != nil {
		return e, err
	}
	if !slices.Equal(whole, []string{"ok"}) {
		e.Faults = append(e.Faults, whole...)
	}
	orphans, err := texts(ctx, at, fmt.Sprintf(`SELECT 'a row of ' || "table" || ' refers to a row of ' || parent || ' that is not there' FROM pragma_foreign_key_check LIMIT %d`, maxFaults))
	if err != nil {
		return e, err
	}
	e.Faults = append(e.Faults, orphans...)
	if err := at.QueryRowContext(ctx, "SELECT max(version_id) FROM goose_db_version").Scan(&e.Schema); err != nil {
		return e, err
	}
	if e.Rows, err = sqliteRows(ctx, at); err != nil {
		return e, err
	}
	e.Mark, err = markIn(ctx, at)
	return e, err
}

// Known is the number of the newest migration that this program has.
func Known(migrations fs.FS) (int64, error) {
	names, err := fs.Glob(migrations, "*.sql")
	if err != nil {
		return 0, err
	}
	var newest int64
	for _, name := range names {
		number, err := goose.NumericComponent(name)
		if err != nil {
			return 0, err
		}
		newest = max(newest, number)
	}
	return newest, nil
}

// ExamineURL is ExamineFile for a database of PostgreSQL, which sees to the
// references between rows by itself.
func ExamineURL(ctx context.Context, at string) (e Examined, err error) {
	config, err := pgx.ParseConfig(at)
	if err != nil {
		return e, errors.New("the URL of the database cannot be read")
	}
	pool := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, pool.Close()) }()
	if err := pool.QueryRowContext(ctx, "SELECT max(version_id) FROM goose_db_version").Scan(&e.Schema); err != nil {
		return e, asProblem(err)
	}
	names, err := texts(ctx, pool, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace ORDER BY relname")
	if err != nil {
		return e, err
	}
	e.Rows = map[string]int64{}
	for _, name := range names {
		if slices.Contains(bookkeeping, name) {
			continue
		}
		var n int64
		if err := pool.QueryRowContext(ctx, "SELECT count(*) FROM "+pgx.Identifier{name}.Sanitize()).Scan(&n); err != nil {
			return e, err
		}
		e.Rows[name] = n
	}
	e.Mark, err = markIn(ctx, pool)
	return e, err
}

// markIn reads the canary.
func markIn(ctx context.Context, at *sql.DB) (mark string, err error) {
	err = at.QueryRowContext(ctx, "SELECT mark FROM canary WHERE id = 1").Scan(&mark)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return mark, err
}

// DropSchema takes away a schema that was loaded, with all that is in it, and
// reports whether it is gone.
func DropSchema(ctx context.Context, at string) (gone bool, err error) {
	config, err := pgx.ParseConfig(at)
	if err != nil {
		return false, errors.New("the URL of the database cannot be read")
	}
	schema := cmp.Or(config.RuntimeParams["search_path"], "public")
	pool := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, pool.Close()) }()
	if _, err := pool.ExecContext(ctx, "DROP SCHEMA IF EXISTS "+schema+" CASCADE"); err != nil {
		return false, asProblem(err)
	}
	var left int
	err = pool.QueryRowContext(ctx, "SELECT count(*) FROM pg_namespace WHERE nspname = $1", schema).Scan(&left)
	return left == 0, err
}
