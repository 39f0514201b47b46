package erasure_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/erasure"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

var anna = access.Actor{Name: "anna"}

// planes keep records of devices by plane, and answer or do not.
type planes struct {
	mu      sync.Mutex
	records map[string]map[string]int // plane → device → records
	total   map[string]int64          // erased by plane
	order   []string                  // what was asked of which plane for which device
	away    map[string]bool
	barred  map[string]bool
	asked   func() // nil, or called with every erasure
}

var errAway = problem.New(problem.NotReady, "nobody answers")

func (p *planes) Bar(_ context.Context, req link.BarDevice) (link.BarState, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.barred[req.DeviceID] = true
	return link.BarState{Registered: true, Off: req.Remove}, nil
}

func (p *planes) Erase(_ context.Context, peer string, req link.EraseSubject) (link.Erased, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked != nil {
		p.asked()
	}
	if p.away[peer] {
		return link.Erased{}, errAway
	}
	p.order = append(p.order, req.Device+" "+peer)
	n := p.records[peer][req.Device]
	delete(p.records[peer], req.Device)
	p.total[peer] += int64(n)
	return link.Erased{Removed: []link.CareFound{{Kind: "things", Count: p.total[peer]}}, Now: int64(n)}, nil
}

func (p *planes) Registered(_ context.Context, req link.ListRegistrations) (link.Registrations, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var page link.Registrations
	for _, device := range []string{"d1", "d2", "d3"} {
		if device > req.After && req.Tenant == "acme" {
			page.Items = append(page.Items, link.Registration{DeviceID: device})
			page.More = device != "d3"
			break // a page holds one
		}
	}
	return page, nil
}

func (p *planes) Here(context.Context, string, link.QueryDevices) (link.Devices, error) {
	return link.Devices{Items: []link.Device{{DeviceID: "d3"}, {DeviceID: "of-a-back-end"}}}, nil
}

func (p *planes) left() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, devices := range p.records {
		for _, records := range devices {
			n += records
		}
	}
	return n
}

// world is control with planes that hold records of some devices.
type world struct {
	*testing.T
	db     *sqldb.DB
	log    *audit.Log
	planes *planes
	held   string
	*erasure.Erasures
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{T: t, db: db, planes: &planes{records: map[string]map[string]int{}, total: map[string]int64{}, away: map[string]bool{}, barred: map[string]bool{}}}
	for _, peer := range []string{"control", "provisioning", "stamp.a", "stamp.b"} {
		w.planes.records[peer] = map[string]int{"d1": 3, "d2": 2, "d3": 1, "of-a-back-end": 1, "other": 5}
	}
	if w.log, err = audit.Open(t.Context(), db, make([]byte, 32), time.Now); err != nil {
		t.Fatal(err)
	}
	w.open()
	return w
}

func (w *world) open() {
	w.Erasures = erasure.New(erasure.Options{
		DB: w.db, Audit: w.log, Planes: w.planes, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
		Stamps: func(context.Context) ([]resource.Stamp, error) {
			return []resource.Stamp{{Metadata: resource.Metadata{Name: "a"}}, {Metadata: resource.Metadata{Name: "b"}}}, nil
		},
		Known: func(context.Context, string, string) error { return nil },
		Held: func(context.Context, sqldb.Querier, string, string) (string, bool, error) {
			w.planes.mu.Lock()
			defer w.planes.mu.Unlock()
			return w.held, w.held != "", nil
		},
		Drop: func(context.Context, access.Actor, string) (int64, error) { return 2, nil },
		Remains: func(_ context.Context, at time.Time) ([]erasure.Remain, error) {
			until := at.AddDate(1, 0, 0)
			return []erasure.Remain{{What: "backups in vault home", Until: &until}}, nil
		},
	})
}

// run runs erasures until so; they may die before.
func (w *world) run(so func() bool) {
	w.Helper()
	ctx, stop := context.WithTimeout(w.Context(), time.Minute)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- w.Erasures.Run(ctx) }()
	for !so() {
		select {
		case <-ctx.Done():
			w.Fatal("it takes too long")
		case <-time.After(5 * time.Millisecond):
		}
	}
	stop()
	if err := <-done; err != nil {
		w.Fatal(err)
	}
}

func (w *world) get(id string) erasure.Erasure {
	w.Helper()
	e, err := w.Get(w.Context(), id)
	if err != nil {
		w.Fatal(err)
	}
	return e
}

// A tenant is erased with all its devices, those too that only a stamp knows;
// a stamp that is away is asked again, and a process that dies in the middle
// loses nothing. The proof says all of it, and names nobody.
func TestATenantIsErasedWithProof(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, object := range []string{"tenant/acme", "tenant/acme", "tenant/acme2"} {
		if err := w.log.Write(t.Context(), audit.Entry{Actor: "anna", Action: "tenant.put", Object: object}); err != nil {
			t.Fatal(err)
		}
	}
	w.planes.away["stamp.b"] = true
	e, err := w.Start(t.Context(), anna, erasure.Tenant, "acme", "the contract ended")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Start(t.Context(), anna, erasure.Tenant, "acme", "again"); !problem.Is(err, problem.Conflict) {
		t.Errorf("twice: %v", err)
	}
	w.run(func() bool {
		return strings.Contains(w.get(e.ID).Problem, "stamp.b: nobody answers") && w.planes.left() < 20+28
	})
	if _, err := w.Prove(t.Context(), anna, e.ID); !problem.Is(err, problem.NotReady) {
		t.Errorf("a proof before its time: %v", err)
	}

	// The stamp is back, and the process dies with every third question.
	w.planes.mu.Lock()
	w.planes.away["stamp.b"] = false
	w.planes.mu.Unlock()
	for dead := false; w.get(e.ID).State == erasure.Erasing; dead = false {
		w.open() // as a new process does
		questions := 0
		w.planes.mu.Lock()
		w.planes.asked = func() { questions++; dead = dead || questions%3 == 0 }
		w.planes.mu.Unlock()
		w.run(func() bool {
			w.planes.mu.Lock()
			over := dead
			w.planes.mu.Unlock()
			return over || w.get(e.ID).State != erasure.Erasing
		})
	}
	w.run(func() bool { return w.get(e.ID).State == erasure.Done })

	if got := w.planes.left(); got != 4*5 {
		t.Errorf("%d records are left, not 20 of another device", got)
	}
	for _, device := range []string{"d1", "d2", "d3", "of-a-back-end"} {
		first := func(peer string) int { return slices.Index(w.planes.order, device+" "+peer) }
		if !w.planes.barred[device] || first("stamp.b") < 0 || first("provisioning") < first("stamp.b") || first("control") < first("provisioning") {
			t.Errorf("%s was erased in the order %v", device, w.planes.order)
		}
	}
	done := w.get(e.ID)
	if done.Subject != "" || done.Devices != 4 || done.Erased != 4 || done.EndedAt == nil {
		t.Errorf("it is %+v", done)
	}
	if parts, _, err := sqldb.Row(t.Context(), w.db, scanInt, "SELECT count(*) FROM erasure_part"); err != nil || parts != 0 {
		t.Errorf("%d parts are left, %v", parts, err)
	}
	w.checkProof(e)
}

func (w *world) checkProof(e erasure.Erasure) {
	w.Helper()
	proof, err := w.Prove(w.Context(), anna, e.ID)
	if err != nil {
		w.Fatal(err)
	}
	key, err := w.log.Latest(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	st, err := erasure.Verify(proof, key.Key)
	if err != nil {
		w.Fatal(err)
	}
	if !st.About("acme") || st.About("acme2") || st.Devices != 4 || len(st.Remains) != 1 || len(st.Planes) != 4 || st.Total[0].Count != 28 {
		w.Errorf("the statement says %+v", st)
	}
	whole, err := json.Marshal(proof)
	if err != nil || strings.Contains(string(whole), "tenant/acme") || strings.Contains(string(whole), "of-a-back-end") {
		w.Errorf("the proof names somebody: %s, %v", whole, err)
	}
	entries, err := w.log.List(w.Context(), "test", audit.Filter{Limit: 100})
	if err != nil {
		w.Fatal(err)
	}
	erased := 0
	for _, one := range entries {
		if one.Object == "tenant/acme" {
			w.Errorf("the audit log still names it: %+v", one)
		}
		if len(one.Erased) > 0 {
			erased++
		}
	}
	if erased != 3 { // two, and that it was asked for
		w.Errorf("%d entries were erased", erased)
	}

	for name, spoil := range map[string]func(*erasure.ErasureProof){
		"another statement": func(p *erasure.ErasureProof) {
			p.Statement = strings.Replace(p.Statement, `"devices":4`, `"devices":5`, 1)
		},
		"another form":       func(p *erasure.ErasureProof) { p.Format = "something else" },
		"a checkpoint":       func(p *erasure.ErasureProof) { p.Statement = p.Audit.Checkpoint.Note },
		"a path that is cut": func(p *erasure.ErasureProof) { p.Audit.Path = p.Audit.Path[1:] },
		"another entry":      func(p *erasure.ErasureProof) { _, p.Audit, _ = w.log.Show(w.Context(), "test", 1) },
	} {
		spoilt := proof
		spoilt.Audit.Path = slices.Clone(proof.Audit.Path)
		spoil(&spoilt)
		if _, err := erasure.Verify(spoilt, key.Key); err == nil {
			w.Errorf("%s is verified", name)
		}
	}
	other, err := audit.Open(w.Context(), newWorld(w.T).db, make([]byte, 32), time.Now)
	if err != nil {
		w.Fatal(err)
	}
	if theirs, err := other.Latest(w.Context()); err != nil {
		w.Fatal(err)
	} else if _, err := erasure.Verify(proof, theirs.Key); err == nil {
		w.Error("a proof of another installation is verified")
	}
}

// A legal hold keeps an erasure from beginning, and from going on.
func TestAHoldStopsAnErasure(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.held = "legal-hold-1"
	if _, err := w.Start(t.Context(), anna, erasure.Device, "d1", "r"); !problem.Is(err, problem.Conflict) {
		t.Fatalf("in spite of a hold: %v", err)
	}
	w.held = ""
	e, err := w.Start(t.Context(), anna, erasure.Device, "d1", "r")
	if err != nil {
		t.Fatal(err)
	}
	w.held = "legal-hold-2"
	w.run(func() bool { return strings.Contains(w.get(e.ID).Problem, "legal-hold-2") })
	if w.planes.left() != 4*12 {
		t.Error("something was erased in spite of a hold")
	}
	w.held = ""
	w.run(func() bool { return w.get(e.ID).State == erasure.Done })
	for name, c := range map[string][3]string{
		"nothing":            {erasure.Device, "", "r"},
		"a module":           {erasure.Device, "d1/cam", "r"},
		"a stamp":            {"stamp", "a", "r"},
		"the default tenant": {erasure.Tenant, link.DefaultTenant, "r"},
		"no reason":          {erasure.Device, "d1", " "},
	} {
		if _, err := w.Start(t.Context(), anna, c[0], c[1], c[2]); !problem.Is(err, problem.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHorizon(t *testing.T) {
	at := time.Date(2026, 12, 20, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct{ last, daily, weekly, monthly, lock, days int }{
		{96, 14, 8, 12, 0, 12*31 + 8}, {96, 14, 0, 0, 0, 14 + 8}, {1, 0, 0, 0, 30, 30 + 8}, {96 * 10, 1, 1, 0, 0, 11 + 8},
	} {
		if got := erasure.Horizon(at, 900, c.last, c.daily, c.weekly, c.monthly, c.lock); !got.Equal(at.AddDate(0, 0, c.days)) {
			t.Errorf("%+v: until %s", c, got)
		}
	}
	if a, b := erasure.Commit("s", "device", "x"), erasure.Commit("s", "tenant", "x"); a == b || len(a) != 64 {
		t.Error(fmt.Sprint("commitments: ", a, b))
	}
}
