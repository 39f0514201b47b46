package evidence

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/readiness"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// maxEnrolments bounds how many enrolments are compared.
const maxEnrolments = 20_000

// enrolments looks for keys, certificates and endpoints that are used twice. What
// they are stays here: they are compared by their digests.
func (s *scene) enrolments(ctx context.Context) error {
	registry := readiness.Registry{Attested: map[string]int{}}
	users := map[string][]string{} // of a fingerprint: environment/what
	for _, kind := range []link.EnrollmentKind{link.Individual, link.Group} {
		for after, more := "", true; more && len(users) < maxEnrolments; {
			page, err := s.Fleet.Enrollments(ctx, link.ListEnrollments{Kind: kind, After: after, Limit: link.MaxPage})
			if err != nil {
				return err
			}
			for _, e := range page.Items {
				after = e.Name
				for _, print := range fingerprints(e.Spec.Attestation) {
					users[print] = append(users[print], e.Spec.Environment+"/"+e.Name)
				}
				if e.Spec.Environment == s.name && !e.Spec.Disabled {
					registry.Enrolments++
					registry.Devices += e.Devices
					registry.Attested[proofOf(e.Spec.Attestation)]++
				}
			}
			more = page.More && len(page.Items) > 0
		}
	}
	shared := readiness.Shared{}
	for _, used := range users {
		s.compare(&shared, used, "a key of")
		own := slices.DeleteFunc(slices.Clone(used), func(u string) bool { return !strings.HasPrefix(u, s.name+"/") })
		if len(own) > 1 {
			registry.Duplicates = append(registry.Duplicates, strings.Join(own, " and "))
		}
	}
	slices.Sort(registry.Duplicates)
	s.facts.Registry = &registry
	return s.endpoints(ctx, &shared)
}

// compare notes a thing that is used here and in another environment.
func (s *scene) compare(shared *readiness.Shared, used []string, what string) {
	shared.Compared++
	here := slices.ContainsFunc(used, func(u string) bool { return strings.HasPrefix(u, s.name+"/") })
	elsewhere := slices.ContainsFunc(used, func(u string) bool { return !strings.HasPrefix(u, s.name+"/") })
	if here && elsewhere {
		shared.Same = append(shared.Same, what+" "+strings.Join(used, " and "))
	}
}

func (s *scene) endpoints(ctx context.Context, shared *readiness.Shared) error {
	routes, err := s.Environments.Routes(ctx, access.Actor{Name: "slipway"}, false)
	if err != nil {
		return err
	}
	users := map[string][]string{}
	for _, r := range routes {
		if at := r.Spec.Endpoint.String(); at != "" {
			users[at] = append(users[at], r.Spec.Environment+"/"+r.Metadata.Name)
		}
	}
	stamps, err := s.Environments.Stamps(ctx)
	if err != nil {
		return err
	}
	for _, one := range stamps {
		if one.Status != nil && one.Status.Host != "" {
			users["host "+one.Status.Host] = append(users["host "+one.Status.Host], one.Spec.Environment+"/"+one.Metadata.Name)
		}
	}
	for _, used := range users {
		s.compare(shared, used, "an endpoint of")
	}
	slices.Sort(shared.Same)
	s.facts.Shared = shared
	return nil
}

// fingerprints are digests of what an enrolment's devices prove themselves by.
func fingerprints(a link.Attestation) (all []string) {
	add := func(kind string, secrets ...string) {
		for _, secret := range secrets {
			if secret != "" {
				sum := sha256.Sum256([]byte(kind + "\n" + secret))
				all = append(all, hex.EncodeToString(sum[:]))
			}
		}
	}
	if k := a.SymmetricKey; k != nil {
		add("key", k.PrimaryKey, k.SecondaryKey)
	}
	if x := a.X509; x != nil {
		add("authority", x.CA, x.SecondaryCA)
		add("reference", x.CAReference, x.SecondaryCAReference)
		add("certificate", x.Certificate, x.SecondaryCertificate)
		add("thumbprint", strings.ToLower(x.Thumbprint), strings.ToLower(x.SecondaryThumbprint))
	}
	if a.TPM != nil {
		add("tpm", a.TPM.EndorsementKey)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func proofOf(a link.Attestation) string {
	switch {
	case a.X509 != nil:
		return "certificate"
	case a.TPM != nil:
		return "TPM"
	case a.SymmetricKey != nil:
		return "key"
	}
	return "none"
}

func (s *scene) stamps(ctx context.Context) error {
	all, err := s.Fleet.Stamps(ctx)
	if err != nil {
		return err
	}
	f := readiness.StampFacts{}
	for _, one := range all {
		if one.Spec.Environment != s.name || one.Spec.State == link.StampClosed {
			continue
		}
		fact := readiness.StampFact{Name: one.Metadata.Name, Region: one.Spec.Region, Capacity: one.Spec.Capacity, Ring: one.Spec.Ring != nil, Paced: one.Spec.Pace != nil}
		if st := one.Status; st != nil {
			fact.Processes, fact.Taken = len(st.Processes), st.Assigned
			if st.SeenAt != nil {
				fact.Seen = *st.SeenAt
			}
		}
		f.Stamps = append(f.Stamps, fact)
		f.Places, f.Taken = f.Places+fact.Capacity, f.Taken+fact.Taken
	}
	capacity, err := s.Fleet.Capacity(ctx)
	if err != nil {
		return err
	}
	for _, c := range capacity {
		if c.Environment != s.name {
			continue
		}
		f.Days = c.FullIn
		growth := readiness.GrowthFacts{Rules: len(s.spec.Growth), Places: c.Places, Taken: c.Taken}
		for _, a := range c.Advice {
			if a.Severity == "bad" || a.Severity == "warn" {
				growth.Advice = append(growth.Advice, a.Says)
			}
		}
		s.facts.Growth = &growth
	}
	s.facts.Stamps = &f
	return nil
}

func (s *scene) tenants(ctx context.Context) error {
	tenants, err := s.Environments.Tenants(ctx)
	if err != nil {
		return err
	}
	stamps, err := s.Environments.Stamps(ctx)
	if err != nil {
		return err
	}
	f := readiness.TenantFacts{}
	for _, t := range tenants {
		if len(t.Spec.Regions) == 0 && len(t.Spec.Stamps) == 0 && t.Metadata.Name == link.DefaultTenant {
			continue
		}
		f.Tenants++
		homes := 0
		for _, stamp := range stamps {
			if stamp.Spec.Environment != s.name {
				continue
			}
			if takes(stamp, t) {
				homes++
			}
			if slices.Contains(stamp.Spec.Tenants, t.Metadata.Name) && len(t.Spec.Regions) > 0 && !slices.Contains(t.Spec.Regions, stamp.Spec.Region) {
				f.Misplace = append(f.Misplace, fmt.Sprintf("%s in %s for %s", stamp.Metadata.Name, stamp.Spec.Region, t.Metadata.Name))
			}
		}
		if homes == 0 {
			f.Homeless = append(f.Homeless, t.Metadata.Name)
		}
	}
	s.facts.Tenants = &f
	return nil
}

// takes reports whether a stamp may take the devices of a tenant.
func takes(stamp resource.Stamp, t resource.Tenant) bool {
	open := cmp.Or(stamp.Spec.State, link.StampOpen) == link.StampOpen
	return open && (len(stamp.Spec.Tenants) == 0 || slices.Contains(stamp.Spec.Tenants, t.Metadata.Name)) &&
		(len(t.Spec.Regions) == 0 || slices.Contains(t.Spec.Regions, stamp.Spec.Region)) &&
		(len(t.Spec.Stamps) == 0 || slices.Contains(t.Spec.Stamps, stamp.Metadata.Name))
}
