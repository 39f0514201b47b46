// Package trail is what a process says of what it does: the lines of its log
// and the spans of traces, under the same names everywhere. They go to the
// process's own output, to control, which keeps them to be searched, and by OTLP
// to a collector where one is named. None of these ever keeps the process
// waiting: what there is no room for is dropped and counted.
package trail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Options say where what a process says goes.
type Options struct {
	Output slog.Handler // the process's own output, for whoever started it
	// Collector is the URL of an OpenTelemetry collector; empty is none. What else
	// there is to say of it, such as headers with a secret, the variables of
	// OpenTelemetry do.
	Collector string
	// Share is of how many devices' requests there is a trace, from 0 to 1; those
	// of people are always traced.
	Share   float64
	Plane   string // control, provisioning, stamp, or all of them
	Version string // of the program
}

// DefaultShare is of how many devices' requests there is a trace where nothing
// else is said: enough to see what is slow, and nothing that costs.
const DefaultShare = 0.001

// Trail is what the process says.
type Trail struct {
	logger *slog.Logger
	store  *store
	traces *sdktrace.TracerProvider
	lines  *sdklog.LoggerProvider // nil without a collector
	failed atomic.Int64
}

// How much waits for a collector, and how long an attempt to reach it may take.
const (
	maxQueued   = 2048
	exportEvery = 2 * time.Second
	exportLimit = 5 * time.Second
)

// Open begins to take down what the process says. Traces are those of the whole
// process, so that there is one Trail in each.
func Open(ctx context.Context, o Options) (*Trail, error) {
	if err := CheckShare("traces", o.Share); err != nil {
		return nil, err
	}
	t := &Trail{store: newStore()}
	who := resource.NewSchemaless(attribute.String("service.name", "slipway"), attribute.String("service.version", o.Version), attribute.String("slipway.plane", o.Plane))
	spans := []sdktrace.TracerProviderOption{sdktrace.WithResource(who), sdktrace.WithSampler(newSampler()), sdktrace.WithSpanProcessor(keeper{t.store})}
	handlers := []slog.Handler{o.Output, &handler{store: t.store}}
	if o.Collector != "" {
		if err := CheckCollector("otlp", o.Collector); err != nil {
			return nil, err
		}
		traces, lines, err := exporters(ctx, o.Collector)
		if err != nil {
			return nil, fmt.Errorf("otlp: %w", err)
		}
		spans = append(spans, sdktrace.WithBatcher(traces, sdktrace.WithMaxQueueSize(maxQueued), sdktrace.WithBatchTimeout(exportEvery), sdktrace.WithExportTimeout(exportLimit)))
		t.lines = sdklog.NewLoggerProvider(sdklog.WithResource(who), sdklog.WithProcessor(sdklog.NewBatchProcessor(lines,
			sdklog.WithMaxQueueSize(maxQueued), sdklog.WithExportInterval(exportEvery), sdklog.WithExportTimeout(exportLimit))))
		handlers = append(handlers, otelslog.NewHandler("slipway", otelslog.WithLoggerProvider(t.lines)))
		// That the collector cannot be reached is for the process's own output
		// alone: said to the collector as well, it would go round in circles.
		otel.SetErrorHandler(otel.ErrorHandlerFunc(t.complain(slog.New(o.Output))))
	}
	t.logger = slog.New(clean{slog.NewMultiHandler(handlers...)})
	t.traces = sdktrace.NewTracerProvider(spans...)
	share.Store(math.Float64bits(o.Share))
	tracer.Store(&heldTracer{t.traces.Tracer("slipway")})
	return t, nil
}

// exporters are those of OpenTelemetry for OTLP over HTTP.
func exporters(ctx context.Context, collector string) (sdktrace.SpanExporter, sdklog.Exporter, error) {
	base, err := url.Parse(collector)
	if err != nil {
		return nil, nil, err
	}
	traces, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(base.JoinPath("v1", "traces").String()), otlptracehttp.WithTimeout(exportLimit))
	if err != nil {
		return nil, nil, err
	}
	lines, err := otlploghttp.New(ctx, otlploghttp.WithEndpointURL(base.JoinPath("v1", "logs").String()), otlploghttp.WithTimeout(exportLimit))
	return traces, lines, err
}

// complainEvery bounds how often it is said that the collector takes nothing.
const complainEvery = time.Minute

func (t *Trail) complain(to *slog.Logger) func(error) {
	return func(err error) {
		now, last := time.Now().Unix(), t.failed.Load()
		if now-last >= int64(complainEvery/time.Second) && t.failed.CompareAndSwap(last, now) {
			to.Warn("the collector does not take what this process says; what it cannot hold is dropped", "error", err)
		}
	}
}

// Logger is what the process logs with.
func (t *Trail) Logger() *slog.Logger { return t.logger }

// Close gives the collector what it has not yet, as far as it takes it by then.
func (t *Trail) Close(ctx context.Context) error {
	err := t.traces.Shutdown(ctx)
	if t.lines != nil {
		err = errors.Join(err, t.lines.Shutdown(ctx))
	}
	return err
}

// CheckCollector refuses what is no URL of a collector.
func CheckCollector(field, text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
		return problem.New(problem.Invalid, "a collector reads https://host:4318, without user and query; headers such as a token stand in OTEL_EXPORTER_OTLP_HEADERS").At(field)
	}
	return nil
}

// CheckShare refuses what is no share.
func CheckShare(field string, v float64) error {
	if !(v >= 0 && v <= 1) {
		return problem.New(problem.Invalid, "the share of devices' requests that are traced is 0 to 1, not %v", v).At(field)
	}
	return nil
}

// tellEvery is how often a process gives control what it has to say, and tellMost
// how much at a time.
const (
	tellEvery = time.Second
	tellMost  = 500
)

// Tell gives put what the process says until ctx ends, and what is left then.
// What was not taken is kept for the next time, as far as there is room.
func (t *Trail) Tell(ctx context.Context, process string, put func(context.Context, link.Trail) error) error {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellEvery)
			defer cancel()
			t.tell(last, process, put)
			return nil
		case <-tick.C:
			t.tell(ctx, process, put)
		}
	}
}

// tell gives all there is, in bundles.
func (t *Trail) tell(ctx context.Context, process string, put func(context.Context, link.Trail) error) {
	for ctx.Err() == nil {
		bundle := t.store.take(tellMost)
		if len(bundle.Lines)+len(bundle.Spans) == 0 && bundle.Lost == 0 {
			return
		}
		bundle.Process = process
		if err := put(ctx, bundle); err != nil {
			t.store.giveBack(bundle)
			return
		}
		if len(bundle.Lines)+len(bundle.Spans) < tellMost {
			return
		}
	}
}
