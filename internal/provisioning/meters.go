package provisioning

import (
	"context"
	"net/http"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
)

// MetricsHandler serves what the plane counts, for its listener to guard.
func (p *Plane) MetricsHandler() http.Handler { return p.metrics.Handler() }

// LetIn reports whether control knows whose a token is.
func (p *Plane) LetIn(r *http.Request, token string) bool {
	_, _, err := p.person(r.Context(), token)
	return err == nil
}

// tellMetrics tells control what the plane counts, until ctx ends.
func (p *Plane) tellMetrics(ctx context.Context) error {
	return p.metrics.Tell("", func(m link.Metrics) error {
		return bus.Tell(p.conn, link.MetricsSubject(link.ProvisioningPeer), m)
	})(ctx)
}

// collect looks up what is not counted as it happens.
func (p *Plane) collect(ctx context.Context, add func(metrics.Sample)) error {
	counts, err := p.service.Count(ctx)
	if err != nil {
		return err
	}
	for _, c := range counts.ByStamp {
		add(metrics.Sample{Name: "slipway_provisioning_places", Help: "Places that devices take, by stamp.", Value: float64(c.Count), Labels: map[string]string{"stamp": c.Stamp}})
	}
	for _, c := range counts.Waiting {
		add(metrics.Sample{Name: "slipway_provisioning_waiting", Help: "Devices that are on no stamp, by the environment they are to be in.", Value: float64(c.Count), Labels: map[string]string{"environment": c.Environment}})
	}
	return nil
}
