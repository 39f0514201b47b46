package test

import (
	"crypto/tls"
	bits "encoding/binary"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/up"
)

// wire speaks MQTT byte by byte, so that nothing between the test and the
// server makes anything right.
type wire struct {
	t *testing.T
	*tls.Conn
}

func (in *installation) wire(t *testing.T, s up.ReadyStamp) *wire {
	t.Helper()
	conn, err := tls.Dial("tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.MQTTS)), in.tls(s.Host))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &wire{t, conn}
}

// text is a string with its length before it (clause 1.5.3).
func text(s string) []byte {
	return append(bits.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

// packet frames a body of any length (clause 2.2.3).
func packet(first byte, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	head := []byte{first}
	for n := len(body); ; {
		digit := byte(n % 128)
		if n /= 128; n > 0 {
			head = append(head, digit|0x80)
			continue
		}
		return append(append(head, digit), body...)
	}
}

func (w *wire) send(bytes ...[]byte) {
	w.t.Helper()
	if _, err := w.Write(slices.Concat(bytes...)); err != nil {
		w.t.Fatal(err)
	}
}

// next reads a packet: its first byte and its body. The connection's end is nil.
func (w *wire) next() (first byte, body []byte) {
	w.t.Helper()
	one := make([]byte, 1)
	if _, err := io.ReadFull(w, one); err != nil {
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			w.t.Error("the server neither answers nor closes")
		}
		return 0, nil
	}
	first = one[0]
	length, shift := 0, 0
	for {
		if _, err := io.ReadFull(w, one); err != nil {
			return 0, nil
		}
		length |= int(one[0]&0x7f) << shift
		if shift += 7; one[0] < 0x80 {
			break
		}
	}
	body = make([]byte, length)
	if _, err := io.ReadFull(w, body); err != nil {
		return 0, nil
	}
	return first, body
}

// mqttClient makes the packets of one device of the group.
type mqttClient struct {
	id string
	s  up.ReadyStamp
}

const (
	clean    = 0x02
	withUser = 0xc0
)

func (c mqttClient) connect(flags byte, keepAlive uint16, will ...[]byte) []byte {
	return c.connectAs("MQTT", 4, c.id, flags, keepAlive, will...)
}

func (c mqttClient) connectAs(protocol string, level byte, id string, flags byte, keepAlive uint16, will ...[]byte) []byte {
	return packet(0x10, text(protocol), []byte{level, flags | withUser}, bits.BigEndian.AppendUint16(nil, keepAlive), text(id), slices.Concat(will...),
		text(c.s.Host+"/"+c.id+"/?api-version=2021-04-12"), text(string(tokenFor(c.s.Host+"/devices/"+c.id, device.DeriveKey(groupKey, c.id), ""))))
}

func (c mqttClient) topic() string { return "devices/" + c.id + "/messages/events/" }

func number(id uint16) []byte { return bits.BigEndian.AppendUint16(nil, id) }

// TestMQTTClauseByClause holds the hub against MQTT 3.1.1, by the numbers of
// its normative statements. Deviations of the hub protocol are marked so; they
// are listed in docs/how-to/connect-a-device.md.
func TestMQTTClauseByClause(t *testing.T) {
	t.Parallel()
	in := start(t)
	in.enrol()
	s := in.stamp("test-1")
	if _, err := in.register("m-1"); err != nil {
		t.Fatal(err)
	}
	c := mqttClient{"m-1", s}
	hello := c.connect(clean, 60)
	accepted := []byte{0x20, 2, 0, 0}
	closed := []byte(nil)
	invalid := string([]byte{0xc3, 0x28})
	for clause, step := range map[string]struct {
		send []byte
		want []byte // what comes after CONNACK, or instead of it where hello is not part of it
		bare bool   // send is all that is sent
	}{
		"MQTT-3.1.0-1 the first packet is CONNECT":                  {packet(0xc0), closed, true},
		"MQTT-3.1.0-2 a second CONNECT is a violation":              {hello, closed, false},
		"MQTT-3.1.2-1 another protocol name":                        {c.connectAs("MQIsdp", 4, c.id, clean, 60), closed, true},
		"MQTT-3.1.2-2 another level: CONNACK 1":                     {c.connectAs("MQTT", 5, c.id, clean, 60), []byte{0x20, 2, 0, 1}, true},
		"MQTT-3.1.2-3 the reserved flag is zero":                    {c.connect(clean|0x01, 60), closed, true},
		"MQTT-3.1.3-2 (deviation) the client id is the device's":    {c.connectAs("MQTT", 4, "another", clean, 60), []byte{0x20, 2, 0, 5}, true},
		"MQTT-3.1.2-14 a will has QoS 0 to 2":                       {c.connect(clean|0x04|0x18, 60, text(c.topic()), text("x")), closed, true},
		"MQTT-3.1.2-11 will flags without a will":                   {c.connect(clean|0x08, 60), closed, true},
		"(deviation) a will goes to the device's own topic":         {c.connect(clean|0x04, 60, text("elsewhere"), text("x")), []byte{0x20, 2, 0, 5}, true},
		"MQTT-3.1.2-22 no password without a user name":             {packet(0x10, text("MQTT"), []byte{4, clean | 0x40}, number(60), text(c.id), text("x")), closed, true},
		"MQTT-3.1.3-8 no id and no clean session: CONNACK 2":        {c.connectAs("MQTT", 4, "", 0, 60), []byte{0x20, 2, 0, 2}, true},
		"MQTT-3.1.3-6 (deviation) an id has to be given":            {c.connectAs("MQTT", 4, "", clean, 60), []byte{0x20, 2, 0, 5}, true},
		"MQTT-4.7.3-1 a topic has a character":                      {packet(0x30, text(""), []byte("x")), closed, false},
		"MQTT-3.8.3-1 filters are UTF-8":                            {packet(0x82, number(1), text("$iothub/"+invalid), []byte{0}), closed, false},
		"MQTT-3.10.3-2 UNSUBSCRIBE names a filter":                  {packet(0xa2, number(1)), closed, false},
		"MQTT-3.14.1-1 DISCONNECT has no flags":                     {packet(0xe1), closed, false},
		"(deviation) what belongs to QoS 2 ends the connection":     {packet(0x62, number(1)), closed, false},
		"MQTT-3.3.5 (deviation) a topic nobody has":                 {packet(0x30, text("sensors/1"), []byte("x")), closed, false},
		"MQTT-2.2.2-2 reserved flags of a packet":                   {packet(0xc1), closed, false},
		"MQTT-2.3.1-1 a packet id is not zero":                      {packet(0x32, text(c.topic()), number(0), []byte("x")), closed, false},
		"MQTT-3.3.1-4 QoS 3":                                        {packet(0x36, text(c.topic()), number(1), []byte("x")), closed, false},
		"MQTT-3.3.1-2 QoS 0 is not repeated":                        {packet(0x38, text(c.topic()), []byte("x")), closed, false},
		"MQTT-3.3.2-2 no wildcards in a topic that is published to": {packet(0x30, text("devices/m-1/messages/events/#"), []byte("x")), closed, false},
		"MQTT-1.5.3-1 topics are UTF-8":                             {packet(0x30, text(c.topic()+invalid), []byte("x")), closed, false},
		"MQTT-1.5.3-2 without U+0000":                               {packet(0x30, text(c.topic()+"\x00"), []byte("x")), closed, false},
		"(deviation) QoS 2 is not supported":                        {packet(0x34, text(c.topic()), number(1), []byte("x")), closed, false},
		"(deviation) topics of others end the connection":           {packet(0x30, text("devices/m-2/messages/events/"), []byte("x")), closed, false},
		"MQTT-3.3.4-1 QoS 1 is answered by PUBACK":                  {packet(0x32, text(c.topic()), number(7), []byte("x")), []byte{0x40, 2, 0, 7}, false},
		"MQTT-3.8.1-1 SUBSCRIBE has flags 0010":                     {packet(0x80, number(1), text("$iothub/methods/POST/#"), []byte{0}), closed, false},
		"MQTT-3.8.3-3 SUBSCRIBE names a filter":                     {packet(0x82, number(1)), closed, false},
		"MQTT-3.8.3-4 a QoS asked for is 0 to 2":                    {packet(0x82, number(1), text("$iothub/methods/POST/#"), []byte{3}), closed, false},
		"MQTT-3.8.4-1 SUBACK with the QoS granted (deviation: 1 at most)": {packet(0x82, number(9), text("$iothub/methods/POST/#"), []byte{2}, text("$iothub/twin/res/#"), []byte{0}),
			[]byte{0x90, 4, 0, 9, 1, 0}, false},
		"(deviation) a filter that is not the device's ends the connection": {packet(0x82, number(9), text("devices/other/#"), []byte{0}), closed, false},
		"MQTT-3.10.1-1 UNSUBSCRIBE has flags 0010":                          {packet(0xa0, number(1), text("$iothub/twin/res/#")), closed, false},
		"MQTT-3.10.4-5 UNSUBACK, subscribed or not":                         {packet(0xa2, number(3), text("nothing/#")), []byte{0xb0, 2, 0, 3}, false},
		"MQTT-3.12.4-1 PINGREQ is answered by PINGRESP":                     {packet(0xc0), []byte{0xd0, 0}, false},
		"MQTT-3.14.4-3 DISCONNECT ends the connection":                      {packet(0xe0), closed, false},
		"MQTT-2.2.3 a length has at most four bytes":                        {[]byte{0x30, 0xff, 0xff, 0xff, 0xff, 0x01}, closed, false},
		"MQTT-3.7.1-1 packets that only servers send are violations":        {packet(0x20, []byte{0, 0}), closed, false},
	} {
		t.Run(strings.ReplaceAll(clause, "/", " "), func(t *testing.T) {
			w := in.wire(t, s)
			if !step.bare {
				w.send(hello)
				if first, body := w.next(); !slices.Equal(packet(first, body), accepted) {
					t.Fatalf("CONNACK %x %x", first, body)
				}
			}
			w.send(step.send)
			first, body := w.next()
			got := packet(first, body)
			if first == 0 {
				got = nil
			}
			if !slices.Equal(got, step.want) {
				t.Errorf("got %x, want %x", got, step.want)
			}
		})
	}
}

// TestMQTTSessions checks the statements that need more than one connection.
func TestMQTTSessions(t *testing.T) {
	t.Parallel()
	in := start(t)
	in.enrol()
	s := in.stamp("test-1")
	if _, err := in.register("m-2"); err != nil {
		t.Fatal(err)
	}
	c := mqttClient{"m-2", s}
	connack := func(w *wire) byte {
		first, body := w.next()
		if first != 0x20 || len(body) != 2 || body[1] != 0 {
			t.Fatalf("CONNACK %x %x", first, body)
		}
		return body[0]
	}
	subscribe := packet(0x82, number(1), text("devices/m-2/messages/devicebound/#"), []byte{1})

	w := in.wire(t, s)
	w.send(c.connect(clean, 60))
	if present := connack(w); present != 0 {
		t.Error("MQTT-3.2.2-1: a clean session is present")
	}
	w.send(packet(0xe0))
	w = in.wire(t, s)
	w.send(c.connect(0, 60))
	if present := connack(w); present != 0 {
		t.Error("MQTT-3.2.2-3: there is no session yet")
	}
	w.send(subscribe)
	w.next()
	in.must("device", "message", "send", "m-2", "first")
	first, body := w.next()
	if first != 0x32 || !strings.HasSuffix(string(body), "first") {
		t.Fatalf("the message came as %x %q", first, body)
	}
	// It is not acknowledged; the connection breaks.
	w.Close()
	w = in.wire(t, s)
	w.send(c.connect(0, 60))
	if present := connack(w); present != 1 {
		t.Error("MQTT-3.2.2-2: the session is not present")
	}
	first, body = w.next()
	if first != 0x3a || !strings.HasSuffix(string(body), "first") {
		t.Errorf("MQTT-4.4.0-1, 3.3.1-1: what was not acknowledged came again as %x %q", first, body)
	}
	at := 2 + int(bits.BigEndian.Uint16(body))
	w.send(packet(0x40, body[at:at+2]))

	other := in.wire(t, s)
	other.send(c.connect(0, 60))
	connack(other)
	if first, _ := w.next(); first != 0 {
		t.Errorf("MQTT-3.1.4-2: the older connection got %x", first)
	}
	last := in.wire(t, s)
	last.send(c.connect(clean, 60))
	if present := connack(last); present != 0 {
		t.Error("MQTT-3.1.2-6: a clean session goes on with the old one")
	}
}

// TestMQTTWillsAndSilence checks what happens to clients that vanish.
func TestMQTTWillsAndSilence(t *testing.T) {
	t.Parallel()
	in := start(t)
	in.enrol()
	s := in.stamp("test-1")
	c := mqttClient{"m-3", s}
	if _, err := in.register(c.id); err != nil {
		t.Fatal(err)
	}
	will := func(said string) []byte { return slices.Concat(text(c.topic()+"line=7"), text(said)) }
	wills := func() (all []string) {
		page, err := in.api.Log(t.Context(), c.id, client.Messages, client.LogOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Items {
			if m.Properties["iothub-MessageType"] == "Will" && m.Properties["line"] == "7" {
				all = append(all, string(m.BodyBase64))
			}
		}
		return all
	}
	w := in.wire(t, s)
	w.send(c.connect(clean|0x04|0x08, 1, will("silent")))
	w.next()
	begun := time.Now()
	if first, _ := w.next(); first != 0 || time.Since(begun) > 5*time.Second || time.Since(begun) < time.Second {
		t.Errorf("MQTT-3.1.2-24: keep alive of 1 s ended after %s with %x", time.Since(begun), first)
	}
	eventually(t, "MQTT-3.1.2-8: the will of the silent one", 10*time.Second, func() bool { return slices.Equal(wills(), []string{"silent"}) })

	w = in.wire(t, s)
	w.send(c.connect(clean|0x04, 60, will("in order")), packet(0xe0))
	w.next()
	w.next()
	w = in.wire(t, s)
	w.send(c.connect(clean|0x04, 60, will("broken")))
	w.next()
	w.Close()
	w = in.wire(t, s)
	w.send(c.connect(clean, 60), packet(0x33, text(c.topic()+"line=7"), number(5), []byte("kept?")), packet(0x82, number(6), text("devices/m-3/messages/devicebound/#"), []byte{1}))
	w.next()
	w.next() // PUBACK and SUBACK, and no message of the past
	w.next()
	in.must("device", "message", "send", "m-3", "fresh")
	if first, body := w.next(); first != 0x32 || !strings.HasSuffix(string(body), "fresh") {
		t.Errorf("MQTT-3.3.1-9: what was not kept came as %x %q", first, body)
	}
	page, err := in.api.Log(t.Context(), c.id, client.Messages, client.LogOptions{})
	if err != nil || !slices.ContainsFunc(page.Items, func(m link.LogRecord) bool {
		return m.Properties["mqtt-retain"] == "true" && m.Properties["line"] == "7"
	}) {
		t.Errorf("(deviation) RETAIN is a property: %+v, %v", page.Items, err)
	}
	eventually(t, "MQTT-3.1.2-10: no will of the one that disconnected, but of the one that broke off", 10*time.Second, func() bool {
		return slices.Equal(wills(), []string{"silent", "broken"})
	})
}
