package hub

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/telemetry"
	"github.com/slipway/slipway/internal/stamp/throttle"
	"github.com/slipway/slipway/internal/stamp/twin"
	"github.com/slipway/slipway/internal/trail"
)

// errOver tells a request that its session was cut meanwhile; nobody reads it.
var errOver = problem.New(problem.NotReady, "the session is over")

// DeviceTwin returns the twin as its device sees it.
func (h *Hub) DeviceTwin(ctx context.Context, s *Session) (_ []byte, err error) {
	_, work := trail.Seldom(ctx, "twin read")
	s.about(work)
	defer func() { h.meters.twin("get", 0, work.Trace(), err); work.End(err) }()
	if err := h.Operations.Allow(throttle.TwinReads, 1, h.Now()); err != nil {
		return nil, err
	}
	t, err := h.Twins.Get(ctx, s.DeviceID)
	if err != nil {
		return nil, err
	}
	return t.DeviceView()
}

// Report merges a patch into the reported properties and returns their new
// version. A session that was cut reports nothing any more.
func (h *Hub) Report(ctx context.Context, s *Session, patch []byte) (version int64, err error) {
	began := time.Now()
	_, work := trail.Seldom(ctx, "twin report")
	s.about(work)
	defer func() { h.meters.twin("report", time.Since(began), work.Trace(), err); work.End(err) }()
	now := h.Now()
	if err := h.Operations.Allow(throttle.TwinUpdates, 1, now); err != nil {
		return 0, err
	}
	t, err := h.Twins.Update(ctx, s.DeviceID, "", func(t twin.Twin) (twin.Twin, error) {
		if s.over() || !h.live() {
			return t, errOver
		}
		return t.PatchReported(patch, now)
	})
	if err == nil {
		h.changed(s.DeviceID)
		h.noteTwin(s.DeviceID, t.Version, "reported", patch)
	}
	return t.Reported.Version, err
}

// ReportFor is Report for a device that speaks elsewhere than over a connection.
func (h *Hub) ReportFor(ctx context.Context, id string, patch []byte) error {
	now := h.Now()
	t, err := h.Twins.Update(ctx, id, "", func(t twin.Twin) (twin.Twin, error) { return t.PatchReported(patch, now) })
	if err == nil {
		h.changed(id)
		h.noteTwin(id, t.Version, "reported", patch)
	}
	return err
}

// Twin returns the twin as back ends see it.
func (h *Hub) Twin(ctx context.Context, ref link.DeviceRef) (link.Twin, error) {
	t, err := h.Twins.Get(ctx, ref.DeviceID)
	if err != nil {
		return link.Twin{}, err
	}
	return shown(t)
}

func shown(t twin.Twin) (link.Twin, error) {
	view, err := t.ServiceView()
	return link.Twin{ETag: t.ETag(), Document: view}, err
}

// PatchTwin merges a back end's patch of tags and desired properties, and
// tells the device of the latter.
func (h *Hub) PatchTwin(ctx context.Context, req link.PatchTwin) (link.Twin, error) {
	return h.change(ctx, req, twin.Twin.Patch, nil)
}

// PatchTwinWith is PatchTwin with what its caller writes down in the same commit.
func (h *Hub) PatchTwinWith(ctx context.Context, req link.PatchTwin, also func(context.Context, *sqldb.Tx) error) (link.Twin, error) {
	return h.change(ctx, req, twin.Twin.Patch, also)
}

// ReplaceTwin replaces tags and desired properties.
func (h *Hub) ReplaceTwin(ctx context.Context, req link.PatchTwin) (link.Twin, error) {
	return h.change(ctx, req, twin.Twin.Replace, nil)
}

// change applies a back end's change under the device's lock, so that
// notifications leave in the order of the versions they carry.
func (h *Hub) change(ctx context.Context, req link.PatchTwin, apply twin.Change, also func(context.Context, *sqldb.Tx) error) (_ link.Twin, err error) {
	began := time.Now()
	_, work := trail.Under(ctx, "twin change")
	work.Say("plane", "stamp").Say("stamp", h.Stamp).Say("device", req.DeviceID)
	defer func() { h.meters.twin("desire", time.Since(began), work.Trace(), err); work.End(err) }()
	defer h.lock(req.DeviceID)()
	now := h.Now()
	var notice []byte
	var before int64
	t, err := h.Twins.UpdateWith(ctx, req.DeviceID, req.IfMatch, func(t twin.Twin) (changed twin.Twin, err error) {
		before = t.Desired.Version
		changed, notice, err = apply(t, req.Patch, now)
		return changed, err
	}, also)
	if err != nil {
		return link.Twin{}, err
	}
	h.changed(req.DeviceID)
	h.noteTwin(req.DeviceID, t.Version, "", req.Patch)
	if t.Desired.Version != before {
		h.Logs.Note(telemetry.Event{DeviceID: req.DeviceID, Kind: "desiredChanged", Details: map[string]string{"version": strconv.FormatInt(t.Desired.Version, 10)}})
		h.tell(Change{DeviceID: req.DeviceID, Before: before, Version: t.Desired.Version, Patch: notice})
	}
	return shown(t)
}

// WantTwinChanges says whether somebody wants to hear of every change of a
// twin; while nobody does, none is noted.
func (h *Hub) WantTwinChanges(wanted bool) { h.twinChanges.Store(wanted) }

// noteTwin notes a patch as back ends know it from the hub's routes:
// {"version":n,"properties":{"reported":{…}}}, or tags and desired.
func (h *Hub) noteTwin(id string, version int64, part string, patch json.RawMessage) {
	if !h.twinChanges.Load() {
		return
	}
	change := map[string]any{"version": version, "properties": map[string]json.RawMessage{part: patch}}
	if part == "" {
		change = map[string]any{}
		if err := json.Unmarshal(patch, &change); err != nil {
			h.Logger.Error("a change of a twin cannot be noted", "device", id, "error", err)
			return
		}
		change["version"] = version
	}
	body, err := json.Marshal(change)
	if err != nil {
		h.Logger.Error("a change of a twin cannot be noted", "device", id, "error", err)
		return
	}
	h.Logs.Note(telemetry.Event{DeviceID: id, Kind: telemetry.TwinChanged, Body: body})
}

// NoteJob notes how a job ended on a device.
func (h *Hub) NoteJob(job, id string, succeeded bool) {
	kind := "jobCompleted"
	if !succeeded {
		kind = "jobFailed"
	}
	h.Logs.Note(telemetry.Event{DeviceID: id, Kind: kind, Details: map[string]string{"job": job}})
}
