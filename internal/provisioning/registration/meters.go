package registration

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/trail"
)

// meters count what becomes of registrations.
type meters struct {
	requests, steps *prometheus.CounterVec
	assigned        prometheus.Counter
	assigning       prometheus.Histogram

	mu    sync.Mutex
	asked map[string]asking // by registration, what its device waits for
}

// asking is since when a device waits, and the trace of its request.
type asking struct {
	since time.Time
	trail.Parent
}

// newMeters registers the meters; nil registers them nowhere.
func newMeters(r prometheus.Registerer) *meters {
	auto := promauto.With(r)
	m := &meters{
		requests: auto.NewCounterVec(prometheus.CounterOpts{Name: "slipway_provisioning_requests_total", Help: "Devices that asked to be registered, by how that went at once."}, []string{"result"}),
		steps:    auto.NewCounterVec(prometheus.CounterOpts{Name: "slipway_provisioning_steps_total", Help: "Steps of registrations, by how they went; one that failed is tried again."}, []string{"result"}),
		assigned: auto.NewCounter(prometheus.CounterOpts{Name: "slipway_provisioning_assigned_total", Help: "Devices that were told their stamp after they had asked."}),
		assigning: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "slipway_provisioning_seconds", Help: "How long devices waited from their request until their stamp had them.", Buckets: append(metrics.Seconds[3:len(metrics.Seconds):len(metrics.Seconds)], 30, 60),
		}),
		asked: map[string]asking{},
	}
	for _, result := range []string{metrics.OK, metrics.Refused, metrics.Throttled, metrics.Failed} {
		m.requests.WithLabelValues(result)
		m.steps.WithLabelValues(result)
	}
	return m
}

// request counts a device that asked.
func (m *meters) request(ctx context.Context, key string, err error) {
	m.requests.WithLabelValues(metrics.Result(err)).Inc()
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, waits := m.asked[key]; !waits && len(m.asked) < maxDue {
		m.asked[key] = asking{time.Now(), trail.Here(ctx)}
	}
}

// of makes a context a part of the request that a device waits for.
func (m *meters) of(ctx context.Context, key string) context.Context {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked[key].In(ctx)
}

// settled counts a device that has its stamp.
func (m *meters) settled(ctx context.Context, key string) {
	m.mu.Lock()
	asked, waited := m.asked[key]
	delete(m.asked, key)
	m.mu.Unlock()
	if waited && !link.IsProbe(key) {
		trace, _ := trail.Of(ctx)
		m.assigned.Inc()
		metrics.Observe(m.assigning, time.Since(asked.since), trace)
	}
}
