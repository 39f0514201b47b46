package amqp

import (
	"context"
	"fmt"
	"time"
)

// session is a window of frames in either direction, and the links in it. The
// connection's mutex guards it.
type session struct {
	conn    *Conn
	channel uint16
	links   map[uint32]*link // by handle; we answer with the client's own

	nextIncoming uint32 // id of the next transfer frame to come
	incoming     uint32 // how many of them may still come
	nextOutgoing uint32
	peerWindow   uint32 // how many frames the client still takes
	nextDelivery uint32
	unsettled    map[uint32]*Delivery
}

func (s *session) take(f frame) error {
	switch f.code {
	case codeAttach:
		return s.attach(f)
	case codeFlow:
		return s.flow(f)
	case codeTransfer:
		return s.transfer(f)
	case codeDisposition:
		return s.disposition(f)
	case codeDetach:
		return s.detach(f)
	}
	return &Error{NotImplemented, fmt.Sprintf("there is no performative 0x%02x", f.code)}
}

// Attach is what a client asks for when it attaches a link.
type Attach struct {
	Name       string
	Source     string // address to receive from
	Target     string // address to send to
	Filter     Map    // of the source
	Properties Map
	// Settled says that the client wants what it receives sent settled.
	Settled bool
}

// link is one link of a session.
type link struct {
	session *session
	handle  uint32
	attach  Attach
	cancel  context.CancelFunc

	// Of a link on which we send:
	sender        *Sender
	credit        uint32
	deliveryCount uint32

	// Of a link on which the client sends:
	deliveries chan incoming
	partial    []byte // of a message in several frames
	id         uint32 // its delivery
	settled    bool
	receiving  bool   // a message has begun
	granted    uint32 // deliveries that may still come
}

// incoming is a whole delivery.
type incoming struct {
	id      uint32
	settled bool
	data    []byte
}

func (s *session) attach(f frame) error {
	handle := field[uint32](&f.composite, 1)
	receives := field[bool](&f.composite, 2)
	mode := uint8(2)
	if f.given(3) {
		mode = field[uint8](&f.composite, 3)
	}
	a := Attach{Name: field[string](&f.composite, 0), Properties: field[Map](&f.composite, 13), Settled: mode == 1}
	source, target := terminus(&f, 5), terminus(&f, 6)
	a.Source, a.Target = text(&source, 0), text(&target, 0)
	a.Filter = field[Map](&source, 7)
	for _, err := range []error{f.err, source.err, target.err} {
		if err != nil {
			return err
		}
	}
	switch {
	case handle >= maxLinks:
		return &Error{FramingError, fmt.Sprintf("handle %d is beyond the maximum of %d", handle, maxLinks-1)}
	case s.links[handle] != nil:
		return &Error{ErrantLink, fmt.Sprintf("handle %d is in use", handle)}
	}
	l := &link{session: s, handle: handle, attach: a}
	ctx, cancel := context.WithCancel(s.conn.ctx)
	l.cancel = cancel
	if receives {
		return s.attachSender(ctx, l, f)
	}
	return s.attachReceiver(ctx, l, f)
}

func terminus(f *frame, i int) composite {
	if !f.given(i) {
		return composite{}
	}
	c, ok := compositeOf(f.fields[i])
	if !ok && f.err == nil {
		f.err = malformed("field %d of attach is no terminus", i)
	}
	return c
}

// attachSender answers a client that wants to receive.
func (s *session) attachSender(ctx context.Context, l *link, f frame) error {
	run, refusal := s.conn.handler.Source(l.attach)
	if refusal != nil {
		l.cancel()
		return s.refuse(l, f, refusal)
	}
	mode := uint8(0)
	if l.attach.Settled {
		mode = 1
	}
	l.sender = &Sender{link: l}
	s.links[l.handle] = l
	if err := s.conn.write(s.channel, compose(codeAttach, l.attach.Name, l.handle, false, mode, uint8(0), shownTerminus(f, 5), shownTerminus(f, 6), nil, nil, uint32(0), uint64(maxMessage)), nil); err != nil {
		return err
	}
	s.conn.working.Go(func() {
		err := run(ctx, l.sender)
		s.conn.mu.Lock()
		defer s.conn.mu.Unlock()
		if ctx.Err() == nil && s.links[l.handle] == l && !s.conn.closed {
			s.leave(l, errorOf(err))
		}
	})
	return nil
}

// attachReceiver answers a client that wants to send.
func (s *session) attachReceiver(ctx context.Context, l *link, f frame) error {
	take, refusal := s.conn.handler.Target(l.attach)
	if refusal != nil {
		l.cancel()
		return s.refuse(l, f, refusal)
	}
	l.deliveryCount = field[uint32](&f.composite, 9)
	l.deliveries = make(chan incoming, linkCredit)
	s.links[l.handle] = l
	if err := s.conn.write(s.channel, compose(codeAttach, l.attach.Name, l.handle, true, uint8(2), uint8(0), shownTerminus(f, 5), shownTerminus(f, 6), nil, nil, nil, uint64(maxMessage)), nil); err != nil {
		return err
	}
	s.conn.working.Go(func() { l.receive(ctx, take) })
	return l.grant()
}

// shownTerminus is a terminus as the client sent it; nothing in it changes.
func shownTerminus(f frame, i int) any {
	if !f.given(i) {
		return nil
	}
	return f.fields[i]
}

// refuse attaches a link to nothing and detaches it, as clause 2.6.3 has it.
func (s *session) refuse(l *link, f frame, why *Error) error {
	receives := field[bool](&f.composite, 2)
	answer := compose(codeAttach, l.attach.Name, l.handle, !receives, uint8(2), uint8(0), nil, nil, nil, nil, uint32(0))
	if err := s.conn.write(s.channel, answer, nil); err != nil {
		return err
	}
	return s.conn.write(s.channel, compose(codeDetach, l.handle, true, why.described()), nil)
}

// leave detaches a link from our side.
func (s *session) leave(l *link, why *Error) {
	l.cancel()
	delete(s.links, l.handle)
	if err := s.conn.write(s.channel, compose(codeDetach, l.handle, true, why.described()), nil); err != nil {
		s.conn.cancel()
	}
	s.conn.changed.Broadcast()
}

// errorOf is what a client is told of a failure of ours.
func errorOf(err error) *Error {
	if err == nil {
		return nil
	}
	if why, ok := err.(*Error); ok {
		return why
	}
	return &Error{InternalError, "something went wrong inside Slipway; the server's log has the details"}
}

func (s *session) detach(f frame) error {
	l := s.links[field[uint32](&f.composite, 0)]
	if f.err != nil || l == nil {
		return f.err // of a link that we have detached: this is the answer
	}
	l.cancel()
	delete(s.links, l.handle)
	s.conn.changed.Broadcast()
	return s.conn.write(s.channel, compose(codeDetach, l.handle, true), nil)
}

func (s *session) closeLinks() {
	for handle, l := range s.links {
		l.cancel()
		delete(s.links, handle)
	}
	for id, d := range s.unsettled {
		d.settle(Released)
		delete(s.unsettled, id)
	}
	s.conn.changed.Broadcast()
}

// drainGrace is how long a link that is to be drained may still send.
const drainGrace = 20 * time.Millisecond

// flow takes what the client says of its windows, and of a link's credit.
func (s *session) flow(f frame) error {
	next, peer := field[uint32](&f.composite, 0), field[uint32](&f.composite, 1)
	s.peerWindow = next + peer - s.nextOutgoing
	if !f.given(0) {
		s.peerWindow = peer - s.nextOutgoing
	}
	defer s.conn.changed.Broadcast()
	if !f.given(4) {
		if field[bool](&f.composite, 9) {
			return s.tell()
		}
		return f.err
	}
	l := s.links[field[uint32](&f.composite, 4)]
	if l == nil || l.sender == nil {
		return f.err
	}
	l.credit = field[uint32](&f.composite, 5) + field[uint32](&f.composite, 6) - l.deliveryCount
	if l.credit > 1<<31 {
		l.credit = 0 // it has less than what is under way
	}
	if field[bool](&f.composite, 8) {
		time.AfterFunc(drainGrace, func() { s.drain(l) })
	} else if field[bool](&f.composite, 9) {
		return l.tell(false)
	}
	return f.err
}

// drain uses up a link's credit, because its client wants to know that there
// is no more.
func (s *session) drain(l *link) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.conn.closed || s.links[l.handle] != l {
		return
	}
	l.deliveryCount += l.credit
	l.credit = 0
	if l.tell(true) != nil {
		s.conn.cancel()
	}
}

// tell sends the state of the session.
func (s *session) tell() error {
	s.incoming = window
	return s.conn.write(s.channel, compose(codeFlow, s.nextIncoming, uint32(window), s.nextOutgoing, uint32(window)), nil)
}

// tell sends the state of a link with that of its session.
func (l *link) tell(drained bool) error {
	l.session.incoming = window
	credit := l.credit
	if l.sender == nil {
		credit = l.granted
	}
	return l.session.conn.write(l.session.channel, compose(codeFlow, l.session.nextIncoming, uint32(window), l.session.nextOutgoing, uint32(window),
		l.handle, l.deliveryCount, credit, nil, drained), nil)
}

// grant lets the client send up to linkCredit messages.
func (l *link) grant() error {
	l.granted = linkCredit
	return l.tell(false)
}

// transfer takes a frame of a message.
func (s *session) transfer(f frame) error {
	if s.incoming == 0 {
		return &Error{WindowViolation, fmt.Sprintf("more than %d frames", window)}
	}
	s.incoming--
	s.nextIncoming++
	l := s.links[field[uint32](&f.composite, 0)]
	if f.err != nil {
		return f.err
	}
	if l == nil || l.deliveries == nil {
		return nil // of a link that we have detached
	}
	if !l.receiving {
		if l.granted == 0 {
			s.leave(l, &Error{TransferLimit, fmt.Sprintf("more than %d messages under way", linkCredit)})
			return nil
		}
		l.granted--
		l.deliveryCount++
		l.receiving, l.partial, l.settled, l.id = true, nil, false, field[uint32](&f.composite, 1)
	}
	l.settled = l.settled || field[bool](&f.composite, 4)
	if len(l.partial)+len(f.payload) > maxMessage {
		s.leave(l, &Error{MessageTooLarge, fmt.Sprintf("a message has at most %d bytes", maxMessage)})
		return nil
	}
	l.partial = append(l.partial, f.payload...)
	more, aborted := field[bool](&f.composite, 5), field[bool](&f.composite, 9)
	if f.err != nil || more && !aborted {
		return s.refill(f.err)
	}
	l.receiving = false
	if !aborted {
		l.deliveries <- incoming{l.id, l.settled, l.partial} // there is room: credit sees to it
	}
	l.partial = nil
	return s.refill(nil)
}

// refill opens the window again when half of it is used.
func (s *session) refill(err error) error {
	if err != nil || s.incoming > window/2 {
		return err
	}
	return s.tell()
}

// receive works off what the client sends, one message after the other.
func (l *link) receive(ctx context.Context, take func(context.Context, Message) Outcome) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-l.deliveries:
			m, err := ReadMessage(d.data)
			outcome := Rejected(&Error{DecodeError, "the message cannot be read"})
			if err == nil {
				outcome = take(ctx, m)
			}
			if ctx.Err() != nil || l.settle(d, outcome) != nil {
				return
			}
		}
	}
}

func (l *link) settle(d incoming, outcome Outcome) error {
	c := l.session.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errDone
	}
	if !d.settled {
		if err := c.write(l.session.channel, compose(codeDisposition, true, d.id, d.id, true, outcome.described()), nil); err != nil {
			c.cancel()
			return err
		}
	}
	if l.session.links[l.handle] == l && l.granted+uint32(len(l.deliveries)) <= linkCredit/2 {
		l.granted = linkCredit - uint32(len(l.deliveries))
		return l.tell(false)
	}
	return nil
}

// disposition takes what the client makes of our deliveries.
func (s *session) disposition(f frame) error {
	fromReceiver, first := field[bool](&f.composite, 0), field[uint32](&f.composite, 1)
	last := first
	if f.given(2) {
		last = field[uint32](&f.composite, 2)
	}
	settled := field[bool](&f.composite, 3)
	if f.err != nil || !fromReceiver || !settled && !f.given(4) {
		return f.err
	}
	var state any
	if f.given(4) {
		state = f.fields[4]
	}
	outcome := outcomeOf(state)
	for id, d := range s.unsettled {
		if id-first <= last-first { // serial numbers, which may wrap around
			d.settle(outcome)
			delete(s.unsettled, id)
		}
	}
	s.conn.changed.Broadcast()
	if settled {
		return nil
	}
	return s.conn.write(s.channel, compose(codeDisposition, false, first, last, true, outcome.described()), nil)
}
