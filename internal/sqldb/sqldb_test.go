package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

var tables = fstest.MapFS{"001_items.sql": {Data: []byte("-- +goose Up\nCREATE TABLE item (id TEXT PRIMARY KEY, n INTEGER NOT NULL);\n")}}

func open(t testing.TB) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), tables)
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

func count(t *testing.T, db *sqldb.DB) int {
	t.Helper()
	n, _, err := sqldb.Row(t.Context(), db, func(r *sql.Rows) (n int, err error) { return n, r.Scan(&n) }, "SELECT count(*) FROM item")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func insert(id string, n int) func(context.Context, *sqldb.Tx) error {
	return func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO item (id, n) VALUES (?, ?)", id, n)
		return err
	}
}

func TestManyCallersOneFailureTakesBackOnlyItself(t *testing.T) {
	db := open(t)
	boom := errors.New("boom")
	var failed atomic.Int32
	var all sync.WaitGroup
	for i := range 400 {
		all.Go(func() {
			err := db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				if err := insert(fmt.Sprint("item-", i), i)(ctx, tx); err != nil {
					return err
				}
				if i%10 == 3 {
					return boom
				}
				return nil
			})
			if errors.Is(err, boom) {
				failed.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if failed.Load() != 40 || count(t, db) != 360 {
		t.Errorf("failed %d, stored %d; want 40 and 360", failed.Load(), count(t, db))
	}
}

func TestBrokenUniquenessIsAConflict(t *testing.T) {
	db := open(t)
	if err := db.Commit(t.Context(), insert("a", 1)); err != nil {
		t.Fatal(err)
	}
	if err := db.Commit(t.Context(), insert("a", 2)); !problem.Is(err, problem.Conflict) {
		t.Errorf("second insert: %v, want a conflict", err)
	}
	if count(t, db) != 1 {
		t.Error("the failed insert left something behind")
	}
}

func TestPanicInOneChangeSparesTheOthers(t *testing.T) {
	db := open(t)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			err := db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				if i == 7 {
					panic("on purpose")
				}
				return insert(fmt.Sprint(i), i)(ctx, tx)
			})
			if (err != nil) != (i == 7) {
				t.Errorf("change %d: %v", i, err)
			}
		})
	}
	all.Wait()
	if count(t, db) != 49 {
		t.Errorf("stored %d, want 49", count(t, db))
	}
}

// TestClosingLeavesNoLockBehind closes a database under load, and opens it
// again at once.
func TestClosingLeavesNoLockBehind(t *testing.T) {
	file := filepath.Join(t.TempDir(), "again.db")
	acked := 0
	for round := range 20 {
		db, err := sqldb.Open(t.Context(), file, tables)
		if err != nil {
			t.Fatal(err)
		}
		if got := count(t, db); got != acked {
			t.Fatalf("round %d: %d rows of %d", round, got, acked)
		}
		var mu sync.Mutex
		var all sync.WaitGroup
		for worker := range 8 {
			all.Go(func() {
				for i := 0; ; i++ {
					err := db.Commit(t.Context(), insert(fmt.Sprint(round, " ", worker, " ", i), i))
					if problem.Is(err, problem.NotReady) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					acked++
					mu.Unlock()
				}
			})
		}
		for {
			mu.Lock()
			enough := acked > 30*(round+1)
			mu.Unlock()
			if enough {
				break
			}
			runtime.Gosched()
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		all.Wait()
	}
}

func TestReopenKeepsWhatWasCommitted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "again.db")
	for i := range 3 {
		db, err := sqldb.Open(t.Context(), file, tables)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Commit(t.Context(), insert(fmt.Sprint(i), i)); err != nil {
			t.Fatal(err)
		}
		if got := count(t, db); got != i+1 {
			t.Errorf("opening %d: %d rows", i, got)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, callers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			db := open(b)
			var next atomic.Int64
			b.SetParallelism(callers)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					id := fmt.Sprint(next.Add(1))
					if err := db.Commit(context.Background(), insert(id, 1)); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
