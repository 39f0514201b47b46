package access

import (
	"fmt"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/problem"
)

// Place is where something is done: an environment, a stamp of it, a tenant.
// What is empty is not known, or is all of them.
type Place struct {
	Environment string
	Stamp       string
	Tenant      string
}

// Bounds says where a right holds. A list that is empty bounds nothing.
type Bounds struct {
	Environments []string `json:"environments,omitempty"`
	Stamps       []string `json:"stamps,omitempty"`
	Tenants      []string `json:"tenants,omitempty"`
}

// covers reports whether a place lies wholly inside.
func (s Bounds) covers(p Place) bool {
	in := func(list []string, name string) bool { return len(list) == 0 || slices.Contains(list, name) }
	return in(s.Environments, p.Environment) && in(s.Stamps, p.Stamp) && in(s.Tenants, p.Tenant)
}

// Everywhere reports whether it bounds nothing.
func (s Bounds) Everywhere() bool { return s.covers(Place{}) }

// String says it in words.
func (s Bounds) String() string {
	var parts []string
	for _, list := range []struct {
		one   string
		names []string
	}{{"environment", s.Environments}, {"stamp", s.Stamps}, {"tenant", s.Tenants}} {
		if len(list.names) > 0 {
			parts = append(parts, list.one+" "+oneOf(list.names))
		}
	}
	if len(parts) == 0 {
		return "everywhere"
	}
	return strings.Join(parts, ", ")
}

// maxBounds is how many names bounds may hold of each kind, and how long they
// may be.
const (
	maxBounds = 100
	maxBound  = 63
)

// check refuses bounds that nothing could keep.
func (s Bounds) check(field string) error {
	for _, list := range []struct {
		what  string
		names []string
	}{{"environments", s.Environments}, {"stamps", s.Stamps}, {"tenants", s.Tenants}} {
		if len(list.names) > maxBounds {
			return problem.New(problem.Invalid, "it names %d %s; at most %d", len(list.names), list.what, maxBounds).At(field + "." + list.what)
		}
		for i, name := range list.names {
			if name == "" || len(name) > maxBound {
				return problem.New(problem.Invalid, "a name has 1 to %d characters", maxBound).At(fmt.Sprintf("%s.%s[%d]", field, list.what, i))
			}
		}
	}
	return nil
}

// Right lets somebody do some things in some places.
type Right struct {
	Role        string       `json:"role"`
	Permissions []Permission `json:"-"`
	Bounds
}

func (r Right) has(p Permission) bool { return slices.Contains(r.Permissions, p) }

// Rights are all that somebody may do.
type Rights []Right

// at reports whether a permission holds in a place.
func (rs Rights) at(p Permission, place Place) bool {
	return slices.ContainsFunc(rs, func(r Right) bool { return r.has(p) && r.covers(place) })
}

// somewhere reports whether a permission holds anywhere. What is bound to
// tenants does not count: what belongs to no place is not for them to see.
func (rs Rights) somewhere(p Permission) bool {
	return slices.ContainsFunc(rs, func(r Right) bool { return r.has(p) && len(r.Tenants) == 0 })
}

// where says where a permission holds.
func (rs Rights) where(p Permission) string {
	var all []string
	for _, r := range rs {
		if r.has(p) {
			all = append(all, r.Bounds.String())
		}
	}
	return strings.Join(all, "; ")
}

// RightOf is a built-in role as a right.
func RightOf(role string, bounds Bounds) Right {
	return Right{Role: role, Permissions: PermissionsOf(role), Bounds: bounds}
}

// May reports whether rights are enough for a permission in a place, grants
// aside: those of the actor, and none beyond what its token is confined to.
func (a Actor) May(p Permission, place Place) bool {
	if p == Own {
		return a.Name != ""
	}
	return a.Rights.at(p, place) && a.unbound(p, place)
}

// unbound reports whether neither its kind nor its token keeps an actor from a
// permission in a place, whatever gives it.
func (a Actor) unbound(p Permission, place Place) bool {
	return !a.barred(p) && (a.Limit == nil || a.Limit.has(p) && a.Limit.covers(place))
}

// MaySomewhere is May for a place that does not matter.
func (a Actor) MaySomewhere(p Permission) bool {
	if p == Own {
		return a.Name != ""
	}
	return !a.barred(p) && a.Rights.somewhere(p) && (a.Limit == nil || Rights{*a.Limit}.somewhere(p))
}

// barred reports whether a permission is not for this kind of actor at all.
func (a Actor) barred(p Permission) bool {
	return p.human() && (a.Kind == Service || a.Kind == Agent)
}

// Who is the person who answers for what the actor does; two actors with the
// same one count as one where two people are wanted.
func (a Actor) Who() string {
	if a.Person != "" {
		return a.Person
	}
	return a.Name
}
