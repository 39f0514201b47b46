package api

import (
	"context"
	"strconv"
	"strings"

	"github.com/slipway/slipway/internal/control/retention"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

type setRetention struct{ Body retention.Settings }

type tryRetention struct {
	Planes []string `query:"planes" maxItems:"1000" doc:"control, provisioning, stamp.NAME; all where none is named"`
	Days   []string `query:"days" maxItems:"100" doc:"Kinds kept for another number of days than is declared, such as uploads:10"`
}

type runRetention struct {
	Body struct {
		Planes []string `json:"planes,omitempty" maxItems:"1000" doc:"control, provisioning, stamp.NAME; all where none is named"`
	}
}

type listLegalHolds struct {
	All bool `query:"all" doc:"Those that were lifted, too"`
}

type placeLegalHold struct {
	Body struct {
		Device string `json:"device,omitempty" maxLength:"128" doc:"Whose data is kept"`
		Tenant string `json:"tenant,omitempty" maxLength:"63" doc:"Or that of all devices of a tenant"`
		Reason string `json:"reason" maxLength:"500"`
	}
}

type liftLegalHold struct {
	IDRef
	Body struct {
		Reason string `json:"reason" maxLength:"500"`
	}
}

// retention registers how long things are kept, and legal holds.
func (a *api) retention() {
	const base = "/api/v1/retention"
	route(a, "GET", base, "getRetention", "How long everything is kept, and how each plane stands with its clean-ups", func(ctx context.Context, _ *struct{}) (*body[retention.RetentionOverview], error) {
		o, err := a.Retention.Overview(ctx)
		return &body[retention.RetentionOverview]{o}, err
	})
	route(a, "PUT", base, "setRetention", "Change how long things are kept", func(ctx context.Context, in *setRetention) (*body[retention.Settings], error) {
		s, err := a.Retention.Set(ctx, actorOf(ctx), in.Body)
		return &body[retention.Settings]{s}, err
	})
	route(a, "GET", base+"/dry-run", "tryRetention", "What would be removed now; nothing is", func(ctx context.Context, in *tryRetention) (*body[list[retention.Trial]], error) {
		days, err := daysOf(in.Days)
		if err != nil {
			return nil, err
		}
		all, err := a.Retention.DryRun(ctx, in.Planes, days)
		return listOf(all, ""), err
	})
	route(a, "POST", base+"/run", "runRetention", "Clean planes up now", func(ctx context.Context, in *runRetention) (*body[list[string]], error) {
		asked, err := a.Retention.RunNow(ctx, actorOf(ctx), in.Body.Planes)
		return listOf(asked, ""), err
	})
	const holds = "/api/v1/legal-holds"
	route(a, "GET", holds, "listLegalHolds", "Legal holds, newest first", func(ctx context.Context, in *listLegalHolds) (*body[list[retention.LegalHold]], error) {
		all, err := a.Retention.Holds(ctx, in.All)
		return listOf(all, ""), err
	})
	route(a, "POST", holds, "placeLegalHold", "Keep everything known of a device or a tenant, whatever its age", func(ctx context.Context, in *placeLegalHold) (*body[retention.LegalHold], error) {
		h, err := a.Retention.Place(ctx, actorOf(ctx), link.CareHold{Device: in.Body.Device, Tenant: in.Body.Tenant}, in.Body.Reason)
		return &body[retention.LegalHold]{h}, err
	})
	route(a, "POST", holds+"/{id}/lift", "liftLegalHold", "End a legal hold", func(ctx context.Context, in *liftLegalHold) (*body[retention.LegalHold], error) {
		h, err := a.Retention.Lift(ctx, actorOf(ctx), in.ID, in.Body.Reason)
		return &body[retention.LegalHold]{h}, err
	})
}

// daysOf reads kinds with their days.
func daysOf(texts []string) (map[string]int, error) {
	days := map[string]int{}
	for _, text := range texts {
		kind, n, ok := strings.Cut(text, ":")
		number, err := strconv.Atoi(n)
		if !ok || err != nil {
			return nil, problem.New(problem.Invalid, "a kind with its days reads uploads:10, not %q", text).At("days")
		}
		days[kind] = number
	}
	return days, nil
}
