package evidence

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/control/featureflag"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/readiness"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// errNothingRuns says why nothing is known of a release.
func (s *scene) errNothingRuns() error {
	return problem.New(problem.NotFound, "%s runs no release yet", s.name)
}

func (s *scene) current(ctx context.Context) error {
	if s.running == nil {
		s.facts.Missing["the release that runs"] = s.name + " runs no release yet"
		return nil
	}
	c := readiness.Current{
		Release: s.stood.Release, Digest: s.stood.Digest, Since: s.stood.From, HasMigrations: len(s.running.Spec.Migrations) > 0,
		Class: cmp.Or(s.running.Spec.Rollback, link.RollbackSafe), NeedsApproval: approvalsNeeded(s.spec),
	}
	verdicts, err := s.Promotions.Verifications(ctx, s.running.Name)
	if err != nil {
		return err
	}
	for _, environment := range s.upstream {
		one := readiness.Verified{Environment: environment}
		if i := slices.IndexFunc(verdicts, func(v promotion.Verification) bool { return v.Environment == environment }); i >= 0 {
			one = readiness.Verified{Environment: environment, Known: true, Passed: verdicts[i].Passed, Digest: verdicts[i].Digest, At: verdicts[i].At}
		}
		c.Verified = append(c.Verified, one)
	}
	tests, err := s.Gates.Tests(ctx, s.running.Name)
	if err != nil {
		return err
	}
	for _, t := range tests { // newest first
		if !slices.ContainsFunc(c.Suites, func(have readiness.Suite) bool { return have.Name == t.Suite }) {
			c.Suites = append(c.Suites, suiteOf(t))
		}
	}
	s.facts.Current = &c
	return s.letIn(ctx, &c)
}

// letIn finds who agreed to the release that runs, and by which waiver it came.
func (s *scene) letIn(ctx context.Context, c *readiness.Current) error {
	all, err := s.Promotions.List(ctx, s.name, time.Time{}, 100)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(p promotion.Promotion) bool {
		return p.Digest == c.Digest && !p.Back && !p.State.Waits() && p.State != promotion.Aborted
	})
	if i < 0 {
		return nil
	}
	c.Waiver = all[i].Waiver
	words, err := s.Gates.Approvals(ctx, all[i].ID)
	for _, w := range words {
		if w.Approves && w.WithdrawnAt == nil && !slices.Contains(c.Approvals, w.Person) {
			c.Approvals = append(c.Approvals, w.Person)
		}
	}
	return err
}

// approvalsNeeded is how many people must agree before a release enters.
func approvalsNeeded(spec resource.EnvironmentSpec) (n int) {
	if spec.Promotion == nil {
		return 0
	}
	for _, g := range spec.Promotion.Gates {
		if g.Approvals != nil {
			n = max(n, g.Approvals.Count, 1)
		}
	}
	return n
}

func suiteOf(t gate.TestResult) readiness.Suite {
	return readiness.Suite{Name: t.Suite, Environment: t.Environment, Release: t.Release, Tests: t.Summary.Tests, Failed: t.Summary.Failed, Skipped: t.Summary.Skipped, At: t.UploadedAt, By: t.UploadedBy}
}

func (s *scene) tests(ctx context.Context) error {
	all, err := s.Gates.LastTests(ctx)
	for _, t := range all {
		s.facts.Tests = append(s.facts.Tests, suiteOf(t))
	}
	return err
}

// maxFlagHistories bounds for how many flags it is looked up when a kill switch
// was used.
const maxFlagHistories = 50

func (s *scene) flags(ctx context.Context) error {
	if s.running == nil {
		return s.errNothingRuns()
	}
	document, err := resource.FlagsOf(s.running.Spec)
	if err != nil {
		return err
	}
	f := readiness.FlagFacts{Flags: len(document.Flags)}
	if len(s.upstream) > 0 {
		f.Where = s.upstream[0]
	}
	if f.Flags > 0 && f.Where != "" {
		tried, err := s.Flags.Exercised(ctx, f.Where, s.running.Name, document.Flags)
		if err != nil {
			return err
		}
		for _, one := range tried {
			if len(one.Missing) > 0 {
				f.Unexercised = append(f.Unexercised, one.Flag)
			}
		}
	}
	all, err := s.Flags.List(ctx)
	if err != nil {
		return err
	}
	for i, one := range all {
		for _, remark := range one.Findings {
			switch {
			case remark.Kind == featureflag.Overdue:
				f.Overdue = append(f.Overdue, one.Key)
			case remark.Kind == featureflag.Ownerless:
				f.Ownerless = append(f.Ownerless, one.Key)
			}
		}
		if i >= maxFlagHistories {
			continue
		}
		turns, err := s.Flags.History(ctx, one.Key, 100)
		if err != nil {
			return err
		}
		for _, t := range turns {
			if t.After.Killed != "" && slices.Contains(s.here(), t.Environment) && t.At.After(f.KilledAt) {
				f.KilledAt = t.At
			}
		}
	}
	s.facts.Flags = &f
	return nil
}

func (s *scene) updates(ctx context.Context) error {
	if s.running == nil {
		return s.errNothingRuns()
	}
	admitted, reason, err := s.Signing.Admitted(ctx, s.name, s.running.Name)
	if err != nil {
		return err
	}
	stood, err := s.Rollouts.Stood(ctx, s.DB, s.name)
	if err != nil {
		return err
	}
	u := readiness.UpdateFacts{Software: len(s.running.Spec.Software), Admitted: admitted, Reason: reason, SelfTests: judging(s.spec)}
	for _, one := range stood[1:] {
		if one.Release != "" && one.Release != s.running.Name {
			u.Previous = one.Release
			break
		}
	}
	s.facts.Updates = &u
	return s.components(ctx, admitted, reason)
}

// judging counts the rules by which updated devices are judged: a wave has
// failed by its health, which is always judged, and by gates.
func judging(spec resource.EnvironmentSpec) int {
	n := 1
	if spec.Promotion == nil {
		return n
	}
	n += len(spec.Promotion.Verify)
	if spec.Promotion.Rollout != nil {
		n += len(spec.Promotion.Rollout.Gates)
	}
	return n
}

func (s *scene) components(ctx context.Context, signed bool, reason string) error {
	all, err := s.Releases.Components(ctx, s.running.Name)
	if err != nil {
		return err
	}
	found, err := s.Gates.Vulnerable(ctx, s.running.Name)
	if err != nil {
		return err
	}
	c := readiness.Components{Components: len(all), Signed: signed, Reason: reason, Provenance: s.running.Spec.Source}
	if c.ListedAt, err = s.Gates.Listed(ctx); err != nil {
		return err
	}
	severe, deadline := severeBeyond(s.spec)
	for _, one := range found {
		switch {
		case !slices.Contains(severe, one.Severity):
		case s.facts.At.After(one.KnownAt.Add(deadline)):
			c.Late = append(c.Late, one.ID)
		default:
			c.Open++
		}
	}
	s.facts.Components = &c
	return nil
}

// severeBeyond is which vulnerabilities count, and how long each may stay: as the
// environment's own gate says, or those that are high, without delay.
func severeBeyond(spec resource.EnvironmentSpec) (severe []string, deadline time.Duration) {
	order := []string{"low", "medium", "high", "critical", "unrated"}
	from := "high"
	if spec.Promotion != nil {
		for _, g := range spec.Promotion.Gates {
			if g.SBOM != nil {
				from, deadline = cmp.Or(g.SBOM.Severity, from), g.SBOM.Deadline.Duration(0)
			}
		}
	}
	return order[slices.Index(order, from):], deadline
}

func (s *scene) waysBack(ctx context.Context) error {
	r := readiness.RollbackFacts{Automatic: s.spec.Promotion == nil || s.spec.Promotion.Rollout == nil || s.spec.Promotion.Rollout.OnFailure != "pause"}
	for _, environment := range s.here() {
		all, err := s.Rollouts.List(ctx, environment, 200)
		if err != nil {
			return err
		}
		for _, one := range all {
			if at := one.ReturnedAt; at != nil && one.Cause != nil && one.Cause.Failed && one.Cause.By == rollout.Robot && at.After(r.ProvenAt) {
				r.ProvenAt, r.Proven = *at, "release "+one.Release+" in "+environment
			}
			if at := s.takenBack(one); environment != s.name && at.After(r.RehearsedAt) {
				r.RehearsedAt, r.Rehearsed = at, environment
			}
		}
	}
	s.facts.Rollback = &r
	return nil
}

// takenBack is when a rollout led away from the release that runs here.
func (s *scene) takenBack(r rollout.Rollout) time.Time {
	switch {
	case s.running == nil:
	case r.Release == s.running.Name && r.ReturnedAt != nil:
		return *r.ReturnedAt
	case r.Back && r.From == s.running.Name && r.EndedAt != nil:
		return *r.EndedAt
	}
	return time.Time{}
}

func (s *scene) waivers(ctx context.Context) error {
	w := readiness.WaiverFacts{}
	for _, environment := range s.here() {
		all, err := s.Promotions.Waivers(ctx, environment, false)
		if err != nil {
			return err
		}
		for _, one := range all {
			if one.Owed() && environment == s.name {
				w.Owed = append(w.Owed, one.ID)
			}
			if one.UsedAt != nil && one.UsedAt.After(w.UsedAt) {
				w.UsedAt, w.Used = *one.UsedAt, one.ID
			}
			if environment == s.name && one.UsedAt == nil {
				s.date(readiness.DateWaiver, one.ID, one.Until, "waiver "+one.ID+" for release "+one.Release+" can be used no more", one.By)
			}
		}
	}
	s.facts.Waivers = &w
	return nil
}

func (s *scene) stopping(ctx context.Context) error {
	f := readiness.StoppingFacts{}
	if s.spec.Promotion != nil {
		f.Freezes = len(s.spec.Promotion.Freeze)
	}
	past, err := s.Gates.PastHalts(ctx)
	if err != nil {
		return err
	}
	for _, h := range past {
		if (h.Environment == "" || slices.Contains(s.here(), h.Environment)) && h.At.After(f.HaltedAt) {
			f.HaltedAt, f.Halted = h.At, cmp.Or(h.Environment, "everywhere")
		}
	}
	calendars, err := s.Gates.Calendars(ctx)
	for _, c := range calendars {
		if c.Environment != s.name {
			continue
		}
		for _, w := range c.Windows {
			s.date(readiness.DateFreeze, w.Freeze, w.From, "freeze "+w.Freeze+" begins in "+s.name, "")
		}
	}
	s.facts.Stopping = &f
	return err
}

// date notes something that is known to come in the environment.
func (s *scene) date(kind, name string, at time.Time, what, owner string) {
	s.facts.Dates = append(s.facts.Dates, readiness.Date{Kind: kind, Name: name, Environment: s.name, At: at, What: what, Owner: owner})
}
