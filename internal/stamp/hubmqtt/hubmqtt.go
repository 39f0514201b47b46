// Package hubmqtt is the hub protocol's MQTT edge: user names and topics to
// calls of the hub and back. It follows the public documentation of the hub's
// MQTT endpoint, and where that is silent what existing SDKs send.
package hubmqtt

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/command"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/hub"
)

// User is what the user name of a CONNECT says.
type User struct {
	Host     string
	DeviceID string
	ModuleID string
	ModelID  string
	// Patient clients read when to come back: see retryAfter.
	Patient bool
}

// identity is who the user says it is; clients use it as their client id too.
func (u User) identity() string {
	if u.ModuleID == "" {
		return u.DeviceID
	}
	return link.ModuleIdentity(u.DeviceID, u.ModuleID)
}

const maxUsername = 2048

// ParseUser reads {host}/{device}[/{module}]/?api-version=…&model-id=…; the
// question mark and the version may be missing. Ids are raw, not
// percent-encoded.
func ParseUser(name string) (User, error) {
	if len(name) > maxUsername {
		return User{}, problem.New(problem.Invalid, "a user name has at most %d bytes, not %d", maxUsername, len(name))
	}
	parts := strings.SplitN(name, "/", 4)
	if len(parts) < 2 || parts[0] == "" || parts[1] == "" {
		return User{}, problem.New(problem.Invalid, "a user name reads host/device-id/?api-version=…, not %q", name)
	}
	u, rest := User{Host: parts[0], DeviceID: parts[1]}, parts[2:]
	if len(rest) > 0 && !isQuery(rest[0]) {
		u.ModuleID, rest = rest[0], rest[1:]
	}
	if len(rest) > 0 && !isQuery(rest[0]) {
		return User{}, problem.New(problem.Invalid, "a user name reads host/device-id/module-id/?api-version=…, not %q", name)
	}
	for field := range strings.SplitSeq(strings.TrimPrefix(strings.Join(rest, "/"), "?"), "&") {
		// Not a URL's query: model ids come with a bare semicolon too.
		if model, ok := strings.CutPrefix(field, "model-id="); ok {
			text, err := url.PathUnescape(model)
			if err != nil || len(text) > maxModelID {
				return User{}, problem.New(problem.Invalid, "the model id %q is malformed or longer than %d bytes", model, maxModelID)
			}
			u.ModelID = text
		}
		u.Patient = u.Patient || field == "retry-after=1"
	}
	return u, nil
}

// isQuery tells the end of a user name from a module's id.
func isQuery(part string) bool {
	return part == "" || part[0] == '?' || strings.HasPrefix(part, "api-version=")
}

const maxModelID = 256

// retryAfter is where a client whose user name says retry-after=1 is told when to
// come back, in seconds: after a CONNACK that refuses it, or before the server
// ends the connection. MQTT 3.1.1 itself has no place for that.
func retryAfter(after time.Duration) *mqtt.Publish {
	return &mqtt.Publish{Topic: "$slipway/retry-after/" + strconv.FormatInt(int64(math.Ceil(after.Seconds())), 10)}
}

// Edge serves hub connections.
type Edge struct {
	hub    *hub.Hub
	logger *slog.Logger
}

// New returns the edge of a hub.
func New(h *hub.Hub, logger *slog.Logger) *Edge { return &Edge{h, logger} }

// Serve speaks with one device until its connection ends. connect is the
// packet the listener has read to find this hub; user is what its name says.
func (e *Edge) Serve(ctx context.Context, conn *mqtt.Conn, connect *mqtt.Connect, user User) {
	c := &connection{edge: e, conn: conn, topics: topicsOf(user), patient: user.Patient, unacknowledged: map[uint16]int64{}}
	session, err := e.arrive(ctx, c, connect, user)
	if err != nil {
		e.logger.Debug("connection refused", "device", user.DeviceID, "reason", err)
		if err := e.refuse(conn, user, err); err != nil {
			e.logger.Debug("refusal not delivered", "error", err)
		}
		return
	}
	c.session = session
	defer func() { session.End(c.reason) }()
	if err := conn.Accept(session.Resumed(), connect.KeepAlive); err != nil {
		c.reason = "gone before CONNACK"
		return
	}
	c.start()
	session.Ready()
	if c.reason = c.read(ctx); c.reason != disconnected {
		c.lastWill(connect.Will)
	}
	if err := conn.Close(); err != nil {
		e.logger.Debug("connection closed", "error", err)
	}
}

func (e *Edge) arrive(ctx context.Context, c *connection, connect *mqtt.Connect, user User) (*hub.Session, error) {
	if connect.ClientID != user.identity() {
		return nil, problem.New(problem.Invalid, "the client id %q is not the identity %s of the user name", connect.ClientID, user.identity())
	}
	if will := connect.Will; will != nil {
		if _, ok := c.telemetryTopic(will.Topic); !ok || will.QoS > 1 {
			return nil, problem.New(problem.Invalid, "a will goes to the device's own telemetry topic at QoS 0 or 1, not to %q at QoS %d", will.Topic, will.QoS)
		}
	}
	arrival := hub.Arrival{
		Credentials:  device.Credentials{DeviceID: user.identity(), Token: string(connect.Password)},
		CleanSession: connect.CleanSession, ModelID: user.ModelID,
		Remote: c.conn.RemoteAddr().String(), Protocol: "mqtt",
	}
	if state := c.conn.TLS(); state != nil {
		arrival.Chain = state.PeerCertificates
	}
	return e.hub.Connect(ctx, arrival, c)
}

// refuse tells a client why it is not let in, and a patient one when it may be.
func (e *Edge) refuse(conn *mqtt.Conn, user User, why error) error {
	code := refusal(why)
	if code != mqtt.ServerUnavailable || !user.Patient {
		return conn.Refuse(code)
	}
	return conn.Refuse(code, retryAfter(max(time.Second, problem.Of(why).RetryAfter)))
}

// refusal is the CONNACK code of a failure. SDKs come back after "server
// unavailable" and ask provisioning again after "not authorized".
func refusal(err error) mqtt.ConnackCode {
	switch problem.Of(err).Kind {
	case problem.Busy, problem.NotReady, problem.TimedOut, problem.Internal:
		return mqtt.ServerUnavailable
	}
	return mqtt.NotAuthorized
}

// connection is one device's connection; it is the hub's downlink.
type connection struct {
	edge    *Edge
	conn    *mqtt.Conn
	session *hub.Session
	topics  topics
	patient bool // it understands retryAfter
	reason  string

	mu             sync.Mutex
	started        bool            // CONNACK is on its way, packets may follow
	early          []*mqtt.Publish // what the hub sent before that
	nextID         uint16
	unacknowledged map[uint16]int64 // packet id to sequence of a command
}

// start lets packets out that had to wait for CONNACK.
func (c *connection) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started = true
	for _, p := range c.early {
		c.transmit(p)
	}
	c.early = nil
}

// endOf puts the end of a connection into words for the event log.
func endOf(err error) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "keep-alive ran out"
	case errors.Is(err, mqtt.ErrTooLarge):
		return "packet too large"
	case errors.Is(err, mqtt.ErrMalformed):
		return err.Error()
	case problem.Of(err).Kind != problem.Internal:
		return problem.Of(err).Message
	}
	return "connection lost"
}

// noCommand marks a packet id whose acknowledgement completes nothing.
const noCommand = -1

// maxUnacknowledged is how many packets may wait for the device's PUBACK
// before it counts as dead.
const maxUnacknowledged = 1000

// publish sends to the device; at QoS 1 its PUBACK completes the command.
func (c *connection) publish(p *mqtt.Publish, sequence int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.unacknowledged) >= maxUnacknowledged {
		c.Cut()
		return
	}
	if p.QoS > 0 {
		p.PacketID = c.packetID()
		c.unacknowledged[p.PacketID] = sequence
	}
	if !c.started {
		c.early = append(c.early, p)
		return
	}
	c.transmit(p)
}

// packetID returns an id no unacknowledged packet of ours bears. The caller
// holds mu.
func (c *connection) packetID() uint16 {
	for {
		c.nextID++
		if _, taken := c.unacknowledged[c.nextID]; c.nextID != 0 && !taken {
			return c.nextID
		}
	}
}

// transmit queues a packet. A failure ends the connection, and commands that
// were not acknowledged are sent again on the next one.
func (c *connection) transmit(p mqtt.Packet) {
	if err := c.conn.Send(p); err != nil {
		c.edge.logger.Debug("send failed", "remote", c.conn.RemoteAddr(), "error", err)
	}
}

// Desired tells of new desired properties.
func (c *connection) Desired(version int64, patch []byte, qos byte) {
	c.publish(&mqtt.Publish{Topic: "$iothub/twin/PATCH/properties/desired/?$version=" + strconv.FormatInt(version, 10), Payload: patch, QoS: qos}, noCommand)
}

// Later tells a patient device when to come back.
func (c *connection) Later(after time.Duration) bool {
	if c.patient {
		c.publish(retryAfter(after), noCommand)
	}
	return c.patient
}

// Method asks for a direct method.
func (c *connection) Method(rid, method string, payload []byte, qos byte) {
	c.publish(&mqtt.Publish{Topic: "$iothub/methods/POST/" + method + "/?$rid=" + rid, Payload: payload, QoS: qos}, noCommand)
}

// Message hands over a cloud-to-device message.
func (c *connection) Message(m command.Message, qos byte) {
	c.publish(&mqtt.Publish{
		Topic: c.topics.commands + m.Bag, Payload: m.Body,
		QoS: qos, Dup: qos > 0 && m.Deliveries > 0,
	}, m.Sequence)
}

// Cut drops the connection: MQTT 3.1.1 has no word for it.
func (c *connection) Cut() {
	if err := c.conn.Close(); err != nil {
		c.edge.logger.Debug("connection cut", "error", err)
	}
}
