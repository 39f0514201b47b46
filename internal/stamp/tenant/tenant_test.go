package tenant_test

import (
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/stamp/migrations"
	"github.com/slipway/slipway/internal/stamp/tenant"
)

func TestOneTenantsExcessIsItsOwn(t *testing.T) {
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	open := func() *tenant.Quotas {
		t.Helper()
		q, err := tenant.Open(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	q := open()
	put := func(version int64, rate float64) {
		t.Helper()
		if _, err := q.Put(t.Context(), link.Tenants{Version: version, Items: []link.Tenant{{Name: "noisy", MessagesPerSecond: rate}, {Name: "quiet"}}}); err != nil {
			t.Fatal(err)
		}
	}
	put(2, 10)
	put(1, 1000) // comes late
	q = open()   // and what was said last outlives a restart
	now := time.Now()
	waits := 0
	for range 1000 {
		if wait, err := q.Reserve("quiet", 1, now); err != nil || wait != 0 {
			t.Fatalf("the quiet one waits %s, %v", wait, err)
		}
		wait, err := q.Reserve("noisy", 1, now)
		switch {
		case err != nil && !problem.Is(err, problem.Busy), wait > tenant.MaxWait:
			t.Fatalf("%s, %v", wait, err)
		case err == nil:
			waits++
		}
	}
	if want := 10 + 10*int(tenant.MaxWait/time.Second); waits != want {
		t.Errorf("%d messages were given a place, not %d", waits, want)
	}
	if q.Exceeded() != uint64(1000-waits) {
		t.Errorf("%d were refused", q.Exceeded())
	}
	if err := q.Allow("noisy", 1, now); !problem.Is(err, problem.Busy) {
		t.Errorf("a request was let by: %v", err)
	}
	put(3, 0)
	if err := q.Allow("noisy", 1, now); err != nil {
		t.Errorf("without a quota: %v", err)
	}
}
