package alert

import (
	"context"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/monitor"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// Rules are those that people have declared, and how each stands.
func (a *Alerts) Rules(ctx context.Context) ([]resource.AlertRule, error) {
	all, err := listed[resource.AlertRuleSpec, resource.AlertRuleStatus](ctx, a.DB, resource.KindAlertRule)
	for i := range all {
		status := a.standing(ownGroup + "-" + all[i].Metadata.Name)
		all[i].Status = &status
	}
	return all, err
}

// Rule is one of them.
func (a *Alerts) Rule(ctx context.Context, name string) (resource.AlertRule, error) {
	r, err := one[resource.AlertRuleSpec, resource.AlertRuleStatus](ctx, a.DB, resource.KindAlertRule, name)
	status := a.standing(ownGroup + "-" + name)
	r.Status = &status
	return r, err
}

// PutRule creates or replaces a rule.
func (a *Alerts) PutRule(ctx context.Context, actor access.Actor, name string, spec resource.AlertRuleSpec, ifMatch string, dryRun bool) (resource.AlertRule, error) {
	if err := spec.Check(); err != nil {
		return resource.AlertRule{}, err
	}
	if err := monitor.CheckQuery(spec.Expr); err != nil {
		return resource.AlertRule{}, problem.Of(err).At("spec.expr")
	}
	if err := checkTemplates(spec); err != nil {
		return resource.AlertRule{}, err
	}
	return put[resource.AlertRuleSpec, resource.AlertRuleStatus](ctx, a, actor, declaration[resource.AlertRuleSpec]{kind: resource.KindAlertRule, name: name, ifMatch: ifMatch, spec: spec, shown: spec, dryRun: dryRun})
}

// hidden stands for a secret that is not shown; sent back, it leaves the secret
// as it is.
const hidden = "***"

// secretsOf are the places of a receiver's secrets.
func secretsOf(s *resource.ReceiverSpec) []*string {
	switch {
	case s.Webhook != nil:
		return []*string{&s.Webhook.Token}
	case s.Email != nil:
		return []*string{&s.Email.Password}
	case s.Chat != nil:
		return []*string{&s.Chat.URL}
	case s.Alertmanager != nil:
		return []*string{&s.Alertmanager.Token}
	}
	return nil
}

// covered is a receiver without its secrets.
func covered(s resource.ReceiverSpec) resource.ReceiverSpec {
	s = cloned(s)
	for _, secret := range secretsOf(&s) {
		if *secret != "" {
			*secret = hidden
		}
	}
	return s
}

// cloned shares nothing that a change of the copy would change.
func cloned(s resource.ReceiverSpec) resource.ReceiverSpec {
	if s.Webhook != nil {
		one := *s.Webhook
		s.Webhook = &one
	}
	if s.Email != nil {
		one := *s.Email
		s.Email = &one
	}
	if s.Chat != nil {
		one := *s.Chat
		s.Chat = &one
	}
	if s.Alertmanager != nil {
		one := *s.Alertmanager
		s.Alertmanager = &one
	}
	return s
}

// Receivers are all there are, without their secrets unless they are asked for.
func (a *Alerts) Receivers(ctx context.Context, actor access.Actor, secrets bool) ([]resource.Receiver, error) {
	all, err := listed[resource.ReceiverSpec, resource.ReceiverStatus](ctx, a.DB, resource.KindReceiver)
	if err == nil && secrets {
		err = a.Audit.Around(ctx, audit.Entry{Actor: actor.Name, Action: "receivers.secrets", Object: "*"}, func(*audit.Entry) error { return nil })
	}
	for i := range all {
		status := a.outcome(all[i].Metadata.Name)
		all[i].Status = &status
		if !secrets {
			all[i].Spec = covered(all[i].Spec)
		}
	}
	return all, err
}

// Receiver is one of them, without its secrets.
func (a *Alerts) Receiver(ctx context.Context, name string) (resource.Receiver, error) {
	r, err := one[resource.ReceiverSpec, resource.ReceiverStatus](ctx, a.DB, resource.KindReceiver, name)
	status := a.outcome(name)
	r.Spec, r.Status = covered(r.Spec), &status
	return r, err
}

// PutReceiver creates or replaces a receiver. A secret that is sent as *** stays.
func (a *Alerts) PutReceiver(ctx context.Context, actor access.Actor, name string, spec resource.ReceiverSpec, ifMatch string, dryRun bool) (resource.Receiver, error) {
	spec = cloned(spec)
	if err := a.keepSecrets(ctx, name, &spec); err != nil {
		return resource.Receiver{}, err
	}
	if err := spec.Check(); err != nil {
		return resource.Receiver{}, err
	}
	r, err := put[resource.ReceiverSpec, resource.ReceiverStatus](ctx, a, actor, declaration[resource.ReceiverSpec]{kind: resource.KindReceiver, name: name, ifMatch: ifMatch, spec: spec, shown: covered(spec), dryRun: dryRun})
	r.Spec = covered(r.Spec)
	return r, err
}

// keepSecrets puts stored secrets where hidden ones were sent.
func (a *Alerts) keepSecrets(ctx context.Context, name string, spec *resource.ReceiverSpec) error {
	for i, secret := range secretsOf(spec) {
		if *secret != hidden {
			continue
		}
		stored, err := one[resource.ReceiverSpec, resource.ReceiverStatus](ctx, a.DB, resource.KindReceiver, name)
		if err != nil && !problem.Is(err, problem.NotFound) {
			return err
		}
		before := secretsOf(&stored.Spec)
		if len(before) <= i || *before[i] == "" {
			return problem.New(problem.Invalid, "there is no stored secret that *** could stand for").At("spec")
		}
		*secret = *before[i]
	}
	return nil
}

// OnCalls are who answers for what, and whose turn it is.
func (a *Alerts) OnCalls(ctx context.Context) ([]resource.OnCall, error) {
	all, err := listed[resource.OnCallSpec, resource.OnCallStatus](ctx, a.DB, resource.KindOnCall)
	for i := range all {
		all[i] = a.turn(all[i])
	}
	return all, err
}

func (a *Alerts) turn(o resource.OnCall) resource.OnCall {
	if o.Metadata.CreatedAt != nil {
		status := o.Spec.Now(a.Now(), *o.Metadata.CreatedAt)
		o.Status = &status
	}
	return o
}

// OnCall is one of them.
func (a *Alerts) OnCall(ctx context.Context, name string) (resource.OnCall, error) {
	o, err := one[resource.OnCallSpec, resource.OnCallStatus](ctx, a.DB, resource.KindOnCall, name)
	return a.turn(o), err
}

// PutOnCall creates or replaces who is on call.
func (a *Alerts) PutOnCall(ctx context.Context, actor access.Actor, name string, spec resource.OnCallSpec, ifMatch string, dryRun bool) (resource.OnCall, error) {
	if err := spec.Check(); err != nil {
		return resource.OnCall{}, err
	}
	o, err := put[resource.OnCallSpec, resource.OnCallStatus](ctx, a, actor, declaration[resource.OnCallSpec]{kind: resource.KindOnCall, name: name, ifMatch: ifMatch, spec: spec, shown: spec, dryRun: dryRun})
	return a.turn(o), err
}
