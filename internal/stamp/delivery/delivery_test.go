package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/seal"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/stamp/endpoint"
	"github.com/slipway/slipway/internal/stamp/migrations"
	"github.com/slipway/slipway/internal/stamp/telemetry"
)

// receiver is an endpoint that does what its test says.
type receiver struct {
	mu       sync.Mutex
	answer   func(batch []endpoint.Message) error // nil takes everything
	got      []uint64
	attempts int
	arrived  chan struct{} // one for every attempt, as far as there is room
}

func (r *receiver) Send(ctx context.Context, batch []endpoint.Message) error {
	r.mu.Lock()
	r.attempts++
	answer := r.answer
	r.mu.Unlock()
	defer func() {
		select {
		case r.arrived <- struct{}{}:
		default:
		}
	}()
	if answer != nil {
		if err := answer(batch); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range batch {
		r.got = append(r.got, m.Sequence)
	}
	return nil
}

func (r *receiver) Close() error { return nil }

func (r *receiver) behave(answer func([]endpoint.Message) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *receiver) sequences() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]uint64(nil), r.got...)
}

// world is a stamp's logs and database with an engine that can be restarted.
type world struct {
	t         *testing.T
	db        *sqldb.DB
	logs      *telemetry.Logs
	receivers map[string]*receiver // by the URL of the webhook
	program   func(context.Context, link.Processor) (Program, error)
	engine    *Engine
	stop      func()
	version   int64
	sent      int
}

func newWorld(t *testing.T, keep telemetry.Retention) *world {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	server, err := bus.Start(t.Context(), bus.Options{Name: "stamp", Dir: t.TempDir(), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	conn, err := server.Connect("stamp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	w := &world{t: t, receivers: map[string]*receiver{}}
	if w.logs, err = telemetry.Open(t.Context(), conn, "test-1", keep, logger); err != nil {
		t.Fatal(err)
	}
	if w.db, err = sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS); err != nil {
		t.Fatal(err)
	}
	// As in a stamp: what is sealed is never the same text twice.
	if err := w.db.KeepSealed(t.Context(), seal.Source{File: filepath.Join(t.TempDir(), seal.FileName)}, Sealed, time.Now); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.stop()
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
	})
	w.start()
	return w
}

func (w *world) start() {
	w.engine = New(Options{
		DB: w.db, Logs: w.logs, Logger: slog.New(slog.DiscardHandler), Now: time.Now, Wanted: func(bool) {},
		Outside: endpoint.Options{Stamp: "test-1"}, Program: func(ctx context.Context, p link.Processor) (Program, error) { return w.program(ctx, p) },
		Twin: func(_ context.Context, id string) (any, bool) {
			return map[string]any{"tags": map[string]any{"site": "north"}}, id == "d1"
		},
		Open: func(spec link.Endpoint, _ endpoint.Options) (endpoint.Endpoint, error) {
			return w.receiver(spec.Webhook.URL), nil
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.engine.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
		w.stop = func() {}
	}
}

func (w *world) receiver(url string) *receiver {
	if w.receivers[url] == nil {
		w.receivers[url] = &receiver{arrived: make(chan struct{}, 1)}
	}
	return w.receivers[url]
}

// declare makes the routes those given, by name.
func (w *world) declare(routes map[string]link.RouteSpec) {
	w.t.Helper()
	w.version++
	want := link.Routes{Version: w.version, Environment: "test"}
	for name, spec := range routes {
		if spec.Source == "" {
			spec.Source = link.SourceTelemetry
		}
		if spec.Batch == nil {
			spec.Batch = &link.Batch{Messages: 50, Bytes: 1 << 20, Wait: 1}
		}
		if spec.MaxAge == 0 {
			spec.MaxAge = 3600
		}
		spec.Environment, spec.Endpoint = "test", link.Endpoint{Webhook: &link.Webhook{URL: name}}
		w.receiver(name)
		want.Routes = append(want.Routes, link.Route{Name: name, Spec: spec})
	}
	if _, err := w.engine.Put(w.t.Context(), want); err != nil {
		w.t.Fatal(err)
	}
}

// send appends messages {"n": i} of device d0 or d1 and waits for the log.
func (w *world) send(n int) {
	w.t.Helper()
	var all sync.WaitGroup
	for range n {
		all.Add(1)
		w.sent++
		w.logs.Append(telemetry.Origin{DeviceID: fmt.Sprint("d", w.sent%2)}, "line=7", fmt.Appendf(nil, `{"n":%d}`, w.sent), func(_ uint64, err error) {
			if err != nil {
				w.t.Error(err)
			}
			all.Done()
		})
	}
	all.Wait()
}

// until waits for a route's state to be as wanted.
func (w *world) until(name string, wanted func(link.RouteState) bool) (s link.RouteState) {
	w.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-tick.C {
		states, err := w.engine.States(w.t.Context(), link.None{})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, s = range states.Items {
			if s.Route == name && wanted(s) {
				return s
			}
		}
	}
	w.t.Fatalf("route %s is %+v", name, s)
	return s
}

func done(s link.RouteState) bool { return s.Lag == 0 }

func TestRouteTakesWhatItShouldAndCountsTheRest(t *testing.T) {
	w := newWorld(t, telemetry.DefaultRetention)
	w.send(5) // before the route: none of its concern
	w.declare(map[string]link.RouteSpec{"r": {Where: "$body.n > 10 AND line = '7' AND $twin.tags.site = 'north'", Enrich: map[string]string{"site": "$twin.tags.site"}}})
	w.send(20)
	s := w.until("r", done)
	if s.Delivered != 8 || s.Passed != 12 || s.Dead+s.Lost != 0 || s.Position != 25 || s.State != "running" {
		t.Errorf("got %+v", s)
	}
	if got := w.receivers["r"].sequences(); len(got) != 8 || got[0] != 11 || got[7] != 25 {
		t.Errorf("got %v", got)
	}
}

var errAway = errors.New("connection refused")

func TestOneStuckEndpointDelaysNobodyElse(t *testing.T) {
	w := newWorld(t, telemetry.DefaultRetention)
	w.receiver("stuck").behave(func([]endpoint.Message) error { return errAway })
	hang := make(chan struct{})
	w.receiver("hanging").behave(func([]endpoint.Message) error { <-hang; return nil })
	w.declare(map[string]link.RouteSpec{"stuck": {}, "hanging": {}, "fine": {}})
	w.send(500)
	if s := w.until("fine", done); s.Delivered != 500 {
		t.Errorf("got %+v", s)
	}
	s := w.until("stuck", func(s link.RouteState) bool { return s.State == "failing" && s.Retries > 0 })
	if s.Error != errAway.Error() || s.Delivered != 0 || s.FailingFrom == nil {
		t.Errorf("got %+v", s)
	}
	close(hang)
	w.receiver("stuck").behave(nil)
	for _, name := range []string{"stuck", "hanging"} {
		if s := w.until(name, done); s.Delivered != 500 || s.Dead != 0 || s.State != "running" {
			t.Errorf("got %+v", s)
		}
		for i, n := range w.receivers[name].sequences() {
			if n != uint64(i+1) {
				t.Fatalf("%s: message %d came as number %d", name, n, i)
			}
		}
	}
}

func TestPoisonGoesToDeadLettersAlone(t *testing.T) {
	w := newWorld(t, telemetry.DefaultRetention)
	poison := func(batch []endpoint.Message) error {
		for _, m := range batch {
			if m.Sequence%100 == 7 {
				return problem.New(problem.Invalid, "cannot take %d", m.Sequence)
			}
		}
		return nil
	}
	w.receiver("r").behave(poison)
	w.declare(map[string]link.RouteSpec{"r": {}})
	w.send(300)
	if s := w.until("r", done); s.Delivered != 297 || s.Dead != 3 || s.DeadLetters != 3 {
		t.Fatalf("got %+v", s)
	}
	page, err := w.engine.DeadLetters(t.Context(), link.DeadLetterPage{Route: "r"})
	if err != nil || len(page.Items) != 3 || page.Items[1].Reason != "cannot take 107" || page.Items[1].Stamp != "test-1" {
		t.Fatalf("%+v, %v", page, err)
	}
	// Replayed while nothing is mended, it stays; mended, it goes out.
	replay := func(ids ...int64) {
		if _, err := w.engine.Replay(t.Context(), link.DeadLetterRef{Route: "r", IDs: ids}); err != nil {
			t.Fatal(err)
		}
	}
	replay(page.Items[0].ID)
	for attempts := 0; attempts != 2; {
		again, err := w.engine.DeadLetters(t.Context(), link.DeadLetterPage{Route: "r"})
		if err != nil {
			t.Fatal(err)
		}
		attempts = again.Items[0].Attempts
	}
	w.receiver("r").behave(nil)
	replay()
	s := w.until("r", func(s link.RouteState) bool { return s.DeadLetters == 0 })
	if s.Delivered != 300 || s.Dead != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestWhatIsTooOldWhileTheEndpointFailsIsKept(t *testing.T) {
	w := newWorld(t, telemetry.DefaultRetention)
	w.receiver("r").behave(func([]endpoint.Message) error { return errAway })
	w.declare(map[string]link.RouteSpec{"r": {MaxAge: 1}})
	w.send(1000)
	s := w.until("r", done)
	if s.Dead != 1000 || s.DeadLetters != 1000 || s.Delivered != 0 {
		t.Fatalf("got %+v", s)
	}
	if n, err := w.engine.Purge(t.Context(), link.DeadLetterRef{Route: "r"}); err != nil || n.Total != 1000 {
		t.Errorf("%+v, %v", n, err)
	}
	if s := w.until("r", done); s.DeadLetters != 0 || s.Dropped != 1000 || s.Dead != 1000 {
		t.Errorf("got %+v", s)
	}
}

func TestAPositionSurvivesAndAPatientEndpointIsHeard(t *testing.T) {
	w := newWorld(t, telemetry.DefaultRetention)
	w.declare(map[string]link.RouteSpec{"r": {}})
	w.send(100)
	w.until("r", done)
	w.receiver("r").behave(func([]endpoint.Message) error { return problem.New(problem.Busy, "later").After(time.Hour) })
	w.send(100)
	w.until("r", func(s link.RouteState) bool { return s.State == "failing" })
	w.stop()
	w.receiver("r").behave(nil)
	w.start() // does not know that it was told to wait for an hour
	if s := w.until("r", done); s.Delivered != 200 {
		t.Errorf("got %+v", s)
	}
	if got := w.receivers["r"].sequences(); len(got) != 200 || got[199] != 200 {
		t.Errorf("got %d", len(got))
	}
	// Declared the same again, nothing changes; declared otherwise, it goes on
	// where it was; taken away and back, it begins anew.
	w.declare(map[string]link.RouteSpec{"r": {Where: "$body.n > 0"}})
	w.send(10)
	if s := w.until("r", func(s link.RouteState) bool { return s.Delivered == 210 }); s.Passed != 0 {
		t.Errorf("got %+v", s)
	}
	w.declare(nil)
	w.send(10)
	w.declare(map[string]link.RouteSpec{"r": {}})
	w.send(1)
	if s := w.until("r", func(s link.RouteState) bool { return s.Lag == 0 && s.Delivered > 0 }); s.Delivered != 1 {
		t.Errorf("got %+v", s)
	}
}

func TestWhatRetentionTookIsCounted(t *testing.T) {
	w := newWorld(t, telemetry.Retention{TelemetryBytes: 64 << 10, EventBytes: 64 << 10, TelemetryAge: time.Hour, EventAge: time.Hour})
	w.receiver("r").behave(func([]endpoint.Message) error { return errAway })
	w.declare(map[string]link.RouteSpec{"r": {}})
	w.send(10_000)
	w.stop() // what it has read ahead it forgets
	w.receiver("r").behave(nil)
	w.start()
	s := w.until("r", done)
	if s.Lost == 0 || s.Lost+s.Delivered != 10_000 || int(s.Delivered) != len(w.receivers["r"].sequences()) {
		t.Errorf("got %+v", s)
	}
}

// A dead endpoint with a long backlog behind it must not cost memory.
func TestBacklogStaysInTheLog(t *testing.T) {
	w := newWorld(t, telemetry.DefaultRetention)
	w.receiver("r").behave(func([]endpoint.Message) error { return errAway })
	w.declare(map[string]link.RouteSpec{"r": {}})
	body := make([]byte, 200<<10)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	var all sync.WaitGroup
	for range 500 { // 100 MB
		all.Add(1)
		w.logs.Append(telemetry.Origin{DeviceID: "d"}, "", body, func(uint64, error) { all.Done() })
	}
	all.Wait()
	w.until("r", func(s link.RouteState) bool { return s.Retries > 1 })
	if grown := int64(heap()) - int64(before); grown > 40<<20 {
		t.Errorf("the heap has grown by %d MB", grown>>20)
	}
}

func TestBackoffGrowsAndIsBounded(t *testing.T) {
	last := time.Duration(0)
	for n := 1; n < 40; n++ {
		whole, least := backoff(n, 0), backoff(n, 1)
		if whole < last || whole > time.Minute || least < whole/2-1 {
			t.Errorf("after %d failures: %s to %s", n, least, whole)
		}
		last = whole
	}
	if backoff(1, 0) != 500*time.Millisecond || last != time.Minute {
		t.Errorf("from %s to %s", backoff(1, 0), last)
	}
}
