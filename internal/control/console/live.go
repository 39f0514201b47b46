package console

import (
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// eventStream writes server-sent events.
type eventStream struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	flush *http.ResponseController
	last  string // fragment sent last; the same again is not sent
}

func (e *eventStream) send(event, data string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "event: %s\n", event)
	for line := range strings.SplitSeq(data, "\n") {
		fmt.Fprintf(&b, "data: %s\n", line)
	}
	b.WriteByte('\n')
	if _, err := e.w.Write([]byte(b.String())); err != nil {
		return err
	}
	return e.flush.Flush()
}

// fragment sends a block of a page if it has changed.
func (e *eventStream) fragment(page *template.Template, block string, data any) error {
	var b strings.Builder
	if err := page.ExecuteTemplate(&b, block, data); err != nil {
		return err
	}
	if b.String() == e.last {
		return nil
	}
	e.last = b.String()
	return e.send(block, e.last)
}

// open begins a stream of events, if there is a place for one more.
func (c *console) open(w http.ResponseWriter) (*eventStream, func(), error) {
	select {
	case c.streams <- struct{}{}:
	default:
		return nil, nil, problem.New(problem.Busy, "too many pages are open").After(5 * time.Second)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	return &eventStream{w: w, flush: http.NewResponseController(w)}, func() { <-c.streams }, nil
}

// repeat calls step every so often until the reader leaves or step says that
// there is no more. What fails is tried again: pages outlive a restart.
func (c *console) repeat(w http.ResponseWriter, r *http.Request, every time.Duration, step func(context.Context, *eventStream) (bool, error)) error {
	events, done, err := c.open(w)
	if err != nil {
		return err
	}
	defer done()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		more, err := step(r.Context(), events)
		if r.Context().Err() != nil {
			return nil
		}
		if err != nil {
			c.Logger.Debug("live page not updated", "path", r.URL.Path, "error", err)
		} else if !more {
			return events.send("end", "")
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-tick.C:
		}
	}
}

// liveDevice sends a device's telemetry and events as JSON, and its panel when
// that changes.
func (c *console) liveDevice(w http.ResponseWriter, r *http.Request, s access.Session) error {
	id := r.PathValue("id")
	if _, err := c.Fleet.Show(r.Context(), id); err != nil {
		return err
	}
	events, done, err := c.open(w)
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var parts sync.WaitGroup
	record := func(name string) func(link.LogRecord) error {
		return func(rec link.LogRecord) error {
			text, err := json.Marshal(rec)
			if err != nil {
				return err
			}
			return events.send(name, string(text))
		}
	}
	parts.Go(func() { c.keepFollowing(ctx, c.Fleet.FollowTelemetry, id, record("telemetry")) })
	parts.Go(func() { c.keepFollowing(ctx, c.Fleet.FollowEvents, id, record("happened")) })
	c.refreshPanel(ctx, events, id, s)
	cancel()
	parts.Wait()
	return nil
}

const panelEvery = time.Second

func (c *console) refreshPanel(ctx context.Context, events *eventStream, id string, s access.Session) {
	tick := time.NewTicker(panelEvery)
	defer tick.Stop()
	for {
		if d, err := c.Fleet.Show(ctx, id); err == nil {
			if err := events.fragment(c.pages["device"], "panel", devicePage{Device: d}); err != nil {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

type follow func(ctx context.Context, stamp string, req link.WatchLog, each func(link.LogRecord) error) error

// keepFollowing follows until the reader leaves; a stamp that was away is
// asked again.
func (c *console) keepFollowing(ctx context.Context, follow follow, id string, each func(link.LogRecord) error) {
	for ctx.Err() == nil {
		if err := follow(ctx, "", link.WatchLog{DeviceID: id}, each); err != nil {
			c.Logger.Debug("device not followed", "device", id, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
}
