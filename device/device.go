// Package device is the Go SDK for devices of a Slipway installation, or of
// anything else that speaks the hub and provisioning protocols it speaks.
//
// A device knows its provisioning endpoint, an id scope and its own secret.
// Run registers it, connects it to the hub it is assigned to, and keeps it
// connected; when the hub says "not here any more" it asks provisioning again,
// so that a device moves from one environment to another without being
// touched. One policy (package retry) governs every attempt.
package device

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/slipway/slipway/device/retry"
	"github.com/slipway/slipway/internal/sastoken"
)

// Config is what a device is built with.
type Config struct {
	Provisioning   string // host, or host:port
	IDScope        string
	RegistrationID string

	Key         []byte           // symmetric key, of the device itself; see DeriveKey
	Certificate *tls.Certificate // or an X.509 certificate with its key

	CA      *x509.CertPool // whom to trust; nil is the system's
	Port    int            // of hosts that bear none; default 8883
	ModelID string         // digital twin model, told to the hub
	Store   Store          // keeps the assignment and the retry state; default in memory
	Policy  retry.Policy   // default retry.Default
	Queue   int            // telemetry messages kept while offline, oldest dropped first; default 1000
	Logger  *slog.Logger   // default none

	// Dial opens connections; default net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// TokenLife is how long a token is valid; the connection is renewed after
	// four fifths of it. Default one hour.
	TokenLife time.Duration
	// KeepAlive is how long the connection may be silent; default one minute.
	KeepAlive time.Duration
}

// DeriveKey is the key of a device of a symmetric-key enrolment group.
func DeriveKey(groupKey []byte, registrationID string) []byte {
	return sastoken.DeriveKey(groupKey, registrationID)
}

// Message is a telemetry message, or a cloud-to-device one.
type Message struct {
	ID              string // made when empty: who receives can tell repetitions
	CorrelationID   string
	ContentType     string
	ContentEncoding string
	Properties      map[string]string
	Body            []byte
}

// Assignment is the hub a device belongs to.
type Assignment struct {
	Hub      string `json:"hub"` // host, or host:port
	DeviceID string `json:"deviceId"`
}

// MethodHandler runs a direct method. The payload is JSON, and so is the answer.
type MethodHandler func(ctx context.Context, payload []byte) (status int, answer []byte)

// EventKind says what happened.
type EventKind string

// What a device tells of itself.
const (
	Provisioned  EventKind = "provisioned"  // Assignment is new
	Connected    EventKind = "connected"    // to Assignment's hub
	Disconnected EventKind = "disconnected" // Err says why
	Refused      EventKind = "refused"      // by the hub or by provisioning; Err says why
	Waiting      EventKind = "waiting"      // Delay until the next attempt
	Dormant      EventKind = "dormant"      // a campaign gave up; Delay until the next: time for a fallback
)

// Event is something that happened to the connection.
type Event struct {
	Kind       EventKind
	Assignment Assignment
	Delay      time.Duration
	Err        error
}

// Client is a device. Set handlers before Run.
type Client struct {
	config Config
	queue  *queue
	logger *slog.Logger
	chance *rand.Rand // used by Run alone

	mu        sync.Mutex
	session   *session // nil while not connected
	ready     chan struct{}
	methods   map[string]MethodHandler
	onDesired func(version int64, patch []byte)
	onMessage func(Message)
	onEvent   func(Event)
}

// New returns a device that does nothing before Run.
func New(config Config) (*Client, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	return &Client{
		config: config, queue: newQueue(config.Queue), logger: config.Logger.With("device", config.RegistrationID),
		ready: make(chan struct{}), methods: map[string]MethodHandler{},
	}, nil
}

// OnMethod handles a direct method by name; "*" handles those without a
// handler of their own.
func (c *Client) OnMethod(name string, handler MethodHandler) { c.methods[name] = handler }

// OnDesired is called with each change of desired properties: the patch as
// the back end sent it.
func (c *Client) OnDesired(handler func(version int64, patch []byte)) { c.onDesired = handler }

// OnMessage is called with each cloud-to-device message.
func (c *Client) OnMessage(handler func(Message)) { c.onMessage = handler }

// OnEvent is called with what happens to the connection.
func (c *Client) OnEvent(handler func(Event)) { c.onEvent = handler }

func (c *Client) tell(e Event) {
	c.logger.Debug("event", "kind", e.Kind, "hub", e.Assignment.Hub, "delay", e.Delay, "error", e.Err)
	if c.onEvent != nil {
		c.onEvent(e)
	}
}

// Run keeps the device connected until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	defer c.queue.close()
	state, err := c.load()
	if err != nil {
		return err
	}
	c.chance = retry.Seed(c.config.RegistrationID, state.Boot)
	for ctx.Err() == nil {
		if !sleep(ctx, c.config.Policy.Wait(state.Retry, time.Now())) {
			break
		}
		state.Retry = c.config.Policy.Begin(state.Retry, time.Now())
		if err := c.attempt(ctx, &state); err != nil {
			return err
		}
	}
	return nil
}

// attempt makes one attempt and, when it connects, stays until the connection
// is gone. Its error is the store's: all others are the policy's to handle.
func (c *Client) attempt(ctx context.Context, state *persistent) error {
	now := time.Now
	if state.Assignment == (Assignment{}) {
		assignment, err := c.provision(ctx)
		if err != nil {
			return c.failed(ctx, state, err)
		}
		state.Assignment = assignment
		if err := c.save(*state); err != nil {
			return err
		}
		c.tell(Event{Kind: Provisioned, Assignment: assignment})
	}
	s, err := c.connect(ctx, state.Assignment)
	if err != nil {
		return c.failed(ctx, state, err)
	}
	state.Retry = c.config.Policy.Up(state.Retry, now())
	if err := c.save(*state); err != nil {
		return err
	}
	c.enter(s)
	c.tell(Event{Kind: Connected, Assignment: state.Assignment})
	err = s.run(ctx)
	c.leave()
	if ctx.Err() != nil {
		return nil
	}
	c.tell(Event{Kind: Disconnected, Assignment: state.Assignment, Err: err})
	if err == errRenew {
		state.Retry = retry.State{} // not a failure: connect again at once
		return nil
	}
	var delay time.Duration
	state.Retry, delay = c.config.Policy.Down(state.Retry, now(), c.chance)
	c.tell(Event{Kind: Waiting, Delay: delay})
	return c.save(*state)
}

// failed decides what a failed attempt leads to: a refusal by the hub means
// the device belongs elsewhere, which is asked once per campaign; other final
// answers end the campaign; the rest is tried again.
func (c *Client) failed(ctx context.Context, state *persistent, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	refusal := asRefusal(err)
	if refusal != nil {
		c.tell(Event{Kind: Refused, Assignment: state.Assignment, Err: err})
	}
	var delay time.Duration
	switch {
	case refusal != nil && refusal.byHub && refusal.final && !state.Retry.Moved:
		state.Assignment, state.Retry.Moved = Assignment{}, true
		state.Retry.NotBefore = time.Time{}
		return c.save(*state)
	case refusal != nil && refusal.final:
		state.Retry, delay = c.config.Policy.GiveUp(state.Retry, time.Now(), c.chance)
	default:
		var after time.Duration
		if refusal != nil {
			after = refusal.retryAfter
		}
		state.Retry, delay = c.config.Policy.Failed(state.Retry, time.Now(), after, c.chance)
	}
	kind := Waiting
	if state.Retry.Dormant {
		kind = Dormant
	}
	c.tell(Event{Kind: kind, Delay: delay, Err: err})
	return c.save(*state)
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

// enter makes s the session that calls use.
func (c *Client) enter(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = s
	close(c.ready)
}

func (c *Client) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = nil
	c.ready = make(chan struct{})
}

// connected waits for a session.
func (c *Client) connected(ctx context.Context) (*session, error) {
	for {
		c.mu.Lock()
		s, ready := c.session, c.ready
		c.mu.Unlock()
		if s != nil {
			return s, nil
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
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
// and its Send fails with ErrDropped.
func (c *Client) Send(ctx context.Context, m Message) error {
	waiting := c.queue.add(m)
	select {
	case <-waiting.done:
		return waiting.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Enqueue is Send without the wait.
func (c *Client) Enqueue(m Message) { c.queue.add(m) }

// Queued returns how many messages wait for the hub.
func (c *Client) Queued() int { return c.queue.len() }

// Twin returns {"desired":{…},"reported":{…}}.
func (c *Client) Twin(ctx context.Context) ([]byte, error) {
	s, err := c.connected(ctx)
	if err != nil {
		return nil, err
	}
	_, body, err := s.request(ctx, "$iothub/twin/GET/?$rid=", nil)
	return body, err
}

// Report merges a patch into the reported properties and returns their new
// version.
func (c *Client) Report(ctx context.Context, patch []byte) (version int64, err error) {
	s, err := c.connected(ctx)
	if err != nil {
		return 0, err
	}
	version, _, err = s.request(ctx, "$iothub/twin/PATCH/properties/reported/?$rid=", patch)
	return version, err
}

// Periodic calls fn every period until ctx ends, shifted by a phase of the
// device's own, so that a fleet's work is spread. every is asked each time.
func (c *Client) Periodic(ctx context.Context, every func() time.Duration, fn func(context.Context)) {
	wait := retry.Phase(c.config.RegistrationID, every())
	for sleep(ctx, wait) {
		fn(ctx)
		wait = every()
	}
}
