package resource

import (
	"strings"

	"github.com/slipway/slipway/internal/problem"
)

// Growth has control add stamps, made from a template, when room gets scarce
// on those that are like it: of the same region and for the same tenants.
type Growth struct {
	Free  float64       `json:"free,omitempty" doc:"Add one when a smaller share of the places is free, 0 to 1; default 0.2"`
	Days  float64       `json:"days,omitempty" doc:"And when they last for fewer days at the growth of the last week; 0 is never"`
	Most  int           `json:"most" doc:"How many stamps there may be of this kind, those made by hand among them"`
	Stamp StampTemplate `json:"stamp"`
}

// StampTemplate is what stamps of a kind have in common.
type StampTemplate struct {
	Region   string   `json:"region"`
	Capacity int      `json:"capacity,omitempty" doc:"Devices at most; default 10000"`
	Weight   int      `json:"weight,omitempty" doc:"Share of weighted allocation; default 1"`
	Tenants  []string `json:"tenants,omitempty" doc:"The only tenants whose devices they take; none means all"`
	Local    bool     `json:"local,omitempty" doc:"Control starts them on its own machine; others are declared, and join"`
}

// Spec is a stamp of an environment made from the template.
func (t StampTemplate) Spec(environment string) StampSpec {
	return StampSpec{Environment: environment, Region: t.Region, Capacity: t.Capacity, Weight: t.Weight, Tenants: t.Tenants, Local: t.Local}
}

// Check holds a rule of growth of an environment against the rules.
func (g Growth) Check(environment, at string) error {
	switch {
	case g.Free < 0 || g.Free >= 1:
		return problem.New(problem.Invalid, "the free share is 0 or more and less than 1, not %g", g.Free).At(at + ".free")
	case g.Days < 0:
		return problem.New(problem.Invalid, "the days must not be negative").At(at + ".days")
	case g.Most < 1 || g.Most > MaxGrown:
		return problem.New(problem.Invalid, "there may be 1 to %d stamps of a kind, not %d", MaxGrown, g.Most).At(at + ".most")
	}
	_, err := g.Stamp.Spec(environment).Check()
	if p := problem.Of(err); err != nil {
		return p.At(at + ".stamp" + strings.TrimPrefix(p.Field, "spec"))
	}
	return nil
}

// MaxGrown is how many stamps of a kind a rule may make at most.
const MaxGrown = 1000
