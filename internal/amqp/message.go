package amqp

// The codes of the sections of a message (AMQP 1.0 part 3, clause 3.2).
const (
	codeHeader                uint64 = 0x70
	codeDeliveryAnnotations   uint64 = 0x71
	codeMessageAnnotations    uint64 = 0x72
	codeProperties            uint64 = 0x73
	codeApplicationProperties uint64 = 0x74
	codeData                  uint64 = 0x75
	codeSequence              uint64 = 0x76
	codeValue                 uint64 = 0x77
	codeFooter                uint64 = 0x78
)

// Message is a message with the sections that are used here. Others are read
// and passed over.
type Message struct {
	Annotations   Map // of the message
	Properties    Properties
	Application   Map
	Data          []byte // of all data sections
	Value         any    // of an amqp-value section
	HasValue      bool
	deliveryNotes Map
}

// Properties are the properties of a message that are used here. IDs may be
// strings, numbers, binaries or UUIDs.
type Properties struct {
	MessageID       any
	UserID          []byte
	To              string
	Subject         string
	ReplyTo         string
	CorrelationID   any
	ContentType     string
	ContentEncoding string
	AbsoluteExpiry  any // time.Time, or nil
	CreationTime    any
}

// ReadMessage reads a message from its encoded sections.
func ReadMessage(data []byte) (m Message, err error) {
	for len(data) > 0 {
		value, rest, err := Decode(data)
		if err != nil {
			return m, err
		}
		section, ok := value.(Described)
		if !ok {
			return m, malformed("a section of a message is a %T", value)
		}
		code, known := codeOf(section.Descriptor)
		if !known {
			return m, malformed("an unknown section %v", section.Descriptor)
		}
		if err := m.read(code, section.Value); err != nil {
			return m, err
		}
		data = rest
	}
	return m, nil
}

func (m *Message) read(code uint64, value any) error {
	ok := true
	switch code {
	case codeMessageAnnotations:
		m.Annotations, ok = value.(Map)
	case codeApplicationProperties:
		m.Application, ok = value.(Map)
	case codeProperties:
		var fields List
		if fields, ok = value.(List); ok {
			return m.Properties.read(composite{code: code, fields: fields})
		}
	case codeData:
		var data []byte
		data, ok = value.([]byte)
		m.Data = append(m.Data, data...)
	case codeValue:
		m.Value, m.HasValue = value, true
	case codeHeader, codeDeliveryAnnotations, codeFooter, codeSequence:
	default:
		return malformed("an unknown section 0x%02x", code)
	}
	if !ok {
		return malformed("section 0x%02x is a %T", code, value)
	}
	return nil
}

func (p *Properties) read(c composite) error {
	p.MessageID = field[any](&c, 0)
	p.UserID = field[[]byte](&c, 1)
	p.To = text(&c, 2)
	p.Subject = field[string](&c, 3)
	p.ReplyTo = text(&c, 4)
	p.CorrelationID = field[any](&c, 5)
	p.ContentType = text(&c, 6)
	p.ContentEncoding = text(&c, 7)
	p.AbsoluteExpiry = field[any](&c, 8)
	p.CreationTime = field[any](&c, 9)
	return c.err
}

// text reads a field that some peers send as a string and others as a symbol.
func text(c *composite, i int) string {
	if !c.given(i) {
		return ""
	}
	said, ok := textOf(c.fields[i])
	if !ok && c.err == nil {
		c.err = malformed("field %d of 0x%02x is a %T", i, c.code, c.fields[i])
	}
	return said
}

// Encode writes a message.
func (m Message) Encode() []byte {
	var dst []byte
	if len(m.deliveryNotes) > 0 {
		dst = Append(dst, Described{codeDeliveryAnnotations, m.deliveryNotes})
	}
	if len(m.Annotations) > 0 {
		dst = Append(dst, Described{codeMessageAnnotations, m.Annotations})
	}
	if properties := m.Properties.composed(); len(properties.Value.(List)) > 0 {
		dst = Append(dst, properties)
	}
	if len(m.Application) > 0 {
		dst = Append(dst, Described{codeApplicationProperties, m.Application})
	}
	if m.HasValue {
		return Append(dst, Described{codeValue, m.Value})
	}
	return Append(dst, Described{codeData, append([]byte{}, m.Data...)})
}

func (p Properties) composed() Described {
	return compose(codeProperties, p.MessageID, optional(p.UserID, len(p.UserID) > 0), optional(p.To, p.To != ""), optional(p.Subject, p.Subject != ""),
		optional(p.ReplyTo, p.ReplyTo != ""), p.CorrelationID, optional(Symbol(p.ContentType), p.ContentType != ""),
		optional(Symbol(p.ContentEncoding), p.ContentEncoding != ""), p.AbsoluteExpiry, p.CreationTime)
}

func optional(value any, there bool) any {
	if !there {
		return nil
	}
	return value
}
