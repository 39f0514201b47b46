package provisioning_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/provisioning"
	"github.com/slipway/slipway/internal/sastoken"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

var (
	quiet    = slog.New(slog.DiscardHandler)
	groupKey = []byte("the key of the whole group")
)

// plane is a running provisioning plane with one stamp behind it.
type plane struct {
	*provisioning.Plane
	t             *testing.T
	dir, database string
	conn          *bus.Conn
	stop          func()

	mu  sync.Mutex
	has map[string]link.PutIdentity
}

func start(t *testing.T) *plane {
	t.Helper()
	server, err := bus.Start(t.Context(), bus.Options{Name: "test", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	conn, err := server.Connect("stamp and control")
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{t: t, dir: t.TempDir(), database: sqldbtest.At(t), conn: conn, has: map[string]link.PutIdentity{}}
	err = bus.Answer(conn, link.StampPeer("test-1"), link.IdentityPut, func(_ context.Context, req link.PutIdentity) (link.IdentityResult, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.has[req.DeviceID] = req
		return link.IdentityResult{Created: true}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p.open(server)
	t.Cleanup(func() { p.stop() })
	until(t, "answers", func() bool { // the last of the calls it begins to serve
		_, err := bus.Ask(t.Context(), conn, link.ProvisioningPeer, link.MoveDevices, link.ListMoveDevices{ID: "move-1"})
		return err == nil
	})
	ask(p, link.DirectoryPut, link.Directory{Version: 1, Environments: []link.Environment{{Name: "test"}},
		Stamps: []link.Stamp{{Name: "test-1", Environment: "test", Host: "test-1.example.org:8884", Capacity: 10, State: link.StampOpen}}})
	p.enrol(false)
	return p
}

// open starts the plane on its directory with a connection of its own.
func (p *plane) open(server *bus.Server) {
	p.t.Helper()
	conn, err := server.Connect("provisioning")
	if err != nil {
		p.t.Fatal(err)
	}
	if p.Plane, err = provisioning.New(p.t.Context(), provisioning.Options{Dir: p.dir, Database: p.database, Conn: conn, Logger: quiet}); err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	p.stop = func() {
		conn.Close()
		cancel()
		if err := <-ended; err != nil {
			p.t.Error(err)
		}
		if err := p.Close(); err != nil {
			p.t.Error(err)
		}
	}
}

func ask[Req, Resp any](p *plane, call link.Call[Req, Resp], req Req) Resp {
	p.t.Helper()
	resp, err := bus.Ask(p.t.Context(), p.conn, link.ProvisioningPeer, call, req)
	if err != nil {
		p.t.Fatalf("%s: %v", call.Name, err)
	}
	return resp
}

func (p *plane) enrol(disabled bool) link.Enrollment {
	return ask(p, link.EnrollmentPut, link.PutEnrollment{Kind: link.Group, Name: "line-7", Spec: link.EnrollmentSpec{
		Environment: "test", Disabled: disabled, InitialTwin: &link.InitialTwin{Tags: json.RawMessage(`{"batch":"7"}`)},
		Attestation: link.Attestation{SymmetricKey: &link.SymmetricKey{PrimaryKey: base64.StdEncoding.EncodeToString(groupKey)}},
	}})
}

func (p *plane) token(id string) string {
	return sastoken.Sign(sastoken.DeriveKey(groupKey, id), p.IDScope()+"%2Fregistrations%2F"+id, time.Now().Add(time.Hour), "registration")
}

// until calls try until it says done.
func until(t *testing.T, what string, try func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !try() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within 10 s", what)
		case <-tick.C:
		}
	}
}

// operation is what a device reads of an answer.
type operation struct {
	OperationID string `json:"operationId"`
	Status      string `json:"status"`
	ErrorCode   int    `json:"errorCode"`
	TrackingID  string `json:"trackingId"`
	State       struct {
		AssignedHub  string `json:"assignedHub"`
		DeviceID     string `json:"deviceId"`
		Substatus    string `json:"substatus"`
		SymmetricKey struct {
			EnrollmentGroupID string `json:"enrollmentGroupId"`
		} `json:"symmetricKey"`
	} `json:"registrationState"`
}

func (p *plane) http(method, path, token, body string) (*http.Response, operation) {
	p.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	w := httptest.NewRecorder()
	p.HTTPHandler().ServeHTTP(w, r)
	var op operation
	if err := json.Unmarshal(w.Body.Bytes(), &op); err != nil {
		p.t.Fatalf("%s %s: %d %q: %v", method, path, w.Code, w.Body, err)
	}
	return w.Result(), op
}

func TestRegisterOverHTTPSAndAcrossARestart(t *testing.T) {
	server, err := bus.Start(t.Context(), bus.Options{Name: "other", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	p := start(t)
	base := "/" + p.IDScope() + "/registrations/Dev-1"
	answer, op := p.http("PUT", base+"/register?api-version=2021-06-01", p.token("Dev-1"), `{"registrationId":"Dev-1"}`)
	if answer.StatusCode != 202 || op.Status != "assigning" || op.OperationID == "" || answer.Header.Get("Retry-After") != "1" {
		t.Fatalf("register: %d %+v", answer.StatusCode, op)
	}
	poll := answer.Header.Get("Location")
	if want := base + "/operations/" + url.PathEscape(op.OperationID); poll != want {
		t.Errorf("Location is %s, want %s", poll, want)
	}
	until(t, "assigned", func() bool {
		answer, op = p.http("GET", poll, p.token("Dev-1"), `{}`)
		return answer.StatusCode == 200
	})
	if op.State.AssignedHub != "test-1.example.org:8884" || op.State.DeviceID != "Dev-1" || op.State.Substatus != "initialAssignment" || op.State.SymmetricKey.EnrollmentGroupID != "line-7" {
		t.Errorf("assigned: %+v", op)
	}
	p.mu.Lock()
	if twin := p.has["Dev-1"].Twin; twin == nil || string(twin.Tags) != `{"batch":"7"}` || p.has["Dev-1"].Epoch != 1 {
		t.Errorf("the stamp got %+v", p.has["Dev-1"])
	}
	p.mu.Unlock()

	scope := p.IDScope()
	p.stop()
	p.open(server) // without a stamp or control in reach
	if p.IDScope() != scope {
		t.Errorf("the id scope changed from %s to %s", scope, p.IDScope())
	}
	if answer, op = p.http("GET", poll, p.token("Dev-1"), ""); answer.StatusCode != 200 || op.Status != "assigned" {
		t.Errorf("after a restart: %d %+v", answer.StatusCode, op)
	}
	if answer, _ = p.http("POST", strings.ToLower(base[len(scope)+1:]), p.token("Dev-1"), ""); answer.StatusCode != 404 {
		t.Errorf("a path without scope: %d", answer.StatusCode)
	}
	r, op := p.http("POST", base, p.token("Dev-1"), `{"registrationId":"Dev-1"}`)
	if r.StatusCode != 200 || op.Status != "assigned" {
		t.Errorf("look-up: %d %+v", r.StatusCode, op)
	}
}

func TestWhatHTTPSRefuses(t *testing.T) {
	p := start(t)
	base := "/" + p.IDScope() + "/registrations/"
	for _, c := range []struct {
		name, method, path, token, body string
		status, code                    int
	}{
		{"no credentials", "PUT", base + "d/register", "", "", 401, 401002},
		{"nonsense", "PUT", base + "d/register", "Bearer x", "", 401, 401002},
		{"another's token", "PUT", base + "d/register", p.token("e"), "", 401, 401002},
		{"the group's own key", "PUT", base + "d/register", sastoken.Sign(groupKey, p.IDScope()+"%2Fregistrations%2Fd", time.Now().Add(time.Hour), ""), "", 401, 401002},
		{"another scope", "PUT", "/0ne00000000/registrations/d/register", p.token("d"), "", 401, 401002},
		{"an id that cannot be", "PUT", base + "d%20d/register", p.token("d d"), "", 401, 401002},
		{"another id in the body", "PUT", base + "d/register", p.token("d"), `{"registrationId":"e"}`, 400, 400004},
		{"a body that is no JSON", "PUT", base + "d/register", p.token("d"), `{"registrationId`, 400, 400004},
		{"a body too large", "PUT", base + "d/register", p.token("d"), strings.Repeat(" ", 96<<10+1), 413, 413001},
		{"unknown operation", "GET", base + "d/operations/x.1", p.token("d"), "", 404, 404201},
		{"look-up before registering", "POST", base + "d", p.token("d"), "", 404, 404201},
		{"another verb", "DELETE", base + "d", p.token("d"), "", 404, 404201},
		{"a bad escape", "PUT", base + "d/register/x/y/z", p.token("d"), "", 404, 404201},
	} {
		answer, op := p.http(c.method, c.path, c.token, c.body)
		if answer.StatusCode != c.status || op.ErrorCode != c.code || op.TrackingID == "" || answer.Header.Get("X-Ms-Error-Code") == "" {
			t.Errorf("%s: %d %+v", c.name, answer.StatusCode, op)
		}
	}
	p.enrol(true)
	// A disabled enrolment is refused as wrong credentials are, with a 401: SDKs
	// give up on it, and know no better answer.
	if answer, op := p.http("PUT", base+"d/register", p.token("d"), ""); answer.StatusCode != 401 || op.ErrorCode != 401002 {
		t.Errorf("disabled: %d %+v", answer.StatusCode, op)
	}
}

// device is the client's side of an MQTT conversation.
type device struct {
	*mqtt.ClientConn
	t *testing.T
}

func (p *plane) dial(id, client, user, password string) (*device, mqtt.ConnackCode) {
	p.t.Helper()
	ours, theirs := net.Pipe()
	conn := mqtt.NewConn(theirs, mqtt.Limits{MaxPacket: 256 << 10, ConnectTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, MaxKeepAlive: time.Minute, MaxBuffered: 1 << 20})
	served := make(chan struct{})
	go func() {
		defer close(served)
		if connect, err := conn.ReadConnect(); err == nil {
			p.ServeMQTT(context.Background(), conn, connect)
		}
	}()
	d := &device{mqtt.NewClientConn(ours, 256<<10), p.t}
	p.t.Cleanup(func() {
		if err := d.Close(); err != nil {
			p.t.Error(err)
		}
		<-served
	})
	if err := d.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	connack, err := d.Connect(p.t.Context(), &mqtt.Connect{ProtocolName: "MQTT", ProtocolLevel: 4, ClientID: client, CleanSession: true,
		Username: user, HasUsername: true, Password: []byte(password), HasPassword: password != "", KeepAlive: 60})
	if err != nil {
		p.t.Fatalf("connect %s: %v", id, err)
	}
	return d, connack.Code
}

func (p *plane) connected(id string) *device {
	p.t.Helper()
	d, code := p.dial(id, id, p.IDScope()+"/registrations/"+id+"/api-version=2019-03-31&ClientVersion=x", p.token(id))
	if code != mqtt.Accepted {
		p.t.Fatalf("connect %s: %v", id, code)
	}
	d.send(&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Topic: "$dps/registrations/res/#", QoS: 1}}})
	if ack, ok := d.next().(*mqtt.Suback); !ok || ack.Codes[0] != 1 {
		p.t.Fatalf("subscribe: %+v", ack)
	}
	return d
}

func (d *device) send(packet mqtt.Packet) {
	d.t.Helper()
	if err := d.Write(packet); err != nil {
		d.t.Fatal(err)
	}
}

func (d *device) next() mqtt.Packet {
	d.t.Helper()
	packet, err := d.Next()
	if err != nil {
		d.t.Fatal(err)
	}
	return packet
}

// request publishes at QoS 1 and returns the topic and body of the answer.
func (d *device) request(topic, body string) (string, operation) {
	d.t.Helper()
	d.send(&mqtt.Publish{Topic: topic, Payload: []byte(body), QoS: 1, PacketID: 7})
	if ack, ok := d.next().(*mqtt.Puback); !ok || ack.PacketID != 7 {
		d.t.Fatalf("%s was not acknowledged", topic)
	}
	answer, ok := d.next().(*mqtt.Publish)
	if !ok {
		d.t.Fatalf("%s: no answer", topic)
	}
	var op operation
	if err := json.Unmarshal(answer.Payload, &op); err != nil {
		d.t.Fatal(err)
	}
	for _, c := range answer.Payload {
		if c >= 0x80 {
			d.t.Errorf("%s: the answer is not ASCII: %s", topic, answer.Payload)
			break
		}
	}
	topic = answer.Topic
	d.send(&mqtt.Puback{PacketID: answer.PacketID})
	return topic, op
}

const (
	register = "$dps/registrations/PUT/iotdps-register/?$rid="
	status   = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid="
)

func TestRegisterOverMQTT(t *testing.T) {
	p := start(t)
	d := p.connected("Dev-2")
	topic, op := d.request(register+"a%20b.1", `{"registrationId":"Dev-2","payload":{"x":1}}`)
	if topic != "$dps/registrations/res/202/?$rid=a%20b.1&retry-after=1" || op.Status != "assigning" || op.OperationID == "" {
		t.Fatalf("register: %s %+v", topic, op)
	}
	until(t, "assigned", func() bool {
		topic, op = d.request(status+"2&operationId="+op.OperationID, " ")
		return op.Status == "assigned"
	})
	if topic != "$dps/registrations/res/200/?$rid=2" || op.State.AssignedHub != "test-1.example.org:8884" {
		t.Errorf("assigned: %s %+v", topic, op)
	}
	d.send(&mqtt.Pingreq{})
	if _, ok := d.next().(*mqtt.Pingresp); !ok {
		t.Error("no answer to a ping")
	}
	// Registering again keeps the stamp.
	_, op = d.request(register+"3", `{"registrationId":"dev-2"}`)
	until(t, "assigned again", func() bool {
		_, op = d.request(status+"4&operationId="+op.OperationID, "")
		return op.Status == "assigned"
	})
	if op.State.Substatus != "reprovisionedToInitialAssignment" {
		t.Errorf("again: %+v", op)
	}
	for _, c := range []struct{ name, topic, body, want string }{
		{"another id", register + "5", `{"registrationId":"other"}`, "400"},
		{"no JSON", register + "6", `{`, "400"},
		{"beyond ASCII", register + "7", `{"registrationId":"größer 😀"}`, "400"},
		{"too large", register + "8", strings.Repeat(" ", 96<<10+1), "413"},
		{"unknown operation", status + "9&operationId=x.1", " ", "404"},
		{"no operation", status + "9", " ", "404"},
	} {
		if topic, op := d.request(c.topic, c.body); !strings.HasPrefix(topic, "$dps/registrations/res/"+c.want+"/?$rid=") || op.ErrorCode == 0 || strings.Contains(topic, "retry-after") {
			t.Errorf("%s: %s %+v", c.name, topic, op)
		}
	}
	p.enrol(true)
	if topic, op := d.request(register+"10", "{}"); !strings.HasPrefix(topic, "$dps/registrations/res/401/") || op.ErrorCode != 401002 {
		t.Errorf("disabled since the device connected: %s %+v", topic, op)
	}
	if e := ask(p, link.EnrollmentGet, link.EnrollmentRef{Kind: link.Group, Name: "LINE-7"}); e.Devices != 1 {
		t.Errorf("the enrolment counts %d devices", e.Devices)
	}
}

func TestWhomMQTTRefuses(t *testing.T) {
	p := start(t)
	user := p.IDScope() + "/registrations/d/api-version=2019-03-31"
	for _, c := range []struct{ name, client, user, password string }{
		{"another scope", "d", "0ne00000000/registrations/d/api-version=2019-03-31", p.token("d")},
		{"another client id", "e", user, p.token("d")},
		{"another's token", "d", user, p.token("e")},
		{"no password", "d", user, ""},
		{"nonsense", "d", user, "SharedAccessSignature"},
		{"an id that cannot be", "d+", p.IDScope() + "/registrations/d+/", p.token("d+")},
	} {
		if _, code := p.dial("d", c.client, c.user, c.password); code != mqtt.NotAuthorized {
			t.Errorf("%s: %v", c.name, code)
		}
	}
}

func TestWhatEndsAConversation(t *testing.T) {
	p := start(t)
	for name, packet := range map[string]mqtt.Packet{
		"a foreign filter":  &mqtt.Subscribe{PacketID: 2, Filters: []mqtt.Filter{{Topic: "$dps/#"}}},
		"a foreign topic":   &mqtt.Publish{Topic: "devices/d/messages/events/", QoS: 1, PacketID: 2},
		"QoS 2":             &mqtt.Publish{Topic: register + "1", QoS: 2, PacketID: 2},
		"a second CONNECT":  &mqtt.Connect{ProtocolName: "MQTT", ProtocolLevel: 4, ClientID: "d", CleanSession: true},
		"a server's packet": &mqtt.Suback{PacketID: 1, Codes: []byte{0}},
	} {
		d := p.connected("d")
		d.send(packet)
		if answer, err := d.Next(); err == nil {
			t.Errorf("%s was answered with %T", name, answer)
		}
	}
}
