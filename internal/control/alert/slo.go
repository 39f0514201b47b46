package alert

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/promql"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/monitor"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// declaredSLOs are those that people have declared, and those that are there
// anyway.
func (a *Alerts) declaredSLOs(ctx context.Context) ([]resource.SLO, error) {
	all, err := listed[resource.SLOSpec, resource.SLOStatus](ctx, a.DB, resource.KindSLO)
	return withDefaults(all), err
}

// SLOs are all there are, and how they stand.
func (a *Alerts) SLOs(ctx context.Context) ([]resource.SLO, error) {
	all, err := a.declaredSLOs(ctx)
	for i := range all {
		if err == nil {
			all[i], err = a.stands(ctx, all[i])
		}
	}
	return all, err
}

// SLO is one of them.
func (a *Alerts) SLO(ctx context.Context, name string) (resource.SLO, error) {
	all, err := a.declaredSLOs(ctx)
	if err != nil {
		return resource.SLO{}, err
	}
	for _, s := range all {
		if s.Metadata.Name == name {
			return a.stands(ctx, s)
		}
	}
	return resource.SLO{}, problem.New(problem.NotFound, "there is no SLO %s", name)
}

// PutSLO creates or replaces an SLO.
func (a *Alerts) PutSLO(ctx context.Context, actor access.Actor, name string, spec resource.SLOSpec, ifMatch string, dryRun bool) (resource.SLO, error) {
	if err := spec.Check(); err != nil {
		return resource.SLO{}, err
	}
	good, total := spec.Queries(time.Hour)
	for field, query := range map[string]string{"spec.good": good, "spec.total": total} {
		if err := monitor.CheckQuery(query); err != nil {
			return resource.SLO{}, problem.Of(err).At(field)
		}
	}
	return put[resource.SLOSpec, resource.SLOStatus](ctx, a, actor, declaration[resource.SLOSpec]{kind: resource.KindSLO, name: name, ifMatch: ifMatch, spec: spec, shown: spec, dryRun: dryRun})
}

// stands looks up how an SLO stands, from what its rules have recorded.
func (a *Alerts) stands(ctx context.Context, s resource.SLO) (resource.SLO, error) {
	s.Status = &resource.SLOStatus{Items: []resource.Standing{}}
	if !a.Monitor.Local() {
		return s, nil
	}
	found := map[string]*resource.Standing{}
	at := func(environment string) *resource.Standing {
		if found[environment] == nil {
			found[environment] = &resource.Standing{Environment: environment}
		}
		return found[environment]
	}
	allowed := 1 - s.Spec.Objective
	good, total := s.Spec.Queries(s.Spec.Over())
	for _, q := range []struct {
		expr string
		keep func(*resource.Standing, float64)
	}{
		{fmt.Sprintf("(%s) / ((%s) > 0)", good, total), func(t *resource.Standing, v float64) {
			share, left := min(v, 1), 1-max(0, 1-v)/allowed
			t.Share, t.Budget = &share, &left
		}},
		{fmt.Sprintf("%s{slo=%q}", errorsOf(time.Hour), s.Metadata.Name), func(t *resource.Standing, v float64) { v /= allowed; t.BurnShort = &v }},
		{fmt.Sprintf("%s{slo=%q}", errorsOf(6*time.Hour), s.Metadata.Name), func(t *resource.Standing, v float64) { v /= allowed; t.BurnLong = &v }},
	} {
		vector, err := a.Monitor.Vector(ctx, q.expr, a.Now())
		if err != nil {
			return s, err
		}
		for _, sample := range numbers(vector) {
			q.keep(at(sample.Metric.Get("environment")), sample.F)
		}
	}
	for _, t := range found {
		t.State = stateOf(*t)
		s.Status.Items = append(s.Status.Items, *t)
	}
	slices.SortFunc(s.Status.Items, func(a, b resource.Standing) int { return cmp.Compare(a.Environment, b.Environment) })
	return s, nil
}

func numbers(all promql.Vector) promql.Vector {
	return slices.DeleteFunc(all, func(s promql.Sample) bool { return math.IsNaN(s.F) || math.IsInf(s.F, 0) })
}

// stateOf is how an SLO stands, in a word.
func stateOf(t resource.Standing) string {
	switch {
	case t.Budget == nil:
		return "unknown"
	case *t.Budget < 0:
		return "missed"
	case t.BurnShort != nil && *t.BurnShort > 6 || t.BurnLong != nil && *t.BurnLong > 3:
		return "burning"
	}
	return "met"
}
