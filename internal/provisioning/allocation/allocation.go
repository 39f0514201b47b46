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
	candidates, err := named(environment, rule, stamps)
	if err != nil {
		return "", err
	}
	var best Candidate
	var why []string
	for _, c := range candidates {
		if reason := unfit(c, tenant); reason != "" {
			why = append(why, c.Name+" "+reason)
			continue
		}
		if best.Name == "" || better(rule, id, c, best) {
			best = c
		}
	}
	if best.Name == "" {
		return "", nothingFits(environment, why)
	}
	return best.Name, nil
}

// named narrows stamps to those of the environment that the rule names.
func named(environment string, rule link.Allocation, stamps []Candidate) ([]Candidate, error) {
	if rule.Policy == link.AllocateStatic && len(rule.Stamps) != 1 {
		return nil, problem.New(problem.NotReady, "the static allocation policy needs exactly one stamp, and %d are named", len(rule.Stamps))
	}
	var some []Candidate
	for _, c := range stamps {
		if c.Environment == environment && (len(rule.Stamps) == 0 || slices.Contains(rule.Stamps, c.Name)) {
			some = append(some, c)
		}
	}
	if len(some) == 0 && len(rule.Stamps) > 0 {
		return nil, problem.New(problem.NotReady, "none of the allocation's stamps (%s) is in environment %q", strings.Join(rule.Stamps, ", "), environment)
	}
	return some, nil
}

// unfit says why a stamp takes no device, or nothing.
func unfit(c Candidate, tenant link.Tenant) string {
	if reason := Barred(c.Stamp, tenant); reason != "" {
		return reason
	}
	switch {
	case c.State != link.StampOpen:
		return "is " + string(c.State)
	case c.Taken >= c.Capacity:
		return fmt.Sprintf("is full (%d of %d)", c.Taken, c.Capacity)
	}
	return ""
}

// Unfit says why a device that a rule is for cannot go to a stamp, or nothing.
func Unfit(c Candidate, tenant link.Tenant, rule link.Allocation) string {
	if len(rule.Stamps) > 0 && !slices.Contains(rule.Stamps, c.Name) {
		return "is not among the stamps that the allocation names"
	}
	return unfit(c, tenant)
}

// Barred says why a stamp is not for a tenant's devices at all, or nothing.
func Barred(s link.Stamp, tenant link.Tenant) string {
	switch {
	case len(s.Tenants) > 0 && !slices.Contains(s.Tenants, tenant.Name):
		return "is for tenant " + strings.Join(s.Tenants, ", ") + " only"
	case len(tenant.Stamps) > 0 && !slices.Contains(tenant.Stamps, s.Name):
		return "is not among the stamps of tenant " + tenant.Name
	case len(tenant.Regions) > 0 && !slices.Contains(tenant.Regions, s.Region):
		return fmt.Sprintf("is in region %s, and tenant %s stays in %s", s.Region, tenant.Name, strings.Join(tenant.Regions, ", "))
	}
	return ""
}

func nothingFits(environment string, why []string) error {
	if len(why) == 0 {
		return problem.New(problem.NotReady, "environment %q has no stamps", environment)
	}
	const most = 5
	if len(why) > most {
		why = append(why[:most:most], fmt.Sprintf("and %d more", len(why)-most))
	}
	return problem.New(problem.NotReady, "no stamp of environment %q takes a device: %s", environment, strings.Join(why, ", "))
}

// better reports whether a beats b under the policy; ties go to the name, so
// the order of the stamps does not matter.
func better(rule link.Allocation, id string, a, b Candidate) bool {
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
	scoreA, scoreB := score(policy, id, a.Stamp), score(policy, id, b.Stamp)
	if scoreA != scoreB {
		return scoreA > scoreB
	}
	return a.Name < b.Name
}

// distance is how far a stamp's region is by the rule's table.
func distance(rule link.Allocation, c Candidate) float64 {
	if ms, known := rule.Latency[c.Region]; known {
		return ms
	}
	return math.Inf(1)
}

// score is weighted rendezvous hashing: each stamp draws -w/ln(u) with a u of
// its own for the id, and the highest wins. A stamp wins in proportion to its
// weight, and one that comes or goes moves only its own share of the ids.
func score(policy, id string, s link.Stamp) float64 {
	weight := 1.0
	if policy != link.AllocateHashed && s.Weight > 0 {
		weight = float64(s.Weight)
	}
	sum := sha256.Sum256([]byte(strings.ToLower(id) + "\x00" + s.Name))
	u := (float64(binary.BigEndian.Uint64(sum[:8])>>11) + 0.5) / (1 << 53)
	return -weight / math.Log(u)
}
