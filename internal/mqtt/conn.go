package mqtt

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Limits bound one connection.
type Limits struct {
	MaxPacket      int           // bytes of a packet the client may send
	ConnectTimeout time.Duration // for CONNECT to arrive whole
	WriteTimeout   time.Duration // for a slow client to take what is written
	MaxKeepAlive   time.Duration // the longest silence, also for clients that promise no ping
	MaxBuffered    int           // bytes waiting for a slow client before it is cut
}

// ErrSlowClient cuts a client that does not take what it is sent.
var ErrSlowClient = errors.New("the client does not take what it is sent")

// Conn is the server's side of one connection. One goroutine reads; any may
// Send, which never waits for the network.
type Conn struct {
	nc       net.Conn
	limits   Limits
	reader   *Reader
	silence  time.Duration
	deadline time.Time // of reading, as last set

	mu      sync.Mutex
	out     []byte // waiting to be written
	writing bool
	closed  bool
	done    chan struct{}
}

// NewConn wraps an accepted connection.
func NewConn(nc net.Conn, limits Limits) *Conn {
	return &Conn{nc: nc, limits: limits, reader: NewReader(nc, limits.MaxPacket), done: make(chan struct{})}
}

// RemoteAddr is the client's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// LocalAddr is the address the client connected to.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// secured is a connection that runs over TLS, directly or at some remove.
type secured interface {
	ConnectionState() tls.ConnectionState
}

// TLS is the state of the TLS connection underneath, nil when there is none.
func (c *Conn) TLS() *tls.ConnectionState {
	over, ok := c.nc.(secured)
	if !ok {
		return nil
	}
	state := over.ConnectionState()
	return &state
}

// Done is closed when the connection is.
func (c *Conn) Done() <-chan struct{} { return c.done }

// ReadConnect reads the first packet, which must be a CONNECT [MQTT-3.1.0-1]
// of MQTT 3.1.1; another version is told so [MQTT-3.1.2-2], and so is a client
// without an id that wants its session kept [MQTT-3.1.3-8].
func (c *Conn) ReadConnect() (*Connect, error) {
	if err := c.nc.SetReadDeadline(time.Now().Add(c.limits.ConnectTimeout)); err != nil {
		return nil, err
	}
	packet, err := c.reader.Next()
	if err != nil {
		return nil, err
	}
	connect, ok := packet.(*Connect)
	if !ok {
		return nil, malformed("MQTT-3.1.0-1", "the first packet is a %T", packet)
	}
	if connect.ProtocolLevel != 4 {
		return nil, errors.Join(fmt.Errorf("protocol level %d is not 3.1.1", connect.ProtocolLevel), c.Refuse(UnacceptableProtocol))
	}
	if connect.ClientID == "" && !connect.CleanSession {
		return nil, errors.Join(malformed("MQTT-3.1.3-7", "an empty client id needs a clean session"), c.Refuse(IdentifierRejected))
	}
	return connect, nil
}

// Accept lets the client in. From now on it must not be silent for more than
// one and a half times its keep-alive in seconds [MQTT-3.1.2-24].
func (c *Conn) Accept(sessionPresent bool, keepAlive uint16) error {
	c.silence = time.Duration(keepAlive) * time.Second * 3 / 2
	if c.silence == 0 || c.silence > c.limits.MaxKeepAlive {
		c.silence = c.limits.MaxKeepAlive
	}
	return c.Send(&Connack{SessionPresent: sessionPresent})
}

// refuseTimeout bounds the farewell to a client that is not let in.
const refuseTimeout = 2 * time.Second

// Refuse tells the client why it is not let in, and closes. More is for clients
// that have asked for it: [MQTT-3.2.2-5] has the server close after CONNACK.
func (c *Conn) Refuse(code ConnackCode, more ...Packet) error {
	err := c.nc.SetWriteDeadline(time.Now().Add(refuseTimeout))
	if err == nil {
		text := (&Connack{Code: code}).AppendTo(nil)
		for _, p := range more {
			text = p.AppendTo(text)
		}
		_, err = c.nc.Write(text)
	}
	return errors.Join(err, c.Close())
}

// Next returns the next packet; a *Publish is valid until the following call.
// Silence beyond the keep-alive is os.ErrDeadlineExceeded.
func (c *Conn) Next() (Packet, error) {
	if len(c.reader.held) == 0 {
		// A deadline costs a timer, so it moves only when a good part is used up.
		if now := time.Now(); c.deadline.Sub(now) < c.silence-c.slack() {
			c.deadline = now.Add(c.silence)
			if err := c.nc.SetReadDeadline(c.deadline); err != nil {
				return nil, err
			}
		}
	}
	packet, err := c.reader.Next()
	if err != nil {
		return nil, err
	}
	if _, again := packet.(*Connect); again {
		return nil, malformed("MQTT-3.1.0-2", "a second CONNECT")
	}
	return packet, nil
}

func (c *Conn) slack() time.Duration { return min(c.silence/20, time.Second) }

// Send queues a packet and returns. A goroutine writes for as long as there is
// something to write; packets that come meanwhile leave together.
func (c *Conn) Send(p Packet) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	if c.out == nil {
		c.out = borrow()
	}
	c.out = p.AppendTo(c.out)
	if len(c.out) > c.limits.MaxBuffered {
		c.closeLocked()
		return ErrSlowClient
	}
	if !c.writing {
		c.writing = true
		go c.write()
	}
	return nil
}

func (c *Conn) write() {
	for {
		c.mu.Lock()
		out := c.out
		c.out = nil
		if len(out) == 0 || c.closed {
			c.writing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		err := c.nc.SetWriteDeadline(time.Now().Add(c.limits.WriteTimeout))
		if err == nil {
			_, err = c.nc.Write(out)
		}
		giveBack(out)
		if err != nil {
			c.mu.Lock()
			c.closeLocked()
			c.writing = false
			c.mu.Unlock()
			return
		}
	}
}

// Close drops the connection at once. Only the first call does something.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closeLocked()
}

func (c *Conn) closeLocked() error {
	if c.closed {
		return nil
	}
	c.closed = true
	close(c.done)
	// The socket itself: a TLS farewell could wait for a client that is stuck.
	if secured, ok := c.nc.(*tls.Conn); ok {
		return secured.NetConn().Close()
	}
	return c.nc.Close()
}

// maxKept bounds the buffers kept for later; a burst must not hold memory for ever.
const maxKept = 16 << 10

var buffers = sync.Pool{New: func() any { return new([]byte) }}

func borrow() []byte { return (*buffers.Get().(*[]byte))[:0] }

func giveBack(b []byte) {
	if cap(b) <= maxKept {
		buffers.Put(&b)
	}
}
