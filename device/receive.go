package device

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/device/retry"
	"github.com/slipway/slipway/internal/mqtt"
)

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
		case *mqtt.Suback:
			if slices.Contains(p.Codes, mqtt.SubackFailure) {
				s.client.logger.Warn("the hub refused a subscription", "codes", p.Codes)
			}
		case *mqtt.Publish:
			if seconds, away := strings.CutPrefix(p.Topic, retryAfterTopic); away {
				return sentAway{retry.After(seconds, time.Now())}
			}
			if !s.received(ctx, p) {
				return errSlow
			}
		}
	}
}

// received takes a publish to whom it is for, and reports whether there was
// room for it. The payload is copied, as it is used after the next packet is read.
func (s *session) received(ctx context.Context, p *mqtt.Publish) bool {
	payload := slices.Clone(p.Payload)
	path, query, _ := strings.Cut(p.Topic, "?")
	values := fields(query)
	var handle func() // what has its turn; the rest is done
	switch {
	case strings.HasPrefix(path, "$iothub/twin/res/"):
		s.answered(path, values, payload)
	case strings.HasPrefix(path, "$iothub/methods/POST/"):
		name := strings.TrimSuffix(strings.TrimPrefix(path, "$iothub/methods/POST/"), "/")
		s.runMethod(ctx, name, values["$rid"], payload)
	case strings.HasPrefix(path, "$iothub/twin/PATCH/properties/desired/"):
		handle = s.desired(values["$version"], payload)
	default:
		handle = s.message(p.Topic, payload)
	}
	qos, id := p.QoS, p.PacketID
	if handle == nil && qos == 0 {
		return true
	}
	return s.client.inbox.put(func() {
		if ctx.Err() != nil {
			return // not acknowledged, so it comes again if it matters
		}
		if handle != nil {
			handle()
		}
		if qos > 0 { // in the order of arrival [MQTT-4.6.0-2]
			s.write(&mqtt.Puback{PacketID: id})
		}
	}, maxCalls)
}

// write is for what nobody waits for; a connection that fails ends by itself.
func (s *session) write(p mqtt.Packet) {
	if err := s.conn.Write(p); err != nil {
		s.client.logger.Debug("not sent", "error", err)
	}
}

// fields reads name=value&…
func fields(query string) map[string]string {
	values := map[string]string{}
	for field := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(field, "=")
		values[key] = value
	}
	return values
}

func (s *session) answered(path string, values map[string]string, payload []byte) {
	status, err := strconv.Atoi(strings.Trim(strings.TrimPrefix(path, "$iothub/twin/res/"), "/"))
	if err != nil {
		return
	}
	version, err := strconv.ParseInt(values["$version"], 10, 64)
	if err != nil {
		version = 0 // only answers to patches bear one
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
	c := s.client
	handler := c.methods[name]
	if handler == nil {
		handler = c.methods["*"]
	}
	answer := func(status int, body []byte) {
		s.write(&mqtt.Publish{Topic: "$iothub/methods/res/" + strconv.Itoa(status) + "/?$rid=" + rid, Payload: body})
	}
	if handler == nil {
		answer(404, []byte(`{"message":"this device has no such method"}`))
		return
	}
	select {
	case c.slots <- struct{}{}:
		c.running.Go(func() {
			defer func() { <-c.slots }()
			answer(handler(ctx, payload))
		})
	default:
		answer(429, []byte(`{"message":"this device runs too many methods already"}`))
	}
}

func (s *session) desired(text string, patch []byte) func() {
	version, err := strconv.ParseInt(text, 10, 64)
	if err != nil || s.client.onDesired == nil {
		return nil
	}
	return func() { s.client.onDesired(version, patch) }
}

func (s *session) message(topic string, body []byte) func() {
	_, bag, ok := strings.Cut(topic, "/messages/devicebound/")
	if !ok || s.client.onMessage == nil {
		return nil
	}
	m, err := readMessage(bag, body)
	if err != nil {
		s.client.logger.Warn("message with a malformed property bag", "error", err)
		return nil
	}
	return func() { s.client.onMessage(m) }
}
