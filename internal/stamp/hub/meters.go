package hub

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/stamp/command"
)

// meters count what a hub does.
type meters struct {
	connects, disconnects    *prometheus.CounterVec
	connecting               prometheus.Histogram
	messages                 map[string]prometheus.Counter // by result; looked up once, as there are many
	bytes                    prometheus.Counter
	acknowledging            prometheus.Histogram
	twins, methods, commands *prometheus.CounterVec
	answering, twinning      prometheus.Histogram
}

// newMeters registers the meters; nil registers them nowhere.
func newMeters(r prometheus.Registerer, connections func() float64) *meters {
	auto := promauto.With(r)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return auto.NewCounterVec(prometheus.CounterOpts{Namespace: "slipway", Subsystem: "hub", Name: name, Help: help}, labels)
	}
	seconds := func(name, help string) prometheus.Histogram {
		return auto.NewHistogram(prometheus.HistogramOpts{Namespace: "slipway", Subsystem: "hub", Name: name, Help: help, Buckets: metrics.Seconds})
	}
	auto.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "slipway", Subsystem: "hub", Name: "connections", Help: "Devices and modules that are connected to this process."}, connections)
	m := &meters{
		connects:      counter("connects_total", "Connections that asked to be let in, by how that went.", "protocol", "result"),
		disconnects:   counter("disconnects_total", "Connections that ended."),
		connecting:    seconds("connect_seconds", "How long it took to let a connection in."),
		messages:      map[string]prometheus.Counter{},
		bytes:         auto.NewCounter(prometheus.CounterOpts{Namespace: "slipway", Subsystem: "hub", Name: "message_bytes_total", Help: "Bytes of the telemetry messages that were accepted."}),
		acknowledging: seconds("ack_seconds", "How long a telemetry message took from its arrival until the log held it."),
		twins:         counter("twin_requests_total", "Reads and patches of twins, by who made them and how that went.", "operation", "result"),
		twinning:      seconds("twin_seconds", "How long a patch of a twin took."),
		methods:       counter("methods_total", "Methods that connected devices were asked to run, by how that went.", "result"),
		answering:     seconds("method_seconds", "How long devices took to answer methods."),
		commands:      counter("commands_total", "Cloud-to-device messages, by what became of them.", "outcome"),
	}
	messages := counter("messages_total", "Telemetry messages, by how they went.", "result")
	for _, result := range []string{metrics.OK, metrics.Refused, metrics.Throttled, metrics.Failed} {
		m.messages[result] = messages.WithLabelValues(result)
		m.methods.WithLabelValues(result)
		for _, operation := range []string{"get", "report", "desire"} {
			m.twins.WithLabelValues(operation, result)
		}
		m.connects.WithLabelValues("mqtt", result)
	}
	for _, outcome := range []command.Outcome{command.Success, command.Expired, command.DeliveryCountExceeded, command.Rejected, command.Purged, "Queued"} {
		m.commands.WithLabelValues(string(outcome))
	}
	return m
}

// connect counts a connection that asked to be let in.
func (m *meters) connect(protocol string, took time.Duration, trace string, err error) {
	m.connects.WithLabelValues(protocol, metrics.Result(err)).Inc()
	metrics.Observe(m.connecting, took, trace)
}

// message counts a telemetry message that the log has answered; without meters
// nobody does.
func (m *meters) message(size int, took time.Duration, trace string, err error) {
	if m == nil {
		return
	}
	m.messages[metrics.Result(err)].Inc()
	if err == nil {
		m.bytes.Add(float64(size))
		metrics.Observe(m.acknowledging, took, trace)
	}
}

// twin counts a request about a twin.
func (m *meters) twin(operation string, took time.Duration, trace string, err error) {
	m.twins.WithLabelValues(operation, metrics.Result(err)).Inc()
	if operation != "get" {
		metrics.Observe(m.twinning, took, trace)
	}
}

// method counts a method that a connected device was asked to run.
func (m *meters) method(took time.Duration, trace string, err error) {
	m.methods.WithLabelValues(metrics.Result(err)).Inc()
	if err == nil {
		metrics.Observe(m.answering, took, trace)
	}
}
