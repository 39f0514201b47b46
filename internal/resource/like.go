package resource

import (
	"fmt"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/link"
)

const (
	pathAutoMove = "environment.autoMove"
	pathGates    = "environment.promotion.gates"
)

// BlueprintOf makes a blueprint of what an environment is, so that others can
// be made like it, and the environment as it is made from that. Left are its
// stamps and routes that cannot be anybody else's, with the reason.
func BlueprintOf(env Environment, blueprint string, stamps []Stamp, routes []Route) (b BlueprintSpec, own EnvironmentSpec, left []string) {
	self := env.Metadata.Name
	b.Description = "As " + self + " is"
	b.Environment = env.Spec
	b.Environment.DisplayName, b.Environment.PromotesFrom, b.Environment.AutoMove = "", "", nil
	own = EnvironmentSpec{DisplayName: env.Spec.DisplayName, PromotesFrom: env.Spec.PromotesFrom, Blueprint: blueprint}
	if rule := env.Spec.AutoMove; rule != nil {
		own.Differences = append(own.Differences, Difference{Path: pathAutoMove, Value: rule, Reason: "where devices go on to is each environment's own"})
	}
	for _, s := range stamps {
		name, prefixed := strings.CutPrefix(s.Metadata.Name, self+"-")
		switch {
		case s.Spec.Environment != self:
		case !prefixed:
			left = append(left, fmt.Sprintf("stamp %s: its name does not begin with %s-", s.Metadata.Name, self))
		case s.Spec.Host != "":
			left = append(left, fmt.Sprintf("stamp %s: it has a host name of its own", s.Metadata.Name))
		default:
			b.Stamps = append(b.Stamps, BlueprintStamp{Name: name, Ring: s.Spec.Ring, Pace: s.Spec.Pace, StampTemplate: StampTemplate{
				Region: s.Spec.Region, Capacity: s.Spec.Capacity, Weight: s.Spec.Weight, Tenants: s.Spec.Tenants, Local: s.Spec.Local,
			}})
		}
	}
	for _, r := range routes {
		name, prefixed := strings.CutPrefix(r.Metadata.Name, self+"-")
		switch {
		case r.Spec.Environment != self:
		case !prefixed:
			left = append(left, fmt.Sprintf("route %s: its name does not begin with %s-", r.Metadata.Name, self))
		case onlyReferences(r.Spec) != nil:
			left = append(left, fmt.Sprintf("route %s: it holds a secret, where a blueprint names one, such as %sNAME", r.Metadata.Name, Reference))
		default:
			spec := r.Spec
			spec.Environment = ""
			b.Routes = append(b.Routes, link.ReleaseRoute{Name: name, Spec: spec})
		}
	}
	return b, own, left
}

// Like is an environment made like another one: from the same blueprint, with
// the same differences, of another size. Gates that look at the environment
// before are not for the first of a path.
func Like(other EnvironmentSpec, scale, promotesFrom string) EnvironmentSpec {
	fresh := EnvironmentSpec{Blueprint: other.Blueprint, PromotesFrom: promotesFrom}
	for _, d := range other.Differences {
		its := d.Path == pathAutoMove || d.Path == PathScale && scale != ""
		if !its {
			fresh.Differences = append(fresh.Differences, d)
		}
	}
	if scale != "" {
		fresh.Differences = append(fresh.Differences, Difference{Path: PathScale, Value: scale, Reason: "it is for trying things, not for all devices"})
	}
	if promotesFrom != "" || other.Promotion == nil {
		return fresh
	}
	told := slices.ContainsFunc(fresh.Differences, func(d Difference) bool { return strings.HasPrefix(d.Path, pathGates) })
	if !told && slices.ContainsFunc(other.Promotion.Gates, Gate.looksUpstream) {
		fresh.Differences = append(fresh.Differences, Difference{Path: pathGates, Remove: true, Reason: "releases enter it first, so there is no environment before it to look at"})
	}
	return fresh
}

// looksUpstream reports whether a gate is about the environment before.
func (g Gate) looksUpstream() bool {
	return g.Soak != nil || g.Flags != nil && g.Flags.Environment == "" || g.Devices != nil && g.Devices.Environment == ""
}
