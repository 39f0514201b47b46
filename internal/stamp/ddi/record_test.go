package ddi_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/ddi"
)

// TestRecordsHoldTheirRules has a client and the stamp say anything in any
// order, and looks at what must be so whatever they say.
func TestRecordsHoldTheirRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{r: ddi.Record{Client: rapid.SampledFrom([]ddi.Client{ddi.SWUpdate, ddi.RAUC, ddi.Other}).Draw(t, "client")}, closed: map[int64]bool{}}
		t.Repeat(map[string]func(*rapid.T){
			"order":    m.order,
			"withdraw": func(*rapid.T) { m.current = nil },
			"settle":   func(t *rapid.T) { m.due = rapid.Bool().Draw(t, "due") },
			"feedback": m.feedback,
			"cancel":   m.cancel,
			"":         m.check,
		})
	})
}

// model is what is known beside the record.
type model struct {
	r       ddi.Record
	current *link.UpdateOrder
	due     bool
	last    int64
	begun   int64 // the action the client works on; 0 when none
	written bool
	closed  map[int64]bool
}

func (m *model) order(t *rapid.T) {
	m.last += rapid.Int64Range(1, 3).Draw(t, "step")
	m.current, m.due = &link.UpdateOrder{Order: m.last, Software: []link.Software{{Name: "firmware", Version: "1"}}}, true
}

var words = []string{"closed", "proceeding", "canceled", "scheduled", "rejected", "resumed", "download", "downloaded"}

func draw(t *rapid.T) (int64, ddi.Feedback) {
	f := ddi.Feedback{Execution: rapid.SampledFrom(words).Draw(t, "execution"), Finished: rapid.SampledFrom([]string{"success", "failure", "none"}).Draw(t, "finished")}
	f.Details = rapid.SliceOfN(rapid.SampledFrom([]string{"x", "error", "All Chunks Installed.", "Skipped Update."}), 0, 3).Draw(t, "details")
	return rapid.Int64Range(1, 12).Draw(t, "action"), f
}

func (m *model) feedback(t *rapid.T) {
	id, f := draw(t)
	offer, offered := m.r.Offer(m.current, m.due)
	after, report, err := m.r.Feedback(id, f, offer, offered)
	switch {
	case m.closed[id] && err == nil:
		t.Fatalf("action %d is closed and was taken again", id)
	case m.begun == id && err != nil:
		t.Fatalf("action %d is open and was refused: %v", id, err)
	case m.begun != id && err == nil && (!offered || offer.Stop || offer.Order.Order != id):
		t.Fatalf("action %d was begun and not offered", id)
	case err != nil:
		return
	}
	if report != nil && report.Phase == link.OrderConfirmed && (f.Execution != "closed" || m.r.Client != ddi.SWUpdate || f.Finished == "failure") {
		t.Fatalf("%+v of a client %q confirms", f, m.r.Client)
	}
	m.r, m.begun = after, id
	m.written = after.Action.Written
	m.settled(f.Execution == "closed")
}

func (m *model) cancel(t *rapid.T) {
	id, f := draw(t)
	offer, offered := m.r.Offer(m.current, m.due)
	after, _, err := m.r.CancelFeedback(id, f, offer, offered)
	if (err == nil) != (offered && offer.Stop && offer.Order.Order == id) {
		t.Fatalf("offered %+v, an answer about %d: %v", offer, id, err)
	}
	if err == nil {
		m.r = after
		m.settled(f.Execution == "closed" && f.Finished != "failure")
	}
}

func (m *model) settled(closed bool) {
	if closed {
		m.closed[m.begun], m.begun, m.written = true, 0, false
	}
}

func (m *model) check(t *rapid.T) {
	offer, offered := m.r.Offer(m.current, m.due)
	switch {
	case m.begun != 0 && (!offered || offer.Order.Order != m.begun):
		t.Fatalf("action %d is open, and %v %+v is offered", m.begun, offered, offer)
	case m.begun != 0 && offer.Stop && m.written:
		t.Fatalf("action %d is to be stopped though it is written", m.begun)
	case m.begun != 0 && offer.Stop && m.current != nil && m.current.Order == m.begun:
		t.Fatalf("action %d is to be stopped though it is wanted", m.begun)
	case m.begun == 0 && offered && (offer.Stop || m.current == nil || !m.due || m.closed[offer.Order.Order]):
		t.Fatalf("%+v is offered", offer)
	}
	if a := m.r.Action; a != nil && len(a.Messages) > 50 {
		t.Fatalf("%d messages are kept", len(a.Messages))
	}
}

func FuzzFeedback(f *testing.F) {
	f.Add([]byte(`{"id":"8","status":{"execution":"proceeding","code":0,"details":["text"],"result":{"finished":"none","progress":{"cnt":1,"of":4}}}}`))
	f.Add([]byte(`{"status":{"execution":"closed","details":[""],"result":{"finished":"success","progress":{}}}}`))
	f.Add([]byte(`{"status":{"execution":"closed","details":null,"result":{"finished":"failure","progress":[]}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		feedback, err := ddi.DecodeFeedback(text)
		if err != nil {
			if !problem.Is(err, problem.Invalid) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		order := &link.UpdateOrder{Order: 1}
		offer, offered := ddi.Record{}.Offer(order, true)
		after, report, err := ddi.Record{}.Feedback(1, feedback, offer, offered)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if report != nil && (report.Progress < 0 || report.Progress > 100) {
			t.Errorf("%q: %+v", text, report)
		}
		for _, message := range after.Action.Messages {
			if len(message) > 512 || strings.ContainsFunc(message, func(c rune) bool { return c < ' ' }) {
				t.Errorf("%q: kept %q", text, message)
			}
		}
	})
}

func FuzzAttributes(f *testing.F) {
	f.Add([]byte(`{"mode":"merge","data":{"hw_revision":"1.0","software.app":"7"}}`))
	f.Add([]byte(`{"id":"","time":"x","status":{},"data":{"a.b":null,"n":1.5,"b":true}}`))
	f.Add([]byte(`{"mode":"remove","data":{"a":"\u0000"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		attributes, err := ddi.ApplyAttributes(map[string]string{"a": "1"}, text)
		if err != nil {
			if !problem.Is(err, problem.Invalid) && !problem.Is(err, problem.TooLarge) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if len(attributes) > 100 {
			t.Errorf("%d attributes are kept", len(attributes))
		}
		for key, value := range attributes {
			if key == "" || len(value) > 512 || strings.ContainsRune(value, 0) {
				t.Errorf("%q: kept %q", key, value)
			}
		}
	})
}
