package mqtt_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/slipway/slipway/internal/mqtt"
)

var connect = &mqtt.Connect{
	ProtocolName: "MQTT", ProtocolLevel: 4, ClientID: "dev1", KeepAlive: 180, HasUsername: true, Username: "h/dev1/?api-version=2021-04-12",
	HasPassword: true, Password: []byte("SharedAccessSignature sr=h"), Will: &mqtt.Will{Topic: "w", Payload: []byte("bye"), QoS: 1, Retain: true},
}

var packets = []mqtt.Packet{
	connect,
	&mqtt.Connect{ProtocolName: "MQTT", ProtocolLevel: 4, CleanSession: true},
	&mqtt.Connack{SessionPresent: true}, &mqtt.Connack{Code: mqtt.NotAuthorized},
	&mqtt.Publish{Topic: "a/b", Payload: []byte("x")}, &mqtt.Publish{Topic: "é", Payload: []byte{}, QoS: 1, PacketID: 7, Dup: true, Retain: true},
	&mqtt.Publish{Topic: "big", Payload: bytes.Repeat([]byte("x"), 300000), QoS: 1, PacketID: 1},
	&mqtt.Puback{PacketID: 1}, &mqtt.Pubrec{PacketID: 2}, &mqtt.Pubrel{PacketID: 3}, &mqtt.Pubcomp{PacketID: 65535},
	&mqtt.Subscribe{PacketID: 9, Filters: []mqtt.Filter{{Topic: "a/+/#", QoS: 1}, {Topic: "+"}}},
	&mqtt.Suback{PacketID: 9, Codes: []byte{0, 1, mqtt.SubackFailure}},
	&mqtt.Unsubscribe{PacketID: 10, Topics: []string{"#"}}, &mqtt.Unsuback{PacketID: 10},
	&mqtt.Pingreq{}, &mqtt.Pingresp{}, &mqtt.Disconnect{},
}

// copied detaches a packet from the reader that owns it.
func copied(p mqtt.Packet) mqtt.Packet {
	if publish, ok := p.(*mqtt.Publish); ok {
		c := *publish
		c.Payload = append([]byte{}, publish.Payload...)
		return &c
	}
	return p
}

func TestPacketsSurviveTheWire(t *testing.T) {
	var stream []byte
	for _, p := range packets {
		stream = p.AppendTo(stream)
	}
	for name, r := range map[string]io.Reader{
		"whole": bytes.NewReader(stream), "byte by byte": iotest.OneByteReader(bytes.NewReader(stream)), "halves": iotest.HalfReader(bytes.NewReader(stream)),
	} {
		reader := mqtt.NewReader(r, 1<<20)
		for i, want := range packets {
			got, err := reader.Next()
			if err != nil {
				t.Fatalf("%s: packet %d: %v", name, i, err)
			}
			if !reflect.DeepEqual(copied(got), want) {
				t.Errorf("%s: packet %d is %+v, want %+v", name, i, got, want)
			}
		}
		if _, err := reader.Next(); err != io.EOF {
			t.Errorf("%s: at the end: %v", name, err)
		}
	}
}

func TestMalformedPackets(t *testing.T) {
	for clause, stream := range map[string]string{
		"MQTT-2.2.1":    "\x00\x00",
		"MQTT-2.2.2-2":  "\x82\x00"[:0] + "\x80\x05\x00\x01\x00\x01a",
		"MQTT-2.2.3":    "\xc0\xff\xff\xff\xff\x01",
		"MQTT-2.3.1-1":  "\x32\x05\x00\x01a\x00\x00",
		"MQTT-1.5.3-1":  "\x30\x03\x00\x01\xff",
		"MQTT-1.5.3-2":  "\x30\x03\x00\x01\x00",
		"MQTT-3.3.1-4":  "\x36\x05\x00\x01a\x00\x01",
		"MQTT-3.3.1-2":  "\x38\x03\x00\x01a",
		"MQTT-3.3.2-2":  "\x30\x03\x00\x01#",
		"MQTT-3.1.2-1":  "\x10\x0c\x00\x04MQTX\x04\x02\x00\x00\x00\x00",
		"MQTT-3.1.2-3":  "\x10\x0c\x00\x04MQTT\x04\x03\x00\x00\x00\x00",
		"MQTT-3.1.2-13": "\x10\x0c\x00\x04MQTT\x04\x22\x00\x00\x00\x00",
		"MQTT-3.1.2-14": "\x10\x0c\x00\x04MQTT\x04\x1e\x00\x00\x00\x00",
		"MQTT-3.1.2-22": "\x10\x0e\x00\x04MQTT\x04\x42\x00\x00\x00\x00\x00\x00",
		"MQTT-3.2.2-1":  "\x20\x02\x02\x00",
		"MQTT-3.8.3-3":  "\x82\x02\x00\x01",
		"MQTT-3-8.3-4":  "\x82\x06\x00\x01\x00\x01a\x03",
		"MQTT-4.7.1-2":  "\x82\x08\x00\x01\x00\x03#/a\x00",
		"MQTT-4.7.3-1":  "\x82\x05\x00\x01\x00\x00\x00",
		"MQTT-3.10.3-2": "\xa2\x02\x00\x01",
		"MQTT-3.9.3-2":  "\x90\x03\x00\x01\x05",
	} {
		_, err := mqtt.NewReader(strings.NewReader(stream), 1<<20).Next()
		if !errors.Is(err, mqtt.ErrMalformed) || !strings.Contains(err.Error(), clause) {
			t.Errorf("%s: %v", clause, err)
		}
	}
	for name, stream := range map[string]string{"trailing byte": "\xc0\x01x", "short string": "\x30\x03\x00\x05a"} {
		if _, err := mqtt.NewReader(strings.NewReader(stream), 1<<20).Next(); !errors.Is(err, mqtt.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := mqtt.NewReader(strings.NewReader("\x30\xff\xff\xff\x7f"), 1000).Next(); !errors.Is(err, mqtt.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, err := mqtt.NewReader(strings.NewReader("\x30\x05\x00"), 1000).Next(); err != io.ErrUnexpectedEOF {
		t.Errorf("cut off: %v", err)
	}
}

var limits = mqtt.Limits{MaxPacket: 1 << 20, ConnectTimeout: 5 * time.Second, WriteTimeout: time.Second, MaxKeepAlive: time.Minute, MaxBuffered: 1 << 20}

// pair is a server's and a client's side over loopback TCP.
func pair(t *testing.T, limits mqtt.Limits) (*mqtt.Conn, *mqtt.ClientConn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server, client := mqtt.NewConn(accepted, limits), mqtt.NewClientConn(raw, 1<<20)
	t.Cleanup(func() { server.Close(); client.Close() })
	return server, client, raw
}

func accept(t *testing.T, server *mqtt.Conn, client *mqtt.ClientConn, keepAlive uint16) {
	t.Helper()
	answered := make(chan *mqtt.Connack, 1)
	go func() {
		connack, err := client.Connect(t.Context(), connect)
		if err != nil {
			t.Error(err)
		}
		answered <- connack
	}()
	got, err := server.ReadConnect()
	if err != nil || !reflect.DeepEqual(got, connect) {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := server.Accept(true, keepAlive); err != nil {
		t.Fatal(err)
	}
	if connack := <-answered; connack == nil || !connack.SessionPresent || connack.Code != mqtt.Accepted {
		t.Fatalf("answered %+v", connack)
	}
}

func TestConversation(t *testing.T) {
	server, client, _ := pair(t, limits)
	accept(t, server, client, 60)
	for i := range 100 {
		if err := client.Write(&mqtt.Publish{Topic: "t", QoS: 1, PacketID: uint16(i + 1), Payload: bytes.Repeat([]byte{byte(i)}, i*37)}); err != nil {
			t.Fatal(err)
		}
		p, err := server.Next()
		if err != nil || len(p.(*mqtt.Publish).Payload) != i*37 {
			t.Fatalf("%+v, %v", p, err)
		}
		if err := server.Send(&mqtt.Puback{PacketID: p.(*mqtt.Publish).PacketID}); err != nil {
			t.Fatal(err)
		}
		if ack, err := client.Next(); err != nil || ack.(*mqtt.Puback).PacketID != uint16(i+1) {
			t.Fatalf("%+v, %v", ack, err)
		}
	}
	if err := client.Write(connect); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Next(); !errors.Is(err, mqtt.ErrMalformed) {
		t.Errorf("a second CONNECT: %v", err)
	}
}

func TestSilenceEndsAConnection(t *testing.T) {
	short := limits
	short.MaxKeepAlive = 30 * time.Millisecond
	server, client, _ := pair(t, short)
	accept(t, server, client, 0)
	if _, err := server.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestFirstPacketMustBeAConnectInTime(t *testing.T) {
	server, client, _ := pair(t, limits)
	if err := client.Write(&mqtt.Pingreq{}); err != nil {
		t.Fatal(err)
	}
	if _, err := server.ReadConnect(); !errors.Is(err, mqtt.ErrMalformed) {
		t.Errorf("got %v", err)
	}
	short := limits
	short.ConnectTimeout = 20 * time.Millisecond
	server, _, _ = pair(t, short)
	if _, err := server.ReadConnect(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	server, client, _ = pair(t, limits)
	if err := client.Write(&mqtt.Connect{ProtocolName: "MQTT", ProtocolLevel: 5, CleanSession: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := server.ReadConnect(); err == nil {
		t.Error("MQTT 5 was let in")
	}
	if answer, err := client.Next(); err != nil || answer.(*mqtt.Connack).Code != mqtt.UnacceptableProtocol {
		t.Errorf("answered %+v, %v", answer, err)
	}
}

func TestSlowClientIsCut(t *testing.T) {
	small := limits
	small.MaxBuffered = 64 << 10
	server, client, _ := pair(t, small)
	accept(t, server, client, 60)
	payload := make([]byte, 32<<10)
	for {
		err := server.Send(&mqtt.Publish{Topic: "t", Payload: payload})
		if errors.Is(err, mqtt.ErrSlowClient) || errors.Is(err, net.ErrClosed) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	<-server.Done()
}

func TestCloseUnblocksNext(t *testing.T) {
	server, client, _ := pair(t, limits)
	accept(t, server, client, 60)
	ended := make(chan error, 1)
	go func() { _, err := server.Next(); ended <- err }()
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("Next returned a packet from a closed connection")
	}
	if err := server.Send(&mqtt.Pingresp{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Send after Close: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	for _, p := range packets {
		if encoded := p.AppendTo(nil); len(encoded) < 1000 {
			f.Add(encoded)
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		whole, split := mqtt.NewReader(bytes.NewReader(stream), 4096), mqtt.NewReader(iotest.OneByteReader(bytes.NewReader(stream)), 4096)
		for {
			p, err := whole.Next()
			p2, err2 := split.Next()
			if (err == nil) != (err2 == nil) {
				t.Fatalf("whole: %v, split: %v", err, err2)
			}
			if err != nil {
				return
			}
			if c, ok := p.(*mqtt.Connect); ok && c.ProtocolLevel != 4 {
				continue
			}
			encoded := p.AppendTo(nil)
			if !bytes.Equal(encoded, p2.AppendTo(nil)) {
				t.Fatalf("%+v and %+v", p, p2)
			}
			if !bytes.Contains(stream, encoded) {
				t.Fatalf("%+v encodes to %x, which was not in %x", p, encoded, stream)
			}
		}
	})
}

// endless repeats a packet for ever.
type endless struct {
	packet []byte
	at     int
}

func (e *endless) Read(b []byte) (int, error) {
	n := copy(b, e.packet[e.at:])
	e.at = (e.at + n) % len(e.packet)
	return n, nil
}

func BenchmarkReadPublish(b *testing.B) {
	p := &mqtt.Publish{Topic: "devices/sensor-0001/messages/events/", Payload: make([]byte, 128), QoS: 1, PacketID: 1}
	reader := mqtt.NewReader(&endless{packet: p.AppendTo(nil)}, 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := reader.Next(); err != nil {
			b.Fatal(err)
		}
	}
}
