package environment

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// reconcileEvery is how often everything is looked at without a reason.
const reconcileEvery = 10 * time.Second

// Run keeps stamps running and provisioning's directory up to date until ctx
// ends. What fails is tried again.
func (e *Environments) Run(ctx context.Context) error {
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	for {
		if err := e.Reconcile(ctx); err != nil && ctx.Err() == nil {
			e.logger.Warn("environments not reconciled; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-e.kick:
		case <-tick.C:
		}
	}
}

// Reconcile brings every stamp about, tells provisioning the directory and
// stamps their routes.
func (e *Environments) Reconcile(ctx context.Context) error {
	stamps, err := e.stamps(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, s := range stamps {
		if err := e.ensure(ctx, s); err != nil {
			failed = err
		}
	}
	directory, err := e.Directory(ctx)
	if err != nil {
		return err
	}
	if _, err := bus.Ask(ctx, e.conn, link.ProvisioningPeer, link.DirectoryPut, directory); err != nil {
		return err
	}
	if err := e.pushTenants(ctx, directory, stamps); err != nil && !problem.Is(err, problem.NotReady) {
		failed = err
	}
	if err := e.pushRoutes(ctx, directory.Version, stamps); err != nil && !problem.Is(err, problem.NotReady) {
		failed = err
	}
	return failed
}

// told is the host that a stamp which runs by itself tells of, or told before.
func (e *Environments) told(stamp, known string) (string, error) {
	if o, ok := e.Observed(stamp); ok && o.Host != "" {
		return o.Host, nil
	}
	if known == "" {
		return "", problem.New(problem.NotReady, "stamp %s has not joined yet: slipway stamp token %s makes the token that slipway serve stamp joins with", stamp, stamp)
	}
	return known, nil
}

func (e *Environments) ensure(ctx context.Context, s link.Stamp) error {
	known := s.Host
	spec, err := e.Stamp(ctx, s.Name)
	if err != nil {
		return err
	}
	s.Host = spec.Spec.Host // what people want, not what the driver said
	host, err := e.driver.Ensure(ctx, s)
	if err == nil && host == "" {
		host, err = e.told(s.Name, known)
	}
	e.mu.Lock()
	delete(e.problems, s.Name)
	if err != nil {
		e.problems[s.Name] = problem.Of(err).Error()
	}
	e.mu.Unlock()
	if err != nil || host == known {
		return err
	}
	return e.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE stamp SET host = ? WHERE name = ?", host, s.Name); err != nil {
			return err
		}
		return e.Raise(ctx, tx)
	})
}
