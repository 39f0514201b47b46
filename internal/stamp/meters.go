package stamp

import (
	"context"
	"errors"
	"net/http"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
)

// MetricsHandler serves what the process counts, for its listener to guard.
func (s *Stamp) MetricsHandler() http.Handler { return s.metrics.Handler() }

// LetIn reports whether control knows whose a token is.
func (s *Stamp) LetIn(r *http.Request, token string) bool {
	_, _, err := s.person(r.Context(), token)
	return err == nil
}

// tellMetrics tells control what the process counts, until ctx ends.
func (s *Stamp) tellMetrics(ctx context.Context) error {
	process := ""
	if s.others != nil {
		process = s.others.cluster.ID()
	}
	return s.metrics.Tell(process, func(m link.Metrics) error {
		return bus.Tell(s.link, link.MetricsSubject(link.StampPeer(s.name)), m)
	})(ctx)
}

// collect looks up what is not counted as it happens. What the processes of a
// stamp share, one of them tells.
func (s *Stamp) collect(ctx context.Context, add func(metrics.Sample)) error {
	s.collectAdmission(add)
	if !s.Leads() {
		return nil
	}
	return errors.Join(s.collectPopulation(ctx, add), s.collectLog(ctx, add), s.collectRoutes(ctx, add), s.collectUpdates(ctx, add))
}

func gauge(name, help string, value float64, labels map[string]string) metrics.Sample {
	return metrics.Sample{Name: name, Help: help, Value: value, Labels: labels}
}

func counter(name, help string, value float64, labels map[string]string) metrics.Sample {
	return metrics.Sample{Name: name, Help: help, Counter: true, Value: value, Labels: labels}
}

func (s *Stamp) collectAdmission(add func(metrics.Sample)) {
	c := s.hub.Counts()
	const name, help = "slipway_admission_arrivals_total", "Connections at the door, by what they were told; kept and broken are promises of a time."
	for result, n := range map[string]uint64{"admitted": c.Admission.Admitted, "later": c.Admission.Refused, "promised": c.Admission.Promised, "kept": c.Admission.Kept, "broken": c.Admission.Broken} {
		add(counter(name, help, float64(n), map[string]string{"result": result}))
	}
	add(gauge("slipway_admission_waiting", "Promises of a time that are out.", float64(c.Admission.Waiting), nil))
	for kind, n := range s.hub.Operations.Refused() {
		add(counter("slipway_hub_operations_throttled_total", "Requests put off as there were too many of their kind.", float64(n), map[string]string{"kind": string(kind)}))
	}
	add(counter("slipway_tenant_over_quota_total", "Telemetry messages refused as their tenant sent too much.", float64(s.hub.Quotas.Exceeded()), nil))
}

func (s *Stamp) collectPopulation(ctx context.Context, add func(metrics.Sample)) error {
	devices, err := s.census.count(ctx, s.hub.Devices.Count)
	if err != nil {
		return err
	}
	add(gauge("slipway_stamp_devices", "Devices of the stamp, connected or not.", float64(devices), nil))
	waiting, err := s.depth.count(ctx, s.hub.Queues.Depth)
	if err == nil {
		add(gauge("slipway_command_queue_depth", "Cloud-to-device messages that wait for their devices.", float64(waiting), nil))
	}
	return err
}

func (s *Stamp) collectLog(ctx context.Context, add func(metrics.Sample)) error {
	messages, bytes, err := s.logs.Accepted(ctx)
	if err != nil {
		return err
	}
	add(counter("slipway_log_messages_total", "Telemetry messages that the log ever took.", float64(messages), nil))
	add(gauge("slipway_log_bytes", "Bytes of telemetry that the log keeps.", float64(bytes), nil))
	add(gauge("slipway_log_limit_bytes", "Bytes of telemetry that the log may keep.", float64(s.limits.TelemetryBytes), nil))
	return nil
}

func (s *Stamp) collectRoutes(ctx context.Context, add func(metrics.Sample)) error {
	states, err := s.deliveries.States(ctx, link.None{})
	if err != nil {
		return err
	}
	for _, r := range states.Items {
		labels := map[string]string{"route": r.Route}
		failing := 0.0
		if r.State == "failing" {
			failing = 1
		}
		add(gauge("slipway_route_lag", "Records of the log that the route has still to look at.", float64(r.Lag), labels))
		add(gauge("slipway_route_failing", "1 while the route's endpoint takes nothing.", failing, labels))
		add(gauge("slipway_route_dead_letters", "Messages given up and kept to be replayed.", float64(r.DeadLetters), labels))
		add(counter("slipway_route_delivered_total", "Messages that the endpoint has taken.", float64(r.Delivered), labels))
		add(counter("slipway_route_retries_total", "Attempts to deliver that failed.", float64(r.Retries), labels))
		add(counter("slipway_route_lost_total", "Records that left the log before the route had looked at them.", float64(r.Lost), labels))
	}
	return nil
}

func (s *Stamp) collectUpdates(ctx context.Context, add func(metrics.Sample)) error {
	progress, err := s.software.Progress(ctx)
	if err != nil || progress == nil {
		return err
	}
	const name, help = "slipway_update_devices", "Devices by where they are with what they are to run: all of the stamp, and those that the rollout has reached."
	for group, census := range map[string]link.UpdateCensus{"all": progress.Devices, "reached": progress.Reached} {
		for state, n := range map[string]int64{
			"updated": census.Updated, "pending": census.Pending, "failed": census.Failed, "rolledBack": census.RolledBack,
			"unreachable": census.Unreachable, "exempt": census.Exempt,
		} {
			add(gauge(name, help, float64(n), map[string]string{"group": group, "state": state}))
		}
	}
	halted := 0.0
	if progress.Halted != "" {
		halted = 1
	}
	add(gauge("slipway_update_halted", "1 while the stamp gives no more orders by itself.", halted, nil))
	add(gauge("slipway_update_wave", "The wave of the rollout on the stamp; 0 is none.", float64(progress.Wave), nil))
	return nil
}
