package stamp

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/configuration"
	"github.com/slipway/slipway/internal/stamp/job"
	"github.com/slipway/slipway/internal/stamp/query"
	"github.com/slipway/slipway/internal/stamp/transfer"
)

// runQuery answers a page of a statement over devices or modules.
func (s *Stamp) runQuery(ctx context.Context, req link.RunQuery) (rows link.Rows, err error) {
	statement, err := query.ParseStatement(req.Query)
	if err != nil {
		return rows, problem.Of(err).At("query")
	}
	if statement.From == query.FromJobs {
		return rows, problem.New(problem.Invalid, "devices.jobs is read through the hub's own API").At("query")
	}
	limit := req.Limit
	if limit <= 0 || limit > link.MaxPage {
		limit = 100
	}
	result, err := s.hub.Devices.Run(ctx, statement, req.After, limit, s.hub.Live)
	if err != nil {
		return rows, err
	}
	for _, row := range result.Rows {
		text, err := json.Marshal(row)
		if err != nil {
			return rows, err
		}
		rows.Items = append(rows.Items, text)
	}
	rows.Next = result.Next
	return rows, nil
}

const maxJobs = 200

func (s *Stamp) listJobs(ctx context.Context, _ link.None) (link.Jobs, error) {
	all, err := s.jobs.List(ctx, job.Filter{Limit: maxJobs})
	var list link.Jobs
	for _, j := range all {
		list.Items = append(list.Items, s.shownJob(j))
	}
	transfers, failed := s.transfers.List(ctx)
	for _, t := range transfers {
		list.Items = append(list.Items, s.shownTransfer(t))
	}
	slices.SortFunc(list.Items, func(a, b link.Job) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return list, errors.Join(err, failed)
}

// cancelJob ends a job over devices, or an import or export of the registry.
func (s *Stamp) cancelJob(ctx context.Context, ref link.JobRef) (link.Job, error) {
	j, err := s.jobs.Cancel(ctx, ref.ID)
	if problem.Is(err, problem.NotFound) {
		t, err := s.transfers.Cancel(ctx, ref.ID)
		return s.shownTransfer(t), err
	}
	return s.shownJob(j), err
}

// shownTransfer is an import or export in the words of jobs; its lines are
// counted as they are read or written, so none are ever pending.
func (s *Stamp) shownTransfer(t transfer.Transfer) link.Job {
	return link.Job{
		ID: t.ID, Stamp: s.name, Type: string(t.Type), Status: string(t.Status), By: t.Actor, CreatedAt: t.CreatedAt, StartAt: t.CreatedAt,
		EndAt: t.EndAt, Failure: t.Failure, Total: t.Lines, Succeeded: t.Lines - t.Refused, Failed: t.Refused,
	}
}

func (s *Stamp) shownJob(j job.Job) link.Job {
	return link.Job{
		ID: j.ID, Stamp: s.name, Type: string(j.Type), Status: string(j.Status), Condition: j.Condition, By: j.Actor, CreatedAt: j.CreatedAt, StartAt: j.StartAt,
		EndAt: j.EndAt, Failure: j.Failure, Total: j.Counts.Total, Pending: j.Counts.Pending, Running: j.Counts.Running, Succeeded: j.Counts.Succeeded, Failed: j.Counts.Failed,
	}
}

func (s *Stamp) listConfigurations(ctx context.Context, _ link.None) (list link.Configurations, err error) {
	all, err := s.configurations.List(ctx, configuration.Max)
	if err != nil {
		return list, err
	}
	for _, c := range all {
		counts, err := s.configurations.Count(ctx, c.ID)
		if err != nil {
			return list, err
		}
		shown := link.Configuration{
			ID: c.ID, Stamp: s.name, Target: c.TargetCondition, Priority: c.Priority, Labels: c.Labels, CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt,
			Targeted: counts.Targeted, Applied: counts.Applied, Metrics: map[string]int64{},
		}
		for name, text := range c.Metrics.Queries {
			statement, err := configuration.ParseMetric(text)
			if err != nil {
				return list, err
			}
			if shown.Metrics[name], err = s.hub.Devices.CountRows(ctx, statement); err != nil {
				return list, err
			}
		}
		list.Items = append(list.Items, shown)
	}
	return list, nil
}
