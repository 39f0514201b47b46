package stamp_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sastoken"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/stamp"
	"github.com/slipway/slipway/internal/stamp/hub"
	"github.com/slipway/slipway/internal/stamp/hubmqtt"
	"github.com/slipway/slipway/internal/stamp/telemetry"
)

const host = "127.0.1.1"

var key = []byte("0123456789abcdef0123456789abcdef")

// rig is a stamp that runs, reached over loopback TCP and over the link.
type rig struct {
	t        *testing.T
	dir      string
	database string
	link     *bus.Conn
	address  string
	limits   hub.Limits
	stamp    *stamp.Stamp
	server   *bus.Server
	ahead    atomic.Int64 // of the clock that the stamp goes by
	stop     func()
}

func (r *rig) now() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigOf(t, hub.DefaultLimits)
}

func newRigOf(t *testing.T, limits hub.Limits) *rig {
	t.Helper()
	server, err := bus.Start(t.Context(), bus.Options{Name: "link", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	conn, err := server.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: t.TempDir(), database: sqldbtest.At(t), link: conn, limits: limits, server: server}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

var quiet = slog.New(slog.DiscardHandler)

var mqttLimits = mqtt.Limits{MaxPacket: 400000, ConnectTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, MaxKeepAlive: time.Minute, MaxBuffered: 1 << 20}

func (r *rig) start() {
	r.t.Helper()
	conn, err := r.server.Connect("stamp")
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := stamp.New(r.t.Context(), stamp.Options{
		Name: "test-1", Dir: r.dir, Database: r.database, Link: conn, Limits: r.limits, Retention: telemetry.DefaultRetention, Logger: quiet, Now: r.now,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	s.SetHosts([]string{host})
	r.stamp = s
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go serve(ctx, s, nc)
		}
	}()
	r.stop = func() {
		l.Close()
		cancel()
		if err := <-ended; err != nil {
			r.t.Error(err)
		}
		if err := s.Close(); err != nil {
			r.t.Error(err)
		}
		conn.Close()
		r.stop = func() {}
	}
	// The stamp answers once Run has begun.
	for {
		if _, err := bus.Ask(r.t.Context(), r.link, link.StampPeer("test-1"), link.ConsumerList, link.None{}); !problem.Is(err, problem.NotReady) {
			return
		}
	}
}

func serve(ctx context.Context, s *stamp.Stamp, nc net.Conn) {
	conn := mqtt.NewConn(nc, mqttLimits)
	connect, err := conn.ReadConnect()
	if err != nil {
		conn.Close()
		return
	}
	user, err := hubmqtt.ParseUser(connect.Username)
	if err != nil {
		conn.Refuse(mqtt.NotAuthorized)
		return
	}
	s.Serve(ctx, conn, connect, user)
}

func ask[Req, Resp any](r *rig, call link.Call[Req, Resp], req Req) Resp {
	r.t.Helper()
	resp, err := bus.Ask(r.t.Context(), r.link, link.StampPeer("test-1"), call, req)
	if err != nil {
		r.t.Fatalf("%s: %v", call.Name, err)
	}
	return resp
}

func (r *rig) put(id string, epoch int64) {
	r.t.Helper()
	ask(r, link.IdentityPut, link.PutIdentity{
		DeviceID: id, Epoch: epoch, Auth: link.Auth{Type: link.AuthSAS, PrimaryKey: key}, Enrollment: "e",
		Twin: &link.TwinContent{Tags: []byte(`{"batch":"7"}`), Desired: []byte(`{"reportEvery":10}`)},
	})
}

// client is a plain MQTT client.
type client struct {
	*mqtt.ClientConn
	t *testing.T
}

func connectOf(id string, clean bool) *mqtt.Connect {
	return &mqtt.Connect{
		ProtocolName: "MQTT", ProtocolLevel: 4, ClientID: id, CleanSession: clean, KeepAlive: 60,
		HasUsername: true, Username: host + "/" + id + "/?api-version=2021-04-12&model-id=dtmi:x;1", HasPassword: true,
		Password: []byte(sastoken.Sign(key, url.QueryEscape(host+"/devices/"+id), time.Now().Add(time.Hour), "")),
	}
}

func (r *rig) dial(c *mqtt.Connect) (*client, mqtt.ConnackCode) {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	cl := &client{mqtt.NewClientConn(nc, 1<<20), r.t}
	r.t.Cleanup(func() { cl.Close() })
	if err := cl.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	connack, err := cl.Connect(r.t.Context(), c)
	if err != nil {
		r.t.Fatal(err)
	}
	return cl, connack.Code
}

func (r *rig) connect(id string, clean bool) *client {
	r.t.Helper()
	cl, code := r.dial(connectOf(id, clean))
	if code != mqtt.Accepted {
		r.t.Fatalf("%s was refused: %s", id, code)
	}
	return cl
}

func (c *client) send(p ...mqtt.Packet) {
	c.t.Helper()
	if err := c.Write(p...); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) expect(topic string) (string, string) {
	c.t.Helper()
	p, err := c.Next()
	if err != nil {
		c.t.Fatal(err)
	}
	publish, ok := p.(*mqtt.Publish)
	if !ok || !strings.HasPrefix(publish.Topic, topic) {
		c.t.Fatalf("got %+v, want a publish to %s", p, topic)
	}
	if publish.QoS > 0 {
		c.send(&mqtt.Puback{PacketID: publish.PacketID})
	}
	return publish.Topic, string(publish.Payload)
}

func expectPacket[P any](c *client) *P {
	c.t.Helper()
	p, err := c.Next()
	if err != nil {
		c.t.Fatal(err)
	}
	got, ok := p.(any).(*P)
	if !ok {
		c.t.Fatalf("got %T", p)
	}
	return got
}

func (c *client) subscribe(filters ...mqtt.Filter) {
	c.t.Helper()
	c.send(&mqtt.Subscribe{PacketID: 1, Filters: filters})
	if codes := expectPacket[mqtt.Suback](c).Codes; len(codes) != len(filters) {
		c.t.Fatalf("granted %v", codes)
	}
}

const desiredFilter, twinFilter, methodFilter = "$iothub/twin/PATCH/properties/desired/#", "$iothub/twin/res/#", "$iothub/methods/POST/#"

func TestADeviceSpeaksWithItsHub(t *testing.T) {
	r := newRig(t)
	r.put("d1", 1)
	c := r.connect("d1", true)

	c.send(&mqtt.Publish{Topic: "devices/d1/messages/events/%24.ct=application%2Fjson&a=b", Payload: []byte(`{"t":1}`), QoS: 1, PacketID: 5})
	if expectPacket[mqtt.Puback](c).PacketID != 5 {
		t.Error("the wrong message was acknowledged")
	}
	page := ask(r, link.TelemetryRead, link.ReadLog{DeviceID: "d1"})
	if len(page.Items) != 1 || string(page.Items[0].Body) != `{"t":1}` || page.Items[0].Properties["a"] != "b" || page.Items[0].SystemProperties["dt-dataschema"] != "dtmi:x;1" {
		t.Errorf("log holds %+v", page)
	}

	c.subscribe(mqtt.Filter{Topic: twinFilter}, mqtt.Filter{Topic: desiredFilter, QoS: 1}, mqtt.Filter{Topic: methodFilter}, mqtt.Filter{Topic: "devices/d1/messages/devicebound/#", QoS: 2})
	c.send(&mqtt.Publish{Topic: "$iothub/twin/GET/?$rid=r-1", Payload: []byte(" ")})
	if topic, body := c.expect("$iothub/twin/res/200/?$rid=r-1"); body != `{"desired":{"$version":1,"reportEvery":10},"reported":{"$version":1}}` {
		t.Errorf("%s: %s", topic, body)
	}
	c.send(&mqtt.Publish{Topic: "$iothub/twin/PATCH/properties/reported/?$rid=2", Payload: []byte(`{"ok":true}`)})
	c.expect("$iothub/twin/res/204/?$rid=2&$version=2")
	c.send(&mqtt.Publish{Topic: "$iothub/twin/PATCH/properties/reported/?$rid=3", Payload: []byte(`{"a.b":1}`)})
	if _, body := c.expect("$iothub/twin/res/400/?$rid=3"); !strings.Contains(body, `"errorCode":400004`) {
		t.Errorf("the refusal says %s", body)
	}

	before := ask(r, link.TwinGet, link.DeviceRef{DeviceID: "d1"})
	ask(r, link.TwinPatch, link.PatchTwin{DeviceID: "d1", IfMatch: before.ETag, Patch: []byte(`{"properties":{"desired":{"reportEvery":5}}}`)})
	if topic, body := c.expect("$iothub/twin/PATCH/properties/desired/?$version=2"); body != `{"$version":2,"reportEvery":5}` {
		t.Errorf("%s: %s", topic, body)
	}
	if _, err := bus.Ask(t.Context(), r.link, link.StampPeer("test-1"), link.TwinPatch, link.PatchTwin{DeviceID: "d1", IfMatch: before.ETag, Patch: []byte(`{}`)}); !problem.Is(err, problem.Stale) {
		t.Errorf("a stale patch: %v", err)
	}

	answered := make(chan link.MethodResult, 1)
	go func() {
		answered <- ask(r, link.MethodInvoke, link.InvokeMethod{DeviceID: "d1", Method: "reboot", Payload: []byte(`{"in":3}`)})
	}()
	topic, body := c.expect("$iothub/methods/POST/reboot/?$rid=")
	if body != `{"in":3}` {
		t.Errorf("payload %s", body)
	}
	_, rid, _ := strings.Cut(topic, "$rid=")
	c.send(&mqtt.Publish{Topic: "$iothub/methods/res/200/?$rid=" + rid, Payload: []byte(`{"done":true}`), QoS: 1, PacketID: 9})
	expectPacket[mqtt.Puback](c)
	if result := <-answered; result.Status != 200 || string(result.Payload) != `{"done":true}` {
		t.Errorf("result %+v", result)
	}

	ask(r, link.MessageSend, link.SendMessage{DeviceID: "d1", Body: []byte("hello"), MessageID: "m 1", Properties: map[string]string{"k": "v"}})
	if topic, body := c.expect("devices/d1/messages/devicebound/%24.mid=m%201&"); body != "hello" || !strings.HasSuffix(topic, "&k=v") {
		t.Errorf("%s: %s", topic, body)
	}
	c.send(&mqtt.Pingreq{})
	expectPacket[mqtt.Pingresp](c)
	if left := ask(r, link.MessageList, link.DeviceRef{DeviceID: "d1"}); len(left.Items) != 0 {
		t.Errorf("%d messages left after PUBACK", len(left.Items))
	}
}

func TestPersistentSessionsOutliveTheServer(t *testing.T) {
	r := newRig(t)
	r.put("d1", 1)
	c := r.connect("d1", false)
	c.subscribe(mqtt.Filter{Topic: "devices/d1/messages/devicebound/#", QoS: 1})
	c.Close()
	ask(r, link.MessageSend, link.SendMessage{DeviceID: "d1", Body: []byte("while away")})
	r.stop()
	r.start()
	c = r.connect("d1", false)
	if _, body := c.expect("devices/d1/messages/devicebound/"); body != "while away" {
		t.Errorf("got %q", body)
	}
	c.Close()
	c = r.connect("d1", true)
	ask(r, link.MessageSend, link.SendMessage{DeviceID: "d1", Body: []byte("not subscribed")})
	c.send(&mqtt.Pingreq{})
	expectPacket[mqtt.Pingresp](c)
}

func TestRemovalCutsAndStays(t *testing.T) {
	r := newRig(t)
	r.put("d1", 3)
	c := r.connect("d1", false)
	c.subscribe(mqtt.Filter{Topic: twinFilter})
	c.send(&mqtt.Publish{Topic: "$iothub/twin/PATCH/properties/reported/?$rid=2", Payload: []byte(`{"ok":true}`)})
	c.expect("$iothub/twin/res/204/")

	receipt := ask(r, link.IdentityRemove, link.RemoveIdentity{DeviceID: "d1", Epoch: 3, Reason: "move", To: "production"})
	if !receipt.Existed || !receipt.Connected || string(receipt.Twin.Reported) != `{"ok":true}` {
		t.Errorf("receipt %+v", receipt)
	}
	if p, err := c.Next(); err == nil {
		t.Errorf("the connection is still there and says %+v", p)
	}
	if _, code := r.dial(connectOf("d1", false)); code != mqtt.NotAuthorized {
		t.Errorf("the next connect: %s", code)
	}
	again := ask(r, link.IdentityRemove, link.RemoveIdentity{DeviceID: "d1", Epoch: 3, Reason: "move", To: "production"})
	if fmt.Sprint(again.At.UnixMicro()) != fmt.Sprint(receipt.At.UnixMicro()) || !again.Connected || string(again.Twin.Desired) != `{"reportEvery":10}` {
		t.Errorf("the repeated receipt is another: %+v", again)
	}
	_, err := bus.Ask(t.Context(), r.link, link.StampPeer("test-1"), link.IdentityPut, link.PutIdentity{DeviceID: "d1", Epoch: 3, Auth: link.Auth{Type: link.AuthSAS, PrimaryKey: key}})
	if !problem.Is(err, problem.Conflict) {
		t.Errorf("the ended assignment came back: %v", err)
	}
	r.put("d1", 4)
	r.connect("d1", false)
}

func TestTakeover(t *testing.T) {
	r := newRig(t)
	r.put("d1", 1)
	first := r.connect("d1", true)
	second := r.connect("d1", true)
	if _, err := first.Next(); err == nil {
		t.Error("the first connection lives on")
	}
	second.send(&mqtt.Pingreq{})
	expectPacket[mqtt.Pingresp](second)
	for range hub.DefaultLimits.Takeovers - 1 {
		r.connect("d1", true)
	}
	if _, code := r.dial(connectOf("d1", true)); code != mqtt.ServerUnavailable {
		t.Errorf("a fight goes on: %s", code)
	}
}

// TestSRV2ARefusalSaysWhenToComeBack fills a stamp that admits little: clients
// that understand are told when to come back, and are let in at their time.
func TestSRV2ARefusalSaysWhenToComeBack(t *testing.T) {
	t.Parallel()
	limits := hub.DefaultLimits
	limits.ConnectRate, limits.ConnectBurst = 2, 2
	r := newRigOf(t, limits)
	patient := func(id string) *mqtt.Connect {
		c := connectOf(id, true)
		c.Username += "&retry-after=1"
		return c
	}
	for i := range 5 {
		r.put(fmt.Sprint("d", i), 1)
		r.put(fmt.Sprint("old", i), 1)
	}
	r.stop()
	r.start() // so that none is fresh
	r.connect("d0", true)
	r.connect("old0", true)
	told := map[string]int{}
	for i := 1; i < 5; i++ {
		id := fmt.Sprint("d", i)
		c, code := r.dial(patient(id))
		if code != mqtt.ServerUnavailable {
			t.Fatalf("%s: %s", id, code)
		}
		topic, _ := c.expect("$slipway/retry-after/")
		seconds, err := strconv.Atoi(strings.TrimPrefix(topic, "$slipway/retry-after/"))
		if err != nil || seconds < 1 || seconds > 10 {
			t.Fatalf("%s is told %s", id, topic)
		}
		told[id] = seconds
	}
	c, code := r.dial(connectOf("old1", true))
	if _, err := c.Next(); code != mqtt.ServerUnavailable || err == nil {
		t.Errorf("a client that does not ask is told more than %s", code)
	}
	begin := time.Now()
	for i := 1; i < 5; i++ {
		id := fmt.Sprint("d", i)
		<-time.After(time.Until(begin.Add(time.Duration(told[id]) * time.Second)))
		r.connect(id, true)
	}
}

// TestSRV8RefusedClientsLeaveNothingBehind has many turned away.
func TestSRV8RefusedClientsLeaveNothingBehind(t *testing.T) {
	limits := hub.DefaultLimits
	limits.ConnectRate, limits.ConnectBurst = 0.01, 1
	r := newRigOf(t, limits)
	r.put("d0", 1)
	r.connect("d0", true)
	before := runtime.NumGoroutine()
	for i := range 500 {
		c, code := r.dial(connectOf(fmt.Sprint("herd-", i), true))
		if code != mqtt.ServerUnavailable {
			t.Fatal(code)
		}
		c.Close()
	}
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before+10 {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines before, %d after 500 refusals", before, runtime.NumGoroutine())
		}
		runtime.Gosched()
	}
}

func TestWhatEndsAConnection(t *testing.T) {
	r := newRig(t)
	r.put("d1", 1)
	for name, p := range map[string]mqtt.Packet{
		"foreign topic":    &mqtt.Publish{Topic: "devices/d2/messages/events/"},
		"unknown topic":    &mqtt.Publish{Topic: "hello"},
		"QoS 2":            &mqtt.Publish{Topic: "devices/d1/messages/events/", QoS: 2, PacketID: 1},
		"foreign filter":   &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Topic: "#"}}},
		"bad bag":          &mqtt.Publish{Topic: "devices/d1/messages/events/a=%zz"},
		"too large":        &mqtt.Publish{Topic: "devices/d1/messages/events/", Payload: make([]byte, telemetry.MaxSize+1)},
		"too large packet": &mqtt.Publish{Topic: "devices/d1/messages/events/", Payload: make([]byte, 500000)},
		"server's packet":  &mqtt.Suback{PacketID: 1},
		"second CONNECT":   connectOf("d1", true),
		"status no number": &mqtt.Publish{Topic: "$iothub/methods/res/x/?$rid=1"},
	} {
		c := r.connect("d1", true)
		if err := c.Write(p); err != nil {
			t.Logf("%s: %v", name, err)
		}
		if got, err := c.Next(); err == nil {
			t.Errorf("%s was answered with %+v", name, got)
		}
	}
}

func TestWhoIsRefused(t *testing.T) {
	r := newRig(t)
	r.put("d1", 1)
	sign := func(resource string, with []byte, life time.Duration) []byte {
		return []byte(sastoken.Sign(with, url.QueryEscape(resource), time.Now().Add(life), ""))
	}
	for name, change := range map[string]func(*mqtt.Connect){
		"unknown device": func(c *mqtt.Connect) {
			c.ClientID, c.Username, c.Password = "d2", host+"/d2/", sign(host+"/devices/d2", key, time.Hour)
		},
		"other client id": func(c *mqtt.Connect) { c.ClientID = "d2" },
		"no password":     func(c *mqtt.Connect) { c.HasPassword, c.Password = false, nil },
		"not a token":     func(c *mqtt.Connect) { c.Password = []byte("secret") },
		"expired":         func(c *mqtt.Connect) { c.Password = sign(host+"/devices/d1", key, -time.Hour) },
		"wrong key": func(c *mqtt.Connect) {
			c.Password = sign(host+"/devices/d1", []byte("another key, just as long as the first"), time.Hour)
		},
		"foreign device":   func(c *mqtt.Connect) { c.Password = sign(host+"/devices/d10", key, time.Hour) },
		"foreign hub":      func(c *mqtt.Connect) { c.Password = sign("other/devices/d1", key, time.Hour) },
		"module":           func(c *mqtt.Connect) { c.Username = host + "/d1/module/?api-version=2021-04-12" },
		"no user name":     func(c *mqtt.Connect) { c.HasUsername, c.Username, c.HasPassword = false, "", false },
		"broken user name": func(c *mqtt.Connect) { c.Username = "d1" },
	} {
		c := connectOf("d1", true)
		change(c)
		if _, code := r.dial(c); code != mqtt.NotAuthorized {
			t.Errorf("%s: %s", name, code)
		}
	}
	var events link.LogPage
	for len(events.Items) == 0 {
		events = ask(r, link.EventRead, link.ReadLog{DeviceID: "d2"})
	}
	if e := events.Items[0]; e.Kind != "refused" || !strings.Contains(e.Properties["reason"], "not on this stamp") {
		t.Errorf("event %+v", e)
	}
}

func TestQueryAndObservation(t *testing.T) {
	r := newRig(t)
	for i := range 5 {
		r.put(fmt.Sprint("d", i), 1)
	}
	r.connect("d2", true)
	page := ask(r, link.DeviceQuery, link.QueryDevices{Where: "tags.batch = '7' AND deviceId > 'd0'", Limit: 2})
	if len(page.Items) != 2 || !page.More || page.Items[1].DeviceID != "d2" || !page.Items[1].Connected || page.Items[1].Stamp != "test-1" {
		t.Errorf("page %+v", page)
	}
	found := ask(r, link.DeviceLookup, link.DeviceRefs{DeviceIDs: []string{"d4", "nobody", "d0"}})
	if len(found.Items) != 2 || found.Items[0].DeviceID != "d0" {
		t.Errorf("found %+v", found)
	}
	told := make(chan link.Observed, 100)
	if err := bus.Hear(r.link, link.ObservedSubject(link.StampPeer("test-1")), func(_ string, o link.Observed) { told <- o }); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(time.Minute)
	for observed := (link.Observed{}); observed.Devices != 5 || observed.Connected != 1; {
		select {
		case observed = <-told:
		case <-deadline:
			t.Fatalf("%+v", observed)
		}
	}
}

// TestACommandIsGivenOnce lets a device acknowledge while more arrive: over one
// connection it is given each command once.
func TestACommandIsGivenOnce(t *testing.T) {
	const count = 400
	r := newRig(t)
	r.put("d1", 1)
	c := r.connect("d1", true)
	c.subscribe(mqtt.Filter{Topic: "devices/d1/messages/devicebound/#", QoS: 1})
	room := make(chan struct{}, 30) // fewer than may wait
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range count {
			room <- struct{}{}
			ask(r, link.MessageSend, link.SendMessage{DeviceID: "d1", Body: []byte(strconv.Itoa(i))})
		}
	}()
	for i := range count {
		p := expectPacket[mqtt.Publish](c)
		if string(p.Payload) != strconv.Itoa(i) {
			t.Fatalf("command %s came where %d was next", p.Payload, i)
		}
		c.send(&mqtt.Puback{PacketID: p.PacketID})
		<-room
	}
	<-sent
}
