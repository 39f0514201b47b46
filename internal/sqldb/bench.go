package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// Bench is a database that is worked on as it is: a copy that something is
// tried on, or a source that is only read. It brings no tables up to date and
// takes no turn from a process that has it open.
type Bench struct {
	At      string
	dialect Dialect
	pool    *sql.DB
	schema  string // the only one that is looked at; empty is all of the users'
}

// OpenBench opens a database by its file or its URL. One of SQLite that is only
// read may be in use.
func OpenBench(at string, readOnly bool) (*Bench, error) {
	if !IsURL(at) {
		how := "?_pragma=busy_timeout(60000)&_pragma=foreign_keys(ON)&_pragma=cache_size(-32000)&_txlock=immediate&_pragma=journal_mode(WAL)"
		if readOnly {
			how = "?mode=ro&_pragma=busy_timeout(60000)&_pragma=cache_size(-32000)"
		}
		pool, err := sql.Open("sqlite", "file:"+at+how)
		return &Bench{At: at, dialect: SQLite, pool: pool}, err
	}
	if err := CheckURL(at); err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(at)
	if err != nil {
		return nil, errors.New("the URL of the database cannot be read")
	}
	config.RuntimeParams["application_name"] = "slipway rehearsal"
	if readOnly {
		config.RuntimeParams["default_transaction_read_only"] = "on"
	}
	return &Bench{At: at, dialect: PostgreSQL, pool: stdlib.OpenDB(*config), schema: config.RuntimeParams["search_path"]}, nil
}

// Dialect is the SQL the database speaks.
func (b *Bench) Dialect() Dialect { return b.dialect }

// Close closes the database.
func (b *Bench) Close() error { return b.pool.Close() }

// Column is a column of a table.
type Column struct {
	Name    string
	Type    string
	NotNull bool
	Default bool // what is not said has a value
	Key     bool // part of the primary key
	Bound   bool // part of a key, a unique index or a reference, which a made-up value would break
}

// Table is a table of any database.
type Table struct {
	Schema  string // empty in SQLite, and where only one is looked at
	Name    string
	Columns []Column
	Unique  []string // its unique indexes, by their columns
}

// Path is the table's name in the parts that it has.
func (t Table) Path() []string {
	if t.Schema == "" || t.Schema == "public" {
		return []string{t.Name}
	}
	return []string{t.Schema, t.Name}
}

// String is its name for people.
func (t Table) String() string { return strings.Join(t.Path(), ".") }

// SQL is its name in a statement.
func (t Table) SQL() string {
	if t.Schema == "" {
		return pgx.Identifier{t.Name}.Sanitize()
	}
	return pgx.Identifier{t.Schema, t.Name}.Sanitize()
}

// SQL is the column's name in a statement.
func (c Column) SQL() string { return pgx.Identifier{c.Name}.Sanitize() }

// Keys are the columns of the primary key.
func (t Table) Keys() (all []Column) {
	for _, c := range t.Columns {
		if c.Key {
			all = append(all, c)
		}
	}
	return all
}

const describeBench = `SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::int, (a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '')::int,
	EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY (i.indkey))::int,
	(EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND a.attnum = ANY (i.indkey))
		OR EXISTS (SELECT 1 FROM pg_constraint f WHERE f.contype IN ('f', 'c') AND f.conrelid = c.oid AND a.attnum = ANY (f.conkey)))::int, a.attgenerated <> ''
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%' AND n.nspname NOT LIKE 'pg_temp%'
	ORDER BY n.nspname, c.relname, a.attnum`

const describeSQLite = `SELECT '', m.name, p.name, p.type, p."notnull", p.dflt_value IS NOT NULL OR p.pk > 0 AND upper(p.type) = 'INTEGER', p.pk > 0,
	p.pk > 0 OR EXISTS (SELECT 1 FROM pragma_foreign_key_list(m.name) f WHERE f."from" = p.name), 0
	FROM sqlite_schema m, pragma_table_info(m.name) p WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY m.name, p.cid`

const uniqueBench = `SELECT n.nspname, c.relname, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE i.indisunique AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%'`

const uniqueSQLite = `SELECT '', m.name, coalesce(group_concat(x.name, ','), i.name) FROM sqlite_schema m, pragma_index_list(m.name) i, pragma_index_info(i.name) x
	WHERE m.type = 'table' AND i."unique" = 1 GROUP BY m.name, i.name`

// Tables describes the tables that users have; generated columns are not among
// their columns.
func (b *Bench) Tables(ctx context.Context) ([]Table, error) {
	describe, unique := describeBench, uniqueBench
	if b.dialect == SQLite {
		describe, unique = describeSQLite, uniqueSQLite
	}
	var all []Table
	err := b.Each(ctx, describe, func(row []any) error {
		texts := make([]string, len(row))
		for i, value := range row {
			texts[i] = fmt.Sprint(value)
		}
		if b.schema != "" && texts[0] != b.schema || texts[8] == "true" {
			return nil
		}
		if b.schema != "" {
			texts[0] = ""
		}
		if last := len(all) - 1; last < 0 || all[last].Schema != texts[0] || all[last].Name != texts[1] {
			all = append(all, Table{Schema: texts[0], Name: texts[1]})
		}
		t := &all[len(all)-1]
		t.Columns = append(t.Columns, Column{Name: texts[2], Type: texts[3], NotNull: texts[4] == "1", Default: texts[5] == "1", Key: texts[6] == "1", Bound: texts[7] == "1"})
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = b.Each(ctx, unique, func(row []any) error {
		schema := fmt.Sprint(row[0])
		if b.schema != "" && schema != b.schema {
			return nil
		}
		for i := range all {
			if all[i].Name == fmt.Sprint(row[1]) && (b.schema != "" || all[i].Schema == schema) {
				text := fmt.Sprint(row[2])
				if _, columns, found := strings.Cut(text, " USING "); found {
					text = columns // the name of an index says nothing
				}
				all[i].Unique = append(all[i].Unique, text)
			}
		}
		return nil
	})
	for i := range all {
		slices.Sort(all[i].Unique)
	}
	return all, err
}

// reader is what rows are read from.
type reader interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func each(ctx context.Context, from reader, query string, do func([]any) error, args ...any) (err error) {
	rows, err := from.QueryContext(ctx, query, args...)
	if err != nil {
		return asProblem(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := do(values); err != nil {
			return err
		}
	}
	return asProblem(rows.Err())
}

// Each runs a query and passes its rows on, each in the same slice.
func (b *Bench) Each(ctx context.Context, query string, do func(row []any) error, args ...any) error {
	return each(ctx, b.pool, b.spelled(query), do, args...)
}

func (b *Bench) spelled(query string) string {
	if b.dialect == PostgreSQL {
		return Numbered(query)
	}
	return query
}

// Exec runs a statement.
func (b *Bench) Exec(ctx context.Context, statement string, args ...any) error {
	_, err := b.pool.ExecContext(ctx, b.spelled(statement), args...)
	return asProblem(err)
}

// Moment is a database as it is at one moment, whatever others write.
type Moment struct {
	*Bench
	tx *sql.Tx
	// ID lets another connection of PostgreSQL see the same.
	ID string
}

// Each is Bench's, of the moment.
func (m *Moment) Each(ctx context.Context, query string, do func(row []any) error, args ...any) error {
	return each(ctx, m.tx, m.spelled(query), do, args...)
}

// Still reads a database as it is at one moment. Nobody waits for that.
func (b *Bench) Still(ctx context.Context, do func(m *Moment) error) (err error) {
	tx, err := b.pool.BeginTx(ctx, &sql.TxOptions{Isolation: b.isolation(), ReadOnly: true})
	if err != nil {
		return asProblem(err)
	}
	defer func() { _ = tx.Rollback() }() // it has changed nothing
	m := &Moment{Bench: b, tx: tx}
	if b.dialect == PostgreSQL {
		if err := tx.QueryRowContext(ctx, "SELECT pg_export_snapshot()").Scan(&m.ID); err != nil {
			return asProblem(err)
		}
	}
	return do(m)
}

func (b *Bench) isolation() sql.IsolationLevel {
	if b.dialect == PostgreSQL {
		return sql.LevelRepeatableRead
	}
	return sql.LevelDefault
}

// Work is a transaction on a bench.
type Work struct {
	b  *Bench
	tx *sql.Tx
}

// Exec runs a statement.
func (w Work) Exec(ctx context.Context, statement string, args ...any) error {
	_, err := w.tx.ExecContext(ctx, w.b.spelled(statement), args...)
	return asProblem(err)
}

// Each is Bench's, within the transaction.
func (w Work) Each(ctx context.Context, query string, do func(row []any) error, args ...any) error {
	return each(ctx, w.tx, w.b.spelled(query), do, args...)
}

// Within does something in one transaction; keep says whether it stays.
func (b *Bench) Within(ctx context.Context, keep bool, do func(Work) error) error {
	tx, err := b.pool.BeginTx(ctx, nil)
	if err != nil {
		return asProblem(err)
	}
	if err := do(Work{b, tx}); err != nil || !keep {
		return errors.Join(err, tx.Rollback())
	}
	return asProblem(tx.Commit())
}

// Size is how many bytes the database has on disk.
func (b *Bench) Size(ctx context.Context) (size int64, err error) {
	query := "SELECT pg_database_size(current_database())"
	if b.dialect == SQLite {
		query = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
	}
	return size, asProblem(b.pool.QueryRowContext(ctx, query).Scan(&size))
}

// Prepare makes an empty database with the tables of one of our versions.
func Prepare(ctx context.Context, at string, migrations fs.FS, version int64) error {
	return goosed(at, migrations, func(p *goose.Provider) error {
		_, err := p.UpTo(ctx, version)
		return err
	})
}

// Upgraded is one migration of ours that was carried out.
type Upgraded struct {
	Name string
	Took time.Duration
}

// Upgrade brings a bench's tables up to date, as opening the database would.
func Upgrade(ctx context.Context, at string, migrations fs.FS) (all []Upgraded, err error) {
	err = goosed(at, migrations, func(p *goose.Provider) error {
		results, err := p.Up(ctx)
		for _, r := range results {
			all = append(all, Upgraded{Name: r.Source.Path, Took: r.Duration})
		}
		return err
	})
	return all, err
}

func goosed(at string, migrations fs.FS, do func(*goose.Provider) error) error {
	b, err := OpenBench(at, false)
	if err != nil {
		return err
	}
	dialect := goose.DialectSQLite3
	if b.dialect == PostgreSQL {
		dialect, migrations = goose.DialectPostgres, translated{migrations}
	}
	provider, err := goose.NewProvider(dialect, b.pool, migrations)
	if err == nil {
		err = asProblem(do(provider))
	}
	return errors.Join(err, b.Close())
}
