package amqp

import (
	"context"
	"encoding/binary"
	"sync"
)

// Sender sends on one link.
type Sender struct{ link *link }

// Attach is what the client asked for.
func (s *Sender) Attach() Attach { return s.link.attach }

// Delivery is a message that was sent and not settled.
type Delivery struct {
	once    sync.Once
	outcome chan Outcome
}

// Outcome returns a channel on which the client's verdict comes. A client that
// leaves without one releases the delivery.
func (d *Delivery) Outcome() <-chan Outcome { return d.outcome }

func (d *Delivery) settle(o Outcome) { d.once.Do(func() { d.outcome <- o }) }

// wake has everybody who waits look again. It takes the mutex, as somebody may
// be between looking and waiting.
func (c *Conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed.Broadcast()
}

// Ready waits until the client takes a message.
func (s *Sender) Ready(ctx context.Context) error {
	c := s.link.session.conn
	stop := context.AfterFunc(ctx, c.wake)
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	return s.wait(ctx)
}

// wait waits for credit and room. The caller holds mu.
func (s *Sender) wait(ctx context.Context) error {
	l := s.link
	for {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case l.session.conn.closed || l.session.links[l.handle] != l:
			return errDone
		case l.credit > 0 && l.session.peerWindow > 0 && len(l.session.unsettled) < maxUnsettled:
			return nil
		}
		l.session.conn.changed.Wait()
	}
}

// Send sends a message as soon as the client takes one. A settled delivery is
// nil: nobody will hear what became of it.
func (s *Sender) Send(ctx context.Context, m Message, settled bool) (*Delivery, error) {
	data := m.Encode()
	l := s.link
	c := l.session.conn
	stop := context.AfterFunc(ctx, c.wake)
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	id := l.session.nextDelivery
	l.session.nextDelivery++
	l.credit--
	l.deliveryCount++
	var d *Delivery
	if !settled {
		d = &Delivery{outcome: make(chan Outcome, 1)}
		l.session.unsettled[id] = d
	}
	return d, s.transfer(ctx, id, settled, data)
}

// frameOverhead is more than a transfer takes beside its payload.
const frameOverhead = 64

// transfer cuts a message into frames. The caller holds mu.
func (s *Sender) transfer(ctx context.Context, id uint32, settled bool, data []byte) error {
	l := s.link
	c := l.session.conn
	tag := binary.BigEndian.AppendUint32(nil, id)
	for first := true; first || len(data) > 0; first = false {
		for l.session.peerWindow == 0 {
			if ctx.Err() != nil || c.closed || l.session.links[l.handle] != l {
				c.cancel() // half a message was sent; nothing else can follow it
				return errDone
			}
			c.changed.Wait()
		}
		part := data[:min(len(data), int(c.peerFrame)-frameOverhead)]
		data = data[len(part):]
		body := compose(codeTransfer, l.handle, id, tag, uint32(0), settled, len(data) > 0)
		if !first {
			body = compose(codeTransfer, l.handle, nil, nil, nil, settled, len(data) > 0)
		}
		l.session.peerWindow--
		l.session.nextOutgoing++
		if err := c.write(l.session.channel, body, part); err != nil {
			c.cancel()
			return err
		}
	}
	return nil
}
