package rehearse

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
)

// watch is what others meet with while a migration runs: each of some workers
// reads and writes one table all the time, as programs do, and notes how long
// that took at most.
type watch struct {
	stop  context.CancelFunc
	group sync.WaitGroup

	mu     sync.Mutex
	most   time.Duration
	of     string
	locks  map[[2]string]*held
	broken string
}

type held struct{ first, last time.Time }

// How often others look in, and for how many tables.
const (
	pause        = 5 * time.Millisecond
	watchTables  = 8
	watchRows    = 20
	sampleLocks  = 20 * time.Millisecond
	watchTimeout = time.Hour
)

// watched watches a copy while something is done to it.
func (x *run) watched(ctx context.Context, b *sqldb.Bench, rows map[string]int64, do func(begun func(pid uint32)) error) (*watch, error) {
	tables, err := b.Tables(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(tables, func(a, c sqldb.Table) int { return int(rows[c.String()] - rows[a.String()]) })
	tables = tables[:min(len(tables), watchTables)]
	looking, stop := context.WithTimeout(ctx, watchTimeout)
	w := &watch{stop: stop, locks: map[[2]string]*held{}}
	if b.Dialect() == sqldb.SQLite {
		err = w.besideSQLite(looking, b, &x.turn)
	} else {
		err = w.besidePostgres(looking, b, tables)
	}
	if err != nil {
		stop()
		return nil, err
	}
	err = do(func(pid uint32) { w.group.Go(func() { w.sample(looking, b, pid) }) })
	w.settle()
	return w, err
}

// settle waits for whoever still waits for the migration, and then ends.
func (w *watch) settle() {
	w.stop()
	w.group.Wait()
}

// besideSQLite takes the turn to write again and again, which only one has.
func (w *watch) besideSQLite(ctx context.Context, b *sqldb.Bench, turn *sync.Mutex) error {
	beside, err := sqldb.OpenBench(b.At, false)
	if err != nil {
		return err
	}
	w.group.Go(func() {
		defer beside.Close()
		w.repeat(ctx, "the turn to write", func(ctx context.Context) error {
			turn.Lock()
			defer turn.Unlock()
			return beside.Within(ctx, false, func(sqldb.Work) error { return nil })
		})
	})
	return nil
}

// besidePostgres has a reader and a writer of each table.
func (w *watch) besidePostgres(ctx context.Context, b *sqldb.Bench, tables []sqldb.Table) error {
	for _, t := range tables {
		write, err := writing(ctx, b, t)
		if err != nil {
			return err
		}
		w.group.Go(func() {
			w.repeat(ctx, "writing "+t.String(), func(ctx context.Context) error { return b.Within(ctx, false, write) })
		})
		w.group.Go(func() {
			w.repeat(ctx, "reading "+t.String(), func(ctx context.Context) error {
				return b.Each(ctx, "SELECT 1 FROM "+t.SQL()+" LIMIT 1", func([]any) error { return nil })
			})
		})
	}
	return nil
}

// writing is a change of one row of a table, another each time, that is taken
// back; where rows have no key, the lock alone that a change takes.
func writing(ctx context.Context, b *sqldb.Bench, t sqldb.Table) (func(sqldb.Work) error, error) {
	keys := t.Keys()
	if len(keys) == 0 {
		return func(w sqldb.Work) error { return w.Exec(ctx, "LOCK TABLE "+t.SQL()+" IN ROW EXCLUSIVE MODE") }, nil
	}
	var names, same, where []string
	for _, k := range keys {
		names = append(names, k.SQL())
		same = append(same, k.SQL()+" = "+k.SQL())
		where = append(where, k.SQL()+" = ?")
	}
	var rows [][]any
	err := b.Each(ctx, fmt.Sprintf("SELECT %s FROM %s LIMIT %d", strings.Join(names, ", "), t.SQL(), watchRows), func(row []any) error {
		rows = append(rows, slices.Clone(row))
		return nil
	})
	if err != nil || len(rows) == 0 {
		rows = [][]any{make([]any, len(keys))}
	}
	statement, n := fmt.Sprintf("UPDATE %s SET %s WHERE %s", t.SQL(), strings.Join(same, ", "), strings.Join(where, " AND ")), 0
	return func(w sqldb.Work) error {
		n++
		return w.Exec(ctx, statement, rows[n%len(rows)]...)
	}, err
}

// repeat does something until ctx ends. What waits then is waited for: the
// migration is over, so it comes through.
func (w *watch) repeat(ctx context.Context, what string, do func(context.Context) error) {
	last := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		begun := time.Now()
		limited, done := context.WithTimeout(last, watchTimeout)
		err := do(limited)
		done()
		took := time.Since(begun)
		w.mu.Lock()
		if took > w.most {
			w.most, w.of = took, what
		}
		if err != nil && w.broken == "" {
			w.broken = what
		}
		w.mu.Unlock()
		if err != nil {
			return // its table is not there any more, or is another
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

const readLocks = `SELECT c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
	WHERE l.pid = ? AND l.granted AND c.relkind IN ('r', 'p') AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')`

// sample looks which locks a process of the server holds that stop others.
func (w *watch) sample(ctx context.Context, b *sqldb.Bench, pid uint32) {
	for ctx.Err() == nil {
		now := time.Now()
		err := b.Each(ctx, readLocks, func(row []any) error {
			key := [2]string{fmt.Sprint(row[0]), fmt.Sprint(row[1])}
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.locks[key] == nil {
				w.locks[key] = &held{first: now}
			}
			w.locks[key].last = time.Now()
			return nil
		}, int64(pid))
		if err != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(sampleLocks):
		}
	}
}

// into notes what was seen with a migration.
func (w *watch) into(m *link.RehearsedMigration) {
	m.WaitMillis, m.WaitedFor = w.most.Milliseconds(), w.of
	for key, h := range w.locks {
		m.Locks = append(m.Locks, link.HeldLock{Table: key[0], Mode: key[1], Milliseconds: h.last.Sub(h.first).Milliseconds()})
	}
	slices.SortFunc(m.Locks, func(a, b link.HeldLock) int {
		if a.Milliseconds != b.Milliseconds {
			return int(b.Milliseconds - a.Milliseconds)
		}
		return strings.Compare(a.Table+a.Mode, b.Table+b.Mode)
	})
	m.Locks = m.Locks[:min(len(m.Locks), 20)]
}
