package software

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/migrations"
	"github.com/slipway/slipway/internal/stamp/twin"
)

// model is a stamp whose clock, devices and control do what a test says.
type model struct {
	t       *rapid.T
	ctx     context.Context
	now     time.Time
	dir     string
	db      *sqldb.DB
	devices *device.Devices
	twins   *twin.Store
	engine  *Engine
	files   map[string][]byte

	document link.Releases
	made     int             // devices so far
	here     map[string]bool // devices, and whether they are connected

	mu     sync.Mutex // orders go out several at once
	told   map[string]link.UpdateOrder
	faults []string
}

func newModel(t *rapid.T) *model {
	m := &model{
		t: t, ctx: context.Background(), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), files: map[string][]byte{},
		here: map[string]bool{}, told: map[string]link.UpdateOrder{},
	}
	var err error
	m.db, err = sqldb.Open(m.ctx, sqldbtest.At(t), migrations.FS)
	m.must(err)
	t.Cleanup(func() { m.must(m.db.Close()) })
	m.dir, err = os.MkdirTemp("", "software")
	m.must(err)
	t.Cleanup(func() { m.must(os.RemoveAll(m.dir)) })
	m.twins = twin.NewStore(m.db)
	m.devices = device.NewDevices(m.db, m.twins)
	m.restart()
	return m
}

func (m *model) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// restart has another process begin.
func (m *model) restart() {
	var err error
	m.engine, err = Open(m.ctx, Options{
		Stamp: "s", DB: m.db, Devices: m.devices, Twins: m, Dir: m.dir, Control: m, Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return m.now }, Notify: func(id string) { m.engine.Touch(id) },
	})
	m.must(err)
	m.engine.Again()
}

// Artifact is Control's.
func (m *model) Artifact(_ context.Context, req link.ReadPart) (link.Part, error) {
	content, ok := m.files[req.Name]
	if !ok {
		return link.Part{}, problem.New(problem.NotReady, "not here yet")
	}
	return link.Part{Size: int64(len(content)), Data: content[req.Offset:]}, nil
}

// Metadata is Control's.
func (m *model) Metadata(context.Context, link.ReadPart) (link.Part, error) {
	return link.Part{}, problem.New(problem.NotFound, "none")
}

// PatchTwinWith is Twins', and looks at each order that goes out.
func (m *model) PatchTwinWith(ctx context.Context, req link.PatchTwin, also func(context.Context, *sqldb.Tx) error) (link.Twin, error) {
	t, err := m.twins.UpdateWith(ctx, req.DeviceID, "", func(t twin.Twin) (twin.Twin, error) {
		changed, _, err := t.Patch(req.Patch, m.now)
		return changed, err
	}, also)
	if err != nil {
		return link.Twin{}, err
	}
	m.engine.Touch(req.DeviceID)
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := orderIn(m.t, t)
	if before := m.told[req.DeviceID]; ok && o.Order > before.Order {
		m.told[req.DeviceID] = o
		m.checkOrder(req.DeviceID, o)
	}
	return link.Twin{}, nil
}

// ReportFor is Twins'.
func (m *model) ReportFor(ctx context.Context, id string, patch []byte) error {
	_, err := m.twins.Update(ctx, id, "", func(t twin.Twin) (twin.Twin, error) { return t.PatchReported(patch, m.now) })
	m.engine.Touch(id)
	return err
}

func orderIn(t *rapid.T, w twin.Twin) (o link.UpdateOrder, ok bool) {
	present, ok := w.Desired.Values[link.UpdateProperty].(twin.Document)
	if !ok {
		return o, false
	}
	text, err := twin.Encode(present)
	if err != nil {
		t.Fatal(err)
	}
	return o, json.Unmarshal(text, &o) == nil
}

// checkOrder holds an order against what control allows.
func (m *model) checkOrder(id string, o link.UpdateOrder) {
	p := m.engine.plan.Load()
	s, _, err := m.engine.standing(m.ctx, id)
	if err != nil {
		m.faults = append(m.faults, err.Error())
		return
	}
	if fault := m.faultOf(p, s, o); fault != "" {
		m.faults = append(m.faults, fmt.Sprintf("%s was given %+v: %s; it stands at %+v", id, o, fault, s))
	}
}

func (m *model) faultOf(p *plan, s Standing, o link.UpdateOrder) string {
	if o.Order != s.Order || o.Digest != s.Given || o.Digest != s.Target {
		return "that is not what is noted"
	}
	if s.Rollout == "" {
		return ""
	}
	r := p.Rollout
	switch working, err := m.engine.working(m.ctx, s.Rollout); {
	case err != nil:
		return err.Error()
	case r == nil || r.ID != s.Rollout:
		return "its rollout is no more"
	case r.Paused || p.course.Halted != "":
		return "none is to be given"
	case r.Parallel > 0 && working > int64(r.Parallel):
		return fmt.Sprintf("%d devices work at once", working)
	case !m.here[s.DeviceID]:
		return "it is not there"
	case p.where != nil || s.Wave > 0 && s.Wave < r.Wave || p.course.Stretch.Holds(s.Spot):
		return ""
	}
	return "it is beyond the reach"
}

// settle has the engine do what there is to do.
func (m *model) settle() {
	for range 10_000 {
		more, err := m.engine.round(m.ctx)
		m.must(err)
		if len(m.faults) > 0 {
			m.t.Fatal(m.faults)
		}
		if !more && (m.engine.touched.None() || !m.engine.Active()) {
			return
		}
	}
	m.t.Fatal("the engine does not come to rest")
}

func testRelease(n int, kind string, file []byte) link.Release {
	r := link.Release{Name: fmt.Sprint("v", n), Counter: int64(n), Digest: fmt.Sprintf("%064d", n)}
	one := link.Software{Name: "fw", Version: fmt.Sprint(n)}
	if kind == "some" {
		one.Hardware = []string{"a"}
	}
	if len(file) > 0 {
		sum := sha256.Sum256(file)
		one.Artifacts = []link.Artifact{{File: "f", Size: int64(len(file)), SHA256: hex.EncodeToString(sum[:])}}
	}
	if kind != "none" {
		r.Spec.Software = []link.Software{one}
	}
	if n%2 == 0 {
		r.Spec.Configuration = map[string]any{"setting": n}
	}
	return r
}

func (m *model) drawRelease() link.Release {
	n := rapid.IntRange(1, 6).Draw(m.t, "release")
	return testRelease(n, []string{"all", "some", "all", "all", "none", "all"}[n-1], []byte{0, 0, byte(n)}[:map[bool]int{true: 3, false: 0}[n == 3]])
}

// control gives the stamp another document.
func (m *model) control(t *rapid.T) {
	m.t = t
	d := link.Releases{Version: m.document.Version + 1, Environment: "e", Base: m.document.Base, Rollout: m.document.Rollout}
	switch rapid.SampledFrom([]string{"base", "none", "rollout", "wave", "pause", "back", "done"}).Draw(t, "document") {
	case "base":
		r := m.drawRelease()
		d.Base = &r
	case "none":
		d.Base, d.Rollout = nil, nil
	case "rollout":
		d.Rollout = &link.Rollout{
			ID: fmt.Sprint("r", d.Version), Release: m.drawRelease(), Wave: 1, Parallel: rapid.IntRange(0, 2).Draw(t, "parallel"),
			Attempts: rapid.IntRange(0, 2).Draw(t, "attempts"), DeadlineSeconds: rapid.Int64Range(0, 2).Draw(t, "deadline") * 60,
			Reach: link.Reach{Share: rapid.SampledFrom([]float64{0, 0.3, 0.5, 1}).Draw(t, "share"), Count: rapid.Int64Range(0, 2).Draw(t, "count")},
		}
		if rapid.Bool().Draw(t, "where") {
			d.Rollout.Reach.Where = "tags.group = 'x'"
		}
		if rapid.Bool().Draw(t, "halt") {
			d.Rollout.Halt = &link.Halt{Failures: 0.4, MinDevices: 1}
		}
	case "wave":
		if d.Rollout != nil {
			next := *d.Rollout
			next.Wave, next.Reach.Share = next.Wave+1, min(1, next.Reach.Share+0.3)
			d.Rollout = &next
		}
	case "pause":
		if d.Rollout != nil {
			next := *d.Rollout
			next.Paused = !next.Paused
			d.Rollout = &next
		}
	case "back":
		d.Rollout = nil
	case "done":
		if d.Rollout != nil {
			d.Base, d.Rollout = &d.Rollout.Release, nil
		}
	}
	m.put(d)
}

func (m *model) put(d link.Releases) {
	m.document = d
	_, err := m.engine.Put(m.ctx, d)
	m.must(err)
	old := link.Releases{Version: d.Version - 1}
	_, err = m.engine.Put(m.ctx, old) // late
	m.must(err)
}

// fetch has the stamp fetch artifacts, which control may not have.
func (m *model) fetch(t *rapid.T) {
	m.t = t
	if file := []byte{0, 0, 3}; rapid.Bool().Draw(t, "there") {
		sum := sha256.Sum256(file)
		m.files[hex.EncodeToString(sum[:])] = file
	}
	if err := m.engine.mirrorOnce(m.ctx); err != nil && !problem.Is(err, problem.NotReady) {
		t.Fatal(err)
	}
}

func (m *model) add(t *rapid.T) {
	m.t = t
	if m.made >= 12 {
		t.Skip("enough")
	}
	m.made++
	id := fmt.Sprint("d", m.made)
	tags := rapid.SampledFrom([]string{`{}`, `{"group":"x"}`}).Draw(t, "tags")
	_, err := m.devices.Put(m.ctx, link.PutIdentity{DeviceID: id, Epoch: 1, Auth: link.Auth{Type: link.AuthSAS, PrimaryKey: []byte("k")}, Twin: &link.TwinContent{Tags: []byte(tags)}}, m.now)
	m.must(err)
	m.here[id] = false
	m.engine.Touch(id)
}

func (m *model) remove(t *rapid.T) {
	m.t = t
	id := m.some(t)
	_, err := m.devices.Remove(m.ctx, link.RemoveIdentity{DeviceID: id, Epoch: 1}, false, m.now)
	m.must(err)
	delete(m.here, id)
	delete(m.told, id)
	m.engine.Touch(id)
}

func (m *model) some(t *rapid.T) string {
	if len(m.here) == 0 {
		t.Skip("no device")
	}
	return rapid.SampledFrom(slices.Sorted(maps.Keys(m.here))).Draw(t, "device")
}

func (m *model) turn(t *rapid.T) {
	m.t = t
	id := m.some(t)
	m.connect(id, !m.here[id])
}

func (m *model) connect(id string, connected bool) {
	m.here[id] = connected
	m.must(m.db.Commit(m.ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE device SET connected = ? WHERE device_id = ?", connected, id)
		return err
	}))
	m.engine.Touch(id)
}

// say has a device report something, of its order or of another one.
func (m *model) say(t *rapid.T) {
	m.t = t
	id := m.some(t)
	o := m.told[id]
	report := link.UpdateReport{Hardware: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "hardware"), Order: o.Order, Phase: rapid.SampledFrom([]string{
		"", link.OrderDownloading, link.OrderTrial, link.OrderConfirmed, link.OrderFailed, link.OrderRolledBack, "nonsense",
	}).Draw(t, "phase"), Error: "because"}
	if rapid.Bool().Draw(t, "stale") {
		report.Order -= rapid.Int64Range(1, 3).Draw(t, "by")
	}
	report.Software = map[string]string{"fw": fmt.Sprint(rapid.IntRange(1, 6).Draw(t, "runs"))}
	if len(o.Software) > 0 && rapid.Bool().Draw(t, "right") {
		report.Software["fw"] = o.Software[0].Version
	}
	m.must(m.engine.Report(m.ctx, id, report))
}

// meddle has a back end change what is not its own.
func (m *model) meddle(t *rapid.T) {
	m.t = t
	id := m.some(t)
	value := rapid.SampledFrom([]string{"null", "5", `{"order":7,"release":"mine"}`, `{"extra":true,"software":null}`}).Draw(t, "value")
	_, err := m.twins.Update(m.ctx, id, "", func(w twin.Twin) (twin.Twin, error) {
		changed, _, err := w.Patch([]byte(`{"properties":{"desired":{"slipway":`+value+`}}}`), m.now)
		return changed, err
	})
	m.must(err)
	m.engine.Touch(id)
}

func (m *model) wait(t *rapid.T) {
	m.t = t
	m.now = m.now.Add(time.Duration(rapid.IntRange(1, 150).Draw(t, "seconds")) * time.Second)
}

// check looks at everything at once.
func (m *model) check(t *rapid.T) {
	m.t = t
	m.settle()
	if m.document.Version == 0 {
		return
	}
	m.engine.census.reset()
	progress, err := m.engine.Progress(m.ctx)
	m.must(err)
	list, err := m.engine.List(m.ctx, link.ListUpdates{})
	m.must(err)
	var counted link.UpdateCensus
	for _, u := range list.Items {
		if _, ok := m.here[u.DeviceID]; !ok || !slices.Contains(link.UpdateStates, u.State) || u.Reason == "" {
			t.Fatalf("%+v", u)
		}
		add(&counted, u.State, 1)
	}
	if counted != progress.Devices || total(counted) != int64(len(m.here)) || !progress.Complete || progress.Version != m.document.Version {
		t.Fatalf("counted %+v of %d devices, told %+v", counted, len(m.here), progress)
	}
	for id := range m.here {
		m.checkDevice(id)
	}
}

func (m *model) checkDevice(id string) {
	p := m.engine.plan.Load()
	s, _, err := m.engine.standing(m.ctx, id)
	m.must(err)
	target := p.baseDigest()
	if s.Wave > 0 {
		target = p.Rollout.Release.Digest
	} else if p.Rollout != nil && p.course.Stretch.Holds(s.Spot) {
		m.t.Fatalf("%s lies in the stretch and was not reached", id)
	}
	if s.Target != target {
		m.t.Fatalf("%s is to run %s, not %s", id, target, s.Target)
	}
	// Back at the base, nobody holds an order that leads elsewhere.
	if s.Wave == 0 && p.Base != nil && m.engine.files.ready(p.Base) && s.Given != "" && s.Given != target {
		m.t.Fatalf("%s still has an order for %s: %+v", id, s.Given, s)
	}
	w, err := m.twins.Get(m.ctx, id)
	m.must(err)
	given, err := m.engine.release(m.ctx, p, s.Given)
	m.must(err)
	wanted, ordered := s.order(given, "e")
	present := w.Desired.Values[link.UpdateProperty]
	if ordered != (present != nil) {
		m.t.Fatalf("%s holds %v, and was given %+v", id, present, wanted)
	}
	if document, err := asDocument(wanted); ordered && (err != nil || !same(present, document)) {
		m.t.Fatalf("%s holds %v, not %v", id, present, document)
	}
}

// end has everything go well from now on: then every device runs what it should.
func (m *model) end() {
	if m.document.Version == 0 {
		return
	}
	d := m.document
	d.Version++
	if d.Rollout != nil {
		next := *d.Rollout
		next.Paused, next.Halt, next.Wave, next.Reach.Share, next.ID = false, nil, 9, 1, "last"
		d.Rollout = &next
	}
	m.put(d)
	file := []byte{0, 0, 3}
	sum := sha256.Sum256(file)
	m.files[hex.EncodeToString(sum[:])] = file
	m.must(m.engine.mirrorOnce(m.ctx))
	for id := range m.here {
		m.connect(id, true)
	}
	for range 2 * len(m.here) {
		m.settle()
		if m.atRest() {
			return
		}
		for id := range m.here {
			w, err := m.twins.Get(m.ctx, id)
			m.must(err)
			if o, ok := orderIn(m.t, w); ok {
				m.must(m.engine.Report(m.ctx, id, link.UpdateReport{Hardware: "a", Order: o.Order, Phase: link.OrderConfirmed, Software: map[string]string{"fw": o.Software[0].Version}}))
			}
		}
	}
	if m.settle(); !m.atRest() {
		list, err := m.engine.List(m.ctx, link.ListUpdates{})
		m.t.Fatalf("in the end %+v, %v", list.Items, err)
	}
}

// atRest reports whether every device runs what it should.
func (m *model) atRest() bool {
	list, err := m.engine.List(m.ctx, link.ListUpdates{})
	m.must(err)
	return !slices.ContainsFunc(list.Items, func(u link.Update) bool { return u.State != link.UpdateDone && u.State != link.UpdateExempt })
}

func TestWhateverHappensTheCensusIsRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		t.Repeat(map[string]func(*rapid.T){
			"control": m.control, "fetch": m.fetch, "add": m.add, "remove": m.remove, "turn": m.turn, "say": m.say, "say more": m.say, "turn more": m.turn,
			"meddle": m.meddle, "wait": m.wait, "restart": func(t *rapid.T) { m.t = t; m.restart() }, "": m.check,
		})
		m.t = t
		m.end()
	})
}
