package registration

import (
	"cmp"
	"context"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/allocation"
	"github.com/slipway/slipway/internal/provisioning/enrollment"
)

// Explain says why a device is where it is, and where it would go if it were
// placed now: of each stamp of its environment, whether it takes the device
// and why not.
func (s *Service) Explain(ctx context.Context, ref link.RegistrationRef) (link.Placement, error) {
	r, known, err := byDevice(ctx, s.db, ref.DeviceID)
	if err == nil && !known {
		err = problem.New(problem.NotFound, "there is no device %s", ref.DeviceID)
	}
	if err != nil {
		return link.Placement{}, err
	}
	spec := link.EnrollmentSpec{Environment: r.Environment}
	if e, found, err := enrollment.Load(ctx, s.db, r.EnrollmentKind, r.Enrollment); err != nil {
		return link.Placement{}, err
	} else if found {
		spec = e.Spec
	}
	candidates, err := s.candidates(ctx, s.db, r.Environment)
	if err != nil {
		return link.Placement{}, err
	}
	tenant, tenantKnown := s.directory.Current().Tenant(r.Tenant)
	rule := r.bound(r.rule(spec))
	p := link.Placement{
		DeviceID: r.DeviceID, Environment: r.Environment, EnvironmentFrom: r.environmentFrom(spec), Tenant: r.Tenant, Enrollment: r.Enrollment,
		Policy: cmp.Or(rule.Policy, link.AllocateWeighted), Stamp: r.Stamp, Phase: r.Phase, Waits: r.Problem,
	}
	if !tenantKnown {
		p.Waits = cmp.Or(p.Waits, "there is no tenant "+r.Tenant)
	}
	best, _ := allocation.Choose(r.RegistrationID, r.Environment, tenant, rule, candidates) // none is an answer too
	for _, c := range candidates {
		v := link.StampVerdict{Stamp: c.Name, Region: c.Region, State: c.State, Taken: c.Taken, Capacity: c.Capacity, Reason: allocation.Unfit(&c, tenant, rule)}
		switch {
		case c.Name == r.Stamp:
			v.Verdict = link.VerdictHere
		case v.Reason != "":
			v.Verdict = link.VerdictBarred
		case c.Name == best:
			v.Verdict = link.VerdictNext
		default:
			v.Verdict = link.VerdictFits
		}
		p.Stamps = append(p.Stamps, v)
	}
	return p, nil
}

// environmentFrom says what decides the device's environment.
func (r *Record) environmentFrom(spec link.EnrollmentSpec) string {
	switch {
	case r.Target != "" && r.Move != 0:
		return moveID(r.Move)
	case r.Environment != spec.Environment:
		return "its first registration" // the enrolment has another by now, and leaves devices where they are
	}
	return "enrolment " + r.Enrollment
}
