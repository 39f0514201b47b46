package trail

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"github.com/slipway/slipway/internal/link"
)

// clean hands lines on without secrets and control characters, with the trace
// they belong to. It is the one way into every output.
type clean struct{ next slog.Handler }

// Enabled is slog.Handler's.
func (c clean) Enabled(ctx context.Context, level slog.Level) bool { return c.next.Enabled(ctx, level) }

// Handle is slog.Handler's.
func (c clean) Handle(ctx context.Context, r slog.Record) error {
	cleaned := slog.NewRecord(r.Time, r.Level, Plain(r.Message, maxMessage), r.PC)
	n := 0
	r.Attrs(func(a slog.Attr) bool {
		cleaned.AddAttrs(cleanAttr(a))
		n++
		return n < maxMore
	})
	if of := trace.SpanContextFromContext(ctx); of.IsValid() && of.IsSampled() {
		cleaned.AddAttrs(slog.String("trace", of.TraceID().String()), slog.String("span", of.SpanID().String()))
	}
	return c.next.Handle(ctx, cleaned)
}

// WithAttrs is slog.Handler's.
func (c clean) WithAttrs(all []slog.Attr) slog.Handler {
	cleaned := make([]slog.Attr, len(all))
	for i, a := range all {
		cleaned[i] = cleanAttr(a)
	}
	return clean{c.next.WithAttrs(cleaned)}
}

// WithGroup is slog.Handler's.
func (c clean) WithGroup(name string) slog.Handler { return clean{c.next.WithGroup(name)} }

func cleanAttr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	if secretName(a.Key) {
		return slog.String(a.Key, kept)
	}
	switch v.Kind() {
	case slog.KindBool, slog.KindInt64, slog.KindUint64, slog.KindFloat64, slog.KindDuration, slog.KindTime:
		return slog.Attr{Key: a.Key, Value: v}
	case slog.KindGroup:
		inner := make([]any, 0, len(v.Group()))
		for _, one := range v.Group() {
			inner = append(inner, cleanAttr(one))
		}
		return slog.Group(a.Key, inner...)
	}
	return slog.String(a.Key, Plain(v.String(), maxValue))
}

// handler takes lines down for control.
type handler struct {
	store *store
	with  link.Line // what every line has
	group string    // what names of attributes begin with
}

// Enabled is slog.Handler's: what only helps to find a fault in the program
// stays with the process.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle is slog.Handler's.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	l := h.copied()
	l.At, l.Level, l.Message = r.Time.UTC(), strings.ToLower(r.Level.String()), r.Message
	r.Attrs(func(a slog.Attr) bool {
		put(&l, h.group, a)
		return true
	})
	h.store.line(l)
	return nil
}

// WithAttrs is slog.Handler's.
func (h *handler) WithAttrs(all []slog.Attr) slog.Handler {
	next := &handler{store: h.store, with: h.copied(), group: h.group}
	for _, a := range all {
		put(&next.with, h.group, a)
	}
	return next
}

// WithGroup is slog.Handler's.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{store: h.store, with: h.with, group: h.group + name + "."}
}

func (h *handler) copied() link.Line {
	l, more := h.with, make(map[string]string, len(h.with.More)+4)
	for name, value := range h.with.More {
		more[name] = value
	}
	l.More = more
	return l
}

// put puts an attribute where it belongs: what lines are searched by has a place
// of its own.
func put(l *link.Line, group string, a slog.Attr) {
	if a.Value.Kind() == slog.KindGroup {
		for _, one := range a.Value.Group() {
			put(l, group+a.Key+".", one)
		}
		return
	}
	value := fmt.Sprint(a.Value.Any())
	if at := placeOf(l, a.Key); group == "" && at != nil {
		*at = value
		return
	}
	if len(l.More) < maxMore {
		l.More[group+a.Key] = value
	}
}

func placeOf(l *link.Line, name string) *string {
	switch name {
	case "plane":
		return &l.Plane
	case "stamp":
		return &l.Stamp
	case "environment":
		return &l.Environment
	case "process":
		return &l.Process
	case "tenant":
		return &l.Tenant
	case "device":
		return &l.Device
	case "release":
		return &l.Release
	case "trace":
		return &l.Trace
	case "span":
		return &l.Span
	}
	return nil
}
