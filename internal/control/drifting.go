package control

import (
	"context"
	"encoding/json"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/configuration"
	"github.com/slipway/slipway/internal/control/drift"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// twinsAtOnce is how many twins of a stamp are looked at each time.
const twinsAtOnce = 100

// drifting builds what holds that which is so against what is declared.
func (p *Plane) drifting(o Options, log *audit.Log) {
	p.drift = drift.New(drift.Options{
		DB: p.db, Audit: log, Fleet: p.environments, Running: p.runningOf, FlagsOf: p.flagsOf, Version: o.Version, Logger: o.Logger, Now: time.Now,
		Flags: func(context.Context) (map[string]string, error) { return p.flags.Wanted() },
		Enrollments: func(ctx context.Context) (all []link.Enrollment, err error) {
			for after := ""; ; {
				page, err := p.fleet.Enrollments(ctx, link.ListEnrollments{Kind: link.Group, After: after, Limit: link.MaxPage})
				if err != nil {
					return nil, err
				}
				if all = append(all, page.Items...); !page.More {
					return all, nil
				}
				after = page.Items[len(page.Items)-1].Name
			}
		},
		Configurations: p.configurations.Wanted,
		Held: func(ctx context.Context, stamp string) (link.Held, error) {
			return bus.Ask(ctx, o.Conn, link.StampPeer(stamp), link.HeldRead, link.None{})
		},
		HeldDirectory: func(ctx context.Context) (link.Directory, error) {
			return bus.Ask(ctx, o.Conn, link.ProvisioningPeer, link.DirectoryRead, link.None{})
		},
		Sample: func(ctx context.Context, stamp, after string) (link.Rows, error) {
			return bus.Ask(ctx, o.Conn, link.StampPeer(stamp), link.QueryRun, link.RunQuery{Query: "SELECT * FROM devices", After: after, Limit: twinsAtOnce})
		},
	})
	p.fleet.Declared = func(ctx context.Context, kind link.EnrollmentKind, name string, spec *link.EnrollmentSpec) error {
		return p.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			return drift.Declare(ctx, tx, kind, name, spec, time.Now())
		})
	}
	p.gates.Parity, p.gates.Drift = p.drift.Parity, p.drift.Findings
}

// configuring builds what keeps what devices are configured with beside
// releases.
func (p *Plane) configuring(o Options, log *audit.Log) {
	p.configurations = configuration.New(configuration.Options{
		DB: p.db, Audit: log, Gates: p.gates, Environment: p.environments.Get, Stamps: p.environments.Stamps, Logger: o.Logger, Now: time.Now,
		Put: func(ctx context.Context, stamp string, all link.WantedConfigurations) error {
			_, err := bus.Ask(ctx, o.Conn, link.StampPeer(stamp), link.ConfigurationsPut, all)
			return err
		},
	})
}

// runningOf is what each stamp is to run.
func (p *Plane) runningOf(ctx context.Context) ([]drift.Running, error) {
	cells, err := p.rollouts.Matrix(ctx, "")
	if err != nil {
		return nil, err
	}
	counters := map[string]int64{}
	all := make([]drift.Running, len(cells))
	for i, c := range cells {
		if _, known := counters[c.Base]; c.Base != "" && !known {
			r, err := p.releases.Get(ctx, c.Base)
			if err != nil && !problem.Is(err, problem.NotFound) {
				return nil, err
			}
			counters[c.Base] = r.Counter
		}
		all[i] = drift.Running{Environment: c.Environment, Stamp: c.Stamp, Base: c.Base, Release: c.Release, Counter: counters[c.Base]}
	}
	return all, nil
}

// flagsOf is what the flags of an environment are, by key.
func (p *Plane) flagsOf(ctx context.Context, environment string) (any, error) {
	all, err := p.flags.List(ctx)
	if err != nil {
		return nil, err
	}
	flags := map[string]flag.Flag{}
	for _, f := range all {
		for _, s := range f.Environments {
			if s.Environment == environment {
				flags[f.Key] = s.Flag
			}
		}
	}
	text, err := json.Marshal(flags)
	if err != nil {
		return nil, err
	}
	return drift.Document(text), nil
}

// likeness is kept with each verification: how alike the environment is in
// which it was made, and the one it is for.
func (p *Plane) likeness(environment string, now time.Time) []gate.Result {
	report, known := p.drift.Newest(environment)
	if !known {
		return nil
	}
	return []gate.Result{gate.ParityEvidence(report, now)}
}

// collectDrift counts differences, and tells how alike environments are.
func (p *Plane) collectDrift(_ context.Context, add func(metrics.Sample)) error {
	page := p.drift.Findings("")
	if page.At.IsZero() {
		return nil
	}
	add(gauge("slipway_drift_looked_timestamp_seconds", "When it was last looked for drift, as seconds since 1970.", float64(page.At.Unix()), nil))
	for _, c := range page.Counts {
		add(gauge("slipway_drift_findings", "Where what is so is not what is declared, by class.", float64(c.Count), map[string]string{"environment": c.Environment, "class": string(c.Class)}))
	}
	for _, r := range p.drift.Reports() {
		add(gauge("slipway_parity_score", "How alike two environments are, 0 to 1.", r.Score, map[string]string{"from": r.From, "to": r.To}))
	}
	return nil
}
