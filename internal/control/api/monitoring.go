package api

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/control/alert"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

type listReceivers struct {
	Secrets bool `query:"secrets" doc:"Answer with the receivers' secrets; recorded in the audit log"`
}

type newSilence struct {
	Body struct {
		Match    map[string]string `json:"match" doc:"The alerts it is about, by label; a value may name several, a|b"`
		Reason   string            `json:"reason" minLength:"1" maxLength:"2000"`
		StartsAt *time.Time        `json:"startsAt,omitempty" doc:"Default now"`
		Seconds  int64             `json:"seconds" minimum:"60" maximum:"2678400" doc:"How long"`
	}
}

type testAlert struct {
	Body struct {
		Receiver string `json:"receiver,omitempty" maxLength:"63" doc:"Default all that are not disabled"`
	}
}

// ruleFile is a file of rules as Prometheus reads it.
type ruleFile struct {
	YAML string `json:"yaml" doc:"For rule_files of a Prometheus"`
}

// monitoring registers alerts, what leads to them, and who is told.
func (a *api) monitoring() {
	a.alerts()
	a.alertRules()
	a.receivers()
	a.onCalls()
	a.slos()
}

func (a *api) alerts() {
	route(a, "GET", "/api/v1/alerts", "listAlerts", "What is not as it should be, that which matters most first", func(ctx context.Context, _ *nothing) (*body[list[alert.Alert]], error) {
		all, err := a.Alerts.Active(ctx)
		return listOf(all, ""), err
	})
	route(a, "POST", "/api/v1/alerts/test", "testAlert", "Send an alert that means nothing, and say how receivers took it", func(ctx context.Context, in *testAlert) (*body[list[alert.Tested]], error) {
		all, err := a.Alerts.Test(ctx, actorOf(ctx), in.Body.Receiver)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/alerts/rules", "getRuleFile", "Every rule, shipped or declared, as a file for a Prometheus of one's own", func(ctx context.Context, _ *nothing) (*body[ruleFile], error) {
		text, err := a.Alerts.File(ctx)
		return &body[ruleFile]{ruleFile{string(text)}}, err
	})
	route(a, "GET", "/api/v1/silences", "listSilences", "Silences in force or to come", func(ctx context.Context, _ *nothing) (*body[list[alert.Silence]], error) {
		all, err := a.Alerts.Silences(ctx)
		return listOf(all, ""), err
	})
	route(a, "POST", "/api/v1/silences", "startSilence", "Tell nobody of some alerts for a time", func(ctx context.Context, in *newSilence) (*body[alert.Silence], error) {
		from := time.Time{}
		if in.Body.StartsAt != nil {
			from = *in.Body.StartsAt
		}
		s, err := a.Alerts.Silence(ctx, actorOf(ctx), in.Body.Match, in.Body.Reason, from, time.Duration(in.Body.Seconds)*time.Second)
		return &body[alert.Silence]{s}, err
	})
	route(a, "DELETE", "/api/v1/silences/{id}", "endSilence", "End a silence now", func(ctx context.Context, in *IDRef) (*nothing, error) {
		return &nothing{}, a.Alerts.EndSilence(ctx, actorOf(ctx), in.ID)
	})
}

func (a *api) alertRules() {
	route(a, "GET", "/api/v1/alert-rules", "listAlertRules", "Rules that were declared, in order of name", func(ctx context.Context, _ *nothing) (*body[list[resource.AlertRule]], error) {
		all, err := a.Alerts.Rules(ctx)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/alert-rules/{name}", "getAlertRule", "One rule", func(ctx context.Context, in *Named) (*tagged[resource.AlertRule], error) {
		r, err := a.Alerts.Rule(ctx, in.Name)
		return &tagged[resource.AlertRule]{quote(r.Metadata.ETag), r}, err
	})
	route(a, "PUT", "/api/v1/alert-rules/{name}", "putAlertRule", "Create or replace a rule", func(ctx context.Context, in *putNamed[declared[resource.AlertRuleSpec]]) (*tagged[resource.AlertRule], error) {
		r, err := a.Alerts.PutRule(ctx, actorOf(ctx), in.Name, in.Body.Spec, in.IfMatch, in.DryRun)
		return &tagged[resource.AlertRule]{quote(r.Metadata.ETag), r}, err
	})
	a.drop("alert-rules", "deleteAlertRule", "Delete a rule", resource.KindAlertRule)
}

// drop registers how a resource of monitoring is deleted.
func (a *api) drop(plural, id, summary, kind string) {
	route(a, "DELETE", "/api/v1/"+plural+"/{name}", id, summary, func(ctx context.Context, in *dropNamed) (*nothing, error) {
		return &nothing{}, a.Alerts.Delete(ctx, actorOf(ctx), kind, in.Name, in.IfMatch)
	})
}

func (a *api) receivers() {
	route(a, "GET", "/api/v1/receivers", "listReceivers", "Who is told of alerts, and how that went", func(ctx context.Context, in *listReceivers) (*body[list[resource.Receiver]], error) {
		all, err := a.Alerts.Receivers(ctx, actorOf(ctx), in.Secrets)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/receivers/{name}", "getReceiver", "One receiver", func(ctx context.Context, in *Named) (*tagged[resource.Receiver], error) {
		r, err := a.Alerts.Receiver(ctx, in.Name)
		return &tagged[resource.Receiver]{quote(r.Metadata.ETag), r}, err
	})
	route(a, "PUT", "/api/v1/receivers/{name}", "putReceiver", "Create or replace a receiver; secrets sent as *** stay", func(ctx context.Context, in *putNamed[declared[resource.ReceiverSpec]]) (*tagged[resource.Receiver], error) {
		r, err := a.Alerts.PutReceiver(ctx, actorOf(ctx), in.Name, in.Body.Spec, in.IfMatch, in.DryRun)
		return &tagged[resource.Receiver]{quote(r.Metadata.ETag), r}, err
	})
	a.drop("receivers", "deleteReceiver", "Delete a receiver", resource.KindReceiver)
}

func (a *api) onCalls() {
	route(a, "GET", "/api/v1/on-calls", "listOnCalls", "Who answers for what, and whose turn it is", func(ctx context.Context, _ *nothing) (*body[list[resource.OnCall]], error) {
		all, err := a.Alerts.OnCalls(ctx)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/on-calls/{name}", "getOnCall", "Who answers for one thing", func(ctx context.Context, in *Named) (*tagged[resource.OnCall], error) {
		o, err := a.Alerts.OnCall(ctx, in.Name)
		return &tagged[resource.OnCall]{quote(o.Metadata.ETag), o}, err
	})
	route(a, "PUT", "/api/v1/on-calls/{name}", "putOnCall", "Say who answers for what", func(ctx context.Context, in *putNamed[declared[resource.OnCallSpec]]) (*tagged[resource.OnCall], error) {
		o, err := a.Alerts.PutOnCall(ctx, actorOf(ctx), in.Name, in.Body.Spec, in.IfMatch, in.DryRun)
		return &tagged[resource.OnCall]{quote(o.Metadata.ETag), o}, err
	})
	a.drop("on-calls", "deleteOnCall", "Delete who answers for one thing", resource.KindOnCall)
}

func (a *api) slos() {
	route(a, "GET", "/api/v1/slos", "listSLOs", "SLOs, declared or shipped, and how they stand in each environment", func(ctx context.Context, _ *nothing) (*body[list[resource.SLO]], error) {
		all, err := a.Alerts.SLOs(ctx)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/slos/{name}", "getSLO", "One SLO", func(ctx context.Context, in *Named) (*tagged[resource.SLO], error) {
		s, err := a.Alerts.SLO(ctx, in.Name)
		return &tagged[resource.SLO]{quote(s.Metadata.ETag), s}, err
	})
	route(a, "PUT", "/api/v1/slos/{name}", "putSLO", "Create or replace an SLO; one with the name of a shipped one takes its place", func(ctx context.Context, in *putNamed[declared[resource.SLOSpec]]) (*tagged[resource.SLO], error) {
		if in.Body.Spec.Objective == 0 {
			return nil, problem.New(problem.Invalid, "an objective is a share from 0.5 to below 1, such as 0.999").At("spec.objective")
		}
		s, err := a.Alerts.PutSLO(ctx, actorOf(ctx), in.Name, in.Body.Spec, in.IfMatch, in.DryRun)
		return &tagged[resource.SLO]{quote(s.Metadata.ETag), s}, err
	})
	a.drop("slos", "deleteSLO", "Delete an SLO; a shipped one by its name is there again", resource.KindSLO)
}
