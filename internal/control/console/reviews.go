package console

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/grant"
	"github.com/slipway/slipway/internal/resource"
)

var (
	reviewsPage = newPage("reviews.html")
	reviewPage  = newPage("review.html")
)

// reviewsView is where somebody should look at who may do what, and what was
// found before.
type reviewsView struct {
	base
	Now          time.Time
	Environments []reviewed
	Past         []grant.AccessReview
}

// reviewed is an environment with its reviews.
type reviewed struct {
	Environment resource.Environment
	Controlled  bool
	Open        *grant.AccessReview // that somebody has begun
	Last        *grant.AccessReview // that is done
	Due         time.Time           // when the next should be done; zero is at once
}

// Overdue reports whether a review should have been done by now.
func (e reviewed) Overdue(now time.Time) bool { return e.Controlled && !now.Before(e.Due) }

func (c *console) reviews(w http.ResponseWriter, r *http.Request, s access.Session) error {
	view := reviewsView{base: inside(r, s, "grants", "Access reviews"), Now: c.now()}
	environments, err := c.Environments.List(r.Context())
	if err != nil {
		return err
	}
	all, err := c.Grants.AccessReviews(r.Context(), r.URL.Query().Get("environment"))
	if err != nil {
		return err
	}
	for _, env := range environments {
		view.Environments = append(view.Environments, reviewedOf(env, all))
	}
	slices.SortStableFunc(view.Environments, func(a, b reviewed) int { return order(b.Overdue(view.Now), a.Overdue(view.Now)) })
	view.Past = slices.DeleteFunc(slices.Clone(all), func(r grant.AccessReview) bool { return r.DoneAt == nil })
	return show(w, r, http.StatusOK, reviewsPage, "", view)
}

// order puts what is not before what is.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// reviewedOf finds an environment's reviews among all, which are newest first.
func reviewedOf(env resource.Environment, all []grant.AccessReview) reviewed {
	e := reviewed{Environment: env, Controlled: env.Spec.Access == resource.AccessControlled}
	for _, r := range all {
		switch {
		case r.Environment != env.Metadata.Name:
		case r.DoneAt == nil && e.Open == nil:
			e.Open = &r
		case r.DoneAt != nil && (e.Last == nil || r.DoneAt.After(*e.Last.DoneAt)):
			e.Last, e.Due = &r, r.DoneAt.Add(grant.ReviewLife)
		}
	}
	return e
}

// reviewView is one review.
type reviewView struct {
	base
	grant.AccessReview
}

// Decided is how many rights were decided on.
func (v reviewView) Decided() int { return v.Count(grant.Keep) + v.Count(grant.Remove) }

func (c *console) review(w http.ResponseWriter, r *http.Request, s access.Session) error {
	found, err := c.Grants.AccessReview(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, reviewPage, "", reviewView{inside(r, s, "grants", "Access review of "+found.Environment), found})
}

// decides makes an act of a decision on a right.
func decides(decision string) func(c *console, ctx context.Context, actor access.Actor, form url.Values) error {
	return func(c *console, ctx context.Context, actor access.Actor, form url.Values) error {
		_, err := c.Grants.Decide(ctx, actor, form.Get("review"), form.Get("right"), decision, form.Get("reason"))
		return err
	}
}

// reviewActs are what people do about reviews.
var reviewActs = map[string]act{
	"open-review": {named("Review who may do what in {environment}"), "Every role that holds there is listed, with what of it nobody used for long, and the grants since the review before. Each role is kept or removed.", "Begin the review", false, []string{askEnvironment}, "",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Grants.OpenReview(ctx, actor, f.Get("environment"))
			return err
		}},
	"keep-right":   {named("Keep {right}"), "The role stays as it is until the next review. Nobody decides on their own.", "Keep", false, nil, "", decides(grant.Keep)},
	"remove-right": {named("Remove {right}"), "The role is taken away at once, with what is open by it. Nobody decides on their own.", "Remove", true, nil, "reason", decides(grant.Remove)},
}
