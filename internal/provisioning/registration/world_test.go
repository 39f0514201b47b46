package registration

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/attestation"
	"github.com/slipway/slipway/internal/provisioning/directory"
	"github.com/slipway/slipway/internal/provisioning/enrollment"
	"github.com/slipway/slipway/internal/provisioning/migrations"
	"github.com/slipway/slipway/internal/sqldb"
)

// fakeStamps keep identities as real ones do, and lose requests or answers
// when they are told to.
type fakeStamps struct {
	mu      sync.Mutex
	present map[string]map[string]int64 // stamp → device → epoch
	gone    map[string]map[string]int64
	twins   map[string]string // reported properties by device, as long as it is somewhere
	owners  map[string]string // tenant by device
	trouble func() string     // "", "before", "after" or "late"
	late    []func()          // requests that arrive after their sender gave them up
}

func newFakeStamps() *fakeStamps {
	return &fakeStamps{present: map[string]map[string]int64{}, gone: map[string]map[string]int64{}, twins: map[string]string{}, owners: map[string]string{}, trouble: func() string { return "" }}
}

func (f *fakeStamps) of(stamp string) (present, gone map[string]int64) {
	if f.present[stamp] == nil {
		f.present[stamp], f.gone[stamp] = map[string]int64{}, map[string]int64{}
	}
	return f.present[stamp], f.gone[stamp]
}

var errLost = problem.New(problem.NotReady, "lost on purpose")

func (f *fakeStamps) Put(_ context.Context, stamp string, req link.PutIdentity) (link.IdentityResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch f.trouble() {
	case "before":
		return link.IdentityResult{}, errLost
	case "late":
		f.late = append(f.late, func() { _, _ = f.put(stamp, req) })
		return link.IdentityResult{}, errLost
	case "after":
		_, _ = f.put(stamp, req)
		return link.IdentityResult{}, errLost
	}
	return f.put(stamp, req)
}

func (f *fakeStamps) put(stamp string, req link.PutIdentity) (link.IdentityResult, error) {
	present, gone := f.of(stamp)
	if req.Epoch < present[req.DeviceID] || req.Epoch <= gone[req.DeviceID] {
		return link.IdentityResult{}, problem.New(problem.Conflict, "over here")
	}
	if present[req.DeviceID] != req.Epoch {
		present[req.DeviceID] = req.Epoch
		f.twins[req.DeviceID], f.owners[req.DeviceID] = "{}", req.Tenant
		if req.Twin != nil && req.Twin.Reported != nil {
			f.twins[req.DeviceID] = string(req.Twin.Reported)
		}
	}
	return link.IdentityResult{}, nil
}

func (f *fakeStamps) Remove(_ context.Context, stamp string, req link.RemoveIdentity) (link.RemovedIdentity, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch f.trouble() {
	case "before":
		return link.RemovedIdentity{}, errLost
	case "late":
		f.late = append(f.late, func() { _, _ = f.remove(stamp, req) })
		return link.RemovedIdentity{}, errLost
	case "after":
		_, _ = f.remove(stamp, req)
		return link.RemovedIdentity{}, errLost
	}
	return f.remove(stamp, req)
}

func (f *fakeStamps) remove(stamp string, req link.RemoveIdentity) (link.RemovedIdentity, error) {
	present, gone := f.of(stamp)
	if present[req.DeviceID] > req.Epoch {
		return link.RemovedIdentity{}, problem.New(problem.Conflict, "newer here")
	}
	receipt := link.RemovedIdentity{Existed: present[req.DeviceID] > 0 || gone[req.DeviceID] >= req.Epoch, Connected: true}
	if receipt.Existed {
		receipt.Twin = &link.TwinContent{Reported: []byte(f.twins[req.DeviceID])}
	}
	delete(present, req.DeviceID)
	gone[req.DeviceID] = max(gone[req.DeviceID], req.Epoch)
	return receipt, nil
}

// deliver lets some of the late requests arrive, in any order.
func (f *fakeStamps) deliver(chance *rand.Rand) {
	f.mu.Lock()
	defer f.mu.Unlock()
	chance.Shuffle(len(f.late), func(i, j int) { f.late[i], f.late[j] = f.late[j], f.late[i] })
	n := len(f.late) / 2
	for _, arrive := range f.late[n:] {
		arrive()
	}
	f.late = f.late[:n]
}

func (f *fakeStamps) Query(_ context.Context, stamp string, req link.QueryDevices) (page link.Devices, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	present, _ := f.of(stamp)
	var ids []string
	for id := range present {
		if id > req.After && (!strings.HasPrefix(req.Where, tenantIs) || req.Where == ofTenant(f.owners[id])) {
			ids = append(ids, id)
		}
	}
	sort.Strings(ids)
	for i, id := range ids {
		if i == req.Limit {
			return link.Devices{Items: page.Items, More: true}, nil
		}
		page.Items = append(page.Items, link.Device{DeviceID: id})
	}
	return page, nil
}

// ofTenant is the one condition that the stamps know; any other matches all.
func ofTenant(name string) string { return tenantIs + "'" + name + "'" }

const tenantIs = "tenant = "

// homes are the stamps that have a device.
func (f *fakeStamps) homes(device string) (all []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for stamp, present := range f.present {
		if present[device] > 0 {
			all = append(all, stamp)
		}
	}
	return all
}

// world is provisioning with its database, which outlives restarts.
type world struct {
	t interface {
		Fatalf(string, ...any)
	}
	at      string
	db      *sqldb.DB
	service *Service
	stamps  *fakeStamps
	version int64
	room    int          // places of each stamp
	acme    []string     // the stamps that take the tenant acme; none is all
	clock   atomic.Int64 // µs; workers read it while the test turns it
}

var quiet = slog.New(slog.DiscardHandler)

func (w *world) open() {
	db, err := sqldb.Open(context.Background(), w.at, migrations.Files)
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	d, err := directory.Open(context.Background(), db)
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	w.db = db
	w.service = NewService(db, d, w.stamps, Limits{1e6, 1e6, 16}, quiet, w.now)
}

func (w *world) close() {
	w.service.close()
	if err := w.db.Close(); err != nil {
		w.t.Fatalf("%v", err)
	}
}

func (w *world) direct(states map[string]link.StampState) {
	w.version++
	doc := link.Directory{Version: w.version, Environments: []link.Environment{{Name: "test"}, {Name: "production", PromotesFrom: "test"}},
		Tenants: []link.Tenant{{Name: "acme", Stamps: w.acme}}}
	for name, state := range states {
		env := "production"
		if name == "t1" || name == "t2" {
			env = "test"
		}
		doc.Stamps = append(doc.Stamps, link.Stamp{Name: name, Environment: env, Host: name, Capacity: w.room, Weight: 1, State: state})
	}
	if err := w.service.directory.Put(context.Background(), doc); err != nil {
		w.t.Fatalf("%v", err)
	}
}

var allOpen = map[string]link.StampState{"t1": link.StampOpen, "t2": link.StampOpen, "p1": link.StampOpen, "p2": link.StampOpen}

func newWorld(t interface{ Fatalf(string, ...any) }, at string) *world {
	w := &world{t: t, at: at, stamps: newFakeStamps(), room: 3}
	w.clock.Store(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC).UnixMicro())
	w.open()
	w.direct(allOpen)
	enrollments := enrollment.New(w.db, []byte("secret"), w.now)
	for name, policy := range map[string]string{"migrating": link.ReprovisionMigrate, "resetting": link.ReprovisionReset, "of-acme": link.ReprovisionMigrate} {
		if _, err := enrollments.Put(context.Background(), link.PutEnrollment{Kind: link.Group, Name: name, Spec: link.EnrollmentSpec{
			Environment: "test", Tenant: map[string]string{"of-acme": "acme"}[name], Reprovision: policy, Attestation: link.Attestation{SymmetricKey: &link.SymmetricKey{}},
		}}); err != nil {
			t.Fatalf("%v", err)
		}
	}
	return w
}

func (w *world) register(id, group string) Operation {
	e, _, err := enrollment.Load(context.Background(), w.db, link.Group, group)
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	op, err := w.service.Register(context.Background(), id, attestation.Proof{Enrollment: e, Auth: link.Auth{Type: link.AuthSAS}}, Ask{})
	if err != nil {
		w.t.Fatalf("register %s: %v", id, err)
	}
	w.service.working.Wait()
	return op
}

func (w *world) now() time.Time { return time.UnixMicro(w.clock.Load()).UTC() }

// turn lets time pass and everything that is due be worked on.
func (w *world) turn(d time.Duration) {
	w.clock.Add(d.Microseconds())
	if err := w.service.sweep(context.Background()); err != nil {
		w.t.Fatalf("%v", err)
	}
	if err := w.service.runMoves(context.Background()); err != nil && !problem.Is(err, problem.NotReady) {
		w.t.Fatalf("%v", err)
	}
	w.service.working.Wait()
}

func (w *world) get(id string) (Record, bool) {
	r, known, err := byDevice(context.Background(), w.db, id)
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	return r, known
}

// check holds everything against the promise: valid in one place at most, and
// books that agree with it.
func (w *world) check(ids []string) {
	places := map[string]int{}
	for _, id := range ids {
		homes := w.stamps.homes(id)
		if len(homes) > 1 {
			w.t.Fatalf("%s is valid on %v", id, homes)
		}
		r, known := w.get(id)
		if !known {
			continue
		}
		switch {
		case r.Phase == link.PhaseAssigned && (len(homes) != 1 || homes[0] != r.Stamp):
			w.t.Fatalf("%s is assigned to %s and is on %v", id, r.Stamp, homes)
		case r.Phase == link.PhaseWaiting && (len(homes) != 0 || r.Stamp != ""):
			w.t.Fatalf("%s waits, and is on %v with stamp %q", id, homes, r.Stamp)
		case len(homes) == 1 && homes[0] != r.Stamp:
			w.t.Fatalf("%s is on %v, the record says %s", id, homes, r.Stamp)
		}
		if r.Stamp != "" {
			places[r.Stamp]++
		}
	}
	counted, err := taken(context.Background(), w.db)
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	for stamp, n := range counted {
		if n != places[stamp] || n > w.room {
			w.t.Fatalf("stamp %s counts %d places, %d are taken, %d is its capacity", stamp, n, places[stamp], w.room)
		}
	}
}

// checkBooks holds the logs and the censuses against the records.
func (w *world) checkBooks(ids []string) {
	for _, id := range ids {
		w.checkHistory(id)
	}
	w.checkMoves()
}

// checkHistory replays a device's log: each step may follow the one before, an
// epoch never comes back, and the last line is where the record stands.
func (w *world) checkHistory(id string) {
	shown, err := w.service.Get(context.Background(), link.RegistrationRef{RegistrationID: id})
	if problem.Is(err, problem.NotFound) {
		return
	}
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	phase, epoch := link.PhaseWaiting, int64(0)
	phases := map[string]link.Phase{stepCreating: link.PhaseCreating, stepAssigned: link.PhaseAssigned, stepRemoving: link.PhaseRemoving, stepRemoved: link.PhaseWaiting}
	for _, h := range shown.History {
		next, isStep := phases[h.Step]
		if !isStep {
			continue
		}
		if !slices.Contains(moves[phase], next) {
			w.t.Fatalf("%s: %s follows %s", id, h.Step, phase)
		}
		if next == link.PhaseCreating {
			epoch++
		}
		if h.Epoch != epoch || h.Stamp == "" {
			w.t.Fatalf("%s: %s has epoch %d on %q, want epoch %d", id, h.Step, h.Epoch, h.Stamp, epoch)
		}
		phase = next
	}
	if phase != shown.Phase || epoch != shown.Epoch {
		w.t.Fatalf("%s: the log ends with %s %d, the record says %s %d", id, phase, epoch, shown.Phase, shown.Epoch)
	}
}

// checkMoves holds each census against the registrations: a device is under
// way in one move at most, and that one is the latest that touched it.
func (w *world) checkMoves() {
	all, err := w.service.Moves(context.Background(), link.ListMoves{})
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	under := map[string]string{}
	for _, m := range all.Items {
		page, err := w.service.MoveDevices(context.Background(), link.ListMoveDevices{ID: m.ID})
		if err != nil {
			w.t.Fatalf("%v", err)
		}
		c := m.Census
		if c.Total != len(page.Items) || c.Total != c.Pending+c.Removing+c.Waiting+c.Arrived+c.Already+c.Failed || c.Returning > c.Waiting {
			w.t.Fatalf("%s has %d devices and counts %+v", m.ID, len(page.Items), c)
		}
		for _, d := range page.Items {
			if d.State != deviceRemoving && d.State != deviceWaiting {
				continue
			}
			r, _ := w.get(d.DeviceID)
			if under[d.DeviceID] != "" || moveID(r.Move) != m.ID || r.Phase == link.PhaseAssigned {
				w.t.Fatalf("%s is %s in %s and in %q; the record is %s in move %d", d.DeviceID, d.State, m.ID, under[d.DeviceID], r.Phase, r.Move)
			}
			under[d.DeviceID] = m.ID
		}
	}
}
