// Package hub is the device-facing heart of a stamp: who is connected, what
// they may say, and what waits for them. It knows no wire protocol; the edges
// translate.
package hub

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/slipway/slipway/internal/admission"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/command"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/telemetry"
	"github.com/slipway/slipway/internal/stamp/tenant"
	"github.com/slipway/slipway/internal/stamp/throttle"
	"github.com/slipway/slipway/internal/stamp/twin"
	"github.com/slipway/slipway/internal/trail"
)

// Limits bound what a hub takes on.
type Limits struct {
	ConnectRate  float64 // connections admitted per second
	ConnectBurst int
	// Takeovers is how often an identity may take over its own connection
	// within TakeoverWindow before it is told to come back later: two clients
	// with one identity would otherwise fight as fast as the network allows.
	Takeovers      int
	TakeoverWindow time.Duration
	Window         int // telemetry messages of one connection that may wait for the log
	// MessageRate is how many telemetry messages are taken each second; more
	// wait, and tenants take turns. 0 is no limit.
	MessageRate float64
	// RequestRate and RequestBurst bound the requests of devices that come
	// without a connection: of one device, and a thousandfold of all.
	RequestRate  float64
	RequestBurst int
	// Operations bound what back ends and devices may ask for, by kind.
	Operations throttle.Rates
}

// DefaultLimits suit one machine.
var DefaultLimits = Limits{ConnectRate: 1500, ConnectBurst: 1500, Takeovers: 5, TakeoverWindow: 10 * time.Second, Window: 256, RequestRate: 20, RequestBurst: 100, Operations: throttle.Default}

// Parts are what a hub is made of.
type Parts struct {
	Stamp   string
	Hosts   func() []string // the names this hub answers to
	Devices *device.Devices
	// Policies are the keys that may speak for any device.
	Policies device.Policies
	// Trusted are the authorities of devices that a back end made; see
	// device.Credentials. nil: there are none.
	Trusted func() []byte
	// Quotas are the tenants' shares of the stamp.
	Quotas *tenant.Quotas
	Twins  *twin.Store
	Queues *command.Queues
	Logs   *telemetry.Logs
	Limits Limits
	Logger *slog.Logger
	Now    func() time.Time
	// Others are the processes that serve the same stamp; nil where there is
	// but this one. Process is its name among them.
	Others  Others
	Process string
	// Changed is told the identity whose twin or registration has changed; it
	// must not wait. nil: nobody wants to know.
	Changed func(id string)
	// Turned is told the identity that has connected, or does so no more, once
	// that is written down; it must not wait. nil: nobody wants to know.
	Turned func(id string)
	// Account is given what devices did before it is written down; nil where
	// nobody counts it.
	Account func(ctx context.Context, all []device.Activity) error
	// Metrics is told what the hub does; nil where nobody counts.
	Metrics prometheus.Registerer
}

// stripes is how many locks the devices share. A device's lock is held while
// it connects, moves away or gets new desired properties, so that these do
// not overtake one another.
const stripes = 1024

// Hub holds the sessions of one stamp.
type Hub struct {
	Parts
	// Operations holds each kind of operation to its rate. What the installation
	// itself asks for is not held to any.
	Operations *throttle.Throttle

	locks     [stripes]sync.Mutex
	admission *admission.Gate
	ingest    *tenant.Turns // nil where messages are not limited
	meters    *meters
	refusals  *rate.Limiter // bounds refusal events, so that a herd cannot flood the log

	mu       sync.RWMutex
	sessions map[string]*Session
	modules  map[string]map[*Session]struct{} // by device, those of its modules
	arrival  chan struct{}                    // closed and replaced when a device starts to take methods
	settled  map[string]device.Activity       // of sessions that ended, for the next flush
	damp     map[string]takeovers
	fresh    map[string]time.Time     // identities made lately that were never connected
	pace     map[string]*rate.Limiter // of devices that come without a connection
	closing  bool
	apart    bool // the other processes may believe that this one is gone

	retiring                     atomic.Bool  // new work goes to the other processes
	invoking                     atomic.Int64 // methods that devices are to answer
	twinChanges                  atomic.Bool  // whether changes of twins are noted
	waiters                      atomic.Int64 // method callers waiting for a device
	accepted, refused, throttled atomic.Uint64
}

// takeovers counts how often an identity took over lately.
type takeovers struct {
	since time.Time
	n     int
}

// New returns a hub without sessions.
func New(p Parts) *Hub {
	var ingest *tenant.Turns
	if limit := p.Limits.MessageRate; limit > 0 {
		ingest = tenant.NewTurns(limit, p.Now)
	}
	if p.Trusted == nil {
		p.Trusted = func() []byte { return nil }
	}
	h := &Hub{
		Parts:      p,
		Operations: throttle.New(p.Limits.Operations),
		ingest:     ingest,
		admission:  admission.New(admission.Options{Rate: p.Limits.ConnectRate, Burst: p.Limits.ConnectBurst}),
		refusals:   rate.NewLimiter(50, 100),
		sessions:   map[string]*Session{},
		modules:    map[string]map[*Session]struct{}{},
		arrival:    make(chan struct{}),
		settled:    map[string]device.Activity{},
		damp:       map[string]takeovers{},
		fresh:      map[string]time.Time{},
		pace:       map[string]*rate.Limiter{},
	}
	h.meters = newMeters(p.Metrics, func() float64 { return float64(h.connections()) })
	p.Queues.Settled = func(outcome command.Outcome, n int64) {
		h.meters.commands.WithLabelValues(string(outcome)).Add(float64(n))
	}
	return h
}

func (h *Hub) changed(id string) {
	if h.Changed != nil {
		h.Changed(id)
	}
}

// lock holds a device and its modules still; the result lets them go.
func (h *Hub) lock(id string) func() {
	id, _ = link.SplitIdentity(id)
	hash := uint32(2166136261)
	for i := range len(id) {
		hash = (hash ^ uint32(id[i])) * 16777619
	}
	mu := &h.locks[hash%stripes]
	mu.Lock()
	return mu.Unlock
}

// Arrival is a connection that asks to be let in.
type Arrival struct {
	device.Credentials
	CleanSession bool
	ModelID      string
	Remote       string
	Protocol     string
}

// Connect lets a device in: authenticated, admitted, an older connection of
// the same identity cut. problem.Busy and problem.NotReady mean "come back
// later", anything else "not here".
func (h *Hub) Connect(ctx context.Context, a Arrival, downlink Downlink) (_ *Session, err error) {
	began := time.Now()
	ctx, work := trail.Seldom(ctx, "connect")
	work.Say("plane", "stamp").Say("stamp", h.Stamp).Say("device", a.DeviceID)
	defer func() { h.meters.connect(a.Protocol, time.Since(began), work.Trace(), err); work.End(err) }()
	if in, after := h.admission.Arrive(a.DeviceID, h.isFresh(a.DeviceID), h.Now()); !in {
		h.throttled.Add(1)
		return nil, problem.New(problem.Busy, "the stamp admits %g connections a second; come back in %s", h.Limits.ConnectRate, after.Round(time.Second)).After(after)
	}
	if err := h.Ready(); err != nil {
		return nil, err
	}
	s, previous, err := h.admit(ctx, a, downlink)
	if err != nil {
		h.noteRefusal(ctx, a, err)
		return nil, err
	}
	if previous != nil {
		previous.cut(takenOver)
	}
	if err := h.claim(ctx, s); err != nil {
		s.End("another process has the device")
		return nil, err
	}
	if a.CleanSession && s.subscriptions.Load() != 0 {
		if err := h.Devices.SetSubscriptions(ctx, s.DeviceID, s.origin.Generation, 0); err != nil {
			s.End("the session could not be reset")
			return nil, err
		}
		s.subscriptions.Store(0)
	}
	h.Logs.Note(telemetry.Event{DeviceID: s.DeviceID, Kind: "connected", Details: map[string]string{"remote": a.Remote, "protocol": a.Protocol}})
	return s, nil
}

// admit authenticates and registers in one step under the device's lock: a
// removal either comes first, and the identity is not found, or finds the
// session to cut.
func (h *Hub) admit(ctx context.Context, a Arrival, downlink Downlink) (s, previous *Session, err error) {
	defer h.lock(a.DeviceID)()
	d, err := h.Devices.Get(ctx, a.DeviceID)
	if err != nil {
		return nil, nil, err
	}
	now := h.Now()
	a.Hosts, a.Trusted = h.Hosts(), h.Trusted()
	proof, err := d.Authenticate(a.Credentials, h.Policies, now)
	if err != nil {
		return nil, nil, err
	}
	s = h.newSession(d, a, proof, downlink, now)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing || h.apart {
		return nil, nil, problem.New(problem.NotReady, "this process of the stamp serves nobody just now; try again later")
	}
	previous = h.sessions[d.ID]
	if previous != nil && h.fighting(d.ID, now) {
		h.throttled.Add(1)
		return nil, nil, problem.New(problem.Busy, "device %s takes over its own connection again and again; do two clients share its identity?", d.ID).After(h.Limits.TakeoverWindow)
	}
	if h.Others != nil {
		s.claim = newClaim()
	}
	h.sessions[d.ID] = s
	delete(h.fresh, d.ID)
	h.kin(s, true)
	s.watchExpiry(proof.Expires, now)
	return s, previous, nil
}

// kin notes that a module's session belongs to its device, or does no more. The
// caller holds mu.
func (h *Hub) kin(s *Session, present bool) {
	owner, module := link.SplitIdentity(s.DeviceID)
	switch {
	case module == "":
	case !present:
		delete(h.modules[owner], s)
		if len(h.modules[owner]) == 0 {
			delete(h.modules, owner)
		}
	default:
		if h.modules[owner] == nil {
			h.modules[owner] = map[*Session]struct{}{}
		}
		h.modules[owner][s] = struct{}{}
	}
}

// fighting reports whether an identity has taken over too often of late.
func (h *Hub) fighting(id string, now time.Time) bool {
	t := h.damp[id]
	if now.Sub(t.since) > h.Limits.TakeoverWindow {
		t = takeovers{since: now}
	}
	t.n++
	h.damp[id] = t
	return t.n > h.Limits.Takeovers
}

func (h *Hub) noteRefusal(ctx context.Context, a Arrival, err error) {
	if problem.Is(err, problem.Busy) || problem.Is(err, problem.NotReady) {
		return
	}
	h.refused.Add(1)
	if device.CheckID(a.DeviceID) != nil || !h.refusals.Allow() {
		return
	}
	details := map[string]string{"reason": problem.Of(err).Message, "remote": a.Remote}
	if to, err := h.Devices.Tombstone(ctx, a.DeviceID); err == nil && to != "" {
		details["movedTo"] = to
	}
	h.Logs.Note(telemetry.Event{DeviceID: a.DeviceID, Kind: "refused", Details: details})
}

// session returns the live session of a device, nil when there is none.
func (h *Hub) session(id string) *Session {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.sessions[id]
}

// PutIdentity creates a device or renews its credentials. New credentials do
// not cut a connection made with the old ones; a revocation does.
func (h *Hub) PutIdentity(ctx context.Context, req link.PutIdentity) (link.IdentityResult, error) {
	created, revoked, err := h.putIdentity(ctx, req)
	if err == nil && revoked {
		err = h.cutEverywhere(ctx, req.DeviceID, "a certificate was revoked") // whoever has another comes back with it
	}
	if err == nil {
		h.changed(req.DeviceID)
	}
	if err == nil && created {
		h.noteFresh(req.DeviceID)
		h.Logs.Note(telemetry.Event{DeviceID: req.DeviceID, Kind: "provisioned", Details: map[string]string{"enrollment": req.Enrollment}})
	}
	return link.IdentityResult{Created: created}, err
}

func (h *Hub) putIdentity(ctx context.Context, req link.PutIdentity) (created, revoked bool, err error) {
	defer h.lock(req.DeviceID)()
	before, err := h.Devices.Get(ctx, req.DeviceID)
	if err != nil && !problem.Is(err, problem.NotFound) {
		return false, false, err
	}
	created, err = h.Devices.Put(ctx, req, h.Now())
	return created, len(req.Auth.Revoked) > len(before.Auth.Revoked), err
}

// RemoveIdentity takes a device off the stamp. The connection is cut before
// the identity goes, so that nothing it still says counts; one to another
// process of the stamp ends before the receipt is given.
func (h *Hub) RemoveIdentity(ctx context.Context, req link.RemoveIdentity) (link.RemovedIdentity, error) {
	receipt, err := h.removeHere(ctx, req)
	if err == nil {
		err = h.cutElsewhere(ctx, req.DeviceID, "removed: "+req.Reason)
	}
	return receipt, err
}

func (h *Hub) removeHere(ctx context.Context, req link.RemoveIdentity) (link.RemovedIdentity, error) {
	defer h.lock(req.DeviceID)()
	live := h.session(req.DeviceID)
	if live == nil || live.epoch <= req.Epoch {
		h.cutFamily(req.DeviceID, "removed: "+req.Reason)
	}
	receipt, err := h.Devices.Remove(ctx, req, live != nil, h.Now())
	if err == nil && receipt.Existed {
		h.Logs.Note(telemetry.Event{DeviceID: req.DeviceID, Kind: "removed", Details: map[string]string{"reason": req.Reason, "to": req.To}})
	}
	return receipt, err
}

// Overlay brings what the database last knew of a device up to the moment.
func (h *Hub) Overlay(d *link.Device) {
	d.Stamp = h.Stamp
	s := h.session(d.DeviceID)
	if s == nil {
		d.Connected = d.Connected && h.Others != nil
		return
	}
	d.Connected = true
	d.Messages += s.unflushed()
	since, last := s.since, time.UnixMicro(s.last.Load()).UTC()
	d.ConnectedAt, d.LastActivity = &since, &last
}

// connections is how many there are, of devices that count.
func (h *Hub) connections() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.counted()
}

// counted is connections for a caller that holds mu.
func (h *Hub) counted() int {
	if h.sessions[link.Probe(h.Stamp)] != nil {
		return len(h.sessions) - 1
	}
	return len(h.sessions)
}

// Counts are what the hub counts.
type Counts struct {
	Connected                    int64
	Accepted, Refused, Throttled uint64
	Admission                    admission.Counts
}

// Counts returns the counters since start.
func (h *Hub) Counts() Counts {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return Counts{int64(h.counted()), h.accepted.Load(), h.refused.Load(), h.throttled.Load(), h.admission.Counts()}
}

// CutAll drops every connection, as a network fault would, and returns how many.
func (h *Hub) CutAll(reason string) int { return h.cutSome(math.MaxInt, reason) }

func (h *Hub) cutSome(most int, reason string) int {
	h.mu.RLock()
	all := make([]*Session, 0, min(most, len(h.sessions)))
	for _, s := range h.sessions {
		if len(all) == most {
			break
		}
		all = append(all, s)
	}
	h.mu.RUnlock()
	for _, s := range all {
		s.cut(reason)
	}
	return len(all)
}

const (
	flushConnections = time.Second     // how long the database may be behind on who is connected
	flushActivity    = 5 * time.Second // and on the rest
	flushAtOnce      = 500
	sweepEvery       = time.Minute
)

// Run writes down what devices do and drops what expired, until ctx ends; then
// it lets nobody in, cuts everyone and writes down the rest.
func (h *Hub) Run(ctx context.Context) error {
	flush, sweep := time.NewTicker(flushConnections), time.NewTicker(sweepEvery)
	defer flush.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return h.shutDown()
		case <-flush.C:
			if err := h.flush(ctx, false); err != nil {
				h.Logger.Error("activity could not be written", "error", err)
			}
		case <-sweep.C:
			h.sweep(ctx)
		}
	}
}

func (h *Hub) sweep(ctx context.Context) {
	now := h.Now()
	if err := h.Queues.Expire(ctx, now); err != nil {
		h.Logger.Error("expired messages could not be dropped", "error", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, t := range h.damp {
		if now.Sub(t.since) > h.Limits.TakeoverWindow {
			delete(h.damp, id)
		}
	}
	for id, at := range h.fresh {
		if now.Sub(at) > freshFor {
			delete(h.fresh, id)
		}
	}
	for id, pace := range h.pace {
		if pace.TokensAt(now) >= float64(h.Limits.RequestBurst) {
			delete(h.pace, id)
		}
	}
}

func (h *Hub) shutDown() error {
	h.mu.Lock()
	h.closing = true
	h.mu.Unlock()
	h.CutAll("the stamp is stopping")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := h.flush(ctx, true)
	if problem.Is(err, problem.NotReady) {
		h.Logger.Warn("the last activity was not written", "error", err)
		return nil
	}
	return err
}

// flush writes activities down, those of ended and new sessions at once, the
// others when they are due.
func (h *Hub) flush(ctx context.Context, everything bool) error {
	now := h.Now()
	h.mu.Lock()
	settled := h.settled
	h.settled = map[string]device.Activity{}
	due := make([]device.Activity, 0, len(settled))
	for id, s := range h.sessions {
		if a, ok := s.activity(now, everything); ok {
			a.Messages += settled[id].Messages
			a.Present += settled[id].Present
			delete(settled, id)
			due = append(due, a)
		}
	}
	h.mu.Unlock()
	for _, a := range settled {
		due = append(due, a)
	}
	for len(due) > 0 {
		chunk := due[:min(flushAtOnce, len(due))]
		if err := h.flushChunk(ctx, chunk); err != nil {
			return err
		}
		due = due[len(chunk):]
	}
	return nil
}

// flushChunk writes activities down.
func (h *Hub) flushChunk(ctx context.Context, chunk []device.Activity) error {
	if h.Account != nil {
		if err := h.Account(ctx, chunk); err != nil {
			return err
		}
	}
	if err := h.Devices.Flush(ctx, h.Process, chunk); err != nil {
		return err
	}
	for _, a := range chunk {
		if !a.Passing && h.Turned != nil {
			h.Turned(a.DeviceID)
		}
	}
	return nil
}
