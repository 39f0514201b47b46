package gate

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/drift"
	"github.com/slipway/slipway/internal/control/featureflag"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/control/readiness"
	"github.com/slipway/slipway/internal/control/rehearsal"
	"github.com/slipway/slipway/internal/control/release"
	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// Options are what gates are judged with.
type Options struct {
	DB    *sqldb.DB
	Audit *audit.Log
	Now   func() time.Time
	// Guard says where gates may connect to.
	Guard *outbound.Guard
	// Prometheus is the installation's, for gates that name none; may be empty.
	Prometheus string
	// SLO finds one by its name.
	SLO func(ctx context.Context, name string) (resource.SLO, error)
	// Metrics answers a call of Prometheus' HTTP API from what the installation
	// keeps itself; nil where it keeps nothing.
	Metrics func(ctx context.Context, path string, form url.Values) (status int, text []byte, err error)
	// Independent lets somebody approve who can be told from others: from who
	// asked, and from who has approved. Default is by their names.
	Independent func(ctx context.Context, q sqldb.Querier, actor access.Actor, others ...string) error
	// Query asks the stamps of an environment about their devices.
	Query func(ctx context.Context, environment, stamp string, req link.RunQuery) ([]fleet.Answer, error)
	// Environments are all there are, in order of promotion.
	Environments func(ctx context.Context) ([]resource.Environment, error)
	// Release finds a release by its name.
	Release func(ctx context.Context, name string) (link.Release, error)
	// Exercised tells which variants of a release's flags an environment has
	// given out.
	Exercised func(ctx context.Context, environment, release string, flags map[string]flag.Flag) ([]featureflag.Exercise, error)
	// Parity holds two environments against one another, and Drift tells where
	// an environment is not as declared, as of the last look.
	Parity func(ctx context.Context, from, to string) (drift.Report, error)
	Drift  func(environment string) drift.Page
	// Rehearsed is the newest rehearsal of a release on an environment's data, by
	// its digest; nil where there is none.
	Rehearsed func(ctx context.Context, environment, digest string) (*rehearsal.Rehearsal, error)
	// Ready tells how ready an environment is, by facts that are no older than
	// most.
	Ready func(ctx context.Context, environment string, most time.Duration) (readiness.Verdict, error)
	// Components reads what a release is made of from its bills of materials.
	Components func(ctx context.Context, release string) ([]release.Component, error)
}

// Gates judges releases, and keeps what it judged them by.
type Gates struct {
	Options
	prometheus, webhooks *http.Client
}

// New returns the gates kept in a database.
func New(o Options) *Gates {
	if o.Independent == nil {
		o.Independent = ByName
	}
	return &Gates{Options: o, prometheus: o.Guard.Client(askTimeout), webhooks: o.Guard.Client(0)}
}

// evaluation is how long all gates of a promotion may take together.
const evaluation = 2 * time.Minute

// Judge evaluates gates at once, and keeps the results. The error is of
// keeping them: a gate that cannot be evaluated says so in its result.
func (g *Gates) Judge(ctx context.Context, now time.Time, gates []resource.Gate, s Subject) ([]Result, error) {
	looking, done := context.WithTimeout(ctx, evaluation)
	defer done()
	results := make([]Result, len(gates))
	var each sync.WaitGroup
	for i, one := range gates {
		each.Go(func() { results[i] = g.Evaluate(looking, now, one, s) })
	}
	each.Wait()
	return results, g.Keep(ctx, s.Promotion, results)
}

// Evaluate says whether a release meets a gate. It keeps nothing.
func (g *Gates) Evaluate(ctx context.Context, now time.Time, gate resource.Gate, s Subject) Result {
	r := g.evaluate(ctx, now, gate, s)
	r.Gate, r.Kind, r.Key, r.At, r.Evaluator = gate.Name, gate.Kind(), gate.Key, now, evaluator
	return settled(r)
}

func (g *Gates) evaluate(ctx context.Context, now time.Time, gate resource.Gate, s Subject) Result {
	switch gate.Kind() {
	case resource.GateTests:
		return g.tests(ctx, now, *gate.Tests, s)
	case resource.GatePromQL:
		return g.promQL(ctx, now, *gate.PromQL, s)
	case resource.GateSLO:
		return g.slo(ctx, now, *gate.SLO, s)
	case resource.GateApprovals:
		return g.approvals(ctx, *gate.Approvals, s)
	case resource.GateSoak:
		return soak(now, *gate.Soak, s)
	case resource.GateDevices:
		return g.devices(ctx, *gate.Devices, s)
	case resource.GateSBOM:
		return g.sbom(ctx, now, *gate.SBOM, s)
	case resource.GateWebhook:
		return g.webhook(ctx, now, *gate.Webhook, s)
	case resource.GateFlags:
		return g.flags(ctx, *gate.Flags, s)
	case resource.GateParity:
		return g.parity(ctx, now, *gate.Parity, s)
	case resource.GateDrift:
		return g.drift(now, *gate.Drift, s)
	case resource.GateRehearsal:
		return g.rehearsal(ctx, now, *gate.Rehearsal, s)
	case resource.GateReadiness:
		return g.readiness(ctx, *gate.Readiness, s)
	}
	return Result{Verdict: Error, Reason: "this version of Slipway knows no such kind of gate"}
}

// failed is the result of a gate that could not be looked at.
func failed(err error) Result { return Result{Verdict: Error, Reason: reasonOf(err)} }
