package software

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/stamp/migrations"
)

func spots(t *rapid.T) []Spot {
	// Few places, so that devices share them.
	places := rapid.SliceOfN(rapid.SampledFrom([]uint32{0, 1, 7, 1 << 31, math.MaxUint32 - 1, math.MaxUint32}), 1, 40).Draw(t, "places")
	all := make([]Spot, len(places))
	for i, place := range places {
		all[i] = Spot{place, fmt.Sprintf("d%02d", i)}
	}
	return all
}

// TestAStretchHoldsWhoComesFirst holds stretches against a ring that is walked.
func TestAStretchHoldsWhoComesFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := spots(t)
		start := rapid.SampledFrom([]uint32{0, 1, 5, 7, 1 << 31, math.MaxUint32}).Draw(t, "start")
		from := Stretch{Start: start}
		slices.SortFunc(all, from.compare)
		n := rapid.IntRange(0, len(all)).Draw(t, "n")
		stretch := from
		if n > 0 {
			stretch = from.Extended(Stretch{Start: start, Last: &all[n-1]})
		}
		for i, at := range all {
			if stretch.Holds(at) != (i < n) {
				t.Fatalf("the stretch of %d holds the one at %d: %v", n, i, stretch.Holds(at))
			}
			if within(stretch, at) != stretch.Holds(at) {
				t.Fatalf("the sections of %+v disagree about %+v", stretch, at)
			}
		}
		// It never gets shorter.
		if back := stretch.Extended(Stretch{Start: start, Last: &all[0]}); n > 0 && *back.Last != *stretch.Last {
			t.Fatal("a stretch got shorter")
		}
		if whole := stretch.Extended(Stretch{Start: start, Whole: true}); !whole.Holds(all[len(all)-1]) || !within(whole, all[0]) {
			t.Fatal("the whole ring does not hold all of it")
		}
	})
}

// within is Holds by sections.
func within(s Stretch, at Spot) bool {
	for _, part := range s.sections() {
		upTo := part.upTo == nil || at.Place < part.upTo.Place || at.Place == part.upTo.Place && at.DeviceID <= part.upTo.DeviceID
		if int64(at.Place) >= part.from && int64(at.Place) < part.below && upTo {
			return true
		}
	}
	return false
}

func TestWanted(t *testing.T) {
	for _, c := range []struct {
		share          float64
		count, n, want int64
	}{
		{0, 0, 10, 0}, {0.01, 0, 10, 1}, {0.07, 0, 100, 7}, {0.1, 5, 10, 5}, {0.5, 5, 100, 50}, {1, 0, 10, 10}, {2, 0, 10, 10}, {-1, 3, 10, 3},
		{math.NaN(), 20, 10, 10}, {math.Inf(1), 0, 10, 10}, {0.2500001, 0, 8, 3}, {0.3, -4, 0, 0},
	} {
		if got := Wanted(c.share, c.count, c.n); got != c.want {
			t.Errorf("%g or %d of %d are %d, not %d", c.share, c.count, c.n, got, c.want)
		}
	}
}

// TestReached has the database choose as the rules say.
func TestReached(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		db := ringOf(t, spots(t))
		all, err := sqldb.Rows(t.Context(), db, scanSpot, "SELECT place, device_id FROM software")
		if err != nil {
			t.Fatal(err)
		}
		start := rapid.SampledFrom([]uint32{0, 5, 1 << 31, math.MaxUint32}).Draw(t, "start")
		reach := link.Reach{Share: rapid.Float64Range(0, 1.2).Draw(t, "share"), Count: rapid.Int64Range(0, 50).Draw(t, "count")}
		stretch, err := reached(t.Context(), db, start, reach)
		if err != nil {
			t.Fatal(err)
		}
		held := int64(0)
		for _, at := range all {
			if stretch.Holds(at) {
				held++
			}
		}
		if want := Wanted(reach.Share, reach.Count, int64(len(all))); held != want {
			t.Fatalf("%d of %d devices are reached, not %d", held, len(all), want)
		}
	})
}

// tester is a test, a benchmark, or one try of a property.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Cleanup(func())
}

// ringOf is a database with devices at places.
func ringOf(t tester, all []Spot) *sqldb.DB {
	t.Helper()
	ctx := context.Background()
	db, err := sqldb.Open(ctx, sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("%v", err)
		}
	})
	const chunk = 10_000
	for len(all) > 0 {
		some := all[:min(chunk, len(all))]
		all = all[len(some):]
		err := db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			for _, at := range some {
				if err := settleAt(ctx, tx, at); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatalf("%v", err)
		}
	}
	return db
}

func settleAt(ctx context.Context, tx *sqldb.Tx, at Spot) error {
	_, err := tx.Exec(ctx, `INSERT INTO device (device_id, generation_id, epoch, status, enrollment, auth_type, primary_thumbprint, secondary_thumbprint, ca, model_id,
		subscriptions, connected, messages, created_at) VALUES (?, '', 1, 'enabled', '', 'sas', '', '', '', '', 0, 0, 0, 0)`, at.DeviceID)
	if err == nil {
		_, err = tx.Exec(ctx, "INSERT INTO software (device_id, place, updated_at) VALUES (?, ?, 0)", at.DeviceID, int64(at.Place))
	}
	return err
}

// BenchmarkPlan chooses a share of a million devices, and reads the first of
// them to be given orders.
func BenchmarkPlan(b *testing.B) {
	const devices = 1_000_000
	all := make([]Spot, devices)
	for i := range all {
		id := fmt.Sprintf("device-%07d", i)
		all[i] = Spot{Place(id), id}
	}
	db := ringOf(b, all)
	all = nil
	e := &Engine{db: db}
	for _, share := range []float64{0.01, 0.5, 0.99, 1} {
		b.Run(fmt.Sprint(share), func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for i := range b.N {
				stretch, err := reached(b.Context(), db, Place(fmt.Sprint("rollout", i)), link.Reach{Share: share})
				if err != nil {
					b.Fatal(err)
				}
				ids, err := e.unreached(b.Context(), stretch, page)
				if err != nil || len(ids) != page {
					b.Fatalf("%d devices: %v", len(ids), err)
				}
			}
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N)/1024, "KB/op")
		})
	}
	b.Run("census", func(b *testing.B) {
		for range b.N {
			began := time.Now()
			counted, err := e.countAll(b.Context(), &plan{})
			if err != nil || total(counted.all) != devices {
				b.Fatalf("%+v: %v", counted, err)
			}
			b.ReportMetric(time.Since(began).Seconds()*1000, "ms")
		}
	})
}
