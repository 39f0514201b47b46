package mqtt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ErrMalformed is what every packet that breaks the standard fails with.
var ErrMalformed = errors.New("malformed MQTT packet")

// ErrTooLarge is a packet beyond the size the reader allows.
var ErrTooLarge = errors.New("MQTT packet too large")

func malformed(clause, format string, args ...any) error {
	return fmt.Errorf("%w: %s [%s]", ErrMalformed, fmt.Sprintf(format, args...), clause)
}

// fields takes a packet's body apart; after a fault everything is empty.
type fields struct {
	rest []byte
	err  error
}

func (f *fields) fail(err error) {
	if f.err == nil {
		f.err = err
	}
	f.rest = nil
}

func (f *fields) take(n int) []byte {
	if n > len(f.rest) {
		f.fail(malformed("MQTT-2.2.3", "the packet ends too early"))
		return nil
	}
	taken := f.rest[:n]
	f.rest = f.rest[n:]
	return taken
}

func (f *fields) octet() byte {
	if b := f.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (f *fields) number() uint16 {
	if b := f.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (f *fields) binary() []byte { return f.take(int(f.number())) }

// text reads a UTF-8 string, which holds no U+0000 and no surrogates.
func (f *fields) text() []byte {
	b := f.binary()
	if !utf8.Valid(b) {
		f.fail(malformed("MQTT-1.5.3-1", "a string is not UTF-8"))
		return nil
	}
	if bytes.IndexByte(b, 0) >= 0 {
		f.fail(malformed("MQTT-1.5.3-2", "a string holds U+0000"))
		return nil
	}
	return b
}

func (f *fields) packetID() uint16 {
	id := f.number()
	if id == 0 && f.err == nil {
		f.fail(malformed("MQTT-2.3.1-1", "the packet id is 0"))
	}
	return id
}

func (f *fields) end() error {
	if f.err == nil && len(f.rest) > 0 {
		f.fail(malformed("MQTT-2.2.3", "%d bytes follow the packet's last field", len(f.rest)))
	}
	return f.err
}

// Parse reads the packet whose first byte and body are given. Payloads and
// passwords alias body.
func Parse(first byte, body []byte) (Packet, error) {
	f := &fields{rest: body}
	kind, flags := first&0xf0, first&0x0f
	if kind == typePublish {
		p := &Publish{}
		return p, parsePublish(p, flags, f, nil)
	}
	want := byte(0)
	if kind == typePubrel || kind == typeSubscribe || kind == typeUnsubscribe {
		want = 2
	}
	if flags != want {
		return nil, malformed("MQTT-2.2.2-2", "the flags of packet type %d are %d", kind>>4, flags)
	}
	p := parseBody(kind, f)
	if err := f.end(); err != nil {
		return nil, err
	}
	return p, nil
}

func parseBody(kind byte, f *fields) Packet {
	switch kind {
	case typeConnect:
		return parseConnect(f)
	case typeConnack:
		return parseConnack(f)
	case typePuback:
		return &Puback{f.packetID()}
	case typePubrec:
		return &Pubrec{f.packetID()}
	case typePubrel:
		return &Pubrel{f.packetID()}
	case typePubcomp:
		return &Pubcomp{f.packetID()}
	case typeSubscribe:
		return parseSubscribe(f)
	case typeSuback:
		return parseSuback(f)
	case typeUnsubscribe:
		return parseUnsubscribe(f)
	case typeUnsuback:
		return &Unsuback{f.packetID()}
	case typePingreq:
		return &Pingreq{}
	case typePingresp:
		return &Pingresp{}
	case typeDisconnect:
		return &Disconnect{}
	}
	f.fail(malformed("MQTT-2.2.1", "there is no packet type %d", kind>>4))
	return nil
}

// parsePublish fills p. known, when its bytes are the topic's, is used for it,
// so that a device that repeats its topic costs no allocation.
func parsePublish(p *Publish, flags byte, f *fields, known *string) error {
	p.QoS, p.Dup, p.Retain, p.PacketID = flags>>1&3, flags&8 != 0, flags&1 != 0, 0
	if p.QoS == 3 {
		return malformed("MQTT-3.3.1-4", "QoS 3 does not exist")
	}
	if p.Dup && p.QoS == 0 {
		return malformed("MQTT-3.3.1-2", "DUP is set at QoS 0")
	}
	if known != nil && sameText(f.rest, *known) {
		f.take(2 + len(*known))
		p.Topic = *known
	} else {
		p.Topic = string(f.text())
		if f.err == nil && (p.Topic == "" || strings.ContainsAny(p.Topic, "+#")) {
			f.fail(malformed("MQTT-3.3.2-2", "a topic is empty or holds a wildcard"))
		}
		if known != nil && f.err == nil {
			*known = p.Topic
		}
	}
	if p.QoS > 0 {
		p.PacketID = f.packetID()
	}
	p.Payload = f.rest
	return f.err
}

// sameText reports whether body begins with the string s, length included.
func sameText(body []byte, s string) bool {
	return s != "" && len(body) >= 2+len(s) && int(binary.BigEndian.Uint16(body)) == len(s) && string(body[2:2+len(s)]) == s
}

func parseConnect(f *fields) Packet {
	p := &Connect{ProtocolName: string(f.text()), ProtocolLevel: f.octet()}
	if f.err == nil && p.ProtocolLevel != 4 {
		// The rest of another version's CONNECT has another form; the caller
		// refuses it by its level [MQTT-3.1.2-2].
		f.rest = nil
		return p
	}
	flags := f.octet()
	p.KeepAlive = f.number()
	p.ClientID = string(f.text())
	if f.err == nil && p.ProtocolName != "MQTT" {
		f.fail(malformed("MQTT-3.1.2-1", "the protocol name is %q", p.ProtocolName))
	}
	if flags&1 != 0 {
		f.fail(malformed("MQTT-3.1.2-3", "the reserved connect flag is set"))
	}
	p.CleanSession = flags&0x02 != 0
	parseWill(p, flags, f)
	p.HasUsername, p.HasPassword = flags&0x80 != 0, flags&0x40 != 0
	if p.HasPassword && !p.HasUsername {
		f.fail(malformed("MQTT-3.1.2-22", "a password comes without a user name"))
	}
	if p.HasUsername {
		p.Username = string(f.text())
	}
	if p.HasPassword {
		p.Password = f.binary()
	}
	return p
}

func parseWill(p *Connect, flags byte, f *fields) {
	if flags&0x04 == 0 {
		if flags&0x38 != 0 {
			f.fail(malformed("MQTT-3.1.2-13", "will flags are set without a will"))
		}
		return
	}
	p.Will = &Will{QoS: flags >> 3 & 3, Retain: flags&0x20 != 0}
	if p.Will.QoS == 3 {
		f.fail(malformed("MQTT-3.1.2-14", "the will's QoS is 3"))
	}
	p.Will.Topic = string(f.text())
	if f.err == nil && (p.Will.Topic == "" || strings.ContainsAny(p.Will.Topic, "+#")) {
		f.fail(malformed("MQTT-4.7.1-1", "the will's topic is empty or holds a wildcard"))
	}
	p.Will.Payload = f.binary()
}

func parseConnack(f *fields) Packet {
	flags, code := f.octet(), f.octet()
	if flags > 1 {
		f.fail(malformed("MQTT-3.2.2-1", "reserved CONNACK flags are set"))
	}
	return &Connack{flags == 1, ConnackCode(code)}
}

// parseFilter reads a topic filter, whose wildcards stand alone in a level,
// '#' in the last one only.
func parseFilter(f *fields) string {
	filter := string(f.text())
	if f.err != nil {
		return ""
	}
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		if len(level) > 1 && strings.ContainsAny(level, "+#") || level == "#" && i < len(levels)-1 {
			f.fail(malformed("MQTT-4.7.1-2", "the filter %q has a wildcard where none may be", filter))
		}
	}
	if filter == "" {
		f.fail(malformed("MQTT-4.7.3-1", "a topic filter is empty"))
	}
	return filter
}

func parseSubscribe(f *fields) Packet {
	p := &Subscribe{PacketID: f.packetID()}
	for f.err == nil && len(f.rest) > 0 {
		filter := Filter{parseFilter(f), f.octet()}
		if filter.QoS > 2 {
			f.fail(malformed("MQTT-3-8.3-4", "a subscription asks for QoS %d", filter.QoS))
		}
		p.Filters = append(p.Filters, filter)
	}
	if f.err == nil && len(p.Filters) == 0 {
		f.fail(malformed("MQTT-3.8.3-3", "a SUBSCRIBE has no filter"))
	}
	return p
}

func parseSuback(f *fields) Packet {
	p := &Suback{PacketID: f.packetID()}
	p.Codes = append([]byte(nil), f.rest...)
	f.rest = nil
	for _, code := range p.Codes {
		if code > 2 && code != SubackFailure {
			f.fail(malformed("MQTT-3.9.3-2", "a SUBACK holds code %d", code))
		}
	}
	return p
}

func parseUnsubscribe(f *fields) Packet {
	p := &Unsubscribe{PacketID: f.packetID()}
	for f.err == nil && len(f.rest) > 0 {
		p.Topics = append(p.Topics, parseFilter(f))
	}
	if f.err == nil && len(p.Topics) == 0 {
		f.fail(malformed("MQTT-3.10.3-2", "an UNSUBSCRIBE has no filter"))
	}
	return p
}
