package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Sample is a value that is looked up when somebody scrapes.
type Sample struct {
	Name, Help string
	Counter    bool
	Value      float64
	Labels     prometheus.Labels
}

// collectWithin is how long looking up may take; who scrapes waits no longer.
const collectWithin = 5 * time.Second

// Collect has values looked up by fn at each scrape. Those it added before it
// failed count.
func (r *Registry) Collect(what string, fn func(ctx context.Context, add func(Sample)) error) {
	r.MustRegister(&collector{r, what, fn})
}

type collector struct {
	registry *Registry
	what     string
	fn       func(ctx context.Context, add func(Sample)) error
}

// Describe says nothing: what there is depends on what is looked up.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect looks the values up.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectWithin)
	defer cancel()
	err := c.fn(ctx, func(s Sample) {
		kind := prometheus.GaugeValue
		if s.Counter {
			kind = prometheus.CounterValue
		}
		m, err := prometheus.NewConstMetric(prometheus.NewDesc(s.Name, s.Help, nil, s.Labels), kind, s.Value)
		if err != nil {
			c.registry.logger.Error("a metric cannot be told", "metric", s.Name, "error", err)
			return
		}
		out <- m
	})
	if err != nil {
		c.registry.logger.Debug("metrics could not be looked up", "what", c.what, "error", err)
	}
}

// Database is told of every group of changes that was committed.
func (r *Registry) Database() func(changes int, took time.Duration, err error) {
	seconds := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "slipway_sql_commit_seconds", Help: "How long commits to the plane's database took.", Buckets: Seconds})
	changes := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "slipway_sql_changes_total", Help: "Changes that were committed, several at a time, by how that went."}, []string{"result"})
	r.MustRegister(seconds, changes)
	return func(n int, took time.Duration, err error) {
		seconds.Observe(took.Seconds())
		result := OK
		if err != nil {
			result = Failed
		}
		changes.WithLabelValues(result).Add(float64(n))
	}
}
