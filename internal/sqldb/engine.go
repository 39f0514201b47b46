package sqldb

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite" // also registers the driver
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/slipway/slipway/internal/problem"
)

// Dialect is the SQL a database speaks, for the few texts that differ.
type Dialect string

// The dialects.
const (
	SQLite     Dialect = "sqlite"
	PostgreSQL Dialect = "postgresql"
)

// IsURL reports whether a database is named by a PostgreSQL URL, not a file.
func IsURL(at string) bool {
	return strings.HasPrefix(at, "postgres://") || strings.HasPrefix(at, "postgresql://")
}

// CheckURL says what is wrong with a PostgreSQL URL.
func CheckURL(at string) error {
	if !IsURL(at) {
		return problem.New(problem.Invalid, "a database is named by postgres://user@host:port/name, with ?search_path=NAME where planes share it")
	}
	config, err := pgx.ParseConfig(at)
	if err != nil {
		return problem.New(problem.Invalid, "the URL of the database cannot be read") // the cause shows the password
	}
	if schema := config.RuntimeParams["search_path"]; schema != "" && !schemaName.MatchString(schema) {
		return problem.New(problem.Invalid, "search_path is one schema of a-z, 0-9 and '_', not %q", schema)
	}
	return nil
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// InSchema is the URL of a schema of its own in a database that several share.
func InSchema(at, schema string) (string, error) {
	if err := CheckURL(at); err != nil {
		return "", err
	}
	u, err := url.Parse(at)
	if err != nil {
		return "", problem.New(problem.Invalid, "the URL of the database cannot be read")
	}
	values := u.Query()
	values.Set("search_path", strings.ReplaceAll(schema, "-", "_"))
	u.RawQuery = values.Encode()
	return u.String(), nil
}

// Shown is a database's name without its password.
func Shown(at string) string {
	u, err := url.Parse(at)
	if err != nil || !IsURL(at) {
		return at
	}
	return u.Redacted()
}

// openPostgres opens a PostgreSQL database. Its schema is made when missing.
func openPostgres(ctx context.Context, at string, migrations fs.FS, shared bool) (*DB, error) {
	if err := CheckURL(at); err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(at)
	if err != nil {
		return nil, errors.New("the URL of the database cannot be read")
	}
	schema := config.RuntimeParams["search_path"]
	if schema == "" {
		schema = "public"
	}
	config.RuntimeParams["application_name"] = "slipway"
	var settled atomic.Bool
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &hurried{Conn: conn, wait: answerWait, settled: &settled}, nil
	}
	db := &DB{
		over: make(chan struct{}), shared: shared,
		dialect: PostgreSQL, writeStatements: map[string]*sql.Stmt{}, lock: lockNumber(schema),
		readers: stdlib.OpenDB(*config), writers: stdlib.OpenDB(*writing(config, shared)),
	}
	db.readers.SetMaxOpenConns(8)
	db.readers.SetMaxIdleConns(8)
	db.writers.SetMaxOpenConns(2)
	db.writers.SetMaxIdleConns(0) // one kept since the start would be dead when it is needed
	if err := db.prepare(ctx, schema, migrations); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", Shown(at), asProblem(err)), db.readers.Close(), db.writers.Close())
	}
	settled.Store(true)
	return db, nil
}

// answerWait is how long a server may think about a statement, once tables are
// up to date: one that stands still must not hold its callers for ever.
const answerWait = 30 * time.Second

// hurried is a connection whose reads end, unless somebody has set another
// deadline for them.
type hurried struct {
	net.Conn
	wait    time.Duration
	settled *atomic.Bool
	theirs  atomic.Bool
}

// SetDeadline is net.Conn's.
func (h *hurried) SetDeadline(at time.Time) error {
	h.theirs.Store(!at.IsZero())
	return h.Conn.SetDeadline(at)
}

// SetReadDeadline is net.Conn's.
func (h *hurried) SetReadDeadline(at time.Time) error {
	h.theirs.Store(!at.IsZero())
	return h.Conn.SetReadDeadline(at)
}

// Read is net.Conn's.
func (h *hurried) Read(b []byte) (int, error) {
	if h.settled.Load() && !h.theirs.Load() {
		if err := h.Conn.SetReadDeadline(time.Now().Add(h.wait)); err != nil {
			return 0, err
		}
		if h.theirs.Load() { // they have set theirs just before
			if err := h.Conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
				return 0, err
			}
		}
	}
	return h.Conn.Read(b)
}

// stalled is how long a process may stop in the middle of its turn: then the
// server ends it, and the others go on.
const stalled = 3 * time.Second

func writing(config *pgx.ConnConfig, shared bool) *pgx.ConnConfig {
	config = config.Copy()
	if shared {
		config.RuntimeParams["idle_in_transaction_session_timeout"] = strconv.FormatInt(stalled.Milliseconds(), 10)
	}
	return config
}

// dial gives a connection up whose other end is silent: a process must not
// wait for minutes when a network is cut.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{
		Timeout:         regainTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 3 * time.Second, Interval: time.Second, Count: 3},
		Control:         giveUpAfter(silence),
	}
	return dialer.DialContext(ctx, network, address)
}

// silence is how long what was sent may go unacknowledged.
const silence = 6 * time.Second

// The numbers of a schema's locks: its owner's, or the one that all who share
// it hold, and beside it those of a turn and of bringing tables up to date.
const (
	turnLock = 1 + iota
	migrationLock
)

// lockNumber is what the owner of a schema holds.
func lockNumber(schema string) int64 {
	h := fnv.New64a()
	h.Write([]byte("slipway " + schema)) // a hash takes everything
	return int64(h.Sum64())
}

// prepare takes the database for this process and brings its tables up to date.
func (db *DB) prepare(ctx context.Context, schema string, migrations fs.FS) error {
	if schema != "public" {
		if _, err := db.writers.ExecContext(ctx, "CREATE SCHEMA IF NOT EXISTS "+schema); err != nil {
			return err
		}
	}
	if err := db.seizeSoon(ctx); err != nil {
		return err
	}
	if db.shared {
		if _, err := db.writer.ExecContext(ctx, "SELECT pg_advisory_lock($1)", db.lock+migrationLock); err != nil {
			return errors.Join(err, db.writer.Close())
		}
	}
	if err := migrate(ctx, goose.DialectPostgres, db.writers, translated{migrations}); err != nil {
		return errors.Join(err, db.writer.Close())
	}
	db.writers.SetMaxOpenConns(1)
	if db.shared {
		_, err := db.writer.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", db.lock+migrationLock)
		return err
	}
	if err := db.own(ctx); err != nil {
		return errors.Join(err, db.writer.Close())
	}
	return nil
}

// seizeWait is how long a process that starts waits for the one before it,
// whose connection the server may not yet have seen end.
const seizeWait = 10 * time.Second

// seizeSoon is seize with patience.
func (db *DB) seizeSoon(ctx context.Context) error {
	for deadline := time.Now().Add(seizeWait); ; {
		err := db.seize(ctx)
		if !problem.Is(err, problem.NotReady) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// awaitEvery is how often a process that stands by looks.
const awaitEvery = 250 * time.Millisecond

// Await returns once no process works on a PostgreSQL database. A database that
// cannot be reached is waited for.
func Await(ctx context.Context, at string) error {
	if err := CheckURL(at); err != nil {
		return err
	}
	config, err := pgx.ParseConfig(at)
	if err != nil {
		return errors.New("the URL of the database cannot be read")
	}
	lock := lockNumber(cmp.Or(config.RuntimeParams["search_path"], "public"))
	pool := stdlib.OpenDB(*config)
	defer pool.Close()
	pool.SetMaxOpenConns(1)
	for ctx.Err() == nil {
		var free bool
		// What is taken is given back at once, with the end of the transaction.
		if err := pool.QueryRowContext(ctx, "SELECT pg_try_advisory_xact_lock($1)", lock).Scan(&free); err == nil && free {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(awaitEvery):
		}
	}
	return ctx.Err()
}

// seize opens the one connection that writes, and takes the lock that says so
// to other processes. The connection holds the lock: should it be lost, so is
// the right to write.
func (db *DB) seize(ctx context.Context) error {
	conn, err := db.writers.Conn(ctx)
	if err != nil {
		return err
	}
	var taken bool
	take := "SELECT pg_try_advisory_lock($1)"
	if db.shared {
		take = "SELECT pg_try_advisory_lock_shared($1)"
	}
	if err := conn.QueryRowContext(ctx, take, db.lock).Scan(&taken); err != nil {
		discard(conn)
		return err
	}
	if !taken {
		discard(conn)
		return problem.New(problem.NotReady, "another process works on the database; each plane and stamp needs one of its own, or a schema (search_path)")
	}
	db.writer = conn
	return nil
}

// own notes that this process is the database's owner now: nobody who was
// before writes any more.
func (db *DB) own(ctx context.Context) error {
	if _, err := db.writer.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS slipway_owner (id INT PRIMARY KEY CHECK (id = 1), term BIGINT NOT NULL)"); err != nil {
		return err
	}
	return db.writer.QueryRowContext(ctx, "INSERT INTO slipway_owner VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET term = slipway_owner.term + 1 RETURNING term").Scan(&db.term)
}

// regain opens the writing connection anew after it was lost. A process that
// another one has followed meanwhile does not get it: what it has in memory is
// no longer so.
func (db *DB) regain(ctx context.Context) error {
	discard(db.writer)
	clear(db.writeStatements) // they went with the connection
	if err := db.seize(ctx); err != nil || db.shared {
		return err
	}
	var term int64
	if err := db.writer.QueryRowContext(ctx, "SELECT term FROM slipway_owner WHERE id = 1").Scan(&term); err != nil {
		return err
	}
	if term != db.term {
		discard(db.writer)
		db.followed.Do(func() { close(db.over) })
		return errFollowed
	}
	return nil
}

// errFollowed is all that a process hears whose database another has now.
var errFollowed = problem.New(problem.Conflict, "another process has taken over the database; this one must be started anew")

// Watch returns an error once another process has taken over the database, and
// nil when ctx ends.
func (db *DB) Watch(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-db.over:
		return errFollowed
	}
}

// discard ends a connection, with the lock it may hold, instead of giving it
// back to the pool. That one which is lost cannot say goodbye is no news.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = conn.Close()
}

// lost reports whether a failure means that the connection is gone.
func (db *DB) lost(err error) bool {
	var refused *pgconn.PgError
	if err == nil || db.dialect != PostgreSQL || errors.As(err, &refused) && refused.Code[:2] != "57" && refused.Code[:2] != "08" {
		return false
	}
	return db.writer.Raw(func(raw any) error {
		conn, ok := raw.(*stdlib.Conn)
		if !ok || conn.Conn().IsClosed() {
			return sql.ErrConnDone
		}
		return nil
	}) != nil
}

// The words of migrations that PostgreSQL has others for. What is kept is the
// same: 64-bit numbers, and text in the order of its bytes.
var words = []struct {
	written *regexp.Regexp
	meant   string
}{
	{regexp.MustCompile(`\bINTEGER PRIMARY KEY AUTOINCREMENT\b`), "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"},
	{regexp.MustCompile(`\bBLOB( NOT NULL)?,(\s*)-- JSONB in PostgreSQL`), "JSONB$1,$2-- "},
	{regexp.MustCompile(`\bINTEGER\b`), "BIGINT"},
	{regexp.MustCompile(`\bBLOB\b`), "BYTEA"},
	{regexp.MustCompile(`\bTEXT\b`), `TEXT COLLATE "C"`},
	{regexp.MustCompile(`\) WITHOUT ROWID\b`), ")"},
}

// translated are migrations written for SQLite as PostgreSQL takes them.
type translated struct{ fs.FS }

// Open translates the text of a file on its way.
func (t translated) Open(name string) (fs.File, error) {
	file, err := t.FS.Open(name)
	if err != nil || !strings.HasSuffix(name, ".sql") {
		return file, err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	for _, word := range words {
		text = word.written.ReplaceAll(text, []byte(word.meant))
	}
	return &translatedFile{file, bytes.NewReader(text)}, nil
}

// translatedFile reads the translation in place of the file.
type translatedFile struct {
	fs.File
	text *bytes.Reader
}

// Read reads from the translation.
func (f *translatedFile) Read(b []byte) (int, error) { return f.text.Read(b) }

// Numbered gives a text's placeholders the numbers that PostgreSQL wants.
// Question marks in literals are no placeholders.
func Numbered(query string) string {
	if !strings.Contains(query, "?") {
		return query
	}
	var b bytes.Buffer
	n, literal := 0, false
	for i := range len(query) {
		switch c := query[i]; {
		case c == '\'':
			literal = !literal
			b.WriteByte(c)
		case c == '?' && !literal:
			n++
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// spelled is a text as the database takes it.
func (db *DB) spelled(query string) string {
	if db.dialect == PostgreSQL {
		return Numbered(query)
	}
	return query
}

// bound are arguments as the database takes them: PostgreSQL does not keep
// truth as a number by itself.
func (db *DB) bound(args []any) []any {
	if db.dialect != PostgreSQL {
		return args
	}
	var changed []any
	for i, arg := range args {
		truth, ok := arg.(bool)
		if !ok {
			continue
		}
		if changed == nil {
			changed = append([]any{}, args...)
		}
		changed[i] = 0
		if truth {
			changed[i] = 1
		}
	}
	if changed == nil {
		return args
	}
	return changed
}

// IsUnique reports whether err is a broken unique constraint.
func IsUnique(err error) bool {
	var broken *sqlite.Error
	if errors.As(err, &broken) {
		return broken.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || broken.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
	}
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == "23505"
}

// asProblem turns what the database says into the vocabulary callers know.
func asProblem(err error) error {
	var refused *pgconn.PgError
	var known *problem.Error
	var network *net.OpError
	var connecting *pgconn.ConnectError
	switch {
	case errors.As(err, &known):
		return err
	case IsUnique(err):
		return problem.New(problem.Conflict, "that name is taken already: %w", err)
	case errors.As(err, &refused) && (refused.Code == "22021" || refused.Code == "22P05"):
		return problem.New(problem.Invalid, "a text has a character that the database does not keep: %w", err)
	case errors.As(err, &refused) && (refused.Code[:2] == "57" || refused.Code[:2] == "53" || refused.Code[:2] == "08"):
		return problem.New(problem.NotReady, "the database cannot serve just now; try again: %w", err)
	case errors.As(err, &network), errors.As(err, &connecting), errors.Is(err, sql.ErrConnDone), errors.Is(err, driver.ErrBadConn),
		errors.Is(err, io.ErrUnexpectedEOF), pgconn.SafeToRetry(err):
		return problem.New(problem.NotReady, "the database cannot be reached; try again: %w", err)
	}
	return err
}
