package control

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/backup"
	"github.com/slipway/slipway/internal/control/rehearsal"
	"github.com/slipway/slipway/internal/link"
)

// rehearseEvery is how often rehearsals are looked at that wait or run.
const rehearseEvery = 15 * time.Second

// rehearsing builds what keeps rehearsals, and lets gates ask for them.
func (p *Plane) rehearsing(log *audit.Log, secret []byte) {
	p.rehearsals = rehearsal.New(rehearsal.Options{
		DB: p.db, Audit: log, Seed: derived(secret, "evidence of rehearsals"), Environment: p.environments.Get, Stamps: p.environments.Stamps, Release: p.releases.Get,
		Running: p.runsOn, Schema: p.schemaOf, Now: time.Now,
	})
	p.gates.Rehearsed = p.rehearsals.Newest
}

// runsOn names the release that runs on a stamp.
func (p *Plane) runsOn(ctx context.Context, environment, stamp string) (string, error) {
	cells, err := p.rollouts.Matrix(ctx, environment)
	for _, c := range cells {
		if c.Stamp == stamp {
			return c.Base, err
		}
	}
	return "", err
}

// newestBackups is how many backups of a stamp are looked at for one that is
// kept.
const newestBackups = 10

// schemaOf is the last migration of a stamp's tables, as its newest backup has
// it.
func (p *Plane) schemaOf(ctx context.Context, stamp string) (int64, error) {
	all, err := p.backups.List(ctx, link.StampPeer(stamp), time.Time{}, newestBackups)
	for _, b := range all {
		if b.State == backup.Kept {
			return b.Schema, err
		}
	}
	return 0, err
}
