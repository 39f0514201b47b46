package evidence

import (
	"context"
	"strings"

	"github.com/slipway/slipway/internal/control/drift"
	"github.com/slipway/slipway/internal/control/readiness"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// defaultParity is the least score where the environment's gates name none.
const defaultParity = 0.95

// parity finds how alike the environment and the one before it are.
func (s *scene) parity(ctx context.Context) error {
	if s.Drift == nil || len(s.upstream) == 0 {
		return nil
	}
	report, err := s.Drift.Parity(ctx, s.upstream[0], s.name)
	if err != nil {
		return err
	}
	s.facts.Parity = &readiness.Parity{With: report.From, Score: report.Score, Threshold: wantedParity(s.spec), Missing: lacking(report), At: report.At}
	return nil
}

// wantedParity is the score that the environment's own gates want.
func wantedParity(spec resource.EnvironmentSpec) float64 {
	if spec.Promotion != nil {
		for _, g := range spec.Promotion.Gates {
			if g.Parity != nil && g.Parity.AtLeast > 0 {
				return g.Parity.AtLeast
			}
		}
	}
	return defaultParity
}

// lacking names what the environment before has nothing of, and nobody says
// why.
func lacking(report drift.Report) (names []string) {
	seen := map[string]bool{}
	for _, item := range report.Unexplained() {
		name, _, whole := strings.Cut(item.Path, "]")
		if item.From != nil || !whole || item.Area != "routes" && item.Area != "configurations" || !strings.HasSuffix(item.Path, ".name") || seen[name] {
			continue
		}
		seen[name] = true
		names = append(names, strings.Replace(name, "[", " ", 1))
	}
	return names
}

// drift finds where the environment is not as it is declared.
func (s *scene) drift(context.Context) error {
	if s.Drift == nil {
		return nil
	}
	page := s.Drift.Findings(s.name)
	if page.At.IsZero() || page.Unseen {
		return problem.New(problem.NotReady, "nobody has looked lately")
	}
	found := &readiness.Drift{Compared: s.Drift.Compared(s.name), At: page.At}
	for _, f := range page.Findings {
		switch f.Class {
		case drift.Changed, drift.Missing, drift.Unmanaged:
			found.Unexplained = append(found.Unexplained, f.Object)
		case drift.Stale:
			found.Stale++
		}
	}
	s.facts.Drift = found
	return nil
}

// twins finds how many devices report something else than is desired, by the
// last look at all of them.
func (s *scene) twins(context.Context) error {
	if s.Drift == nil || s.facts.Devices == nil {
		return nil
	}
	var drifting int64
	whole := true
	for _, r := range s.Drift.Devices(s.name) {
		whole = whole && r.Whole
		drifting += r.Changed
	}
	if whole && !s.Drift.Findings(s.name).At.IsZero() {
		s.facts.Devices.Drifting = &drifting
	}
	return nil
}

// accepted are the dates at which differences alarm again.
func (s *scene) accepted(ctx context.Context) error {
	if s.Drift == nil {
		return nil
	}
	all, err := s.Drift.Acceptances(ctx)
	for _, a := range all {
		if a.Environment == s.name {
			s.facts.Dates = append(s.facts.Dates, readiness.Date{Kind: readiness.DateAcceptance, Name: a.Object, Environment: a.Environment, At: a.Until, What: "nobody answers for " + a.Object + " any more", Owner: a.Owner})
		}
	}
	return err
}
