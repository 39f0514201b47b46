package retention

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

const (
	tellEvery = 15 * time.Second
	askTime   = 5 * time.Second // how long one plane may take to answer
	lookTime  = time.Minute     // and to count
	atOnce    = 8               // planes that are asked together
)

func scanInt(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }

// Run gives every plane the document, and records what they removed, until ctx
// ends. A plane that is away hears of it when it is there again.
func (r *Retention) Run(ctx context.Context) error {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		if err := r.tell(ctx); err != nil && ctx.Err() == nil {
			r.Logger.Warn("retention: trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.kick:
		case <-tick.C:
		}
	}
}

// tell gives planes the document and hears of their runs.
func (r *Retention) tell(ctx context.Context) error {
	plan, err := r.plan(ctx)
	if err != nil {
		return err
	}
	peers, err := r.peers(ctx)
	if err != nil {
		return err
	}
	each(ctx, peers, askTime, func(ctx context.Context, _ int, peer string) {
		if err := r.settle(ctx, peer, plan); err != nil && ctx.Err() == nil && !problem.Is(err, problem.NotReady) {
			r.Logger.Warn("a plane was not told how long things are kept; trying again", "plane", peer, "error", err)
		}
	})
	return ctx.Err()
}

// each asks planes, some at once.
func each(ctx context.Context, peers []string, within time.Duration, ask func(ctx context.Context, i int, peer string)) {
	var asking errgroup.Group
	asking.SetLimit(atOnce)
	for i, peer := range peers {
		asking.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, within)
			defer cancel()
			ask(ctx, i, peer)
			return nil
		})
	}
	_ = asking.Wait() // none of them fails the others
}

// settle brings one plane's plan up to date, and the audit log up to its runs.
func (r *Retention) settle(ctx context.Context, peer string, plan link.CarePlan) error {
	seen, _, err := sqldb.Row(ctx, r.DB, scanInt, "SELECT number FROM care_seen WHERE peer = ?", peer)
	if err != nil {
		return err
	}
	runs, err := r.Planes.Runs(ctx, peer, seen)
	if err != nil {
		return err
	}
	if runs.Version < plan.Version {
		if err := r.Planes.Put(ctx, peer, plan); err != nil {
			return err
		}
	}
	for _, run := range runs.Ended {
		if err := r.record(ctx, peer, run); err != nil {
			return err
		}
	}
	return nil
}

// record writes a run that removed something into the audit log, once.
func (r *Retention) record(ctx context.Context, peer string, run link.CareRun) error {
	return r.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Exec(ctx, `INSERT INTO care_seen (peer, number) VALUES (?, ?)
			ON CONFLICT (peer) DO UPDATE SET number = excluded.number WHERE care_seen.number < excluded.number`, peer, run.Number)
		if err != nil || n == 0 || len(run.Removed) == 0 {
			return err
		}
		return r.Audit.Record(ctx, tx, audit.Entry{Actor: "slipway", Action: "retention.run", Object: "plane/" + peer, Outcome: audit.Done, Detail: described(run)})
	})
}

// described is a run in one line.
func described(run link.CareRun) string {
	parts := make([]string, len(run.Removed))
	for i, f := range run.Removed {
		parts[i] = fmt.Sprintf("%d %s", f.Count, f.Kind)
	}
	return fmt.Sprintf("run %d removed %s", run.Number, strings.Join(parts, ", "))
}

// RunNow has planes cleaned up at once: those named, or all.
func (r *Retention) RunNow(ctx context.Context, actor access.Actor, only []string) ([]string, error) {
	peers, err := r.chosen(ctx, only)
	if err != nil {
		return nil, err
	}
	err = r.Audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: "retention.ask", Object: "retention", Detail: strings.Join(peers, ", ")}, func(*audit.Entry) error {
		for _, peer := range peers {
			if err := r.Planes.RunNow(ctx, peer); err != nil {
				return fmt.Errorf("%s: %w", peer, err)
			}
		}
		return nil
	})
	return peers, err
}

// chosen are the planes that somebody names, with or without "stamp.", or all.
func (r *Retention) chosen(ctx context.Context, only []string) ([]string, error) {
	peers, err := r.peers(ctx)
	if err != nil || len(only) == 0 {
		return peers, err
	}
	known := map[string]string{}
	for _, peer := range peers {
		known[peer] = peer
		if stamp, is := link.StampOfPeer(peer); is {
			known[stamp] = peer
		}
	}
	chosen := make([]string, len(only))
	for i, name := range only {
		if chosen[i] = known[name]; chosen[i] == "" {
			return nil, problem.New(problem.NotFound, "there is no plane %q; there are %s", name, strings.Join(peers, ", ")).At("planes")
		}
	}
	return chosen, nil
}
