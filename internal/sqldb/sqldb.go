// Package sqldb opens, migrates, reads and commits to the SQL database of a
// plane. It is the one home of database/sql and its drivers.
//
// Writes go through Commit, which gathers whatever callers bring while the
// last commit ran into one durable transaction (group commit): each caller is
// answered only after its change is on disk, and nobody waits for a timer.
// Times are stored as UTC microseconds, documents as JSON text.
package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pressly/goose/v3"
)

// DB is one plane's database: one writer, and readers. SQLite has two, because
// short queries of its driver get slower on more.
type DB struct {
	dialect Dialect
	readers *sql.DB
	writers *sql.DB
	writer  *sql.Conn // the one connection that writes, held by whoever leads a group

	mu      sync.Mutex
	queue   []*change
	leading bool
	closed  bool
	idle    chan struct{} // closed by the last leader, once the database is to close

	lock   int64 // of PostgreSQL: what the owner of the database holds
	term   int64 // of this owner
	shared bool  // other processes write too, one group at a time
	fence  atomic.Pointer[string]

	keys *keys // of the columns that are sealed; nil where none are

	committed atomic.Pointer[func(changes int, took time.Duration, err error)]

	over     chan struct{} // closed when another process has taken over
	followed sync.Once

	writeStatements map[string]*sql.Stmt // used by the leader alone
	readStatements  sync.Map             // query text to *sql.Stmt
}

// maxGroup bounds how many changes share a transaction, and so how long the
// first of them waits for the last.
const maxGroup = 512

// settings are in the connection string so that every connection has them.
const settings = "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(ON)&_pragma=cache_size(-16000)&_pragma=temp_store(MEMORY)"

// Open opens a database and brings its tables up to date with the goose
// migrations in migrations: the SQLite one in a file, creating it when missing,
// or that of PostgreSQL that a postgres:// URL names.
func Open(ctx context.Context, at string, migrations fs.FS) (*DB, error) {
	if IsURL(at) {
		return openPostgres(ctx, at, migrations, false)
	}
	return openSQLite(ctx, at, migrations)
}

// OpenShared opens a PostgreSQL database that several processes work on at
// once. Their groups of changes take turns, so that each change still sees all
// before it and none beside it. What a process keeps in memory of the database
// may be old; only a change knows.
func OpenShared(ctx context.Context, at string, migrations fs.FS) (*DB, error) {
	return openPostgres(ctx, at, migrations, true)
}

func openSQLite(ctx context.Context, file string, migrations fs.FS) (*DB, error) {
	readers, err := sql.Open("sqlite", "file:"+file+settings)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	readers.SetMaxOpenConns(2)
	readers.SetMaxIdleConns(2)
	writers, err := sql.Open("sqlite", "file:"+file+settings)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", file, err), readers.Close())
	}
	writers.SetMaxOpenConns(1)
	db := &DB{dialect: SQLite, readers: readers, writers: writers, writeStatements: map[string]*sql.Stmt{}}
	if err := migrate(ctx, goose.DialectSQLite3, writers, migrations); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate %s: %w", file, err), readers.Close(), writers.Close())
	}
	if db.writer, err = writers.Conn(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", file, err), readers.Close(), writers.Close())
	}
	return db, nil
}

func migrate(ctx context.Context, dialect goose.Dialect, db *sql.DB, migrations fs.FS) error {
	provider, err := goose.NewProvider(dialect, db, migrations)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// Dialect is the SQL the database speaks.
func (db *DB) Dialect() Dialect { return db.dialect }

// Close waits for the commits that have begun, takes no more, and closes the
// database: one whose connection went in between would leave its lock behind.
func (db *DB) Close() error {
	db.mu.Lock()
	db.closed, db.idle = true, make(chan struct{})
	if !db.leading {
		close(db.idle)
	}
	db.mu.Unlock()
	<-db.idle
	err := db.writer.Close()
	if errors.Is(err, sql.ErrConnDone) {
		err = nil // it was lost
	}
	return errors.Join(err, db.writers.Close(), db.readers.Close())
}

// Rows runs a read query and scans each row with scan.
func Rows[T any](ctx context.Context, q Querier, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// Row is Rows for a query of at most one row; found says whether it was there.
func Row[T any](ctx context.Context, q Querier, scan func(*sql.Rows) (T, error), query string, args ...any) (one T, found bool, err error) {
	all, err := Rows(ctx, q, scan, query, args...)
	if err != nil || len(all) == 0 {
		return one, false, err
	}
	return all[0], true, nil
}

// Querier is what reads need: a DB, or the Tx of a change.
type Querier interface {
	Query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// maxStatements bounds the prepared statements kept per connection side;
// query texts beyond it, such as users' conditions, are prepared each time.
const maxStatements = 200

// Query runs a read query on one of the readers.
func (db *DB) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	args = db.bound(args)
	if known, ok := db.readStatements.Load(query); ok {
		return db.read(known.(*sql.Stmt).QueryContext(ctx, args...))
	}
	if len(query) > 1000 {
		return db.read(db.readers.QueryContext(ctx, db.spelled(query), args...))
	}
	statement, err := db.readers.PrepareContext(ctx, db.spelled(query))
	if err != nil {
		return db.read(nil, err)
	}
	if known, raced := db.readStatements.LoadOrStore(query, statement); raced {
		defer statement.Close()
		statement = known.(*sql.Stmt)
	}
	return db.read(statement.QueryContext(ctx, args...))
}

// QueryOnce runs a read query whose text will hardly come again, such as one
// rendered from a user's condition.
func (db *DB) QueryOnce(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return db.read(db.readers.QueryContext(ctx, db.spelled(query), db.bound(args)...))
}

// read says a failure of a reader in the vocabulary callers know.
func (db *DB) read(rows *sql.Rows, err error) (*sql.Rows, error) {
	if err != nil {
		return nil, asProblem(err)
	}
	return rows, nil
}

// Micros is t as the databases store it.
func Micros(t time.Time) int64 { return t.UnixMicro() }

// Time is the moment stored as us.
func Time(us int64) time.Time { return time.UnixMicro(us).UTC() }

// NullTime is the moment stored as us, nil when none is.
func NullTime(us sql.NullInt64) *time.Time {
	if !us.Valid {
		return nil
	}
	t := Time(us.Int64)
	return &t
}
