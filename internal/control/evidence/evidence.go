// Package evidence looks up, everywhere in an installation, what the checks of
// readiness go by. It judges nothing. What it cannot find out it leaves away and
// says why, so that no check takes a failure to look for a pass.
package evidence

import (
	"context"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/alert"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/backup"
	"github.com/slipway/slipway/internal/control/drift"
	"github.com/slipway/slipway/internal/control/environment"
	"github.com/slipway/slipway/internal/control/featureflag"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/grant"
	"github.com/slipway/slipway/internal/control/journal"
	"github.com/slipway/slipway/internal/control/membership"
	"github.com/slipway/slipway/internal/control/monitor"
	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/readiness"
	"github.com/slipway/slipway/internal/control/release"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/control/signing"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// Gatherer looks up facts in the subjects that keep them.
type Gatherer struct {
	DB           *sqldb.DB
	Environments *environment.Environments
	Fleet        *fleet.Fleet
	Releases     *release.Releases
	Promotions   *promotion.Promotions
	Rollouts     *rollout.Rollouts
	Gates        *gate.Gates
	Flags        *featureflag.Flags
	Signing      *signing.Signing
	People       *access.Access
	Grants       *grant.Grants
	Audit        *audit.Log
	Alerts       *alert.Alerts
	Monitor      *monitor.Monitor
	Journal      *journal.Journal // nil where nobody keeps one
	Backups      *backup.Backups
	Members      *membership.Membership // nil where all planes are in one process
	Drift        *drift.Drift           // nil: nobody looks for it
	Now          func() time.Time
}

// scene is an environment with what several parts of the facts go by.
type scene struct {
	*Gatherer
	name     string
	spec     resource.EnvironmentSpec
	all      []resource.Environment
	upstream []string // nearest first
	running  *link.Release
	stood    rollout.Stood
	facts    *readiness.Facts
}

// part finds some of the facts, which checks know by these names.
type part struct {
	names []string
	find  func(*scene, context.Context) error
}

var parts = []part{
	{[]string{"the graph of environments"}, (*scene).graph},
	{[]string{"the template"}, (*scene).template},
	{[]string{"the release that runs"}, (*scene).current},
	{[]string{"logs"}, (*scene).logs},
	{[]string{"tests"}, (*scene).tests},
	{[]string{"shared credentials", "enrolments"}, (*scene).enrolments},
	{[]string{"feature flags"}, (*scene).flags},
	{[]string{"stamps", "capacity"}, (*scene).stamps},
	{[]string{"tenants"}, (*scene).tenants},
	{[]string{"moves"}, (*scene).moves},
	{[]string{"certificates"}, (*scene).expiries},
	{[]string{"what devices run"}, (*scene).devices},
	{[]string{"drift of devices"}, (*scene).twins},
	{[]string{"parity with the environment before"}, (*scene).parity},
	{[]string{"drift"}, (*scene).drift},
	{[]string{"updates", "components"}, (*scene).updates},
	{[]string{"processes"}, (*scene).processes},
	{[]string{"alerts"}, (*scene).alerts},
	{[]string{"objectives"}, (*scene).objectives},
	{[]string{"clocks"}, (*scene).clocks},
	{[]string{"rights"}, (*scene).rights},
	{[]string{"grants"}, (*scene).grants},
	{[]string{"the audit log"}, (*scene).audit},
	{[]string{"backups"}, (*scene).backups},
	{[]string{"ways back"}, (*scene).waysBack},
	{[]string{"waivers"}, (*scene).waivers},
	{[]string{"freezes and halts"}, (*scene).stopping},
	{[]string{"dates"}, (*scene).dates},
	{[]string{"acceptances"}, (*scene).accepted},
}

// patience is how long one part may take: what does not answer is not known.
const patience = 10 * time.Second

// Gather looks up the facts of an environment.
func (g *Gatherer) Gather(ctx context.Context, name string) (readiness.Facts, error) {
	facts := readiness.Facts{Environment: name, At: g.Now().UTC(), Missing: map[string]string{}}
	s := &scene{Gatherer: g, name: name, facts: &facts}
	if err := s.set(ctx); err != nil {
		return facts, err
	}
	for _, p := range parts {
		limited, done := context.WithTimeout(ctx, patience)
		err := p.find(s, limited)
		done()
		if ctx.Err() != nil {
			return facts, ctx.Err()
		}
		if err != nil {
			for _, name := range p.names {
				facts.Missing[name] = "it could not be looked up: " + problem.Of(err).Message
			}
		}
	}
	return facts, nil
}

// set finds the environment, those before it, and what it runs.
func (s *scene) set(ctx context.Context) (err error) {
	if s.all, err = s.Environments.List(ctx); err != nil {
		return err
	}
	named := func(name string) int {
		return slices.IndexFunc(s.all, func(e resource.Environment) bool { return e.Metadata.Name == name })
	}
	at := named(s.name)
	if at < 0 {
		return problem.New(problem.NotFound, "there is no environment %q", s.name)
	}
	s.spec = s.all[at].Spec
	for from := s.spec.PromotesFrom; from != "" && !slices.Contains(s.upstream, from) && named(from) >= 0; from = s.all[named(from)].Spec.PromotesFrom {
		s.upstream = append(s.upstream, from)
	}
	stood, err := s.Rollouts.Stood(ctx, s.DB, s.name)
	if err != nil || len(stood) == 0 || stood[0].Release == "" {
		return err
	}
	s.stood = stood[0]
	running, err := s.Releases.Get(ctx, s.stood.Release)
	if problem.Is(err, problem.NotFound) {
		return nil
	}
	s.running = &running
	return err
}

// here are the environment and those before it.
func (s *scene) here() []string { return append([]string{s.name}, s.upstream...) }

// final reports whether no environment promotes from this one.
func (s *scene) final() bool {
	return !slices.ContainsFunc(s.all, func(e resource.Environment) bool { return e.Spec.PromotesFrom == s.name })
}

func (s *scene) graph(context.Context) error {
	s.facts.Graph = &readiness.Graph{DisplayName: s.spec.DisplayName, Upstream: s.upstream, Final: s.final()}
	return nil
}
