package console

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/slipway/slipway/docs/runbooks"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/alert"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

var (
	alertsPage  = newPage("alerts.html", "monitornav.html")
	runbookPage = newPage("runbook.html", "monitornav.html")
)

type alertsView struct {
	base
	Board     alertBoard
	Receivers []resource.Receiver
	OnCalls   []resource.OnCall
	Tested    []alert.Tested
	Silence   *silenceForm
}

// silenceForm is a silence that somebody is about to begin.
type silenceForm struct{ Labels string }

// alertBoard is the part of the page that moves.
type alertBoard struct {
	CSRF     string
	Alerts   []alert.Alert
	Silences []alert.Silence
}

func (c *console) alertBoard(ctx context.Context, csrf string) (board alertBoard, err error) {
	board.CSRF = csrf
	if board.Alerts, err = c.Alerts.Active(ctx); err != nil {
		return board, err
	}
	board.Silences, err = c.Alerts.Silences(ctx)
	return board, err
}

func (c *console) alerts(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.showAlerts(w, r, s, nil)
}

func (c *console) showAlerts(w http.ResponseWriter, r *http.Request, s access.Session, tested []alert.Tested) error {
	board, err := c.alertBoard(r.Context(), s.CSRF)
	if err != nil {
		return err
	}
	view := alertsView{base: inside(r, s, "alerts", "Alerts"), Board: board, Tested: tested}
	if labels := r.URL.Query().Get("silence"); labels != "" {
		view.Silence = &silenceForm{labels}
	}
	if view.Receivers, err = c.Alerts.Receivers(r.Context(), s.Actor, false); err != nil {
		return err
	}
	if view.OnCalls, err = c.Alerts.OnCalls(r.Context()); err != nil {
		return err
	}
	return show(w, r, http.StatusOK, alertsPage, "", view)
}

func (c *console) alertsLive(w http.ResponseWriter, r *http.Request, session access.Session) error {
	return c.live(w, r, 2*pulseEvery, func(ctx context.Context, s *stream) error {
		board, err := c.alertBoard(ctx, session.CSRF)
		if err != nil {
			return err
		}
		return s.part(alertsPage, "alerts", board)
	})
}

// silencing is where a silence of an alert is asked for.
func silencing(a alert.Alert) string {
	labels := []string{"alertname=" + a.Name}
	for _, name := range []string{"environment", "stamp", "route", "instance", "slo"} {
		if v := a.Labels[name]; v != "" && (name != "instance" || a.Stamp == "") {
			labels = append(labels, name+"="+v)
		}
	}
	return "/alerts?silence=" + url.QueryEscape(strings.Join(labels, " ")) + "#new-silence"
}

func (c *console) silence(w http.ResponseWriter, r *http.Request, s access.Session) error {
	match := map[string]string{}
	for _, field := range strings.Fields(r.PostForm.Get("labels")) {
		name, value, found := strings.Cut(field, "=")
		if !found {
			return problem.New(problem.Invalid, "a label reads name=value, and %q does not", field).At("labels")
		}
		match[name] = value
	}
	length, err := time.ParseDuration(r.PostForm.Get("for"))
	if err != nil {
		return problem.New(problem.Invalid, "a length of time reads 30m or 8h, not %q", r.PostForm.Get("for")).At("for")
	}
	if _, err := c.Alerts.Silence(r.Context(), s.Actor, match, r.PostForm.Get("reason"), time.Time{}, length); err != nil {
		return err
	}
	http.Redirect(w, r, "/alerts", http.StatusSeeOther)
	return nil
}

func (c *console) endSilence(w http.ResponseWriter, r *http.Request, s access.Session) error {
	if err := c.Alerts.EndSilence(r.Context(), s.Actor, r.PostForm.Get("silence")); err != nil {
		return err
	}
	http.Redirect(w, r, "/alerts", http.StatusSeeOther)
	return nil
}

func (c *console) testAlert(w http.ResponseWriter, r *http.Request, s access.Session) error {
	tested, err := c.Alerts.Test(r.Context(), s.Actor, r.PostForm.Get("receiver"))
	if err != nil {
		return err
	}
	return c.showAlerts(w, r, s, tested)
}

type runbookView struct {
	base
	Blocks []block
}

func (c *console) runbook(w http.ResponseWriter, r *http.Request, s access.Session) error {
	text, err := runbooks.Files.ReadFile(r.PathValue("name") + ".md")
	if err != nil {
		return problem.New(problem.NotFound, "there is no runbook %s", r.PathValue("name"))
	}
	blocks := readBlocks(string(text))
	title := "Runbook"
	if len(blocks) > 0 && len(blocks[0].Spans) > 0 {
		title = blocks[0].Spans[0].Text
		blocks = blocks[1:]
	}
	return show(w, r, http.StatusOK, runbookPage, "", runbookView{inside(r, s, "alerts", title), blocks})
}

// block is a part of a runbook: a heading, a paragraph, or a list.
type block struct {
	Heading bool
	Spans   []span
	Items   [][]span
}

// span is a piece of text, or of what is to be typed.
type span struct {
	Text string
	Code bool
}

// readBlocks reads as much of Markdown as runbooks are written in.
func readBlocks(text string) (blocks []block) {
	for part := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		switch {
		case strings.HasPrefix(part, "#"):
			blocks = append(blocks, block{Heading: true, Spans: readSpans(strings.TrimLeft(part, "# "))})
		case strings.HasPrefix(part, "1. "):
			var list block
			for line := range strings.Lines(part) {
				_, item, _ := strings.Cut(strings.TrimSpace(line), ". ")
				list.Items = append(list.Items, readSpans(item))
			}
			blocks = append(blocks, list)
		default:
			blocks = append(blocks, block{Spans: readSpans(strings.ReplaceAll(part, "\n", " "))})
		}
	}
	return blocks
}

func readSpans(text string) (all []span) {
	for i, piece := range strings.Split(text, "`") {
		if piece != "" {
			all = append(all, span{strings.ReplaceAll(piece, "*", ""), i%2 == 1})
		}
	}
	return all
}
