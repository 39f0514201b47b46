package test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/sastoken"
)

// TestBadInput sends what nobody should, and expects the answers that
// docs/operating.md lists; afterwards the server is as it was.
func TestBadInput(t *testing.T) {
	in := start(t)
	in.enrol()
	if _, err := in.register("good"); err != nil {
		t.Fatal(err)
	}
	in.apply("apiVersion: slipway/v1\nkind: Enrollment\nmetadata: { name: off }\nspec: { environment: test, disabled: true, attestation: { symmetricKey: { primaryKey: " + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=" + " } } }\n")
	before := in.must("export")
	open := in.descriptors(t)
	for range 3 { // what leaks a little leaks visibly in the third round
		refusedConnects(t, in)
		cutConnections(t, in)
		noise(t, in)
		refusedRequests(t, in)
	}
	refusedFiles(t, in)
	if after := in.must("export"); after != before {
		t.Errorf("something was half applied:\n%s\nbecame\n%s", before, after)
	}
	eventually(t, "every connection is closed again", 40*time.Second, func() bool { return in.descriptors(t) <= open+10 })
	conn, err := in.hub("good", in.stamp("test-1"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.publish("still well"); err != nil {
		t.Error(err)
	}
}

// descriptors counts the server's open files and sockets.
func (in *installation) descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", in.process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// refusedConnects are answered with CONNACK 5.
func refusedConnects(t *testing.T, in *installation) {
	test, scope := in.stamp("test-1"), in.ready.Provisioning.IDScope
	key := device.DeriveKey(groupKey, "good")
	sign := func(resource string, with []byte, life time.Duration) []byte {
		return []byte(sastoken.Sign(with, strings.ReplaceAll(resource, "/", "%2F"), time.Now().Add(life), ""))
	}
	hub := func(id, host string, password []byte) *mqtt.Connect {
		return &mqtt.Connect{ClientID: id, CleanSession: true, Username: host + "/" + id + "/?api-version=2021-04-12", Password: password}
	}
	dps := func(id, scope string, password []byte) *mqtt.Connect {
		return &mqtt.Connect{ClientID: id, CleanSession: true, Username: scope + "/registrations/" + id + "/api-version=2019-03-31", Password: password}
	}
	for name, connect := range map[string]*mqtt.Connect{
		"unknown device":          hub("nobody", test.Host, sign(test.Host+"/devices/nobody", key, time.Hour)),
		"unknown host":            hub("good", "other.example.com", sign("other.example.com/devices/good", key, time.Hour)),
		"another stamp's host":    hub("good", in.stamp("production-eu-1").Host, sign(in.stamp("production-eu-1").Host+"/devices/good", key, time.Hour)),
		"expired token":           hub("good", test.Host, sign(test.Host+"/devices/good", key, -time.Hour)),
		"forged token":            hub("good", test.Host, sign(test.Host+"/devices/good", []byte("not the key of this device at all"), time.Hour)),
		"the group's own key":     hub("good", test.Host, sign(test.Host+"/devices/good", groupKey, time.Hour)),
		"foreign token":           hub("good", test.Host, sign(test.Host+"/devices/goo", key, time.Hour)),
		"garbage token":           hub("good", test.Host, []byte("SharedAccessSignature sr=&sig=%%%&se=x")),
		"oversized token":         hub("good", test.Host, bytes.Repeat([]byte("x"), 60000)),
		"client id of another":    {ClientID: "bad", CleanSession: true, Username: test.Host + "/good/?api-version=1", Password: sign(test.Host+"/devices/good", key, time.Hour)},
		"provisioning: unknown":   dps("stranger", scope, sign(scope+"/registrations/stranger", []byte("not the group's key, that is sure"), time.Hour)),
		"provisioning: group key": dps("good", scope, sign(scope+"/registrations/good", groupKey, time.Hour)),
		"provisioning: scope":     dps("good", "0ne00000000", sign("0ne00000000/registrations/good", key, time.Hour)),
		"provisioning: disabled":  dps("off", scope, sign(scope+"/registrations/off", groupKey, time.Hour)),
		"provisioning: odd id":    dps("a b\x01", scope, sign(scope+"/registrations/a b", key, time.Hour)),
	} {
		_, err := in.open(test.Host, test.MQTTS, connect)
		if err != refused(mqtt.NotAuthorized) {
			t.Errorf("%s: %v", name, err)
		}
	}
	in.withCertificate(t, test.Host, test.MQTTS)
}

// withCertificate connects with a certificate nobody enrolled.
func (in *installation) withCertificate(t *testing.T, host string, port int) {
	t.Helper()
	leaf := newLeaf(t, "good", nil, nil)
	pair, err := tls.X509KeyPair([]byte(leaf.cert), []byte(leaf.key))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := tls.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(port)), &tls.Config{RootCAs: in.pool, ServerName: host, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	conn := mqtt.NewClientConn(nc, 1<<20)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	connack, err := conn.Connect(ctx, &mqtt.Connect{ProtocolName: "MQTT", ProtocolLevel: 4, ClientID: "good", CleanSession: true, HasUsername: true, Username: host + "/good/?api-version=2021-04-12"})
	if err != nil || connack.Code != mqtt.NotAuthorized {
		t.Errorf("a certificate nobody enrolled: %+v, %v", connack, err)
	}
}

// cutConnections are cut without a word: MQTT 3.1.1 has none.
func cutConnections(t *testing.T, in *installation) {
	test := in.stamp("test-1")
	bytesOf := func(p mqtt.Packet) []byte { return p.AppendTo(nil) }
	for name, packet := range map[string][]byte{
		"foreign topic":     bytesOf(&mqtt.Publish{Topic: "devices/other/messages/events/"}),
		"unknown topic":     bytesOf(&mqtt.Publish{Topic: "$SYS/broker"}),
		"QoS 2":             bytesOf(&mqtt.Publish{Topic: "devices/good/messages/events/", QoS: 2, PacketID: 1}),
		"foreign filter":    bytesOf(&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Topic: "devices/other/messages/devicebound/#"}}}),
		"all topics":        bytesOf(&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Topic: "#"}}}),
		"second CONNECT":    bytesOf(&mqtt.Connect{ProtocolName: "MQTT", ProtocolLevel: 4, CleanSession: true}),
		"malformed bag":     bytesOf(&mqtt.Publish{Topic: "devices/good/messages/events/a=%zz"}),
		"oversized message": bytesOf(&mqtt.Publish{Topic: "devices/good/messages/events/", Payload: make([]byte, 262145)}),
		"oversized packet":  bytesOf(&mqtt.Publish{Topic: "devices/good/messages/events/", Payload: make([]byte, 900000)}),
		"endless length":    {0x30, 0xff, 0xff, 0xff, 0xff, 0xff},
		"no such type":      {0xf0, 0x00},
		"QoS 3":             {0x36, 0x05, 0, 1, 'a', 0, 1},
		"not UTF-8":         {0x30, 0x04, 0, 2, 0xff, 0xfe},
		"packet id 0":       {0x32, 0x05, 0, 1, 'a', 0, 0},
	} {
		conn, err := in.hub("good", test, true)
		for err == refused(mqtt.ServerUnavailable) { // one device, many connections: the hub slows them down
			<-time.After(200 * time.Millisecond)
			conn, err = in.hub("good", test, true)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := conn.WriteRaw(packet); err != nil {
			t.Logf("%s: cut while writing: %v", name, err)
		}
		if answer, err := conn.Next(); err == nil {
			t.Errorf("%s was answered with %+v", name, answer)
		}
		conn.Close()
	}
}

// noise is what is no MQTT, or no TLS.
func noise(t *testing.T, in *installation) {
	address := in.provisioningAddress()
	for name, text := range map[string]string{"HTTP without TLS": "GET / HTTP/1.1\r\n\r\n", "zeros": strings.Repeat("\x00", 5000), "a cut handshake": "\x16\x03\x01\x02\x00\x01"} {
		nc, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(nc, text); err != nil {
			t.Logf("%s: %v", name, err)
		}
		nc.Close()
	}
	for name, packet := range map[string][]byte{
		"no CONNECT first": (&mqtt.Pingreq{}).AppendTo(nil), "garbage": []byte("\xff\xff\xff\xff\xff\xff\xff"),
		emptyID: (&mqtt.Connect{ProtocolName: "MQTT", ProtocolLevel: 4}).AppendTo(nil),
	} {
		conn, err := in.dial(in.ready.Provisioning.Host, in.ready.Provisioning.MQTTS)
		if err != nil {
			t.Fatal(err)
		}
		if err := (&raw{ClientConn: conn}).WriteRaw(packet); err != nil {
			t.Logf("%s: %v", name, err)
		}
		answer, err := conn.Next()
		if refusal, ok := answer.(*mqtt.Connack); ok && name == emptyID && refusal.Code == mqtt.IdentifierRejected {
			answer, err = conn.Next() // the one thing that is answered before the connection is closed: 3.1.3-8
		}
		if err == nil {
			t.Errorf("%s was answered with %+v", name, answer)
		}
		conn.Close()
	}
}

// emptyID is a CONNECT without a client id that wants its session kept.
const emptyID = "empty id, session kept"

// WriteRaw sends bytes as they are.
func (r *raw) WriteRaw(b []byte) error { return r.Write(rawPacket(b)) }

type rawPacket []byte

// AppendTo appends the bytes.
func (p rawPacket) AppendTo(dst []byte) []byte { return append(dst, p...) }

// refusedRequests have a status and a body that says why.
func refusedRequests(t *testing.T, in *installation) {
	token := in.ready.AdminToken
	for _, c := range []struct {
		method, path, token, body string
		status                    int
		says                      string
	}{
		{"GET", "/api/v1/devices", "", "", 401, "Authorization: Bearer"},
		{"GET", "/api/v1/devices", "slp_wrong", "", 401, "not known or has expired"},
		{"GET", "/api/v1/devices?where=tags.", token, "", 400, "expected a key"},
		{"GET", "/api/v1/devices?limit=-1", token, "", 400, "limit"},
		{"GET", "/api/v1/devices/nobody", token, "", 404, "no device"},
		{"GET", "/api/v1/nothing", token, "", 404, "openapi.json"},
		{"DELETE", "/api/v1/environments/test", token, "", 409, "stamps"},
		{"PUT", "/api/v1/environments/UPPER", token, `{"spec":{}}`, 400, "a-z"},
		{"PUT", "/api/v1/environments/x", token, `{"spec":{"promotesFrom":"nowhere"}}`, 400, "nowhere"},
		{"PUT", "/api/v1/environments/test", token, `{"spec":{"promotesFrom":"production"}}`, 400, "circle"},
		{"PUT", "/api/v1/environments/x", token, `{"spec":{"colour":"red"}}`, 400, "colour"},
		{"PUT", "/api/v1/environments/x", token, `{`, 400, ""},
		{"PUT", "/api/v1/stamps/test-1", token, `{"spec":{"environment":"production","region":"r"}}`, 409, "cannot change"},
		{"PUT", "/api/v1/stamps/x", token, `{"spec":{"environment":"test","region":"r","capacity":-5}}`, 400, "capacity"},
		{"PUT", "/api/v1/enrollments/x", token, `{"spec":{"environment":"test","attestation":{}}}`, 400, "symmetricKey"},
		{"PUT", "/api/v1/enrollments/x", token, `{"spec":{"environment":"test","attestation":{"symmetricKey":{"primaryKey":"c2hvcnQ="}}}}`, 400, "16 to 64"},
		{"POST", "/api/v1/moves", token, `{"to":"nowhere","devices":["good"]}`, 400, "nowhere"},
		{"POST", "/api/v1/moves", token, `{"to":"production"}`, 400, "name devices"},
		{"PATCH", "/api/v1/devices/good/twin", token, `{"desired":{}}`, 400, "properties.desired"},
		{"PATCH", "/api/v1/devices/good/twin", token, `[1]`, 400, "object"},
		{"PATCH", "/api/v1/devices/good/twin", token, `{"tags":{"a.b":1}}`, 400, "a.b"},
		{"PATCH", "/api/v1/devices/good/twin", token, `{"tags":{"a":"` + strings.Repeat("x", 9000) + `"}}`, 413, "4096"},
		{"POST", "/api/v1/devices/good/methods/x", token, `{"responseTimeoutSeconds":999}`, 400, "300"},
		{"POST", "/api/v1/devices/good/methods/x", token, `{}`, 503, "not connected"},
		{"POST", "/api/v1/devices/good/commands", token, `{"bodyBase64":"` + strings.Repeat("AAAA", 25000) + `"}`, 413, "65536"},
		{"PUT", "/api/v1/environments/x", token, `{"spec":{"displayName":"` + strings.Repeat("x", 2<<20) + `"}}`, 413, ""},
	} {
		status, body := in.request(t, c.method, c.path, c.token, c.body)
		var p struct {
			Status       int
			Type, Detail string
		}
		if status != c.status || !strings.Contains(body, c.says) || json.Unmarshal([]byte(body), &p) != nil || p.Status != c.status || !strings.HasPrefix(p.Type, "urn:slipway:problem:") {
			t.Errorf("%s %s %.80s: %d %s; want %d and %q", c.method, c.path, c.body, status, body, c.status, c.says)
		}
	}
	for _, c := range []struct {
		method, id, rest, body string
		status                 int
		code                   string
	}{
		{"PUT", "good", "/register", `{"registrationId":"other"}`, 400, "400004"},
		{"PUT", "good", "/register", `{`, 400, "400004"},
		{"PUT", "good", "/register", `{"payload":"` + strings.Repeat("x", 100<<10) + `"}`, 413, "413001"},
		{"GET", "good", "/operations/guess.1", "", 404, "404201"},
		{"DELETE", "good", "", "", 404, "404201"},
		{"PUT", "off", "/register", "", 401, "401002"},
	} {
		if status, body, _, err := in.call(c.method, c.id, c.rest, c.body); err != nil || status != c.status || !strings.Contains(body, c.code) {
			t.Errorf("%s %s%s: %d %s, %v; want %d %s", c.method, c.id, c.rest, status, body, err, c.status, c.code)
		}
	}
}

func (in *installation) request(t *testing.T, method, path, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, in.ready.API+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := in.https().Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// refusedFiles are refused before anything is sent, with the line at fault.
func refusedFiles(t *testing.T, in *installation) {
	for text, says := range map[string]string{
		"apiVersion: slipway/v1\nkind: Stamp\nmetadata: { name: s }\nspec: { environment: test, region: r, capcity: 1 }\n": ":4:",
		"apiVersion: slipway/v1\nkind: Stamp\nmetadata: { name: s }\nspec: [\n":                                            ":4",
		"hello\n": "object",
	} {
		file := filepath.Join(t.TempDir(), "bad.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := in.run("apply", "-f", file); err == nil || !strings.Contains(out, says) {
			t.Errorf("%q: %v\n%s", text, err, out)
		}
	}
}
