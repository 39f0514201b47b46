package telemetry

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/tasks"
)

const (
	telemetryPrefix = "t."
	eventPrefix     = "e."
)

// Retention bounds the two logs.
type Retention struct {
	TelemetryBytes, EventBytes int64
	TelemetryAge, EventAge     time.Duration
	// Held keeps the logs from dropping anything for its age by themselves.
	Held bool
}

// DefaultRetention keeps a week of telemetry and a month of events, within
// bounds that a small machine's disk bears.
var DefaultRetention = Retention{TelemetryBytes: 4 << 30, EventBytes: 256 << 20, TelemetryAge: 7 * 24 * time.Hour, EventAge: 30 * 24 * time.Hour}

// Logs are a stamp's two logs.
type Logs struct {
	stamp     string
	telemetry *bus.Log
	events    *bus.Log
	keep      Retention
	logger    *slog.Logger
	parts     partitions
}

// Open opens the logs of a stamp on its own bus.
func Open(ctx context.Context, conn *bus.Conn, stamp string, retention Retention, logger *slog.Logger) (*Logs, error) {
	keep := retention
	if keep.Held {
		keep.TelemetryAge, keep.EventAge = 0, 0
	}
	telemetry, err := conn.OpenLog(ctx, bus.LogConfig{Name: "TELEMETRY", Subjects: []string{telemetryPrefix + ">"}, MaxBytes: keep.TelemetryBytes, MaxAge: keep.TelemetryAge})
	if err != nil {
		return nil, err
	}
	events, err := conn.OpenLog(ctx, bus.LogConfig{Name: "EVENTS", Subjects: []string{eventPrefix + ">"}, MaxBytes: keep.EventBytes, MaxAge: keep.EventAge})
	if err != nil {
		return nil, err
	}
	return &Logs{stamp: stamp, telemetry: telemetry, events: events, keep: retention, logger: logger}, nil
}

// Copies are what copies each log, by its name.
func (l *Logs) Copies() map[string]func(context.Context, io.Writer) (bus.LogCopy, error) {
	return map[string]func(context.Context, io.Writer) (bus.LogCopy, error){"TELEMETRY": l.telemetry.Copy, "EVENTS": l.events.Copy}
}

// Reach tries whether the log of telemetry has a leader.
func (l *Logs) Reach(ctx context.Context) error {
	_, err := l.telemetry.State(ctx)
	return err
}

// Fence has telemetry that the log has not taken given up once live says no.
func (l *Logs) Fence(live func() bool) { l.telemetry.Fence(live) }

// Run settles what the logs leave unanswered, until ctx ends.
func (l *Logs) Run(ctx context.Context) error {
	return tasks.Run(ctx, tasks.Task{Name: "telemetry", Run: l.telemetry.Run}, tasks.Task{Name: "events", Run: l.events.Run})
}

// Append adds a message and calls done once the log holds it. body is not used
// after Append returns. Messages of one caller keep their order.
func (l *Logs) Append(o Origin, bag string, body []byte, done func(sequence uint64, err error)) {
	envelope := seal(make([]byte, 0, 32+len(o.Generation)+len(o.ModuleID)+len(o.AuthMethod)+len(o.ModelID)+len(bag)+len(body)), o, bag, body)
	l.telemetry.Append(subjectOf(telemetryPrefix, o.DeviceID), envelope, done)
}

// Event is something that happened to a device.
type Event struct {
	DeviceID string            `json:"-"` // or a module's identity
	ModuleID string            `json:"module,omitempty"`
	Kind     string            `json:"kind"`
	Details  map[string]string `json:"details,omitempty"`
	Body     json.RawMessage   `json:"body,omitempty"`
}

// Note adds an event. It does not wait: an event that is lost with the process
// is the price of never delaying a device.
func (l *Logs) Note(e Event) {
	e.DeviceID, e.ModuleID = link.SplitIdentity(e.DeviceID)
	data, err := json.Marshal(e)
	if err != nil {
		l.logger.Error("an event cannot be written", "kind", e.Kind, "error", err)
		return
	}
	l.events.Append(subjectOf(eventPrefix, e.DeviceID), data, func(_ uint64, err error) {
		if err != nil {
			l.logger.Warn("an event was lost", "kind", e.Kind, "device", e.DeviceID, "error", err)
		}
	})
}

// Accepted returns how many messages were ever accepted, and the bytes kept.
func (l *Logs) Accepted(ctx context.Context) (messages, bytes uint64, err error) {
	state, err := l.telemetry.State(ctx)
	return state.Last, state.Bytes, err
}

// side is one of the two logs with the way its records are shown.
type side struct {
	log    *bus.Log
	prefix string
	show   func(stamp string, r bus.Record) (link.LogRecord, error)
}

func (l *Logs) telemetrySide() side { return side{l.telemetry, telemetryPrefix, record} }
func (l *Logs) eventSide() side     { return side{l.events, eventPrefix, eventRecord} }

// ReadTelemetry returns a page of telemetry.
func (l *Logs) ReadTelemetry(ctx context.Context, req link.ReadLog) (link.LogPage, error) {
	return l.read(ctx, l.telemetrySide(), req)
}

// ReadEvents returns a page of events.
func (l *Logs) ReadEvents(ctx context.Context, req link.ReadLog) (link.LogPage, error) {
	return l.read(ctx, l.eventSide(), req)
}

// WatchTelemetry sends telemetry as it comes until ctx ends.
func (l *Logs) WatchTelemetry(ctx context.Context, req link.WatchLog, send func(link.LogRecord) error) error {
	return l.watch(ctx, l.telemetrySide(), req, send)
}

// WatchEvents sends events as they come until ctx ends.
func (l *Logs) WatchEvents(ctx context.Context, req link.WatchLog, send func(link.LogRecord) error) error {
	return l.watch(ctx, l.eventSide(), req, send)
}

// maxPageBytes keeps a page well below what the bus carries.
const maxPageBytes = 4 << 20

func (l *Logs) read(ctx context.Context, s side, req link.ReadLog) (page link.LogPage, err error) {
	limit := req.Limit
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, link.MaxPage)
	var records []bus.Record
	if req.Last {
		records, err = s.log.Last(ctx, s.subject(req.DeviceID), limit)
	} else {
		records, page.More, err = s.log.Read(ctx, s.subject(req.DeviceID), req.After, limit)
	}
	if err != nil {
		return page, err
	}
	size := 0
	for _, r := range records {
		if size += 2 * len(r.Data); size > maxPageBytes && len(page.Items) > 0 {
			page.More = true
			break
		}
		shown, err := s.show(l.stamp, r)
		if err != nil {
			return page, err
		}
		page.Items = append(page.Items, shown)
	}
	return page, nil
}

func (l *Logs) watch(ctx context.Context, s side, req link.WatchLog, send func(link.LogRecord) error) error {
	after := req.After
	if after == 0 {
		state, err := s.log.State(ctx)
		if err != nil {
			return err
		}
		after = state.Last
	}
	return s.log.Follow(ctx, s.subject(req.DeviceID), after, func(r bus.Record) error {
		shown, err := s.show(l.stamp, r)
		if err != nil {
			return err
		}
		return send(shown)
	})
}

func (s side) subject(device string) string {
	if device == "" {
		return s.prefix + ">"
	}
	return subjectOf(s.prefix, device)
}

// eventRecord shows an event as scripts see it, under the names the hub's
// routes give it.
func eventRecord(stamp string, r bus.Record) (link.LogRecord, error) {
	var e Event
	if err := json.Unmarshal(r.Data, &e); err != nil {
		return link.LogRecord{}, err
	}
	shown := link.LogRecord{
		DeviceID: deviceOf(eventPrefix, r.Subject), ModuleID: e.ModuleID, Stamp: stamp, Sequence: r.Sequence, EnqueuedTime: r.Time.UTC(),
		Kind: e.Kind, Properties: e.Details, SystemProperties: map[string]string{}, Body: e.Body,
	}
	if known, ok := announced[e.Kind]; ok {
		shown.SystemProperties = map[string]string{
			"iothub-message-source": known.source, "opType": known.operation, "hubName": stamp,
			"operationTimestamp": shown.EnqueuedTime.Format(time.RFC3339Nano),
		}
	}
	return shown, nil
}
