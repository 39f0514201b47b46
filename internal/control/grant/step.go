package grant

import (
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// Facts are what a grant goes by beside itself.
type Facts struct {
	Now    time.Time
	Policy resource.GrantPolicy // of its environment, now
	// Eligible reports whether a person may agree to grants there, now.
	Eligible func(person string) bool
	// Kin reports whether somebody cannot be told from a person: one of the two
	// has made the other's account, or the token that is used.
	Kin func(p Party, person string) bool
	// Owes reports whether a person has broken the glass before, and the review
	// of that is overdue; Broken whether they have it broken there now.
	Owes, Broken func(person string) bool
}

// Verb is what somebody does about a grant.
type Verb string

// What people do about grants.
const (
	Submit   Verb = "submit" // a draft becomes a request
	Amend    Verb = "change" // what is asked for becomes another
	Approve  Verb = "approve"
	Deny     Verb = "deny"
	Withdraw Verb = "withdraw"
	Revoke   Verb = "revoke"
	End      Verb = "end"
	Review   Verb = "review"
)

// moves are the states from which each verb leads on.
var moves = map[Verb][]State{
	Submit:   {Draft},
	Amend:    {Draft, Pending, Scheduled},
	Approve:  {Pending},
	Deny:     {Pending},
	Withdraw: {Draft, Pending, Scheduled},
	Revoke:   {Scheduled, Active},
	End:      {Active},
	Review:   {ReviewDue},
}

// Word is what somebody says of a grant.
type Word struct {
	Verb    Verb
	By      Party
	Reason  string
	Request Request // of Amend
}

// Make makes a grant of a request, as a draft or already asked for.
func Make(r Request, by, of Party, draft bool, f Facts) (Grant, error) {
	if err := checkParties(by, of); err != nil {
		return Grant{}, err
	}
	if err := r.check(f, false); err != nil {
		return Grant{}, err
	}
	g := Grant{
		Person: of.Person, Name: of.Name, By: by.Person, Sponsor: of.Sponsor, Maker: by.Maker, Request: r, Needs: f.Policy.Approvals, Approvals: []Agreement{},
		CreatedAt: f.Now, DecideBy: f.Now.Add(f.Policy.Wait()),
	}
	if !of.Program {
		g.Sponsor = ""
	}
	if draft {
		g.become(Draft, "drafted", by.Name, "", f.Now)
		return g, nil
	}
	g.become(Pending, "requested", by.Name, r.Reason, f.Now)
	return g, nil
}

// checkParties holds those whom a grant is for against the rules.
func checkParties(by, of Party) error {
	switch {
	case of.Person == "" || by.Person == "":
		return problem.New(problem.Denied, "it is not known which person asks; sign in, or use a token that belongs to somebody")
	case of.Program && of.Sponsor == "":
		return problem.New(problem.Denied, "%s is a program for which no human answers; give it a sponsor first", of.Name)
	case of.Program && of.Sponsor == of.Person:
		return problem.New(problem.Denied, "%s is a program and cannot answer for itself; give it a human sponsor first", of.Name)
	}
	return nil
}

// BreakGlass makes a grant that is active at once.
func BreakGlass(r Request, by Party, f Facts) (Grant, error) {
	switch {
	case !f.Policy.BreakGlass:
		return Grant{}, problem.New(problem.Denied, "the environment does not let the glass be broken; its spec.grants.breakGlass says so")
	case by.Program:
		return Grant{}, problem.New(problem.Denied, "%s is a program; only a person may break the glass", by.Name)
	case f.Owes(by.Person):
		return Grant{}, problem.New(problem.Denied, "%s has broken the glass before, and nobody has reviewed that in time; have it reviewed first", by.Name)
	case f.Broken(by.Person):
		return Grant{}, problem.New(problem.Conflict, "%s has broken the glass there already, and that has not ended", by.Name)
	}
	if err := checkParties(by, by); err != nil {
		return Grant{}, err
	}
	r.StartsAt = nil
	if err := r.check(f, true); err != nil {
		return Grant{}, err
	}
	g := Grant{Person: by.Person, Name: by.Name, By: by.Person, Maker: by.Maker, Request: r, BreakGlass: true, Approvals: []Agreement{}, CreatedAt: f.Now, DecideBy: f.Now}
	g.begin(f.Now, f.Now.Add(r.Duration()), "broke the glass", by.Name, r.Reason)
	return g, nil
}

// check holds a request against the environment's policy.
func (r Request) check(f Facts, breakGlass bool) error {
	longest := f.Policy.Longest(breakGlass)
	switch {
	case !slices.Contains(f.Policy.Purposes, r.Purpose):
		return problem.New(problem.Invalid, "a purpose there is one of %s, not %q", strings.Join(f.Policy.Purposes, ", "), r.Purpose).At("purpose")
	case strings.TrimSpace(r.Reason) == "" || len(r.Reason) > maxReason:
		return problem.New(problem.Invalid, "say why, in 1 to %d characters", maxReason).At("reason")
	case len(r.Ticket) > maxTicket:
		return problem.New(problem.Invalid, "a ticket is named in at most %d characters", maxTicket).At("ticket")
	case r.Duration() < minLife || r.Seconds > int64(longest/time.Second):
		return problem.New(problem.Invalid, "it lasts from %s to %s there, not %s", minLife, longest, r.Duration()).At("seconds")
	case r.StartsAt != nil && (r.StartsAt.Before(f.Now.Add(-time.Minute)) || r.StartsAt.After(f.Now.Add(maxAhead))):
		return problem.New(problem.Invalid, "it begins within the next %d days, or as soon as it is approved", int(maxAhead.Hours()/24)).At("startsAt")
	}
	return nil
}

// Say takes what somebody says of a grant, after what time has done to it. An
// error leaves the grant as time has it.
func Say(g Grant, w Word, f Facts) (Grant, error) {
	g = Step(g, f)
	if !slices.Contains(moves[w.Verb], g.State) {
		return g, problem.New(problem.Conflict, "grant %s is %s, so nobody can %s it any more", g.ID, wordOf(g.State), w.Verb)
	}
	if len(w.Reason) > maxReason {
		return g, problem.New(problem.Invalid, "say why in at most %d characters", maxReason).At("reason")
	}
	next := g
	next.Approvals = slices.Clone(g.Approvals)
	if err := next.take(w, f); err != nil {
		return g, err
	}
	return Step(next, f), nil
}

// take does what a word says, if who says it may.
func (g *Grant) take(w Word, f Facts) error {
	switch w.Verb {
	case Submit, Amend, Withdraw, End:
		return g.takeOwn(w, f)
	}
	if err := g.checkOther(w, f); err != nil {
		return err
	}
	switch w.Verb {
	case Approve:
		g.Approvals = append(g.Approvals, Agreement{w.By.Person, w.By.Name, w.Reason, f.Now, w.By.Maker})
		g.become(Pending, "approved", w.By.Name, w.Reason, f.Now)
	case Deny:
		g.become(Denied, "denied", w.By.Name, w.Reason, f.Now)
	case Revoke:
		g.finish(EndRevoked, w.By.Name, w.Reason, f.Now, f)
	case Review:
		g.Review, g.ReviewedBy, g.ReviewedAt = w.Reason, w.By.Name, &f.Now
		g.become(Reviewed, "reviewed", w.By.Name, w.Reason, f.Now)
	}
	return nil
}

// takeOwn is take for what those do whom the grant is for.
func (g *Grant) takeOwn(w Word, f Facts) error {
	if !g.isFor(w.By.Person) {
		return problem.New(problem.Denied, "only who asked for grant %s can %s it", g.ID, w.Verb)
	}
	switch w.Verb {
	case Submit:
		if err := g.Request.check(f, false); err != nil {
			return err
		}
		g.DecideBy = f.Now.Add(f.Policy.Wait())
		g.become(Pending, "requested", w.By.Name, g.Reason, f.Now)
	case Amend:
		return g.amend(w, f)
	case Withdraw:
		g.become(Withdrawn, "withdrawn", w.By.Name, w.Reason, f.Now)
	case End:
		g.finish(EndEnded, w.By.Name, w.Reason, f.Now, f)
	}
	return nil
}

// amend makes what is asked for another. Who agreed before has agreed to
// something else, so that their word counts no longer.
func (g *Grant) amend(w Word, f Facts) error {
	if err := w.Request.check(f, false); err != nil {
		return err
	}
	said := ""
	if n := len(g.Approvals); n > 0 {
		said = "no approval of what was asked for before counts"
	}
	g.Request, g.Approvals = w.Request, []Agreement{}
	to := Pending
	if g.State == Draft {
		to = Draft
	}
	g.become(to, "changed", w.By.Name, said, f.Now)
	return nil
}

// checkOther holds what somebody says of another's grant against the rules.
// There is no role, and no way to say it, that they are not for.
func (g *Grant) checkOther(w Word, f Facts) error {
	p := w.By
	switch {
	case p.Person == "":
		return problem.New(problem.Denied, "it is not known which person says so; sign in, or use a token that belongs to somebody")
	case p.Program:
		return problem.New(problem.Denied, "%s is a program; only a person can %s a grant", p.Name, w.Verb)
	case w.Verb != Revoke && g.isFor(p.Person):
		return problem.New(problem.Denied, "grant %s is for %s, or was asked for by them; somebody else must %s it", g.ID, p.Name, w.Verb)
	case !f.Eligible(p.Person):
		return problem.New(problem.Denied, "%s is not among those who decide on grants in %s", p.Name, g.Environment)
	case w.Verb != Approve && strings.TrimSpace(w.Reason) == "":
		return problem.New(problem.Invalid, "say why; it is kept with the grant").At("reason")
	case w.Verb != Revoke && g.kinOf(p, f):
		return problem.New(problem.Denied, "%s cannot be told from those whom grant %s is for: one has made the other's account or token, or invited it, in the last %d days; somebody else must %s it", p.Name, g.ID, kinDays, w.Verb)
	case w.Verb == Approve && slices.ContainsFunc(g.Approvals, func(a Agreement) bool { return a.Person == p.Person }):
		return problem.New(problem.Conflict, "%s has approved grant %s already, and counts once", p.Name, g.ID)
	case w.Verb == Approve && slices.ContainsFunc(g.Approvals, func(a Agreement) bool { return f.Kin(p, a.Person) || a.Maker != "" && f.Kin(p, a.Maker) }):
		return problem.New(problem.Denied, "%s cannot be told from somebody who has approved grant %s already; somebody else must, too", p.Name, g.ID)
	}
	return nil
}

// kinOf reports whether somebody cannot be told from one whom the grant is for.
func (g *Grant) kinOf(p Party, f Facts) bool {
	return slices.ContainsFunc([]string{g.Person, g.By, g.Sponsor, g.Maker}, func(person string) bool { return person != "" && f.Kin(p, person) })
}

// kinDays is for how long who made an account counts as one with it.
const kinDays = int(access.Acquaintance / (24 * time.Hour))

// agreed counts the people whose approval counts now: distinct, none of those
// whom the grant is for, each still among those who decide.
func (g Grant) agreed(f Facts) int {
	var people []string
	for _, a := range g.Approvals {
		if !g.isFor(a.Person) && !slices.Contains(people, a.Person) && f.Eligible(a.Person) {
			people = append(people, a.Person)
		}
	}
	return len(people)
}

// needs is how many must agree: what was asked of it when it was made, or more
// if the environment has become stricter since.
func (g Grant) needs(f Facts) int { return max(g.Needs, f.Policy.Approvals, 1) }

// Step does to a grant what time does.
func Step(g Grant, f Facts) Grant {
	for {
		before := g.State
		g.step(f)
		if g.State == before {
			return g
		}
	}
}

func (g *Grant) step(f Facts) {
	switch g.State {
	case Draft, Pending:
		switch {
		case !f.Now.Before(g.DecideBy):
			g.become(Expired, "expired", Robot, "not enough people agreed in time", g.DecideBy)
		case g.StartsAt != nil && !f.Now.Before(g.StartsAt.Add(g.Duration())):
			g.become(Expired, "expired", Robot, "its time passed before it was approved", g.StartsAt.Add(g.Duration()))
		case g.State == Pending && len(g.Approvals) > 0 && g.agreed(f) >= g.needs(f):
			g.start(f)
		}
	case Scheduled:
		switch end := g.StartsAt.Add(g.Duration()); {
		case !f.Now.Before(end):
			g.become(Expired, "expired", Robot, "its time passed before it began", end)
		case !f.Now.Before(*g.StartsAt):
			g.start(f)
		}
	case Active:
		if !f.Now.Before(*g.Until) {
			g.finish(EndExpired, Robot, "", *g.Until, f)
		}
	}
}

// start begins a grant that enough people agreed to, or has it wait for its
// time. Who agreed must still be among those who decide when it begins.
func (g *Grant) start(f Facts) {
	life, from := min(g.Duration(), f.Policy.Longest(false)), f.Now
	if g.StartsAt != nil {
		from = *g.StartsAt
	}
	switch {
	case g.agreed(f) < g.needs(f):
		g.Approvals = []Agreement{}
		g.become(Pending, "approvals void", Robot, "who agreed does not decide on grants there any more", f.Now)
	case f.Now.Before(from):
		g.become(Scheduled, "scheduled", Robot, "", f.Now)
	case !f.Now.Before(from.Add(life)):
		g.become(Expired, "expired", Robot, "the environment lets grants last less long now", f.Now)
	default:
		g.begin(f.Now, from.Add(life), "began", Robot, "")
	}
}

// begin makes a grant active.
func (g *Grant) begin(at, until time.Time, what, by, reason string) {
	g.ActiveAt, g.Until = &at, &until
	g.become(Active, what, by, reason, at)
}

// finish ends a grant. One that was active is to be looked at.
func (g *Grant) finish(how, by, reason string, at time.Time, f Facts) {
	if g.State != Active {
		g.become(Withdrawn, how, by, reason, at)
		return
	}
	due := at.Add(f.Policy.ReviewWait(g.BreakGlass))
	g.End, g.Until, g.ReviewBy = how, &at, &due
	g.become(ReviewDue, how, by, reason, at)
}

func wordOf(s State) string {
	if s == ReviewDue {
		return "over"
	}
	return string(s)
}
