package telemetry

import (
	"context"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
)

// Reader reads one of the two logs as a whole.
type Reader struct {
	side
	stamp string
}

// Reader returns the reader of the log in which a source's messages are.
func (l *Logs) Reader(source string) Reader {
	if source == "" || source == link.SourceTelemetry {
		return Reader{l.telemetrySide(), l.stamp}
	}
	return Reader{l.eventSide(), l.stamp}
}

// Bounds returns the sequences of the oldest record and the newest.
func (r Reader) Bounds(ctx context.Context) (first, last uint64, err error) {
	state, err := r.log.State(ctx)
	return state.First, state.Last, err
}

// Created returns when the log was made.
func (r Reader) Created(ctx context.Context) (time.Time, error) {
	state, err := r.log.State(ctx)
	return state.Created, err
}

// Before returns the sequence of the last record older than a time.
func (r Reader) Before(ctx context.Context, at time.Time) (uint64, error) {
	return r.log.Before(ctx, at)
}

// Follow calls each for every record after a sequence, and goes on with new
// ones until ctx ends or each fails. Records that cannot be read come with
// their sequence and nothing else.
func (r Reader) Follow(ctx context.Context, after uint64, each func(link.LogRecord) error) error {
	return r.log.Follow(ctx, r.subject(""), after, func(raw bus.Record) error {
		shown, err := r.show(r.stamp, raw)
		if err != nil {
			shown = link.LogRecord{Stamp: r.stamp, Sequence: raw.Sequence, EnqueuedTime: raw.Time.UTC()}
		}
		return each(shown)
	})
}

// kinds are the kinds of events by source.
var kinds = map[string][]string{
	link.SourceConnection: {"connected", "disconnected", "refused"},
	link.SourceLifecycle:  {"provisioned", "removed", "created", "changed", "deleted", "keysRotated"},
	link.SourceTwin:       {TwinChanged},
	link.SourceCommands:   {"methodInvoked", "messageQueued"},
	link.SourceUploads:    {"fileUploaded", "fileUploadFailed"},
	link.SourceJobs:       {"jobCompleted", "jobFailed"},
}

// TwinChanged is the kind of event that carries the patch of a twin. It is
// noted only while somebody wants it.
const TwinChanged = "twinChanged"

// Of reports whether a record is of a source.
func Of(source string, r link.LogRecord) bool {
	switch source {
	case link.SourceTelemetry:
		return r.Kind == "" && r.DeviceID != ""
	case link.SourceEvents:
		return r.Kind != ""
	}
	return slices.Contains(kinds[source], r.Kind)
}

// announced are the names existing back ends know events by: the source and
// the operation of the hub's routes.
var announced = map[string]struct{ source, operation string }{
	"connected":    {"deviceConnectionStateEvents", "deviceConnected"},
	"disconnected": {"deviceConnectionStateEvents", "deviceDisconnected"},
	"provisioned":  {"deviceLifecycleEvents", "createDeviceIdentity"},
	"created":      {"deviceLifecycleEvents", "createDeviceIdentity"},
	"removed":      {"deviceLifecycleEvents", "deleteDeviceIdentity"},
	"deleted":      {"deviceLifecycleEvents", "deleteDeviceIdentity"},
	TwinChanged:    {"twinChangeEvents", "updateTwin"},
	"jobCompleted": {"deviceJobLifecycleEvents", "jobFinished"},
	"jobFailed":    {"deviceJobLifecycleEvents", "jobFinished"},
}
