package backup

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/vault"
)

// Schedule says how often backups are taken, which are kept, and what is promised.
type Schedule struct {
	EverySeconds int64           `json:"everySeconds" doc:"How often each plane is backed up: what may be lost is no older"`
	Paused       bool            `json:"paused,omitempty" doc:"No backup is taken by itself"`
	Keep         vault.Retention `json:"keep"`
	DrillSeconds int64           `json:"drillSeconds" doc:"How often a drill becomes due"`
	Objectives   Objectives      `json:"objectives"`
}

// Objectives are what is promised of backups; a drill that misses one fails.
type Objectives struct {
	RPOSeconds   int64 `json:"rpoSeconds" doc:"How old what comes back may be"`
	RTOSeconds   int64 `json:"rtoSeconds" doc:"How long it may take until a device authenticates again"`
	DrillSeconds int64 `json:"drillSeconds" doc:"How long ago the last drill may be that passed"`
}

// defaultPlan holds until somebody sets another.
var defaultPlan = Schedule{
	EverySeconds: 15 * 60, Keep: vault.Retention{Last: 96, Daily: 14, Weekly: 8, Monthly: 12}, DrillSeconds: 24 * 3600,
	Objectives: Objectives{RPOSeconds: 3600, RTOSeconds: 3600, DrillSeconds: 7 * 24 * 3600},
}

const (
	minEvery   = 60
	maxSeconds = 366 * 24 * 3600
)

// Check holds a plan against the rules.
func (p Schedule) Check() error {
	for _, field := range []struct {
		name  string
		value int64
		least int64
	}{
		{"everySeconds", p.EverySeconds, minEvery}, {"drillSeconds", p.DrillSeconds, minEvery}, {"objectives.rpoSeconds", p.Objectives.RPOSeconds, minEvery},
		{"objectives.rtoSeconds", p.Objectives.RTOSeconds, 1}, {"objectives.drillSeconds", p.Objectives.DrillSeconds, minEvery},
	} {
		if field.value < field.least || field.value > maxSeconds {
			return problem.New(problem.Invalid, "must be %d to %d, not %d", field.least, maxSeconds, field.value).At(field.name)
		}
	}
	if p.EverySeconds > p.Objectives.RPOSeconds {
		return problem.New(problem.Invalid, "a backup every %d s cannot keep the promise of losing at most %d s", p.EverySeconds, p.Objectives.RPOSeconds).At("everySeconds")
	}
	return p.Keep.Check()
}

// Schedule is what holds.
func (b *Backups) Schedule(ctx context.Context) (Schedule, error) { return readPlan(ctx, b.DB) }

func readPlan(ctx context.Context, q sqldb.Querier) (Schedule, error) {
	p, found, err := sqldb.Row(ctx, q, scanned[Schedule], "SELECT document FROM backup_plan WHERE id = 1")
	if err == nil && !found {
		p = defaultPlan
	}
	return p, err
}

// scanned reads a document that stands in the only column.
func scanned[T any](rows *sql.Rows) (one T, err error) {
	var text []byte
	if err = rows.Scan(&text); err != nil {
		return one, err
	}
	return one, json.Unmarshal(text, &one)
}

// SetSchedule sets another.
func (b *Backups) SetSchedule(ctx context.Context, actor access.Actor, p Schedule) (Schedule, error) {
	if err := p.Check(); err != nil {
		return p, err
	}
	text, err := json.Marshal(p)
	if err != nil {
		return p, err
	}
	err = b.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO backup_plan (id, document) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET document = excluded.document", string(text)); err != nil {
			return err
		}
		return b.note(ctx, tx, actor, "backup.plan", "backups", string(text))
	})
	b.Kick()
	return p, err
}

// How soon a backup is tried again that failed.
const (
	againAfter = time.Minute
	againMost  = 15 * time.Minute
)

// history is what is known of a plane's backups when the next is due.
type history struct {
	Kept     *time.Time // when the newest was taken that is kept
	Tried    *time.Time // when the newest was begun
	Failures int        // in a row
	Taking   bool
}

// due reports whether a plane is to be backed up now.
func (p Schedule) due(now time.Time, h history) bool {
	switch {
	case p.Paused || h.Taking:
		return false
	case h.Failures > 0 && now.Before(h.Tried.Add(min(againAfter<<min(h.Failures-1, 10), againMost))):
		return false
	}
	return h.Kept == nil || !now.Before(h.Kept.Add(time.Duration(p.EverySeconds)*time.Second))
}
