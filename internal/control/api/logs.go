package api

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// LogQuery asks for a page of a log, or to follow it.
type LogQuery struct {
	After  uint64 `query:"after" doc:"Sequence after which to begin"`
	Last   bool   `query:"last" doc:"The newest records instead of the oldest"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" doc:"Default 100"`
	Follow bool   `query:"follow" doc:"Go on with new records: one JSON object a line, application/x-ndjson"`
	Stamp  string `query:"stamp" doc:"Read another stamp than the one the device is on"`
}

type readDeviceLog struct {
	DeviceRef
	LogQuery
}

type readStampLog struct {
	Named
	LogQuery
}

// logSource is telemetry or events.
type logSource struct {
	read   func(ctx context.Context, stamp string, req link.ReadLog) (link.LogPage, error)
	follow func(ctx context.Context, stamp string, req link.WatchLog, each func(link.LogRecord) error) error
}

// logs registers telemetry and events.
func (a *api) logs() {
	telemetry := logSource{a.Fleet.Telemetry, a.Fleet.FollowTelemetry}
	events := logSource{a.Fleet.Events, a.Fleet.FollowEvents}
	for _, l := range []struct {
		path, id, summary string
		source            logSource
	}{
		{"messages", "Messages", "Telemetry", telemetry},
		{"events", "Events", "Events", events},
	} {
		route(a, "GET", "/api/v1/devices/{id}/"+l.path, "getDevice"+l.id, l.summary+" of a device", func(ctx context.Context, in *readDeviceLog) (*huma.StreamResponse, error) {
			return a.serveLog(ctx, l.source, in.Stamp, in.ID, in.LogQuery)
		})
		route(a, "GET", "/api/v1/stamps/{name}/"+l.path, "getStamp"+l.id, l.summary+" of all devices of a stamp", func(ctx context.Context, in *readStampLog) (*huma.StreamResponse, error) {
			return a.serveLog(ctx, l.source, in.Name, "", in.LogQuery)
		})
	}
}

// serveLog answers with a page, or with a stream of lines.
func (a *api) serveLog(ctx context.Context, source logSource, stamp, device string, in LogQuery) (*huma.StreamResponse, error) {
	if in.Follow {
		return a.following(func(ctx context.Context, write func(any) error) error {
			return source.follow(ctx, stamp, link.WatchLog{DeviceID: device, After: in.After}, func(r link.LogRecord) error { return write(r) })
		})
	}
	page, err := source.read(ctx, stamp, link.ReadLog{DeviceID: device, After: in.After, Last: in.Last, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	answer := struct {
		list[link.LogRecord]
		NextAfter uint64 `json:"nextAfter,omitempty"`
	}{list: listOf(page.Items, "").Body}
	if page.More && len(page.Items) > 0 {
		answer.NextAfter = page.Items[len(page.Items)-1].Sequence
	}
	return a.streamed(answer), nil
}

// streamed is an answer of an operation that can stream, too.
func (a *api) streamed(answer any) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		hctx.SetHeader("Content-Type", "application/json")
		if err := json.NewEncoder(hctx.BodyWriter()).Encode(answer); err != nil {
			a.Logger.Debug("answer not delivered", "error", err)
		}
	}}
}

// heartbeat keeps an idle stream's connection known to be alive.
const heartbeat = 15 * time.Second

// following is an answer that goes on for as long as somebody reads it.
func (a *api) following(follow func(ctx context.Context, write func(any) error) error) (*huma.StreamResponse, error) {
	select {
	case a.streams <- struct{}{}:
	default:
		return nil, problem.New(problem.Busy, "%d streams are open already; close some", maxStreams).After(5 * time.Second)
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		defer func() { <-a.streams }()
		_, w := humago.Unwrap(hctx)
		hctx.SetHeader("Content-Type", "application/x-ndjson")
		lines := &lineWriter{w: w, flush: http.NewResponseController(w)}
		if err := lines.beat(); err != nil {
			return
		}
		ctx, cancel := context.WithCancel(hctx.Context())
		defer cancel()
		go lines.keepAlive(ctx, cancel)
		a.endLines(ctx, lines, follow(ctx, lines.write))
	}}, nil
}

// endLines says in the last line why a stream ends, if there is a reason: the
// status has left.
func (a *api) endLines(ctx context.Context, lines *lineWriter, err error) {
	if ctx.Err() != nil {
		err = access.Cut(ctx)
	}
	if err == nil {
		return
	}
	if err := lines.write(statusOf(err)); err != nil {
		a.Logger.Debug("stream not ended properly", "error", err)
	}
}

// lineWriter writes one JSON object a line.
type lineWriter struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	flush *http.ResponseController
}

func (l *lineWriter) write(value any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := json.NewEncoder(l.w).Encode(value); err != nil {
		return err
	}
	return l.flush.Flush()
}

// beat writes an empty line, which readers of ndjson pass over.
func (l *lineWriter) beat() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.w.Write([]byte("\n")); err != nil {
		return err
	}
	return l.flush.Flush()
}

func (l *lineWriter) keepAlive(ctx context.Context, cancel context.CancelFunc) {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if l.beat() != nil {
				cancel()
				return
			}
		}
	}
}
