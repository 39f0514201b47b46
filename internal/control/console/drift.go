package console

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/drift"
	"github.com/slipway/slipway/internal/control/environment"
	"github.com/slipway/slipway/internal/resource"
)

// Drift shows where what is so is not what is declared.
type Drift interface {
	Findings(environment string) drift.Page
	Reports() []drift.Report
	Devices(environment string) []drift.Rollup
	Parity(ctx context.Context, from, to string) (drift.Report, error)
	Accept(ctx context.Context, actor access.Actor, id, environment string, of drift.AcceptOf) (drift.Acceptance, error)
	AcceptParity(ctx context.Context, actor access.Actor, from, to, path string, of drift.AcceptOf) (drift.Acceptance, error)
}

// Derivations say where what environments are comes from.
type Derivations interface {
	Get(ctx context.Context, name string) (resource.Environment, error)
	Derivation(ctx context.Context, name string) (environment.Derivation, error)
}

var (
	driftPage       = newPage("drift.html", "drift_parts.html")
	parityPage      = newPage("parity.html", "drift_parts.html")
	environmentPage = newPage("environment.html", "drift_parts.html")
)

// driftView is every difference, and how alike neighbours are.
type driftView struct {
	base
	drift.Page
	Reports []parityView
	Devices []drift.Rollup
	Open    int
}

// parityView is a report as a card shows it.
type parityView struct {
	drift.Report
	Percent float64
	Tone    string
}

func parityOf(r drift.Report) parityView {
	v := parityView{Report: r, Percent: 100 * r.Score, Tone: "ok"}
	switch {
	case r.Score < 0.8:
		v.Tone = "bad"
	case r.Score < 0.95:
		v.Tone = "warn"
	}
	return v
}

func (c *console) drift(w http.ResponseWriter, r *http.Request, s access.Session) error {
	view := driftView{base: inside(r, s, "drift", "Drift and parity"), Page: c.Drift.Findings(""), Devices: c.Drift.Devices("")}
	for _, report := range c.Drift.Reports() {
		view.Reports = append(view.Reports, parityOf(report))
	}
	for _, f := range view.Findings {
		if f.Class.Open() {
			view.Open++
		}
	}
	return show(w, r, http.StatusOK, driftPage, "", view)
}

// comparedView is how alike two environments are, place by place.
type comparedView struct {
	base
	parityView
}

func (c *console) parity(w http.ResponseWriter, r *http.Request, s access.Session) error {
	report, err := c.Drift.Parity(r.Context(), r.PathValue("from"), r.PathValue("to"))
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, parityPage, "", comparedView{inside(r, s, "drift", report.From+" and "+report.To), parityOf(report)})
}

// environmentView is one environment: what it inherits, where it differs, and
// what of it is not as declared.
type environmentView struct {
	base
	resource.Environment
	environment.Derivation
	Page drift.Page
}

func (c *console) environment(w http.ResponseWriter, r *http.Request, s access.Session) error {
	name := r.PathValue("name")
	env, err := c.Derivations.Get(r.Context(), name)
	if err != nil {
		return err
	}
	derivation, err := c.Derivations.Derivation(r.Context(), name)
	if err != nil {
		return err
	}
	title := name
	if env.Spec.DisplayName != "" {
		title = env.Spec.DisplayName
	}
	return show(w, r, http.StatusOK, environmentPage, "", environmentView{inside(r, s, "home", title), env, derivation, c.Drift.Findings(name)})
}

// acceptedFor is how long a difference is accepted where nobody says.
const acceptedFor = 30 * 24 * time.Hour

// answerOf is what a form says of a difference; who sends it answers for it.
func answerOf(actor access.Actor, f url.Values) (drift.AcceptOf, error) {
	life, err := lifeOf(f)
	if life == 0 {
		life = acceptedFor
	}
	return drift.AcceptOf{Owner: actor.Name, Reason: f.Get("reason"), For: life}, err
}

// driftActs are what people can do about a difference.
var driftActs = map[string]act{
	"accept-drift": {named("Accept a difference in {environment}"), "You answer for it, with the value it has now. Another value alarms, and so does this one when the time is over: 30 days, unless you say another.", "Accept", true, []string{askHours}, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			of, err := answerOf(actor, f)
			if err == nil {
				_, err = c.Drift.Accept(ctx, actor, f.Get("difference"), f.Get("environment"), of)
			}
			return err
		}},
	"accept-parity": {named("Accept that {from} and {to} differ"), "You answer for it, with the values it has now. Other values count again, and so do these when the time is over: 30 days, unless you say another.", "Accept", true, []string{askHours}, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			of, err := answerOf(actor, f)
			if err == nil {
				_, err = c.Drift.AcceptParity(ctx, actor, f.Get("from"), f.Get("to"), f.Get("path"), of)
			}
			return err
		}},
}
