package console

import (
	"cmp"
	"net/http"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

var freezesPage = newPage("freezes.html", "pipelinenav.html")

// freezesView is a month of when environments take releases.
type freezesView struct {
	base
	Month         time.Time
	Before, After string // the months beside it
	Days          []dayView
	Now           float64 // where the present is, in per cent of the month; negative elsewhere
	Rows          []calendarRow
	Halts         []gate.Halt // those that are on
	Past          []gate.Halt // those that have ended
}

// dayView is a day of the month's ruler.
type dayView struct {
	Number  int
	X       float64 // per cent
	Weekend bool
	Sparse  bool // has its number also where there is little room
}

// calendarRow is an environment in the calendar.
type calendarRow struct {
	Environment, Title string
	Opening            gate.Opening
	Spans              []spanView // when it is open and when not, halts among it
	Freezes            []freezeRow
	Problem            string
}

// freezeRow is one freeze with its windows in the month.
type freezeRow struct {
	resource.Freeze
	Spans []spanView
}

// spanView is a stretch of the month, in per cent of it.
type spanView struct {
	X, Width float64
	Kind     string // open, frozen, allow, halted
	Title    string
}

const (
	monthForm  = "2006-01"
	shownHalts = 20
)

func (c *console) freezes(w http.ResponseWriter, r *http.Request, s access.Session) error {
	now := c.now().UTC()
	month := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	if text := r.URL.Query().Get("month"); text != "" {
		asked, err := time.Parse(monthForm, text)
		if err != nil || asked.Year() < 2000 || asked.Year() > 2200 {
			return problem.New(problem.Invalid, "a month reads like %s, not %q", now.Format(monthForm), text).At("month")
		}
		month = asked
	}
	view, err := c.findFreezes(r, month, now)
	if err != nil {
		return err
	}
	view.base = inside(r, s, "pipeline", "Calendar of releases")
	return show(w, r, http.StatusOK, freezesPage, "", view)
}

func (c *console) findFreezes(r *http.Request, month, now time.Time) (view freezesView, err error) {
	end := month.AddDate(0, 1, 0)
	m := monthOf{month, end}
	view = freezesView{Month: month, Before: month.AddDate(0, -1, 0).Format(monthForm), After: end.Format(monthForm), Days: m.days(), Now: -1}
	if !now.Before(month) && now.Before(end) {
		view.Now = m.at(now)
	}
	environments, err := c.Environments.List(r.Context())
	if err != nil {
		return view, err
	}
	halts, err := c.Gates.PastHalts(r.Context())
	if err != nil {
		return view, err
	}
	for _, h := range halts {
		switch {
		case h.LiftedAt == nil && (h.Until == nil || now.Before(*h.Until)):
			view.Halts = append(view.Halts, h)
		case len(view.Past) < shownHalts:
			view.Past = append(view.Past, h)
		}
	}
	for _, env := range environments {
		view.Rows = append(view.Rows, m.row(env, halts, now))
	}
	return view, nil
}

// monthOf is the stretch of time that the calendar shows.
type monthOf struct{ from, to time.Time }

// at is where a moment is, in per cent of the month.
func (m monthOf) at(t time.Time) float64 {
	return min(100, max(0, 100*float64(t.Sub(m.from))/float64(m.to.Sub(m.from))))
}

func (m monthOf) span(from, to time.Time, kind, title string) spanView {
	x := m.at(from)
	return spanView{x, m.at(to) - x, kind, title}
}

func (m monthOf) days() (all []dayView) {
	for day := m.from; day.Before(m.to); day = day.AddDate(0, 0, 1) {
		n := day.Day()
		all = append(all, dayView{n, m.at(day), day.Weekday() == time.Saturday || day.Weekday() == time.Sunday, n%5 == 1 && n < 30})
	}
	return all
}

// row is one environment: when it takes releases in the month, and why not.
func (m monthOf) row(env resource.Environment, halts []gate.Halt, now time.Time) calendarRow {
	row := calendarRow{Environment: env.Metadata.Name, Title: cmp.Or(env.Spec.DisplayName, env.Metadata.Name)}
	var freezes []resource.Freeze
	if env.Spec.Promotion != nil {
		freezes = env.Spec.Promotion.Freeze
	}
	var own []gate.Halt
	for _, h := range halts {
		if h.Environment == "" || h.Environment == row.Environment {
			own = append(own, h)
		}
	}
	row.Opening = gate.Open(now, freezes, own, resource.WorkRelease)
	opened, err := gate.OpenedBetween(freezes, m.from, m.to)
	if err != nil {
		row.Problem = problem.Of(err).Message
		return row
	}
	for _, o := range opened {
		kind := "frozen"
		if o.Open {
			kind = "open"
		}
		row.Spans = append(row.Spans, m.span(o.From, o.To, kind, o.Reason))
	}
	for _, h := range own {
		end := m.to
		for _, ended := range []*time.Time{h.Until, h.LiftedAt} {
			if ended != nil && ended.Before(end) {
				end = *ended
			}
		}
		if h.At.Before(m.to) && end.After(m.from) {
			row.Spans = append(row.Spans, m.span(h.At, end, "halted", "halted by "+h.Actor+": "+h.Reason))
		}
	}
	row.Freezes, err = m.freezeRows(freezes)
	if err != nil {
		row.Problem = problem.Of(err).Message
	}
	return row
}

func (m monthOf) freezeRows(freezes []resource.Freeze) (rows []freezeRow, err error) {
	for _, f := range freezes {
		one := freezeRow{Freeze: f}
		windows, err := gate.Windows(m.from, m.to, []resource.Freeze{f})
		if err != nil {
			return rows, err
		}
		kind := "frozen"
		if f.Allow {
			kind = "allow"
		}
		for _, w := range windows {
			one.Spans = append(one.Spans, m.span(w.From, w.To, kind, w.From.Format("2 Jan 15:04")+" to "+w.To.Format("2 Jan 15:04 UTC")))
		}
		rows = append(rows, one)
	}
	return rows, nil
}
