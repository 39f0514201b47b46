package console

import (
	"context"
	"net/http"
	"strconv"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

var (
	routesPage = newPage("routes.html")
	routePage  = newPage("route.html")
)

type routesView struct {
	base
	Rows []routeRow
}

// routeRow is a route with its states added up.
type routeRow struct {
	resource.Route
	Sum link.RouteState
}

func (c *console) routes(w http.ResponseWriter, r *http.Request, s access.Session) error {
	rows, err := c.routeRows(r.Context(), s.Actor)
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, routesPage, "", routesView{inside(r, s, "routes", "Routes"), rows})
}

func (c *console) routeRows(ctx context.Context, actor access.Actor) ([]routeRow, error) {
	all, err := c.Environments.Routes(ctx, actor, false)
	rows := make([]routeRow, len(all))
	for i, route := range all {
		rows[i] = routeRow{route, route.Status.Sum()}
	}
	return rows, err
}

func (c *console) routesLive(w http.ResponseWriter, r *http.Request, session access.Session) error {
	return c.live(w, r, pulseEvery, func(ctx context.Context, s *stream) error {
		rows, err := c.routeRows(ctx, session.Actor)
		if err != nil {
			return err
		}
		return s.part(routesPage, "routetable", rows)
	})
}

type routeView struct {
	base
	Route   resource.Route
	Letters []lettersOf
	Done    string
}

// lettersOf are the oldest dead letters of one stamp.
type lettersOf struct {
	Stamp string
	link.DeadLetters
}

const shownLetters = 50

func (c *console) route(w http.ResponseWriter, r *http.Request, s access.Session) error {
	route, err := c.Environments.Route(r.Context(), s.Actor, r.PathValue("name"), false)
	if err != nil {
		return err
	}
	view := routeView{base: inside(r, s, "routes", route.Metadata.Name), Route: route, Done: r.URL.Query().Get("done")}
	for _, state := range route.Status.Stamps {
		if state.DeadLetters == 0 {
			continue
		}
		page, err := c.Fleet.DeadLetters(r.Context(), state.Stamp, link.DeadLetterPage{Route: route.Metadata.Name, Limit: shownLetters})
		if err != nil {
			return err
		}
		view.Letters = append(view.Letters, lettersOf{state.Stamp, page})
	}
	return show(w, r, http.StatusOK, routePage, "", view)
}

func (c *console) routeLive(w http.ResponseWriter, r *http.Request, session access.Session) error {
	return c.live(w, r, pulseEvery, func(ctx context.Context, s *stream) error {
		route, err := c.Environments.Route(ctx, session.Actor, r.PathValue("name"), false)
		if err != nil {
			return err
		}
		return s.part(routePage, "routestates", route)
	})
}

// useDeadLetters replays or purges those ticked, or all of a stamp.
func (c *console) useDeadLetters(w http.ResponseWriter, r *http.Request, s access.Session) error {
	form := r.PostForm
	ref := link.DeadLetterRef{Route: r.PathValue("name")}
	for _, text := range form["id"] {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return problem.New(problem.Invalid, "%q names no dead letter", text)
		}
		ref.IDs = append(ref.IDs, id)
	}
	use := c.Fleet.ReplayDeadLetters
	words := " will be sent once more"
	if form.Get("use") == "purge" {
		use, words = c.Fleet.PurgeDeadLetters, " purged"
	}
	n, err := use(r.Context(), s.Actor, form.Get("stamp"), ref)
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/routes/"+ref.Route+"?done="+plural(n.Total, "message", "messages")+words, http.StatusSeeOther)
	return nil
}
