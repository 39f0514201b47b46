package delivery

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/endpoint"
	"github.com/slipway/slipway/internal/stamp/telemetry"
)

// halving halves n, drops odd ones, and cannot do multiples of ten while sick.
type halving struct{ sick *atomic.Bool }

func (h halving) Run(_ context.Context, messages [][]byte) ([][]byte, error) {
	out := make([][]byte, len(messages))
	for i, text := range messages {
		var m struct {
			DeviceID string         `json:"deviceId"`
			Body     map[string]int `json:"body"`
		}
		if err := json.Unmarshal(text, &m); err != nil {
			return nil, err
		}
		n := m.Body["n"]
		if n%10 == 0 && h.sick.Load() {
			return nil, problem.New(problem.Invalid, "cannot halve %d", n)
		}
		if n%2 == 0 {
			line, err := json.Marshal(map[string]any{"deviceId": "somebody else", "body": map[string]int{"n": n / 2}, "properties": map[string]string{"halved": "yes"}})
			if err != nil {
				return nil, err
			}
			out[i] = line
		}
	}
	return out, nil
}

func (halving) Close() error { return nil }

// TestAProcessorWorksOnMessages has a program change, drop and fail: each
// message is delivered, passed over or dead, and one that is sent once more is
// worked on once more.
func TestAProcessorWorksOnMessages(t *testing.T) {
	w := newWorld(t, telemetry.DefaultRetention)
	var there, sick atomic.Bool
	sick.Store(true)
	w.program = func(context.Context, link.Processor) (Program, error) {
		if !there.Load() {
			return nil, problem.New(problem.NotReady, "the stamp does not have the processor yet")
		}
		return halving{&sick}, nil
	}
	var first atomic.Pointer[endpoint.Message]
	w.receiver("r").behave(func(batch []endpoint.Message) error {
		first.CompareAndSwap(nil, &batch[0])
		return nil
	})
	w.declare(map[string]link.RouteSpec{"r": {Processor: &link.Processor{}}})
	w.send(100)
	w.until("r", func(s link.RouteState) bool { return s.State == "failing" && s.Error != "" })
	there.Store(true)
	w.engine.Wake()
	s := w.until("r", done)
	if s.Delivered != 40 || s.Passed != 50 || s.Dead != 10 || s.DeadLetters != 10 {
		t.Errorf("got %+v", s)
	}
	var m link.LogRecord
	if err := json.Unmarshal(first.Load().JSON, &m); err != nil {
		t.Fatal(err)
	}
	if m.DeviceID == "somebody else" || m.Sequence != 2 || string(m.Body) != `{"n":1}` || m.Properties["halved"] != "yes" {
		t.Errorf("a message became %s", first.Load().JSON)
	}
	page, err := w.engine.DeadLetters(t.Context(), link.DeadLetterPage{Route: "r"})
	if err != nil || len(page.Items) != 10 || page.Items[0].Reason != "cannot halve 10" {
		t.Fatalf("%+v, %v", page.Items, err)
	}
	if err := json.Unmarshal(page.Items[0].Message, &m); err != nil || string(m.Body) != `{"n":10}` {
		t.Errorf("a dead letter is %s", page.Items[0].Message)
	}
	sick.Store(false)
	if _, err := w.engine.Replay(t.Context(), link.DeadLetterRef{Route: "r"}); err != nil {
		t.Fatal(err)
	}
	if s := w.until("r", func(s link.RouteState) bool { return s.DeadLetters == 0 }); s.Delivered != 50 || s.Dead != 0 {
		t.Errorf("got %+v", s)
	}
}
