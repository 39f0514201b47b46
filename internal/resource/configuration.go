package resource

import (
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/problem"
)

// ConfigurationPolicy is how configurations come into force in an environment.
type ConfigurationPolicy struct {
	Gates []Gate `json:"gates,omitempty" maxItems:"30" doc:"What must be true before one does: approvals, soak, devices, promql, slo, webhook, parity, drift"`
}

// releaseGates are about what a release brings, and a configuration does not.
var releaseGates = []string{GateTests, GateSBOM, GateFlags, GateRehearsal}

func (p *ConfigurationPolicy) check() error {
	if p == nil {
		return nil
	}
	if len(p.Gates) > maxGates {
		return problem.New(problem.Invalid, "an environment has at most %d gates for configurations, not %d", maxGates, len(p.Gates)).At("spec.configuration.gates")
	}
	return each("spec.configuration.gates", p.Gates, func(g Gate) string { return g.Name }, func(g Gate) error {
		if err := g.Check(); err != nil {
			return err
		}
		if slices.Contains(releaseGates, g.Kind()) {
			return problem.New(problem.Invalid, "%s are about releases; a configuration has none", strings.Join(releaseGates, ", ")).At(g.Kind())
		}
		return nil
	})
}
