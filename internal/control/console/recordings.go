package console

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/gateway"
)

// Before is the number after which the line comes.
func (l lineView) Before() int { return l.Number - 1 }

// Gateway shows what people did in environments that want grants.
type Gateway interface {
	Get(ctx context.Context, id string) (gateway.Session, error)
	List(ctx context.Context, actor access.Actor, f gateway.Filter) ([]gateway.Session, int64, error)
	Lines(ctx context.Context, id string, after, limit int) ([]gateway.Line, error)
	Verify(ctx context.Context, id string) (bool, error)
	Cast(ctx context.Context, id string, out io.Writer) error
	MayRead(ctx context.Context, actor access.Actor, s gateway.Session) error
	Recorded(ctx context.Context, request string) ([]gateway.Mark, error)
}

var (
	recordingsPage = newPage("recordings.html", "sessionparts.html")
	recordingPage  = newPage("recording.html")
)

// recordingsView is a list of recorded sessions.
type recordingsView struct {
	base
	Sessions []gateway.Session
}

func (c *console) recordings(w http.ResponseWriter, r *http.Request, s access.Session) error {
	all, _, err := c.Gateway.List(r.Context(), s.Actor, gateway.Filter{Environment: r.URL.Query().Get("environment"), Person: r.URL.Query().Get("person")})
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, recordingsPage, "", recordingsView{inside(r, s, "grants", "Recorded sessions"), all})
}

// shownLines and shownText bound what a page shows of a record; the whole of it
// can be downloaded.
const (
	shownLines = 500
	shownText  = 20_000
)

// recordingView is one recorded session.
type recordingView struct {
	base
	gateway.Session
	Record   []lineView
	More     int  // number after which the next page begins
	Verified bool // its record is what it was when it was closed
	Changed  bool // it is not
}

// lineView is a line of a record.
type lineView struct {
	gateway.Line
	Offset string // since the session was opened
}

func (c *console) recording(w http.ResponseWriter, r *http.Request, s access.Session) error {
	view, err := c.findRecording(r.Context(), s.Actor, r.PathValue("id"), afterOf(r))
	if err != nil {
		return err
	}
	if view.ClosedAt != nil {
		same, err := c.Gateway.Verify(r.Context(), view.ID)
		if err != nil {
			return err
		}
		view.Verified, view.Changed = same, !same
	}
	view.base = inside(r, s, "grants", view.ID)
	return show(w, r, http.StatusOK, recordingPage, "", view)
}

// afterOf is the number after which a page of a record begins.
func afterOf(r *http.Request) (after int) {
	if _, err := fmt.Sscan(r.URL.Query().Get("after"), &after); err != nil || after < 0 {
		return 0
	}
	return after
}

func (c *console) recordingLive(w http.ResponseWriter, r *http.Request, s access.Session) error {
	after := afterOf(r)
	found, err := c.Gateway.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	access.Keep(r.Context(), func(ctx context.Context, actor access.Actor) error { return c.Gateway.MayRead(ctx, actor, found) })
	return c.live(w, r, time.Second, func(ctx context.Context, out *stream) error {
		view, err := c.findRecording(ctx, s.Actor, r.PathValue("id"), after)
		if err != nil {
			return err
		}
		return out.part(recordingPage, "record", view)
	})
}

func (c *console) findRecording(ctx context.Context, actor access.Actor, id string, after int) (view recordingView, err error) {
	if view.Session, err = c.Gateway.Get(ctx, id); err != nil {
		return view, err
	}
	if err := c.Gateway.MayRead(ctx, actor, view.Session); err != nil {
		return view, err
	}
	lines, err := c.Gateway.Lines(ctx, id, after, shownLines)
	for _, l := range lines {
		l.Text = short(l.Text, shownText)
		view.Record = append(view.Record, lineView{l, fmt.Sprintf("%02d:%02d:%02d.%03d", l.At/3600e6, l.At/60e6%60, l.At/1e6%60, l.At/1000%1000)})
	}
	if len(lines) == shownLines && view.Lines > lines[len(lines)-1].Number {
		view.More = lines[len(lines)-1].Number
	}
	return view, err
}

func (c *console) recordingFile(w http.ResponseWriter, r *http.Request, s access.Session) error {
	session, err := c.Gateway.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := c.Gateway.MayRead(r.Context(), s.Actor, session); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-asciicast")
	w.Header().Set("Content-Disposition", `attachment; filename="`+session.ID+`.cast"`)
	if err := c.Gateway.Cast(r.Context(), session.ID, w); err != nil {
		c.Logger.Debug("record not delivered", "session", session.ID, "error", err)
	}
	return nil
}
