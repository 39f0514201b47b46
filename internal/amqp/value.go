package amqp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

// The types of AMQP that Go does not have. Others map to Go's own: nil, bool,
// the integers by size, float32, float64, string, []byte for binary, and
// time.Time for a timestamp (milliseconds).
type (
	// Symbol is text from a small vocabulary.
	Symbol string
	// UUID is 16 bytes.
	UUID [16]byte
	// List is a sequence of values.
	List []any
	// Array is a sequence of values of one type.
	Array []any
	// Map keeps its pairs in order; keys are not unique by themselves.
	Map []Pair
	// Described is a value with a meaning.
	Described struct{ Descriptor, Value any }
)

// Pair is an entry of a Map.
type Pair struct{ Key, Value any }

// Get returns the value of a text key, be it a symbol or a string.
func (m Map) Get(key string) any {
	for _, p := range m {
		if text, ok := textOf(p.Key); ok && text == key {
			return p.Value
		}
	}
	return nil
}

// textOf is what a string or a symbol says.
func textOf(value any) (string, bool) {
	switch value := value.(type) {
	case string:
		return value, true
	case Symbol:
		return string(value), true
	}
	return "", false
}

// The limits of one value.
const (
	maxDepth = 16
	// maxEmpty bounds arrays whose elements take no room.
	maxEmpty = 1024
)

// ErrMalformed says that bytes are not what AMQP 1.0 part 1 describes.
var ErrMalformed = errors.New("malformed AMQP")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// decoder reads values from bytes.
type decoder struct {
	data []byte
	err  error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = malformed(format, args...)
	}
	d.data = nil
}

// take returns the next n bytes.
func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.data)) {
		d.fail("%d bytes are missing", n-uint64(len(d.data)))
		return make([]byte, min(n, 16)) // fixed widths may be read; all others check err
	}
	taken := d.data[:n]
	d.data = d.data[n:]
	return taken
}

// Decode reads one value and returns what follows it.
func Decode(data []byte) (value any, rest []byte, err error) {
	d := decoder{data: data}
	value = d.value(0)
	return value, d.data, d.err
}

func (d *decoder) value(depth int) any {
	if depth > maxDepth {
		d.fail("nested deeper than %d", maxDepth)
	}
	if d.err != nil {
		return nil
	}
	code := d.take(1)[0]
	if code == 0 {
		descriptor := d.value(depth + 1)
		return Described{descriptor, d.value(depth + 1)}
	}
	return d.primitive(code, depth)
}

// primitive reads what follows a constructor.
func (d *decoder) primitive(code byte, depth int) any {
	switch code >> 4 {
	case 0x4, 0x5, 0x6, 0x7, 0x8, 0x9:
		return d.fixed(code)
	case 0xa:
		return d.variable(code, uint64(d.take(1)[0]))
	case 0xb:
		return d.variable(code, uint64(binary.BigEndian.Uint32(d.take(4))))
	case 0xc, 0xd:
		return d.compound(code, depth)
	case 0xe, 0xf:
		return d.array(code, depth)
	}
	d.fail("unknown constructor 0x%02x", code)
	return nil
}

func (d *decoder) fixed(code byte) any {
	switch code {
	case 0x40:
		return nil
	case 0x41:
		return true
	case 0x42:
		return false
	case 0x43:
		return uint32(0)
	case 0x44:
		return uint64(0)
	case 0x45:
		return List{}
	case 0x50:
		return d.take(1)[0]
	case 0x51:
		return int8(d.take(1)[0])
	case 0x52:
		return uint32(d.take(1)[0])
	case 0x53:
		return uint64(d.take(1)[0])
	case 0x54:
		return int32(int8(d.take(1)[0]))
	case 0x55:
		return int64(int8(d.take(1)[0]))
	case 0x56:
		return d.take(1)[0] != 0
	case 0x60:
		return binary.BigEndian.Uint16(d.take(2))
	case 0x61:
		return int16(binary.BigEndian.Uint16(d.take(2)))
	}
	return d.wide(code)
}

// wide reads values of four bytes and more.
func (d *decoder) wide(code byte) any {
	switch code {
	case 0x70:
		return binary.BigEndian.Uint32(d.take(4))
	case 0x71:
		return int32(binary.BigEndian.Uint32(d.take(4)))
	case 0x72:
		return math.Float32frombits(binary.BigEndian.Uint32(d.take(4)))
	case 0x73: // char
		return string(rune(binary.BigEndian.Uint32(d.take(4))))
	case 0x74: // decimal32: carried as it is
		return append([]byte(nil), d.take(4)...)
	case 0x80:
		return binary.BigEndian.Uint64(d.take(8))
	case 0x81:
		return int64(binary.BigEndian.Uint64(d.take(8)))
	case 0x82:
		return math.Float64frombits(binary.BigEndian.Uint64(d.take(8)))
	case 0x83:
		return time.UnixMilli(int64(binary.BigEndian.Uint64(d.take(8)))).UTC()
	case 0x84:
		return append([]byte(nil), d.take(8)...)
	case 0x94:
		return append([]byte(nil), d.take(16)...)
	case 0x98:
		return UUID(d.take(16))
	}
	d.fail("unknown constructor 0x%02x", code)
	return nil
}

func (d *decoder) variable(code byte, size uint64) any {
	content := d.take(size)
	if d.err != nil {
		return nil
	}
	switch code {
	case 0xa0, 0xb0:
		return append([]byte{}, content...)
	case 0xa1, 0xb1:
		if !utf8.Valid(content) {
			d.fail("a string is not UTF-8")
		}
		return string(content)
	case 0xa3, 0xb3:
		return Symbol(content)
	}
	d.fail("unknown constructor 0x%02x", code)
	return nil
}

// sized reads the size and count of a compound or an array and returns a
// decoder of its content.
func (d *decoder) sized(wide bool) (inner decoder, count uint64) {
	if wide {
		inner.data = d.take(uint64(binary.BigEndian.Uint32(d.take(4))))
	} else {
		inner.data = d.take(uint64(d.take(1)[0]))
	}
	if d.err != nil {
		inner.err = d.err
		return inner, 0
	}
	if wide {
		count = uint64(binary.BigEndian.Uint32(inner.take(4)))
	} else {
		count = uint64(inner.take(1)[0])
	}
	return inner, count
}

func (d *decoder) compound(code byte, depth int) any {
	inner, count := d.sized(code>>4 == 0xd)
	if inner.err == nil && count > uint64(len(inner.data)) {
		inner.fail("%d elements in %d bytes", count, len(inner.data))
	}
	var elements List
	for i := uint64(0); i < count && inner.err == nil; i++ {
		elements = append(elements, inner.value(depth+1))
	}
	switch {
	case inner.err != nil:
		d.err, d.data = inner.err, nil
	case len(inner.data) > 0:
		d.fail("%d bytes after the last element", len(inner.data))
	case code&0x0f == 0:
		return elements
	case code&0x0f == 1 && count%2 == 0:
		m := make(Map, 0, count/2)
		for i := 0; i+1 < len(elements); i += 2 {
			m = append(m, Pair{elements[i], elements[i+1]})
		}
		return m
	default:
		d.fail("a map of %d elements, or constructor 0x%02x", count, code)
	}
	return nil
}

func (d *decoder) array(code byte, depth int) any {
	if depth > maxDepth {
		d.fail("nested deeper than %d", maxDepth)
		return nil
	}
	inner, count := d.sized(code>>4 == 0xf)
	var descriptor any
	described := false
	element := byte(0)
	if inner.err == nil {
		element = inner.take(1)[0]
	}
	if inner.err == nil && element == 0 {
		described = true
		descriptor = inner.value(depth + 1)
		element = inner.take(1)[0]
	}
	if inner.err == nil && count > uint64(len(inner.data)) && (element>>4 != 4 || count > maxEmpty) {
		inner.fail("%d elements in %d bytes", count, len(inner.data))
	}
	var elements Array
	for i := uint64(0); i < count && inner.err == nil; i++ {
		value := inner.primitive(element, depth+1)
		if described {
			value = Described{descriptor, value}
		}
		elements = append(elements, value)
	}
	if inner.err == nil && len(inner.data) > 0 {
		inner.fail("%d bytes after the last element", len(inner.data))
	}
	if inner.err != nil {
		d.err, d.data = inner.err, nil
		return nil
	}
	return elements
}

// Append encodes a value in the shortest form. It takes the types that Decode
// returns, and []Symbol for an array of symbols; anything else is a mistake of
// the caller.
func Append(dst []byte, value any) []byte {
	switch v := value.(type) {
	case nil:
		return append(dst, 0x40)
	case bool:
		if v {
			return append(dst, 0x41)
		}
		return append(dst, 0x42)
	case string:
		return appendSized(dst, 0xa1, []byte(v))
	case Symbol:
		return appendSized(dst, 0xa3, []byte(v))
	case []byte:
		return appendSized(dst, 0xa0, v)
	case time.Time:
		return binary.BigEndian.AppendUint64(append(dst, 0x83), uint64(v.UnixMilli()))
	case UUID:
		return append(append(dst, 0x98), v[:]...)
	case Described:
		return Append(Append(append(dst, 0), v.Descriptor), v.Value)
	case List:
		return appendList(dst, v)
	case Map:
		return appendMap(dst, v)
	case []Symbol:
		return appendSymbols(dst, v)
	case Array:
		return appendArray(dst, v)
	}
	return appendNumber(dst, value)
}

func appendNumber(dst []byte, value any) []byte {
	switch v := value.(type) {
	case uint8:
		return append(dst, 0x50, v)
	case int8:
		return append(dst, 0x51, byte(v))
	case uint16:
		return binary.BigEndian.AppendUint16(append(dst, 0x60), v)
	case int16:
		return binary.BigEndian.AppendUint16(append(dst, 0x61), uint16(v))
	case uint32:
		switch {
		case v == 0:
			return append(dst, 0x43)
		case v < 256:
			return append(dst, 0x52, byte(v))
		}
		return binary.BigEndian.AppendUint32(append(dst, 0x70), v)
	case int32:
		if v >= -128 && v < 128 {
			return append(dst, 0x54, byte(v))
		}
		return binary.BigEndian.AppendUint32(append(dst, 0x71), uint32(v))
	case uint64:
		switch {
		case v == 0:
			return append(dst, 0x44)
		case v < 256:
			return append(dst, 0x53, byte(v))
		}
		return binary.BigEndian.AppendUint64(append(dst, 0x80), v)
	case int64:
		if v >= -128 && v < 128 {
			return append(dst, 0x55, byte(v))
		}
		return binary.BigEndian.AppendUint64(append(dst, 0x81), uint64(v))
	case float32:
		return binary.BigEndian.AppendUint32(append(dst, 0x72), math.Float32bits(v))
	case float64:
		return binary.BigEndian.AppendUint64(append(dst, 0x82), math.Float64bits(v))
	}
	panic(fmt.Sprintf("amqp: a %T has no encoding", value))
}

// appendSized writes what has a narrow constructor and, 0x10 above, a wide one.
func appendSized(dst []byte, narrow byte, content []byte) []byte {
	if len(content) < 256 {
		return append(append(dst, narrow, byte(len(content))), content...)
	}
	return append(binary.BigEndian.AppendUint32(append(dst, narrow+0x10), uint32(len(content))), content...)
}

func appendList(dst []byte, all List) []byte {
	if len(all) == 0 {
		return append(dst, 0x45)
	}
	var content []byte
	for _, v := range all {
		content = Append(content, v)
	}
	return appendCompound(dst, 0xc0, len(all), content)
}

func appendMap(dst []byte, m Map) []byte {
	var content []byte
	for _, p := range m {
		content = Append(Append(content, p.Key), p.Value)
	}
	return appendCompound(dst, 0xc1, 2*len(m), content)
}

func appendCompound(dst []byte, narrow byte, count int, content []byte) []byte {
	if count < 256 && len(content) < 255 {
		return append(append(dst, narrow, byte(len(content)+1), byte(count)), content...)
	}
	dst = binary.BigEndian.AppendUint32(append(dst, narrow+0x10), uint32(len(content)+4))
	return append(binary.BigEndian.AppendUint32(dst, uint32(count)), content...)
}

func appendSymbols(dst []byte, all []Symbol) []byte {
	content := []byte{0xb3}
	for _, s := range all {
		content = append(binary.BigEndian.AppendUint32(content, uint32(len(s))), s...)
	}
	return appendCompound(dst, 0xe0, len(all), content)
}

// appendArray writes an array whose elements it turns into a list: what was
// read as an array is only ever shown back, and a list says as much.
func appendArray(dst []byte, all Array) []byte { return appendList(dst, List(all)) }
