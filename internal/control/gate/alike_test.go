package gate_test

import (
	"context"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/drift"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

func TestAlikeAndAsDeclared(t *testing.T) {
	report := func(score float64, looked time.Time) drift.Report {
		return drift.Report{From: "staging", To: "live", Score: score, At: looked, Areas: []drift.Area{{Area: "stamps", Compared: 10}},
			Items: []drift.Item{{Path: "stamps[a].region", Standing: drift.Unexplained, Text: "they differ"}}}
	}
	page := func(looked time.Time, classes ...drift.Class) drift.Page {
		p := drift.Page{At: looked}
		for _, class := range classes {
			p.Findings = append(p.Findings, drift.Finding{Class: class, Text: "it differs"})
		}
		return p
	}
	parity := resource.Gate{Name: "alike", Parity: &resource.ParityGate{AtLeast: 0.9}}
	declared := resource.Gate{Name: "declared", Drift: &resource.DriftGate{}}
	strict := resource.Gate{Name: "strict", Drift: &resource.DriftGate{Classes: []string{"unmanaged"}}}
	for name, c := range map[string]struct {
		gate     resource.Gate
		upstream string
		report   drift.Report
		failure  error
		page     drift.Page
		want     gate.Verdict
	}{
		"alike":                      {parity, "staging", report(0.95, now), nil, drift.Page{}, gate.Pass},
		"not alike":                  {parity, "staging", report(0.85, now), nil, drift.Page{}, gate.Pending},
		"looked at long ago":         {parity, "staging", report(1, now.Add(-time.Hour)), nil, drift.Page{}, gate.Inconclusive},
		"nothing compared":           {parity, "staging", drift.Report{Score: 1, At: now}, nil, drift.Page{}, gate.Inconclusive},
		"nothing to be like":         {parity, "", report(1, now), nil, drift.Page{}, gate.Fail},
		"not to be found out":        {parity, "staging", drift.Report{}, problem.New(problem.NotReady, "not yet"), drift.Page{}, gate.Error},
		"as declared":                {declared, "", drift.Report{}, nil, page(now), gate.Pass},
		"with what is answered for":  {declared, "", drift.Report{}, nil, page(now, drift.Accepted, drift.Pending, drift.Unmanaged), gate.Pass},
		"changed":                    {declared, "", drift.Report{}, nil, page(now, drift.Changed), gate.Pending},
		"not seen":                   {declared, "", drift.Report{}, nil, page(now, drift.Stale), gate.Pending},
		"never looked":               {declared, "", drift.Report{}, nil, drift.Page{}, gate.Inconclusive},
		"not looked lately":          {declared, "", drift.Report{}, nil, page(now.Add(-time.Hour)), gate.Inconclusive},
		"what nothing declares":      {strict, "", drift.Report{}, nil, page(now, drift.Unmanaged), gate.Pending},
		"changed, which is not ours": {strict, "", drift.Report{}, nil, page(now, drift.Changed), gate.Pass},
	} {
		g := gate.New(gate.Options{Guard: outbound.Closed(),
			Parity: func(context.Context, string, string) (drift.Report, error) { return c.report, c.failure },
			Drift:  func(string) drift.Page { return c.page },
		})
		r := g.Evaluate(t.Context(), now, c.gate, gate.Subject{Environment: "live", Upstream: c.upstream, Release: link.Release{Name: "v1"}})
		if r.Verdict != c.want || r.Reason == "" {
			t.Errorf("%s: %s: %s", name, r.Verdict, r.Reason)
		}
	}
	if r := gate.New(gate.Options{Guard: outbound.Closed()}).Evaluate(t.Context(), now, declared, gate.Subject{Environment: "live"}); r.Verdict != gate.Error {
		t.Errorf("where nobody looks: %+v", r)
	}
	if r := gate.ParityEvidence(report(0.5, now), now); r.Verdict != gate.Pass || *r.Value != 0.5 || len(r.Evidence) == 0 {
		t.Errorf("evidence: %+v", r)
	}
}
