package featureflag

import (
	"cmp"
	"context"
	"database/sql"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/sqldb"
)

// exposed is what evaluations are counted by.
type exposed struct {
	environment, flag, variant, release string
	day                                 int64
}

// exposure holds the counts that are not written down yet: what a process that
// is killed loses.
type exposure struct {
	mu     sync.Mutex
	counts map[exposed]int64
}

func dayOf(t time.Time) int64 { return t.Unix() / 86400 }

// Evaluate says what somebody gets for a flag of a scope, and counts that.
func (f *Flags) Evaluate(s *State, key string, context map[string]any) flag.Evaluation {
	now := f.o.Now()
	r := s.Set.Evaluate(key, context, now)
	f.count(s, now, r)
	return r
}

// All says what somebody gets for all flags of a scope, and counts that.
func (f *Flags) All(s *State, context map[string]any) []flag.Evaluation {
	now := f.o.Now()
	all := s.Set.All(context, now)
	f.count(s, now, all...)
	return all
}

func (f *Flags) count(s *State, now time.Time, all ...flag.Evaluation) {
	f.exposure.mu.Lock()
	defer f.exposure.mu.Unlock()
	if f.exposure.counts == nil {
		f.exposure.counts = map[exposed]int64{}
	}
	for _, r := range all {
		if r.Variant != "" {
			f.exposure.counts[exposed{s.Environment, r.Key, r.Variant, s.Release, dayOf(now)}]++
		}
	}
}

// flush writes counts down.
func (f *Flags) flush(ctx context.Context) error {
	f.exposure.mu.Lock()
	counts := f.exposure.counts
	f.exposure.counts = nil
	f.exposure.mu.Unlock()
	if len(counts) == 0 {
		return nil
	}
	now := sqldb.Micros(f.o.Now())
	err := f.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for e, n := range counts {
			if _, err := tx.Exec(ctx, `INSERT INTO flag_exposure (environment, flag, variant, release, day, evaluations, last_at) VALUES (?, ?, ?, ?, ?, ?, ?)
				ON CONFLICT (environment, flag, day, variant, release) DO UPDATE SET evaluations = flag_exposure.evaluations + excluded.evaluations, last_at = excluded.last_at`,
				e.environment, e.flag, e.variant, e.release, e.day, n, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		f.exposure.mu.Lock()
		defer f.exposure.mu.Unlock()
		if f.exposure.counts == nil {
			f.exposure.counts = map[exposed]int64{}
		}
		for e, n := range counts {
			f.exposure.counts[e] += n
		}
	}
	return err
}

// Exposure is how often a variant of a flag was given out in an environment on
// a day.
type Exposure struct {
	Environment string    `json:"environment"`
	Flag        string    `json:"flag"`
	Variant     string    `json:"variant"`
	Release     string    `json:"release,omitempty" doc:"The release whose flags the environment had"`
	Day         string    `json:"day" doc:"Such as 2026-12-01, in UTC"`
	Evaluations int64     `json:"evaluations"`
	LastAt      time.Time `json:"lastAt"`
}

const selectExposures = "SELECT environment, flag, variant, release, day, evaluations, last_at FROM flag_exposure"

func scanExposure(rows *sql.Rows) (e Exposure, err error) {
	var day, last int64
	err = rows.Scan(&e.Environment, &e.Flag, &e.Variant, &e.Release, &day, &e.Evaluations, &last)
	e.Day, e.LastAt = time.Unix(day*86400, 0).UTC().Format(time.DateOnly), sqldb.Time(last)
	return e, err
}

// Exposures tells how often variants of a flag were given out in the last days.
func (f *Flags) Exposures(ctx context.Context, key string, days int) ([]Exposure, error) {
	if err := f.flush(ctx); err != nil {
		return nil, err
	}
	return sqldb.Rows(ctx, f.o.DB, scanExposure, selectExposures+" WHERE flag = ? AND day > ? ORDER BY day, environment, variant, release", key, dayOf(f.o.Now())-int64(days))
}

// variantsSeen are the variants of a flag that were given out in an
// environment: with the flags of a release alone, if one is named.
func (f *Flags) variantsSeen(ctx context.Context, environment, key, release string) (map[string]int64, error) {
	rows, err := sqldb.Rows(ctx, f.o.DB, scanExposure, selectExposures+" WHERE flag = ? AND environment = ? AND (? = '' OR release = ?)", key, environment, release, release)
	seen := map[string]int64{}
	for _, e := range rows {
		seen[e.Variant] += e.Evaluations
	}
	return seen, err
}

// unseen are the variants of a flag that were never given out, in order.
func unseen(one flag.Flag, seen map[string]int64) (missing []string) {
	for _, name := range slices.Sorted(maps.Keys(one.Variants)) {
		if seen[name] == 0 {
			missing = append(missing, name)
		}
	}
	return missing
}

// Exercise is what became of a release's flags in an environment.
type Exercise struct {
	Flag    string           `json:"flag"`
	Given   map[string]int64 `json:"given" doc:"Evaluations by variant"`
	Missing []string         `json:"missing,omitempty" doc:"Variants that nobody got"`
}

// Exercised tells for each flag of a release which of its variants were given
// out in an environment while that had the release's flags.
func (f *Flags) Exercised(ctx context.Context, environment, release string, flags map[string]flag.Flag) ([]Exercise, error) {
	if err := f.flush(ctx); err != nil {
		return nil, err
	}
	var all []Exercise
	for _, key := range slices.Sorted(maps.Keys(flags)) {
		seen, err := f.variantsSeen(ctx, environment, key, release)
		if err != nil {
			return nil, err
		}
		all = append(all, Exercise{Flag: key, Given: seen, Missing: unseen(flags[key], seen)})
	}
	return all, nil
}

// recent sums up what was given out since a day, by environment and flag.
func (f *Flags) recent(ctx context.Context, since int64) (map[[2]string]map[string]int64, error) {
	rows, err := sqldb.Rows(ctx, f.o.DB, scanExposure, selectExposures+" WHERE day > ?", since)
	by := map[[2]string]map[string]int64{}
	for _, e := range rows {
		at := [2]string{e.Environment, e.Flag}
		if by[at] == nil {
			by[at] = map[string]int64{}
		}
		by[at][e.Variant] += e.Evaluations
	}
	return by, err
}

// sum of evaluations.
func sum(by map[string]int64) (n int64) {
	for _, one := range by {
		n += one
	}
	return n
}

// most is the variant that was given out most often, and its share.
func most(by map[string]int64) (variant string, share float64) {
	var n int64
	for _, name := range slices.SortedFunc(maps.Keys(by), cmp.Compare[string]) {
		if by[name] > n {
			variant, n = name, by[name]
		}
	}
	if total := sum(by); total > 0 {
		share = float64(n) / float64(total)
	}
	return variant, share
}
