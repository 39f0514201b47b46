package console

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/gateway"
	"github.com/slipway/slipway/internal/control/grant"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// Grants shows who may act in environments for a while, and takes people's
// words on it.
type Grants interface {
	Ask(ctx context.Context, actor access.Actor, a grant.Asking) (grant.Grant, error)
	BreakGlass(ctx context.Context, actor access.Actor, environment string, r grant.Request) (grant.Grant, error)
	Say(ctx context.Context, actor access.Actor, id string, w grant.Word) (grant.Grant, error)
	Get(ctx context.Context, id string) (grant.Grant, error)
	List(ctx context.Context, f grant.Filter) ([]grant.Grant, int64, error)
	Uses(ctx context.Context, id string) ([]grant.Used, error)
	Broken(ctx context.Context) ([]grant.Grant, error)
	OpenReview(ctx context.Context, actor access.Actor, environment string) (grant.AccessReview, error)
	Decide(ctx context.Context, actor access.Actor, id, right, decision, reason string) (grant.AccessReview, error)
	AccessReview(ctx context.Context, id string) (grant.AccessReview, error)
	AccessReviews(ctx context.Context, environment string) ([]grant.AccessReview, error)
}

var (
	grantsPage   = newPage("grants.html", "grantparts.html")
	grantPage    = newPage("grant.html", "grantparts.html", "sessionparts.html")
	newGrantPage = newPage("newgrant.html")
)

// grantsView is every grant that somebody has something to do about, and the
// newest of the others.
type grantsView struct {
	base
	Now                                time.Time
	Pending, Active, Owed, Later, Past []grant.Grant
	Sessions                           []gateway.Session // that are open
}

// shownGrants is how many grants that are over the page shows.
const shownGrants = 50

func (c *console) grants(w http.ResponseWriter, r *http.Request, s access.Session) error {
	view, err := c.findGrants(r.Context(), s.Actor)
	if err != nil {
		return err
	}
	view.base = inside(r, s, "grants", "Grants")
	return show(w, r, http.StatusOK, grantsPage, "", view)
}

func (c *console) grantsLive(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.live(w, r, time.Second, func(ctx context.Context, out *stream) error {
		view, err := c.findGrants(ctx, s.Actor)
		if err != nil {
			return err
		}
		return out.part(grantsPage, "grants", view)
	})
}

func (c *console) findGrants(ctx context.Context, actor access.Actor) (view grantsView, err error) {
	view.Now = c.now()
	for _, part := range []struct {
		states []grant.State
		to     *[]grant.Grant
		most   int
	}{
		{[]grant.State{grant.Draft, grant.Pending}, &view.Pending, 0}, {[]grant.State{grant.Active}, &view.Active, 0}, {[]grant.State{grant.ReviewDue}, &view.Owed, 0},
		{[]grant.State{grant.Scheduled}, &view.Later, 0}, {[]grant.State{grant.Reviewed, grant.Denied, grant.Expired, grant.Withdrawn}, &view.Past, shownGrants},
	} {
		for _, state := range part.states {
			some, _, err := c.Grants.List(ctx, grant.Filter{State: state, Limit: part.most})
			if err != nil {
				return view, err
			}
			*part.to = append(*part.to, some...)
		}
	}
	slices.SortFunc(view.Past, func(a, b grant.Grant) int { return b.CreatedAt.Compare(a.CreatedAt) })
	view.Past = view.Past[:min(len(view.Past), shownGrants)]
	view.Sessions, _, err = c.Gateway.List(ctx, actor, gateway.Filter{Open: true})
	return view, err
}

// grantView is one grant.
type grantView struct {
	base
	grant.Grant
	Now      time.Time
	Uses     []grant.Used
	Sessions []gateway.Session
}

func (c *console) grant(w http.ResponseWriter, r *http.Request, s access.Session) error {
	view, err := c.findGrant(r.Context(), s.Actor, r.PathValue("id"))
	if err != nil {
		return err
	}
	view.base = inside(r, s, "grants", view.Name+" in "+view.Environment)
	return show(w, r, http.StatusOK, grantPage, "", view)
}

func (c *console) grantLive(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.live(w, r, time.Second, func(ctx context.Context, out *stream) error {
		view, err := c.findGrant(ctx, s.Actor, r.PathValue("id"))
		if err != nil {
			return err
		}
		return out.part(grantPage, "grant", view)
	})
}

func (c *console) findGrant(ctx context.Context, actor access.Actor, id string) (view grantView, err error) {
	view.Now = c.now()
	if view.Grant, err = c.Grants.Get(ctx, id); err != nil {
		return view, err
	}
	if view.Uses, err = c.Grants.Uses(ctx, id); err != nil {
		return view, err
	}
	view.Sessions, _, err = c.Gateway.List(ctx, actor, gateway.Filter{Grant: id})
	return view, err
}

// Newest is the log of a grant, newest first.
func (v grantView) Newest() []grant.Happened {
	all := slices.Clone(v.Log)
	slices.Reverse(all)
	return all
}

// newGrantView is the form that asks for a grant.
type newGrantView struct {
	base
	Form         url.Values
	Environments []resource.Environment
	Purposes     []string
	Permissions  []string
	Problem      string
}

// Said is what was said in a field.
func (v newGrantView) Said(field string) string { return v.Form.Get(field) }

// Ticked reports whether a box is ticked.
func (v newGrantView) Ticked(field, value string) bool { return slices.Contains(v.Form[field], value) }

func (c *console) planGrant(w http.ResponseWriter, r *http.Request, s access.Session) error {
	form := r.URL.Query()
	if !form.Has("permission") {
		form.Set("permission", "device.write")
	}
	return c.showGrantForm(w, r, s, http.StatusOK, form, "")
}

func (c *console) showGrantForm(w http.ResponseWriter, r *http.Request, s access.Session, status int, form url.Values, fault string) (err error) {
	view := newGrantView{base: inside(r, s, "grants", "Ask for a grant"), Form: form, Purposes: resource.Purposes, Permissions: c.Permissions, Problem: fault}
	if view.Environments, err = c.Environments.List(r.Context()); err != nil {
		return err
	}
	return show(w, r, status, newGrantPage, "", view)
}

func (c *console) askGrant(w http.ResponseWriter, r *http.Request, s access.Session) error {
	form := r.PostForm
	request, err := grantRequest(form, c.now())
	var g grant.Grant
	switch {
	case err != nil:
	case form.Has("breakGlass"):
		g, err = c.Grants.BreakGlass(r.Context(), s.Actor, form.Get("environment"), request)
	default:
		g, err = c.Grants.Ask(r.Context(), s.Actor, grant.Asking{Environment: form.Get("environment"), Request: request})
	}
	if known := problem.Of(err); err != nil && known.Kind != problem.Internal && known.Kind != problem.Unauthenticated {
		return c.showGrantForm(w, r, s, statusOf(known.Kind), form, known.Message)
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/grants/"+g.ID, http.StatusSeeOther)
	return nil
}

// grantRequest reads the form that asks for a grant.
func grantRequest(form url.Values, now time.Time) (r grant.Request, err error) {
	minutes, err := strconv.Atoi(strings.TrimSpace(form.Get("minutes")))
	if err != nil || minutes < 1 || minutes > int(resource.MaxGrant.Minutes()) {
		return r, problem.New(problem.Invalid, "it lasts a whole number of minutes, from 1 to %d", int(resource.MaxGrant.Minutes())).At("minutes")
	}
	list := func(field string) []string {
		return strings.FieldsFunc(strings.Join(form[field], " "), func(r rune) bool { return r == ' ' || r == ',' || r == '\n' || r == '\r' || r == '\t' })
	}
	r = grant.Request{
		Purpose: form.Get("purpose"), Reason: strings.TrimSpace(form.Get("reason")), Ticket: strings.TrimSpace(form.Get("ticket")), Seconds: int64(minutes) * 60,
		Scope: grant.Extent{Permissions: form["permission"], Stamps: list("stamps"), Tenants: list("tenants"), Devices: list("devices")},
	}
	if text := strings.TrimSpace(form.Get("startsAt")); text != "" {
		at, err := time.Parse("2006-01-02T15:04", text)
		if err != nil {
			return r, problem.New(problem.Invalid, "a start reads like %s, in UTC, not %q", now.UTC().Format("2006-01-02T15:04"), text).At("startsAt")
		}
		r.StartsAt = &at
	}
	return r, nil
}

// sayOfGrant makes an act of a word on a grant.
func sayOfGrant(verb grant.Verb) func(c *console, ctx context.Context, actor access.Actor, form url.Values) error {
	return func(c *console, ctx context.Context, actor access.Actor, form url.Values) error {
		_, err := c.Grants.Say(ctx, actor, form.Get("grant"), grant.Word{Verb: verb, Reason: cmp.Or(form.Get("reason"), form.Get("found"))})
		return err
	}
}

// grantActs are what people do about grants.
var grantActs = map[string]act{
	"submit-grant":   {named("Ask for {grant}"), "Those who decide on grants there see it, until enough agree or its time is over.", "Ask", false, nil, "", sayOfGrant(grant.Submit)},
	"approve-grant":  {named("Approve {grant}"), "Once enough people agree it begins. Nobody agrees to their own, by whichever way they come.", "Approve", false, nil, "reason", sayOfGrant(grant.Approve)},
	"deny-grant":     {named("Deny {grant}"), "The request ends. Who asked reads why.", "Deny", true, nil, "reason", sayOfGrant(grant.Deny)},
	"withdraw-grant": {named("Withdraw {grant}"), "The request ends, and nothing was done under it.", "Withdraw", false, nil, "reason", sayOfGrant(grant.Withdraw)},
	"revoke-grant":   {named("Revoke {grant}"), "It ends at once. What was begun under it is cut within a second: streams, commands, sessions.", "Revoke", true, nil, "reason", sayOfGrant(grant.Revoke)},
	"end-grant":      {named("End {grant}"), "It ends before its time. What was begun under it is cut.", "End it", false, nil, "reason", sayOfGrant(grant.End)},
	"review-grant":   {named("Review {grant}"), "Look at its sessions first. What was found is kept with it.", "Keep the review", false, nil, "found", sayOfGrant(grant.Review)},
}

// left writes how long it is until a time, to the second below an hour.
func left(now, then time.Time) string {
	d := then.Sub(now).Round(time.Second)
	switch {
	case d <= 0:
		return "over"
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + "\u202fs"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + "\u202fmin " + strconv.Itoa(int(d.Seconds())%60) + "\u202fs"
	}
	return strconv.Itoa(int(d.Hours())) + "\u202fh " + strconv.Itoa(int(d.Minutes())%60) + "\u202fmin"
}

// alarmKey is where a request keeps what every page says loudly.
type alarmKey struct{}

// withAlarm has every page say that somebody has broken the glass.
func (c *console) withAlarm(r *http.Request) (*http.Request, error) {
	broken, err := c.Grants.Broken(r.Context())
	if err != nil || len(broken) == 0 {
		return r, err
	}
	return r.WithContext(context.WithValue(r.Context(), alarmKey{}, broken)), nil
}

func alarmOf(r *http.Request) []grant.Grant {
	broken, _ := r.Context().Value(alarmKey{}).([]grant.Grant)
	return broken
}
