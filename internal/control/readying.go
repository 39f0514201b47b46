package control

import (
	"context"
	"log/slog"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/evidence"
	"github.com/slipway/slipway/internal/control/insight"
	"github.com/slipway/slipway/internal/control/readiness"
	"github.com/slipway/slipway/internal/metrics"
)

// readying builds what tells how ready environments are, what gathers the facts
// for it, and what tells how well releases reach them.
func (p *Plane) readying(log *audit.Log, logger *slog.Logger) {
	facts := &evidence.Gatherer{
		DB: p.db, Environments: p.environments, Fleet: p.fleet, Releases: p.releases, Promotions: p.promotions, Rollouts: p.rollouts, Gates: p.gates, Flags: p.flags,
		Signing: p.signing, People: p.people, Grants: p.grants, Audit: log, Alerts: p.alerts, Monitor: p.monitor, Journal: p.journal, Backups: p.backups, Members: p.members, Drift: p.drift, Now: time.Now,
	}
	p.readiness = readiness.New(readiness.Options{
		DB: p.db, Audit: log, Environments: p.environments.List, Gather: facts.Gather, Sign: p.backups.Sign, Logger: logger, Now: time.Now,
	})
	p.gates.Ready = p.readiness.Recent
	p.insight = &insight.Insight{
		Environments: p.environments.List, Promotions: p.promotions.List, Rollouts: p.rollouts.List, Verifications: p.promotions.Verifications, Release: p.releases.Get, Now: time.Now,
	}
}

// collectReadiness tells how ready environments were when they were last looked
// at, and by how much that fell below what it was.
func (p *Plane) collectReadiness(ctx context.Context, add func(metrics.Sample)) error {
	known, err := p.readiness.Known(ctx)
	for _, v := range known {
		labels := map[string]string{"environment": v.Environment}
		ready, final := 0.0, map[string]string{"environment": v.Environment, "final": "false"}
		if v.Ready {
			ready = 1
		}
		if v.Final {
			final["final"] = "true"
		}
		add(gauge("slipway_readiness_score", "What passes of what must be so before production, 0 to 100.", float64(v.Score), final))
		add(gauge("slipway_readiness_ready", "1 where every check that blocks passes.", ready, final))
		for _, card := range v.Scorecards {
			for state, n := range card.Counts {
				add(gauge("slipway_readiness_checks", "Checks of readiness by topic and by what they came to.", float64(n), map[string]string{"environment": labels["environment"], "topic": string(card.Topic), "state": string(state)}))
			}
		}
	}
	return err
}
