package gate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// flags wants each feature flag of a release to have been exercised with every
// variant while an environment had the release's flags.
func (g *Gates) flags(ctx context.Context, gate resource.FlagsGate, s Subject) Result {
	environment, least := cmp.Or(gate.Environment, s.Upstream), int64(max(gate.MinSamples, 1))
	r := Result{Threshold: fmt.Sprintf("every variant given out >= %d times in %s", least, cmp.Or(environment, "the environment before"))}
	if environment == "" {
		r.Verdict, r.Reason = Fail, fmt.Sprintf("%s promotes from no environment in which flags could have been exercised", s.Environment)
		return r
	}
	document, err := resource.FlagsOf(s.Release.Spec)
	if err != nil {
		return failed(err)
	}
	for _, key := range gate.Except {
		delete(document.Flags, key)
	}
	if len(document.Flags) == 0 {
		return withoutFlags(r, gate, s)
	}
	all, err := g.Exercised(ctx, environment, s.Release.Name, document.Flags)
	if err != nil {
		return failed(err)
	}
	r.Samples, r.Evidence = int64(len(all)), evidenceOf(all)
	var lacking []string
	for _, one := range all {
		missing := slices.Clone(one.Missing)
		for variant, n := range one.Given {
			if _, known := document.Flags[one.Flag].Variants[variant]; known && n > 0 && n < least {
				missing = append(missing, variant)
			}
		}
		if slices.Sort(missing); len(missing) > 0 {
			lacking = append(lacking, one.Flag+" with "+strings.Join(missing, " and "))
		}
	}
	if len(lacking) > 0 {
		r.Verdict, r.Reason = Pending, fmt.Sprintf("not exercised in %s: %s", environment, strings.Join(lacking, "; "))
		return r
	}
	r.Verdict, r.Reason = Pass, fmt.Sprintf("%d flags were exercised in %s with every variant", len(all), environment)
	return r
}

// withoutFlags is the verdict on a release that has no flag to exercise.
func withoutFlags(r Result, gate resource.FlagsGate, s Subject) Result {
	r.Samples = 1 // the release was read
	if gate.Required && cmp.Or(s.Release.Spec.Type, link.ReleaseFeature) != link.ReleaseSecurity {
		r.Verdict, r.Reason = Fail, "the release brings no feature flag, and each feature is to have one"
		return r
	}
	r.Verdict, r.Reason = Pass, "the release has no flag that is to be exercised"
	return r
}
