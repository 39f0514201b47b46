package control

import (
	"log/slog"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/evidence"
	"github.com/slipway/slipway/internal/control/readiness"
)

// readying builds what tells how ready environments are, and what gathers the
// facts for it.
func (p *Plane) readying(log *audit.Log, logger *slog.Logger) {
	facts := &evidence.Gatherer{
		DB: p.db, Environments: p.environments, Fleet: p.fleet, Releases: p.releases, Promotions: p.promotions, Rollouts: p.rollouts, Gates: p.gates, Flags: p.flags,
		Signing: p.signing, People: p.people, Grants: p.grants, Audit: log, Alerts: p.alerts, Monitor: p.monitor, Backups: p.backups, Members: p.members, Drift: p.drift, Now: time.Now,
	}
	p.readiness = readiness.New(readiness.Options{
		DB: p.db, Audit: log, Environments: p.environments.List, Gather: facts.Gather, Sign: p.backups.Sign, Logger: logger, Now: time.Now,
	})
}
