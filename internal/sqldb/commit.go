package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// Tx is the transaction a change runs in.
type Tx struct {
	db     *DB
	wrote  bool
	broken bool // a statement failed, after which PostgreSQL takes no other
}

// Dialect is the SQL the database speaks.
func (tx *Tx) Dialect() Dialect { return tx.db.dialect }

// change is one caller's part of a group.
type change struct {
	ctx     context.Context // the caller's values, without its end: one who leaves must not take the others' work along
	apply   func(ctx context.Context, tx *Tx) error
	outside bool // the fence is not for it
	err     error
	done    chan struct{}
	lead    chan struct{} // tells the caller to lead the next group
}

// Commit runs apply inside a transaction shared with other callers, and
// returns when that is durable. An error from apply takes back what it wrote
// and nothing else. apply may run more than once, so it must set whatever it
// hands out each time it runs; it sees the changes of callers before it.
// Once begun a change is not abandoned: ctx ending only ends the wait for a
// place in a group.
func (db *DB) Commit(ctx context.Context, apply func(ctx context.Context, tx *Tx) error) error {
	return db.enqueue(ctx, &change{apply: apply})
}

// CommitOutside is Commit for a change that is made whatever Fence says.
func (db *DB) CommitOutside(ctx context.Context, apply func(ctx context.Context, tx *Tx) error) error {
	return db.enqueue(ctx, &change{apply: apply, outside: true})
}

// Committed has fn told of every group of changes from now on: how many they
// were, how long their commit took, and what was wrong with the database.
func (db *DB) Committed(fn func(changes int, took time.Duration, err error)) { db.committed.Store(&fn) }

// firstFault is what was wrong with the database, not with a change.
func firstFault(group []*change) error {
	for _, c := range group {
		if problem.Is(c.err, problem.Internal) {
			return c.err
		}
	}
	return nil
}

// Fence has the process change something only while a query finds a row, which
// each group looks for when its turn begins. So a process that others have
// given up changes nothing any more, whatever it believes of itself.
func (db *DB) Fence(query string) { db.fence.Store(&query) }

// errFenced is what a process hears that others have given up.
var errFenced = problem.New(problem.NotReady, "this process has been given up by the others; try again")

func (db *DB) enqueue(ctx context.Context, mine *change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	mine.ctx, mine.done, mine.lead = context.WithoutCancel(ctx), make(chan struct{}), make(chan struct{})
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return errClosed
	}
	db.queue = append(db.queue, mine)
	leader := !db.leading
	db.leading = true
	db.mu.Unlock()
	if !leader {
		select {
		case <-mine.done:
			return asProblem(mine.err)
		case <-mine.lead:
		}
	}
	db.lead()
	<-mine.done
	return asProblem(mine.err)
}

// errClosed is what a change hears that comes while the process stops.
var errClosed = problem.New(problem.NotReady, "the database is closed: the process is stopping")

// lead commits one group, to which the leader itself belongs, and hands over
// to the first of those who came meanwhile.
func (db *DB) lead() {
	db.mu.Lock()
	group := db.queue
	if len(group) > maxGroup {
		group = group[:maxGroup]
	}
	db.queue = db.queue[len(group):]
	db.mu.Unlock()

	db.commit(group)
	for _, c := range group {
		close(c.done)
	}

	db.mu.Lock()
	defer db.mu.Unlock()
	if len(db.queue) == 0 {
		db.queue, db.leading = nil, false
		if db.closed {
			close(db.idle)
		}
		return
	}
	close(db.queue[0].lead)
}

// commit makes the group durable. A change that fails after writing spoils
// the transaction, so the others run again without it: rare, and cheaper than
// a savepoint for each.
func (db *DB) commit(group []*change) {
	if told := db.committed.Load(); told != nil {
		began := time.Now()
		defer func() { (*told)(len(group), time.Since(began), firstFault(group)) }()
	}
	ctx := context.Background()
	left := group
	for len(left) > 0 {
		spoiler, err := db.try(ctx, left)
		if spoiler == nil {
			if err != nil {
				fail(left, err)
			}
			return
		}
		kept := make([]*change, 0, len(left)-1)
		for _, c := range left {
			if c != spoiler {
				kept = append(kept, c)
			}
		}
		left = kept
	}
}

func fail(group []*change, err error) {
	for _, c := range group {
		c.err = err
	}
}

func (db *DB) try(ctx context.Context, group []*change) (spoiler *change, err error) {
	fenced, err := db.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	for _, c := range group {
		if fenced && !c.outside {
			c.err = errFenced
			continue
		}
		tx := &Tx{db: db}
		c.err = guarded(c, tx)
		if db.lost(c.err) {
			return nil, fmt.Errorf("the connection to the database was lost: %w", c.err)
		}
		if c.err != nil && (tx.wrote || tx.broken) {
			return c, db.rollback(ctx)
		}
	}
	if _, err := db.writer.ExecContext(ctx, "COMMIT"); err != nil {
		return nil, errors.Join(fmt.Errorf("commit: %w", err), db.rollback(ctx))
	}
	return nil, nil
}

// begin begins a transaction, on a new connection where the last one was lost,
// and reports whether others have given the process up.
func (db *DB) begin(ctx context.Context) (fenced bool, err error) {
	fenced, err = db.beginOnce(ctx)
	if err == nil || !db.lost(err) {
		return fenced, err
	}
	ctx, cancel := context.WithTimeout(ctx, regainTimeout)
	defer cancel()
	if err := db.regain(ctx); err != nil {
		return false, err
	}
	return db.beginOnce(ctx)
}

func (db *DB) beginOnce(ctx context.Context) (fenced bool, err error) {
	result, err := db.writer.ExecContext(ctx, db.beginning())
	if err != nil || db.fence.Load() == nil {
		return false, err
	}
	found, err := result.RowsAffected() // of the fence's query, which is the last
	return found == 0, err
}

// beginning begins a transaction; where others write too it waits for their
// turn to end, and looks at the fence, in the same round trip.
func (db *DB) beginning() string {
	switch fence := db.fence.Load(); {
	case db.dialect == SQLite:
		return "BEGIN IMMEDIATE"
	case !db.shared:
		return "BEGIN"
	case fence == nil:
		return "BEGIN; SELECT pg_advisory_xact_lock(" + strconv.FormatInt(db.lock+turnLock, 10) + ")"
	default:
		return "BEGIN; SELECT pg_advisory_xact_lock(" + strconv.FormatInt(db.lock+turnLock, 10) + "); " + *fence
	}
}

// regainTimeout bounds how long callers wait for a database that is away.
const regainTimeout = 5 * time.Second

func (db *DB) rollback(ctx context.Context) error {
	_, err := db.writer.ExecContext(ctx, "ROLLBACK")
	if db.lost(err) {
		return nil // the transaction went with the connection
	}
	return err
}

func guarded(c *change, tx *Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			tx.wrote = true
			err = fmt.Errorf("panic in a change: %v\n%s", p, debug.Stack())
		}
	}()
	return c.apply(c.ctx, tx)
}

// Exec runs a statement that writes and returns the number of rows it touched.
func (tx *Tx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	tx.wrote = true
	statement, err := tx.db.prepared(ctx, query)
	if err != nil {
		tx.broken = true
		return 0, err
	}
	result, err := statement.ExecContext(ctx, tx.db.bound(args)...)
	if err != nil {
		tx.broken = true
		return 0, err
	}
	return result.RowsAffected()
}

// Query runs a query inside the transaction.
func (tx *Tx) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	statement, err := tx.db.prepared(ctx, query)
	if err != nil {
		tx.broken = true
		return nil, err
	}
	rows, err := statement.QueryContext(ctx, tx.db.bound(args)...)
	tx.broken = tx.broken || err != nil
	return rows, err
}

// prepared returns the statement for a text, kept on the writing connection.
func (db *DB) prepared(ctx context.Context, query string) (*sql.Stmt, error) {
	if known, ok := db.writeStatements[query]; ok {
		return known, nil
	}
	if len(db.writeStatements) >= maxStatements {
		for text, old := range db.writeStatements {
			if err := old.Close(); err != nil {
				return nil, err
			}
			delete(db.writeStatements, text)
			break
		}
	}
	statement, err := db.writer.PrepareContext(ctx, db.spelled(query))
	if err != nil {
		return nil, err
	}
	db.writeStatements[query] = statement
	return statement, nil
}
