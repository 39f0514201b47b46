package control

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/blob"
	"github.com/slipway/slipway/internal/care"
	"github.com/slipway/slipway/internal/control/artifact"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

// Control cleans every kind up that is said of it, and every holding's text is
// one that the database takes.
func TestControlCaresForWhatItKeeps(t *testing.T) {
	t.Parallel()
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	log := audit.NewLog(db, time.Now)
	p := &Plane{db: db, artifacts: artifact.New(db, blob.New(blob.Dir(t.TempDir())), artifact.Limits{}, log, time.Now)}
	plan := link.CarePlan{Version: 1, EveryHours: 24, Days: map[string]int{}, Holds: []link.CareHold{{Device: "d"}, {Tenant: "acme"}}}
	var kept []string
	for _, h := range p.holdings() {
		kept = append(kept, h.Kind())
	}
	for _, kind := range care.Of(care.Control) {
		if !slices.Contains(kept, kind) {
			t.Errorf("control cleans up no %s", kind)
		}
		plan.Days[kind] = 1
	}
	if err := log.Write(t.Context(), audit.Entry{Actor: "anna", Action: "device.twin", Object: "device/d"}); err != nil {
		t.Fatal(err)
	}
	// The audit log's clock is today, and so two days from now its names go.
	keeper := care.New(db, p.holdings(), nil, slog.New(slog.DiscardHandler), func() time.Time { return time.Now().AddDate(0, 0, 2) })
	for _, names := range []int{0, 1} { // with a hold, and without
		if _, err := keeper.Put(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
		looks, err := keeper.Look(t.Context(), link.LookCare{})
		if err != nil || len(looks.Items) != names {
			t.Errorf("would go: %+v, %v", looks, err)
		}
		if err := keeper.Once(t.Context()); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
		plan.Version, plan.Holds = 2, nil
		if _, err := keeper.Ask(t.Context(), link.None{}); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := log.List(t.Context(), "test", audit.Filter{Limit: 10})
	if err != nil || len(entries) != 1 || len(entries[0].Erased) != 2 {
		t.Errorf("the audit log has %+v, %v", entries, err)
	}
}
