package mqtt

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// clientWriteTimeout is how long a client waits for the network to take a packet.
const clientWriteTimeout = 30 * time.Second

// ClientConn is a client's side of a connection.
type ClientConn struct {
	nc     net.Conn
	reader *Reader
	mu     sync.Mutex
	out    []byte
}

// NewClientConn wraps a connection to a server.
func NewClientConn(nc net.Conn, maxPacket int) *ClientConn {
	return &ClientConn{nc: nc, reader: NewReader(nc, maxPacket)}
}

// Connect opens the session and returns the server's answer.
func (c *ClientConn) Connect(ctx context.Context, connect *Connect) (*Connack, error) {
	stop := context.AfterFunc(ctx, func() { c.nc.Close() })
	defer stop()
	if err := c.Write(connect); err != nil {
		return nil, err
	}
	packet, err := c.Next()
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	connack, ok := packet.(*Connack)
	if !ok {
		return nil, fmt.Errorf("%w: the answer to CONNECT is a %T", ErrMalformed, packet)
	}
	return connack, nil
}

// Next returns the next packet; a *Publish is valid until the following call.
func (c *ClientConn) Next() (Packet, error) { return c.reader.Next() }

// SetReadDeadline bounds the wait of Next; the zero time removes the bound.
func (c *ClientConn) SetReadDeadline(t time.Time) error { return c.nc.SetReadDeadline(t) }

// Write sends packets, as one write.
func (c *ClientConn) Write(packets ...Packet) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = c.out[:0]
	for _, p := range packets {
		c.out = p.AppendTo(c.out)
	}
	if err := c.nc.SetWriteDeadline(time.Now().Add(clientWriteTimeout)); err != nil {
		return err
	}
	_, err := c.nc.Write(c.out)
	if cap(c.out) > maxKept {
		c.out = nil
	}
	return err
}

// Close drops the connection.
func (c *ClientConn) Close() error { return c.nc.Close() }
