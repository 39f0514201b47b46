// Package monitor keeps what every process of the installation counts, and
// answers questions about it in PromQL: over the HTTP API of Prometheus for
// Grafana and the field's other programs, and directly for gates, rules and the
// console. The storage and the query engine are those of Prometheus. Where the
// installation names a Prometheus of its own, that one is asked instead and
// nothing is kept here.
package monitor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/tasks"
)

// Options are what a monitor is built from.
type Options struct {
	Dir      string // where metrics are kept
	Age      time.Duration
	Bytes    int64
	Conn     *bus.Conn         // over which processes tell
	Registry *metrics.Registry // what control itself counts
	// Stamps are those that are meant to tell.
	Stamps func(context.Context) ([]resource.Stamp, error)
	// Remote is the URL of a Prometheus that is asked instead; may be empty.
	Remote string
	Client *http.Client // for Remote
	Logger *slog.Logger
	Now    func() time.Time
}

// The bounds of what is kept where nothing else is said, and of what one query
// may cost.
const (
	DefaultAge   = 31 * 24 * time.Hour
	DefaultBytes = 2 << 30

	maxSamples   = 5_000_000 // in memory, of one query
	queryTimeout = 30 * time.Second
	maxQueries   = 8 // at a time
	lookBack     = 5 * time.Minute
	maxExemplars = 10_000
)

// Monitor is what the installation counts.
type Monitor struct {
	Options
	db     *tsdb.DB // nil where Remote is asked
	engine *promql.Engine
	parser parser.Parser
	places chan struct{} // of queries under way
	told   chan told

	mu      sync.Mutex
	targets map[string]*target // by instance
	stamps  map[string]resource.StampSpec
	facts   map[string]fact // by metric
}

// told is what a process has told and nobody has written down yet.
type told struct {
	peer string
	came time.Time
	link.Metrics
}

// skew is how far the clock of a process is ahead of that of control, as far as
// can be told from when its word came.
func (t told) skew() time.Duration {
	if t.At.IsZero() {
		return 0
	}
	return t.At.Sub(t.came)
}

// maxTold bounds what waits to be written down; more is left out, as the next
// has it too.
const maxTold = 1024

// New opens the storage and begins to hear. What it hears is kept from Run on.
func New(o Options) (*Monitor, error) {
	m := &Monitor{
		Options: o, parser: parser.NewParser(parser.Options{}), places: make(chan struct{}, maxQueries), told: make(chan told, maxTold),
		targets: map[string]*target{}, facts: map[string]fact{},
	}
	if o.Remote != "" {
		return m, nil
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	settings := tsdb.DefaultOptions()
	settings.RetentionDuration = cmp.Or(o.Age, DefaultAge).Milliseconds()
	settings.MaxBytes = cmp.Or(o.Bytes, DefaultBytes)
	settings.MaxBlockDuration = min(settings.RetentionDuration/10, (31 * 24 * time.Hour).Milliseconds())
	settings.MaxBlockDuration = max(settings.MaxBlockDuration, settings.MinBlockDuration)
	settings.WALSegmentSize, settings.WALCompression = 16<<20, compression.Snappy
	settings.StripeSize = 1 << 10 // there are thousands of series, not millions
	settings.NoLockfile = true    // the directory of the process is locked as a whole
	settings.EnableExemplarStorage, settings.MaxExemplars = true, maxExemplars
	// What the storage counts of itself is not told: its names are not ours.
	db, err := tsdb.Open(o.Dir, Quiet(o.Logger, "metrics"), prometheus.NewRegistry(), settings, nil)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	m.db = db
	m.engine = promql.NewEngine(promql.EngineOpts{
		Logger: o.Logger, MaxSamples: maxSamples, Timeout: queryTimeout, LookbackDelta: lookBack,
		EnableAtModifier: true, EnableNegativeOffset: true, Parser: m.parser,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
	})
	o.Registry.Collect("metrics", m.collect)
	if err := bus.Hear(o.Conn, link.MetricsSubject(">"), m.hear); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Local reports whether metrics are kept here, and not by a Prometheus elsewhere.
func (m *Monitor) Local() bool { return m.db != nil }

// Close closes the storage.
func (m *Monitor) Close() error {
	if m.db == nil {
		return nil
	}
	return errors.Join(m.engine.Close(), m.db.Close())
}

// Run writes down what is heard, until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	if m.db == nil {
		<-ctx.Done()
		return nil
	}
	return tasks.Run(ctx, tasks.Task{Name: "hear", Run: m.writeDown}, tasks.Task{Name: "look", Run: m.look})
}

// collect tells how much is kept.
func (m *Monitor) collect(_ context.Context, add func(metrics.Sample)) error {
	add(metrics.Sample{Name: "slipway_metrics_series", Help: "Series that processes tell at the moment.", Value: float64(m.db.Head().NumSeries())})
	var bytes int64
	for _, b := range m.db.Blocks() {
		bytes += b.Size()
	}
	add(metrics.Sample{Name: "slipway_metrics_bytes", Help: "Bytes that metrics older than a few hours take.", Value: float64(bytes)})
	return nil
}

// hear takes what a process tells.
func (m *Monitor) hear(subject string, document link.Metrics) {
	select {
	case m.told <- told{subject[len(link.MetricsSubject("")):], m.Now(), document}:
	default:
		m.Logger.Warn("metrics come faster than they are written down; some are left out", "subject", subject)
	}
}

func (m *Monitor) writeDown(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case one := <-m.told:
			text, err := metrics.Unpack(one.Metrics)
			if err == nil {
				err = m.take(ctx, one.peer, one.Process, text, one.skew())
			}
			if err != nil {
				m.Logger.Warn("what a process counts was not kept", "peer", one.peer, "error", err)
			}
		}
	}
}

// look takes what control itself counts, and notices who has fallen silent.
func (m *Monitor) look(ctx context.Context) error {
	once := func() {
		text, err := m.Registry.Text()
		if err == nil {
			err = m.take(ctx, link.ControlPeer, "", text, 0)
		}
		if err == nil {
			err = m.noticeSilence(ctx)
		}
		if err != nil && ctx.Err() == nil {
			m.Logger.Warn("what control counts was not kept", "error", err)
		}
	}
	once()
	return tasks.Every(ctx, link.MetricsEvery, once)
}
