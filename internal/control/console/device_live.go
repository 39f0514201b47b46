package console

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
)

const (
	deviceEvery  = 500 * time.Millisecond
	factsEvery   = 4 // beats between two looks at the facts
	plotHistory  = 200
	maxPending   = 1000 // points that wait for a slow browser; older ones go
	followPause  = 2 * time.Second
	followShown  = "telemetry"
	followEvents = "events"
)

// deviceLive sends what moves on a device's page: facts, queue, reported
// properties, messages, events, and the points of the plot.
func (c *console) deviceLive(w http.ResponseWriter, r *http.Request, s access.Session) error {
	view := deviceView{base: inside(r, s, "devices", r.PathValue("id"))}
	ctx, stop := context.WithCancel(r.Context())
	log := &liveLog{}
	var following sync.WaitGroup
	defer following.Wait()
	defer stop()
	id := r.PathValue("id")
	following.Go(func() { c.follow(ctx, id, followShown, c.Fleet.Telemetry, c.Fleet.FollowTelemetry, log.addMessage) })
	following.Go(func() { c.follow(ctx, id, followEvents, c.Fleet.Events, c.Fleet.FollowEvents, log.addEvent) })
	beat := 0
	return c.live(w, r, deviceEvery, func(ctx context.Context, out *stream) error {
		if beat%factsEvery == 0 {
			if err := c.refresh(ctx, &view, id); err != nil {
				return err
			}
			view.Twin.Reported = newTwinView(view.Detail.Twin, view.TwinETag).Reported
		}
		beat++
		return sendDevice(out, &view, log)
	})
}

func sendDevice(out *stream, view *deviceView, log *liveLog) error {
	points, reset := log.take(view)
	parts := []string{"facts", "software", "history", "queue"}
	if view.Here() {
		parts = append(parts, "reported")
	}
	if view.Messages != nil {
		parts = append(parts, "messages")
	}
	if view.Events != nil {
		parts = append(parts, "events")
	}
	for _, name := range parts {
		if err := out.part(devicePage, name, view); err != nil {
			return err
		}
	}
	if len(points) == 0 && !reset {
		return nil
	}
	return out.json("points", map[string]any{"reset": reset, "points": points})
}

type (
	readFunc   func(ctx context.Context, stamp string, req link.ReadLog) (link.LogPage, error)
	followFunc func(ctx context.Context, stamp string, req link.WatchLog, each func(link.LogRecord) error) error
)

// follow adds a log's newest records and then all that come, until ctx ends.
// When the stamp is away it tries again.
func (c *console) follow(ctx context.Context, id, what string, read readFunc, watch followFunc, add func(fresh bool, records ...link.LogRecord)) {
	for ctx.Err() == nil {
		page, err := read(ctx, "", link.ReadLog{DeviceID: id, Last: true, Limit: plotHistory})
		if err == nil {
			add(true, page.Items...)
			err = watch(ctx, "", link.WatchLog{DeviceID: id, After: sequence(page.Items)}, func(r link.LogRecord) error {
				add(false, r)
				return nil
			})
		}
		if err != nil && ctx.Err() == nil {
			c.Logger.Debug("console follows again", "device", id, "log", what, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(followPause):
		}
	}
}

// liveLog is what has come for one open page: the newest lines, and the
// points not sent yet.
type liveLog struct {
	mu       sync.Mutex
	messages []link.LogRecord
	events   []link.LogRecord
	points   []point
	reset    bool
	changed  bool
}

func (l *liveLog) addMessage(fresh bool, records ...link.LogRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if fresh {
		l.messages, l.points, l.reset = nil, nil, true
	}
	l.messages = newest(append(l.messages, records...), shownMessages)
	l.points = newest(append(l.points, pointsOf(records)...), maxPending)
	l.changed = true
}

func (l *liveLog) addEvent(fresh bool, records ...link.LogRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if fresh {
		l.events = nil
	}
	l.events = newest(append(l.events, records...), shownEvents)
	l.changed = true
}

func newest[T any](all []T, most int) []T { return all[max(0, len(all)-most):] }

// take moves what has come into the view and returns the points not taken yet.
func (l *liveLog) take(view *deviceView) (points []point, reset bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	points, reset = l.points, l.reset
	l.points, l.reset = nil, false
	if l.changed {
		l.changed = false
		if l.messages != nil {
			view.Messages = newestFirst(l.messages, shownMessages)
		}
		if l.events != nil {
			view.Events = newestFirst(l.events, shownEvents)
		}
	}
	return points, reset
}
