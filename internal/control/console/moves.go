package console

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

var (
	movesPage = newPage("moves.html")
	planPage  = newPage("plan.html")
	movePage  = newPage("move.html", "census.html")
)

const (
	recentMoves = 50
	moveRows    = 100
	maxNamed    = 10_000 // devices one move may name; more need a condition
)

type movesView struct {
	base
	Moves []link.Move
}

func (c *console) moves(w http.ResponseWriter, r *http.Request, s access.Session) error {
	found, err := c.Fleet.Moves(r.Context(), recentMoves)
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, movesPage, "", movesView{base: inside(r, s, "moves", "Moves"), Moves: found.Items})
}

// planView is the form that starts a move, as a dialog or as a page.
type planView struct {
	base
	Environments []resource.Environment
	To           string
	Reason       string
	Key          string // the same for every sending of one form, so that twice is once
	Devices      []string
	All          bool // everything the filter matches, not just the devices named
	Filter       fleet.Filter
	Problem      string
}

func (c *console) planMove(w http.ResponseWriter, r *http.Request, s access.Session) error {
	q := r.URL.Query()
	view := planView{base: inside(r, s, "moves", "Move devices"), Key: rand.Text(), To: q.Get("to"), Devices: q["device"], All: q.Has("all"), Filter: filterOf(q)}
	return c.showPlan(w, r, http.StatusOK, view)
}

func (c *console) showPlan(w http.ResponseWriter, r *http.Request, status int, view planView) error {
	var err error
	if view.Environments, err = c.Environments.List(r.Context()); err != nil {
		return err
	}
	if n := len(view.Environments); view.To == "" && n > 0 {
		view.To = c.nextAfter(view.Filter.Environment, view.Environments)
	}
	return show(w, r, status, planPage, "plan", view)
}

// nextAfter is where devices of an environment usually go: to the one that
// promotes from it, and else to the last.
func (c *console) nextAfter(from string, all []resource.Environment) string {
	for _, env := range all {
		if from != "" && env.Spec.PromotesFrom == from {
			return env.Metadata.Name
		}
	}
	return all[len(all)-1].Metadata.Name
}

func (c *console) startMove(w http.ResponseWriter, r *http.Request, s access.Session) error {
	form := r.PostForm
	view := planView{base: inside(r, s, "moves", "Move devices"), Key: form.Get("key"), To: form.Get("to"), Reason: form.Get("reason"),
		Devices: form["device"], All: form.Get("all") != "", Filter: filterOf(form)}
	req, err := c.moveOf(r.Context(), view)
	var started link.Move
	if err == nil {
		started, err = c.Fleet.StartMove(r.Context(), s.Actor, req)
	}
	if kind := problem.Of(err).Kind; err != nil && (kind == problem.Invalid || kind == problem.Conflict || kind == problem.TooLarge) {
		view.Problem = problem.Of(err).Message
		return c.showPlan(w, r, statusOf(kind), view)
	}
	if err != nil {
		return err
	}
	target := "/moves/" + started.ID
	if fromHTMX(r) {
		w.Header().Set("HX-Redirect", target)
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
	return nil
}

// moveOf is what a form asks for. A condition alone is left to the stamps;
// any other filter is resolved to the devices it matches now.
func (c *console) moveOf(ctx context.Context, view planView) (link.StartMove, error) {
	req := link.StartMove{Key: view.Key, To: view.To, Reason: view.Reason, Devices: view.Devices}
	if !view.All {
		if len(req.Devices) == 0 {
			return req, problem.New(problem.Invalid, "no device is selected; go back and tick some")
		}
		return req, nil
	}
	f := view.Filter
	if f.Where != "" && f.Search == "" && f.Environment == "" && f.Stamp == "" && f.Phase == "" {
		req.Where, req.Devices = f.Where, nil
		return req, nil
	}
	var err error
	req.Devices, err = c.everyMatch(ctx, f)
	return req, err
}

func (c *console) everyMatch(ctx context.Context, f fleet.Filter) ([]string, error) {
	var ids []string
	f.After, f.Limit = "", link.MaxPage
	for {
		found, err := c.Fleet.List(ctx, f)
		if err != nil {
			return nil, err
		}
		if len(found.Incomplete) > 0 {
			return nil, problem.New(problem.NotReady, "stamp %s does not answer, so what matches is not known; try again when it does", found.Incomplete[0].Stamp)
		}
		for _, d := range found.Items {
			ids = append(ids, d.DeviceID)
		}
		if len(ids) > maxNamed {
			return nil, problem.New(problem.TooLarge, "more than %d devices match; use a condition alone, which has no such limit", maxNamed)
		}
		if found.Next == "" {
			break
		}
		f.After = found.Next
	}
	if len(ids) == 0 {
		return nil, problem.New(problem.Invalid, "no device matches any more")
	}
	return ids, nil
}

type moveView struct {
	base
	Progress progressView
	State    string
	Devices  link.MovedDevices
	Last     string // where the next page of devices begins
}

// progressView is the part of a move's page that moves.
type progressView struct {
	link.Move
	Parts []censusPart
	Took  time.Duration
}

// censusPart is one state's share of a move's bar.
type censusPart struct {
	Name, State string
	Meaning     string
	Count       int
	X, Width    float64 // per cent
}

func (c *console) move(w http.ResponseWriter, r *http.Request, s access.Session) error {
	found, err := c.Fleet.Move(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	q := r.URL.Query()
	view := moveView{base: inside(r, s, "moves", "Move to "+found.To), Progress: c.progress(found), State: q.Get("state")}
	view.Devices, err = c.Fleet.MoveDevices(r.Context(), link.ListMoveDevices{ID: found.ID, State: view.State, After: q.Get("after"), Limit: moveRows})
	if err != nil {
		return err
	}
	if n := len(view.Devices.Items); view.Devices.More && n > 0 {
		view.Last = view.Devices.Items[n-1].DeviceID
	}
	return show(w, r, http.StatusOK, movePage, "moved", view)
}

func (c *console) moveLive(w http.ResponseWriter, r *http.Request, _ access.Session) error {
	return c.live(w, r, pulseEvery/2, func(ctx context.Context, s *stream) error {
		found, err := c.Fleet.Move(ctx, r.PathValue("id"))
		if err != nil {
			return err
		}
		return s.part(movePage, "progress", c.progress(found))
	})
}

func (c *console) progress(m link.Move) progressView {
	end := c.now()
	if m.FinishedAt != nil {
		end = *m.FinishedAt
	}
	return progressView{Move: m, Parts: censusParts(m.Census), Took: end.Sub(m.CreatedAt)}
}

// censusParts lays the states of a census side by side; they add up to the
// whole.
func censusParts(n link.Census) []censusPart {
	parts := []censusPart{
		{Name: "Arrived", State: "arrived", Count: n.Arrived, Meaning: "assigned in the target environment"},
		{Name: "Already there", State: "already", Count: n.Already, Meaning: "was in the target environment before"},
		{Name: "Waiting", State: "waiting", Count: n.Waiting, Meaning: "off its old stamp; assigned when it registers next"},
		{Name: "Being removed", State: "removing", Count: n.Removing, Meaning: "being taken off its old stamp"},
		{Name: "Not begun", State: "pending", Count: n.Pending, Meaning: "still where it was"},
		{Name: "Failed", State: "failed", Count: n.Failed, Meaning: "not moved; the reason is with the device"},
	}
	x := 0.0
	for i := range parts {
		if n.Total > 0 {
			parts[i].X, parts[i].Width = x, float64(parts[i].Count)/float64(n.Total)*100
		}
		x += parts[i].Width
	}
	return parts
}
