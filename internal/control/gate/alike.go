package gate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/drift"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// errNobodyLooks says that this process does not look for drift.
var errNobodyLooks = problem.New(problem.NotReady, "nobody looks for drift here")

const (
	defaultParity = 0.95
	lookedWithin  = 5 * time.Minute
)

// parity wants the environment that a release enters to be like the one in
// which it was tried.
func (g *Gates) parity(ctx context.Context, now time.Time, gate resource.ParityGate, s Subject) Result {
	from, least := cmp.Or(gate.From, s.Upstream), cmp.Or(gate.AtLeast, defaultParity)
	r := Result{Threshold: fmt.Sprintf(">= %g", least)}
	if from == "" {
		r.Verdict, r.Reason = Fail, fmt.Sprintf("%s promotes from no environment that it could be like; name one", s.Environment)
		return r
	}
	if g.Parity == nil {
		return failed(errNobodyLooks)
	}
	report, err := g.Parity(ctx, from, s.Environment)
	if err != nil {
		return failed(err)
	}
	return parityOf(r, report, least, now, gate.MaxAge.Duration(lookedWithin))
}

func parityOf(r Result, report drift.Report, least float64, now time.Time, within time.Duration) Result {
	r.Samples, r.Value, r.Evidence = int64(report.Compared()), &report.Score, evidenceOf(report)
	open := report.Unexplained()
	switch {
	case now.Sub(report.At) > within:
		r.Verdict, r.Reason = Inconclusive, fmt.Sprintf("%s and %s were last looked at %s", report.From, report.To, report.At.UTC().Format(time.RFC3339))
	case report.Score >= least:
		r.Verdict, r.Reason = Pass, fmt.Sprintf("%s is like %s by %.3f, over %d places", report.From, report.To, report.Score, report.Compared())
	default:
		r.Verdict = Pending
		r.Reason = fmt.Sprintf("%s is like %s by %.3f: %s", report.From, report.To, report.Score, firstOf(open))
	}
	return r
}

// firstOf tells of the first differences.
func firstOf(items []drift.Item) string {
	const most = 3
	var said []string
	for _, item := range items[:min(most, len(items))] {
		said = append(said, item.Text)
	}
	if len(items) > most {
		said = append(said, fmt.Sprintf("and %d more", len(items)-most))
	}
	return strings.Join(said, "; ")
}

// drift wants nothing in an environment to be other than declared.
func (g *Gates) drift(now time.Time, gate resource.DriftGate, s Subject) Result {
	environment := cmp.Or(gate.Environment, s.Environment)
	classes := gate.Classes
	if len(classes) == 0 {
		classes = []string{string(drift.Changed), string(drift.Missing), string(drift.Stale)}
	}
	r := Result{Threshold: "none " + strings.Join(classes, ", ")}
	if g.Drift == nil {
		return failed(errNobodyLooks)
	}
	page := g.Drift(environment)
	if page.At.IsZero() || now.Sub(page.At) > gate.MaxAge.Duration(lookedWithin) {
		r.Verdict, r.Reason = Inconclusive, environment+" was not looked at lately"
		return r
	}
	var open []drift.Finding
	for _, f := range page.Findings {
		if slices.Contains(classes, string(f.Class)) {
			open = append(open, f)
		}
	}
	n := float64(len(open))
	r.Samples, r.Value, r.Evidence = int64(max(1, len(page.Findings))), &n, evidenceOf(open)
	if len(open) == 0 {
		r.Verdict, r.Reason = Pass, fmt.Sprintf("%s is as declared, as of %s", environment, page.At.UTC().Format(time.RFC3339))
		return r
	}
	r.Verdict, r.Reason = Pending, fmt.Sprintf("%d differences in %s: %s", len(open), environment, open[0].Text)
	return r
}

// ParityEvidence is how alike environments are, as it is kept with a
// verification that was made in one of them.
func ParityEvidence(report drift.Report, now time.Time) Result {
	r := parityOf(Result{Gate: "parity", Kind: resource.GateParity, At: now, Evaluator: evaluator}, report, 0, now, lookedWithin)
	return settled(r)
}
