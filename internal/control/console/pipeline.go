package console

import (
	"cmp"
	"context"
	"net/http"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/rollout"
)

var pipelinePage = newPage("pipeline.html", "census.html", "gate.html", "pipelinenav.html")

type pipelineView struct {
	base
	Board pipelineBoard
}

// pipelineBoard is every environment as a column, in order of promotion.
type pipelineBoard struct{ Columns []laneView }

// laneView is an environment with what runs there and what wants to.
type laneView struct {
	promotion.Lane
	Title  string
	Bars   []cellView
	Way    *wayView    // of the promotion that runs
	Halts  []gate.Halt // those that stop it now
	Next   *candidate
	Failed *promotion.Promotion // the last that ended, if not well
}

// candidate is a release that may be promoted next.
type candidate struct {
	Release string
	From    string // the environment it was verified in; empty where nothing comes before
}

// cellView is a stamp with its devices laid side by side by what they run.
type cellView struct {
	rollout.Cell
	OnBase, OnRelease   float64 // per cent of its devices
	BaseHue, ReleaseHue string
}

// newCellViews draws stamps, each release in one colour on all of them.
func newCellViews(cells []rollout.Cell) []cellView {
	var names []string
	for _, c := range cells {
		names = append(names, c.Base, c.Release)
	}
	colours, views := palette(names), make([]cellView, len(cells))
	for i, c := range cells {
		views[i] = cellView{c, portion(float64(c.OnBase), float64(c.Total)), portion(float64(c.OnRelease), float64(c.Total)), colours[c.Base], colours[c.Release]}
	}
	return views
}

func (c *console) pipeline(w http.ResponseWriter, r *http.Request, s access.Session) error {
	board, err := c.findBoard(r.Context())
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, pipelinePage, "", pipelineView{inside(r, s, "pipeline", "Pipeline"), board})
}

func (c *console) pipelineLive(w http.ResponseWriter, r *http.Request, _ access.Session) error {
	return c.live(w, r, pulseEvery, func(ctx context.Context, s *stream) error {
		board, err := c.findBoard(ctx)
		if err != nil {
			return err
		}
		return s.part(pipelinePage, "lanes", board)
	})
}

func (c *console) findBoard(ctx context.Context) (board pipelineBoard, err error) {
	lanes, err := c.Promotions.Board(ctx)
	if err != nil {
		return board, err
	}
	halts, err := c.Gates.Halts(ctx, "")
	if err != nil {
		return board, err
	}
	newest, err := c.Releases.List(ctx, 0, 1)
	if err != nil {
		return board, err
	}
	first := ""
	if len(newest) > 0 {
		first = newest[0].Name
	}
	var cells []rollout.Cell
	for _, lane := range lanes {
		cells = append(cells, lane.Stamps...)
	}
	bars := newCellViews(cells)
	for _, lane := range lanes {
		view := newLaneView(lane, lanes, halts, first)
		view.Bars, bars = bars[:len(lane.Stamps)], bars[len(lane.Stamps):]
		board.Columns = append(board.Columns, view)
	}
	return board, nil
}

func newLaneView(lane promotion.Lane, all []promotion.Lane, halts []gate.Halt, newest string) laneView {
	view := laneView{Lane: lane, Title: cmp.Or(lane.DisplayName, lane.Environment), Next: nextInto(lane, all, newest)}
	if lane.Rollout != nil {
		way := newWayView(*lane.Rollout)
		view.Way = &way
	}
	for _, h := range halts {
		if h.Environment == "" || h.Environment == lane.Environment {
			view.Halts = append(view.Halts, h)
		}
	}
	if len(lane.Last) > 0 && lane.Last[0].State != promotion.Succeeded && lane.Last[0].State != promotion.Superseded {
		view.Failed = &lane.Last[0]
	}
	return view
}

// nextInto is the release that could be promoted into an environment now: what
// runs verified in the one before, or the newest where none comes before;
// unless it is there, on its way, waiting or kept out.
func nextInto(lane promotion.Lane, all []promotion.Lane, newest string) *candidate {
	next := candidate{Release: newest}
	if lane.PromotesFrom != "" {
		next = candidate{From: lane.PromotesFrom}
		for _, before := range all {
			if before.Environment == lane.PromotesFrom && before.Current != nil && before.Verification != nil && before.Verification.Passed {
				next.Release = before.Current.Release
			}
		}
	}
	there := lane.Current != nil && lane.Current.Release == next.Release
	for _, p := range []*promotion.Promotion{lane.Running, lane.Waiting} {
		there = there || p != nil && p.Release == next.Release
	}
	for _, rejected := range lane.Rejections {
		there = there || rejected.Release == next.Release
	}
	if next.Release == "" || there {
		return nil
	}
	return &next
}

var promotionPage = newPage("promotion.html", "gate.html", "pipelinenav.html")

type promotionView struct {
	base
	Asked askedView
}

// askedView is a promotion with all that was found of it.
type askedView struct {
	promotion.Dossier
	Changes []promotion.StateChange // newest first
	History []gate.Result           // newest first
}

// shownVerdicts is how many earlier verdicts a promotion's page shows.
const shownVerdicts = 200

func (c *console) promotion(w http.ResponseWriter, r *http.Request, s access.Session) error {
	found, err := c.findPromotion(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, promotionPage, "", promotionView{inside(r, s, "pipeline", found.Release+" to "+found.Environment), found})
}

func (c *console) promotionLive(w http.ResponseWriter, r *http.Request, _ access.Session) error {
	return c.live(w, r, pulseEvery, func(ctx context.Context, s *stream) error {
		found, err := c.findPromotion(ctx, r.PathValue("id"))
		if err != nil {
			return err
		}
		return s.part(promotionPage, "asked", found)
	})
}

func (c *console) findPromotion(ctx context.Context, id string) (found askedView, err error) {
	if found.Dossier, err = c.Promotions.Show(ctx, id); err != nil {
		return found, err
	}
	history, err := c.Gates.History(ctx, id)
	found.History = latestFirst(history, shownVerdicts)
	found.Changes = latestFirst(found.Log, len(found.Log))
	return found, err
}

// latestFirst turns the end of a list around.
func latestFirst[T any](all []T, most int) []T {
	turned := make([]T, 0, min(len(all), most))
	for i := len(all) - 1; i >= 0 && len(turned) < most; i-- {
		turned = append(turned, all[i])
	}
	return turned
}

var matrixPage = newPage("matrix.html", "gate.html", "pipelinenav.html")

type matrixView struct {
	base
	Grid grid
}

// grid is what runs on every stamp.
type grid struct {
	Environments []gridRow
	Releases     []colouredName // in order of first sight
}

type colouredName struct{ Name, Hue string }

type gridRow struct {
	Environment string
	Cells       []cellView
}

func (c *console) matrix(w http.ResponseWriter, r *http.Request, s access.Session) error {
	found, err := c.findGrid(r.Context())
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, matrixPage, "", matrixView{inside(r, s, "pipeline", "What runs where"), found})
}

func (c *console) matrixLive(w http.ResponseWriter, r *http.Request, _ access.Session) error {
	return c.live(w, r, pulseEvery, func(ctx context.Context, s *stream) error {
		found, err := c.findGrid(ctx)
		if err != nil {
			return err
		}
		return s.part(matrixPage, "grid", found)
	})
}

func (c *console) findGrid(ctx context.Context) (found grid, err error) {
	environments, err := c.Environments.List(ctx)
	if err != nil {
		return found, err
	}
	cells, err := c.Rollouts.Matrix(ctx, "")
	seen := map[string]bool{"": true}
	views := newCellViews(cells)
	for _, env := range environments {
		row := gridRow{Environment: env.Metadata.Name}
		for _, cell := range views {
			if cell.Environment != row.Environment {
				continue
			}
			row.Cells = append(row.Cells, cell)
			for _, one := range []colouredName{{cell.Base, cell.BaseHue}, {cell.Release, cell.ReleaseHue}} {
				if !seen[one.Name] {
					seen[one.Name] = true
					found.Releases = append(found.Releases, one)
				}
			}
		}
		found.Environments = append(found.Environments, row)
	}
	return found, err
}
