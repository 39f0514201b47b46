package registration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/attestation"
	"github.com/slipway/slipway/internal/provisioning/enrollment"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

func TestNeverValidInTwoPlaces(t *testing.T) {
	ids := []string{"d1", "d2", "d3", "d4"}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, sqldbtest.At(t))
		defer w.close()
		w.room = 10 // a move between stamps waits for room, and would not end
		w.direct(allOpen)
		// Drawn once: stamps are asked from goroutines, where rapid must not draw.
		chance := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "trouble"), 1))
		w.stamps.trouble = func() string { return []string{"", "", "", "before", "after", "late"}[chance.IntN(6)] }
		group := map[string]string{"d1": "migrating", "d2": "of-acme", "d3": "resetting", "d4": "of-acme"}
		t.Repeat(map[string]func(*rapid.T){
			"register": func(t *rapid.T) {
				id := rapid.SampledFrom(ids).Draw(t, "id")
				op := w.register(id, group[id])
				if polled, err := w.service.Poll(context.Background(), id, op.ID); err != nil {
					t.Fatalf("poll: %v", err)
				} else if polled.Status == StatusAssigned && fmt.Sprint(w.stamps.homes(id)) != fmt.Sprint([]string{polled.Host}) {
					t.Fatalf("%s was told %s and is on %v", id, polled.Host, w.stamps.homes(id))
				}
			},
			"move": func(t *rapid.T) {
				to := rapid.SampledFrom([]string{"test", "production"}).Draw(t, "to")
				some := rapid.SliceOfNDistinct(rapid.SampledFrom(ids), 1, 3, rapid.ID[string]).Draw(t, "devices")
				if _, err := w.service.StartMove(context.Background(), link.StartMove{To: to, Devices: some}); err != nil {
					t.Fatalf("%v", err)
				}
				w.turn(0)
			},
			"empty a stamp": func(t *rapid.T) {
				from := rapid.SampledFrom([]string{"t1", "t2", "p1", "p2"}).Draw(t, "from")
				if _, err := w.service.StartMove(context.Background(), link.StartMove{From: from}); err != nil {
					t.Fatalf("%v", err)
				}
				w.turn(0)
			},
			"send to a stamp": func(t *rapid.T) {
				to, id := rapid.SampledFrom([]string{"t1", "t2", "p1", "p2"}).Draw(t, "to"), rapid.SampledFrom(ids).Draw(t, "id")
				if _, err := w.service.StartMove(context.Background(), link.StartMove{Stamp: to, Devices: []string{id}}); err != nil {
					t.Fatalf("%v", err)
				}
				w.turn(0)
			},
			"move a tenant": func(t *rapid.T) {
				req := link.StartMove{Where: ofTenant("acme"), Stamp: rapid.SampledFrom([]string{"t1", "t2", "p1", "p2"}).Draw(t, "to")}
				if _, err := w.service.StartMove(context.Background(), req); err != nil {
					t.Fatalf("%v", err)
				}
				w.turn(0)
			},
			"confine a tenant": func(t *rapid.T) {
				w.acme = rapid.SliceOfDistinct(rapid.SampledFrom([]string{"t1", "t2", "p1", "p2"}), rapid.ID[string]).Draw(t, "stamps")
				w.direct(allOpen)
			},
			"close a stamp": func(t *rapid.T) {
				states := map[string]link.StampState{}
				for name := range allOpen {
					states[name] = link.StampOpen
				}
				states[rapid.SampledFrom([]string{"t1", "p1", "p2"}).Draw(t, "stamp")] = rapid.SampledFrom([]link.StampState{link.StampClosed, link.StampDraining}).Draw(t, "state")
				w.direct(states)
			},
			"late requests arrive": func(*rapid.T) { w.stamps.deliver(chance) },
			"open all":             func(*rapid.T) { w.direct(allOpen) },
			"time":                 func(*rapid.T) { w.turn(2 * time.Minute) },
			"restart":              func(*rapid.T) { w.close(); w.open() },
			"":                     func(*rapid.T) { w.check(ids) },
		})
		w.settle(t, ids)
	})
}

// settle ends all trouble and expects everything to come to rest.
func (w *world) settle(t *rapid.T, ids []string) {
	w.stamps.trouble = func() string { return "" }
	w.stamps.deliver(rand.New(rand.NewPCG(1, 1)))
	w.acme = nil
	w.direct(allOpen)
	for range 5 {
		w.turn(2 * time.Minute)
	}
	w.check(ids)
	w.checkBooks(ids)
	for _, id := range ids {
		if r, known := w.get(id); known && r.Phase != link.PhaseAssigned && r.Phase != link.PhaseWaiting {
			t.Fatalf("%s did not come to rest: %s, %s", id, r.Phase, r.Problem)
		}
	}
	moves, err := w.service.Moves(context.Background(), link.ListMoves{})
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, m := range moves.Items {
		c := m.Census
		if m.State != link.MoveComplete || c.Pending+c.Removing > 0 || c.Total != c.Waiting+c.Arrived+c.Already+c.Failed {
			t.Fatalf("%s is %s: %+v", m.ID, m.State, c)
		}
	}
}

func TestTheTwinGoesAlongAsThePolicySays(t *testing.T) {
	w := newWorld(t, sqldbtest.At(t))
	defer w.close()
	for id, group := range map[string]string{"keeps": "migrating", "forgets": "resetting"} {
		w.register(id, group)
		w.stamps.twins[id] = `{"selfTest":"ok"}`
	}
	m, err := w.service.StartMove(t.Context(), link.StartMove{To: "production", Devices: []string{"keeps", "forgets", "nobody"}, Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	w.turn(0)
	w.turn(0)
	again, err := w.service.StartMove(t.Context(), link.StartMove{To: "production", Devices: []string{"keeps"}, Key: "k"})
	if err != nil || again.ID != m.ID {
		t.Errorf("the same key began %s after %s, %v", again.ID, m.ID, err)
	}
	if c := again.Census; c.Waiting != 2 || c.Returning != 2 || c.Failed != 1 || again.State != link.MoveComplete {
		t.Errorf("census %+v, %s", c, again.State)
	}
	for id, want := range map[string]string{"keeps": `{"selfTest":"ok"}`, "forgets": "{}"} {
		w.register(id, map[string]string{"keeps": "migrating", "forgets": "resetting"}[id])
		if got := w.stamps.twins[id]; got != want {
			t.Errorf("%s arrived with %s", id, got)
		}
		r, _ := w.get(id)
		if r.Home != "production" || r.Epoch != 2 {
			t.Errorf("%s is in %s, epoch %d", id, r.Home, r.Epoch)
		}
		shown, err := w.service.Get(t.Context(), link.RegistrationRef{DeviceID: id})
		if err != nil {
			t.Fatal(err)
		}
		steps := ""
		for _, h := range shown.History {
			steps += h.Step + " "
		}
		if steps != "registered creating assigned requested removing removed creating assigned " {
			t.Errorf("history of %s: %s", id, steps)
		}
	}
	if m, err = w.service.Move(t.Context(), m.ID); err != nil || m.Census.Arrived != 2 {
		t.Errorf("census %+v, %v", m.Census, err)
	}
}

func TestRegistrationWaitsForAPlace(t *testing.T) {
	w := newWorld(t, sqldbtest.At(t))
	defer w.close()
	for i := range 6 {
		w.register(fmt.Sprint("d", i), "migrating")
	}
	op := w.register("one-too-many", "migrating")
	if op.Status != StatusAssigning {
		t.Errorf("the seventh of six places: %s", op.Status)
	}
	r, _ := w.get("one-too-many")
	if r.Phase != link.PhaseWaiting || r.Problem == "" {
		t.Errorf("%s, %q", r.Phase, r.Problem)
	}
	if _, err := w.service.StartMove(t.Context(), link.StartMove{To: "production", Devices: []string{"d0"}}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.turn(5 * time.Second)
	}
	if op, err := w.service.Poll(t.Context(), "ONE-TOO-MANY", op.ID); err != nil || op.Status != StatusAssigned {
		t.Errorf("%s, %v", op.Status, err)
	}
	if _, err := w.service.Poll(t.Context(), "one-too-many", "guess.1"); !problem.Is(err, problem.NotFound) {
		t.Errorf("a guessed operation: %v", err)
	}
}

func TestRuleMovesWhatPasses(t *testing.T) {
	w := newWorld(t, sqldbtest.At(t))
	defer w.close()
	w.register("d1", "migrating")
	if err := w.service.applyRule(t.Context(), link.Environment{Name: "test", AutoMove: &link.AutoMove{To: "production", Connected: true}}); err != nil {
		t.Fatal(err)
	}
	w.turn(0)
	w.turn(0)
	if r, _ := w.get("d1"); r.Phase != link.PhaseWaiting || r.Environment != "production" {
		t.Errorf("%s for %s", r.Phase, r.Environment)
	}
}

func TestBulkMoveByConditionContinuesAfterARestart(t *testing.T) {
	w := newWorld(t, sqldbtest.At(t))
	defer func() { w.close() }()
	w.version++
	doc := link.Directory{Version: w.version, Environments: []link.Environment{{Name: "test"}, {Name: "production"}}, Stamps: []link.Stamp{
		{Name: "t1", Environment: "test", Host: "t1", Capacity: 100000, State: link.StampOpen}, {Name: "p1", Environment: "production", Host: "p1", Capacity: 100000, State: link.StampOpen},
	}}
	if err := w.service.directory.Put(t.Context(), doc); err != nil {
		t.Fatal(err)
	}
	const devices = 1500
	var registering sync.WaitGroup
	e, _, err := enrollment.Load(t.Context(), w.db, link.Group, "migrating")
	if err != nil {
		t.Fatal(err)
	}
	for i := range devices {
		registering.Go(func() {
			if _, err := w.service.Register(context.Background(), fmt.Sprintf("d%05d", i), attestation.Proof{Enrollment: e}, Ask{}); err != nil {
				t.Error(err)
			}
		})
	}
	registering.Wait()
	for range 5 {
		w.turn(time.Second)
	}
	m, err := w.service.StartMove(t.Context(), link.StartMove{To: "production", Where: "deviceId != ''"})
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	w.stamps.trouble = func() string {
		if calls++; calls > 400 {
			return "before" // the stamp is away from here on
		}
		return ""
	}
	w.turn(time.Second)
	w.turn(time.Second)
	w.close()
	w.stamps.trouble = func() string { return "" }
	w.open()
	for range 10 {
		w.turn(2 * time.Minute)
	}
	if m, err = w.service.Move(t.Context(), m.ID); err != nil || m.State != link.MoveComplete || m.Census.Waiting != devices || m.Census.Total != devices {
		t.Fatalf("%s %+v, %v", m.State, m.Census, err)
	}
	page, err := w.service.MoveDevices(t.Context(), link.ListMoveDevices{ID: m.ID, State: deviceWaiting, Limit: 10})
	if err != nil || len(page.Items) != 10 || !page.More || page.Items[0].DeviceID != "d00000" {
		t.Errorf("%+v, %v", page, err)
	}
}

func BenchmarkRegister(b *testing.B) {
	w := newWorld(b, sqldbtest.At(b))
	defer w.close()
	w.version++
	if err := w.service.directory.Put(b.Context(), link.Directory{Version: w.version, Environments: []link.Environment{{Name: "test"}}, Stamps: []link.Stamp{
		{Name: "t1", Environment: "test", Host: "t1", Capacity: 1 << 30, State: link.StampOpen},
	}}); err != nil {
		b.Fatal(err)
	}
	e, _, err := enrollment.Load(b.Context(), w.db, link.Group, "migrating")
	if err != nil {
		b.Fatal(err)
	}
	var n sync.Mutex
	next := 0
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n.Lock()
			next++
			id := fmt.Sprint("device-", next)
			n.Unlock()
			if _, err := w.service.Register(context.Background(), id, attestation.Proof{Enrollment: e}, Ask{}); err != nil {
				b.Error(err)
			}
		}
	})
	w.service.working.Wait()
}
