// Package dpsmqtt is the provisioning protocol's MQTT edge.
package dpsmqtt

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/attestation"
	"github.com/slipway/slipway/internal/provisioning/dpswire"
	"github.com/slipway/slipway/internal/provisioning/enrollment"
	"github.com/slipway/slipway/internal/provisioning/registration"
)

const (
	resultFilter = "$dps/registrations/res/#"
	registerPath = "$dps/registrations/PUT/iotdps-register/"
	pollPath     = "$dps/registrations/GET/iotdps-get-operationstatus/"
	resultPath   = "$dps/registrations/res/"
	maxUsername  = 1024
	maxRID       = 1024
	// lifetime bounds a conversation; a registration takes seconds.
	lifetime = 10 * time.Minute
)

// Edge serves devices that register.
type Edge struct {
	scope       string
	enrollments *enrollment.Enrollments
	service     *registration.Service
	logger      *slog.Logger
	now         func() time.Time
}

// New returns the edge of an id scope.
func New(scope string, e *enrollment.Enrollments, s *registration.Service, logger *slog.Logger, now func() time.Time) *Edge {
	return &Edge{scope, e, s, logger, now}
}

// ParseUser reads {scope}/registrations/{id}/api-version=…
func ParseUser(name string) (scope, id string, err error) {
	parts := strings.SplitN(name, "/", 4)
	if len(name) > maxUsername || len(parts) < 3 || !strings.EqualFold(parts[1], "registrations") || parts[0] == "" || parts[2] == "" {
		return "", "", problem.New(problem.Invalid, "a user name reads scope/registrations/id/api-version=…, in at most %d bytes", maxUsername)
	}
	return parts[0], parts[2], nil
}

// conversation is one device's connection.
type conversation struct {
	*Edge
	conn  *mqtt.Conn
	id    string
	claim attestation.Claim
	leaf  *x509.Certificate
	qos   byte
	heard bool // it listens for results
	next  uint16
}

// Serve speaks with one device until its connection ends. Sessions are always
// clean.
func (e *Edge) Serve(ctx context.Context, conn *mqtt.Conn, connect *mqtt.Connect) {
	c, err := e.arrive(ctx, conn, connect)
	if err != nil {
		e.logger.Debug("registration refused", "user", connect.Username, "reason", err)
		code := mqtt.NotAuthorized
		if !dpswire.IsFinal(err) {
			code = mqtt.ServerUnavailable
		}
		if err := conn.Refuse(code); err != nil {
			e.logger.Debug("refusal not delivered", "error", err)
		}
		return
	}
	if err := conn.Accept(false, connect.KeepAlive); err != nil {
		return
	}
	end := time.AfterFunc(lifetime, func() { c.close() })
	defer end.Stop()
	defer c.close()
	if err := c.read(ctx); err != nil {
		e.logger.Debug("registration conversation ended", "registration", c.id, "reason", err)
	}
}

func (c *conversation) close() {
	if err := c.conn.Close(); err != nil {
		c.logger.Debug("connection closed", "error", err)
	}
}

func (e *Edge) arrive(ctx context.Context, conn *mqtt.Conn, connect *mqtt.Connect) (*conversation, error) {
	scope, id, err := ParseUser(connect.Username)
	if err != nil {
		return nil, err
	}
	if !strings.EqualFold(scope, e.scope) || connect.ClientID != id {
		return nil, problem.New(problem.Unauthenticated, "the id scope is another, or the client id is not the registration id")
	}
	c := &conversation{Edge: e, conn: conn, id: id}
	c.claim = attestation.Claim{Scope: e.scope, RegistrationID: id, Token: string(connect.Password)}
	if state := conn.TLS(); state != nil && len(state.PeerCertificates) > 0 {
		c.claim.Chain, c.leaf = state.PeerCertificates, state.PeerCertificates[0]
	}
	_, err = e.enrollments.Attest(ctx, c.claim)
	return c, err
}

// read works off what the device sends; an error ends the connection.
func (c *conversation) read(ctx context.Context) error {
	for {
		packet, err := c.conn.Next()
		if err != nil {
			return err
		}
		switch p := packet.(type) {
		case *mqtt.Subscribe:
			err = c.subscribe(p)
		case *mqtt.Unsubscribe:
			err = c.conn.Send(&mqtt.Unsuback{PacketID: p.PacketID})
		case *mqtt.Publish:
			err = c.published(ctx, p)
		case *mqtt.Puback:
		case *mqtt.Pingreq:
			err = c.conn.Send(&mqtt.Pingresp{})
		case *mqtt.Disconnect:
			return nil
		default:
			err = problem.New(problem.Invalid, "a device does not send %T here", p)
		}
		if err != nil {
			return err
		}
	}
}

func (c *conversation) subscribe(p *mqtt.Subscribe) error {
	codes := make([]byte, len(p.Filters))
	for i, f := range p.Filters {
		if f.Topic != resultFilter {
			return problem.New(problem.Denied, "a device may subscribe to %s only, not to %q", resultFilter, f.Topic)
		}
		codes[i] = min(f.QoS, 1)
		c.qos, c.heard = codes[i], true
	}
	return c.conn.Send(&mqtt.Suback{PacketID: p.PacketID, Codes: codes})
}

func (c *conversation) published(ctx context.Context, p *mqtt.Publish) error {
	if p.QoS > 1 {
		return problem.New(problem.Invalid, "QoS 2 is not supported")
	}
	asked, err := parseTopic(p.Topic)
	if err != nil {
		return err
	}
	var op registration.Operation
	if asked.register {
		op, err = c.register(ctx, p.Payload)
	} else {
		op, err = c.service.Poll(ctx, c.id, asked.operation)
	}
	if p.QoS > 0 {
		if err := c.conn.Send(&mqtt.Puback{PacketID: p.PacketID}); err != nil {
			return err
		}
	}
	return c.answer(asked.rid, op, err)
}

// request is what a topic asks for.
type request struct {
	register  bool   // or else how an operation stands
	rid       string // echoed byte for byte
	operation string
}

// parseTopic reads $dps/registrations/PUT/iotdps-register/?$rid=… and
// $dps/registrations/GET/iotdps-get-operationstatus/?$rid=…&operationId=…
func parseTopic(topic string) (r request, err error) {
	path, query, _ := strings.Cut(topic, "?")
	if path != registerPath && path != pollPath {
		return r, problem.New(problem.Denied, "a device may not publish to %q here", topic)
	}
	r.register = path == registerPath
	for field := range strings.SplitSeq(query, "&") {
		if v, ok := strings.CutPrefix(field, "$rid="); ok {
			r.rid = v
		}
		if v, ok := strings.CutPrefix(field, "operationId="); ok {
			if r.operation, err = url.PathUnescape(v); err != nil {
				return r, problem.New(problem.Invalid, "the operation id is not percent-encoded correctly")
			}
		}
	}
	if len(r.rid) > maxRID {
		return r, problem.New(problem.TooLarge, "a request id has at most %d bytes", maxRID)
	}
	return r, nil
}

// register holds the claim against the enrolments again: one may have been
// disabled, or the token have ended, since the device connected.
func (c *conversation) register(ctx context.Context, body []byte) (op registration.Operation, err error) {
	request, err := dpswire.ReadRequest(body, c.id)
	if err != nil {
		return op, err
	}
	proof, err := c.enrollments.Attest(ctx, c.claim)
	if err != nil {
		return op, err
	}
	return c.service.Register(ctx, c.id, proof, request.Ask())
}

func (c *conversation) answer(rid string, op registration.Operation, failed error) error {
	if !c.heard {
		return nil
	}
	topic := "/?$rid=" + rid
	var code, retry int
	var body []byte
	if failed != nil {
		c.logFault(failed)
		code, retry, body = dpswire.Failure(failed, c.now())
	} else if code, body = dpswire.Answer(op, c.leaf); op.Status != registration.StatusAssigned {
		retry = dpswire.Seconds(op.RetryAfter)
	}
	if retry > 0 {
		topic += "&retry-after=" + strconv.Itoa(retry)
	}
	p := &mqtt.Publish{Topic: resultPath + strconv.Itoa(code) + topic, Payload: body, QoS: c.qos}
	if c.qos > 0 {
		if c.next++; c.next == 0 {
			c.next = 1
		}
		p.PacketID = c.next
	}
	return c.conn.Send(p)
}

func (c *conversation) logFault(err error) {
	if problem.Is(err, problem.Internal) {
		c.logger.Error("registration failed", "registration", c.id, "error", err)
	}
}
