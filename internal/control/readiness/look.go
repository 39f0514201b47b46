package readiness

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/tasks"
)

// Options are what readiness is built from.
type Options struct {
	DB    *sqldb.DB
	Audit *audit.Log
	// Environments are all there are, in order of promotion.
	Environments func(ctx context.Context) ([]resource.Environment, error)
	// Gather looks up what is so in an environment. What it cannot find out it
	// leaves away, and says why.
	Gather func(ctx context.Context, environment string) (Facts, error)
	// Sign signs a report as the installation signs evidence.
	Sign   func(text []byte) (signature, key string)
	Logger *slog.Logger
	Now    func() time.Time
}

// Readiness tells how ready environments are.
type Readiness struct {
	Options
	one sync.Mutex // facts are gathered by one at a time

	mu    sync.Mutex
	facts map[string]Facts // as last gathered, by environment
}

// New returns the readiness kept in a database. Nothing is looked at before Run
// or a question.
func New(o Options) *Readiness { return &Readiness{Options: o, facts: map[string]Facts{}} }

// lookEvery is how often every environment is looked at.
const lookEvery = time.Minute

// Run looks at every environment again and again until ctx ends.
func (r *Readiness) Run(ctx context.Context) error {
	return tasks.Every(ctx, lookEvery, func() {
		if err := r.Look(ctx); err != nil && ctx.Err() == nil {
			r.Logger.Warn("readiness was not looked at; trying again", "error", err)
		}
	})
}

// Look looks at every environment once, and keeps how ready it is.
func (r *Readiness) Look(ctx context.Context) error {
	all, err := r.All(ctx)
	if err == nil {
		r.forget(all)
	}
	for _, v := range all {
		if err == nil {
			err = r.keep(ctx, v)
		}
	}
	return err
}

// forget lets go of the facts of environments that are no more.
func (r *Readiness) forget(there []Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.facts, func(name string, _ Facts) bool {
		return !slices.ContainsFunc(there, func(v Verdict) bool { return v.Environment == name })
	})
}

// All are the verdicts on all environments as they are now, in order of
// promotion.
func (r *Readiness) All(ctx context.Context) ([]Verdict, error) {
	environments, err := r.Environments(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]Verdict, 0, len(environments))
	for _, e := range environments {
		v, err := r.Environment(ctx, e.Metadata.Name)
		if problem.Is(err, problem.NotFound) {
			continue // it was deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// Environment is the verdict on an environment as it is now.
func (r *Readiness) Environment(ctx context.Context, name string) (Verdict, error) {
	facts, err := r.gather(ctx, name)
	if err != nil {
		return Verdict{}, err
	}
	return r.judge(ctx, facts)
}

func (r *Readiness) gather(ctx context.Context, name string) (Facts, error) {
	if err := mustExist(ctx, r.DB, name); err != nil {
		return Facts{}, err
	}
	r.one.Lock()
	defer r.one.Unlock()
	facts, err := r.Gather(ctx, name)
	if err != nil {
		return facts, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.facts[name] = facts
	return facts, nil
}

// Recent is the verdict on an environment by facts that are not older than
// most, which are gathered anew where there are none.
func (r *Readiness) Recent(ctx context.Context, name string, most time.Duration) (Verdict, error) {
	r.mu.Lock()
	facts, known := r.facts[name]
	r.mu.Unlock()
	if known && r.Now().Sub(facts.At) <= most {
		return r.judge(ctx, facts)
	}
	return r.Environment(ctx, name)
}

// Known are the verdicts by the facts that were gathered last, as old as they may
// be; environments that were never looked at are not among them.
func (r *Readiness) Known(ctx context.Context) (all []Verdict, err error) {
	r.mu.Lock()
	facts := slices.Collect(maps.Values(r.facts))
	r.mu.Unlock()
	for _, f := range facts {
		v, err := r.judge(ctx, f)
		if err != nil {
			return all, err
		}
		all = append(all, v)
	}
	return all, nil
}

// judge holds facts against every check. What is said of the calendar and of
// frameworks follows from the other checks, and so comes last.
func (r *Readiness) judge(ctx context.Context, facts Facts) (Verdict, error) {
	answers, err := r.Answers(ctx, facts.Environment)
	if err != nil {
		return Verdict{}, err
	}
	owners, err := r.Owners(ctx)
	if err != nil {
		return Verdict{}, err
	}
	now := r.Now()
	return Concluded(now, facts, answers, owners), nil
}

// Concluded is the verdict by facts, answers and owners.
func Concluded(now time.Time, facts Facts, answers []Answer, owners map[Topic]string) Verdict {
	first := Evaluate(now, facts, answers, owners)
	plan := planOf(now, Dates(now, facts, first), owners[Operations])
	covered := coveredBy(now, first)
	facts.Plan, facts.Compliance = &plan, &covered
	return Judge(facts, Evaluate(now, facts, answers, owners), owners)
}
