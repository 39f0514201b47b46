package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

func quoteMeta(s string) string { return regexp.QuoteMeta(s) }

// maxWaiting bounds the batches that wait for Alertmanagers elsewhere.
const maxWaiting = 256

// kindOf is what sort of receiver one is.
func kindOf(s resource.ReceiverSpec) string {
	switch {
	case s.Webhook != nil:
		return "webhook"
	case s.Email != nil:
		return "email"
	case s.Chat != nil:
		return "chat"
	}
	return "alertmanager"
}

// outgoing is an alert in the words of Alertmanager's API.
type outgoing struct {
	Status       string         `json:"status,omitempty"`
	Labels       model.LabelSet `json:"labels"`
	Annotations  model.LabelSet `json:"annotations"`
	StartsAt     time.Time      `json:"startsAt"`
	EndsAt       time.Time      `json:"endsAt"`
	GeneratorURL string         `json:"generatorURL"`
	Fingerprint  string         `json:"fingerprint,omitempty"`
}

// message is what a receiver is told at a time, in the form in which
// Alertmanager tells webhooks.
type message struct {
	Version           string         `json:"version"`
	GroupKey          string         `json:"groupKey"`
	TruncatedAlerts   int            `json:"truncatedAlerts"`
	Status            string         `json:"status"`
	Receiver          string         `json:"receiver"`
	GroupLabels       model.LabelSet `json:"groupLabels"`
	CommonLabels      model.LabelSet `json:"commonLabels"`
	CommonAnnotations model.LabelSet `json:"commonAnnotations"`
	ExternalURL       string         `json:"externalURL"`
	Alerts            []outgoing     `json:"alerts"`
}

// maxInMessage bounds the alerts of a message.
const maxInMessage = 100

// compose makes a message of a group of alerts.
func compose(receiver, groupKey, external string, group model.LabelSet, all []outgoing) message {
	m := message{Version: "4", GroupKey: groupKey, Status: "resolved", Receiver: receiver, GroupLabels: group, ExternalURL: external}
	for _, one := range all {
		if one.Status == "firing" {
			m.Status = "firing"
		}
	}
	m.CommonLabels, m.CommonAnnotations = common(all, func(o outgoing) model.LabelSet { return o.Labels }), common(all, func(o outgoing) model.LabelSet { return o.Annotations })
	if len(all) > maxInMessage {
		m.TruncatedAlerts = len(all) - maxInMessage
		all = all[:maxInMessage]
	}
	m.Alerts = all
	return m
}

// common is what all alerts have alike.
func common(all []outgoing, of func(outgoing) model.LabelSet) model.LabelSet {
	alike := model.LabelSet{}
	for i, one := range all {
		if i == 0 {
			alike = of(one).Clone()
			continue
		}
		for name, value := range alike {
			if of(one)[name] != value {
				delete(alike, name)
			}
		}
	}
	return alike
}

// subject is a message in one line.
func (m message) subject() string {
	firing := 0
	for _, one := range m.Alerts {
		if one.Status == "firing" {
			firing++
		}
	}
	state := fmt.Sprintf("FIRING:%d", firing)
	if m.Status == "resolved" {
		state = "RESOLVED"
	}
	what := []string{string(m.CommonLabels["alertname"])}
	for _, name := range []model.LabelName{"environment", "stamp"} {
		if v := m.CommonLabels[name]; v != "" {
			what = append(what, string(v))
		}
	}
	return fmt.Sprintf("[%s] %s", state, strings.Join(slices.DeleteFunc(what, func(s string) bool { return s == "" }), " "))
}

// text is a message for people.
func (m message) text() string {
	var text strings.Builder
	fmt.Fprintln(&text, m.subject())
	for _, one := range m.Alerts {
		fmt.Fprintf(&text, "\n%s: %s\n", strings.ToUpper(one.Status), one.Annotations["summary"])
		if d := one.Annotations["description"]; d != "" {
			fmt.Fprintln(&text, d)
		}
		fmt.Fprintf(&text, "severity %s, since %s\n", one.Labels["severity"], one.StartsAt.UTC().Format(time.RFC3339))
		for _, line := range []struct {
			word string
			name model.LabelName
		}{{"what to do", "runbook_url"}, {"on call", "on_call"}} {
			if v := one.Annotations[line.name]; v != "" {
				fmt.Fprintf(&text, "%s: %s\n", line.word, v)
			}
		}
	}
	if m.TruncatedAlerts > 0 {
		fmt.Fprintf(&text, "\nand %d more\n", m.TruncatedAlerts)
	}
	return text.String()
}

// sender tells one receiver, for Alertmanager's dispatcher.
type sender struct {
	of       *Alerts
	receiver string
}

// Notify is of Alertmanager.
func (s sender) Notify(ctx context.Context, all ...*amalert.Alert) notify.NotifyVerdict {
	key, _ := notify.GroupKey(ctx)
	group, _ := notify.GroupLabels(ctx)
	turns, err := s.of.OnCalls(ctx)
	if err != nil {
		return notify.Retry(0, err, notify.DefaultReason)
	}
	var out []outgoing
	for _, one := range all {
		o := outgoing{Status: "firing", Labels: one.Labels, Annotations: one.Annotations.Clone(), StartsAt: one.StartsAt, EndsAt: one.EndsAt, GeneratorURL: one.GeneratorURL, Fingerprint: one.Fingerprint().String()}
		if one.Resolved() {
			o.Status = "resolved"
		}
		if who := onCall(turns, plain(one.Labels)); who != "" {
			o.Annotations["on_call"] = model.LabelValue(who)
		}
		out = append(out, o)
	}
	err = s.of.tell(ctx, s.receiver, compose(s.receiver, key, s.of.Address, group, out))
	switch {
	case err == nil:
		return notify.Success()
	case problem.Is(err, problem.Invalid), problem.Is(err, problem.NotFound):
		return notify.Unrecoverable(err, notify.DefaultReason)
	}
	return notify.Retry(0, err, notify.DefaultReason)
}

func plain(l model.LabelSet) map[string]string {
	all := map[string]string{}
	for k, v := range l {
		all[string(k)] = string(v)
	}
	return all
}

// tell sends a message to a receiver, and notes how that went.
func (a *Alerts) tell(ctx context.Context, receiver string, m message) error {
	r, err := one[resource.ReceiverSpec, resource.ReceiverStatus](ctx, a.DB, resource.KindReceiver, receiver)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	switch s := r.Spec; {
	case s.Webhook != nil:
		err = a.post(ctx, s.Webhook.URL, s.Webhook.Token, m)
	case s.Chat != nil:
		err = a.post(ctx, s.Chat.URL, "", map[string]string{"text": m.text()})
	case s.Email != nil:
		err = a.mail(ctx, *s.Email, m)
	case s.Alertmanager != nil:
		err = a.post(ctx, alertsAt(s.Alertmanager.URL), s.Alertmanager.Token, m.Alerts)
	}
	a.note(receiver, err)
	return err
}

func alertsAt(url string) string { return strings.TrimSuffix(url, "/") + "/api/v2/alerts" }

// note keeps how a message to a receiver went.
func (a *Alerts) note(receiver string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o, now := a.outcomes[receiver], a.Now().UTC()
	if err == nil {
		o.Sent, o.SentAt, o.Problem = o.Sent+1, &now, ""
	} else {
		o.Failed, o.Problem = o.Failed+1, problem.Of(err).Message
		a.Logger.Warn("a receiver was not told", "receiver", receiver, "error", err)
	}
	a.outcomes[receiver] = o
}

// outcome is how messages to a receiver went.
func (a *Alerts) outcome(receiver string) resource.ReceiverStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.outcomes[receiver]
}

// post sends JSON. The address is no part of errors: it may be a secret.
func (a *Alerts) post(ctx context.Context, url, token string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", url, bytes.NewReader(text))
	if err != nil {
		return problem.New(problem.Invalid, "the address of the receiver is no URL")
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := a.client.Do(req)
	if err != nil {
		return problem.New(problem.NotReady, "the receiver did not answer: %s", withoutURL(err))
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10))
	switch {
	case answer.StatusCode < 300:
		return nil
	case answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode >= 500:
		return problem.New(problem.NotReady, "the receiver answered %s", answer.Status)
	}
	return problem.New(problem.Invalid, "the receiver answered %s", answer.Status)
}

// passOn tells Alertmanagers elsewhere of every alert.
func (a *Alerts) passOn(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case batch := <-a.raw:
			receivers, err := listed[resource.ReceiverSpec, resource.ReceiverStatus](ctx, a.DB, resource.KindReceiver)
			if err != nil {
				a.Logger.Error("receivers could not be read", "error", err)
				continue
			}
			for _, r := range receivers {
				a.passOnTo(ctx, r, batch)
			}
		}
	}
}

func (a *Alerts) passOnTo(ctx context.Context, r resource.Receiver, batch []outgoing) {
	s := r.Spec
	if s.Alertmanager == nil || s.Disabled {
		return
	}
	wanted := slices.DeleteFunc(slices.Clone(batch), func(o outgoing) bool { return !covers(s.Match, plain(o.Labels)) })
	if len(wanted) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	a.note(r.Metadata.Name, a.post(ctx, alertsAt(s.Alertmanager.URL), s.Alertmanager.Token, wanted))
}
