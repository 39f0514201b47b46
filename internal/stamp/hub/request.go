package hub

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/command"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/telemetry"
	"github.com/slipway/slipway/internal/trail"
)

// Sender is a device that makes one request without keeping a connection.
type Sender struct {
	DeviceID   string // or a module's identity
	generation string
	origin     telemetry.Origin
	tenant     string
}

// Tenant is whose device it is.
func (s Sender) Tenant() string { return s.tenant }

// Authenticate says who makes a request. Every request proves itself anew, so
// that a device disabled or gone gets nothing any more.
func (h *Hub) Authenticate(ctx context.Context, c device.Credentials) (Sender, error) {
	if err := device.CheckID(c.DeviceID); err != nil {
		return Sender{}, err
	}
	if err := h.paced(c.DeviceID); err != nil {
		return Sender{}, err
	}
	return h.Identify(ctx, c)
}

// Identify is Authenticate for requests that are held to no pace, such as those
// for the many small parts of a file.
func (h *Hub) Identify(ctx context.Context, c device.Credentials) (Sender, error) {
	if err := device.CheckID(c.DeviceID); err != nil {
		return Sender{}, err
	}
	d, err := h.Devices.Get(ctx, c.DeviceID)
	if err != nil {
		return Sender{}, err
	}
	c.Hosts, c.Trusted = h.Hosts(), h.Trusted()
	proof, err := d.Authenticate(c, h.Policies, h.Now())
	if err != nil {
		return Sender{}, err
	}
	owner, module := link.SplitIdentity(d.ID)
	origin := telemetry.Origin{DeviceID: owner, ModuleID: module, Generation: d.GenerationID, AuthMethod: proof.Method, ModelID: d.ModelID}
	return Sender{d.ID, d.GenerationID, origin, d.Tenant}, nil
}

// maxPaced bounds the devices whose pace is remembered.
const maxPaced = 100_000

// paced holds a device to the rate of requests it may make.
func (h *Hub) paced(id string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	pace := h.pace[id]
	if pace == nil {
		if len(h.pace) >= maxPaced {
			return problem.New(problem.Busy, "too many devices make requests; try again later").After(10 * time.Second)
		}
		pace = rate.NewLimiter(rate.Limit(h.Limits.RequestRate), h.Limits.RequestBurst)
		h.pace[id] = pace
	}
	if !pace.AllowN(h.Now(), 1) {
		return problem.New(problem.Busy, "device %s may make %g requests a second. Operation type: DeviceRequest", id, h.Limits.RequestRate).After(time.Second)
	}
	return nil
}

// Telemetry is one message of a Sender.
type Telemetry struct {
	Bag  string // its properties
	Body []byte
}

// Accept appends messages of one device and returns when the log holds them
// all. If one is refused none is appended; if the log fails, the device cannot
// know which are there and sends them again.
func (h *Hub) Accept(ctx context.Context, s Sender, all []Telemetry) (err error) {
	began, sizes := time.Now(), 0
	defer func() {
		took := time.Since(began)
		trace, _ := trail.Of(ctx)
		for range all {
			h.meters.message(sizes, took, trace, err)
			sizes = 0
		}
	}()
	for _, m := range all {
		if err := telemetry.Check(m.Bag, m.Body); err != nil {
			return err
		}
		sizes += len(m.Body)
	}
	if err := h.Quotas.Allow(s.tenant, len(all), h.Now()); err != nil {
		return err
	}
	if err := h.turn(ctx, s.tenant, len(all)); err != nil {
		return err
	}
	results := make(chan error, len(all))
	for _, m := range all {
		h.Logs.Append(s.origin, m.Bag, m.Body, func(_ uint64, err error) { results <- err })
	}
	var failure error
	for range all {
		select {
		case err := <-results:
			if err != nil {
				failure = err
			} else {
				h.accepted.Add(1)
			}
		case <-ctx.Done():
			return problem.New(problem.TimedOut, "the log did not answer in time; send again")
		}
	}
	if failure == nil {
		h.passed(s, int64(len(all)))
	}
	return failure
}

// turnWait is how long a request waits for its tenant's turn.
const turnWait = time.Second

// turn waits a moment for the turn of a request's messages.
func (h *Hub) turn(ctx context.Context, tenant string, messages int) error {
	if h.ingest == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	if !h.ingest.Take(tenant, messages, ctx.Done()) {
		return problem.New(problem.Busy, "the stamp takes %g messages a second, of which tenant %s has its share; try again later", h.Limits.MessageRate, tenant).After(time.Second)
	}
	return nil
}

// passed notes for the next flush that a device looked in.
func (h *Hub) passed(s Sender, messages int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a, known := h.settled[s.DeviceID]
	if !known || a.Generation != s.generation {
		a = device.Activity{DeviceID: s.DeviceID, Generation: s.generation, Passing: true}
	}
	a.Last, a.Messages = h.Now(), a.Messages+messages
	h.settled[s.DeviceID] = a
}

// LookedIn notes that a device was there, for the next flush.
func (h *Hub) LookedIn(s Sender) { h.passed(s, 0) }

// Receive lends the oldest message that waits for a device.
func (h *Hub) Receive(ctx context.Context, s Sender) (m command.Message, lock string, found bool, err error) {
	h.passed(s, 0)
	return h.Queues.Receive(ctx, s.DeviceID, h.Now())
}

// Settlement is what a device says of a message it was lent.
type Settlement int

// The settlements.
const (
	Accepted Settlement = iota
	Rejected
	Abandoned
)

// Settle ends the loan of a message.
func (h *Hub) Settle(ctx context.Context, s Sender, lock string, how Settlement) error {
	switch how {
	case Rejected:
		return h.Queues.Reject(ctx, s.DeviceID, lock, h.Now())
	case Abandoned:
		err := h.Queues.Abandon(ctx, s.DeviceID, lock, h.Now())
		if err == nil {
			h.pump(s.DeviceID)
		}
		return err
	}
	return h.Queues.Accept(ctx, s.DeviceID, lock, h.Now())
}

// NoteUpload notes that a device has ended an upload.
func (h *Hub) NoteUpload(s Sender, id string, succeeded bool) {
	kind := "fileUploaded"
	if !succeeded {
		kind = "fileUploadFailed"
	}
	h.Logs.Note(telemetry.Event{DeviceID: s.DeviceID, Kind: kind, Details: map[string]string{"upload": id}})
}
