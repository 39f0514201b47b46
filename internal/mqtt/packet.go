// Package mqtt speaks MQTT 3.1.1 for both planes' edges and for the device
// SDK: packets to bytes and back, the server's side of a connection, and a
// small client's side. It knows no topics and no sessions, and imports the
// standard library alone. Rules bear their number in the OASIS standard.
package mqtt

import "encoding/binary"

// Packet is a control packet; it can encode itself.
type Packet interface {
	// AppendTo appends the whole packet, fixed header included.
	AppendTo(dst []byte) []byte
}

// The packet types, as the high half of the first byte.
const (
	typeConnect = (iota + 1) << 4
	typeConnack
	typePublish
	typePuback
	typePubrec
	typePubrel
	typePubcomp
	typeSubscribe
	typeSuback
	typeUnsubscribe
	typeUnsuback
	typePingreq
	typePingresp
	typeDisconnect
)

// Connect opens a session.
type Connect struct {
	ProtocolName  string // "MQTT" for 3.1.1
	ProtocolLevel byte   // 4 for 3.1.1
	ClientID      string
	CleanSession  bool
	KeepAlive     uint16 // seconds; 0 means none
	Will          *Will
	Username      string
	HasUsername   bool
	Password      []byte
	HasPassword   bool
}

// Will is what the server publishes when the client vanishes.
type Will struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
}

// ConnackCode answers a CONNECT.
type ConnackCode byte

// The codes of section 3.2.2.3.
const (
	Accepted ConnackCode = iota
	UnacceptableProtocol
	IdentifierRejected
	ServerUnavailable
	BadCredentials
	NotAuthorized
)

// String names the code.
func (c ConnackCode) String() string {
	names := [...]string{"accepted", "unacceptable protocol", "identifier rejected", "server unavailable", "bad credentials", "not authorized"}
	if int(c) < len(names) {
		return names[c]
	}
	return "unknown code"
}

// Connack is the answer to a CONNECT.
type Connack struct {
	SessionPresent bool
	Code           ConnackCode
}

// Publish carries a message.
type Publish struct {
	Topic    string
	Payload  []byte
	QoS      byte
	Dup      bool
	Retain   bool
	PacketID uint16 // 0 at QoS 0
}

// Puback acknowledges a QoS 1 publish.
type Puback struct{ PacketID uint16 }

// Pubrec is the first answer to a QoS 2 publish.
type Pubrec struct{ PacketID uint16 }

// Pubrel releases a QoS 2 publish.
type Pubrel struct{ PacketID uint16 }

// Pubcomp completes a QoS 2 publish.
type Pubcomp struct{ PacketID uint16 }

// Filter is one subscription that is asked for.
type Filter struct {
	Topic string
	QoS   byte
}

// Subscribe asks for subscriptions.
type Subscribe struct {
	PacketID uint16
	Filters  []Filter
}

// SubackFailure refuses a subscription.
const SubackFailure = 0x80

// Suback answers a SUBSCRIBE, a code for each filter.
type Suback struct {
	PacketID uint16
	Codes    []byte
}

// Unsubscribe ends subscriptions.
type Unsubscribe struct {
	PacketID uint16
	Topics   []string
}

// Unsuback answers an UNSUBSCRIBE.
type Unsuback struct{ PacketID uint16 }

// Pingreq asks for a sign of life.
type Pingreq struct{}

// Pingresp is that sign.
type Pingresp struct{}

// Disconnect is a client's farewell.
type Disconnect struct{}

// appendHeader appends the first byte and the remaining length.
func appendHeader(dst []byte, first byte, remaining int) []byte {
	dst = append(dst, first)
	for {
		digit := byte(remaining & 0x7f)
		if remaining >>= 7; remaining == 0 {
			return append(dst, digit)
		}
		dst = append(dst, digit|0x80)
	}
}

func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

// AppendTo encodes the packet.
func (p *Connect) AppendTo(dst []byte) []byte {
	size := 2 + len(p.ProtocolName) + 4 + 2 + len(p.ClientID)
	var flags byte
	if p.CleanSession {
		flags |= 0x02
	}
	if p.Will != nil {
		flags |= 0x04 | p.Will.QoS<<3
		if p.Will.Retain {
			flags |= 0x20
		}
		size += 4 + len(p.Will.Topic) + len(p.Will.Payload)
	}
	if p.HasPassword {
		flags |= 0x40
		size += 2 + len(p.Password)
	}
	if p.HasUsername {
		flags |= 0x80
		size += 2 + len(p.Username)
	}
	dst = appendHeader(dst, typeConnect, size)
	dst = appendString(dst, p.ProtocolName)
	dst = append(dst, p.ProtocolLevel, flags)
	dst = binary.BigEndian.AppendUint16(dst, p.KeepAlive)
	dst = appendString(dst, p.ClientID)
	if p.Will != nil {
		dst = appendString(dst, p.Will.Topic)
		dst = appendString(dst, p.Will.Payload)
	}
	if p.HasUsername {
		dst = appendString(dst, p.Username)
	}
	if p.HasPassword {
		dst = appendString(dst, p.Password)
	}
	return dst
}

// AppendTo encodes the packet.
func (p *Connack) AppendTo(dst []byte) []byte {
	var present byte
	if p.SessionPresent {
		present = 1
	}
	return append(dst, typeConnack, 2, present, byte(p.Code))
}

// AppendTo encodes the packet.
func (p *Publish) AppendTo(dst []byte) []byte {
	first := byte(typePublish) | p.QoS<<1
	if p.Dup {
		first |= 0x08
	}
	if p.Retain {
		first |= 0x01
	}
	size := 2 + len(p.Topic) + len(p.Payload)
	if p.QoS > 0 {
		size += 2
	}
	dst = appendHeader(dst, first, size)
	dst = appendString(dst, p.Topic)
	if p.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, p.PacketID)
	}
	return append(dst, p.Payload...)
}

func appendID(dst []byte, first byte, id uint16) []byte {
	return append(dst, first, 2, byte(id>>8), byte(id))
}

// AppendTo encodes the packet.
func (p *Puback) AppendTo(dst []byte) []byte { return appendID(dst, typePuback, p.PacketID) }

// AppendTo encodes the packet.
func (p *Pubrec) AppendTo(dst []byte) []byte { return appendID(dst, typePubrec, p.PacketID) }

// AppendTo encodes the packet.
func (p *Pubrel) AppendTo(dst []byte) []byte { return appendID(dst, typePubrel|2, p.PacketID) }

// AppendTo encodes the packet.
func (p *Pubcomp) AppendTo(dst []byte) []byte { return appendID(dst, typePubcomp, p.PacketID) }

// AppendTo encodes the packet.
func (p *Unsuback) AppendTo(dst []byte) []byte { return appendID(dst, typeUnsuback, p.PacketID) }

// AppendTo encodes the packet.
func (p *Subscribe) AppendTo(dst []byte) []byte {
	size := 2
	for _, f := range p.Filters {
		size += 3 + len(f.Topic)
	}
	dst = appendHeader(dst, typeSubscribe|2, size)
	dst = binary.BigEndian.AppendUint16(dst, p.PacketID)
	for _, f := range p.Filters {
		dst = append(appendString(dst, f.Topic), f.QoS)
	}
	return dst
}

// AppendTo encodes the packet.
func (p *Suback) AppendTo(dst []byte) []byte {
	dst = appendHeader(dst, typeSuback, 2+len(p.Codes))
	dst = binary.BigEndian.AppendUint16(dst, p.PacketID)
	return append(dst, p.Codes...)
}

// AppendTo encodes the packet.
func (p *Unsubscribe) AppendTo(dst []byte) []byte {
	size := 2
	for _, topic := range p.Topics {
		size += 2 + len(topic)
	}
	dst = appendHeader(dst, typeUnsubscribe|2, size)
	dst = binary.BigEndian.AppendUint16(dst, p.PacketID)
	for _, topic := range p.Topics {
		dst = appendString(dst, topic)
	}
	return dst
}

// AppendTo encodes the packet.
func (p *Pingreq) AppendTo(dst []byte) []byte { return append(dst, typePingreq, 0) }

// AppendTo encodes the packet.
func (p *Pingresp) AppendTo(dst []byte) []byte { return append(dst, typePingresp, 0) }

// AppendTo encodes the packet.
func (p *Disconnect) AppendTo(dst []byte) []byte { return append(dst, typeDisconnect, 0) }
