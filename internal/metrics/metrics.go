// Package metrics is how a plane counts what it does, in the words of
// Prometheus: one registry for each plane, the same names everywhere, served at
// /metrics and told to control over the link. What a metric is about stands in
// the package that counts it. Labels take few values; no label names a device,
// as there may be a million.
package metrics

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/tasks"
)

// Path is where metrics are on every listener for HTTPS.
const Path = "/metrics"

// Seconds are the buckets of every duration: a tenth of a millisecond, at which
// a log in memory acknowledges, to ten seconds, at which clients give up.
var Seconds = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// Registry is what one plane counts.
type Registry struct {
	*prometheus.Registry
	logger *slog.Logger
}

// New returns a registry with what every process has to tell: its version, its
// memory and descriptors, its garbage collection, and since when it runs.
func New(version string, logger *slog.Logger) *Registry {
	r := &Registry{prometheus.NewRegistry(), logger}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "slipway_build_info", Help: "Always 1; the labels tell what runs."}, []string{"version", "goversion"})
	build.WithLabelValues(version, runtime.Version()).Set(1)
	r.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Handler serves the registry to whoever scrapes.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(r.logger.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
		EnableOpenMetrics: true, MaxRequestsInFlight: 8, Timeout: 10 * time.Second,
	})
}

// Format is how metrics go over the link: OpenMetrics, which carries exemplars.
var Format = expfmt.NewFormat(expfmt.TypeOpenMetrics)

// Text is everything the registry holds now, in Format. What cannot be gathered
// is left out and told with the rest.
func (r *Registry) Text() ([]byte, error) {
	families, failure := r.Gather()
	if len(families) == 0 {
		return nil, failure
	}
	if failure != nil {
		r.logger.Warn("some metrics could not be gathered", "error", failure)
	}
	var text bytes.Buffer
	encoder := expfmt.NewEncoder(&text, Format)
	for _, family := range families {
		if err := encoder.Encode(family); err != nil {
			return nil, err
		}
	}
	if closer, ok := encoder.(expfmt.Closer); ok {
		if err := closer.Close(); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}

// Tell tells metrics to control every link.MetricsEvery until ctx ends. What
// control does not hear is not told again: the next has all of it.
func (r *Registry) Tell(process string, tell func(link.Metrics) error) func(context.Context) error {
	return func(ctx context.Context) error {
		once := func() {
			m, err := r.packed(process)
			if err == nil {
				err = tell(m)
			}
			if err != nil && ctx.Err() == nil {
				r.logger.Debug("metrics not told", "error", err)
			}
		}
		once()
		return tasks.Every(ctx, link.MetricsEvery, once)
	}
}

func (r *Registry) packed(process string) (link.Metrics, error) {
	text, err := r.Text()
	if err != nil {
		return link.Metrics{}, err
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(text); err != nil {
		return link.Metrics{}, err
	}
	if err := w.Close(); err != nil {
		return link.Metrics{}, err
	}
	return link.Metrics{Process: process, At: time.Now(), Text: packed.Bytes()}, nil
}

// MaxText bounds what one process may tell at a time, unpacked.
const MaxText = 8 << 20

// Unpack is the text that was told.
func Unpack(m link.Metrics) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(m.Text))
	if err != nil {
		return nil, fmt.Errorf("metrics cannot be unpacked: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(r, MaxText+1))
	if err != nil {
		return nil, fmt.Errorf("metrics cannot be unpacked: %w", err)
	}
	if len(text) > MaxText {
		return nil, fmt.Errorf("one process told more than %d bytes of metrics", MaxText)
	}
	return text, nil
}
