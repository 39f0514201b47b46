package resource

import (
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// How much an alert matters.
const (
	Page   = "page"   // somebody looks at it now
	Ticket = "ticket" // somebody looks at it in office hours
	Info   = "info"
)

// AlertRuleSpec declares a rule: an expression in PromQL that is looked at again
// and again. Each series it gives is an alert, or is recorded under a name.
type AlertRuleSpec struct {
	Expr        string            `json:"expr" maxLength:"16384" doc:"In PromQL; each series it gives is an alert"`
	Record      string            `json:"record,omitempty" maxLength:"200" doc:"Record what it gives under this name, instead of alerting"`
	Alert       string            `json:"alert,omitempty" maxLength:"100" doc:"What the alert is called; default the rule's own name"`
	For         Span              `json:"for,omitempty" doc:"How long it must be so before anybody is told"`
	Keep        Span              `json:"keepFiringFor,omitempty" doc:"How long it goes on once it is not so any more"`
	Severity    string            `json:"severity,omitempty" doc:"page, ticket or info; default ticket"`
	Summary     string            `json:"summary,omitempty" maxLength:"500" doc:"One sentence; {{ $labels.stamp }} and {{ $value }} stand for what was found"`
	Description string            `json:"description,omitempty" maxLength:"4000"`
	Runbook     string            `json:"runbook,omitempty" maxLength:"2000" doc:"URL of what to do"`
	Labels      map[string]string `json:"labels,omitempty" doc:"Added to each alert or series"`
}

// AlertRuleStatus is what is so of a rule.
type AlertRuleStatus struct {
	State   string `json:"state" doc:"ok, pending, firing or failing"`
	Firing  int    `json:"firing" doc:"Alerts"`
	Problem string `json:"problem,omitempty" doc:"Why it cannot be looked at"`
}

// ReceiverSpec declares who is told of alerts, and how.
type ReceiverSpec struct {
	Webhook      *WebhookReceiver      `json:"webhook,omitempty" doc:"JSON as Alertmanager sends it"`
	Email        *EmailReceiver        `json:"email,omitempty"`
	Chat         *ChatReceiver         `json:"chat,omitempty" doc:"An incoming webhook as Slack, Mattermost and others have it"`
	Alertmanager *AlertmanagerReceiver `json:"alertmanager,omitempty" doc:"Every alert as it is, for that Alertmanager to group and silence"`

	Match       map[string]string `json:"match,omitempty" doc:"Only alerts with these labels, such as severity: page; values may be given as a|b"`
	GroupBy     []string          `json:"groupBy,omitempty" doc:"Alerts equal in these labels go in one message; default alertname, environment, stamp"`
	GroupWait   Span              `json:"groupWait,omitempty" doc:"How long the first message waits for others like it; default 10s"`
	GroupEvery  Span              `json:"groupInterval,omitempty" doc:"How long until news of a group that was told of; default 1m"`
	RepeatEvery Span              `json:"repeatInterval,omitempty" doc:"How long until a group is told of once more; default 4h"`
	OnlyFiring  bool              `json:"onlyFiring,omitempty" doc:"Say nothing when an alert is over"`
	Disabled    bool              `json:"disabled,omitempty"`
}

// WebhookReceiver is a program.
type WebhookReceiver struct {
	URL   string `json:"url"`
	Token string `json:"token,omitempty" maxLength:"2000" doc:"Sent as a bearer token" secret:"true"`
}

// EmailReceiver is people with mailboxes.
type EmailReceiver struct {
	Server   string   `json:"server" doc:"host:port; TLS from the start on port 465, STARTTLS elsewhere"`
	From     string   `json:"from"`
	To       []string `json:"to"`
	Username string   `json:"username,omitempty" maxLength:"200"`
	Password string   `json:"password,omitempty" maxLength:"2000" secret:"true"`
	Insecure bool     `json:"insecure,omitempty" doc:"Send though the server offers no TLS"`
}

// ChatReceiver is a channel.
type ChatReceiver struct {
	URL string `json:"url" doc:"A secret: whoever has it can write there" secret:"true"`
}

// AlertmanagerReceiver is an Alertmanager.
type AlertmanagerReceiver struct {
	URL   string `json:"url"`
	Token string `json:"token,omitempty" maxLength:"2000" secret:"true"`
}

// ReceiverStatus is what is so of a receiver.
type ReceiverStatus struct {
	Sent    uint64     `json:"sent" doc:"Messages since control started"`
	Failed  uint64     `json:"failed" doc:"Messages that were not taken"`
	SentAt  *time.Time `json:"sentAt,omitempty"`
	Problem string     `json:"problem,omitempty" doc:"Why the last one was not taken"`
}

// OnCallSpec declares who answers for what, in turns.
type OnCallSpec struct {
	Match  map[string]string `json:"match,omitempty" doc:"The alerts it is about, by label; none means all"`
	People []OnCallPerson    `json:"people" doc:"In the order of their turns"`
	From   time.Time         `json:"from,omitzero" doc:"When the first person's first turn begins; default when it was declared"`
	Turn   Span              `json:"turn,omitempty" doc:"How long a turn is; default 7d"`
}

// OnCallPerson is somebody who can be called.
type OnCallPerson struct {
	Name    string `json:"name" maxLength:"100"`
	Contact string `json:"contact,omitempty" maxLength:"200" doc:"Telephone, address: for people to read"`
}

// OnCallStatus is whose turn it is.
type OnCallStatus struct {
	Now   OnCallPerson `json:"now"`
	Next  OnCallPerson `json:"next"`
	Until time.Time    `json:"until"`
}

// Now is whose turn it is at a time, whose is next, and when that begins.
func (s OnCallSpec) Now(at, declared time.Time) OnCallStatus {
	from, turn := s.From, s.Turn.Duration(7*24*time.Hour)
	if from.IsZero() {
		from = declared
	}
	if len(s.People) == 0 || turn <= 0 {
		return OnCallStatus{}
	}
	n := at.Sub(from) / turn
	if at.Before(from) {
		n--
	}
	person := func(n time.Duration) OnCallPerson {
		i := int(n) % len(s.People)
		if i < 0 {
			i += len(s.People)
		}
		return s.People[i]
	}
	return OnCallStatus{Now: person(n), Next: person(n + 1), Until: from.Add((n + 1) * turn).UTC()}
}

// The kinds of monitoring as the API serves them.
type (
	AlertRule = Object[AlertRuleSpec, AlertRuleStatus]
	Receiver  = Object[ReceiverSpec, ReceiverStatus]
	OnCall    = Object[OnCallSpec, OnCallStatus]
)

// The limits of what is declared.
const (
	maxLabels = 20
	maxPeople = 100
	maxYear   = 366 * 24 * time.Hour
)

var (
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]{0,99}$`)
	alertName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,99}$`)
	recordName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]{0,199}$`)
)

func checkLabels(labels map[string]string, field string) error {
	if len(labels) > maxLabels {
		return problem.New(problem.Invalid, "at most %d labels, not %d", maxLabels, len(labels)).At(field)
	}
	for name, value := range labels {
		if !labelName.MatchString(name) || strings.HasPrefix(name, "__") || len(value) > 1000 {
			return problem.New(problem.Invalid, "a label's name has letters, digits and _, and its value at most 1000 bytes, unlike %q", name).At(field)
		}
	}
	return nil
}

// Check holds a rule against what needs no PromQL.
func (s AlertRuleSpec) Check() error {
	switch {
	case strings.TrimSpace(s.Expr) == "":
		return problem.New(problem.Invalid, "an expression in PromQL is needed").At("spec.expr")
	case s.Record != "" && !recordName.MatchString(s.Record):
		return problem.New(problem.Invalid, "a metric's name has letters, digits, _ and :, unlike %q", s.Record).At("spec.record")
	case s.Record != "" && (s.Alert != "" || s.For != "" || s.Keep != "" || s.Severity != "" || s.Summary != ""):
		return problem.New(problem.Invalid, "a rule records or alerts, not both").At("spec.record")
	case s.Alert != "" && !alertName.MatchString(s.Alert):
		return problem.New(problem.Invalid, "an alert's name begins with a letter and has letters, digits and ._-, unlike %q", s.Alert).At("spec.alert")
	case s.Severity != "" && !slices.Contains([]string{Page, Ticket, Info}, s.Severity):
		return problem.New(problem.Invalid, "a severity is page, ticket or info, not %q", s.Severity).At("spec.severity")
	case s.Runbook != "" && CheckURL(s.Runbook) != nil:
		return problem.Of(CheckURL(s.Runbook)).At("spec.runbook")
	}
	for field, span := range map[string]Span{"spec.for": s.For, "spec.keepFiringFor": s.Keep} {
		if err := span.check(field, 0, maxYear); err != nil {
			return err
		}
	}
	return checkLabels(s.Labels, "spec.labels")
}

// Check holds a receiver against the rules.
func (s ReceiverSpec) Check() error {
	kinds := 0
	for _, set := range []bool{s.Webhook != nil, s.Email != nil, s.Chat != nil, s.Alertmanager != nil} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		return problem.New(problem.Invalid, "a receiver is one of webhook, email, chat and alertmanager").At("spec")
	}
	var err error
	switch {
	case s.Webhook != nil:
		err = at("spec.webhook.url", CheckURL(s.Webhook.URL))
	case s.Chat != nil:
		err = at("spec.chat.url", CheckURL(s.Chat.URL))
	case s.Alertmanager != nil:
		err = at("spec.alertmanager.url", CheckURL(s.Alertmanager.URL))
	default:
		err = s.Email.check()
	}
	if err != nil {
		return err
	}
	for field, span := range map[string]Span{"spec.groupWait": s.GroupWait, "spec.groupInterval": s.GroupEvery, "spec.repeatInterval": s.RepeatEvery} {
		if err := span.check(field, time.Second, 31*24*time.Hour); err != nil {
			return err
		}
	}
	if len(s.GroupBy) > maxLabels || slices.ContainsFunc(s.GroupBy, func(l string) bool { return !labelName.MatchString(l) }) {
		return problem.New(problem.Invalid, "groupBy names at most %d labels", maxLabels).At("spec.groupBy")
	}
	return checkLabels(s.Match, "spec.match")
}

func at(field string, err error) error {
	if err == nil {
		return nil
	}
	return problem.Of(err).At(field)
}

func (e EmailReceiver) check() error {
	host, port, found := strings.Cut(e.Server, ":")
	if !found || host == "" || port == "" || strings.ContainsAny(e.Server, " /@") {
		return problem.New(problem.Invalid, "a server reads host:port, not %q", e.Server).At("spec.email.server")
	}
	if len(e.To) == 0 || len(e.To) > maxPeople {
		return problem.New(problem.Invalid, "name 1 to %d addresses", maxPeople).At("spec.email.to")
	}
	for _, address := range append([]string{e.From}, e.To...) {
		if parsed, err := mail.ParseAddress(address); err != nil || strings.ContainsAny(address, "\r\n") || parsed.Address == "" {
			return problem.New(problem.Invalid, "an address reads name@example.com, not %q", address).At("spec.email")
		}
	}
	if e.Password != "" && e.Insecure {
		return problem.New(problem.Invalid, "a password is not sent without TLS").At("spec.email.insecure")
	}
	return nil
}

// Check holds who is on call against the rules.
func (s OnCallSpec) Check() error {
	if len(s.People) == 0 || len(s.People) > maxPeople {
		return problem.New(problem.Invalid, "name 1 to %d people", maxPeople).At("spec.people")
	}
	for _, p := range s.People {
		if strings.TrimSpace(p.Name) == "" {
			return problem.New(problem.Invalid, "each person has a name").At("spec.people")
		}
	}
	if err := s.Turn.check("spec.turn", time.Hour, maxYear); err != nil {
		return err
	}
	return checkLabels(s.Match, "spec.match")
}
