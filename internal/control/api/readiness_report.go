package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/slipway/slipway/internal/control/readiness"
)

type reportReadiness struct {
	Named
	Framework string `query:"framework" maxLength:"40" doc:"Only this framework; default all"`
}

type assessReadiness struct {
	Named
	Framework string `path:"framework" maxLength:"40"`
}

// PageAnswer is a page of HTML.
type PageAnswer struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

// readinessReports registers what is handed to others: reports, what frameworks
// ask for, and the calendar for calendar programs.
func (a *api) readinessReports() {
	const base = "/api/v1/environments/{name}/readiness"
	route(a, "GET", base+"/report", "getReadinessReport", "A signed report of how ready an environment is", func(ctx context.Context, in *reportReadiness) (*body[readiness.Signed], error) {
		s, err := a.Readiness.Report(ctx, actorOf(ctx).Name, in.Name, in.Framework)
		return &body[readiness.Signed]{s}, err
	})
	register(a, huma.Operation{OperationID: "getReadinessReportPage", Method: "GET", Path: base + "/report.html", Summary: "The same as one page to read and print, signed", Responses: describing("text/html")}, func(ctx context.Context, in *reportReadiness) (*PageAnswer, error) {
		s, err := a.Readiness.Report(ctx, actorOf(ctx).Name, in.Name, in.Framework)
		if err != nil {
			return nil, err
		}
		page, err := a.Readiness.Page(s)
		return &PageAnswer{"text/html; charset=utf-8", page}, err
	})
	route(a, "GET", "/api/v1/frameworks", "listFrameworks", "Frameworks and their controls, with the checks that answer each", func(ctx context.Context, _ *nothing) (*body[list[readiness.Framework]], error) {
		return listOf(readiness.Frameworks(), ""), nil
	})
	route(a, "GET", base+"/frameworks/{framework}", "assessFramework", "How an environment stands with what a framework asks for", func(ctx context.Context, in *assessReadiness) (*body[readiness.Assessment], error) {
		assessed, err := a.Readiness.Assess(ctx, in.Name, in.Framework)
		return &body[readiness.Assessment]{assessed}, err
	})
	register(a, huma.Operation{OperationID: "getCalendarFeed", Method: "GET", Path: "/api/v1/calendar.ics", Summary: "The calendar as iCalendar", Responses: describing("text/calendar")}, func(ctx context.Context, in *readCalendar) (*PageAnswer, error) {
		now := time.Now()
		all, err := a.Readiness.Calendar(ctx, in.Environment, now.AddDate(0, 0, in.Days))
		if err != nil {
			return nil, err
		}
		text, err := readiness.ICalendar(all, now)
		return &PageAnswer{"text/calendar; charset=utf-8", text}, err
	})
}

// describing describes an answer that is no JSON.
func describing(kind string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {Description: http.StatusText(http.StatusOK), Content: map[string]*huma.MediaType{kind: {Schema: &huma.Schema{Type: huma.TypeString}}}}}
}
