package retention

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/care"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// RetentionOverview is how long everything is kept, and how each plane stands.
type RetentionOverview struct {
	Settings
	Version int64           `json:"version" doc:"Grows with settings and holds; a plane that has less has not heard yet"`
	Kinds   []care.Kind     `json:"kinds"`
	Planes  []PlaneCleaning `json:"planes"`
	Holds   []LegalHold     `json:"holds" doc:"Those in force"`
}

// PlaneCleaning is how a plane stands with its clean-ups.
type PlaneCleaning struct {
	Plane   string        `json:"plane"`
	Version int64         `json:"version" doc:"Of the settings it knows"`
	Last    *link.CareRun `json:"last,omitempty"`
	Next    *time.Time    `json:"next,omitempty"`
	Away    string        `json:"away,omitempty" doc:"Why it did not answer"`
}

// Overview asks every plane how it stands.
func (r *Retention) Overview(ctx context.Context) (o RetentionOverview, err error) {
	plan, err := r.plan(ctx)
	if err != nil {
		return o, err
	}
	if o.Settings, err = r.Settings(ctx); err != nil {
		return o, err
	}
	o.Version, o.Kinds = plan.Version, care.Kinds(o.Days)
	if o.Holds, err = r.Holds(ctx, false); err != nil {
		return o, err
	}
	peers, err := r.peers(ctx)
	o.Planes = make([]PlaneCleaning, len(peers))
	each(ctx, peers, askTime, func(ctx context.Context, i int, peer string) {
		one := PlaneCleaning{Plane: peer}
		runs, err := r.Planes.Runs(ctx, peer, 0)
		if err != nil {
			one.Away = problem.Of(err).Error()
		}
		one.Version, one.Last, one.Next = runs.Version, runs.Last, runs.Next
		o.Planes[i] = one
	})
	return o, err
}

// Trial is what would go from a plane now.
type Trial struct {
	Plane string           `json:"plane"`
	Items []link.CareFound `json:"items"`
	Away  string           `json:"away,omitempty" doc:"Why it did not answer"`
}

// DryRun counts what would go now, were some kinds kept for other numbers of
// days than is declared. Nothing goes.
func (r *Retention) DryRun(ctx context.Context, only []string, days map[string]int) ([]Trial, error) {
	if err := care.CheckDays(days); err != nil {
		return nil, err
	}
	peers, err := r.chosen(ctx, only)
	if err != nil {
		return nil, err
	}
	all := make([]Trial, len(peers))
	each(ctx, peers, lookTime, func(ctx context.Context, i int, peer string) {
		looks, err := r.Planes.Look(ctx, peer, link.LookCare{Days: days})
		all[i] = Trial{Plane: peer, Items: looks.Items}
		if err != nil {
			all[i].Away = problem.Of(err).Error()
		}
		if all[i].Items == nil {
			all[i].Items = []link.CareFound{}
		}
	})
	return all, nil
}
