package amqp

import (
	"encoding/binary"
	"fmt"
	"io"
)

// The codes of what frames carry (AMQP 1.0 parts 2 and 5).
const (
	codeOpen        uint64 = 0x10
	codeBegin       uint64 = 0x11
	codeAttach      uint64 = 0x12
	codeFlow        uint64 = 0x13
	codeTransfer    uint64 = 0x14
	codeDisposition uint64 = 0x15
	codeDetach      uint64 = 0x16
	codeEnd         uint64 = 0x17
	codeClose       uint64 = 0x18
	codeError       uint64 = 0x1d
	codeReceived    uint64 = 0x23
	codeAccepted    uint64 = 0x24
	codeRejected    uint64 = 0x25
	codeReleased    uint64 = 0x26
	codeModified    uint64 = 0x27
	codeSource      uint64 = 0x28
	codeTarget      uint64 = 0x29
	codeMechanisms  uint64 = 0x40
	codeInit        uint64 = 0x41
	codeOutcome     uint64 = 0x44
)

// names are the symbolic descriptors, which peers may send instead of codes.
var names = map[Symbol]uint64{
	"amqp:open:list": codeOpen, "amqp:begin:list": codeBegin, "amqp:attach:list": codeAttach, "amqp:flow:list": codeFlow,
	"amqp:transfer:list": codeTransfer, "amqp:disposition:list": codeDisposition, "amqp:detach:list": codeDetach, "amqp:end:list": codeEnd,
	"amqp:close:list": codeClose, "amqp:error:list": codeError, "amqp:received:list": codeReceived, "amqp:accepted:list": codeAccepted,
	"amqp:rejected:list": codeRejected, "amqp:released:list": codeReleased, "amqp:modified:list": codeModified,
	"amqp:source:list": codeSource, "amqp:target:list": codeTarget, "amqp:sasl-init:list": codeInit,
	"amqp:header:list": codeHeader, "amqp:delivery-annotations:map": codeDeliveryAnnotations, "amqp:message-annotations:map": codeMessageAnnotations,
	"amqp:properties:list": codeProperties, "amqp:application-properties:map": codeApplicationProperties, "amqp:data:binary": codeData,
	"amqp:amqp-sequence:list": codeSequence, "amqp:amqp-value:*": codeValue, "amqp:footer:map": codeFooter,
}

// codeOf is the code a descriptor stands for.
func codeOf(descriptor any) (uint64, bool) {
	switch d := descriptor.(type) {
	case uint64:
		return d, true
	case Symbol:
		code, ok := names[d]
		return code, ok
	}
	return 0, false
}

// composite is a described list: a performative, a terminus, an outcome.
type composite struct {
	code   uint64
	fields List
	err    error
}

// compositeOf reads a value as a composite; ok is false when it is none.
func compositeOf(value any) (c composite, ok bool) {
	described, ok := value.(Described)
	if !ok {
		return c, false
	}
	if c.code, ok = codeOf(described.Descriptor); !ok {
		return c, false
	}
	c.fields, ok = described.Value.(List)
	return c, ok
}

// field reads a field of a composite. What is not there, or null, is the zero
// value; what has another type is remembered as an error.
func field[T any](c *composite, i int) (value T) {
	if i >= len(c.fields) || c.fields[i] == nil {
		return value
	}
	value, ok := c.fields[i].(T)
	if !ok && c.err == nil {
		c.err = malformed("field %d of 0x%02x is a %T", i, c.code, c.fields[i])
	}
	return value
}

// given reports whether a field is there.
func (c *composite) given(i int) bool { return i < len(c.fields) && c.fields[i] != nil }

// compose makes a composite without trailing nulls.
func compose(code uint64, fields ...any) Described {
	for len(fields) > 0 && fields[len(fields)-1] == nil {
		fields = fields[:len(fields)-1]
	}
	return Described{code, List(fields)}
}

// frame is one frame as it was read.
type frame struct {
	composite
	channel uint16
	payload []byte
	empty   bool // a sign of life
}

// The kinds of frames.
const (
	kindAMQP = 0
	kindSASL = 1
)

// readFrame reads a frame of at most limit bytes.
func readFrame(r io.Reader, kind byte, limit uint32) (f frame, err error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return f, err
	}
	size, offset := binary.BigEndian.Uint32(head[:4]), uint32(head[4])*4
	switch {
	case size > limit:
		return f, fmt.Errorf("%w: a frame of %d bytes, at most %d are read", ErrMalformed, size, limit)
	case offset < 8 || offset > size:
		return f, malformed("a frame of %d bytes whose body begins at %d", size, offset)
	case head[5] != kind:
		return f, malformed("a frame of type %d where type %d is expected", head[5], kind)
	}
	f.channel = binary.BigEndian.Uint16(head[6:])
	body := make([]byte, size-8)
	if _, err := io.ReadFull(r, body); err != nil {
		return f, err
	}
	body = body[offset-8:]
	if len(body) == 0 {
		f.empty = true
		return f, nil
	}
	value, rest, err := Decode(body)
	if err != nil {
		return f, err
	}
	c, ok := compositeOf(value)
	if !ok {
		return f, malformed("a frame without a performative")
	}
	f.composite, f.payload = c, rest
	return f, nil
}

// appendFrame writes a frame; no body is a sign of life.
func appendFrame(dst []byte, kind byte, channel uint16, body any, payload []byte) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0, 2, kind, byte(channel>>8), byte(channel))
	if body != nil {
		dst = Append(dst, body)
	}
	dst = append(dst, payload...)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at))
	return dst
}

// Error is a failure as peers tell one another.
type Error struct {
	Condition   Symbol
	Description string
}

// Error implements error.
func (e *Error) Error() string { return string(e.Condition) + ": " + e.Description }

// The conditions that are used here.
const (
	DecodeError        Symbol = "amqp:decode-error"
	InternalError      Symbol = "amqp:internal-error"
	InvalidField       Symbol = "amqp:invalid-field"
	NotAllowed         Symbol = "amqp:not-allowed"
	NotFound           Symbol = "amqp:not-found"
	NotImplemented     Symbol = "amqp:not-implemented"
	ResourceLimit      Symbol = "amqp:resource-limit-exceeded"
	Unauthorized       Symbol = "amqp:unauthorized-access"
	MessageTooLarge    Symbol = "amqp:link:message-size-exceeded"
	LinkStolen         Symbol = "amqp:link:stolen"
	TransferLimit      Symbol = "amqp:link:transfer-limit-exceeded"
	ConnectionForced   Symbol = "amqp:connection:forced"
	FramingError       Symbol = "amqp:connection:framing-error"
	WindowViolation    Symbol = "amqp:session:window-violation"
	ErrantLink         Symbol = "amqp:session:errant-link"
	UnattachedHandle   Symbol = "amqp:session:unattached-handle"
	PreconditionFailed Symbol = "amqp:precondition-failed"
)

// described is the error on the wire, nil for none.
func (e *Error) described() any {
	if e == nil {
		return nil
	}
	return compose(codeError, e.Condition, e.Description)
}

// Outcome is what a receiver makes of a delivery.
type Outcome struct {
	code  uint64
	Error *Error // why it is rejected
}

// The outcomes.
var (
	Accepted = Outcome{code: codeAccepted}
	Released = Outcome{code: codeReleased}
	Modified = Outcome{code: codeModified}
)

// Rejected is the outcome of what can never be taken.
func Rejected(why *Error) Outcome { return Outcome{codeRejected, why} }

// Accepted reports whether the receiver took the delivery.
func (o Outcome) Accepted() bool { return o.code == codeAccepted }

// Rejected reports whether the receiver will never take the delivery.
func (o Outcome) Rejected() bool { return o.code == codeRejected }

func (o Outcome) described() Described {
	if o.code == codeRejected {
		return compose(codeRejected, o.Error.described())
	}
	return compose(o.code)
}

// outcomeOf reads an outcome. A state that is none, or none that we know,
// leaves the delivery to be sent again.
func outcomeOf(value any) Outcome {
	c, ok := compositeOf(value)
	if !ok {
		return Released
	}
	switch c.code {
	case codeAccepted, codeReleased, codeModified, codeRejected:
		return Outcome{code: c.code}
	}
	return Released
}
