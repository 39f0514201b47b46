package monitor

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/slipway/slipway/internal/problem"
)

// maxExpression bounds the text of a query.
const maxExpression = 16 << 10

// maxPoints is how many values a series of an answer may have, as Prometheus
// has it too.
const maxPoints = 11_000

// Answer is what a query gave.
type Answer struct {
	Value    parser.Value
	Warnings []string
}

// Query answers a query about one moment.
func (m *Monitor) Query(ctx context.Context, expression string, at time.Time) (Answer, error) {
	return m.run(ctx, expression, func(ctx context.Context) (promql.Query, error) {
		return m.engine.NewInstantQuery(ctx, m.db, nil, expression, at)
	})
}

// QueryRange answers a query about even steps of a stretch of time.
func (m *Monitor) QueryRange(ctx context.Context, expression string, from, to time.Time, step time.Duration) (Answer, error) {
	switch {
	case step <= 0:
		return Answer{}, problem.New(problem.Invalid, "a step is longer than nothing, not %s", step).At("step")
	case to.Before(from):
		return Answer{}, problem.New(problem.Invalid, "the end is before the start").At("end")
	case to.Sub(from)/step > maxPoints:
		return Answer{}, problem.New(problem.Invalid, "the answer would have more than %d values a series; take longer steps or a shorter time", maxPoints).At("step")
	}
	return m.run(ctx, expression, func(ctx context.Context) (promql.Query, error) {
		return m.engine.NewRangeQuery(ctx, m.db, nil, expression, from, to, step)
	})
}

// run has a query worked on, when there is a place for it.
func (m *Monitor) run(ctx context.Context, expression string, prepare func(context.Context) (promql.Query, error)) (Answer, error) {
	if m.db == nil {
		return Answer{}, problem.New(problem.Conflict, "metrics are kept by the Prometheus at %s; ask there", m.Remote)
	}
	if len(expression) > maxExpression {
		return Answer{}, problem.New(problem.TooLarge, "a query has at most %d bytes, not %d", maxExpression, len(expression)).At("query")
	}
	select {
	case m.places <- struct{}{}:
		defer func() { <-m.places }()
	case <-ctx.Done():
		return Answer{}, problem.New(problem.Busy, "%d queries are under way, the most there may be; try again", maxQueries).After(time.Second)
	}
	q, err := prepare(ctx)
	if err != nil {
		return Answer{}, problem.New(problem.Invalid, "the query cannot be read: %s", err).At("query")
	}
	defer q.Close()
	result := q.Exec(ctx)
	if result.Err != nil {
		return Answer{}, asProblem(result.Err)
	}
	a := Answer{Value: copied(result.Value)}
	for _, w := range result.Warnings.AsErrors() {
		a.Warnings = append(a.Warnings, w.Error())
	}
	return a, nil
}

// copied is a value that outlives the query it is of.
func copied(v parser.Value) parser.Value {
	switch v := v.(type) {
	case promql.Vector:
		return append(promql.Vector{}, v...)
	case promql.Matrix:
		all := make(promql.Matrix, len(v))
		for i, s := range v {
			all[i] = promql.Series{Metric: s.Metric, Floats: append([]promql.FPoint{}, s.Floats...), Histograms: append([]promql.HPoint{}, s.Histograms...)}
		}
		return all
	}
	return v
}

func asProblem(err error) error {
	var (
		late    promql.ErrQueryTimeout
		gone    promql.ErrQueryCanceled
		tooMany promql.ErrTooManySamples
		storage promql.ErrStorage
	)
	switch {
	case errors.As(err, &late):
		return problem.New(problem.TimedOut, "the query took longer than %s; ask about less", queryTimeout)
	case errors.As(err, &gone):
		return problem.New(problem.TimedOut, "the query was given up")
	case errors.As(err, &tooMany):
		return problem.New(problem.TooLarge, "the query needs more than %d samples; aggregate it, or ask about less", maxSamples)
	case errors.As(err, &storage):
		return err
	}
	return problem.New(problem.Invalid, "%s", err).At("query")
}

// CheckQuery is nil where an expression is PromQL.
func CheckQuery(expression string) error {
	if strings.TrimSpace(expression) == "" {
		return problem.New(problem.Invalid, "an expression is needed")
	}
	if len(expression) > maxExpression {
		return problem.New(problem.TooLarge, "an expression has at most %d bytes, not %d", maxExpression, len(expression))
	}
	if _, err := parser.NewParser(parser.Options{}).ParseExpr(expression); err != nil {
		return problem.New(problem.Invalid, "the expression is no PromQL: %s", err)
	}
	return nil
}

// Vector answers a query that gives one value a series, or one at all: that is
// what rules ask.
func (m *Monitor) Vector(ctx context.Context, expression string, at time.Time) (promql.Vector, error) {
	a, err := m.Query(ctx, expression, at)
	if err != nil {
		return nil, err
	}
	switch v := a.Value.(type) {
	case promql.Vector:
		return v, nil
	case promql.Scalar:
		return promql.Vector{promql.Sample{T: v.T, F: v.V, Metric: labels.EmptyLabels()}}, nil
	}
	return nil, problem.New(problem.Invalid, "the expression gives a %s, and must give a value for each series", a.Value.Type())
}

// Storage is where metrics are kept; nil where a Prometheus elsewhere keeps them.
func (m *Monitor) Storage() *tsdb.DB { return m.db }

// matchers reads series selectors.
func (m *Monitor) matchers(selectors []string) (sets [][]*labels.Matcher, err error) {
	for _, s := range selectors {
		set, err := m.parser.ParseMetricSelector(s)
		if err != nil {
			return nil, problem.New(problem.Invalid, "%q selects no series: %s", s, err).At("match[]")
		}
		sets = append(sets, set)
	}
	return sets, nil
}

// querier looks at a stretch of time.
func (m *Monitor) querier(from, to time.Time) (storage.Querier, error) {
	return m.db.Querier(from.UnixMilli(), to.UnixMilli())
}
