package console

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/gateway"
	"github.com/slipway/slipway/internal/control/grant"
	"github.com/slipway/slipway/internal/problem"
)

type (
	grantsOf  struct{ *world }
	gatewayOf struct{ *world }
)

// What the console is given is what these packages have.
var (
	_ Grants  = (*grant.Grants)(nil)
	_ Gateway = (*gateway.Gateway)(nil)
)

// given are grants in every state that people look at.
func given() (all []grant.Grant) {
	for i, g := range []grant.Grant{
		{State: grant.Pending, Name: "ada", Needs: 2, Approvals: []grant.Agreement{{Person: "bob", Name: "bob", Reason: "as we spoke", At: noon}}},
		{State: grant.Active, Name: "cy", BreakGlass: true, ActiveAt: ptr(noon.Add(-10 * time.Minute)), Until: ptr(noon.Add(20 * time.Minute))},
		{State: grant.Active, Name: "dee", ActiveAt: ptr(noon.Add(-10 * time.Minute)), Until: ptr(noon.Add(4 * time.Hour))},
		{State: grant.Scheduled, Name: "eve"},
		{State: grant.ReviewDue, Name: "ada", End: grant.EndRevoked, ActiveAt: ptr(noon.Add(-3 * time.Hour)), Until: ptr(noon.Add(-2 * time.Hour)), ReviewBy: ptr(noon.Add(-time.Hour))},
		{State: grant.Denied, Name: "<script>"},
		{State: grant.Draft, Name: "ada"},
	} {
		g.ID, g.Environment, g.Person, g.By, g.CreatedAt, g.DecideBy = fmt.Sprintf("grant-%d", i+1), "production", g.Name, g.Name, noon.Add(-time.Hour), noon.Add(23*time.Hour)
		g.Request = grant.Request{Purpose: "troubleshooting", Reason: "the pump does not start <b>", Ticket: "INC-12", Seconds: 1800, Scope: grant.Extent{Permissions: []string{"device.write"}, Devices: []string{"pump-0007"}}}
		if g.State == grant.Scheduled {
			g.StartsAt = ptr(noon.Add(2 * time.Hour))
		}
		g.Log = []grant.Happened{{At: noon, What: "requested", State: grant.Pending, By: g.Name, Reason: g.Reason}, {At: noon, What: "approved", State: g.State, By: "bob"}}
		all = append(all, g)
	}
	return all
}

func (g grantsOf) Ask(_ context.Context, _ access.Actor, a grant.Asking) (grant.Grant, error) {
	return grant.Grant{ID: "grant-1"}, g.say("ask", a.Environment, a.Request.Purpose, a.Request.Reason, a.Request.Duration().String(), fmt.Sprint(a.Request.Scope))
}

func (g grantsOf) BreakGlass(_ context.Context, _ access.Actor, environment string, r grant.Request) (grant.Grant, error) {
	return grant.Grant{ID: "grant-2"}, g.say("break glass", environment, r.Purpose)
}

func (g grantsOf) Say(_ context.Context, _ access.Actor, id string, w grant.Word) (grant.Grant, error) {
	return grant.Grant{}, g.say(string(w.Verb), id, w.Reason)
}

func (g grantsOf) Get(_ context.Context, id string) (grant.Grant, error) {
	for _, one := range given() {
		if one.ID == id {
			return one, nil
		}
	}
	return grant.Grant{}, problem.New(problem.NotFound, "there is no grant %q", id)
}

func (g grantsOf) List(_ context.Context, f grant.Filter) (some []grant.Grant, _ int64, _ error) {
	if len(g.levels) == 0 {
		return nil, 0, nil
	}
	for _, one := range given() {
		if f.State == "" || one.State == f.State {
			some = append(some, one)
		}
	}
	return some, 0, nil
}

func (g grantsOf) Uses(context.Context, string) ([]grant.Used, error) {
	return []grant.Used{{Permission: "device.write", Count: 12, LastAt: noon}}, nil
}

func (g grantsOf) Broken(context.Context) ([]grant.Grant, error) {
	if len(g.levels) == 0 {
		return nil, nil
	}
	return given()[1:2], nil
}

// reviews are two of production: one that somebody has begun, one that is done.
func reviews() []grant.AccessReview {
	rows := []grant.ReviewRow{
		{Holding: grant.Holding{ID: "b-1", Person: "ada", Name: "ada", Role: access.Operator, Where: "everywhere", Since: ptr(noon.Add(-2000 * time.Hour)), UsedAt: ptr(noon.Add(-26 * time.Hour)), Unused: []string{"tenant.write", "secret.write", "backup.write"}}},
		{Holding: grant.Holding{ID: "b-2", Person: "", Name: "group <ops>", Role: access.Viewer, Where: "environment production", Since: ptr(noon.Add(-3000 * time.Hour))}, Decision: grant.Keep, DecidedBy: "bob", DecidedAt: ptr(noon)},
		{Holding: grant.Holding{ID: "b-3", Person: "dee", Name: "dee", Role: access.Admin, Where: "everywhere", Unused: []string{"peer.write"}}, Decision: grant.Remove, Reason: "left the team", DecidedBy: "bob", DecidedAt: ptr(noon)},
	}
	used := []grant.GrantUsed{{ID: "grant-2", Name: "cy", Purpose: "hotfix", BreakGlass: true, State: grant.Reviewed, ActiveAt: ptr(noon.Add(-48 * time.Hour)), Uses: []grant.Used{{Permission: "device.write", Count: 12, LastAt: noon}}, Unused: []string{"stamp.write"}}}
	begun := grant.AccessReview{ID: "review-2", Environment: "production", By: "bob", Person: "bob", OpenedAt: noon.Add(-time.Hour), Rows: rows, Grants: used}
	done := begun
	done.ID, done.Rows, done.OpenedAt, done.DoneAt = "review-1", rows[1:], noon.Add(-2400*time.Hour), ptr(noon.Add(-2390*time.Hour))
	return []grant.AccessReview{begun, done}
}

func (g grantsOf) OpenReview(_ context.Context, _ access.Actor, environment string) (grant.AccessReview, error) {
	return reviews()[0], g.say("open review", environment)
}

func (g grantsOf) Decide(_ context.Context, _ access.Actor, id, right, decision, reason string) (grant.AccessReview, error) {
	return reviews()[0], g.say("decide", id, right, decision, reason)
}

func (g grantsOf) AccessReview(_ context.Context, id string) (grant.AccessReview, error) {
	for _, r := range reviews() {
		if r.ID == id {
			return r, nil
		}
	}
	return grant.AccessReview{}, problem.New(problem.NotFound, "there is no access review %q", id)
}

func (g grantsOf) AccessReviews(context.Context, string) ([]grant.AccessReview, error) {
	if len(g.levels) == 0 {
		return nil, nil
	}
	return reviews(), nil
}

// recorded are two sessions: one open, one closed.
func recorded() []gateway.Session {
	open := gateway.Session{ID: "session-2", Environment: "production", Person: "cy", Name: "cy", Way: gateway.Shell, Grant: "grant-2", Device: "pump-0007", Reason: "INC-12", OpenedAt: noon.Add(-5 * time.Minute), LastAt: noon, Lines: 4}
	closed := open
	closed.ID, closed.Way, closed.ClosedAt, closed.Outcome, closed.Digest = "session-1", gateway.Console, ptr(noon), "closed by cy", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	return []gateway.Session{open, closed}
}

func (g gatewayOf) Get(_ context.Context, id string) (gateway.Session, error) {
	for _, s := range recorded() {
		if s.ID == id {
			return s, nil
		}
	}
	return gateway.Session{}, problem.New(problem.NotFound, "there is no session %q", id)
}

func (g gatewayOf) List(context.Context, access.Actor, gateway.Filter) ([]gateway.Session, int64, error) {
	if len(g.levels) == 0 {
		return nil, 0, nil
	}
	return recorded(), 0, nil
}

func (g gatewayOf) Lines(context.Context, string, int, int) ([]gateway.Line, error) {
	return []gateway.Line{
		{Number: 1, At: 1_200_000, Request: "r-1", Kind: gateway.In, Text: `method selfTest {"deep":true}`}, {Number: 2, At: 2_700_000, Kind: gateway.Out, Text: "status 200\n{\n  \"ok\": false,\n  \"valve\": \"<stuck>\"\n}"},
		{Number: 3, At: 65_000_000, Kind: gateway.In, Text: "shell uptime"}, {Number: 4, At: 65_400_000, Kind: gateway.Out, Text: " 12:00:01 up 23 days, load average: 0.02"},
	}, nil
}

func (g gatewayOf) Verify(context.Context, string) (bool, error) { return true, nil }

func (g gatewayOf) Cast(_ context.Context, _ string, out io.Writer) error {
	_, err := io.WriteString(out, `{"version":2}`+"\n")
	return err
}

func (g gatewayOf) Recorded(_ context.Context, request string) ([]gateway.Mark, error) {
	if request == "" {
		return nil, nil
	}
	return []gateway.Mark{{Session: "session-1", Number: 3}}, nil
}

func (g gatewayOf) MayRead(context.Context, access.Actor, gateway.Session) error { return nil }
