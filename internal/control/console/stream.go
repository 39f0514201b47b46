package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
)

const (
	maxStreams    = 500
	heartbeat     = 15 * time.Second
	writePatience = 10 * time.Second
)

// stream is one page's event stream. It sends parts of the page as HTML, and
// sends a part again only when it has changed.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	sent    map[string][]byte
	checked time.Time // when the session was last known to be good
}

// live keeps a stream open and calls step whenever every has passed, and once
// at the beginning, until the browser leaves, the session ends or step fails.
func (c *console) live(w http.ResponseWriter, r *http.Request, every time.Duration, step func(ctx context.Context, s *stream) error) error {
	select {
	case c.streams <- struct{}{}:
		defer func() { <-c.streams }()
	default:
		return problem.New(problem.Busy, "%d live pages are open already; close some", maxStreams).After(5 * time.Second)
	}
	s := &stream{w: w, control: http.NewResponseController(w), sent: map[string][]byte{}, checked: time.Now()}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // proxies are to pass it on at once
	if err := s.write("retry: 2000\n\n"); err != nil {
		return nil
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	ctx := r.Context()
	for ctx.Err() == nil {
		if err := step(ctx, s); err != nil {
			return c.endStream(ctx, s, err)
		}
		if err := c.keepAlive(r, s); err != nil {
			return c.endStream(ctx, s, err)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return c.endStream(ctx, s, access.Cut(ctx))
}

// keepAlive lets an idle connection be known to be alive, and ends it when
// the session has.
func (c *console) keepAlive(r *http.Request, s *stream) error {
	if time.Since(s.checked) < heartbeat {
		return nil
	}
	if _, err := c.session(r); err != nil {
		return err
	}
	s.checked = time.Now()
	return s.write(": here\n\n")
}

// endStream tells the page why its stream ends: the status has left already.
func (c *console) endStream(ctx context.Context, s *stream, cause error) error {
	if ctx.Err() != nil {
		cause = access.Cut(ctx)
	}
	if cause == nil {
		return nil // the browser has left
	}
	known := problem.Of(cause)
	if known.Kind == problem.Internal {
		c.Logger.Error("console stream", "error", cause)
	}
	event := "trouble"
	if known.Kind == problem.Unauthenticated {
		event = "over" // the page asks to log in instead of trying again
	}
	if err := s.event(event, known.Error()); err != nil {
		c.Logger.Debug("console stream not ended properly", "error", err)
	}
	return nil
}

func (s *stream) write(text string) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(writePatience)); err != nil {
		return err
	}
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}

func (s *stream) event(name, data string) error {
	return s.write("event: " + name + "\ndata: " + strings.ReplaceAll(data, "\n", "\ndata: ") + "\n\n")
}

// json sends a value under an event name.
func (s *stream) json(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.event(name, string(data))
}

// part sends a named part of a page if it differs from what was sent last.
// The part's outermost element has the id it takes the place of.
func (s *stream) part(p *page, name string, data any) error {
	var body bytes.Buffer
	if err := p.render(&body, name, data); err != nil {
		return fmt.Errorf("part %s: %w", name, err)
	}
	if bytes.Equal(s.sent[name], body.Bytes()) {
		return nil
	}
	s.sent[name] = body.Bytes()
	return s.event("part", body.String())
}
