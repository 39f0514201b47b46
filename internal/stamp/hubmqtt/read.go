package hubmqtt

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/hub"
)

// read works off what the device sends until the connection ends, and says
// why it did.
func (c *connection) read(ctx context.Context) (reason string) {
	for {
		packet, err := c.conn.Next()
		if err != nil {
			return endOf(err)
		}
		c.session.Alive(c.edge.hub.Now())
		switch p := packet.(type) {
		case *mqtt.Publish:
			err = c.published(ctx, p)
		case *mqtt.Puback:
			err = c.acknowledged(ctx, p.PacketID)
		case *mqtt.Subscribe:
			err = c.subscribe(ctx, p)
		case *mqtt.Unsubscribe:
			err = c.unsubscribe(ctx, p)
		case *mqtt.Pingreq:
			err = c.conn.Send(&mqtt.Pingresp{})
		case *mqtt.Disconnect:
			return disconnected
		default:
			err = problem.New(problem.Invalid, "a device does not send %T here", p)
		}
		if err != nil {
			return endOf(err)
		}
	}
}

// disconnected is why a connection ended that its device closed in order.
const disconnected = "disconnected"

// lastWill appends what the device left to be said if it vanished (MQTT 3.1.1,
// clause 3.1.2.5). Where that is the stamp's own doing, it is said all the
// same: the device did vanish.
func (c *connection) lastWill(will *mqtt.Will) {
	if will == nil {
		return
	}
	bag, ok := c.telemetryTopic(will.Topic)
	if !ok {
		return
	}
	bag = strings.TrimPrefix(bag+"&iothub-MessageType=Will", "&")
	err := c.session.Publish(bag, will.Payload, func(err error) {
		if err != nil {
			c.edge.logger.Warn("a will was not stored", "device", c.session.DeviceID, "error", err)
		}
	})
	if err != nil {
		c.edge.logger.Debug("a will was not taken", "device", c.session.DeviceID, "error", err)
	}
}

// published routes a publish by its topic. An error ends the connection, as
// the protocol has no other way to refuse.
func (c *connection) published(ctx context.Context, p *mqtt.Publish) error {
	if p.QoS > 1 {
		return problem.New(problem.Invalid, "QoS 2 is not supported; publish at QoS 0 or 1")
	}
	if bag, ok := c.telemetryTopic(p.Topic); ok {
		return c.telemetry(p, bag)
	}
	if err := c.request(ctx, p); err != nil {
		return err
	}
	return c.puback(p)
}

func (c *connection) puback(p *mqtt.Publish) error {
	if p.QoS == 0 {
		return nil
	}
	return c.conn.Send(&mqtt.Puback{PacketID: p.PacketID})
}

// topics are the beginnings of an identity's own topics.
type topics struct {
	own      string // devices/{id}/ or devices/{id}/modules/{module}/
	module   bool
	commands string
}

func topicsOf(u User) topics {
	t := topics{own: "devices/" + u.DeviceID + "/", module: u.ModuleID != ""}
	if t.module {
		t.own += "modules/" + u.ModuleID + "/"
	}
	t.commands = t.own + "messages/devicebound/"
	return t
}

// telemetryTopic returns the property bag of …/messages/events/{bag}.
func (c *connection) telemetryTopic(topic string) (bag string, ok bool) {
	rest, ok := strings.CutPrefix(topic, c.topics.own)
	if !ok {
		return "", false
	}
	rest, ok = strings.CutPrefix(rest, "messages/events")
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return strings.TrimSuffix(strings.TrimPrefix(rest, "/"), "/"), true
}

// telemetry appends a message; its PUBACK leaves when the log holds it.
func (c *connection) telemetry(p *mqtt.Publish, bag string) error {
	if p.Retain {
		bag = strings.TrimPrefix(bag+"&mqtt-retain=true", "&")
	}
	qos, id := p.QoS, p.PacketID
	return c.session.Publish(bag, p.Payload, func(err error) {
		if err != nil {
			// Without the acknowledgement the device sends the message again.
			c.edge.logger.Warn("telemetry not stored", "device", c.session.DeviceID, "error", err)
			c.Cut()
			return
		}
		if qos == 0 {
			return
		}
		c.transmit(&mqtt.Puback{PacketID: id})
	})
}

// request serves the topics under $iothub.
func (c *connection) request(ctx context.Context, p *mqtt.Publish) error {
	path, query, _ := strings.Cut(p.Topic, "?")
	switch path {
	case "$iothub/twin/GET/":
		return c.getTwin(ctx, requestID(query))
	case "$iothub/twin/PATCH/properties/reported/":
		return c.patchReported(ctx, requestID(query), p.Payload)
	}
	if status, ok := strings.CutPrefix(path, "$iothub/methods/res/"); ok {
		code, err := strconv.Atoi(strings.TrimSuffix(status, "/"))
		if err != nil {
			return problem.New(problem.Invalid, "a method's answer bears a number as status, not %q", status)
		}
		c.session.Answered(requestID(query), hub.MethodResponse{Status: code, Payload: append([]byte(nil), p.Payload...)})
		return nil
	}
	return problem.New(problem.Denied, "device %s may not publish to %q", c.session.DeviceID, p.Topic)
}

// requestID returns the text after $rid= up to the next '&', as it was sent.
func requestID(query string) string {
	for field := range strings.SplitSeq(query, "&") {
		if rid, ok := strings.CutPrefix(field, "$rid="); ok {
			return rid
		}
	}
	return ""
}

func (c *connection) getTwin(ctx context.Context, rid string) error {
	view, err := c.edge.hub.DeviceTwin(ctx, c.session)
	if err != nil {
		c.reply(failure(err, rid))
		return nil
	}
	c.reply("200/?$rid="+rid, view)
	return nil
}

func (c *connection) patchReported(ctx context.Context, rid string, patch []byte) error {
	version, err := c.edge.hub.Report(ctx, c.session, patch)
	if err != nil {
		c.reply(failure(err, rid))
		return nil
	}
	c.reply("204/?$rid="+rid+"&$version="+strconv.FormatInt(version, 10), nil)
	return nil
}

// reply answers a twin request if the device listens for answers.
func (c *connection) reply(topic string, body []byte) {
	if qos, ok := c.session.Subscribed(hub.TwinResponses); ok {
		c.publish(&mqtt.Publish{Topic: "$iothub/twin/res/" + topic, Payload: body, QoS: qos}, noCommand)
	}
}

// failure is the answer to a twin request that failed. It always has a body:
// some SDKs look at nothing else.
func failure(err error, rid string) (topic string, body []byte) {
	p := problem.Of(err)
	status, code := 500, 500001
	switch p.Kind {
	case problem.Invalid:
		status, code = 400, 400004
	case problem.NotFound:
		status, code = 404, 404001
	case problem.Stale:
		status, code = 412, 412001
	case problem.TooLarge:
		status, code = 413, 413001
	case problem.Busy:
		status, code = 429, 429001
	case problem.NotReady, problem.TimedOut:
		status, code = 503, 503001
	}
	body, marshalErr := json.Marshal(map[string]any{
		"errorCode": code, "trackingId": uuid.NewString(), "message": p.Error(), "timestampUtc": time.Now().UTC().Format(time.RFC3339),
	})
	if marshalErr != nil {
		body = []byte(`{"errorCode":500001,"message":"internal"}`)
	}
	return strconv.Itoa(status) + "/?$rid=" + rid, body
}

// acknowledged completes the command a PUBACK stands for.
func (c *connection) acknowledged(ctx context.Context, id uint16) error {
	c.mu.Lock()
	sequence, known := c.unacknowledged[id]
	delete(c.unacknowledged, id)
	c.mu.Unlock()
	if !known || sequence == noCommand {
		return nil
	}
	return c.session.Completed(ctx, sequence)
}

// topicOf is what a filter stands for; these are all the filters there are.
func (c *connection) topicOf(filter string) (hub.Topic, bool) {
	switch filter {
	case "$iothub/twin/res/#":
		return hub.TwinResponses, true
	case "$iothub/twin/PATCH/properties/desired/#":
		return hub.DesiredChanges, true
	case "$iothub/methods/POST/#":
		return hub.Methods, true
	case c.topics.commands + "#":
		return hub.Commands, true
	}
	// Modules listen to everything that is theirs, or to their inputs.
	if c.topics.module && (filter == c.topics.own+"#" || filter == c.topics.own+"inputs/#") {
		return hub.Commands, true
	}
	return 0, false
}

func (c *connection) subscribe(ctx context.Context, p *mqtt.Subscribe) error {
	codes := make([]byte, len(p.Filters))
	wanted := make([]hub.Subscription, len(p.Filters))
	for i, f := range p.Filters {
		topic, ok := c.topicOf(f.Topic)
		if !ok {
			return problem.New(problem.Denied, "device %s may not subscribe to %q", c.session.DeviceID, f.Topic)
		}
		codes[i] = min(f.QoS, 1)
		wanted[i] = hub.Subscription{Topic: topic, QoS: codes[i]}
	}
	if err := c.session.Subscribe(ctx, wanted...); err != nil {
		return err
	}
	if err := c.conn.Send(&mqtt.Suback{PacketID: p.PacketID, Codes: codes}); err != nil {
		return err
	}
	c.session.Ready()
	return nil
}

func (c *connection) unsubscribe(ctx context.Context, p *mqtt.Unsubscribe) error {
	var left []hub.Topic
	for _, filter := range p.Topics {
		if topic, ok := c.topicOf(filter); ok {
			left = append(left, topic)
		}
	}
	if err := c.session.Unsubscribe(ctx, left...); err != nil {
		return err
	}
	return c.conn.Send(&mqtt.Unsuback{PacketID: p.PacketID})
}
