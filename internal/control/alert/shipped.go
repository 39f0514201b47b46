package alert

import (
	_ "embed"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"go.yaml.in/yaml/v3"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

//go:embed rules.yaml
var shippedText []byte

// shipped are the rules that come with Slipway.
func shipped() []rulefmt.RuleGroup {
	var all rulefmt.RuleGroups
	if err := yaml.Unmarshal(shippedText, &all); err != nil {
		panic(fmt.Sprintf("the shipped rules cannot be read: %s", err)) // a test reads them
	}
	return all.Groups
}

// Names of groups of rules.
const (
	ownGroup = "own"
	sloGroup = "slo"
)

// ownGroups are the rules that people have declared, each in a group of its own,
// so that one that cannot be looked at keeps no other from it.
func ownGroups(all []resource.AlertRule) (groups []rulefmt.RuleGroup) {
	for _, r := range all {
		groups = append(groups, rulefmt.RuleGroup{
			Name: ownGroup + "-" + r.Metadata.Name, Interval: model.Duration(15 * time.Second), Limit: maxAlerts, Rules: []rulefmt.Rule{ruleOf(r.Metadata.Name, r.Spec)},
		})
	}
	return groups
}

// maxAlerts bounds the alerts of one declared rule.
const maxAlerts = 1000

func ruleOf(name string, s resource.AlertRuleSpec) rulefmt.Rule {
	r := rulefmt.Rule{Record: s.Record, Expr: s.Expr, Labels: map[string]string{}}
	for k, v := range s.Labels {
		r.Labels[k] = v
	}
	if s.Record != "" {
		return r
	}
	r.Alert, r.For, r.KeepFiringFor = s.Alert, model.Duration(s.For.Duration(0)), model.Duration(s.Keep.Duration(0))
	if r.Alert == "" {
		r.Alert = name
	}
	severity := s.Severity
	if severity == "" {
		severity = resource.Ticket
	}
	r.Labels["severity"] = severity
	r.Annotations = map[string]string{}
	for k, v := range map[string]string{"summary": s.Summary, "description": s.Description, "runbook_url": s.Runbook} {
		if v != "" {
			r.Annotations[k] = v
		}
	}
	return r
}

// checkTemplates refuses labels and annotations that cannot be filled in.
func checkTemplates(s resource.AlertRuleSpec) error {
	r := ruleOf("rule", s)
	node := rulefmt.RuleNode{For: r.For, KeepFiringFor: r.KeepFiringFor, Labels: r.Labels, Annotations: r.Annotations}
	node.Expr.SetString(r.Expr)
	if r.Record != "" {
		node.Record.SetString(r.Record)
	} else {
		node.Alert.SetString(r.Alert)
	}
	for _, failure := range r.Validate(node, model.UTF8Validation, parser.NewParser(parser.Options{})) {
		return problem.New(problem.Invalid, "%s", failure.Unwrap()).At("spec")
	}
	return nil
}

// windows are the lengths of time over which an SLO's errors are recorded.
var windows = []time.Duration{5 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour, 24 * time.Hour, 72 * time.Hour}

// errorsOf is the name under which the share of errors over a window is recorded.
func errorsOf(window time.Duration) string {
	return "slo:slipway_errors:share_" + model.Duration(window).String()
}

// BudgetLeft is the name under which what is left of an error budget is recorded.
const BudgetLeft = "slo:slipway_budget:left"

// burn is a pair of windows that must both burn, how fast, and how much that
// matters.
type burn struct {
	long, short time.Duration
	factor      float64
	severity    string
	hold        time.Duration
}

var burns = []burn{
	{time.Hour, 5 * time.Minute, 14.4, resource.Page, 2 * time.Minute},
	{6 * time.Hour, 30 * time.Minute, 6, resource.Page, 15 * time.Minute},
	{24 * time.Hour, 2 * time.Hour, 3, resource.Ticket, time.Hour},
	{72 * time.Hour, 6 * time.Hour, 1, resource.Ticket, 3 * time.Hour},
}

// sloGroups are the rules of SLOs: the share of errors over each window, what is
// left of the budget, and alerts where it is used up too fast.
func sloGroups(all []resource.SLO) (groups []rulefmt.RuleGroup) {
	for _, s := range all {
		fast := rulefmt.RuleGroup{Name: sloGroup + "-" + s.Metadata.Name, Interval: model.Duration(30 * time.Second), Limit: maxAlerts}
		slow := rulefmt.RuleGroup{Name: sloGroup + "-slow-" + s.Metadata.Name, Interval: model.Duration(5 * time.Minute), Limit: maxAlerts}
		for _, w := range windows {
			good, total := s.Spec.Queries(w)
			r := rulefmt.Rule{Record: errorsOf(w), Labels: map[string]string{"slo": s.Metadata.Name}, Expr: fmt.Sprintf("clamp_min(1 - ((%s) / ((%s) > 0)), 0)", good, total)}
			if w > 2*time.Hour {
				slow.Rules = append(slow.Rules, r)
			} else {
				fast.Rules = append(fast.Rules, r)
			}
		}
		good, total := s.Spec.Queries(s.Spec.Over())
		slow.Rules = append(slow.Rules, rulefmt.Rule{
			Record: BudgetLeft, Labels: map[string]string{"slo": s.Metadata.Name},
			Expr: fmt.Sprintf("1 - clamp_min(1 - ((%s) / ((%s) > 0)), 0) / %g", good, total, 1-s.Spec.Objective),
		})
		if !s.Spec.Quiet {
			fast.Rules = append(fast.Rules, burnRules(s)...)
		}
		groups = append(groups, fast, slow)
	}
	return groups
}

func burnRules(s resource.SLO) (all []rulefmt.Rule) {
	name := s.Metadata.Name
	for _, b := range burns {
		limit := b.factor * (1 - s.Spec.Objective)
		all = append(all, rulefmt.Rule{
			Alert: "ErrorBudgetBurning", For: model.Duration(b.hold), Labels: map[string]string{"severity": b.severity, "slo": name, "window": model.Duration(b.long).String()},
			Expr: fmt.Sprintf(`%s{slo=%q} > %g and %s{slo=%q} > %g`, errorsOf(b.long), name, limit, errorsOf(b.short), name, limit),
			Annotations: map[string]string{
				"summary": fmt.Sprintf("The error budget of %s {{ with $labels.environment }}in {{ . }} {{ end }}is used up %g times faster than it lasts", name, b.factor),
				"runbook": "error-budget-burning",
			},
		})
	}
	return all
}

// DefaultSLOs are those that are there until somebody declares one by the name.
var DefaultSLOs = []resource.SLO{
	defaultSLO("availability", 0.999, "Of what devices ask for, connections, messages and twins, so much succeeds."),
	defaultSLO("commands", 0.98, "Of methods and commands for devices that are there, so many are answered."),
	defaultSLO("ingest-latency", 0.99, "So many messages are acknowledged within a quarter of a second."),
	defaultSLO("provisioning", 0.99, "Of the steps that bring devices to their stamp, so many succeed at once."),
	defaultSLO("updates", 0.95, "Of devices that a release has reached, so many run it."),
}

func defaultSLO(name string, objective float64, description string) resource.SLO {
	return resource.SLO{
		APIVersion: resource.APIVersion, Kind: resource.KindSLO, Metadata: resource.Metadata{Name: name},
		Spec: resource.SLOSpec{Indicator: name, Objective: objective, Description: description},
	}
}

// withDefaults adds to declared SLOs those that are there anyway.
func withDefaults(declared []resource.SLO) []resource.SLO {
	all := slices.Clone(declared)
	for _, d := range DefaultSLOs {
		if !slices.ContainsFunc(declared, func(s resource.SLO) bool { return s.Metadata.Name == d.Metadata.Name }) {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b resource.SLO) int {
		switch {
		case a.Metadata.Name < b.Metadata.Name:
			return -1
		case a.Metadata.Name > b.Metadata.Name:
			return 1
		}
		return 0
	})
	return all
}

// loader gives the rules manager what there is, by the name of a source.
type loader struct {
	parser  parser.Parser
	sources map[string][]rulefmt.RuleGroup
}

// Load is of the rules manager.
func (l loader) Load(source string, _ bool, _ model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	return &rulefmt.RuleGroups{Groups: l.sources[source]}, nil
}

// Parse is of the rules manager.
func (l loader) Parse(query string) (parser.Expr, error) { return l.parser.ParseExpr(query) }

var _ rules.GroupLoader = loader{}
