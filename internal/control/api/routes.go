package api

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

type listRoutes struct {
	Secrets bool `query:"secrets" doc:"Answer with the secrets of endpoints; recorded in the audit log"`
}

type getRoute struct {
	Named
	Secrets bool `query:"secrets" doc:"Answer with the secrets of endpoints; recorded in the audit log"`
}

type tryRoute struct {
	Named
	Body link.LogRecord
}

type listDeadLetters struct {
	Named
	Stamp string `query:"stamp" required:"true" maxLength:"63"`
	After string `query:"after" maxLength:"20"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000"`
}

type useDeadLetters struct {
	Named
	Body struct {
		Stamp string  `json:"stamp" maxLength:"63"`
		IDs   []int64 `json:"ids,omitempty" maxItems:"1000" doc:"Which ones; none means all"`
	}
}

// routes registers routes, their dead letters, and the groups of readers.
func (a *api) routes() {
	route(a, "GET", "/api/v1/routes", "listRoutes", "Routes in order of name, with their state on each stamp", func(ctx context.Context, in *listRoutes) (*body[list[resource.Route]], error) {
		all, err := a.Environments.Routes(ctx, actorOf(ctx), in.Secrets)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/routes/{name}", "getRoute", "One route", func(ctx context.Context, in *getRoute) (*tagged[resource.Route], error) {
		r, err := a.Environments.Route(ctx, actorOf(ctx), in.Name, in.Secrets)
		return &tagged[resource.Route]{quote(r.Metadata.ETag), r}, err
	})
	route(a, "PUT", "/api/v1/routes/{name}", "putRoute", "Create or replace a route; secrets sent as *** stay", func(ctx context.Context, in *putNamed[declared[link.RouteSpec]]) (*tagged[resource.Route], error) {
		r, err := a.Environments.PutRoute(ctx, actorOf(ctx), in.Name, in.Body.Spec, in.IfMatch, in.DryRun)
		return &tagged[resource.Route]{quote(r.Metadata.ETag), r}, err
	})
	route(a, "DELETE", "/api/v1/routes/{name}", "deleteRoute", "Delete a route with its dead letters", func(ctx context.Context, in *dropNamed) (*nothing, error) {
		return &nothing{}, a.Environments.DeleteRoute(ctx, actorOf(ctx), in.Name, in.IfMatch)
	})
	route(a, "POST", "/api/v1/routes/{name}/try", "tryRoute", "What the route would make of a message; nothing is sent", func(ctx context.Context, in *tryRoute) (*body[link.RouteTrial], error) {
		r, err := a.Environments.Route(ctx, actorOf(ctx), in.Name, false)
		if err != nil {
			return nil, err
		}
		trial, err := a.Environments.TryRoute(ctx, link.TryRoute{Spec: r.Spec, Message: &in.Body})
		return &body[link.RouteTrial]{trial}, err
	})
	route(a, "GET", "/api/v1/routes/{name}/dead-letters", "listDeadLetters", "Messages the route could not deliver, oldest first", func(ctx context.Context, in *listDeadLetters) (*body[list[link.DeadLetter]], error) {
		after, err := sequence("after", in.After)
		if err != nil {
			return nil, err
		}
		page, err := a.Fleet.DeadLetters(ctx, in.Stamp, link.DeadLetterPage{Route: in.Name, After: after, Limit: in.Limit})
		next := ""
		if page.More && len(page.Items) > 0 {
			next = strconv.FormatInt(page.Items[len(page.Items)-1].ID, 10)
		}
		return listOf(page.Items, next), err
	})
	route(a, "POST", "/api/v1/routes/{name}/dead-letters/replay", "replayDeadLetters", "Offer dead letters to the endpoint once more", func(ctx context.Context, in *useDeadLetters) (*body[link.Purged], error) {
		n, err := a.Fleet.ReplayDeadLetters(ctx, actorOf(ctx), in.Body.Stamp, link.DeadLetterRef{Route: in.Name, IDs: in.Body.IDs})
		return &body[link.Purged]{n}, err
	})
	route(a, "POST", "/api/v1/routes/{name}/dead-letters/purge", "purgeDeadLetters", "Drop dead letters", func(ctx context.Context, in *useDeadLetters) (*body[link.Purged], error) {
		n, err := a.Fleet.PurgeDeadLetters(ctx, actorOf(ctx), in.Body.Stamp, link.DeadLetterRef{Route: in.Name, IDs: in.Body.IDs})
		return &body[link.Purged]{n}, err
	})
	a.consumers()
}

func sequence(field, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, problem.New(problem.Invalid, "%q is not a sequence number", text).At(field)
	}
	return n, nil
}

// GroupRef is a group of readers in the path.
type GroupRef struct {
	StampRef
	Group string `path:"group" maxLength:"64"`
}

type readGroup struct {
	GroupRef
	Source    string `query:"source" enum:"telemetry,events" doc:"Default telemetry"`
	Partition string `query:"partition" maxLength:"2" doc:"0 to 3: share the work with readers of the others; empty reads everything"`
	From      string `query:"from" enum:"earliest,latest" doc:"Where a new group begins; default latest"`
	After     uint64 `query:"after" doc:"Read ahead of what is acknowledged"`
	Limit     int    `query:"limit" minimum:"1" maximum:"1000" doc:"Default 100"`
	Wait      int    `query:"waitSeconds" minimum:"0" maximum:"30" doc:"For the first message"`
	Follow    bool   `query:"follow" doc:"Go on with new messages: one JSON object a line, application/x-ndjson"`
}

func (in readGroup) request() (link.ReadConsumer, error) {
	req := link.ReadConsumer{
		ConsumerRef: link.ConsumerRef{Group: in.Group, Source: in.Source}, From: in.From, After: in.After, Limit: in.Limit, Wait: time.Duration(in.Wait) * time.Second,
	}
	if in.Partition != "" {
		n, err := sequence("partition", in.Partition)
		if err != nil {
			return req, err
		}
		partition := int(n)
		req.Partition = &partition
	}
	return req, nil
}

type ackGroup struct {
	GroupRef
	Body struct {
		Source    string `json:"source,omitempty" enum:"telemetry,events"`
		Partition *int   `json:"partition,omitempty"`
		Position  uint64 `json:"position" doc:"Everything up to this sequence is worked off"`
	}
}

type seekGroup struct {
	GroupRef
	Body struct {
		Source    string     `json:"source,omitempty" enum:"telemetry,events"`
		Partition *int       `json:"partition,omitempty"`
		To        string     `json:"to,omitempty" enum:"earliest,latest"`
		Sequence  uint64     `json:"sequence,omitempty" doc:"Go on with this one"`
		Time      *time.Time `json:"time,omitempty" doc:"Go on with what came from then on"`
	}
}

// consumers registers the built-in way to read telemetry and events.
func (a *api) consumers() {
	const base = "/api/v1/stamps/{name}/consumers"
	route(a, "GET", base, "listConsumers", "Groups that read the stamp, with how far behind they are", func(ctx context.Context, in *StampRef) (*body[list[link.Consumer]], error) {
		all, err := a.Fleet.Consumers(ctx, in.Stamp)
		return listOf(all, ""), err
	})
	route(a, "GET", base+"/{group}/messages", "readConsumer", "What comes after the group's position; acknowledging moves that on", a.readGroup)
	route(a, "POST", base+"/{group}/ack", "ackConsumer", "Say that everything up to a position is worked off", func(ctx context.Context, in *ackGroup) (*body[link.Consumer], error) {
		c, err := a.Fleet.AckConsumer(ctx, in.Stamp, link.AckConsumer{ConsumerRef: link.ConsumerRef{Group: in.Group, Source: in.Body.Source, Partition: in.Body.Partition}, Position: in.Body.Position})
		return &body[link.Consumer]{c}, err
	})
	route(a, "POST", base+"/{group}/seek", "seekConsumer", "Set where the group goes on", func(ctx context.Context, in *seekGroup) (*body[link.Consumer], error) {
		c, err := a.Fleet.SeekConsumer(ctx, actorOf(ctx), in.Stamp, link.SeekConsumer{
			ConsumerRef: link.ConsumerRef{Group: in.Group, Source: in.Body.Source, Partition: in.Body.Partition}, To: in.Body.To, Sequence: in.Body.Sequence, Time: in.Body.Time,
		})
		return &body[link.Consumer]{c}, err
	})
	route(a, "DELETE", base+"/{group}", "deleteConsumer", "Forget a group", func(ctx context.Context, in *GroupRef) (*nothing, error) {
		return &nothing{}, a.Fleet.DeleteConsumer(ctx, actorOf(ctx), in.Stamp, in.Group)
	})
}

func (a *api) readGroup(ctx context.Context, in *readGroup) (*huma.StreamResponse, error) {
	req, err := in.request()
	if err != nil {
		return nil, err
	}
	if in.Follow {
		return a.following(func(ctx context.Context, write func(any) error) error {
			return a.followGroup(ctx, in.Stamp, req, func(r link.LogRecord) error { return write(r) })
		})
	}
	page, err := a.Fleet.ReadConsumer(ctx, in.Stamp, req)
	if err != nil {
		return nil, err
	}
	if page.Items == nil {
		page.Items = []link.LogRecord{}
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		hctx.SetHeader("Content-Type", "application/json")
		if err := json.NewEncoder(hctx.BodyWriter()).Encode(page); err != nil {
			a.Logger.Debug("answer not delivered", "error", err)
		}
	}}, nil
}

// followGroup reads on and on, ahead of what the reader acknowledges.
func (a *api) followGroup(ctx context.Context, stamp string, req link.ReadConsumer, each func(link.LogRecord) error) error {
	req.Wait = 20 * time.Second
	for ctx.Err() == nil {
		page, err := a.Fleet.ReadConsumer(ctx, stamp, req)
		if err != nil {
			return err
		}
		for _, r := range page.Items {
			if err := each(r); err != nil {
				return err
			}
		}
		req.After = page.Position
	}
	return nil
}
