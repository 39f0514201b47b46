package resource

import (
	"fmt"

	"github.com/slipway/slipway/internal/problem"
)

// The most of each that an environment declares.
const (
	maxGates   = 30
	maxFreezes = 50
)

// PromotionSpec is how releases enter an environment.
type PromotionSpec struct {
	Gates  []Gate   `json:"gates,omitempty" maxItems:"30" doc:"What must be true before a release enters"`
	Freeze []Freeze `json:"freeze,omitempty" maxItems:"50" doc:"When releases may enter, and when not"`
}

// Check holds it against the rules that need nothing else.
func (s PromotionSpec) Check() error {
	if len(s.Gates) > maxGates || len(s.Freeze) > maxFreezes {
		return problem.New(problem.Invalid, "an environment has at most %d gates and %d freezes, not %d and %d", maxGates, maxFreezes, len(s.Gates), len(s.Freeze)).At("spec.promotion")
	}
	if err := each("spec.promotion.gates", s.Gates, func(g Gate) string { return g.Name }, Gate.Check); err != nil {
		return err
	}
	return each("spec.promotion.freeze", s.Freeze, func(f Freeze) string { return f.Name }, Freeze.Check)
}

// each checks every member of a list, and that no two have one name.
func each[T any](at string, all []T, nameOf func(T) string, check func(T) error) error {
	seen := map[string]bool{}
	for i, one := range all {
		field, self := fmt.Sprintf("%s[%d]", at, i), nameOf(one)
		if !name.MatchString(self) {
			return problem.New(problem.Invalid, "a name has 1 to 63 of a-z, 0-9 and '-', not at its ends, which %q does not", self).At(field + ".name")
		}
		if seen[self] {
			return problem.New(problem.Invalid, "%s is declared twice", self).At(field + ".name")
		}
		seen[self] = true
		if err := check(one); err != nil {
			p := problem.Of(err)
			return problem.New(problem.Invalid, "%s: %s", self, p.Message).At(field + "." + p.Field)
		}
	}
	return nil
}
