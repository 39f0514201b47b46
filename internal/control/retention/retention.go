// Package retention is how long everything is kept: one declaration for all
// planes, the legal holds that stop it, and what each clean-up removed. The
// planes clean up by themselves, by the document that this package gives them.
package retention

import (
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"maps"
	"time"

	"github.com/slipway/slipway/internal/care"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// Settings are what people declare of retention.
type Settings struct {
	EveryHours int            `json:"everyHours" doc:"How often each plane is cleaned up"`
	Paused     bool           `json:"paused,omitempty" doc:"No plane is cleaned up by itself"`
	Days       map[string]int `json:"days" doc:"How many days each kind of data is kept; 0 keeps it for good. Kinds that are not named keep what holds by default"`
}

const (
	defaultEvery = 24
	maxEvery     = 31 * 24
)

// Check holds settings against the rules.
func (s Settings) Check() error {
	if s.EveryHours < 1 || s.EveryHours > maxEvery {
		return problem.New(problem.Invalid, "must be 1 to %d hours, not %d", maxEvery, s.EveryHours).At("everyHours")
	}
	return care.CheckDays(s.Days)
}

// Planes ask the planes over the link.
type Planes interface {
	Put(ctx context.Context, peer string, plan link.CarePlan) error
	Look(ctx context.Context, peer string, req link.LookCare) (link.CareLooks, error)
	RunNow(ctx context.Context, peer string) error
	Runs(ctx context.Context, peer string, after int64) (link.CareRunList, error)
}

// Options are what retention needs.
type Options struct {
	DB     *sqldb.DB
	Audit  *audit.Log
	Planes Planes
	Stamps func(ctx context.Context) ([]resource.Stamp, error)
	Logger *slog.Logger
	Now    func() time.Time
}

// Retention is how long everything is kept.
type Retention struct {
	Options
	kick chan struct{}
}

// New returns the retention kept in a database.
func New(o Options) *Retention { return &Retention{o, make(chan struct{}, 1)} }

func scanned[T any](rows *sql.Rows) (one T, err error) {
	var text []byte
	if err = rows.Scan(&text); err != nil {
		return one, err
	}
	return one, json.Unmarshal(text, &one)
}

// Settings are those that hold.
func (r *Retention) Settings(ctx context.Context) (Settings, error) { return settings(ctx, r.DB) }

func settings(ctx context.Context, q sqldb.Querier) (Settings, error) {
	s, _, err := sqldb.Row(ctx, q, scanned[Settings], "SELECT document FROM retention WHERE id = 1")
	if s.EveryHours == 0 {
		s.EveryHours = defaultEvery
	}
	if s.Days == nil {
		s.Days = map[string]int{}
	}
	return s, err
}

// Set declares others. Kinds that are not named are kept as long as before.
func (r *Retention) Set(ctx context.Context, actor access.Actor, s Settings) (set Settings, err error) {
	err = r.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		before, err := settings(ctx, tx)
		if err != nil {
			return err
		}
		days := maps.Clone(before.Days)
		maps.Copy(days, s.Days)
		set = Settings{s.EveryHours, s.Paused, days}
		if err := set.Check(); err != nil {
			return err
		}
		text, err := json.Marshal(set)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE retention SET document = ?, version = version + 1 WHERE id = 1", string(text)); err != nil {
			return err
		}
		return r.Audit.Record(ctx, tx, audit.Entry{
			Actor: actor.Name, Action: "retention.set", Object: "retention", Outcome: audit.Done, Detail: string(text), Before: digestOf(before), After: digestOf(set),
		})
	})
	if err == nil {
		r.wake()
	}
	return set, err
}

func (r *Retention) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// plan is the document that planes are given.
func (r *Retention) plan(ctx context.Context) (link.CarePlan, error) {
	version, _, err := sqldb.Row(ctx, r.DB, func(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }, "SELECT version FROM retention WHERE id = 1")
	if err != nil {
		return link.CarePlan{}, err
	}
	s, err := r.Settings(ctx)
	if err != nil {
		return link.CarePlan{}, err
	}
	plan := link.CarePlan{Version: version, EveryHours: s.EveryHours, Paused: s.Paused, Days: care.Days(s.Days)}
	holds, err := r.Holds(ctx, false)
	for _, h := range holds {
		plan.Holds = append(plan.Holds, h.On)
	}
	return plan, err
}

// peers are all planes, stamps last.
func (r *Retention) peers(ctx context.Context) ([]string, error) {
	stamps, err := r.Stamps(ctx)
	peers := []string{link.ControlPeer, link.ProvisioningPeer}
	for _, s := range stamps {
		peers = append(peers, link.StampPeer(s.Metadata.Name))
	}
	return peers, err
}
