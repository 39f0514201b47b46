package console

import (
	"context"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/journal"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// Journal tells what processes say of what they do.
type Journal interface {
	Search(ctx context.Context, f journal.Filter) ([]journal.Entry, error)
	Trace(ctx context.Context, id string) ([]journal.Step, error)
	Traces(ctx context.Context, limit int) ([]link.Span, error)
}

var (
	logsPage  = newPage("logs.html", "monitornav.html")
	tracePage = newPage("trace.html", "monitornav.html")
)

// logRows are as many lines as a page shows, and tracesShown as many traces.
const (
	logRows     = 200
	tracesShown = 50
)

type logsView struct {
	base
	Filter       journal.Filter
	From, To     string // as the fields have them
	Levels       []string
	Environments []resource.Environment
	Lines        []journal.Entry
	Filtered     bool
	Problem      string
	Newest       template.URL // the first page of what is selected
	Older        template.URL // the page after this; empty: there is none
}

// logFields are those by which lines are searched, as addresses name them.
var logFields = []string{"text", "level", "plane", "stamp", "environment", "tenant", "device", "release", "trace", "from", "to"}

func logFilterOf(q url.Values) (f journal.Filter, err error) {
	f = journal.Filter{
		Text: q.Get("text"), Level: q.Get("level"), Plane: q.Get("plane"), Stamp: q.Get("stamp"), Environment: q.Get("environment"),
		Tenant: q.Get("tenant"), Device: q.Get("device"), Release: q.Get("release"), Trace: q.Get("trace"), Limit: logRows + 1,
	}
	if f.From, err = dayTimeOf(q, "from"); err != nil {
		return f, err
	}
	if f.To, err = dayTimeOf(q, "to"); err != nil {
		return f, err
	}
	if f.Before, err = strconv.ParseInt(q.Get("before"), 10, 64); err != nil || f.Before < 0 {
		f.Before = 0 // begins at the newest
	}
	return f, nil
}

// dayTimeOf reads a time of a field; none is no bound.
func dayTimeOf(q url.Values, name string) (time.Time, error) {
	text := q.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(dayTime, text)
	if err != nil {
		err = problem.New(problem.Invalid, "a time reads like 2026-11-28T09:00, not %q", text).At(name)
	}
	return at, err
}

// logsURL is the page with what is selected, from a line on.
func logsURL(q url.Values, before int64) template.URL {
	next := url.Values{}
	for _, name := range logFields {
		if value := q.Get(name); value != "" {
			next.Set(name, value)
		}
	}
	if before > 0 {
		next.Set("before", strconv.FormatInt(before, 10))
	}
	return template.URL("/logs?" + next.Encode()) // encoded just here
}

func (c *console) logs(w http.ResponseWriter, r *http.Request, s access.Session) error {
	q := r.URL.Query()
	view := logsView{base: inside(r, s, "alerts", "Logs"), From: q.Get("from"), To: q.Get("to"), Levels: []string{"info", "warn", "error"}, Newest: logsURL(q, 0)}
	view.Filtered = view.Newest != "/logs?"
	var err error
	if view.Environments, err = c.Environments.List(r.Context()); err != nil {
		return err
	}
	if view.Filter, err = logFilterOf(q); err == nil {
		view.Lines, err = c.Journal.Search(r.Context(), view.Filter)
	}
	if problem.Is(err, problem.Invalid) {
		view.Problem = problem.Of(err).Message
		return show(w, r, http.StatusUnprocessableEntity, logsPage, "lines", view)
	}
	if err != nil {
		return err
	}
	if len(view.Lines) > logRows {
		view.Lines = view.Lines[:logRows]
		view.Older = logsURL(q, view.Lines[logRows-1].ID)
	}
	return show(w, r, http.StatusOK, logsPage, "lines", view)
}

// logDetail is one thing that a line says beside its message.
type logDetail struct{ Name, Value string }

// detailsOf are what a line says beside its message, in order of name.
func detailsOf(more map[string]string) (all []logDetail) {
	for _, name := range slices.Sorted(maps.Keys(more)) {
		all = append(all, logDetail{name, more[name]})
	}
	return all
}

type traceView struct {
	base
	Trace  string
	Steps  []traceStep
	Traces []link.Span
}

// traceStep is a piece of work with where it lies in its trace, in per cent.
type traceStep struct {
	journal.Step
	From, Width float64
}

func (c *console) traces(w http.ResponseWriter, r *http.Request, s access.Session) error {
	all, err := c.Journal.Traces(r.Context(), tracesShown)
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, tracePage, "", traceView{base: inside(r, s, "alerts", "Traces"), Traces: all})
}

func (c *console) trace(w http.ResponseWriter, r *http.Request, s access.Session) error {
	steps, err := c.Journal.Trace(r.Context(), r.PathValue("trace"))
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, tracePage, "", traceView{base: inside(r, s, "alerts", "Trace"), Trace: r.PathValue("trace"), Steps: drawn(steps)})
}

// drawn lays steps out beside one another in time.
func drawn(steps []journal.Step) []traceStep {
	all := make([]traceStep, len(steps))
	if len(steps) == 0 {
		return all
	}
	first, last := steps[0].Began, steps[0].Began
	for _, s := range steps {
		if s.Began.Before(first) {
			first = s.Began
		}
		if end := s.Began.Add(time.Duration(s.Micros) * time.Microsecond); end.After(last) {
			last = end
		}
	}
	whole := max(float64(last.Sub(first)), 1)
	for i, s := range steps {
		from := float64(s.Began.Sub(first)) / whole * 100
		all[i] = traceStep{s, from, max(min(float64(s.Micros)*1000/whole*100, 100-from), 0.5)}
	}
	return all
}
