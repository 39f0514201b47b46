package console

import (
	"context"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

var actPage = newPage("act.html")

// act is something a person does about a release, and says why. A dialog, or a
// page where scripts are off, tells first what will come of it.
type act struct {
	title  func(about url.Values) string
	says   string   // what will come of it
	button string   // what is pressed
	harms  bool     // the button warns
	asks   []string // what else is to be said
	reason string   // the name of the field that says why; empty is none
	do     func(c *console, ctx context.Context, actor access.Actor, form url.Values) error
}

// The fields an act may ask for beside its reason.
const (
	askEnvironment = "environment"
	askAnywhere    = "anywhere" // an environment, or every
	askRelease     = "release"
	askHours       = "hours"
	askAll         = "all"
	askExempt      = "exempt"
	askLeave       = "leave"
	askForce       = "force"
	askTo          = "to"
)

// named makes a title of words that hold fields, such as "Hold {environment}".
func named(words string) func(url.Values) string {
	return func(about url.Values) string {
		var pairs []string
		for name := range about {
			pairs = append(pairs, "{"+name+"}", about.Get(name))
		}
		text := strings.NewReplacer(pairs...).Replace(words)
		for _, part := range []string{" {release}", " to {environment}", " on {stamp}", " in {environment}"} {
			text = strings.ReplaceAll(text, part, "") // not known before it is asked
		}
		return text
	}
}

// acts are all that people can do by a dialog.
var acts = joined(releaseActs, grantActs, reviewActs, flagActs, driftActs, configurationActs)

func joined(all ...map[string]act) map[string]act {
	acts := map[string]act{}
	for _, some := range all {
		maps.Copy(acts, some)
	}
	return acts
}

// releaseActs are what people do about releases.
var releaseActs = map[string]act{
	"promote": {named("Promote {release} to {environment}"), "It enters once the environment's gates pass and nothing keeps it out. A promotion that waits there is superseded; one that runs is not touched.", "Promote", false, []string{askRelease, askEnvironment}, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Promotions.Start(ctx, actor, f.Get("environment"), f.Get("release"), f.Get("reason"))
			return err
		}},
	"retry": {named("Promote {release} to {environment} once more"), "It asks to enter again, and every gate is looked at anew.", "Try again", false, nil, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Promotions.Retry(ctx, actor, f.Get("promotion"), f.Get("reason"))
			return err
		}},
	"approve": {named("Approve {release} to {environment}"), "Your word counts for the gates that want people to agree. Who asked for the promotion cannot approve it.", "Approve", false, nil, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Promotions.Approve(ctx, actor, f.Get("promotion"), f.Get("reason"))
			return err
		}},
	"reject": {named("Reject {release} in {environment}"), "The promotion ends, and the release stays out of the environment until somebody lifts that.", "Reject", true, nil, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Promotions.Reject(ctx, actor, f.Get("promotion"), f.Get("reason"))
			return err
		}},
	"lift": {named("Let {release} into {environment} again"), "The rejection is lifted. The release still has to pass what others pass.", "Lift the rejection", false, nil, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Promotions.Lift(ctx, actor, f.Get("environment"), f.Get("release"), f.Get("reason"))
			return err
		}},
	"withdraw": {named("Withdraw the promotion of {release} to {environment}"), "It has not begun. Nothing on devices changes.", "Withdraw", false, nil, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Promotions.Abort(ctx, actor, f.Get("promotion"), f.Get("reason"), false, false)
			return err
		}},
	"rollback": {named("Roll {environment} back"), "Every stamp is told at once, without waves, to run the release before. The present one is rejected here until somebody lifts that.", "Roll back", true, []string{askTo, askForce}, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Promotions.Rollback(ctx, actor, promotion.Return{Environment: f.Get("environment"), To: f.Get("to"), Reason: f.Get("reason"), Force: f.Has("force")})
			return err
		}},
	"hold": {named("Hold {environment}"), "No release enters by itself while it is held. What is on its way goes on.", "Hold", false, []string{askAll, askHours}, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			life, err := lifeOf(f)
			if err == nil {
				_, err = c.Promotions.Hold(ctx, actor, f.Get("environment"), f.Get("reason"), f.Has("all"), life)
			}
			return err
		}},
	"end-hold": {named("End the hold of {environment}"), "Releases may enter again, if nothing else keeps them out.", "End the hold", false, nil, "",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Promotions.EndHold(ctx, actor, f.Get("hold"))
			return err
		}},
	"approve-waiver": {named("Approve the waiver of {release} in {environment}"), "Once enough people agree, the release may enter without what the waiver names. You answer for that with who asked.", "Approve", true, nil, "",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Promotions.ApproveWaiver(ctx, actor, f.Get("waiver"))
			return err
		}},
	"review-waiver": {named("Review the waiver of {release} in {environment}"), "It was used. What was found when it was looked at afterwards is kept with it.", "Keep the review", false, nil, "found",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Promotions.ReviewWaiver(ctx, actor, f.Get("waiver"), f.Get("found"))
			return err
		}},
	"pause": {named("Pause the rollout of {release}"), "No further device is told anything. Those that work on it go on.", "Pause", false, nil, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Rollouts.Pause(ctx, actor, f.Get("rollout"), f.Get("reason"))
			return err
		}},
	"resume": {named("Resume the rollout of {release}"), "It goes on where it was. A wave that had failed is judged anew.", "Resume", false, nil, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Rollouts.Resume(ctx, actor, f.Get("rollout"), f.Get("reason"))
			return err
		}},
	"skip": {named("Do not wait for {release} on {stamp}"), "The wave counts as passed, or the next ring begins, without waiting any longer. A wave that has failed cannot be skipped.", "Skip ahead", true, nil, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Rollouts.Skip(ctx, actor, f.Get("rollout"), f.Get("stamp"), f.Get("reason"))
			return err
		}},
	"abort": {named("Abort the rollout of {release}"), "Every stamp is told what it ran before, at once.", "Abort", true, []string{askLeave, askForce}, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Rollouts.Abort(ctx, actor, f.Get("rollout"), f.Get("reason"), f.Has("leave"), f.Has("force"))
			return err
		}},
	"halt": {named("Halt releases in {environment}"), "No release enters until the halt is lifted or ends by itself.", "Halt", true, []string{askAnywhere, askHours, askExempt}, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			life, err := lifeOf(f)
			if err == nil {
				_, err = c.Gates.Halt(ctx, actor, gate.Halt{Environment: f.Get("environment"), Reason: f.Get("reason"), Exempt: f["exempt"]}, life)
			}
			return err
		}},
	"lift-halt": {named("Lift the halt"), "Releases may enter again, if nothing else keeps them out.", "Lift", false, nil, "reason",
		func(c *console, ctx context.Context, actor access.Actor, f url.Values) error {
			_, err := c.Gates.Lift(ctx, actor, f.Get("halt"), f.Get("reason"))
			return err
		}},
}

// maxHours is a year, which is as long as anything here may last.
const maxHours = 366 * 24

// lifeOf is how long something is to last; empty is until somebody ends it.
func lifeOf(form url.Values) (time.Duration, error) {
	text := strings.TrimSpace(form.Get("hours"))
	if text == "" {
		return 0, nil
	}
	hours, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(hours) || hours <= 0 || hours > maxHours {
		return 0, problem.New(problem.Invalid, "hours are a number above 0 and up to %d; leave the field empty for no end", maxHours).At("hours")
	}
	return time.Duration(hours * float64(time.Hour)), nil
}

// about are the things an act may be about: what a link to it names, and its
// form carries on.
var about = []string{"environment", "release", "promotion", "rollout", "stamp", "hold", "halt", "waiver", "grant", "review", "right", "flag", "variant", "difference", "from", "to", "path", "configuration"}

type actView struct {
	base
	Name, Heading, Says, Button string
	Harms                       bool
	Fixed                       map[string]string // what it is about
	Next                        string            // the page to come back to
	Form                        url.Values        // as it was filled in
	Reason                      string            // the field that says why
	Asks                        map[string]bool
	Environments                []resource.Environment
	Releases                    []link.Release
	Exemptions                  []string
	Problem                     string
}

// Said is what a field holds so far.
func (v actView) Said(field string) string { return v.Form.Get(field) }

// Ticked reports whether a box is ticked.
func (v actView) Ticked(field, value string) bool { return slices.Contains(v.Form[field], value) }

// offered is how many releases a form offers to choose from: the newest.
const offered = 50

func (c *console) askAct(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.showAct(w, r, s, http.StatusOK, r.URL.Query(), "")
}

func (c *console) showAct(w http.ResponseWriter, r *http.Request, s access.Session, status int, form url.Values, fault string) error {
	name := r.PathValue("act")
	a, known := acts[name]
	if !known {
		return problem.New(problem.NotFound, "there is nothing to do that is called %q", name)
	}
	view := actView{Name: name, Says: a.says, Button: a.button, Harms: a.harms, Fixed: map[string]string{}, Next: within(form.Get("next")), Form: form, Reason: a.reason, Asks: map[string]bool{}, Exemptions: resource.Exemptions, Problem: fault}
	fixed := url.Values{}
	for _, thing := range about {
		if form.Has(thing) && !form.Has("asked-"+thing) {
			view.Fixed[thing] = form.Get(thing)
			fixed.Set(thing, form.Get(thing))
		}
	}
	view.Heading = a.title(fixed)
	nav := "pipeline"
	_, ofGrant := grantActs[name]
	_, ofReview := reviewActs[name]
	if ofGrant || ofReview {
		nav = "grants"
	}
	view.base = inside(r, s, nav, view.Heading)
	for _, field := range a.asks {
		_, given := view.Fixed[strings.Replace(field, askAnywhere, askEnvironment, 1)]
		view.Asks[field] = !given
	}
	return c.offer(w, r, status, view)
}

// offer adds what there is to choose from.
func (c *console) offer(w http.ResponseWriter, r *http.Request, status int, view actView) (err error) {
	if view.Asks[askEnvironment] || view.Asks[askAnywhere] {
		if view.Environments, err = c.Environments.List(r.Context()); err != nil {
			return err
		}
	}
	if view.Asks[askRelease] {
		if view.Releases, err = c.Releases.List(r.Context(), 0, offered); err != nil {
			return err
		}
	}
	return show(w, r, status, actPage, "act", view)
}

func (c *console) doAct(w http.ResponseWriter, r *http.Request, s access.Session) error {
	a, known := acts[r.PathValue("act")]
	if !known {
		return problem.New(problem.NotFound, "there is nothing to do that is called %q", r.PathValue("act"))
	}
	form := maps.Clone(r.PostForm)
	err := error(nil)
	if a.reason != "" && strings.TrimSpace(form.Get(a.reason)) == "" {
		err = problem.New(problem.Invalid, "say why; it is kept with what was done").At(a.reason)
	}
	if err == nil {
		err = a.do(c, r.Context(), s.Actor, form)
	}
	if known := problem.Of(err); err != nil && known.Kind != problem.Internal && known.Kind != problem.Unauthenticated {
		return c.showAct(w, r, s, statusOf(known.Kind), form, known.Message)
	}
	if err != nil {
		return err
	}
	target := within(form.Get("next"))
	if fromHTMX(r) {
		w.Header().Set("HX-Redirect", target)
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
	return nil
}
