package device

import (
	"net"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/mqtt"
)

func FuzzProvisioningsAnswer(f *testing.F) {
	f.Add("200", "$rid=1&retry-after=3", []byte(`{"status":"assigned","registrationState":{"assignedHub":"h","deviceId":"d"}}`))
	f.Add("429", "retry-after=99999999999999999999", []byte(`{"errorCode":429001,"message":"later"}`))
	f.Add("x", "&&=", []byte(`{`))
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, status, query string, body []byte) {
		answer, after, err := readAnswer(status, query, body, now)
		if after < 0 || after > time.Hour {
			t.Errorf("waits %s", after)
		}
		if err == nil && !pending(answer) {
			if a, err := decided(answer); err == nil && (a.Hub == "" || a.DeviceID == "") {
				t.Errorf("assigned to %+v", a)
			}
		}
	})
}

func FuzzWhatAHubSends(f *testing.F) {
	f.Add("$iothub/twin/res/200/?$rid=1&$version=2", []byte(`{}`), byte(0))
	f.Add("$iothub/twin/PATCH/properties/desired/?$version=x", []byte(`{}`), byte(1))
	f.Add("$iothub/methods/POST/m/?$rid=1", []byte(`null`), byte(0))
	f.Add("devices/d/messages/devicebound/%24.mid=1&a=%2", []byte("b"), byte(1))
	client, err := New(Config{Provisioning: "p", IDScope: "s", RegistrationID: "d", Key: []byte("key")})
	if err != nil {
		f.Fatal(err)
	}
	client.OnDesired(func(int64, []byte) {})
	client.OnMessage(func(Message) {})
	theirs, ours := net.Pipe()
	f.Cleanup(func() { theirs.Close(); ours.Close() })
	if err := theirs.Close(); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, topic string, body []byte, qos byte) {
		s := &session{client: client, conn: mqtt.NewClientConn(ours, maxPacket), requests: map[string]chan reply{"1": make(chan reply, 1)}}
		if !s.received(t.Context(), &mqtt.Publish{Topic: topic, Payload: body, QoS: qos & 1, PacketID: 1}) {
			t.Error("no room, though nothing waits")
		}
		for call, _ := client.inbox.take(); call != nil; call, _ = client.inbox.take() {
			call()
		}
	})
}
