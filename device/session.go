package device

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/device/retry"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/propertybag"
)

var userAgent = "slipway-go/1 (" + runtime.GOOS + "; " + runtime.GOARCH + ")"

const (
	hubVersion = "2021-04-12"
	window     = 32 // telemetry messages sent and not acknowledged
	maxMethods = 8  // direct methods run at once
)

func afterOf(value string) time.Duration { return retry.After(value, time.Now()) }
func transient(status int) bool          { return retry.Transient(status) }

// session is one connection to the hub.
type session struct {
	client   *Client
	conn     *mqtt.ClientConn
	deviceID string
	renew    time.Time // when the token is nearly over; zero: never
	slots    chan struct{}

	mu       sync.Mutex
	nextID   uint16
	unacked  []sent // telemetry in the order in which it was sent
	nextRID  uint64
	requests map[string]chan reply
	acked    chan struct{} // a place in the window came free
}

// sent is a message with the packet id it bears.
type sent struct {
	id uint16
	*outgoing
}

// reply is the hub's answer to a twin request.
type reply struct {
	status  int
	version int64
	body    []byte
}

// connect opens the hub session and asks for all that devices can listen to.
func (c *Client) connect(ctx context.Context, a Assignment) (*session, error) {
	username := a.Hub + "/" + a.DeviceID + "/?api-version=" + hubVersion + "&DeviceClientType=" + url.PathEscape(userAgent)
	if c.config.ModelID != "" {
		username += "&model-id=" + url.QueryEscape(c.config.ModelID)
	}
	conn, connack, err := c.open(ctx, a.Hub, &mqtt.Connect{
		ClientID: a.DeviceID, Username: username, KeepAlive: uint16(c.config.KeepAlive / time.Second),
		Password: c.token(a.Hub+"/devices/"+a.DeviceID, "", c.config.TokenLife),
	})
	if err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	if connack.Code != mqtt.Accepted {
		return nil, errors.Join(&refusal{byHub: true, final: connack.Code != mqtt.ServerUnavailable, message: connack.Code.String()}, conn.Close())
	}
	s := &session{
		client: c, conn: conn, deviceID: a.DeviceID, slots: make(chan struct{}, maxMethods),
		requests: map[string]chan reply{}, acked: make(chan struct{}, 1),
	}
	if c.config.Certificate == nil {
		s.renew = time.Now().Add(c.config.TokenLife * 4 / 5)
	}
	return s, s.subscribe()
}

func (s *session) subscribe() error {
	return s.conn.Write(&mqtt.Subscribe{PacketID: s.packetID(), Filters: []mqtt.Filter{
		{Topic: "$iothub/twin/res/#"}, {Topic: "$iothub/twin/PATCH/properties/desired/#", QoS: 1},
		{Topic: "$iothub/methods/POST/#"}, {Topic: "devices/" + s.deviceID + "/messages/devicebound/#", QoS: 1},
	}})
}

func (s *session) packetID() uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.packetIDLocked()
}

func (s *session) packetIDLocked() uint16 {
	if s.nextID++; s.nextID == 0 {
		s.nextID = 1
	}
	return s.nextID
}

func (s *session) drop() {
	if err := s.conn.Close(); err != nil {
		s.client.logger.Debug("connection closed", "error", err)
	}
}

// run reads, sends and pings until the connection is gone, and says why.
func (s *session) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	for _, part := range []func(context.Context) error{s.read, s.sendQueued, s.ping} {
		parts.Go(func() { cancel(part(ctx)) })
	}
	<-ctx.Done()
	if cause := context.Cause(ctx); cause == errRenew || errors.Is(cause, context.Canceled) {
		if err := s.conn.Write(&mqtt.Disconnect{}); err != nil {
			s.client.logger.Debug("farewell not delivered", "error", err)
		}
	}
	s.drop()
	parts.Wait()
	s.settle()
	return context.Cause(ctx)
}

// settle gives back what was not acknowledged.
func (s *session) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	back := make([]*outgoing, len(s.unacked))
	for i, m := range s.unacked {
		back[i] = m.outgoing
	}
	s.client.queue.giveBack(back)
	for rid, waiting := range s.requests {
		close(waiting)
		delete(s.requests, rid)
	}
}

// ping keeps the connection alive and ends it in time for a new token.
func (s *session) ping(ctx context.Context) error {
	tick := time.NewTicker(s.client.config.KeepAlive / 2)
	defer tick.Stop()
	var renewal <-chan time.Time
	if !s.renew.IsZero() {
		timer := time.NewTimer(time.Until(s.renew))
		defer timer.Stop()
		renewal = timer.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-renewal:
			return errRenew
		case <-tick.C:
			if err := s.conn.Write(&mqtt.Pingreq{}); err != nil {
				return err
			}
		}
	}
}

// sendQueued sends telemetry in order, a window ahead of its acknowledgements.
func (s *session) sendQueued(ctx context.Context) error {
	for {
		s.mu.Lock()
		room := window - len(s.unacked)
		s.mu.Unlock()
		batch := s.client.queue.take(room)
		for i, o := range batch {
			if err := s.publish(o); err != nil {
				s.client.queue.giveBack(batch[i+1:])
				return err
			}
		}
		if len(batch) > 0 {
			continue
		}
		arrived := s.client.queue.arrived
		if room == 0 {
			arrived = nil
		}
		select {
		case <-arrived:
		case <-s.acked:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *session) publish(o *outgoing) error {
	s.mu.Lock()
	id := s.packetIDLocked()
	s.unacked = append(s.unacked, sent{id, o})
	s.mu.Unlock()
	return s.conn.Write(&mqtt.Publish{Topic: "devices/" + s.deviceID + "/messages/events/" + bagOf(o.Message), Payload: o.Body, QoS: 1, PacketID: id})
}

func bagOf(m Message) string {
	var all []propertybag.Property
	for _, p := range []propertybag.Property{{Key: "$.mid", Value: m.ID}, {Key: "$.cid", Value: m.CorrelationID}, {Key: "$.ct", Value: m.ContentType}, {Key: "$.ce", Value: m.ContentEncoding}} {
		if p.Value != "" {
			all = append(all, p)
		}
	}
	return propertybag.Encode(append(all, propertybag.FromMap(m.Properties)...))
}

func (s *session) acknowledged(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, m := range s.unacked {
		if m.id == id {
			s.unacked = append(s.unacked[:i:i], s.unacked[i+1:]...)
			m.finish(nil)
			select {
			case s.acked <- struct{}{}:
			default:
			}
			return
		}
	}
}

// request asks about the twin and waits for the answer.
func (s *session) request(ctx context.Context, topic string, body []byte) (version int64, answer []byte, err error) {
	waiting := make(chan reply, 1)
	s.mu.Lock()
	s.nextRID++
	rid := strconv.FormatUint(s.nextRID, 10)
	s.requests[rid] = waiting
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.requests, rid)
		s.mu.Unlock()
	}()
	if err := s.conn.Write(&mqtt.Publish{Topic: topic + rid, Payload: body}); err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	select {
	case r, ok := <-waiting:
		if !ok {
			return 0, nil, errors.New("the connection was lost before the answer")
		}
		if r.status >= 300 {
			return 0, nil, fmt.Errorf("the hub answered %d: %s", r.status, r.body)
		}
		return r.version, r.body, nil
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
}

// read works off what the hub sends.
func (s *session) read(ctx context.Context) error {
	for {
		// Every keep-alive has a PINGRESP in it, so longer silence is a dead link.
		if err := s.conn.SetReadDeadline(time.Now().Add(2 * s.client.config.KeepAlive)); err != nil {
			return err
		}
		packet, err := s.conn.Next()
		if err != nil {
			return err
		}
		switch p := packet.(type) {
		case *mqtt.Puback:
			s.acknowledged(p.PacketID)
		case *mqtt.Publish:
			err = s.received(ctx, p)
		}
		if err != nil {
			return err
		}
	}
}

func (s *session) received(ctx context.Context, p *mqtt.Publish) error {
	payload := append([]byte(nil), p.Payload...)
	path, query, _ := strings.Cut(p.Topic, "?")
	values := map[string]string{}
	for field := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(field, "=")
		values[key] = value
	}
	switch {
	case strings.HasPrefix(path, "$iothub/twin/res/"):
		s.answered(path, values, payload)
	case strings.HasPrefix(path, "$iothub/twin/PATCH/properties/desired/"):
		if version, err := strconv.ParseInt(values["$version"], 10, 64); err == nil && s.client.onDesired != nil {
			s.client.onDesired(version, payload)
		}
	case strings.HasPrefix(path, "$iothub/methods/POST/"):
		name := strings.TrimSuffix(strings.TrimPrefix(path, "$iothub/methods/POST/"), "/")
		s.runMethod(ctx, name, values["$rid"], payload)
	default:
		s.receivedMessage(p.Topic, payload)
	}
	if p.QoS == 0 {
		return nil
	}
	return s.conn.Write(&mqtt.Puback{PacketID: p.PacketID})
}

func (s *session) answered(path string, values map[string]string, payload []byte) {
	status, err := strconv.Atoi(strings.Trim(strings.TrimPrefix(path, "$iothub/twin/res/"), "/"))
	if err != nil {
		return
	}
	version, err := strconv.ParseInt(values["$version"], 10, 64)
	if err != nil {
		version = 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if waiting, ok := s.requests[values["$rid"]]; ok {
		delete(s.requests, values["$rid"])
		waiting <- reply{status, version, payload}
	}
}

// runMethod runs a direct method beside the reading; when too many run it
// says so rather than wait.
func (s *session) runMethod(ctx context.Context, name, rid string, payload []byte) {
	handler := s.client.methods[name]
	if handler == nil {
		handler = s.client.methods["*"]
	}
	answer := func(status int, body []byte) {
		err := s.conn.Write(&mqtt.Publish{Topic: "$iothub/methods/res/" + strconv.Itoa(status) + "/?$rid=" + rid, Payload: body})
		if err != nil {
			s.client.logger.Debug("method answer not sent", "method", name, "error", err)
		}
	}
	if handler == nil {
		answer(404, []byte(`{"message":"this device has no such method"}`))
		return
	}
	select {
	case s.slots <- struct{}{}:
		go func() {
			defer func() { <-s.slots }()
			answer(handler(ctx, payload))
		}()
	default:
		answer(429, []byte(`{"message":"this device runs too many methods already"}`))
	}
}

func (s *session) receivedMessage(topic string, payload []byte) {
	_, bag, ok := strings.Cut(topic, "/messages/devicebound/")
	if !ok || s.client.onMessage == nil {
		return
	}
	properties, err := propertybag.Parse(bag)
	if err != nil {
		s.client.logger.Warn("message with a malformed property bag", "error", err)
		return
	}
	system, application := propertybag.Split(properties)
	s.client.onMessage(Message{
		ID: system["messageId"], CorrelationID: system["correlationId"], ContentType: system["contentType"], ContentEncoding: system["contentEncoding"],
		Properties: application, Body: payload,
	})
}
