package resource

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// BlueprintSpec is what all environments made from it have in common. An
// environment names it, and states where it differs and why.
type BlueprintSpec struct {
	Description string              `json:"description,omitempty" maxLength:"2000" doc:"What it is for, for people"`
	Environment EnvironmentSpec     `json:"environment,omitempty" doc:"How releases enter, who may act, how stamps are added; names of environments are each environment's own"`
	Stamps      []BlueprintStamp    `json:"stamps,omitempty" maxItems:"100" doc:"The stamps of each environment; ENVIRONMENT-NAME is what they are called there"`
	Routes      []link.ReleaseRoute `json:"routes,omitempty" maxItems:"100" doc:"The routes of each environment; ENVIRONMENT-NAME is what they are called there"`
}

// Blueprint is a BlueprintSpec as the API serves it.
type Blueprint = Object[BlueprintSpec, BlueprintStatus]

// BlueprintStatus is what is so of a blueprint.
type BlueprintStatus struct {
	Environments []string `json:"environments" doc:"Those made from it"`
}

// BlueprintStamp is a stamp of each environment.
type BlueprintStamp struct {
	Name string `json:"name" maxLength:"63" doc:"Unique among the blueprint's stamps"`
	StampTemplate
	Ring *int  `json:"ring,omitempty" minimum:"0" maximum:"100" doc:"When releases come to it: 0 first, then 1, and so on; default 1"`
	Pace *Pace `json:"pace,omitempty" doc:"How often it takes releases"`
}

// Spec is the stamp as an environment has it.
func (s BlueprintStamp) Spec(environment string) StampSpec {
	spec := s.StampTemplate.Spec(environment)
	spec.Ring, spec.Pace = s.Ring, s.Pace
	return spec
}

// Difference is where an environment is not as its blueprint says.
type Difference struct {
	Path   string `json:"path" maxLength:"500" doc:"What differs, such as stamps[eu-1].capacity or environment.access; scale is the size of all stamps"`
	Value  any    `json:"value,omitempty" doc:"What it is here; a scale is a share such as 1%"`
	Remove bool   `json:"remove,omitempty" doc:"It is not here at all"`
	Reason string `json:"reason" maxLength:"500" doc:"Why"`
}

// The limits of blueprints and differences.
const (
	maxBlueprintStamps = 100
	maxDifferences     = 200
	maxReason          = 500
)

// PathScale is the path of the difference that makes all stamps smaller, or
// larger, by a share.
const PathScale = "scale"

// Check holds a blueprint against the rules that need nothing else.
func (s BlueprintSpec) Check() error {
	switch e := s.Environment; {
	case e.PromotesFrom != "" || e.DisplayName != "":
		return problem.New(problem.Invalid, "each environment has a name of its own, and says itself what it promotes from").At("spec.environment.promotesFrom")
	case e.Blueprint != "" || len(e.Differences) > 0:
		return problem.New(problem.Invalid, "a blueprint is not made from another one").At("spec.environment.blueprint")
	case len(s.Stamps) > maxBlueprintStamps || len(s.Routes) > MaxRoutes:
		return problem.New(problem.Invalid, "a blueprint has at most %d stamps and %d routes, not %d and %d", maxBlueprintStamps, MaxRoutes, len(s.Stamps), len(s.Routes)).At("spec.stamps")
	}
	const self = "environment"
	if err := s.Environment.Check(self); err != nil {
		p := problem.Of(err)
		return p.At(strings.Replace(p.Field, "spec.", "spec.environment.", 1))
	}
	if err := each("spec.stamps", s.Stamps, func(b BlueprintStamp) string { return b.Name }, func(b BlueprintStamp) error {
		_, err := b.Spec(self).Check()
		return below(err)
	}); err != nil {
		return err
	}
	return each("spec.routes", s.Routes, func(r link.ReleaseRoute) string { return r.Name }, func(r link.ReleaseRoute) error {
		if r.Spec.Environment != "" {
			return problem.New(problem.Invalid, "a blueprint's route is for each environment and names none").At("spec.environment")
		}
		if err := onlyReferences(r.Spec); err != nil {
			return err
		}
		r.Spec.Environment = self
		_, err := CheckRoute(r.Spec)
		return err
	})
}

// below is a fault with its field as the blueprint has it: a stamp's own spec
// is not below a spec there.
func below(err error) error {
	if err == nil {
		return nil
	}
	p := problem.Of(err)
	return p.At(strings.TrimPrefix(p.Field, "spec."))
}

// Reference begins what stands in a file for a secret that each environment
// keeps by itself, such as secret:archive-key.
const Reference = "secret:"

var secretName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// IsReference reports whether a text stands for a secret, and for which.
func IsReference(text string) (name string, is bool) {
	name, is = strings.CutPrefix(text, Reference)
	return name, is && secretName.MatchString(name)
}

// CheckSecretName holds the name of a secret against its rule.
func CheckSecretName(text string) error {
	if !secretName.MatchString(text) {
		return problem.New(problem.Invalid, "a secret's name has 1 to 63 of a-z, 0-9 and '-', not at its ends, which %q does not", text).At("name")
	}
	return nil
}

// Secrets calls fn for each secret of a route and puts what it answers in its
// place. The route that it is given stays as it is.
func Secrets(s link.RouteSpec, fn func(secret string) (string, error)) (link.RouteSpec, error) {
	_, fields := secrets(&s)
	for _, f := range fields {
		if *f == "" {
			continue
		}
		var err error
		if *f, err = fn(*f); err != nil {
			return s, err
		}
	}
	if s.Endpoint.Webhook == nil {
		return s, nil
	}
	for name, value := range s.Endpoint.Webhook.Headers {
		fresh, err := fn(value)
		if err != nil {
			return s, err
		}
		s.Endpoint.Webhook.Headers[name] = fresh
	}
	return s, nil
}

func onlyReferences(s link.RouteSpec) error {
	_, err := Secrets(s, func(secret string) (string, error) {
		if _, is := IsReference(secret); !is {
			return "", problem.New(problem.Invalid, "a blueprint holds no secret; name one that each environment keeps, such as %sarchive-key, and set it by slipway secret set", Reference).At("spec.endpoint")
		}
		return secret, nil
	})
	return err
}

// Scale reads a share such as 1% or 0.01.
func Scale(value any) (float64, error) {
	text := strings.TrimSpace(fmt.Sprint(value))
	number, percent := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		share /= 100
	}
	if err != nil || !(share > 0 && share <= 100) {
		return 0, problem.New(problem.Invalid, "a scale is a share above 0 and up to 100, such as 1%% or 0.01, not %q", text)
	}
	return share, nil
}

// scaled makes stamps smaller, or larger, by a share; each keeps a place.
func scaled(stamps []BlueprintStamp, share float64) []BlueprintStamp {
	all := slices.Clone(stamps)
	for i := range all {
		capacity := all[i].Capacity
		if capacity == 0 {
			capacity = defaultCapacity
		}
		all[i].Capacity = int(min(MaxCapacity, max(1, math.Ceil(float64(capacity)*share))))
	}
	return all
}
