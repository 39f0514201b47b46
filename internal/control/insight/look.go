package insight

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// Insight reads what promotions and rollouts have recorded.
type Insight struct {
	Environments  func(ctx context.Context) ([]resource.Environment, error)
	Promotions    func(ctx context.Context, environment string, before time.Time, limit int) ([]promotion.Promotion, error)
	Rollouts      func(ctx context.Context, environment string, limit int) ([]rollout.Rollout, error)
	Verifications func(ctx context.Context, release string) ([]promotion.Verification, error)
	Release       func(ctx context.Context, name string) (link.Release, error)
	Now           func() time.Time
}

// Limits of what is read: promotions and rollouts of one environment.
const (
	pageSize = 500
	maxRead  = 5000
)

// Look measures the last days of one environment, or of all where none is named.
func (in *Insight) Look(ctx context.Context, environment string, days int) ([]Figures, error) {
	environments, err := in.Environments(ctx)
	if err != nil {
		return nil, err
	}
	to := in.Now()
	from := to.AddDate(0, 0, -days)
	all, found := []Figures{}, environment == ""
	for _, e := range environments {
		name := e.Metadata.Name
		if environment != "" && environment != name {
			continue
		}
		found = true
		records, err := in.records(ctx, name, from)
		if err != nil {
			return nil, err
		}
		changes := Changes(records)
		all = append(all, Measure(name, "", changes, from, to))
		for _, place := range Places(changes) {
			if place[1] != "" {
				all = append(all, Measure(name, place[1], changes, from, to))
			}
		}
	}
	if !found {
		return nil, problem.New(problem.NotFound, "there is no environment %q", environment)
	}
	return all, nil
}

// records reads what an environment's promotions came to since a time, and what
// went before, which tells what was replaced.
func (in *Insight) records(ctx context.Context, environment string, since time.Time) (r Records, err error) {
	r = Records{Environment: environment, Made: map[string]time.Time{}}
	for before := (time.Time{}); len(r.Promotions) < maxRead; {
		page, err := in.Promotions(ctx, environment, before, pageSize)
		if err != nil {
			return r, err
		}
		r.Promotions = append(r.Promotions, page...)
		if len(page) < pageSize || page[len(page)-1].CreatedAt.Before(since.AddDate(0, 0, -90)) {
			break
		}
		before = page[len(page)-1].CreatedAt
	}
	if r.Rollouts, err = in.Rollouts(ctx, environment, link.MaxPage); err != nil {
		return r, err
	}
	for _, p := range r.Promotions {
		if _, known := r.Made[p.Release]; known || p.EndedAt == nil || p.EndedAt.Before(since) {
			continue
		}
		release, err := in.Release(ctx, p.Release)
		if err != nil && !problem.Is(err, problem.NotFound) {
			return r, err
		}
		r.Made[p.Release] = release.CreatedAt
		verdicts, err := in.Verifications(ctx, p.Release)
		if err != nil {
			return r, err
		}
		for _, v := range verdicts {
			if v.Environment == environment && !v.Passed {
				r.Bad = append(r.Bad, v)
			}
		}
	}
	return r, nil
}
