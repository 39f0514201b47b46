package console

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/alert"
	"github.com/slipway/slipway/internal/control/incident"
	"github.com/slipway/slipway/internal/control/monitor"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// Alerts tells what is not as it should be, and who is told.
type Alerts interface {
	Active(ctx context.Context) ([]alert.Alert, error)
	Silences(ctx context.Context) ([]alert.Silence, error)
	Silence(ctx context.Context, actor access.Actor, match map[string]string, reason string, from time.Time, length time.Duration) (alert.Silence, error)
	EndSilence(ctx context.Context, actor access.Actor, id string) error
	Test(ctx context.Context, actor access.Actor, receiver string) ([]alert.Tested, error)
	Receivers(ctx context.Context, actor access.Actor, secrets bool) ([]resource.Receiver, error)
	OnCalls(ctx context.Context) ([]resource.OnCall, error)
	SLOs(ctx context.Context) ([]resource.SLO, error)
}

// Metrics answers queries in PromQL.
type Metrics interface {
	Lines(ctx context.Context, expression string, from, to time.Time, step time.Duration) (lines []monitor.Line, more bool, err error)
}

var (
	monitorPage = newPage("monitor.html", "monitornav.html", "chart.html")
	sloPage     = newPage("slos.html", "monitornav.html", "chart.html")
)

// plots are what the page of metrics shows; %s is a matcher of the environment.
var plots = []struct{ id, title, unit, query string }{
	{"connections", "Connected devices", "", `sum by (environment) (slipway_hub_connections{%s})`},
	{"messages", "Messages each second", "", `sum by (environment) (rate(slipway_hub_messages_total{result="ok",%s}[2m]))`},
	{"ack", "Acknowledged within (99 of 100)", "s", `histogram_quantile(0.99, sum by (environment, le) (rate(slipway_hub_ack_seconds_bucket{%s}[5m])))`},
	{"connects", "Connections asked for each second, by result", "", `sum by (result) (rate(slipway_hub_connects_total{%s}[2m]))`},
	{"twins", "Twin requests each second", "", `sum by (operation) (rate(slipway_hub_twin_requests_total{%s}[2m]))`},
	{"methods", "Methods each second, by result", "", `sum by (result) (rate(slipway_hub_methods_total{%s}[5m]))`},
	{"lag", "Records that routes have still to look at", "", `sum by (route, stamp) (slipway_route_lag{%s})`},
	{"updates", "Devices by what became of their update", "", `sum by (state) (slipway_update_devices{group="all",%s})`},
	{"places", "Places taken", "%", `max by (stamp) (slipway_stamp_places_taken{%s} / slipway_stamp_capacity{%[1]s})`},
	{"commit", "Database: commits within (99 of 100)", "s", `histogram_quantile(0.99, sum by (instance, le) (rate(slipway_sql_commit_seconds_bucket{%s}[5m])))`},
	{"memory", "Memory of processes, MB", "", `process_resident_memory_bytes{%s} / 1e6`},
	{"cpu", "Processor time used each second", "s", `rate(process_cpu_seconds_total{%s}[2m])`},
}

// spans are the stretches of time a page may show.
var spans = []struct {
	Name   string
	Length time.Duration
}{{"15m", 15 * time.Minute}, {"1h", time.Hour}, {"6h", 6 * time.Hour}, {"1d", 24 * time.Hour}, {"7d", 7 * 24 * time.Hour}, {"28d", 28 * 24 * time.Hour}}

type monitorView struct {
	base
	Environments []string
	Environment  string
	Span         string
	Spans        []string
	Query        string
	Charts       chartsView
	Live         string
}

type chartsView struct{ Charts []chart }

// looking is what a request asks to see.
type looking struct {
	environment, span, query string
	length, step             time.Duration
}

func lookingAt(r *http.Request) looking {
	l := looking{environment: r.FormValue("environment"), span: "1h", query: strings.TrimSpace(r.FormValue("query")), length: time.Hour}
	for _, s := range spans {
		if s.Name == r.FormValue("span") {
			l.span, l.length = s.Name, s.Length
		}
	}
	l.step = max(l.length/240, 10*time.Second)
	return l
}

func (c *console) monitor(w http.ResponseWriter, r *http.Request, s access.Session) error {
	l := lookingAt(r)
	view := monitorView{base: inside(r, s, "alerts", "Metrics"), Environment: l.environment, Span: l.span, Query: l.query, Charts: c.charts(r.Context(), l)}
	for _, one := range spans {
		view.Spans = append(view.Spans, one.Name)
	}
	declared, err := c.Environments.List(r.Context())
	if err != nil {
		return err
	}
	for _, e := range declared {
		view.Environments = append(view.Environments, e.Metadata.Name)
	}
	view.Live = "/monitor/live"
	if r.URL.RawQuery != "" {
		view.Live += "?" + r.URL.RawQuery
	}
	return show(w, r, http.StatusOK, monitorPage, "charts", view)
}

func (c *console) monitorLive(w http.ResponseWriter, r *http.Request, _ access.Session) error {
	l := lookingAt(r)
	return c.live(w, r, 10*time.Second, func(ctx context.Context, s *stream) error {
		return s.part(monitorPage, "charts", c.charts(ctx, l))
	})
}

// charts draws what is asked for: one query, or the plots that are always there.
// One that cannot be drawn says so in its place.
func (c *console) charts(ctx context.Context, l looking) (view chartsView) {
	to := c.now().Truncate(time.Second)
	from := to.Add(-l.length)
	one := func(id, title, unit, query string) {
		lines, more, err := c.Metrics.Lines(ctx, query, from, to, l.step)
		drawn := draw(id, title, unit, lines, from, to, l.step)
		drawn.More = more
		if err != nil {
			drawn.Problem = problem.Of(err).Message
		}
		view.Charts = append(view.Charts, drawn)
	}
	if l.query != "" {
		one("query", l.query, "", l.query)
		return view
	}
	matcher := ""
	if l.environment != "" {
		matcher = "environment=" + strconv.Quote(l.environment)
	}
	for _, p := range plots {
		one(p.id, p.title, p.unit, fmt.Sprintf(p.query, matcher))
	}
	return view
}

type slosView struct {
	base
	SLOs sloBoard
}

type sloBoard struct{ Items []sloCard }

// sloCard is an SLO in one environment.
type sloCard struct {
	Name, Description, Owner string
	Objective                float64
	Window                   time.Duration
	resource.Standing
	Left   float64 // of the budget, in per cent, from 0 to 100
	Tone   string
	Burned chart
}

func (c *console) slos(w http.ResponseWriter, r *http.Request, s access.Session) error {
	board, err := c.sloBoard(r.Context())
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, sloPage, "", slosView{inside(r, s, "alerts", "SLOs"), board})
}

func (c *console) slosLive(w http.ResponseWriter, r *http.Request, _ access.Session) error {
	return c.live(w, r, 15*time.Second, func(ctx context.Context, s *stream) error {
		board, err := c.sloBoard(ctx)
		if err != nil {
			return err
		}
		return s.part(sloPage, "budgets", board)
	})
}

// burnedOver is how far back the page shows how budgets went.
const burnedOver = 7 * 24 * time.Hour

func (c *console) sloBoard(ctx context.Context) (board sloBoard, err error) {
	all, err := c.Alerts.SLOs(ctx)
	if err != nil {
		return board, err
	}
	to := c.now().Truncate(time.Minute)
	for _, s := range all {
		items := []resource.Standing{{State: "unknown"}}
		if s.Status != nil && len(s.Status.Items) > 0 {
			items = s.Status.Items
		}
		for _, t := range items {
			card := sloCard{Name: s.Metadata.Name, Description: s.Spec.Description, Owner: s.Spec.Owner, Objective: s.Spec.Objective, Window: s.Spec.Over(), Standing: t, Tone: toneOf(t.State)}
			if t.Budget != nil {
				card.Left = min(max(*t.Budget, 0), 1) * 100
				lines, _, err := c.Metrics.Lines(ctx, fmt.Sprintf("%s{slo=%q,environment=%q}", alert.BudgetLeft, s.Metadata.Name, t.Environment), to.Add(-burnedOver), to, time.Hour)
				card.Burned = draw("budget-"+s.Metadata.Name+"-"+t.Environment, "Budget left over seven days", "%", lines, to.Add(-burnedOver), to, time.Hour)
				if err != nil {
					card.Burned.Problem = problem.Of(err).Message
				}
			}
			board.Items = append(board.Items, card)
		}
	}
	return board, nil
}

func toneOf(state string) string {
	switch state {
	case "met":
		return "ok"
	case "burning":
		return "warn"
	case "missed":
		return "bad"
	}
	return ""
}

// health is at a glance whether all is right.
type health struct {
	Known   bool
	Says    string
	Tone    string
	Firing  []alert.Alert // that are not silenced, the worst first
	Silent  int
	Missed  []string // SLOs
	Burning []string
	// Incidents are those that nobody has resolved yet.
	Incidents []incident.Incident
}

// worst are as many alerts as the first page names.
const worst = 4

func (c *console) health(ctx context.Context) health {
	active, err := c.Alerts.Active(ctx)
	if err != nil {
		return health{Says: "Whether all is right is not known: " + problem.Of(err).Message, Tone: "warn"}
	}
	h := health{Known: true}
	pages := 0
	for _, one := range active {
		switch {
		case one.State != "firing":
		case one.Silence != "":
			h.Silent++
		default:
			h.Firing = append(h.Firing, one)
			if one.Severity == resource.Page {
				pages++
			}
		}
	}
	if all, err := c.Alerts.SLOs(ctx); err == nil {
		h.Missed, h.Burning = standing(all, "missed"), standing(all, "burning")
	}
	if h.Incidents, err = c.Incidents.List(ctx, incident.Filter{State: "unresolved", Limit: worst}); err != nil {
		return health{Says: "Whether all is right is not known: " + problem.Of(err).Message, Tone: "warn"}
	}
	switch {
	case pages > 0:
		h.Tone, h.Says = "bad", fmt.Sprintf("%s to be looked at now", plural(pages, "thing", "things"))
	case len(h.Firing) > 0:
		h.Tone, h.Says = "warn", fmt.Sprintf("%s to be looked at in office hours", plural(len(h.Firing), "thing", "things"))
	case len(h.Incidents) > 0:
		h.Tone, h.Says = "warn", "No alert fires; an incident is not resolved yet"
	case len(h.Burning)+len(h.Missed) > 0:
		h.Tone, h.Says = "warn", "No alert fires; not every SLO is met"
	default:
		h.Tone, h.Says = "ok", "All is well: no alert fires"
	}
	h.Firing = h.Firing[:min(worst, len(h.Firing))]
	return h
}

// standing are the SLOs that stand so, each with where.
func standing(all []resource.SLO, state string) (names []string) {
	for _, s := range all {
		if s.Status == nil {
			continue
		}
		for _, t := range s.Status.Items {
			if t.State == state {
				names = append(names, strings.TrimSpace(s.Metadata.Name+" "+t.Environment))
			}
		}
	}
	slices.Sort(names)
	return names
}
