package ddi_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/stamp/command"
	"github.com/slipway/slipway/internal/stamp/ddi"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/hub"
	"github.com/slipway/slipway/internal/stamp/migrations"
	"github.com/slipway/slipway/internal/stamp/twin"
)

// engine gives the orders a test sets, and keeps what is reported.
type engine struct {
	mu      sync.Mutex
	orders  map[string]link.UpdateOrder
	states  map[string]link.UpdateState
	reports map[string][]link.UpdateReport
	files   map[string][]byte
	failing error
}

func (e *engine) Order(_ context.Context, id string) (link.UpdateOrder, link.Update, bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	o, found := e.orders[id]
	state := e.states[id]
	if state == "" {
		state = link.UpdatePending
	}
	return o, link.Update{DeviceID: id, Release: o.Release, Order: o.Order, State: state}, found, nil
}

func (e *engine) Report(_ context.Context, id string, r link.UpdateReport) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failing != nil {
		return e.failing
	}
	e.reports[id] = append(e.reports[id], r)
	return nil
}

type file struct{ *bytes.Reader }

func (file) Close() error { return nil }

func (e *engine) Artifact(_ context.Context, digest string) (io.ReadSeekCloser, int64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	content, found := e.files[digest]
	if !found {
		return nil, 0, problem.New(problem.NotFound, "there is no such file")
	}
	return file{bytes.NewReader(content)}, int64(len(content)), nil
}

// order orders a device a software of one file.
func (e *engine) order(id string, number int64, version string, content []byte, metadata map[string]string) link.UpdateOrder {
	long, short, shorter := sha256.Sum256(content), sha1.Sum(content), md5.Sum(content)
	o := link.UpdateOrder{Order: number, Release: "v" + version, Digest: "d" + version, Environment: "test", Software: []link.Software{{
		Name: "firmware", Version: version, Metadata: metadata,
		Artifacts: []link.Artifact{{File: "app " + version + ".swu", Size: int64(len(content)),
			SHA256: hex.EncodeToString(long[:]), SHA1: hex.EncodeToString(short[:]), MD5: hex.EncodeToString(shorter[:])}},
	}}}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.orders[id], e.files[hex.EncodeToString(long[:])] = o, content
	return o
}

func (e *engine) withdraw(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.orders, id)
}

// last is what a device reported last.
func (e *engine) last(id string) link.UpdateReport {
	e.mu.Lock()
	defer e.mu.Unlock()
	if all := e.reports[id]; len(all) > 0 {
		return all[len(all)-1]
	}
	return link.UpdateReport{}
}

// rig is the edge of a stamp, with its devices in a database.
type rig struct {
	t      testing.TB
	engine *engine
	hub    *hub.Hub
	edge   *ddi.Edge
	server *httptest.Server
	now    time.Time
	mu     sync.Mutex
}

func newRig(t testing.TB) *rig {
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
	twins := twin.NewStore(db)
	r := &rig{t: t, now: time.Now(), engine: &engine{
		orders: map[string]link.UpdateOrder{}, states: map[string]link.UpdateState{}, reports: map[string][]link.UpdateReport{}, files: map[string][]byte{},
	}}
	quiet := slog.New(slog.DiscardHandler)
	limits := hub.DefaultLimits
	limits.RequestRate, limits.RequestBurst = 1000, 1000
	r.hub = hub.New(hub.Parts{
		Stamp: "test-1", Hosts: func() []string { return []string{"hub"} }, Devices: device.NewDevices(db, twins), Twins: twins,
		Queues: command.NewQueues(db), Limits: limits, Logger: quiet, Now: r.clock,
	})
	r.edge = ddi.New(ddi.Parts{Hub: r.hub, Engine: r.engine, DB: db, Settings: ddi.Settings{}, Logger: quiet, Now: r.clock})
	r.server = httptest.NewServer(r.edge)
	t.Cleanup(r.server.Close)
	return r
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) at(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = now
}

func keyOf(id string) []byte { return []byte("key of " + id + strings.Repeat(".", 32)) }

// put adds a device of a tenant.
func (r *rig) put(id, tenant string) {
	r.t.Helper()
	_, err := r.hub.Devices.Put(r.t.Context(), link.PutIdentity{
		DeviceID: id, Epoch: 1, Auth: link.Auth{Type: link.AuthSAS, PrimaryKey: keyOf(id)}, Enrollment: "e", Tenant: tenant,
	}, r.now)
	if err != nil {
		r.t.Fatal(err)
	}
}

// reply is what came back.
type reply struct {
	status int
	header http.Header
	body   string
}

// as makes a request with the token of a device.
func (r *rig) as(id, method, address, body string, header ...string) reply {
	r.t.Helper()
	if !strings.HasPrefix(address, "http") {
		address = r.server.URL + address
	}
	req, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if id != "" {
		req.Header.Set("Authorization", "TargetToken "+device.UpdateToken(keyOf(id), id))
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(text)}
}
