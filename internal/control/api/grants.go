package api

import (
	"context"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/control/grant"
	"github.com/slipway/slipway/internal/problem"
)

// GrantRequest is what is asked for, in a body.
type GrantRequest struct {
	Purpose  string       `json:"purpose" enum:"troubleshooting,hotfix,performance,security,data,compliance,support,red-team"`
	Reason   string       `json:"reason" minLength:"1" maxLength:"2000"`
	Ticket   string       `json:"ticket,omitempty" maxLength:"500"`
	Scope    grant.Extent `json:"scope"`
	Seconds  int64        `json:"seconds" minimum:"60" maximum:"604800" doc:"How long it lasts once it has begun"`
	StartsAt *time.Time   `json:"startsAt,omitempty" doc:"When it begins; default as soon as it is approved"`
}

func (r GrantRequest) request() grant.Request {
	return grant.Request{Purpose: r.Purpose, Reason: r.Reason, Ticket: r.Ticket, Scope: r.Scope, Seconds: r.Seconds, StartsAt: r.StartsAt}
}

type requestGrant struct {
	Body struct {
		Environment string `json:"environment" maxLength:"63"`
		Person      string `json:"person,omitempty" maxLength:"200" doc:"Who is to act; default who asks"`
		Draft       bool   `json:"draft,omitempty" doc:"Not asked for yet"`
		GrantRequest
	}
}

type breakGlass struct {
	Body struct {
		Environment string `json:"environment" maxLength:"63"`
		GrantRequest
	}
}

type changeGrant struct {
	IDRef
	Body GrantRequest
}

type listGrants struct {
	Environment string `query:"environment" maxLength:"63"`
	Person      string `query:"person" maxLength:"200"`
	State       string `query:"state" enum:"draft,pending,scheduled,active,reviewDue,denied,expired,withdrawn,reviewed"`
	After       string `query:"after" maxLength:"20"`
	Limit       int    `query:"limit" minimum:"1" maximum:"1000"`
}

// sayOfGrant is a word on a grant, which may have a reason.
type sayOfGrant struct {
	IDRef
	Body struct {
		Reason string `json:"reason,omitempty" maxLength:"2000"`
	}
}

// numberAfter reads the Next of the page before.
func numberAfter(after string) (int64, error) {
	if after == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(after, 10, 64)
	if err != nil || n <= 0 {
		return 0, problem.New(problem.Invalid, "after is the next of the page before, unlike %q", after).At("after")
	}
	return n, nil
}

// nextOf is the value of after for the next page.
func nextOf(sequence int64) string {
	if sequence == 0 {
		return ""
	}
	return strconv.FormatInt(sequence, 10)
}

// grants registers what lets people act in an environment for a while.
func (a *api) grants() {
	route(a, "POST", "/api/v1/grants", "requestGrant", "Ask for a grant, for oneself or for somebody else", func(ctx context.Context, in *requestGrant) (*body[grant.Grant], error) {
		g, err := a.Grants.Ask(ctx, actorOf(ctx), grant.Asking{Environment: in.Body.Environment, Person: in.Body.Person, Draft: in.Body.Draft, Request: in.Body.request()})
		return &body[grant.Grant]{g}, err
	})
	route(a, "POST", "/api/v1/grants/break-glass", "breakGlass", "Act at once, in an emergency: it is loud, short, and owes a review", func(ctx context.Context, in *breakGlass) (*body[grant.Grant], error) {
		g, err := a.Grants.BreakGlass(ctx, actorOf(ctx), in.Body.Environment, in.Body.request())
		return &body[grant.Grant]{g}, err
	})
	route(a, "GET", "/api/v1/grants", "listGrants", "Grants, newest first", func(ctx context.Context, in *listGrants) (*body[list[grant.Grant]], error) {
		before, err := numberAfter(in.After)
		if err != nil {
			return nil, err
		}
		all, next, err := a.Grants.List(ctx, grant.Filter{Environment: in.Environment, Person: in.Person, State: grant.State(in.State), Before: before, Limit: in.Limit})
		return listOf(all, nextOf(next)), err
	})
	route(a, "GET", "/api/v1/grants/{id}", "getGrant", "A grant with everything that happened to it", func(ctx context.Context, in *IDRef) (*body[grant.Grant], error) {
		g, err := a.Grants.Get(ctx, in.ID)
		return &body[grant.Grant]{g}, err
	})
	route(a, "GET", "/api/v1/grants/{id}/uses", "listGrantUses", "How often each permission of a grant was used", func(ctx context.Context, in *IDRef) (*body[list[grant.Used]], error) {
		all, err := a.Grants.Uses(ctx, in.ID)
		return listOf(all, ""), err
	})
	route(a, "PUT", "/api/v1/grants/{id}/request", "changeGrant", "Ask for something else; no approval of what was asked for before counts", func(ctx context.Context, in *changeGrant) (*body[grant.Grant], error) {
		g, err := a.Grants.Say(ctx, actorOf(ctx), in.ID, grant.Word{Verb: grant.Amend, Request: in.Body.request()})
		return &body[grant.Grant]{g}, err
	})
	for _, one := range []struct {
		verb    grant.Verb
		summary string
	}{
		{grant.Submit, "Ask for what a draft says"},
		{grant.Approve, "Agree to a grant; nobody agrees to their own"},
		{grant.Deny, "Refuse a grant, and say why"},
		{grant.Withdraw, "Take a request back"},
		{grant.Revoke, "End a grant of somebody else at once; what was begun under it is cut"},
		{grant.End, "End one's own grant before its time"},
		{grant.Review, "Say what was found when a grant that is over was looked at"},
	} {
		route(a, "POST", "/api/v1/grants/{id}/"+string(one.verb), string(one.verb)+"Grant", one.summary, func(ctx context.Context, in *sayOfGrant) (*body[grant.Grant], error) {
			g, err := a.Grants.Say(ctx, actorOf(ctx), in.ID, grant.Word{Verb: one.verb, Reason: in.Body.Reason})
			return &body[grant.Grant]{g}, err
		})
	}
	a.accessReviews()
}

type openReview struct {
	Body struct {
		Environment string `json:"environment" maxLength:"63"`
	}
}

type decideRight struct {
	IDRef
	Body struct {
		Right    string `json:"right" maxLength:"200" doc:"The id of a row"`
		Decision string `json:"decision" enum:"keep,remove"`
		Reason   string `json:"reason,omitempty" maxLength:"2000"`
	}
}

// accessReviews registers looking at who may do what.
func (a *api) accessReviews() {
	route(a, "POST", "/api/v1/access-reviews", "openAccessReview", "Begin to look at who may do what in an environment", func(ctx context.Context, in *openReview) (*body[grant.AccessReview], error) {
		r, err := a.Grants.OpenReview(ctx, actorOf(ctx), in.Body.Environment)
		return &body[grant.AccessReview]{r}, err
	})
	route(a, "GET", "/api/v1/access-reviews", "listAccessReviews", "Access reviews, newest first", func(ctx context.Context, in *inEnvironment) (*body[list[grant.AccessReview]], error) {
		all, err := a.Grants.AccessReviews(ctx, in.Environment)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/access-reviews/{id}", "getAccessReview", "An access review with its rights", func(ctx context.Context, in *IDRef) (*body[grant.AccessReview], error) {
		r, err := a.Grants.AccessReview(ctx, in.ID)
		return &body[grant.AccessReview]{r}, err
	})
	route(a, "POST", "/api/v1/access-reviews/{id}/decisions", "decideAccessReview", "Confirm a right, or take it away", func(ctx context.Context, in *decideRight) (*body[grant.AccessReview], error) {
		r, err := a.Grants.Decide(ctx, actorOf(ctx), in.ID, in.Body.Right, in.Body.Decision, in.Body.Reason)
		return &body[grant.AccessReview]{r}, err
	})
}
