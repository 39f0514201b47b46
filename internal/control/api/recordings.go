package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/gateway"
	"github.com/slipway/slipway/internal/problem"
)

type openShell struct {
	Body struct {
		Environment string `json:"environment" maxLength:"63"`
		Stamp       string `json:"stamp,omitempty" maxLength:"63" doc:"Whose data is asked; default every stamp of the environment"`
		Device      string `json:"device,omitempty" maxLength:"128" doc:"What commands are about; may be chosen later"`
		Reason      string `json:"reason,omitempty" maxLength:"2000"`
	}
}

type typeLine struct {
	IDRef
	Body struct {
		Line string `json:"line" minLength:"1" maxLength:"65536" doc:"A command, such as method reboot {\"delay\": 3}; help lists them"`
	}
}

type listRecordings struct {
	Environment string `query:"environment" maxLength:"63"`
	Person      string `query:"person" maxLength:"200"`
	Grant       string `query:"grant" maxLength:"63"`
	Open        bool   `query:"open" doc:"Only those that are open"`
	After       string `query:"after" maxLength:"20"`
	Limit       int    `query:"limit" minimum:"1" maximum:"1000"`
}

type readLines struct {
	IDRef
	After  int  `query:"after" minimum:"0" doc:"Number after which to begin"`
	Limit  int  `query:"limit" minimum:"1" maximum:"1000" doc:"Default 100"`
	Follow bool `query:"follow" doc:"Go on with new lines until the session is closed, which the last line says: one JSON object a line, application/x-ndjson"`
}

// FollowedLine is a line of a session as it is recorded, or the session once it
// is closed.
type FollowedLine struct {
	Line   *gateway.Line    `json:"line,omitempty"`
	Closed *gateway.Session `json:"closed,omitempty"`
}

// Verified is whether a record is still what it was when it was closed.
type Verified struct {
	Same   bool   `json:"same" doc:"It has the digest that the audit log was given"`
	Digest string `json:"digest,omitempty"`
}

// recordings registers the gateway's recorded sessions.
func (a *api) recordings() {
	route(a, "POST", "/api/v1/recordings", "openShell", "Open a recorded shell on an environment", func(ctx context.Context, in *openShell) (*body[gateway.Session], error) {
		s, err := a.Gateway.Open(ctx, actorOf(ctx), gateway.Opening{Environment: in.Body.Environment, Stamp: in.Body.Stamp, Device: in.Body.Device, Reason: in.Body.Reason})
		return &body[gateway.Session]{s}, err
	})
	route(a, "POST", "/api/v1/recordings/{id}/lines", "typeLine", "Run a command in one's own shell", func(ctx context.Context, in *typeLine) (*body[gateway.Reply], error) {
		answer, err := a.Gateway.Type(ctx, actorOf(ctx), in.ID, in.Body.Line)
		return &body[gateway.Reply]{answer}, err
	})
	route(a, "DELETE", "/api/v1/recordings/{id}", "closeShell", "Close one's own session", func(ctx context.Context, in *IDRef) (*body[gateway.Session], error) {
		s, err := a.Gateway.Close(ctx, actorOf(ctx), in.ID)
		return &body[gateway.Session]{s}, err
	})
	route(a, "GET", "/api/v1/recordings", "listRecordings", "Recorded sessions, newest first", func(ctx context.Context, in *listRecordings) (*body[list[gateway.Session]], error) {
		before, err := numberAfter(in.After)
		if err != nil {
			return nil, err
		}
		all, next, err := a.Gateway.List(ctx, actorOf(ctx), gateway.Filter{Environment: in.Environment, Person: in.Person, Grant: in.Grant, Open: in.Open, Before: before, Limit: in.Limit})
		return listOf(all, nextOf(next)), err
	})
	route(a, "GET", "/api/v1/recordings/{id}", "getRecording", "A recorded session", func(ctx context.Context, in *IDRef) (*body[gateway.Session], error) {
		s, err := a.recording(ctx, in.ID)
		return &body[gateway.Session]{s}, err
	})
	route(a, "GET", "/api/v1/recordings/{id}/verification", "verifyRecording", "Whether a record is still what it was when it was closed", func(ctx context.Context, in *IDRef) (*body[Verified], error) {
		s, err := a.recording(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		same, err := a.Gateway.Verify(ctx, in.ID)
		return &body[Verified]{Verified{same, s.Digest}}, err
	})
	route(a, "GET", "/api/v1/recordings/{id}/lines", "readRecording", "What a session did, and what came back", a.readSession)
	route(a, "GET", "/api/v1/recordings/{id}/record", "castRecording", "The record of a session as an asciicast, version 2", func(ctx context.Context, in *IDRef) (*huma.StreamResponse, error) {
		if _, err := a.recording(ctx, in.ID); err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(hctx huma.Context) {
			hctx.SetHeader("Content-Type", "application/x-asciicast")
			if err := a.Gateway.Cast(hctx.Context(), in.ID, hctx.BodyWriter()); err != nil {
				a.Logger.Debug("record not delivered", "session", in.ID, "error", err)
			}
		}}, nil
	})
}

// recording returns a session whose record who asks may read.
func (a *api) recording(ctx context.Context, id string) (gateway.Session, error) {
	s, err := a.Gateway.Get(ctx, id)
	if err == nil {
		err = a.Gateway.MayRead(ctx, actorOf(ctx), s)
	}
	if err == nil {
		access.Keep(ctx, func(ctx context.Context, actor access.Actor) error { return a.Gateway.MayRead(ctx, actor, s) })
	}
	return s, err
}

func (a *api) readSession(ctx context.Context, in *readLines) (*huma.StreamResponse, error) {
	if _, err := a.recording(ctx, in.ID); err != nil {
		return nil, err
	}
	if in.Follow {
		return a.followSession(in)
	}
	lines, err := a.Gateway.Lines(ctx, in.ID, in.After, pageOf(in.Limit))
	if err != nil {
		return nil, err
	}
	return a.streamed(listOf(lines, "").Body), nil
}

func (a *api) followSession(in *readLines) (*huma.StreamResponse, error) {
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
		s, err := a.Gateway.Follow(ctx, in.ID, in.After, func(l gateway.Line) error { return lines.write(FollowedLine{Line: &l}) })
		if err == nil && ctx.Err() == nil {
			err = lines.write(FollowedLine{Closed: &s})
		}
		a.endLines(ctx, lines, err)
	}}, nil
}
