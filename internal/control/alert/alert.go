// Package alert looks again and again whether all is well, and tells people when
// it is not: by the rules that come with Slipway, those that people declare, and
// those that follow from SLOs. The rules are looked at by Prometheus' own
// manager; grouping, repeating and silencing are Alertmanager's own packages.
// What is sent, and how, is ours, so that it goes nowhere it must not.
package alert

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"go.yaml.in/yaml/v3"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/monitor"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/tasks"
)

// Options are what alerts are built from.
type Options struct {
	DB      *sqldb.DB
	Audit   *audit.Log
	Monitor *monitor.Monitor
	Guard   *outbound.Guard // where messages may go
	// Address is where people reach the console, for links in messages.
	Address string
	Dir     string // where it is kept who was told of what
	// Noted is told of every alert that fires, again and again, and once when it
	// has ended; nil is nobody.
	Noted  func(context.Context, []Fired) error
	Logger *slog.Logger
	Now    func() time.Time
}

// Fired is an alert that fires, or did until it ended.
type Fired struct {
	Alert
	Fingerprint string
	EndedAt     *time.Time
}

// Alerts are the rules of an installation, what they have found, and who is told.
type Alerts struct {
	Options
	changed tasks.Bell
	loader  *loader
	manager *rules.Manager
	router  *router
	raw     chan []outgoing // for Alertmanagers elsewhere
	client  *http.Client    // where messages may go

	mu       sync.Mutex
	outcomes map[string]resource.ReceiverStatus
	reload   string // why the last change was not taken over; empty is well
}

// sources are where the rules come from.
var sources = []string{"shipped", "own", "slo"}

// New returns the alerts kept in a database. Nothing is looked at before Run.
func New(o Options) *Alerts {
	return &Alerts{
		Options: o, loader: &loader{parser.NewParser(parser.Options{}), map[string][]rulefmt.RuleGroup{}},
		raw: make(chan []outgoing, maxWaiting), client: o.Guard.Client(sendWithin), outcomes: map[string]resource.ReceiverStatus{},
	}
}

// Run looks at rules and tells people until ctx ends. Where metrics are kept by
// a Prometheus elsewhere, that one does.
func (a *Alerts) Run(ctx context.Context) error {
	if !a.Monitor.Local() {
		<-ctx.Done()
		return nil
	}
	if err := a.start(ctx); err != nil {
		return err
	}
	defer a.stop()
	return tasks.Run(ctx, tasks.Task{Name: "rules", Run: a.follow}, tasks.Task{Name: "alertmanagers", Run: a.passOn})
}

func (a *Alerts) start(ctx context.Context) error {
	r, err := newRouter(a)
	if err != nil {
		return fmt.Errorf("alerts: %w", err)
	}
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc: a.Monitor.Vector, NotifyFunc: a.found, Context: ctx, AppendableV2: a.Monitor.Storage(), Queryable: a.Monitor.Storage(),
		Logger: monitor.Quiet(a.Logger, "rules"), Registerer: prometheus.NewRegistry(), OutageTolerance: time.Hour, ForGracePeriod: 10 * time.Minute,
		ResendDelay: time.Minute, GroupLoader: a.loader, Parser: a.loader.parser, RestoreNewRuleGroups: true,
	})
	a.mu.Lock()
	a.router, a.manager = r, manager
	a.mu.Unlock()
	go manager.Run()
	return nil
}

func (a *Alerts) stop() {
	a.manager.Stop()
	a.router.stop()
}

// lookAgainEvery is how often what is declared is read anew, as silences begin
// and end without anybody doing anything.
const lookAgainEvery = 30 * time.Second

// follow takes over what people declare.
func (a *Alerts) follow(ctx context.Context) error {
	tick := time.NewTicker(lookAgainEvery)
	defer tick.Stop()
	for {
		next := a.changed.Next()
		err := a.takeOver(ctx)
		a.mu.Lock()
		a.reload = ""
		if err != nil && ctx.Err() == nil {
			a.reload = err.Error()
			a.Logger.Error("what is declared of alerts was not taken over; trying again", "error", err)
		}
		a.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-next:
		case <-tick.C:
		}
	}
}

func (a *Alerts) takeOver(ctx context.Context) error {
	own, err := listed[resource.AlertRuleSpec, resource.AlertRuleStatus](ctx, a.DB, resource.KindAlertRule)
	if err != nil {
		return err
	}
	slos, err := a.declaredSLOs(ctx)
	if err != nil {
		return err
	}
	receivers, err := listed[resource.ReceiverSpec, resource.ReceiverStatus](ctx, a.DB, resource.KindReceiver)
	if err != nil {
		return err
	}
	silences, err := a.Silences(ctx)
	if err != nil {
		return err
	}
	a.loader.sources = map[string][]rulefmt.RuleGroup{sources[0]: shipped(), sources[1]: ownGroups(own), sources[2]: sloGroups(slos)}
	return errors.Join(
		a.manager.Update(15*time.Second, sources, labels.EmptyLabels(), a.Address, nil),
		a.router.takeOver(receivers, silences),
	)
}

// File is every rule as a file for a Prometheus of one's own.
func (a *Alerts) File(ctx context.Context) ([]byte, error) {
	own, err := listed[resource.AlertRuleSpec, resource.AlertRuleStatus](ctx, a.DB, resource.KindAlertRule)
	if err != nil {
		return nil, err
	}
	slos, err := a.declaredSLOs(ctx)
	if err != nil {
		return nil, err
	}
	return yaml.Marshal(rulefmt.RuleGroups{Groups: slices.Concat(shipped(), ownGroups(own), sloGroups(slos))})
}

// Alert is something that is not as it should be.
type Alert struct {
	Name        string            `json:"name"`
	State       string            `json:"state" doc:"pending or firing"`
	Severity    string            `json:"severity"`
	Environment string            `json:"environment,omitempty"`
	Stamp       string            `json:"stamp,omitempty"`
	Summary     string            `json:"summary,omitempty"`
	Runbook     string            `json:"runbook,omitempty" doc:"Where it says what to do"`
	Labels      map[string]string `json:"labels"`
	Value       float64           `json:"value"`
	Since       time.Time         `json:"since"`
	Silence     string            `json:"silence,omitempty" doc:"Because of which nobody is told"`
	OnCall      string            `json:"onCall,omitempty" doc:"Who answers for it now"`
}

// Active are the alerts there are: those that matter most first.
func (a *Alerts) Active(ctx context.Context) ([]Alert, error) {
	a.mu.Lock()
	manager := a.manager
	a.mu.Unlock()
	all := []Alert{}
	if manager == nil {
		return all, nil
	}
	silences, err := a.Silences(ctx)
	if err != nil {
		return nil, err
	}
	turns, err := a.OnCalls(ctx)
	if err != nil {
		return nil, err
	}
	for _, rule := range manager.AlertingRules() {
		for _, found := range rule.ActiveAlerts() {
			all = append(all, a.shown(found, silences, turns))
		}
	}
	slices.SortStableFunc(all, func(x, y Alert) int {
		if r := rank(x) - rank(y); r != 0 {
			return r
		}
		return strings.Compare(x.Name+x.Environment+x.Stamp, y.Name+y.Environment+y.Stamp)
	})
	return all, nil
}

func rank(a Alert) int {
	n := map[string]int{resource.Page: 0, resource.Ticket: 2, resource.Info: 4}[a.Severity]
	if a.State != rules.StateFiring.String() {
		n += 10
	}
	return n
}

func (a *Alerts) shown(found *rules.Alert, silences []Silence, turns []resource.OnCall) Alert {
	l := found.Labels.Map()
	one := Alert{
		Name: l[model.AlertNameLabel], State: found.State.String(), Severity: l["severity"], Environment: l["environment"], Stamp: l["stamp"],
		Summary: found.Annotations.Get("summary"), Runbook: a.runbook(found.Annotations.Map()), Labels: l, Value: found.Value, Since: found.ActiveAt.UTC(),
	}
	now := a.Now()
	for _, s := range silences {
		if s.ActiveAt(now) && s.covers(l) {
			one.Silence = s.ID
		}
	}
	one.OnCall = onCall(turns, l)
	return one
}

// runbook is where it says what to do about an alert.
func (a *Alerts) runbook(annotations map[string]string) string {
	if url := annotations["runbook_url"]; url != "" {
		return url
	}
	if name := annotations["runbook"]; name != "" {
		return a.Address + "/runbooks/" + name
	}
	return ""
}

// onCall is who answers for an alert with these labels: of several that match,
// the one that says most.
func onCall(turns []resource.OnCall, l map[string]string) string {
	name, most := "", -1
	for _, o := range turns {
		if o.Status != nil && covers(o.Spec.Match, l) && len(o.Spec.Match) > most {
			name, most = o.Status.Now.Name, len(o.Spec.Match)
		}
	}
	return name
}

// covers reports whether labels are as a match wants them; a value may name
// several, a|b.
func covers(match, l map[string]string) bool {
	for name, wanted := range match {
		if !slices.Contains(strings.Split(wanted, "|"), l[name]) {
			return false
		}
	}
	return true
}

// standing is how the rules of a group are.
func (a *Alerts) standing(group string) resource.AlertRuleStatus {
	a.mu.Lock()
	manager, reload := a.manager, a.reload
	a.mu.Unlock()
	status := resource.AlertRuleStatus{State: "ok", Problem: reload}
	if manager == nil {
		return status
	}
	for _, g := range manager.RuleGroups() {
		if g.Name() != group {
			continue
		}
		for _, r := range g.Rules() {
			if err := r.LastError(); err != nil {
				status.State, status.Problem = "failing", err.Error()
			}
		}
		for _, r := range g.AlertingRules() {
			status.Firing += len(r.ActiveAlerts())
			if s := r.State(); status.State != "failing" && s != rules.StateInactive && s != rules.StateUnknown {
				status.State = s.String()
			}
		}
	}
	return status
}
