package hub

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/stamp/command"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/telemetry"
	"github.com/slipway/slipway/internal/trail"
)

// Downlink is a connection as the hub sees it. Its methods do not block.
type Downlink interface {
	// Desired tells of new desired properties.
	Desired(version int64, patch []byte, qos byte)
	// Method asks the device to run a direct method.
	Method(rid, method string, payload []byte, qos byte)
	// Message hands over a cloud-to-device message.
	Message(m command.Message, qos byte)
	// Later asks the device to leave and to come back after some time. It is
	// false where the device would not understand.
	Later(after time.Duration) bool
	// Cut drops the connection without a word.
	Cut()
}

// Topic is one of the things a device can listen to.
type Topic uint8

// What a device can listen to.
const (
	TwinResponses Topic = iota
	DesiredChanges
	Methods
	Commands
	topics
)

// Session is one connected device.
type Session struct {
	DeviceID string // or a module's identity
	tenant   string

	hub        *Hub
	downlink   Downlink
	epoch      int64
	origin     telemetry.Origin
	persistent bool
	since      time.Time
	expiry     *time.Timer

	subscriptions atomic.Uint32 // two bits a topic: 0 not, 1 at QoS 0, 2 at QoS 1
	last          atomic.Int64  // µs of the last thing the device said
	messages      atomic.Int64  // accepted and not yet flushed
	window        chan struct{} // a place for each message waiting for the log
	ended         chan struct{} // closed when the session is over
	end           sync.Once

	mu          sync.Mutex
	methods     map[string]chan MethodResponse
	nextMethod  uint64
	pumping     bool
	pumpAgain   bool
	outstanding map[int64]bool // sequences of commands handed over and not acknowledged
	desired     int64          // version of the desired properties the device knows of
	early       map[int64]Change

	claim string // non-empty while other processes are asked to let go; guarded by hub.mu

	flushed   time.Time // guarded by hub.mu
	flushedAt int64
	accounted time.Time // until when its presence was counted
}

func (h *Hub) newSession(d device.Device, a Arrival, proof device.Proof, downlink Downlink, now time.Time) *Session {
	model := a.ModelID
	if model == "" {
		model = d.ModelID
	}
	owner, module := link.SplitIdentity(d.ID)
	s := &Session{
		DeviceID: d.ID, tenant: d.Tenant, hub: h, downlink: downlink, epoch: d.Epoch, persistent: !a.CleanSession, since: now, accounted: now,
		origin: telemetry.Origin{DeviceID: owner, ModuleID: module, Generation: d.GenerationID, AuthMethod: proof.Method, ModelID: model},
		window: make(chan struct{}, h.Limits.Window),
		ended:  make(chan struct{}),

		outstanding: map[int64]bool{},
		desired:     d.DesiredVersion,
	}
	s.subscriptions.Store(d.Subscriptions)
	s.last.Store(now.UnixMicro())
	return s
}

// watchExpiry cuts the connection when what it proved itself with runs out.
func (s *Session) watchExpiry(at, now time.Time) {
	if !at.IsZero() {
		s.expiry = time.AfterFunc(at.Sub(now), func() { s.cut("its token or certificate expired") })
	}
}

// cut ends the session and drops its connection.
func (s *Session) cut(reason string) {
	s.End(reason)
	s.downlink.Cut()
}

// End notes that the connection is gone. Only the first call counts.
func (s *Session) End(reason string) {
	s.end.Do(func() {
		close(s.ended)
		if s.expiry != nil {
			s.expiry.Stop()
		}
		s.hub.forget(s)
		if !link.IsProbe(s.DeviceID) {
			s.hub.meters.disconnects.WithLabelValues().Inc()
		}
		s.hub.Logs.Note(telemetry.Event{DeviceID: s.DeviceID, Kind: "disconnected", Details: map[string]string{"reason": reason}})
	})
}

// over reports whether the session has ended.
func (s *Session) over() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// forget takes a session off the hub, keeping what it has still to write down.
func (h *Hub) forget(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	current := h.sessions[s.DeviceID] == s
	if current {
		delete(h.sessions, s.DeviceID)
	}
	h.kin(s, false)
	a := h.settled[s.DeviceID]
	h.settled[s.DeviceID] = device.Activity{
		DeviceID: s.DeviceID, Generation: s.origin.Generation, ModelID: s.origin.ModelID,
		Connected: !current && h.sessions[s.DeviceID] != nil, ConnectedAt: h.Now(),
		Last: time.UnixMicro(s.last.Load()), Messages: a.Messages + s.messages.Swap(0),
		Present: a.Present + s.present(h.Now()),
	}
}

// present is for how long the session has gone on since it was last asked. The
// caller holds hub.mu.
func (s *Session) present(now time.Time) time.Duration {
	d := now.Sub(s.accounted)
	s.accounted = now
	return d
}

// activity returns what is due to be written down of a live session.
func (s *Session) activity(now time.Time, everything bool) (device.Activity, bool) {
	last := s.last.Load()
	fresh := s.flushed.IsZero()
	if !fresh && !everything && (last == s.flushedAt || now.Sub(s.flushed) < flushActivity) {
		return device.Activity{}, false
	}
	s.flushed, s.flushedAt = now, last
	return device.Activity{
		DeviceID: s.DeviceID, Generation: s.origin.Generation, ModelID: s.origin.ModelID,
		Connected: true, Passing: !fresh, ConnectedAt: s.since, Last: time.UnixMicro(last), Messages: s.messages.Swap(0),
		Present: s.present(now),
	}, true
}

func (s *Session) unflushed() int64 { return s.messages.Load() }

// Alive notes that the device said something at now.
func (s *Session) Alive(now time.Time) { s.last.Store(now.UnixMicro()) }

// Publish appends telemetry and calls done when the log holds it. It waits
// while too many messages of this connection are on their way, which slows a
// device down to what the log bears. body is not used after Publish returns.
func (s *Session) Publish(bag string, body []byte, done func(err error)) error {
	if err := telemetry.Check(bag, body); err != nil {
		s.hub.meters.message(0, 0, "", err)
		return err
	}
	if err := s.await(); err != nil {
		s.hub.meters.message(0, 0, "", err)
		return err
	}
	select {
	case s.window <- struct{}{}:
	case <-s.ended:
		return errOver
	}
	if !s.hub.live() {
		<-s.window
		return errOver
	}
	_, work := trail.Seldom(context.Background(), "telemetry")
	s.about(work)
	began, size := time.Now(), len(body)
	s.hub.Logs.Append(s.origin, bag, body, func(_ uint64, err error) {
		<-s.window
		s.hub.meters.message(size, time.Since(began), work.Trace(), err)
		work.End(err)
		if err == nil {
			s.messages.Add(1)
			s.hub.accepted.Add(1)
		}
		done(err)
	})
	return nil
}

// about says of a piece of work whose session it is for.
func (s *Session) about(work *trail.Work) {
	work.Say("plane", "stamp").Say("stamp", s.hub.Stamp).Say("device", s.DeviceID).Say("tenant", s.tenant)
}

// await waits until the tenant's quota and then the stamp have a place for a
// message. Nothing more is read from the device meanwhile.
func (s *Session) await() error {
	wait, err := s.hub.Quotas.Reserve(s.tenant, 1, s.hub.Now())
	if err != nil {
		return err
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.ended:
			return errOver
		}
	}
	if s.hub.ingest != nil && !s.hub.ingest.Take(s.tenant, 1, s.ended) {
		return errOver
	}
	return nil
}

// Subscribed returns whether the device listens to a topic, and the QoS.
func (s *Session) Subscribed(t Topic) (qos byte, ok bool) {
	bits := s.subscriptions.Load() >> (2 * t) & 3
	return byte(bits) - 1, bits != 0
}

// Subscription is a topic a device listens to, and at which QoS.
type Subscription struct {
	Topic Topic
	QoS   byte
}

// Subscribe notes what the device listens to, durably if its session is
// persistent.
func (s *Session) Subscribe(ctx context.Context, all ...Subscription) error {
	bits := s.subscriptions.Load()
	for _, one := range all {
		bits = withBits(bits, one.Topic, uint32(one.QoS)+1)
	}
	return s.setSubscriptions(ctx, bits)
}

// Unsubscribe is the reverse of Subscribe.
func (s *Session) Unsubscribe(ctx context.Context, all ...Topic) error {
	bits := s.subscriptions.Load()
	for _, t := range all {
		bits = withBits(bits, t, 0)
	}
	return s.setSubscriptions(ctx, bits)
}

func withBits(all uint32, t Topic, bits uint32) uint32 { return all&^(3<<(2*t)) | bits<<(2*t) }

func (s *Session) setSubscriptions(ctx context.Context, after uint32) error {
	if after != s.subscriptions.Load() && s.persistent {
		if err := s.hub.Devices.SetSubscriptions(ctx, s.DeviceID, s.origin.Generation, after); err != nil {
			return err
		}
	}
	s.subscriptions.Store(after)
	return nil
}

// Ready starts what a new subscription, or the start of the session, sets free.
func (s *Session) Ready() {
	if _, ok := s.Subscribed(Methods); ok {
		s.hub.arrived()
	}
	s.pump()
}

// newRID names a method call within the session.
func (s *Session) newRID() string {
	s.nextMethod++
	return strconv.FormatUint(s.nextMethod, 16)
}

// Resumed reports whether the connection continues a persistent session that
// listens to something.
func (s *Session) Resumed() bool { return s.persistent && s.subscriptions.Load() != 0 }
