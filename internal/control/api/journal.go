package api

import (
	"context"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/slipway/slipway/internal/control/journal"
	"github.com/slipway/slipway/internal/link"
)

// JournalQuery selects lines of what processes say.
type JournalQuery struct {
	Text        string    `query:"text" maxLength:"200" doc:"In the message, or in what else the line says, in whatever case"`
	Level       string    `query:"level" enum:"debug,info,warn,error" doc:"At least as grave"`
	Plane       string    `query:"plane" maxLength:"63"`
	Stamp       string    `query:"stamp" maxLength:"63"`
	Environment string    `query:"environment" maxLength:"63"`
	Tenant      string    `query:"tenant" maxLength:"63"`
	Device      string    `query:"device" maxLength:"256"`
	Release     string    `query:"release" maxLength:"63"`
	Trace       string    `query:"trace" maxLength:"32"`
	From        time.Time `query:"from"`
	To          time.Time `query:"to"`
	Before      int64     `query:"before" minimum:"1" doc:"Older than this line"`
	Limit       int       `query:"limit" minimum:"1" maximum:"1000" doc:"Default 100"`
	Follow      bool      `query:"follow" doc:"The last lines, and then those that come: one JSON object a line, application/x-ndjson"`
}

func (q JournalQuery) filter() journal.Filter {
	return journal.Filter{
		Text: q.Text, Level: q.Level, Plane: q.Plane, Stamp: q.Stamp, Environment: q.Environment, Tenant: q.Tenant, Device: q.Device,
		Release: q.Release, Trace: q.Trace, From: q.From, To: q.To, Before: q.Before, Limit: q.Limit,
	}
}

type listTraces struct {
	Limit int `query:"limit" minimum:"1" maximum:"1000" doc:"Default 50"`
}

type traceRef struct {
	Trace string `path:"trace" maxLength:"32"`
}

// journal registers what processes say of what they do.
func (a *api) journal() {
	route(a, "GET", "/api/v1/logs", "searchLogs", "Lines of the logs of all processes, newest first", a.searchLogs)
	route(a, "GET", "/api/v1/traces", "listTraces", "The newest traces, by what began them", func(ctx context.Context, in *listTraces) (*body[list[link.Span]], error) {
		all, err := a.Journal.Traces(ctx, in.Limit)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/traces/{trace}", "getTrace", "What was done in a trace, in order", func(ctx context.Context, in *traceRef) (*body[list[journal.Step]], error) {
		all, err := a.Journal.Trace(ctx, in.Trace)
		return listOf(all, ""), err
	})
}

func (a *api) searchLogs(ctx context.Context, in *JournalQuery) (*huma.StreamResponse, error) {
	if in.Follow {
		return a.following(func(ctx context.Context, write func(any) error) error {
			return a.Journal.Follow(ctx, in.filter(), func(e journal.Entry) error { return write(e) })
		})
	}
	found, err := a.Journal.Search(ctx, in.filter())
	if err != nil {
		return nil, err
	}
	next := ""
	if len(found) > 0 && len(found) == max(in.Limit, 1) || in.Limit == 0 && len(found) == 100 {
		next = strconv.FormatInt(found[len(found)-1].ID, 10)
	}
	return a.streamed(listOf(found, next).Body), nil
}
