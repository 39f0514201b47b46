package console

import (
	"context"
	"math"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/alert"
	"github.com/slipway/slipway/internal/control/monitor"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

func init() {
	pages = append(pages, "/alerts", "/alerts?silence=a%3Db", "/monitor", "/monitor?query=up&span=7d", "/slos", "/runbooks/ingest-slow")
}

// alertsOf are the alerts of a world: some, where it has environments.
type alertsOf struct{ w *world }

func (a alertsOf) Active(context.Context) ([]alert.Alert, error) {
	if len(a.w.levels) == 0 {
		return nil, nil
	}
	return []alert.Alert{
		{Name: "IngestSlow", State: "firing", Severity: resource.Page, Environment: "production", Summary: "Messages in production are acknowledged after up to 1.4s", Runbook: "/runbooks/ingest-slow", Since: noon.Add(-8 * time.Minute), OnCall: "Ann",
			Labels: map[string]string{"alertname": "IngestSlow", "environment": "production"}},
		{Name: "DeadLetters", State: "firing", Severity: resource.Ticket, Environment: "test", Stamp: "test-1", Summary: "Route alerts has given up 12 messages on stamp test-1", Runbook: "/runbooks/dead-letters", Since: noon.Add(-3 * time.Hour), Silence: "s1",
			Labels: map[string]string{"alertname": "DeadLetters"}},
		{Name: "StampNearlyFull", State: "pending", Severity: resource.Ticket, Environment: "production", Stamp: "production-eu", Summary: "Stamp production-eu is 84 % full <b>", Since: noon.Add(-2 * time.Minute), Labels: map[string]string{"alertname": "StampNearlyFull", "stamp": "production-eu"}},
	}, nil
}

func (a alertsOf) Silences(context.Context) ([]alert.Silence, error) {
	return []alert.Silence{{ID: "s1", Match: map[string]string{"alertname": "DeadLetters", "stamp": "test-1"}, Reason: "the endpoint is rebuilt", CreatedBy: "ann", StartsAt: noon.Add(-time.Hour), EndsAt: noon.Add(time.Hour)}}, nil
}

func (a alertsOf) Silence(_ context.Context, _ access.Actor, match map[string]string, reason string, _ time.Time, length time.Duration) (alert.Silence, error) {
	a.w.patches = append(a.w.patches, "silence "+match["alertname"]+" "+length.String()+" "+reason)
	return alert.Silence{}, nil
}

func (a alertsOf) EndSilence(_ context.Context, _ access.Actor, id string) error {
	a.w.patches = append(a.w.patches, "end "+id)
	return nil
}

func (a alertsOf) Test(_ context.Context, _ access.Actor, receiver string) ([]alert.Tested, error) {
	return []alert.Tested{{Receiver: receiver, Kind: "chat", Problem: "the receiver answered 403 Forbidden"}}, nil
}

func (a alertsOf) Receivers(context.Context, access.Actor, bool) ([]resource.Receiver, error) {
	at := noon.Add(-5 * time.Minute)
	return []resource.Receiver{{Metadata: resource.Metadata{Name: "team-chat"}, Spec: resource.ReceiverSpec{Chat: &resource.ChatReceiver{URL: "***"}, Match: map[string]string{"severity": "page|ticket"}}, Status: &resource.ReceiverStatus{Sent: 14, Failed: 1, SentAt: &at}}}, nil
}

func (a alertsOf) OnCalls(context.Context) ([]resource.OnCall, error) {
	return []resource.OnCall{{Metadata: resource.Metadata{Name: "platform"}, Status: &resource.OnCallStatus{Now: resource.OnCallPerson{Name: "Ann", Contact: "+44 20 7946 0000"}, Next: resource.OnCallPerson{Name: "Bo"}, Until: noon.Add(70 * time.Hour)}}}, nil
}

func (a alertsOf) SLOs(context.Context) ([]resource.SLO, error) {
	if len(a.w.levels) == 0 {
		return alert.DefaultSLOs, nil
	}
	f := func(v float64) *float64 { return &v }
	return []resource.SLO{
		{Metadata: resource.Metadata{Name: "availability"}, Spec: resource.SLOSpec{Objective: 0.999, Indicator: "availability", Description: "Of what devices ask for, so much succeeds.", Owner: "platform"}, Status: &resource.SLOStatus{Items: []resource.Standing{
			{Environment: "production", Share: f(0.99962), Budget: f(0.62), BurnShort: f(0.4), BurnLong: f(0.9), State: "met"},
			{Environment: "test", Share: f(0.9981), Budget: f(-0.9), BurnShort: f(1.2), BurnLong: f(2.2), State: "missed"},
		}}},
		{Metadata: resource.Metadata{Name: "ingest-latency"}, Spec: resource.SLOSpec{Objective: 0.99}, Status: &resource.SLOStatus{Items: []resource.Standing{{Environment: "production", Share: f(0.993), Budget: f(0.3), BurnShort: f(14.9), BurnLong: f(3.4), State: "burning"}}}},
		{Metadata: resource.Metadata{Name: "updates"}, Spec: resource.SLOSpec{Objective: 0.95}, Status: &resource.SLOStatus{}},
	}, nil
}

// metricsOf draws waves.
type metricsOf struct{ w *world }

func (m metricsOf) Lines(_ context.Context, query string, from, to time.Time, step time.Duration) (lines []monitor.Line, more bool, err error) {
	switch {
	case strings.Contains(query, "broken("):
		return nil, false, problem.New(problem.Invalid, "the query cannot be read: <here>")
	case len(m.w.levels) == 0:
		return nil, false, nil
	}
	for i, name := range []string{"production", "test"} {
		l := monitor.Line{Labels: map[string]string{"environment": name, "job": "slipway"}}
		for at := from; !at.After(to); at = at.Add(step) {
			if i == 1 && at.Sub(from) > to.Sub(from)/3 && at.Sub(from) < to.Sub(from)/2 {
				continue
			}
			l.Points = append(l.Points, monitor.Point{At: at, Value: 40/float64(i+1) + 12*math.Sin(at.Sub(from).Seconds()/to.Sub(from).Seconds()*9+float64(i))})
		}
		lines = append(lines, l)
	}
	return lines, false, nil
}
