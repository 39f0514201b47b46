package sqldb_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

func share(t *testing.T, at string) *sqldb.DB {
	t.Helper()
	db, err := sqldb.OpenShared(t.Context(), at, tables)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func scanInt(rows *sql.Rows) (n int, err error) { return n, rows.Scan(&n) }

// increment reads and writes without a lock of its own: lost updates show if
// the processes do not take turns.
func increment(ctx context.Context, tx *sqldb.Tx) error {
	n, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT n FROM item WHERE id = ?", "counter")
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "UPDATE item SET n = ? WHERE id = ?", n+1, "counter")
	return err
}

// TestProcessesTakeTurns opens one database several times at once, kills the
// server in the middle, and sees every acknowledged change there.
func TestProcessesTakeTurns(t *testing.T) {
	t.Parallel()
	server := sqldbtest.Start(t)
	const processes, callers, each = 3, 8, 40
	dbs := make([]*sqldb.DB, processes)
	var all sync.WaitGroup
	for i := range dbs {
		all.Go(func() { dbs[i] = share(t, server.URL) })
	}
	all.Wait()
	if err := dbs[0].Commit(t.Context(), insert("counter", 0)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sqldb.Open(ctx, server.URL, tables); err == nil {
		t.Error("a process that wants the database for itself was let in")
	}
	var mu sync.Mutex
	acked, unsure := 0, 0
	for _, db := range dbs {
		for range callers {
			all.Go(func() {
				for range each {
					err := db.Commit(t.Context(), increment)
					if err != nil && !problem.Is(err, problem.NotReady) {
						t.Error(err)
					}
					mu.Lock()
					if err == nil {
						acked++
					} else {
						unsure++
					}
					mu.Unlock()
				}
			})
		}
	}
	server.Kill()
	server.Resume()
	all.Wait()
	until(t, func() bool { return dbs[1].Commit(t.Context(), insert("again", 0)) == nil })
	n, _, err := sqldb.Row(t.Context(), dbs[1], scanInt, "SELECT n FROM item WHERE id = ?", "counter")
	if err != nil {
		t.Fatal(err)
	}
	if n < acked || n > acked+unsure {
		t.Errorf("the counter is %d after %d changes that were acknowledged and %d that may have been", n, acked, unsure)
	}
	for _, db := range dbs {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	openAt(t, server.URL)
}

// BenchmarkTurns is what it costs that several processes write.
func BenchmarkTurns(b *testing.B) {
	server := sqldbtest.Start(b)
	for _, processes := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("processes=%d", processes), func(b *testing.B) {
			at, err := sqldb.InSchema(server.URL, fmt.Sprintf("turns_%d_%d", processes, b.N))
			if err != nil {
				b.Fatal(err)
			}
			var all sync.WaitGroup
			dbs := make([]*sqldb.DB, processes)
			for i := range dbs {
				if dbs[i], err = sqldb.OpenShared(b.Context(), at, tables); err != nil {
					b.Fatal(err)
				}
				defer dbs[i].Close()
			}
			b.ResetTimer()
			const callers = 64
			for i := range callers {
				all.Go(func() {
					for n := i; n < b.N; n += callers {
						if err := dbs[n%processes].Commit(context.Background(), insert(fmt.Sprint(n), n)); err != nil {
							b.Error(err)
						}
					}
				})
			}
			all.Wait()
		})
	}
}

// TestAFencedProcessChangesNothing gives a process up by another one.
func TestAFencedProcessChangesNothing(t *testing.T) {
	t.Parallel()
	server := sqldbtest.Start(t)
	one, other := share(t, server.URL), share(t, server.URL)
	t.Cleanup(func() { one.Close(); other.Close() })
	if err := one.Commit(t.Context(), insert("one", 0)); err != nil {
		t.Fatal(err)
	}
	one.Fence("SELECT 1 FROM item WHERE id = 'one'")
	if err := one.Commit(t.Context(), insert("counter", 0)); err != nil {
		t.Fatal(err)
	}
	take := func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM item WHERE id = 'one'")
		return err
	}
	if err := other.Commit(t.Context(), take); err != nil {
		t.Fatal(err)
	}
	if err := one.Commit(t.Context(), increment); !problem.Is(err, problem.NotReady) {
		t.Errorf("a process that was given up changed something: %v", err)
	}
	if err := one.CommitOutside(t.Context(), insert("one", 0)); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	server.Resume()
	if err := one.Commit(t.Context(), increment); err != nil {
		t.Error(err)
	}
	if n, _, err := sqldb.Row(t.Context(), other, scanInt, "SELECT n FROM item WHERE id = ?", "counter"); err != nil || n != 1 {
		t.Errorf("the counter is at %d, %v", n, err)
	}
}
