package mqtt

import (
	"fmt"
	"io"
	"sync"
)

// smallBuffer is what an idle connection keeps for reading.
const smallBuffer = 512

// large lends buffers to packets that do not fit the small one.
var large = sync.Pool{New: func() any { return new([]byte) }}

// Reader reads packets off a stream with next to no memory between them.
type Reader struct {
	r     io.Reader
	max   int
	small [smallBuffer]byte
	held  []byte // read and not yet parsed, in small
	lent  *[]byte
	topic string  // of the last PUBLISH
	reuse Publish // the PUBLISH that Next returns
}

// NewReader reads packets of at most maxPacket bytes from r.
func NewReader(r io.Reader, maxPacket int) *Reader { return &Reader{r: r, max: maxPacket} }

// Next returns the next packet. A *Publish is valid until the following call.
func (r *Reader) Next() (Packet, error) {
	r.giveBack()
	first, remaining, header, err := r.header()
	if err != nil {
		return nil, err
	}
	if header+remaining > r.max {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, header+remaining, r.max)
	}
	r.held = r.held[header:]
	body, err := r.body(remaining)
	if err != nil {
		return nil, err
	}
	if first&0xf0 == typePublish {
		return &r.reuse, parsePublish(&r.reuse, first&0x0f, &fields{rest: body}, &r.topic)
	}
	return Parse(first, body)
}

func (r *Reader) giveBack() {
	if r.lent != nil {
		large.Put(r.lent)
		r.lent = nil
	}
	r.reuse.Payload = nil
}

// header reads on until the fixed header is complete.
func (r *Reader) header() (first byte, remaining, size int, err error) {
	for {
		first, remaining, size, err = splitHeader(r.held)
		if err != nil || size > 0 {
			return first, remaining, size, err
		}
		if err := r.fill(); err != nil {
			return 0, 0, 0, err
		}
	}
}

// splitHeader takes a fixed header apart; size is 0 while it is incomplete.
func splitHeader(b []byte) (first byte, remaining, size int, err error) {
	for i := 1; i < len(b); i++ {
		if i > 4 {
			break
		}
		remaining |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i]&0x80 == 0 {
			if i > 1 && b[i] == 0 {
				return 0, 0, 0, malformed("MQTT-2.2.3", "the remaining length is longer than it needs to be")
			}
			return b[0], remaining, i + 1, nil
		}
		if i == 4 {
			return 0, 0, 0, malformed("MQTT-2.2.3", "the remaining length has more than four bytes")
		}
	}
	return 0, 0, 0, nil
}

// fill reads whatever is there behind what is held.
func (r *Reader) fill() error {
	n := copy(r.small[:], r.held)
	got, err := r.r.Read(r.small[n:])
	r.held = r.small[:n+got]
	if got > 0 {
		return nil
	}
	if err == io.EOF && n > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// body returns the n bytes after the header.
func (r *Reader) body(n int) ([]byte, error) {
	if n <= smallBuffer {
		for len(r.held) < n {
			if err := r.fill(); err != nil {
				return nil, noEOF(err)
			}
		}
		b := r.held[:n]
		r.held = r.held[n:]
		return b, nil
	}
	r.lent = large.Get().(*[]byte)
	if cap(*r.lent) < n {
		*r.lent = make([]byte, n)
	}
	b := (*r.lent)[:n]
	got := copy(b, r.held)
	r.held = r.held[:0]
	_, err := io.ReadFull(r.r, b[got:])
	return b, noEOF(err)
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
