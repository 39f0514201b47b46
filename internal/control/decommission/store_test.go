package decommission_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/decommission"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

// fleet is the other planes, as far as one device goes.
type fleet struct {
	mu     sync.Mutex
	barred bool
	on     bool
	orders int
	answer *link.MethodResult // nil: the device is not connected
	away   bool
}

func (f *fleet) Bar(_ context.Context, req link.BarDevice) (link.BarState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		return link.BarState{}, problem.New(problem.NotReady, "provisioning does not answer")
	}
	f.barred, f.on = true, f.on && !req.Remove
	state := link.BarState{Registered: true, Off: !f.on}
	if f.on {
		state.Stamp = "eu-1"
	}
	return state, nil
}

func (f *fleet) Unbar(context.Context, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.barred = false
	return nil
}

func (f *fleet) Wipe(_ context.Context, _ string, req link.InvokeMethod) (link.MethodResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.orders++
	if f.answer == nil || !f.barred || req.Method != decommission.Method {
		return link.MethodResult{}, problem.New(problem.NotReady, "the device is not connected")
	}
	return *f.answer, nil
}

func (f *fleet) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func TestADeviceIsTakenOutOfUse(t *testing.T) {
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
	world, held := &fleet{on: true, away: true}, ""
	log := audit.NewLog(db, time.Now)
	open := func() *decommission.Decommissions {
		return decommission.New(decommission.Options{
			DB: db, Audit: log, Devices: world, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
			Find: func(context.Context, string) (access.Place, error) {
				return access.Place{Environment: "production", Stamp: "eu-1", Tenant: "acme"}, nil
			},
			Held: func(context.Context, sqldb.Querier, string, string) (string, bool, error) {
				return held, held != "", nil
			},
		})
	}
	anna, d := access.Actor{Name: "anna"}, open()
	// until runs a process of control until a state is come to, and ends it.
	until := func(so func(decommission.Decommission) bool) decommission.Decommission {
		t.Helper()
		d = open()
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		defer func() { stop(); <-done }()
		for {
			one, err := d.Of(t.Context(), "sensor-1")
			if err != nil || ctx.Err() != nil {
				t.Fatalf("%+v, %v", one, err)
			}
			if so(one) {
				return one
			}
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	in := func(s decommission.State) func(decommission.Decommission) bool {
		return func(one decommission.Decommission) bool { return one.State == s }
	}

	held = "legal-hold-1"
	if _, err := d.Start(t.Context(), anna, decommission.Request{Device: "sensor-1", Reason: "sold"}); !problem.Is(err, problem.Conflict) {
		t.Fatalf("in spite of a hold: %v", err)
	}
	held = ""
	if _, err := d.Start(t.Context(), anna, decommission.Request{Device: "sensor-1", Reason: "sold", Seconds: 3600}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Start(t.Context(), anna, decommission.Request{Device: "sensor-1", Reason: "sold"}); !problem.Is(err, problem.Conflict) {
		t.Errorf("twice: %v", err)
	}
	until(func(one decommission.Decommission) bool { return one.Problem == "provisioning does not answer" })
	world.set(func() { world.away = false })
	waits := until(func(one decommission.Decommission) bool {
		return one.State == decommission.Wiping && one.Wipe.Next != nil
	})
	if waits.BarredAt == nil || waits.Wipe.Until == nil || !world.barred || !world.on {
		t.Errorf("while the device is waited for: %+v", waits)
	}
	world.set(func() { world.answer = &link.MethodResult{Status: 200, Payload: []byte(`{"wiped":true}`)} })
	done := until(in(decommission.Done))
	if done.Wipe.Outcome != decommission.Wiped || done.Wipe.Answer != `{"wiped":true}` || done.Wipe.Tries < 2 || done.RemovedAt == nil || world.on {
		t.Errorf("decommissioned: %+v", done)
	}
	if _, err := d.TakeBack(t.Context(), anna, "sensor-1", "a mistake"); err != nil {
		t.Fatal(err)
	}
	if until(in(decommission.Lifted)); world.barred {
		t.Error("it is barred though that was taken back")
	}
	// A second time, without asking it.
	world.set(func() { world.on, world.orders = true, 0 })
	if _, err := d.Start(t.Context(), anna, decommission.Request{Device: "sensor-1", Reason: "stolen"}); err != nil {
		t.Fatal(err)
	}
	if done = until(in(decommission.Done)); done.Wipe.Outcome != decommission.Skipped || world.orders != 0 || world.on {
		t.Errorf("without asking it: %+v, %d orders", done, world.orders)
	}
	all, err := d.List(t.Context(), 10)
	if err != nil || len(all) != 2 || all[0].ID != "decommission-2" {
		t.Errorf("the list is %+v, %v", all, err)
	}
	entries, err := log.List(t.Context(), "test", audit.Filter{Object: "device/sensor-1", Limit: 50})
	if err != nil || len(entries) < 7 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}
