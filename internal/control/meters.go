package control

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/alert"
	"github.com/slipway/slipway/internal/control/incident"
	"github.com/slipway/slipway/internal/control/journal"
	"github.com/slipway/slipway/internal/control/monitor"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/resource"
)

// MonitorHandler serves what control counts, and the HTTP API of Prometheus
// over what everybody does.
func (p *Plane) MonitorHandler() http.Handler { return p.monitoring }

// monitorHandler lets in whoever has a token of the whole installation; what
// control itself counts is shown to its own machine without one.
func monitorHandler(people *access.Access, registry *metrics.Registry, m *monitor.Monitor) http.Handler {
	letIn := func(r *http.Request, token string) bool {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			return false
		}
		actor, err := people.Authenticate(r.Context(), token, host)
		return err == nil && actor.May(access.EnvironmentRead, access.Place{})
	}
	own, api := metrics.Guarded(registry.Handler(), letIn), m.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == metrics.Path {
			own.ServeHTTP(w, r)
			return
		}
		if token := metrics.Token(r); token == "" || !letIn(r, token) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="slipway"`)
			w.Header().Add("WWW-Authenticate", `Basic realm="slipway"`)
			http.Error(w, "metrics are shown to holders of a token of the whole installation: Authorization: Bearer TOKEN, or the token as the password of basic authentication", http.StatusUnauthorized)
			return
		}
		api.ServeHTTP(w, r)
	})
}

// listening builds what keeps what all processes say.
func (p *Plane) listening(ctx context.Context, o Options) (err error) {
	p.journal, err = journal.Open(ctx, journal.Options{
		Dir: filepath.Join(o.Dir, "journal"), Age: o.Journal.Age, Bytes: o.Journal.Bytes, Stamps: p.environments.Stamps, Logger: o.Logger, Now: time.Now,
		Tenant: func(ctx context.Context, device string) (string, error) {
			at, err := p.fleet.Whereabouts(ctx, device)
			return at.Tenant, err
		},
	})
	if err != nil {
		return err
	}
	p.registry.Collect("journal", p.journal.Collect)
	return bus.AnswerFrom(o.Conn, link.ControlPeer, link.TrailPut, func(ctx context.Context, from string, t link.Trail) (link.None, error) {
		return link.None{}, p.journal.Take(ctx, from, t)
	})
}

// noted has incidents know of alerts that fire. One that is silenced is none
// that somebody is to look at, and a test means nothing.
func (p *Plane) noted(ctx context.Context, all []alert.Fired) error {
	episodes := make([]incident.Episode, 0, len(all))
	for _, f := range all {
		severity := f.Severity
		if f.Silence != "" {
			severity = resource.Info
		}
		episodes = append(episodes, incident.Episode{
			Fingerprint: f.Fingerprint, Name: f.Name, Severity: severity, Environment: f.Environment, Stamp: f.Stamp, Summary: f.Summary, OnCall: f.OnCall, BeganAt: f.Since, EndedAt: f.EndedAt,
		})
	}
	return p.incidents.Alerted(ctx, episodes)
}

// say puts what this process says into the journal.
func (p *Plane) say(ctx context.Context) error {
	if p.trail == nil {
		<-ctx.Done()
		return nil
	}
	return p.trail.Tell(ctx, "", func(ctx context.Context, t link.Trail) error { return p.journal.Take(ctx, "", t) })
}

// collect looks up what control does not count as it happens.
func (p *Plane) collect(ctx context.Context, add func(metrics.Sample)) error {
	return errors.Join(p.collectStamps(ctx, add), p.collectExpiry(ctx, add), p.collectStates(ctx, add), p.collectDrift(ctx, add), p.collectReadiness(ctx, add))
}

func gauge(name, help string, value float64, labels map[string]string) metrics.Sample {
	return metrics.Sample{Name: name, Help: help, Value: value, Labels: labels}
}

func (p *Plane) collectStamps(ctx context.Context, add func(metrics.Sample)) error {
	all, err := p.environments.Stamps(ctx)
	for _, s := range all {
		labels := map[string]string{"stamp": s.Metadata.Name, "environment": s.Spec.Environment}
		add(gauge("slipway_stamp_info", "Always 1; the labels tell of the stamp.", 1, map[string]string{"stamp": s.Metadata.Name, "environment": s.Spec.Environment, "region": s.Spec.Region}))
		add(gauge("slipway_stamp_capacity", "Places for devices that the stamp has.", float64(s.Spec.Capacity), labels))
		if s.Status == nil {
			continue
		}
		add(gauge("slipway_stamp_places_taken", "Places that devices take.", float64(s.Status.Assigned), labels))
		if s.Status.SeenAt != nil {
			add(gauge("slipway_stamp_silent_seconds", "How long ago control heard of the stamp.", max(0, time.Since(*s.Status.SeenAt).Seconds()), labels))
		}
	}
	return err
}

const (
	expiry     = "slipway_certificate_expiry_timestamp_seconds"
	expiryHelp = "When a certificate or signed document runs out, as seconds since 1970."
)

// collectExpiry tells when what is signed runs out: of the certificates of a
// process the newest, as it is renewed and the old ones are left to expire.
func (p *Plane) collectExpiry(ctx context.Context, add func(metrics.Sample)) error {
	roles, err := p.signing.Roles(ctx)
	for _, r := range roles {
		if !r.Expires.IsZero() {
			add(gauge(expiry, expiryHelp, float64(r.Expires.Unix()), map[string]string{"kind": "metadata", "name": r.Name}))
		}
	}
	if p.members == nil {
		return err
	}
	all, failure := p.members.List(ctx)
	newest := map[string]time.Time{}
	for _, c := range all {
		if c.RevokedAt == nil && c.NotAfter.After(newest[c.Peer]) {
			newest[c.Peer] = c.NotAfter
		}
	}
	for peer, at := range newest {
		add(gauge(expiry, expiryHelp, float64(at.Unix()), map[string]string{"kind": "peer", "name": peer}))
	}
	return errors.Join(err, failure)
}

// collectStates counts promotions and rollouts by where they stand.
func (p *Plane) collectStates(ctx context.Context, add func(metrics.Sample)) error {
	promotions, err := p.promotions.Counts(ctx)
	for _, c := range promotions {
		add(gauge("slipway_promotions", "Promotions by where they stand.", float64(c.Count), map[string]string{"environment": c.Environment, "state": string(c.State)}))
	}
	rollouts, failure := p.rollouts.Counts(ctx)
	for _, c := range rollouts {
		add(gauge("slipway_rollouts", "Rollouts by where they stand.", float64(c.Count), map[string]string{"environment": c.Environment, "state": string(c.State)}))
	}
	return errors.Join(err, failure)
}
