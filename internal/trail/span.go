package trail

import (
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/slipway/slipway/internal/link"
)

// Traces are the process's, whoever begins them: nothing is traced before Open.
var (
	tracer atomic.Pointer[heldTracer]
	share  atomic.Uint64 // bits of a float64
)

type heldTracer struct{ trace.Tracer }

// Work is a piece of work of a trace; nil is one that nobody traces.
type Work struct{ span trace.Span }

// Begin begins a piece of work that is always traced, such as what a person asks
// for.
func Begin(ctx context.Context, name string) (context.Context, *Work) {
	t := tracer.Load()
	if t == nil {
		return ctx, nil
	}
	return started(t.Start(ctx, name))
}

// Under begins a piece of work that is traced if what it is a part of is.
func Under(ctx context.Context, name string) (context.Context, *Work) {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return ctx, nil
	}
	return Begin(ctx, name)
}

// Seldom begins a piece of work of which there are so many that only a share of
// them is traced; and, like Under, any that is part of what is.
func Seldom(ctx context.Context, name string) (context.Context, *Work) {
	if trace.SpanContextFromContext(ctx).IsSampled() {
		return Begin(ctx, name)
	}
	if one := math.Float64frombits(share.Load()); one == 0 || rand.Float64() >= one {
		return ctx, nil
	}
	return Begin(ctx, name)
}

func started(ctx context.Context, span trace.Span) (context.Context, *Work) {
	if !span.IsRecording() {
		span.End()
		return ctx, nil
	}
	return ctx, &Work{span}
}

// Say notes what the work is about, under the names that lines have.
func (w *Work) Say(name, value string) *Work {
	if w != nil && value != "" {
		w.span.SetAttributes(attribute.String(name, Plain(value, maxValue)))
	}
	return w
}

// Call names the work, once it is known what it is.
func (w *Work) Call(name string) {
	if w != nil {
		w.span.SetName(name)
	}
}

// End ends the work, which failed if err is not nil.
func (w *Work) End(err error) {
	if w == nil {
		return
	}
	if err != nil {
		w.span.SetStatus(codes.Error, Plain(err.Error(), maxValue))
	}
	w.span.End()
}

// Trace is the id of the work's trace; empty if nobody traces it.
func (w *Work) Trace() string {
	if w == nil {
		return ""
	}
	return w.span.SpanContext().TraceID().String()
}

// Current is the work that a context is a part of, to name it or to say more.
func Current(ctx context.Context) *Work {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		return &Work{span}
	}
	return nil
}

// Of is the id of the trace that a context is part of, for exemplars.
func Of(ctx context.Context) (id string, traced bool) {
	if of := trace.SpanContextFromContext(ctx); of.IsSampled() {
		return of.TraceID().String(), true
	}
	return "", false
}

var w3c propagation.TraceContext

// Inject writes into headers what a context is part of, as W3C has it.
func Inject(ctx context.Context, header map[string][]string) {
	if trace.SpanContextFromContext(ctx).IsSampled() {
		w3c.Inject(ctx, propagation.HeaderCarrier(header))
	}
}

// Extract reads from headers what a context is part of.
func Extract(ctx context.Context, header map[string][]string) context.Context {
	if len(header["Traceparent"]) == 0 {
		return ctx
	}
	return w3c.Extract(ctx, propagation.HeaderCarrier(header))
}

// Header is where answers over HTTP say which trace they belong to.
const Header = "Trace-Id"

// HTTP traces the requests that a handler answers: those of people all, those of
// devices seldom. The answer names the trace.
func HTTP(plane, stamp string, devices bool, next http.Handler) http.Handler {
	begin := Begin
	if devices {
		begin = Seldom
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == "text/event-stream" {
			next.ServeHTTP(w, r) // it goes on for as long as somebody listens
			return
		}
		ctx, work := begin(Extract(r.Context(), r.Header), plane+" "+r.Method)
		if work == nil {
			if ctx != r.Context() {
				r = r.WithContext(ctx)
			}
			next.ServeHTTP(w, r)
			return
		}
		defer work.End(nil)
		work.Say("plane", plane).Say("stamp", stamp).Say("path", r.URL.Path)
		w.Header().Set(Header, work.Trace())
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// A process begins at most so many traces a second, whoever asks for them, and
// so many at once.
const (
	mostTraces = 100
	traceBurst = 200
)

// newSampler takes on traces that begin here or elsewhere within bounds, and
// goes on with those that are taken on.
func newSampler() sdktrace.Sampler {
	bounded := bounded{rate.NewLimiter(mostTraces, traceBurst)}
	return sdktrace.ParentBased(bounded, sdktrace.WithRemoteParentSampled(bounded))
}

type bounded struct{ limit *rate.Limiter }

// ShouldSample is sdktrace.Sampler's.
func (b bounded) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	decision := sdktrace.Drop
	if b.limit.Allow() {
		decision = sdktrace.RecordAndSample
	}
	return sdktrace.SamplingResult{Decision: decision, Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState()}
}

// Description is sdktrace.Sampler's.
func (b bounded) Description() string { return "bounded" }

// keeper takes spans down for control.
type keeper struct{ store *store }

// OnStart is sdktrace.SpanProcessor's.
func (keeper) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd is sdktrace.SpanProcessor's.
func (k keeper) OnEnd(s sdktrace.ReadOnlySpan) {
	of := s.SpanContext()
	one := link.Span{
		Trace: of.TraceID().String(), ID: of.SpanID().String(), Name: Plain(s.Name(), maxValue), Began: s.StartTime().UTC(),
		Micros: s.EndTime().Sub(s.StartTime()).Microseconds(), More: map[string]string{},
	}
	if s.Parent().HasSpanID() {
		one.Parent = s.Parent().SpanID().String()
	}
	if s.Status().Code == codes.Error {
		one.Problem = s.Status().Description
	}
	for _, a := range s.Attributes() {
		switch {
		case a.Key == "plane":
			one.Plane = a.Value.AsString()
		case a.Key == "stamp":
			one.Stamp = a.Value.AsString()
		case len(one.More) < maxMore:
			one.More[string(a.Key)] = a.Value.String()
		}
	}
	k.store.span(one)
}

// Shutdown is sdktrace.SpanProcessor's.
func (keeper) Shutdown(context.Context) error { return nil }

// ForceFlush is sdktrace.SpanProcessor's.
func (keeper) ForceFlush(context.Context) error { return nil }

// Parent is what later work may be a part of, where no context leads to it.
type Parent struct{ of trace.SpanContext }

// Here is what a context is part of, to go on with elsewhere.
func Here(ctx context.Context) Parent { return Parent{trace.SpanContextFromContext(ctx)} }

// In makes a context a part of it.
func (p Parent) In(ctx context.Context) context.Context {
	if !p.of.IsSampled() {
		return ctx
	}
	return trace.ContextWithSpanContext(ctx, p.of)
}
