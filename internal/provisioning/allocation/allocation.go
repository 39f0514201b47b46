// Package allocation chooses the stamp a device is sent to. It is pure: the
// same question always gets the same answer.
package allocation

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Candidate is a stamp with the number of places taken on it.
type Candidate struct {
	link.Stamp
	Taken int
}

// Choose returns the stamp of the environment that a tenant's device goes to.
// Only open stamps with room that take the tenant are chosen; the error says of
// each stamp why not.
func Choose(id, environment string, tenant link.Tenant, rule link.Allocation, stamps []Candidate) (string, error) {
	if rule.Policy == link.AllocateStatic && len(rule.Stamps) != 1 {
		return "", problem.New(problem.NotReady, "the static allocation policy needs exactly one stamp, and %d are named", len(rule.Stamps))
	}
	var best *Candidate
	for i := range stamps {
		c := &stamps[i]
		if meant(c, environment, rule) && judge(c, tenant) == fit && (best == nil || better(rule, id, c, best)) {
			best = c
		}
	}
	if best == nil {
		return "", nothingFits(environment, tenant, rule, stamps)
	}
	return best.Name, nil
}

// meant reports whether a stamp is of the environment, and one that the rule
// names if it names any.
func meant(c *Candidate, environment string, rule link.Allocation) bool {
	return c.Environment == environment && (len(rule.Stamps) == 0 || slices.Contains(rule.Stamps, c.Name))
}

// verdict is what speaks against a stamp. It is found for every stamp at every
// choice, and put into words only where somebody reads them.
type verdict int

const (
	fit verdict = iota
	othersOnly
	notNamed
	otherRegion
	notOpen
	full
)

func judge(c *Candidate, tenant link.Tenant) verdict {
	switch {
	case len(c.Tenants) > 0 && !slices.Contains(c.Tenants, tenant.Name):
		return othersOnly
	case len(tenant.Stamps) > 0 && !slices.Contains(tenant.Stamps, c.Name):
		return notNamed
	case len(tenant.Regions) > 0 && !slices.Contains(tenant.Regions, c.Region):
		return otherRegion
	case c.State != link.StampOpen:
		return notOpen
	case c.Taken >= c.Capacity:
		return full
	}
	return fit
}

// words say why a stamp takes no device, or nothing.
func (v verdict) words(c *Candidate, tenant link.Tenant) string {
	switch v {
	case othersOnly:
		return "is for tenant " + strings.Join(c.Tenants, ", ") + " only"
	case notNamed:
		return "is not among the stamps of tenant " + tenant.Name
	case otherRegion:
		return fmt.Sprintf("is in region %s, and tenant %s stays in %s", c.Region, tenant.Name, strings.Join(tenant.Regions, ", "))
	case notOpen:
		return "is " + string(c.State)
	case full:
		return fmt.Sprintf("is full (%d of %d)", c.Taken, c.Capacity)
	}
	return ""
}

// Unfit says why a device that a rule is for cannot go to a stamp, or nothing.
func Unfit(c *Candidate, tenant link.Tenant, rule link.Allocation) string {
	if len(rule.Stamps) > 0 && !slices.Contains(rule.Stamps, c.Name) {
		return "is not among the stamps that the allocation names"
	}
	return judge(c, tenant).words(c, tenant)
}

// Barred reports whether a stamp is not for a tenant's devices at all, be there
// room or not.
func Barred(s link.Stamp, tenant link.Tenant) bool {
	v := judge(&Candidate{Stamp: s}, tenant)
	return v == othersOnly || v == notNamed || v == otherRegion
}

func nothingFits(environment string, tenant link.Tenant, rule link.Allocation, stamps []Candidate) error {
	const most = 5
	var why []string
	candidates := 0
	for i := range stamps {
		c := &stamps[i]
		if !meant(c, environment, rule) {
			continue
		}
		if candidates++; candidates <= most {
			why = append(why, c.Name+" "+judge(c, tenant).words(c, tenant))
		}
	}
	switch {
	case candidates == 0 && len(rule.Stamps) > 0:
		return problem.New(problem.NotReady, "none of the allocation's stamps (%s) is in environment %q", strings.Join(rule.Stamps, ", "), environment)
	case candidates == 0:
		return problem.New(problem.NotReady, "environment %q has no stamps", environment)
	case candidates > most:
		why = append(why, fmt.Sprintf("and %d more", candidates-most))
	}
	return problem.New(problem.NotReady, "no stamp of environment %q takes a device: %s", environment, strings.Join(why, ", "))
}

// better reports whether a beats b under the policy; ties go to the name, so
// the order of the stamps does not matter.
func better(rule link.Allocation, id string, a, b *Candidate) bool {
	policy := rule.Policy
	if policy == link.AllocateLatency {
		if near, far := distance(rule, a), distance(rule, b); near != far {
			return near < far
		}
	}
	if policy == link.AllocateLeastLoaded {
		// a.Taken/a.Capacity against b.Taken/b.Capacity, without rounding.
		left, right := int64(a.Taken)*int64(b.Capacity), int64(b.Taken)*int64(a.Capacity)
		if left != right {
			return left < right
		}
	}
	scoreA, scoreB := score(policy, id, &a.Stamp), score(policy, id, &b.Stamp)
	if scoreA != scoreB {
		return scoreA > scoreB
	}
	return a.Name < b.Name
}

// distance is how far a stamp's region is by the rule's table.
func distance(rule link.Allocation, c *Candidate) float64 {
	if ms, known := rule.Latency[c.Region]; known {
		return ms
	}
	return math.Inf(1)
}

// score is weighted rendezvous hashing: each stamp draws -w/ln(u) with a u of
// its own for the id, and the highest wins. A stamp wins in proportion to its
// weight, and one that comes or goes moves only its own share of the ids.
func score(policy, id string, s *link.Stamp) float64 {
	weight := 1.0
	if policy != link.AllocateHashed && s.Weight > 0 {
		weight = float64(s.Weight)
	}
	sum := sha256.Sum256([]byte(strings.ToLower(id) + "\x00" + s.Name))
	u := (float64(binary.BigEndian.Uint64(sum[:8])>>11) + 0.5) / (1 << 53)
	return -weight / math.Log(u)
}

// Room is how many devices the open stamps of an environment take beyond those
// that are on their way to one already; from, which is being emptied, takes none.
func Room(stamps []Candidate, environment, from string, coming int) int {
	room := -coming
	for _, c := range stamps {
		if c.Environment == environment && c.Name != from && c.State == link.StampOpen {
			room += max(c.Capacity-c.Taken, 0)
		}
	}
	return room
}
