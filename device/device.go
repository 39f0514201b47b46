// Package device is the Go SDK for devices of a Slipway installation, or of
// anything else that speaks the hub and provisioning protocols it speaks.
//
// A device knows its provisioning endpoint, an id scope and its own secret.
// Run registers it, connects it to the hub it is assigned to, and keeps it
// connected; when the hub says "not here any more" it asks provisioning again,
// so that a device moves from one environment to another without being
// touched. One policy (package retry) governs every attempt, so callers need
// no loops of their own.
package device

import (
	"context"
	"crypto/tls"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/slipway/slipway/device/retry"
	"github.com/slipway/slipway/internal/sastoken"
)

// DeriveKey is the key of a device of a symmetric-key enrolment group.
func DeriveKey(groupKey []byte, registrationID string) []byte {
	return sastoken.DeriveKey(groupKey, registrationID)
}

// Assignment is the hub a device belongs to.
type Assignment struct {
	Hub      string `json:"hub"` // host, or host:port
	DeviceID string `json:"deviceId"`
}

// MethodHandler runs a direct method. The payload is JSON, and so is the
// answer. It ends when ctx does: the connection is gone, and nobody waits.
type MethodHandler func(ctx context.Context, payload []byte) (status int, answer []byte)

// EventKind says what happened.
type EventKind string

// What a device tells of itself.
const (
	Provisioned  EventKind = "provisioned"  // Assignment is what provisioning answered
	Connected    EventKind = "connected"    // to Assignment's hub
	Disconnected EventKind = "disconnected" // Err says why
	Refused      EventKind = "refused"      // by the hub or by provisioning; Err is a *Refusal
	Waiting      EventKind = "waiting"      // Delay until the next attempt
	Dormant      EventKind = "dormant"      // a campaign gave up; Delay until the next: time for a fallback
	Unsaved      EventKind = "unsaved"      // the store failed, Err says how; the device goes on without it
)

// Event is something that happened to the connection.
type Event struct {
	Kind       EventKind
	Assignment Assignment
	Delay      time.Duration
	Err        error
}

// Client is a device. Set handlers before Run. Handlers are called one after
// another, may call the client, and hold up later calls while they run;
// methods run beside them.
type Client struct {
	config   Config
	queue    *queue
	logger   *slog.Logger
	sessions tls.ClientSessionCache // resuming TLS spares hub and device most of a reconnect
	budget   *retry.Budget
	chance   *rand.Rand // made by Run
	inbox    *inbox
	slots    chan struct{}  // direct methods that may run at once
	running  sync.WaitGroup // direct methods
	https    func() *http.Client

	mu         sync.Mutex
	started    bool
	ended      chan struct{} // closed when Run is over
	session    *session      // nil while not connected
	assignment Assignment    // of the last session
	ready      chan struct{} // closed while connected

	methods   map[string]MethodHandler
	onDesired func(version int64, patch []byte)
	onMessage func(Message)
	onEvent   func(Event)
}

const maxMethods = 8 // direct methods run at once

// New returns a device that does nothing before Run.
func New(config Config) (*Client, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	c := &Client{
		config: config, queue: newQueue(config.Queue), logger: config.Logger.With("device", config.RegistrationID),
		sessions: tls.NewLRUClientSessionCache(2), budget: retry.NewBudget(time.Now()),
		inbox: newInbox(), slots: make(chan struct{}, maxMethods),
		ended: make(chan struct{}), ready: make(chan struct{}), methods: map[string]MethodHandler{},
	}
	c.https = sync.OnceValue(c.newHTTPS)
	return c, nil
}

// OnMethod handles a direct method by name; "*" handles those without a
// handler of their own.
func (c *Client) OnMethod(name string, handler MethodHandler) { c.methods[name] = handler }

// OnDesired is called with each change of desired properties: the patch as
// the back end sent it. What changes while the device is offline is not
// repeated, so read Twin when Connected.
func (c *Client) OnDesired(handler func(version int64, patch []byte)) { c.onDesired = handler }

// OnMessage is called with each cloud-to-device message, which is acknowledged
// when the handler returns; one that was cut off comes again.
func (c *Client) OnMessage(handler func(Message)) { c.onMessage = handler }

// OnEvent is called with what happens to the connection.
func (c *Client) OnEvent(handler func(Event)) { c.onEvent = handler }

// tell never waits: a handler that hangs must not keep the device from its hub.
func (c *Client) tell(e Event) {
	c.logger.Debug("event", "kind", e.Kind, "hub", e.Assignment.Hub, "delay", e.Delay, "error", e.Err)
	if c.onEvent == nil {
		return
	}
	if !c.inbox.put(func() { c.onEvent(e) }, maxCalls+maxEvents) {
		c.logger.Warn("an event was not told: the handlers are too slow", "kind", e.Kind)
	}
}

// Disconnect drops the present connection, as a network fault would.
func (c *Client) Disconnect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != nil {
		c.session.drop()
	}
}

// Send queues telemetry and waits until the hub has it for good. While offline
// the queue keeps it; when the queue is full the oldest message is dropped,
// and its Send fails with ErrDropped. When ctx ends first the message stays
// queued.
func (c *Client) Send(ctx context.Context, m Message) error {
	if err := m.check(); err != nil {
		return err
	}
	waiting := c.queue.add(m)
	select {
	case <-waiting.done:
		return waiting.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Enqueue is Send without the wait: its error is the message's fault.
func (c *Client) Enqueue(m Message) error {
	if err := m.check(); err != nil {
		return err
	}
	c.queue.add(m)
	return nil
}

// Queued returns how many messages wait for a connection.
func (c *Client) Queued() int { return c.queue.count().Queued }

// Counters returns what became of telemetry so far.
func (c *Client) Counters() Counters { return c.queue.count() }

// glance is how soon Periodic takes up a shorter period.
const glance = 10 * time.Second

// Periodic calls fn every period until ctx ends, shifted by a phase of the
// device's own, so that a fleet's work is spread. every is asked again at
// least every ten seconds; less than a millisecond counts as one.
func (c *Client) Periodic(ctx context.Context, every func() time.Duration, fn func(context.Context)) {
	for {
		wait := retry.Next(c.config.RegistrationID, max(every(), time.Millisecond), time.Now())
		if !sleep(ctx, min(wait, glance)) {
			return
		}
		if wait <= glance {
			fn(ctx)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
