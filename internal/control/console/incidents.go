package console

import (
	"context"
	"html/template"
	"net/http"
	"net/url"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/incident"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// Incidents tells what goes wrong, and what changed before.
type Incidents interface {
	List(ctx context.Context, f incident.Filter) ([]incident.Incident, error)
	Show(ctx context.Context, id string) (incident.Dossier, error)
	Open(ctx context.Context, actor access.Actor, i incident.Incident, text string) (incident.Incident, error)
	Note(ctx context.Context, actor access.Actor, id, text string) (incident.Incident, error)
	Set(ctx context.Context, actor access.Actor, id string, s incident.State, text string) (incident.Incident, error)
	Own(ctx context.Context, actor access.Actor, id, owner string) (incident.Incident, error)
	Timeline(ctx context.Context, w incident.Window) (all []incident.Moment, missing string, err error)
}

var (
	incidentsPage = newPage("incidents.html", "monitornav.html")
	incidentPage  = newPage("incident.html", "moments.html", "monitornav.html")
	timelinePage  = newPage("timeline.html", "moments.html", "monitornav.html")
)

type incidentsView struct {
	base
	Under, Past  []incident.Incident
	Environments []resource.Environment
}

func (c *console) incidents(w http.ResponseWriter, r *http.Request, s access.Session) (err error) {
	view := incidentsView{base: inside(r, s, "alerts", "Incidents")}
	if view.Environments, err = c.Environments.List(r.Context()); err != nil {
		return err
	}
	if view.Under, err = c.Incidents.List(r.Context(), incident.Filter{State: "unresolved"}); err != nil {
		return err
	}
	if view.Past, err = c.Incidents.List(r.Context(), incident.Filter{State: string(incident.Resolved), Limit: 50}); err != nil {
		return err
	}
	return show(w, r, http.StatusOK, incidentsPage, "", view)
}

func (c *console) openIncident(w http.ResponseWriter, r *http.Request, s access.Session) error {
	form := r.PostForm
	i, err := c.Incidents.Open(r.Context(), s.Actor, incident.Incident{Title: form.Get("title"), Severity: form.Get("severity"), Environment: form.Get("environment"), Owner: form.Get("owner")}, form.Get("text"))
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/incidents/"+i.ID, http.StatusSeeOther)
	return nil
}

// moments is a timeline as pages show it.
type moments struct {
	Items   []incident.Moment
	Counts  []kindCount
	Missing string
}

// kindCount is how many moments there are of a kind.
type kindCount struct {
	Kind  string
	Count int
	Only  template.URL // the timeline of these alone
}

func (c *console) moments(ctx context.Context, w incident.Window) (m moments, err error) {
	if m.Items, m.Missing, err = c.Incidents.Timeline(ctx, w); err != nil {
		return m, err
	}
	counts := incident.ByKind(m.Items)
	for _, kind := range incident.Kinds {
		if n := counts[kind]; n > 0 {
			m.Counts = append(m.Counts, kindCount{kind, n, timelineURL(w, kind)})
		}
	}
	return m, nil
}

// timelineURL is the page of a window with moments of one kind.
func timelineURL(w incident.Window, kind string) template.URL {
	q := url.Values{"from": {w.From.UTC().Format(dayTime)}, "to": {w.To.UTC().Add(time.Minute).Format(dayTime)}}
	for name, value := range map[string]string{"environment": w.Environment, "kind": kind, "device": w.Device} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return template.URL("/timeline?" + q.Encode()) // encoded just here
}

type incidentView struct {
	base
	Incident incident.Dossier
	Since    moments // from when it began
	Before   moments // what changed in the two hours before
}

func (c *console) incident(w http.ResponseWriter, r *http.Request, s access.Session) (err error) {
	view := incidentView{base: inside(r, s, "alerts", "Incident")}
	if view.Incident, err = c.Incidents.Show(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	d := view.Incident
	view.Title = d.Title
	if view.Before, err = c.moments(r.Context(), incident.Window{From: d.BeganAt.Add(-incident.DefaultLook), To: d.BeganAt, Environment: d.Environment}); err != nil {
		return err
	}
	until := c.now()
	if d.ResolvedAt != nil {
		until = *d.ResolvedAt
	}
	until = until.Add(time.Second) // with what happened just now
	if from := until.Add(-longestShown); d.BeganAt.After(from) {
		view.Since, err = c.moments(r.Context(), incident.Window{From: d.BeganAt, To: until, Environment: d.Environment})
	}
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, incidentPage, "", view)
}

// longestShown is as long as an incident may take for all of it to be shown.
const longestShown = 7 * 24 * time.Hour

func (c *console) changeIncident(w http.ResponseWriter, r *http.Request, s access.Session) (err error) {
	id, form := r.PathValue("id"), r.PostForm
	switch form.Get("do") {
	case "note":
		_, err = c.Incidents.Note(r.Context(), s.Actor, id, form.Get("text"))
	case "own":
		_, err = c.Incidents.Own(r.Context(), s.Actor, id, form.Get("owner"))
	default:
		_, err = c.Incidents.Set(r.Context(), s.Actor, id, incident.State(form.Get("do")), form.Get("text"))
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/incidents/"+url.PathEscape(id), http.StatusSeeOther)
	return nil
}

type timelineView struct {
	base
	Window       incident.Window
	From, To     string // as the fields have them
	Kinds        []string
	Kind         string
	Environments []resource.Environment
	Moments      moments
	Problem      string
}

func (c *console) timeline(w http.ResponseWriter, r *http.Request, s access.Session) (err error) {
	q := r.URL.Query()
	view := timelineView{base: inside(r, s, "alerts", "Timeline"), Kinds: incident.Kinds, Kind: q.Get("kind")}
	if view.Environments, err = c.Environments.List(r.Context()); err != nil {
		return err
	}
	view.Window = incident.Window{Environment: q.Get("environment"), Device: q.Get("device")}
	if view.Kind != "" {
		view.Window.Kinds = []string{view.Kind}
	}
	if view.Window.From, err = dayTimeOf(q, "from"); err == nil {
		view.Window.To, err = dayTimeOf(q, "to")
	}
	if view.Window.To.IsZero() {
		view.Window.To = c.now()
	}
	if view.Window.From.IsZero() {
		view.Window.From = view.Window.To.Add(-incident.DefaultLook)
	}
	view.From, view.To = view.Window.From.UTC().Format(dayTime), q.Get("to")
	if err == nil {
		view.Moments, err = c.moments(r.Context(), view.Window)
	}
	status := http.StatusOK
	if problem.Is(err, problem.Invalid) {
		view.Problem, status, err = problem.Of(err).Message, http.StatusUnprocessableEntity, nil
	}
	if err != nil {
		return err
	}
	return show(w, r, status, timelinePage, "found", view)
}
