package hub

import (
	"context"
	"encoding/json"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/telemetry"
	"github.com/slipway/slipway/internal/trail"
)

// The limits of direct methods.
const (
	MaxMethodPayload   = 128 << 10
	maxMethodName      = 100
	maxPendingMethods  = 32
	minResponseTimeout = 5 * time.Second
	maxMethodTimeout   = 300 * time.Second
	defaultResponse    = 30 * time.Second
)

// MethodResponse is what a device answers.
type MethodResponse struct {
	Status  int
	Payload []byte
}

// Invoke runs a direct method on a device and waits for its answer.
func (h *Hub) Invoke(ctx context.Context, req link.InvokeMethod) (link.MethodResult, error) {
	if err := checkMethod(&req); err != nil {
		return link.MethodResult{}, err
	}
	if _, err := h.Devices.Get(ctx, req.DeviceID); err != nil {
		return link.MethodResult{}, err
	}
	for deadline := time.Now().Add(req.ConnectTimeout); ; {
		process, err := h.find(ctx, req.DeviceID, max(0, time.Until(deadline)))
		if err != nil {
			return link.MethodResult{}, err
		}
		invoked, err := h.invokeAt(ctx, process, req)
		if err != nil || !invoked.Absent {
			return invoked.Result, err
		}
		if !time.Now().Before(deadline) {
			return link.MethodResult{}, problem.New(problem.NotReady, "device %s is not connected", req.DeviceID)
		}
	}
}

func (h *Hub) invokeAt(ctx context.Context, process string, req link.InvokeMethod) (Invoked, error) {
	if process != h.Process {
		return h.Others.Invoke(ctx, process, req)
	}
	return h.InvokeHere(ctx, req)
}

// Invoked is what became of a method at a process.
type Invoked struct {
	Result link.MethodResult `json:"result"`
	Absent bool              `json:"absent,omitempty"` // the device was not there, and not asked
}

// InvokeHere is Invoke for a device that is connected to this process.
func (h *Hub) InvokeHere(ctx context.Context, req link.InvokeMethod) (_ Invoked, err error) {
	s, qos, absent := h.listening(ctx, req.DeviceID, 0)
	if absent != nil {
		return Invoked{Absent: true}, nil
	}
	rid, answered, err := s.expect()
	if err != nil {
		return Invoked{}, err
	}
	defer s.unexpect(rid)
	h.invoking.Add(1)
	began := time.Now()
	_, work := trail.Under(ctx, "device answers "+req.Method)
	s.about(work)
	defer func() { h.invoking.Add(-1); h.meters.method(time.Since(began), work.Trace(), err); work.End(err) }()
	s.downlink.Method(rid, req.Method, req.Payload, qos)
	timeout := time.NewTimer(req.ResponseTimeout)
	defer timeout.Stop()
	select {
	case r := <-answered:
		h.Logs.Note(telemetry.Event{DeviceID: req.DeviceID, Kind: "methodInvoked", Details: map[string]string{"method": req.Method}})
		return Invoked{Result: methodResult(r)}, nil
	case <-s.ended:
		return Invoked{}, problem.New(problem.NotReady, "device %s disconnected before it answered", req.DeviceID)
	case <-timeout.C:
		return Invoked{}, problem.New(problem.TimedOut, "device %s did not answer within %s", req.DeviceID, req.ResponseTimeout)
	case <-ctx.Done():
		return Invoked{}, problem.New(problem.TimedOut, "device %s did not answer in time", req.DeviceID)
	}
}

func checkMethod(req *link.InvokeMethod) error {
	if req.ResponseTimeout == 0 {
		req.ResponseTimeout = defaultResponse
	}
	if len(req.Payload) == 0 {
		req.Payload = []byte("null")
	}
	if req.Method == "" || len(req.Method) > maxMethodName {
		return problem.New(problem.Invalid, "a method name has 1 to %d characters, not %d", maxMethodName, len(req.Method)).At("method")
	}
	for i := range len(req.Method) {
		if c := req.Method[i]; c <= ' ' || c > '~' || c == '/' || c == '?' || c == '#' || c == '+' {
			return problem.New(problem.Invalid, "a method name has printable ASCII without / ? # + and spaces, not %q", c).At("method")
		}
	}
	switch {
	case len(req.Payload) > MaxMethodPayload:
		return problem.New(problem.TooLarge, "a method's payload has at most %d bytes, not %d", MaxMethodPayload, len(req.Payload)).At("payload")
	case req.ResponseTimeout < minResponseTimeout || req.ResponseTimeout > maxMethodTimeout:
		return problem.New(problem.Invalid, "the response timeout is %s to %s, not %s", minResponseTimeout, maxMethodTimeout, req.ResponseTimeout).At("responseTimeout")
	case req.ConnectTimeout < 0 || req.ConnectTimeout > maxMethodTimeout:
		return problem.New(problem.Invalid, "the connect timeout is 0 to %s, not %s", maxMethodTimeout, req.ConnectTimeout).At("connectTimeout")
	}
	return nil
}

// methodResult shows JSON as it is, and any other text as a JSON string.
func methodResult(r MethodResponse) link.MethodResult {
	result := link.MethodResult{Status: r.Status, Payload: r.Payload}
	if len(r.Payload) == 0 {
		result.Payload = nil
	} else if !json.Valid(r.Payload) {
		if text, err := json.Marshal(string(r.Payload)); err == nil {
			result.Payload = text
		}
	}
	return result
}

// listening returns the session of a device that takes method calls, waiting
// for it as long as the caller allows.
func (h *Hub) listening(ctx context.Context, id string, wait time.Duration) (*Session, byte, error) {
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	h.waiters.Add(1)
	defer h.waiters.Add(-1)
	for {
		arrival := h.nextArrival()
		s := h.session(id)
		if s != nil && !h.retiring.Load() {
			if qos, ok := s.Subscribed(Methods); ok {
				return s, qos, nil
			}
		}
		select {
		case <-arrival:
		case <-deadline.C:
			if s == nil {
				return nil, 0, problem.New(problem.NotReady, "device %s is not connected", id)
			}
			return nil, 0, problem.New(problem.NotReady, "device %s is connected but takes no method calls", id)
		case <-ctx.Done():
			return nil, 0, problem.New(problem.TimedOut, "device %s did not connect in time", id)
		}
	}
}

// nextArrival returns a channel closed when some device next takes methods.
func (h *Hub) nextArrival() <-chan struct{} {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.arrival
}

func (h *Hub) arrived() {
	if h.waiters.Load() == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.arrival)
	h.arrival = make(chan struct{})
}

// expect makes room for the answer to a new call.
func (s *Session) expect() (rid string, answered chan MethodResponse, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.methods) >= maxPendingMethods {
		return "", nil, problem.New(problem.Busy, "device %s has %d method calls to answer already", s.DeviceID, len(s.methods)).After(time.Second)
	}
	if s.methods == nil {
		s.methods = map[string]chan MethodResponse{}
	}
	rid, answered = s.newRID(), make(chan MethodResponse, 1)
	s.methods[rid] = answered
	return rid, answered, nil
}

func (s *Session) unexpect(rid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.methods, rid)
}

// Answered passes on a device's answer; one nobody waits for is dropped.
func (s *Session) Answered(rid string, r MethodResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if waiting, ok := s.methods[rid]; ok {
		delete(s.methods, rid)
		waiting <- r
	}
}
