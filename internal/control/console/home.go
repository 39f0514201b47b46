package console

import (
	"context"
	"net/http"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

var homePage = newPage("home.html")

type homeView struct {
	base
	Board        boardView
	Scope        string
	Provisioning string
}

// boardView is the part of the page that moves.
type boardView struct {
	Health  health
	Levels  []levelView
	Devices int // of all environments, waiting ones too
}

type levelView struct {
	fleet.Level
	Rule   *link.AutoMove
	Stamps []stampView
}

type stampView struct {
	fleet.Place
	Spark spark
	Fill  float64 // per cent of capacity taken
	Tone  string  // of the capacity bar
	Away  bool    // not heard of for a while
}

// awayAfter is how long a stamp may be silent; it tells of itself each second.
const awayAfter = 10 * time.Second

func (c *console) home(w http.ResponseWriter, r *http.Request, s access.Session) error {
	board, err := c.board(r.Context())
	if err != nil {
		return err
	}
	view := homeView{base: inside(r, s, "home", "Environments"), Board: board, Provisioning: c.Provisioning}
	scope, err := c.Fleet.Scope(r.Context())
	if err != nil && !problem.Is(err, problem.NotReady) {
		return err
	}
	view.Scope = scope.IDScope
	return show(w, r, http.StatusOK, homePage, "", view)
}

func (c *console) homeLive(w http.ResponseWriter, r *http.Request, _ access.Session) error {
	return c.live(w, r, pulseEvery, func(ctx context.Context, s *stream) error {
		board, err := c.board(ctx)
		if err != nil {
			return err
		}
		return s.part(homePage, "board", board)
	})
}

func (c *console) board(ctx context.Context) (boardView, error) {
	levels, sparks, err := c.pulse.beat(ctx, c.now())
	if err != nil {
		return boardView{}, err
	}
	declared, err := c.Environments.List(ctx)
	if err != nil {
		return boardView{}, err
	}
	rules := map[string]*link.AutoMove{}
	for _, env := range declared {
		rules[env.Metadata.Name] = env.Spec.AutoMove
	}
	board := boardView{Health: c.health(ctx)}
	for _, level := range levels {
		view := levelView{Level: level, Rule: rules[level.Name]}
		for _, place := range level.Stamps {
			view.Stamps = append(view.Stamps, newStampView(place, sparks[place.Metadata.Name]))
		}
		board.Levels = append(board.Levels, view)
		board.Devices += level.Devices + level.Waiting
	}
	return board, nil
}

func newStampView(place fleet.Place, line spark) stampView {
	view := stampView{Place: place, Spark: line, Tone: "ok"}
	view.Away = place.AgeSeconds < 0 || place.AgeSeconds > awayAfter.Seconds()
	if place.Status == nil {
		return view
	}
	view.Fill = share(place.Status.Assigned, place.Spec.Capacity)
	switch {
	case view.Fill >= 95:
		view.Tone = "bad"
	case view.Fill >= 80:
		view.Tone = "warn"
	}
	return view
}
