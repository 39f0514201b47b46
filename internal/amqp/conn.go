// Package amqp is the server's side of AMQP 1.0 (ISO/IEC 19464), as far as
// back ends of an IoT hub use it: SASL, sessions and links with flow control,
// settlement, messages of several frames. It knows no addresses; a Handler
// does. Everything a peer sends is bounded: frames, messages, nesting,
// sessions, links, and what is unsettled.
package amqp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Handler decides about links.
type Handler interface {
	// Source is asked when a client wants to receive from an address. What it
	// returns sends, in a goroutine of its own, until its context ends; an
	// error that is not the context's ends the link.
	Source(a Attach) (func(ctx context.Context, s *Sender) error, *Error)
	// Target is asked when a client wants to send to an address. What it
	// returns is called for one message after the other.
	Target(a Attach) (func(ctx context.Context, m Message) Outcome, *Error)
}

// The limits of a connection.
const (
	maxFrame     = 64 << 10
	minFrame     = 512
	maxMessage   = 384 << 10 // the largest message of a hub, as base64 with room
	maxSessions  = 32
	maxLinks     = 64 // of a session
	linkCredit   = 100
	window       = 2048 // frames of a session under way in either direction
	maxUnsettled = 2048
)

const (
	openTimeout  = 20 * time.Second
	writeTimeout = 30 * time.Second
	idleTimeout  = 2 * time.Minute // without a sign of life
	idlePromised = time.Minute     // what peers are told
)

// Conn is one client's connection.
type Conn struct {
	nc   net.Conn
	r    *bufio.Reader
	open composite

	// Hostname is the host the client means. User and Password are what it
	// gave by SASL PLAIN; nothing in them is proven.
	Hostname, User, Password string

	mu        sync.Mutex
	changed   *sync.Cond // credit, windows, unsettled, the end
	peerFrame uint32
	sessions  map[uint16]*session
	ended     map[uint16]bool // channels that had one
	closed    bool
	told      bool // the client has had our close
	working   sync.WaitGroup
	ctx       context.Context
	cancel    context.CancelFunc
	handler   Handler
}

var (
	protocolAMQP = []byte("AMQP\x00\x01\x00\x00")
	protocolSASL = []byte("AMQP\x03\x01\x00\x00")
)

// Accept greets a client: SASL if it wants that, up to and with its open.
func Accept(nc net.Conn) (*Conn, error) {
	c := &Conn{nc: nc, r: bufio.NewReaderSize(nc, 8<<10), peerFrame: minFrame, sessions: map[uint16]*session{}, ended: map[uint16]bool{}}
	c.changed = sync.NewCond(&c.mu)
	if err := nc.SetDeadline(time.Now().Add(openTimeout)); err != nil {
		return nil, err
	}
	header, err := c.readHeader()
	if err == nil && bytes.Equal(header, protocolSASL) {
		if err = c.sasl(); err == nil {
			header, err = c.readHeader()
		}
	}
	if err != nil {
		return nil, err
	}
	// A peer that speaks something else is told what is spoken here (2.2).
	if _, err := nc.Write(protocolAMQP); err != nil {
		return nil, err
	}
	if !bytes.Equal(header, protocolAMQP) {
		return nil, malformed("protocol header %q", header)
	}
	if err := c.readOpen(); err != nil {
		return nil, err
	}
	return c, nc.SetDeadline(time.Time{})
}

func (c *Conn) readHeader() ([]byte, error) {
	header := make([]byte, 8)
	for n := 0; n < len(header); {
		k, err := c.r.Read(header[n:])
		if err != nil {
			return nil, err
		}
		n += k
	}
	return header, nil
}

// sasl lets everybody past: who a client is, its claims tell later, or the
// name and password it gives here, once it is known whom it speaks to.
func (c *Conn) sasl() error {
	mechanisms := compose(codeMechanisms, []Symbol{"ANONYMOUS", "PLAIN", "EXTERNAL", "MSSBCBS"})
	if _, err := c.nc.Write(appendFrame(append([]byte{}, protocolSASL...), kindSASL, 0, mechanisms, nil)); err != nil {
		return err
	}
	f, err := readFrame(c.r, kindSASL, maxFrame)
	if err != nil {
		return err
	}
	if f.code != codeInit {
		return malformed("0x%02x instead of sasl-init", f.code)
	}
	mechanism, response := field[Symbol](&f.composite, 0), field[[]byte](&f.composite, 1)
	if mechanism == "PLAIN" {
		parts := strings.SplitN(string(response), "\x00", 3)
		if len(parts) != 3 {
			return malformed("a PLAIN response without a name and a password")
		}
		c.User, c.Password = parts[1], parts[2]
	}
	_, err = c.nc.Write(appendFrame(nil, kindSASL, 0, compose(codeOutcome, uint8(0)), nil))
	return errors.Join(f.err, err)
}

func (c *Conn) readOpen() error {
	f, err := readFrame(c.r, kindAMQP, maxFrame)
	if err != nil {
		return err
	}
	if f.code != codeOpen {
		return malformed("0x%02x instead of open", f.code)
	}
	c.open = f.composite
	c.Hostname = field[string](&c.open, 1)
	c.peerFrame = maxFrame
	if c.open.given(2) {
		c.peerFrame = min(max(field[uint32](&c.open, 2), minFrame), maxFrame)
	}
	return c.open.err
}

// greet answers the client's open. A refusal is said by the close that follows.
func (c *Conn) greet() error {
	return c.write(0, compose(codeOpen, "slipway", optional(c.Hostname, c.Hostname != ""), uint32(maxFrame), uint16(maxSessions-1), uint32(idlePromised/time.Millisecond)), nil)
}

// Refuse ends the connection before it began.
func (c *Conn) Refuse(why *Error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.greet(); err != nil {
		return err
	}
	return c.write(0, compose(codeClose, why.described()), nil)
}

// write sends a frame. The caller holds mu, except while nobody else writes.
func (c *Conn) write(channel uint16, body any, payload []byte) error {
	if err := c.nc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := c.nc.Write(appendFrame(nil, kindAMQP, channel, body, payload))
	return err
}

// Serve speaks with the client until its connection ends. It waits for what
// the handler's functions still do.
func (c *Conn) Serve(ctx context.Context, h Handler) error {
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.handler = h
	c.mu.Lock()
	err := c.greet()
	c.mu.Unlock()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(c.ctx, c.end)
	defer stop()
	c.working.Go(c.beat)
	err = c.read()
	c.cancel()
	c.end()
	c.working.Wait()
	return err
}

// end wakes everybody who waits for this client, for good.
func (c *Conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	c.changed.Broadcast()
	// The reader waits for the client, which may never speak again.
	if err := c.nc.SetReadDeadline(time.Now()); err != nil {
		return
	}
}

// Shut tells the client why its connection ends, and ends it.
func (c *Conn) Shut(why *Error) {
	c.mu.Lock()
	c.farewell(why)
	c.mu.Unlock()
	c.cancel()
}

// farewell sends our close, once. Where that fails nobody is there to be told.
// The caller holds mu.
func (c *Conn) farewell(why *Error) {
	if !c.told {
		c.told = true
		if c.write(0, compose(codeClose, why.described()), nil) != nil {
			return
		}
	}
}

// beat sends signs of life as often as the client wants them.
func (c *Conn) beat() {
	every := time.Duration(field[uint32](&c.open, 4)) * time.Millisecond / 2
	if every <= 0 {
		return
	}
	tick := time.NewTicker(max(every, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
			c.mu.Lock()
			err := c.write(0, nil, nil)
			c.mu.Unlock()
			if err != nil {
				c.cancel()
				return
			}
		}
	}
}

var errDone = errors.New("the client closed the connection")

// read takes frames until the connection ends. A peer that breaks the protocol
// is told so.
func (c *Conn) read() error {
	for {
		f, err := c.next()
		if err == nil && !f.empty {
			err = c.take(f)
		}
		switch {
		case errors.Is(err, errDone):
			return nil
		case c.ctx.Err() != nil:
			c.mu.Lock()
			c.farewell(&Error{ConnectionForced, "the server is stopping"})
			c.mu.Unlock()
			return nil
		case err != nil:
			return c.fail(err)
		}
	}
}

// next reads a frame. The deadline is set under the mutex, so that it does not
// undo the one that ends the connection.
func (c *Conn) next() (frame, error) {
	c.mu.Lock()
	closed := c.closed
	var err error
	if !closed {
		err = c.nc.SetReadDeadline(time.Now().Add(idleTimeout))
	}
	c.mu.Unlock()
	if closed || err != nil {
		return frame{}, errors.Join(net.ErrClosed, err)
	}
	return readFrame(c.r, kindAMQP, maxFrame)
}

// fail ends the connection for a reason, which the client is told if it is one
// of the protocol.
func (c *Conn) fail(err error) error {
	var why *Error
	switch {
	case errors.As(err, &why):
	case errors.Is(err, ErrMalformed):
		why = &Error{DecodeError, err.Error()}
	default:
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.farewell(why)
	return err
}

// take does what one frame asks for.
func (c *Conn) take(f frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f.code {
	case codeBegin:
		return c.begin(f)
	case codeClose:
		c.farewell(nil)
		return errDone
	}
	s := c.sessions[f.channel]
	if s == nil && c.ended[f.channel] {
		return nil // some clients still settle what came after their end
	}
	if s == nil {
		return &Error{NotAllowed, fmt.Sprintf("channel %d has no session", f.channel)}
	}
	if f.code == codeEnd {
		s.closeLinks()
		delete(c.sessions, f.channel)
		c.ended[f.channel] = true
		return c.write(f.channel, compose(codeEnd), nil)
	}
	return s.take(f)
}

func (c *Conn) begin(f frame) error {
	if f.channel >= maxSessions {
		return &Error{FramingError, fmt.Sprintf("channel %d is beyond the maximum of %d", f.channel, maxSessions-1)}
	}
	if c.sessions[f.channel] != nil {
		return &Error{NotAllowed, fmt.Sprintf("channel %d has a session already", f.channel)}
	}
	s := &session{
		conn: c, channel: f.channel, links: map[uint32]*link{}, unsettled: map[uint32]*Delivery{},
		nextIncoming: field[uint32](&f.composite, 1), peerWindow: field[uint32](&f.composite, 2), incoming: window,
	}
	if f.err != nil {
		return f.err
	}
	c.sessions[f.channel] = s
	return c.write(f.channel, compose(codeBegin, f.channel, uint32(0), uint32(window), uint32(window), uint32(maxLinks-1)), nil)
}
