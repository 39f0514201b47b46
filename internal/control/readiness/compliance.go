package readiness

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/slipway/slipway/internal/problem"
)

//go:embed compliance.yaml
var complianceText []byte

// Framework is a set of controls that somebody may ask for.
type Framework struct {
	ID       string    `yaml:"id" json:"id"`
	Name     string    `yaml:"name" json:"name"`
	Of       string    `yaml:"of" json:"of" doc:"Which part of it, or which edition"`
	Controls []Control `yaml:"controls" json:"controls"`
}

// Control is one thing that a framework asks for, in our words.
type Control struct {
	ID     string   `yaml:"id" json:"id"`
	Asks   string   `yaml:"asks" json:"asks"`
	Checks []string `yaml:"checks" json:"checks,omitempty"`
}

// Frameworks are those that are mapped to checks.
var Frameworks = sync.OnceValue(func() []Framework {
	var all struct{ Frameworks []Framework }
	decoder := yaml.NewDecoder(bytes.NewReader(complianceText))
	decoder.KnownFields(true)
	if err := decoder.Decode(&all); err != nil {
		panic(fmt.Sprintf("the mapping of frameworks cannot be read: %s", err)) // a test reads it
	}
	return all.Frameworks
})

// FrameworkNamed finds a framework.
func FrameworkNamed(id string) (Framework, error) {
	for _, f := range Frameworks() {
		if f.ID == id {
			return f, nil
		}
	}
	return Framework{}, problem.New(problem.NotFound, "there is no framework %q; `slipway readiness compliance` lists them", id)
}

// Standing is what becomes of a control.
type Standing string

// How a control may stand.
const (
	Met       Standing = "met"
	NotMet    Standing = "notMet"
	Uncovered Standing = "notCovered" // nothing that an installation can show answers it
	Unneeded  Standing = "notApplicable"
)

// Assessed is a control with the evidence of its checks.
type Assessed struct {
	ID       string   `json:"id"`
	Asks     string   `json:"asks"`
	Standing Standing `json:"standing" enum:"met,notMet,notCovered,notApplicable"`
	Results  []Result `json:"results,omitempty"`
}

// Assessment is how a framework stands in an environment.
type Assessment struct {
	Framework string           `json:"framework"`
	Name      string           `json:"name"`
	Of        string           `json:"of"`
	Counts    map[Standing]int `json:"counts"`
	Controls  []Assessed       `json:"controls"`
}

// Assess holds results against what a framework asks for. A control is met where
// every check that answers it passes.
func Assess(f Framework, results []Result) Assessment {
	a := Assessment{Framework: f.ID, Name: f.Name, Of: f.Of, Counts: map[Standing]int{}, Controls: []Assessed{}}
	for _, c := range f.Controls {
		one := Assessed{ID: c.ID, Asks: c.Asks, Standing: Uncovered}
		for _, r := range results {
			if slices.Contains(c.Checks, r.ID) {
				one.Results = append(one.Results, r)
			}
		}
		if len(one.Results) > 0 {
			one.Standing = standingOf(one.Results)
		}
		a.Counts[one.Standing]++
		a.Controls = append(a.Controls, one)
	}
	return a
}

func standingOf(results []Result) Standing {
	standing := Unneeded
	for _, r := range results {
		if !r.State.Passes() {
			return NotMet
		}
		if r.State != NotApplicable {
			standing = Met
		}
	}
	return standing
}

// coveredBy is how far frameworks rest on evidence that is fresh.
func coveredBy(now time.Time, results []Result) Covered {
	c, mapped := Covered{At: now, Frameworks: len(Frameworks())}, map[string]bool{}
	for _, f := range Frameworks() {
		for _, control := range f.Controls {
			if len(control.Checks) > 0 {
				c.Controls++
			}
			for _, id := range control.Checks {
				mapped[id] = true
				if i := slices.IndexFunc(results, func(r Result) bool { return r.ID == id }); i >= 0 && results[i].State == Stale {
					c.Aged = append(c.Aged, f.Name+" "+control.ID)
					break
				}
			}
		}
	}
	for _, check := range checks {
		if !mapped[check.ID] {
			c.Unmapped = append(c.Unmapped, check.ID)
		}
	}
	return c
}

// Assess tells how an environment stands with what a framework asks for.
func (r *Readiness) Assess(ctx context.Context, environment, framework string) (Assessment, error) {
	f, err := FrameworkNamed(framework)
	if err != nil {
		return Assessment{}, err
	}
	v, err := r.Environment(ctx, environment)
	return Assess(f, v.Results), err
}
