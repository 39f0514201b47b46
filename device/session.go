package device

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/device/retry"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/propertybag"
)

var userAgent = "slipway-go/1 (" + runtime.GOOS + "; " + runtime.GOARCH + ")"

const (
	hubVersion      = "2021-04-12"
	window          = 32               // telemetry messages sent and not acknowledged
	ackTimeout      = time.Minute      // for the hub to acknowledge telemetry
	farewellTimeout = time.Second      // for the network to take a DISCONNECT
	answerTimeout   = 30 * time.Second // for an answer to anything
)

// session is one connection to the hub.
type session struct {
	client   *Client
	conn     *mqtt.ClientConn
	hub      string
	deviceID string
	renew    time.Time     // when the token is nearly over; zero: never
	gone     chan struct{} // closed when the client has no session any more

	mu       sync.Mutex
	nextID   uint16
	unacked  []sent // telemetry in the order in which it was sent
	requests map[string]chan reply
	over     bool
	acked    chan struct{} // a place in the window came free
}

// sent is a message with the packet id it bears.
type sent struct {
	id uint16
	at time.Time
	*outgoing
}

// connect opens the hub session and asks for all that devices can listen to.
func (c *Client) connect(ctx context.Context, a Assignment) (*session, error) {
	username := a.Hub + "/" + a.DeviceID + "/?api-version=" + hubVersion + "&DeviceClientType=" + url.PathEscape(userAgent) + "&retry-after=1"
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
		refusal := refusedConnect(true, connack.Code)
		refusal.RetryAfter = c.comeBack(conn)
		c.hangUp(conn)
		return nil, refusal
	}
	s := &session{client: c, conn: conn, hub: a.Hub, deviceID: a.DeviceID, requests: map[string]chan reply{}, acked: make(chan struct{}, 1), gone: make(chan struct{})}
	if c.config.Certificate == nil {
		s.renew = time.Now().Add(c.config.TokenLife * 4 / 5)
	}
	if err := s.subscribe(); err != nil {
		s.drop()
		return nil, fmt.Errorf("hub: %w", err)
	}
	return s, nil
}

// retryAfterTopic ends in the seconds after which a hub wants the device back:
// it comes after a refusal, or before the hub ends the connection. The user name
// tells the hub that the device understands.
const retryAfterTopic = "$slipway/retry-after/"

// wordTimeout is for a hub that refuses to say when to come back, which it
// does in the same breath or not at all.
const wordTimeout = time.Second

// comeBack reads when a hub that refuses wants the device back, 0 if it does
// not say.
func (c *Client) comeBack(conn *mqtt.ClientConn) time.Duration {
	limit := time.AfterFunc(wordTimeout, func() { c.hangUp(conn) })
	defer limit.Stop()
	packet, err := conn.Next()
	if err != nil {
		return 0
	}
	if p, ok := packet.(*mqtt.Publish); ok {
		if seconds, ok := strings.CutPrefix(p.Topic, retryAfterTopic); ok {
			return retry.After(seconds, time.Now())
		}
	}
	return 0
}

// sentAway ends a session whose hub asked the device to come back later.
type sentAway struct{ after time.Duration }

func (e sentAway) Error() string {
	return fmt.Sprintf("the hub asked the device to come back after %s", e.after)
}

func (s *session) subscribe() error {
	return s.conn.Write(&mqtt.Subscribe{PacketID: s.packetID(), Filters: []mqtt.Filter{
		{Topic: "$iothub/twin/res/#"}, {Topic: "$iothub/twin/PATCH/properties/desired/#", QoS: 1},
		{Topic: "$iothub/methods/POST/#"}, {Topic: "devices/" + s.deviceID + "/messages/devicebound/#", QoS: 1},
	}})
}

// packetID returns one that is not in use [MQTT-2.3.1-2]; s is locked, or not
// yet shared.
func (s *session) packetID() uint16 {
	for {
		s.nextID++
		if s.nextID != 0 && !slices.ContainsFunc(s.unacked, func(m sent) bool { return m.id == s.nextID }) {
			return s.nextID
		}
	}
}

func (s *session) drop() { s.client.hangUp(s.conn) }

func (c *Client) hangUp(conn *mqtt.ClientConn) {
	if err := conn.Close(); err != nil {
		c.logger.Debug("connection closed", "error", err)
	}
}

// run reads, sends and pings until the connection is gone, and says why. It
// calls held once the connection has stood for stable.
func (s *session) run(ctx context.Context, stable time.Duration, held func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	keep := func(ctx context.Context) error { return s.keep(ctx, stable, held) }
	for _, part := range []func(context.Context) error{s.read, s.sendQueued, keep} {
		parts.Go(func() { cancel(part(ctx)) })
	}
	<-ctx.Done()
	cause := context.Cause(ctx)
	_, away := cause.(sentAway)
	ours := away || cause == errRenew || errors.Is(cause, context.Canceled)
	if ours {
		s.farewell()
	}
	s.drop()
	parts.Wait()
	s.settle(ours)
	return cause
}

// farewell says goodbye, unless the network does not take even that.
func (s *session) farewell() {
	limit := time.AfterFunc(farewellTimeout, s.drop)
	defer limit.Stop()
	if err := s.conn.Write(&mqtt.Disconnect{}); err != nil {
		s.client.logger.Debug("farewell not delivered", "error", err)
	}
}

// settle gives back what was not acknowledged and ends what waits. Only a
// connection that others ended counts against the message that was first.
func (s *session) settle(ours bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	back := make([]*outgoing, len(s.unacked))
	for i, m := range s.unacked {
		back[i] = m.outgoing
	}
	if ours {
		s.client.queue.giveBack(back)
	} else {
		s.client.queue.lost(back, s.client.config.Policy.Attempts)
	}
	s.over = true
	for rid, waiting := range s.requests {
		close(waiting)
		delete(s.requests, rid)
	}
}

// keep keeps the connection alive, ends it when the hub falls silent about
// telemetry, and in time for a new token.
func (s *session) keep(ctx context.Context, stable time.Duration, held func()) error {
	tick := time.NewTicker(s.client.config.KeepAlive / 2)
	defer tick.Stop()
	proven := time.NewTimer(stable)
	defer proven.Stop()
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
		case <-proven.C:
			held()
		case <-renewal:
			return errRenew
		case now := <-tick.C:
			if s.overdue(now) {
				return fmt.Errorf("the hub did not acknowledge a message within %s", ackTimeout)
			}
			if err := s.conn.Write(&mqtt.Pingreq{}); err != nil {
				return err
			}
		}
	}
}

func (s *session) overdue(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.unacked) > 0 && now.Sub(s.unacked[0].at) > ackTimeout
}

// sendQueued sends telemetry in order, a window ahead of its acknowledgements.
func (s *session) sendQueued(ctx context.Context) error {
	for ctx.Err() == nil {
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
		}
	}
	return nil
}

func (s *session) publish(o *outgoing) error {
	s.mu.Lock()
	id := s.packetID()
	s.unacked = append(s.unacked, sent{id, time.Now(), o})
	s.mu.Unlock()
	return s.conn.Write(&mqtt.Publish{Topic: "devices/" + s.deviceID + "/messages/events/" + propertybag.Encode(o.properties()), Payload: o.Body, QoS: 1, PacketID: id})
}

func (s *session) acknowledged(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.unacked, func(m sent) bool { return m.id == id })
	if i < 0 {
		return
	}
	s.client.queue.acked(s.unacked[i].outgoing)
	s.unacked = slices.Delete(s.unacked, i, i+1)
	select {
	case s.acked <- struct{}{}:
	default:
	}
}

// reply is the hub's answer to a twin request.
type reply struct {
	status  int
	version int64
	body    []byte
}

// request asks about the twin and waits for the answer.
func (s *session) request(ctx context.Context, topic, rid string, body []byte) (reply, error) {
	waiting := make(chan reply, 1)
	s.mu.Lock()
	over := s.over
	if !over {
		s.requests[rid] = waiting
	}
	s.mu.Unlock()
	if over {
		return reply{}, errLost
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.requests, rid)
	}()
	if err := s.conn.Write(&mqtt.Publish{Topic: topic, Payload: body}); err != nil {
		s.drop()
		return reply{}, errLost // the end of the session says why
	}
	timeout := time.NewTimer(answerTimeout)
	defer timeout.Stop()
	select {
	case r, ok := <-waiting:
		switch {
		case !ok:
			return reply{}, errLost
		case r.status >= 300:
			return reply{}, refusedRequest(true, r.status, 0, r.body)
		}
		return r, nil
	case <-timeout.C:
		return reply{}, fmt.Errorf("the hub did not answer within %s", answerTimeout)
	case <-ctx.Done():
		return reply{}, ctx.Err()
	}
}
