package care

import (
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Keeper cleans a plane up by the plan that control gave it, and erases and
// hands out what it keeps of a device. One process of a plane runs it.
type Keeper struct {
	db       *sqldb.DB
	holdings []Holding
	logger   *slog.Logger
	now      func() time.Time
	removed  *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	ended    prometheus.Gauge
	// Planned is called with each new plan before it is kept; nil is nobody.
	Planned func(context.Context, link.CarePlan) error
}

// New returns the keeper of a plane's holdings, in the order in which they may
// be erased.
func New(db *sqldb.DB, holdings []Holding, r prometheus.Registerer, logger *slog.Logger, now func() time.Time) *Keeper {
	k := &Keeper{
		db: db, holdings: holdings, logger: logger, now: now,
		removed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "slipway_retention_removed_total", Help: "Records removed as they were kept long enough, by kind of data."}, []string{"kind"}),
		bytes:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "slipway_retention_removed_bytes_total", Help: "Bytes of those, where they are known."}, []string{"kind"}),
		ended:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "slipway_retention_run_ended_timestamp_seconds", Help: "When the last clean-up ended."}),
	}
	if r != nil {
		r.MustRegister(k.removed, k.bytes, k.ended)
	}
	return k
}

// Put takes a plan, unless a newer one is known.
func (k *Keeper) Put(ctx context.Context, plan link.CarePlan) (link.None, error) {
	text, err := json.Marshal(plan)
	if err != nil {
		return link.None{}, err
	}
	known, _, err := ReadPlan(ctx, k.db)
	if err != nil || plan.Version <= known.Version {
		return link.None{}, err
	}
	if k.Planned != nil {
		if err := k.Planned(ctx, plan); err != nil {
			return link.None{}, err
		}
	}
	return link.None{}, k.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO care_plan (id, version, asked, document) VALUES (1, ?, 0, ?)
			ON CONFLICT (id) DO UPDATE SET version = excluded.version, document = excluded.document WHERE care_plan.version < excluded.version`, plan.Version, string(text))
		return err
	})
}

// ReadPlan is the plan that a plane has, and whether somebody asked for a run.
func ReadPlan(ctx context.Context, q sqldb.Querier) (plan link.CarePlan, asked bool, err error) {
	plan, _, err = sqldb.Row(ctx, q, func(rows *sql.Rows) (p link.CarePlan, err error) {
		var text []byte
		if err = rows.Scan(&text, &asked); err != nil {
			return p, err
		}
		return p, json.Unmarshal(text, &p)
	}, "SELECT document, asked FROM care_plan WHERE id = 1")
	return plan, asked, err
}

// cut is what of a kind may go by a plan now; ok is false where it is kept for
// good.
func cut(plan link.CarePlan, kind string, now time.Time) (c Cut, ok bool) {
	days := plan.Days[kind]
	return Cut{now.AddDate(0, 0, -days), plan.Holds}, plan.Version > 0 && days > 0
}

// Look counts what would go now.
func (k *Keeper) Look(ctx context.Context, req link.LookCare) (link.CareLooks, error) {
	plan, _, err := ReadPlan(ctx, k.db)
	if err != nil {
		return link.CareLooks{}, err
	}
	if plan.Version == 0 {
		return link.CareLooks{}, problem.New(problem.NotReady, "the plane has no plan of retention yet; try again")
	}
	days := map[string]int{}
	for _, from := range []map[string]int{plan.Days, req.Days} {
		for kind, n := range from {
			days[kind] = n
		}
	}
	plan.Days = days
	looks := link.CareLooks{Version: plan.Version, Items: []link.CareFound{}}
	for _, h := range k.holdings {
		c, ok := cut(plan, h.Kind(), k.now())
		if !ok {
			continue
		}
		found, err := h.Look(ctx, c)
		if err != nil {
			return looks, err
		}
		looks.Items = add(looks.Items, found)
	}
	return looks, nil
}

// Add adds what was found of a kind to what was found before.
func Add(all []link.CareFound, found link.CareFound) []link.CareFound { return add(all, found) }

func add(all []link.CareFound, found link.CareFound) []link.CareFound {
	if found.Count == 0 {
		return all
	}
	at := slices.IndexFunc(all, func(f link.CareFound) bool { return f.Kind == found.Kind })
	if at < 0 {
		return append(all, found)
	}
	all[at].Count += found.Count
	all[at].Bytes += found.Bytes
	if all[at].Oldest == nil || found.Oldest != nil && found.Oldest.Before(*all[at].Oldest) {
		all[at].Oldest = found.Oldest
	}
	return all
}

// Ask has the plane cleaned up at once.
func (k *Keeper) Ask(ctx context.Context, _ link.None) (link.None, error) {
	return link.None{}, k.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE care_plan SET asked = 1 WHERE id = 1")
		if err == nil && n == 0 {
			err = problem.New(problem.NotReady, "the plane has no plan of retention yet; try again")
		}
		return err
	})
}

// Erase erases some of what there is of a device, and tells all that this
// erasure removed. Who asks again until there is no more has all of it erased.
func (k *Keeper) Erase(ctx context.Context, req link.EraseSubject) (link.Erased, error) {
	const patience = 4 * time.Second // well below what a call may take
	began := k.now()
	var erased link.Erased
	note := func(ctx context.Context, tx *sqldb.Tx, removed link.CareFound) error {
		erased.Now += removed.Count
		_, err := tx.Exec(ctx, `INSERT INTO care_erased (erasure, kind, count, bytes) VALUES (?, ?, ?, ?)
			ON CONFLICT (erasure, kind) DO UPDATE SET count = care_erased.count + excluded.count, bytes = care_erased.bytes + excluded.bytes`, req.Erasure, removed.Kind, removed.Count, removed.Bytes)
		return err
	}
	for _, h := range k.holdings {
		for more := true; more; {
			if erased.More = k.now().Sub(began) > patience; erased.More {
				break
			}
			var err error
			if more, err = h.Erase(ctx, req.Device, note); err != nil {
				return link.Erased{}, err
			}
		}
	}
	var err error
	erased.Removed, err = sqldb.Rows(ctx, k.db, func(rows *sql.Rows) (f link.CareFound, err error) { return f, rows.Scan(&f.Kind, &f.Count, &f.Bytes) },
		"SELECT kind, count, bytes FROM care_erased WHERE erasure = ? ORDER BY kind", req.Erasure)
	return erased, err
}

// Export hands out everything there is of a device, without secrets.
func (k *Keeper) Export(ctx context.Context, req link.ExportSubject, send func(link.SubjectItem) error) error {
	for _, h := range k.holdings {
		if err := h.Export(ctx, req.Device, send); err != nil {
			return err
		}
	}
	return nil
}
