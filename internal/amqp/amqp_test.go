package amqp

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	client "github.com/Azure/go-amqp"
	"pgregory.net/rapid"
)

// The encodings of AMQP 1.0 part 1, each beside the value it stands for.
func TestDecodeKnowsEveryEncoding(t *testing.T) {
	for text, want := range map[string]any{
		"40": nil, "41": true, "42": false, "5601": true, "5600": false,
		"50ff": uint8(255), "60ffff": uint16(65535), "70000000ff": uint32(255), "52ff": uint32(255), "43": uint32(0),
		"80000000000000ffff": uint64(65535), "53ff": uint64(255), "44": uint64(0),
		"51ff": int8(-1), "61ffff": int16(-1), "71ffffffff": int32(-1), "54ff": int32(-1), "81ffffffffffffffff": int64(-1), "55ff": int64(-1),
		"723f800000": float32(1), "823ff0000000000000": float64(1), "7300000041": "A", "83000000000000000a": time.UnixMilli(10).UTC(),
		"9800112233445566778899aabbccddeeff": UUID{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff},
		"a00101":                             []byte{1}, "b00000000101": []byte{1}, "a10161": "a", "b10000000161": "a", "a30161": Symbol("a"), "b30000000161": Symbol("a"),
		"45": List{}, "c0020141": List{true}, "d0000000050000000141": List{true}, "c10602a1016b4141": nil,
		"c10502a1016b41": Map{{"k", true}}, "d10000000800000002a1016b41": Map{{"k", true}},
		"e00402530102": Array{uint64(1), uint64(2)}, "f000000007000000025301ff": nil, "f00000000700000002530102": Array{uint64(1), uint64(2)},
		"e008020053715301" + "02": nil,
		"005310c00101":            nil, "005310c0020141": Described{uint64(0x10), List{true}},
	} {
		data, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		got, rest, err := Decode(data)
		if want == nil && text != "40" {
			continue // malformed or not worth a value: must only not panic
		}
		if err != nil || len(rest) != 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v, %d bytes left, %v", text, got, len(rest), err)
		}
	}
}

func TestDecodeRefusesWhatIsNone(t *testing.T) {
	for _, text := range []string{"", "00", "a1", "a105", "b1ffffffff", "c0ff01", "c00541", "d0ffffffffffffffff", "c10301404040", "f0000000090000ffff40", "a102c328", "3f", "c003014141", strings.Repeat("0044", 40) + "40"} {
		data, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if value, _, err := Decode(data); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s is %#v, %v", text, value, err)
		}
	}
}

func values(depth int) *rapid.Generator[any] {
	simple := []*rapid.Generator[any]{
		rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.Uint8().AsAny(), rapid.Uint16().AsAny(), rapid.Uint32().AsAny(), rapid.Uint64().AsAny(),
		rapid.Int8().AsAny(), rapid.Int16().AsAny(), rapid.Int32().AsAny(), rapid.Int64().AsAny(), rapid.Float64().AsAny(), rapid.String().AsAny(),
		rapid.SliceOfN(rapid.Byte(), 0, 400).AsAny(), rapid.Map(rapid.StringMatching(`[a-z:-]{0,300}`), func(s string) any { return Symbol(s) }),
		rapid.Map(rapid.Int64Range(-1<<50, 1<<50), func(ms int64) any { return time.UnixMilli(ms).UTC() }),
	}
	if depth == 0 {
		return rapid.OneOf(simple...)
	}
	inner := values(depth - 1)
	return rapid.OneOf(append(simple,
		rapid.Map(rapid.SliceOfN(inner, 0, 300), func(all []any) any {
			if len(all) == 0 {
				return List{}
			}
			return List(all)
		}),
		rapid.Map(rapid.SliceOfN(inner, 1, 20), func(all []any) any {
			m := Map{}
			for _, v := range all {
				m = append(m, Pair{"k", v})
			}
			return m
		}),
		rapid.Map(inner, func(v any) any { return Described{uint64(0x77), v} }))...)
}

func TestWhatIsEncodedComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := values(2).Draw(t, "value")
		got, rest, err := Decode(Append(nil, value))
		if err != nil || len(rest) != 0 || !reflect.DeepEqual(got, value) {
			t.Fatalf("%#v became %#v, %v", value, got, err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(Append(nil, compose(codeOpen, "id", "host", uint32(512), Map{{Symbol("a"), List{true}}})))
	f.Add(Message{Data: []byte("x"), Application: Map{{"a", "b"}}, Annotations: Map{{Symbol("x"), int64(1)}}}.Encode())
	f.Add([]byte{0xf0, 0, 0, 0, 7, 0, 0, 0, 2, 0x53, 1, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		value, _, err := Decode(data)
		if err == nil {
			if again, _, err := Decode(Append(nil, value)); err != nil {
				t.Errorf("%#v became %#v, %v", value, again, err)
			}
		}
		if m, err := ReadMessage(data); err == nil {
			if _, err := ReadMessage(m.Encode()); err != nil {
				t.Errorf("%#v: %v", m, err)
			}
		}
		if _, err := readFrame(bytes.NewReader(data), kindAMQP, maxFrame); err == nil && len(data) < 8 {
			t.Error("a frame of nothing")
		}
	})
}

// echo is a handler with a queue: what is sent to it can be received from it.
type echo struct {
	queue   chan Message
	settled chan Outcome
}

func (e *echo) Source(a Attach) (func(context.Context, *Sender) error, *Error) {
	if a.Source != "queue" {
		return nil, &Error{NotFound, "no such source"}
	}
	return func(ctx context.Context, s *Sender) error {
		for {
			if err := s.Ready(ctx); err != nil {
				return nil
			}
			select {
			case <-ctx.Done():
				return nil
			case m := <-e.queue:
				d, err := s.Send(ctx, m, a.Settled)
				if err != nil {
					return err
				}
				if d != nil {
					e.settled <- <-d.Outcome()
				}
			}
		}
	}, nil
}

func (e *echo) Target(a Attach) (func(context.Context, Message) Outcome, *Error) {
	if a.Target != "queue" {
		return nil, &Error{NotFound, "no such target"}
	}
	return func(_ context.Context, m Message) Outcome {
		if string(m.Data) == "poison" {
			return Rejected(&Error{NotAllowed, "not that"})
		}
		e.queue <- m
		return Accepted
	}, nil
}

// serve serves one connection after the other until the test ends.
func serve(t *testing.T, h Handler) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer nc.Close()
				if c, err := Accept(nc); err == nil {
					c.Serve(ctx, h) // the client's side is what is tested
				}
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

func dial(t *testing.T, address string, o *client.ConnOptions) (*client.Conn, *client.Session) {
	t.Helper()
	c, err := client.Dial(t.Context(), "amqp://"+address, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := c.NewSession(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func TestAnotherImplementationSendsAndReceives(t *testing.T) {
	h := &echo{make(chan Message, 1000), make(chan Outcome, 1000)}
	_, session := dial(t, serve(t, h), &client.ConnOptions{SASLType: client.SASLTypeAnonymous(), MaxFrameSize: 512})
	sender, err := session.NewSender(t.Context(), "queue", nil)
	if err != nil {
		t.Fatal(err)
	}
	receiver, err := session.NewReceiver(t.Context(), "queue", &client.ReceiverOptions{Credit: 10})
	if err != nil {
		t.Fatal(err)
	}
	big := bytes.Repeat([]byte("0123456789"), 30_000) // many frames of 512 bytes
	for i := range 300 {
		m := client.NewMessage([]byte{byte(i)})
		if i%100 == 50 {
			m = client.NewMessage(big)
		}
		m.Properties = &client.MessageProperties{MessageID: uint64(i)}
		m.ApplicationProperties = map[string]any{"n": int64(i), "text": "ü"}
		m.Annotations = client.Annotations{"x-opt-n": int32(i)}
		if err := sender.Send(t.Context(), m, nil); err != nil {
			t.Fatal(err)
		}
		got, err := receiver.Receive(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.GetData(), m.GetData()) || got.ApplicationProperties["n"] != int64(i) || got.Annotations["x-opt-n"] != int32(i) || got.Properties.MessageID != uint64(i) {
			t.Fatalf("message %d came back as %+v", i, got)
		}
		if i%2 == 0 {
			err = receiver.AcceptMessage(t.Context(), got)
		} else {
			err = receiver.RejectMessage(t.Context(), got, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		if outcome := <-h.settled; outcome.Accepted() != (i%2 == 0) {
			t.Errorf("message %d: %+v", i, outcome)
		}
	}
	var why *client.Error
	if err := sender.Send(t.Context(), client.NewMessage([]byte("poison")), nil); !errors.As(err, &why) || why.Condition != client.ErrCondNotAllowed {
		t.Errorf("got %v", err)
	}
}

func TestCreditIsKeptAndDrained(t *testing.T) {
	h := &echo{make(chan Message, 1000), make(chan Outcome, 1000)}
	_, session := dial(t, serve(t, h), nil)
	receiver, err := session.NewReceiver(t.Context(), "queue", &client.ReceiverOptions{Credit: -1, RequestedSenderSettleMode: client.SenderSettleModeSettled.Ptr()})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		h.queue <- Message{Data: []byte{byte(i)}}
	}
	if err := receiver.IssueCredit(3); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		m, err := receiver.Receive(t.Context(), nil)
		if err != nil || m.GetData()[0] != byte(i) {
			t.Fatalf("%v, %v", m, err)
		}
	}
	if err := receiver.IssueCredit(10); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := receiver.Receive(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := receiver.DrainCredit(t.Context(), nil); err != nil {
		t.Errorf("draining: %v", err)
	}
	if m := receiver.Prefetched(); m != nil {
		t.Errorf("got %v without credit", m)
	}
}

func TestLinksToNothingAreRefused(t *testing.T) {
	_, session := dial(t, serve(t, &echo{}), nil)
	var why *client.Error
	if _, err := session.NewSender(t.Context(), "nowhere", nil); !errors.As(err, &why) && err == nil {
		t.Errorf("got %v", err)
	}
	if _, err := session.NewReceiver(t.Context(), "nowhere", nil); err == nil {
		t.Error("it was attached")
	}
}

// Peers that break the protocol are told so, or dropped; nothing else happens.
func TestBrokenPeersAreLeft(t *testing.T) {
	address := serve(t, &echo{make(chan Message, 10), make(chan Outcome, 10)})
	open := appendFrame(append([]byte{}, protocolAMQP...), kindAMQP, 0, compose(codeOpen, "me", "host"), nil)
	begin := appendFrame(nil, kindAMQP, 0, compose(codeBegin, nil, uint32(0), uint32(10), uint32(10)), nil)
	attach := appendFrame(nil, kindAMQP, 0, compose(codeAttach, "l", uint32(0), false, nil, nil, compose(codeSource), compose(codeTarget, "queue")), nil)
	transfer := appendFrame(nil, kindAMQP, 0, compose(codeTransfer, uint32(0), uint32(0), []byte{1}, uint32(0), false, true), bytes.Repeat([]byte{0}, 1000))
	for name, sent := range map[string][]byte{
		"another protocol":        []byte("GET / HTTP/1.1\r\n\r\n"),
		"a huge frame":            append(slices.Clone(open), 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0),
		"a frame of nothing":      append(slices.Clone(open), 0, 0, 0, 4, 2, 0, 0, 0),
		"no session":              append(slices.Clone(open), attach...),
		"a session twice":         slices.Concat(open, begin, begin),
		"a handle beyond":         slices.Concat(open, begin, appendFrame(nil, kindAMQP, 0, compose(codeAttach, "l", uint32(1000), false, nil, nil, nil, nil), nil)),
		"a message without end":   slices.Concat(open, begin, attach, bytes.Repeat(transfer, 500)),
		"a field of another type": slices.Concat(open, begin, appendFrame(nil, kindAMQP, 0, compose(codeAttach, uint32(7), "x"), nil)),
		"SASL with nothing":       append(slices.Clone(protocolSASL), appendFrame(nil, kindSASL, 0, compose(codeOutcome), nil)...),
	} {
		nc, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Write(sent); err != nil && name != "a message without end" {
			t.Errorf("%s: %v", name, err)
		}
		if name == "a message without end" {
			// Only the link ends; the connection is still there.
			if _, err := nc.Write(appendFrame(nil, kindAMQP, 0, compose(codeClose), nil)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if !ends(nc) {
			t.Errorf("%s: the connection stays", name)
		}
		nc.Close()
	}
}

// ends reads until the peer closes.
func ends(nc net.Conn) bool {
	buffer := make([]byte, 4096)
	for {
		if _, err := nc.Read(buffer); err != nil {
			var timeout net.Error
			return !errors.As(err, &timeout) || !timeout.Timeout()
		}
	}
}
