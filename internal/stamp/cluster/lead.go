package cluster

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Lead runs what only one process may do, each time this one begins to lead,
// until it does not any more; and returns when ctx ends or run fails.
func (c *Cluster) Lead(ctx context.Context, run func(context.Context) error) error {
	for {
		changed := c.lead.Next()
		if !c.Leads() {
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			}
			continue
		}
		c.Logger.Info("this process leads")
		err := c.whileLeading(ctx, run)
		if ctx.Err() != nil || err != nil && !problem.Is(err, problem.NotReady) {
			return err
		}
		if err != nil {
			c.Logger.Warn("what only one process does for all has stopped; beginning anew", "error", err)
		} else {
			c.Logger.Info("this process leads no more")
		}
		select {
		case <-ctx.Done():
		case <-time.After(renewEvery): // what it needs may be back by then
		}
	}
}

func (c *Cluster) whileLeading(ctx context.Context, run func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		for {
			changed := c.lead.Next()
			if !c.Leads() {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}()
	return run(ctx)
}

// Leads reports whether the process leads.
func (c *Cluster) Leads() bool { return c.since() < c.leading.Load() }

// Leader is the id of the process that leads, empty when nobody does.
func (c *Cluster) Leader() string {
	if c.Leads() {
		return c.id
	}
	for _, m := range c.Members() {
		if m.Leads && m.ID != c.id && m.Left > 0 {
			return m.ID
		}
	}
	return ""
}

func (c *Cluster) takeLead(ctx context.Context, tx *sqldb.Tx) (leads bool, err error) {
	n, err := tx.Exec(ctx, `INSERT INTO leader (id, process, until) VALUES (1, ?, `+c.clock()+` + ?)
		ON CONFLICT (id) DO UPDATE SET process = excluded.process, until = excluded.until
		WHERE leader.process = excluded.process OR leader.until < `+c.clock()+` OR leader.process NOT IN (SELECT id FROM process WHERE renewed_at > 0)`,
		c.id, leaderLease.Microseconds())
	return n == 1, err
}

func (c *Cluster) hold(leads bool, began int64) {
	before := c.Leads()
	if leads {
		c.leading.Store(began + int64(leadsFor))
	} else {
		c.leading.Store(0)
	}
	if c.Leads() != before {
		c.lead.Ring()
	}
}
