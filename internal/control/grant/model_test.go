package grant_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/control/grant"
	"github.com/slipway/slipway/internal/resource"
)

// model is one grant with the people around it, and what the test remembers of
// what they did.
type model struct {
	t        *rapid.T
	now      time.Time
	policy   resource.GrantPolicy
	eligible map[string]bool
	g        grant.Grant
	agreed   map[string]bool // persons who agreed to what is asked for now
	asked    time.Time       // when it was made, or asked for
}

// hands are the ways by which people come: the same person by several tokens,
// and a program for which one of them answers.
var hands = []grant.Party{
	{Person: "ada", Name: "ada"}, {Person: "ada", Name: "ada's laptop"}, {Person: "ada", Name: "chat"}, {Person: "bob", Name: "bob"}, {Person: "bob", Name: "ci"},
	{Person: "cy", Name: "cy"}, {Person: "dee", Name: "dee"}, {Person: "robo", Name: "robo", Program: true, Sponsor: "cy"}, {Person: "stray", Name: "stray", Program: true},
	{Name: "nobody"},
}

func (m *model) facts() grant.Facts {
	return grant.Facts{
		Now: m.now, Policy: m.policy, Eligible: func(person string) bool { return m.eligible[person] },
		Kin:  func(p grant.Party, person string) bool { return p.Person == person },
		Owes: func(string) bool { return false }, Broken: func(string) bool { return false },
	}
}

func (m *model) request() grant.Request {
	r := grant.Request{
		Purpose: rapid.SampledFrom(resource.Purposes).Draw(m.t, "purpose"), Reason: rapid.SampledFrom([]string{"the pump is stuck", "it is slow", "down", "again", " "}).Draw(m.t, "reason"),
		Scope: grant.Extent{Permissions: []string{rapid.SampledFrom([]string{"device.write", "stamp.write"}).Draw(m.t, "permission")}}, Seconds: int64(rapid.SampledFrom([]int{60, 600, 1800, 3600, 7200, 1 << 40}).Draw(m.t, "seconds")),
	}
	if rapid.IntRange(0, 2).Draw(m.t, "later") == 0 {
		at := m.now.Add(time.Duration(rapid.IntRange(-1, 3).Draw(m.t, "in")) * time.Hour)
		r.StartsAt = &at
	}
	return r
}

// TestModel has people and time do anything to a grant, and holds what becomes
// of it against what must always be so.
func TestModel(t *testing.T) {
	t.Parallel()
	reached := map[grant.State]int{}
	for range 30 {
		rapid.Check(t, func(t *rapid.T) { history(t, reached) })
	}
	for _, s := range []grant.State{grant.Draft, grant.Pending, grant.Scheduled, grant.Active, grant.ReviewDue, grant.Denied, grant.Expired, grant.Withdrawn, grant.Reviewed} {
		if reached[s] < 10 {
			t.Errorf("the model came to %s only %d times", s, reached[s])
		}
	}
}

// history is one grant from beginning to end.
func history(t *rapid.T, reached map[grant.State]int) {
	m := &model{
		t: t, now: time.Unix(1_700_000_000, 0).UTC(), eligible: map[string]bool{"ada": true, "bob": true, "cy": true, "dee": true, "robo": true},
		policy: resource.EnvironmentSpec{Grants: &resource.GrantPolicy{Approvals: rapid.IntRange(0, 3).Draw(t, "approvals"), Maximum: "1h", RequestLife: "2h", BreakGlass: rapid.Bool().Draw(t, "glass")}}.GrantPolicy(),
	}
	m.make()
	if m.g.State == "" {
		return
	}
	for range 25 {
		m.happen()
		reached[m.g.State]++
	}
}

// make has somebody ask, or break the glass.
func (m *model) make() {
	by := rapid.SampledFrom(hands).Draw(m.t, "by")
	r, f := m.request(), m.facts()
	m.agreed, m.asked = map[string]bool{}, m.now
	if rapid.IntRange(0, 5).Draw(m.t, "emergency") == 0 {
		g, err := grant.BreakGlass(r, by, f)
		if err != nil {
			return
		}
		if !m.policy.BreakGlass || by.Program || by.Person == "" || g.State != grant.Active || g.Until.Sub(m.now) > time.Hour {
			m.t.Fatalf("%+v broke the glass: %+v", by, g)
		}
		m.g = g
		return
	}
	of := by
	if rapid.Bool().Draw(m.t, "for another") {
		of = rapid.SampledFrom(hands).Draw(m.t, "of")
	}
	g, err := grant.Make(r, by, of, rapid.IntRange(0, 3).Draw(m.t, "draft") == 0, f)
	if err != nil {
		return
	}
	if of.Program && (g.Sponsor == "" || g.Sponsor == of.Person) {
		m.t.Fatalf("nobody answers for %+v", g)
	}
	if g.State != grant.Pending && g.State != grant.Draft {
		m.t.Fatalf("a request was %s at once", g.State)
	}
	m.g = g
	m.g.ID, m.g.Environment = "grant-1", "production"
}

// happen is one thing that people or time do.
func (m *model) happen() {
	before := m.g
	switch rapid.IntRange(0, 9).Draw(m.t, "what") {
	case 0:
		m.now = m.now.Add(time.Duration(rapid.SampledFrom([]int{1, 30, 90, 26 * 60}).Draw(m.t, "minutes")) * time.Minute)
	case 1:
		who := rapid.SampledFrom([]string{"ada", "bob", "cy", "dee"}).Draw(m.t, "who")
		m.eligible[who] = !m.eligible[who]
	case 2:
		m.policy.Approvals = rapid.IntRange(1, 3).Draw(m.t, "stricter")
	default:
		m.say()
		m.check(before)
		return
	}
	m.g = grant.Step(m.g, m.facts())
	m.check(before)
}

func (m *model) say() {
	w := grant.Word{
		Verb: rapid.SampledFrom([]grant.Verb{grant.Submit, grant.Amend, grant.Approve, grant.Approve, grant.Approve, grant.Deny, grant.Withdraw, grant.Revoke, grant.End, grant.Review}).Draw(m.t, "verb"),
		By:   rapid.SampledFrom(hands).Draw(m.t, "by"), Reason: rapid.SampledFrom([]string{"because", "so it is", "  "}).Draw(m.t, "why"),
	}
	if w.Verb == grant.Amend {
		w.Request = m.request()
	}
	aged := grant.Step(m.g, m.facts())
	next, err := grant.Say(m.g, w, m.facts())
	if err != nil {
		if !reflect.DeepEqual(next, aged) {
			m.t.Fatalf("a word that was refused changed %+v to %+v", aged, next)
		}
		m.g = next
		return
	}
	m.allowed(w, aged)
	switch w.Verb {
	case grant.Approve:
		m.agreed[w.By.Person] = true
	case grant.Amend:
		m.agreed = map[string]bool{}
	case grant.Submit:
		m.asked = m.now
	}
	m.g = next
}

func (m *model) mine(person string) bool {
	return person == m.g.Person || person == m.g.By || m.g.Sponsor != "" && person == m.g.Sponsor
}

// allowed holds a word that was taken against who may say it.
func (m *model) allowed(w grant.Word, g grant.Grant) {
	switch w.Verb {
	case grant.Approve, grant.Deny, grant.Review, grant.Revoke:
		switch {
		case w.By.Program || w.By.Person == "" || !m.eligible[w.By.Person]:
			m.t.Fatalf("%+v could %s", w.By, w.Verb)
		case w.Verb != grant.Revoke && m.mine(w.By.Person):
			m.t.Fatalf("%+v could %s what is theirs: %+v", w.By, w.Verb, g)
		case w.Verb != grant.Approve && strings.TrimSpace(w.Reason) == "":
			m.t.Fatalf("%s without saying why", w.Verb)
		case w.Verb == grant.Approve && m.agreed[w.By.Person]:
			m.t.Fatalf("%s counted twice", w.By.Person)
		}
	default:
		if !m.mine(w.By.Person) {
			m.t.Fatalf("%+v could %s another's grant", w.By, w.Verb)
		}
	}
}

// leads are the states that may follow one another.
var leads = map[grant.State][]grant.State{
	grant.Draft:     {grant.Pending, grant.Expired, grant.Withdrawn},
	grant.Pending:   {grant.Scheduled, grant.Active, grant.ReviewDue, grant.Denied, grant.Expired, grant.Withdrawn},
	grant.Scheduled: {grant.Pending, grant.Active, grant.ReviewDue, grant.Expired, grant.Withdrawn},
	grant.Active:    {grant.ReviewDue},
	grant.ReviewDue: {grant.Reviewed},
}

// check holds what a grant became against what must be so.
func (m *model) check(before grant.Grant) {
	g := m.g
	if g.State != before.State && !slices.Contains(leads[before.State], g.State) {
		m.t.Fatalf("%s became %s", before.State, g.State)
	}
	if before.State.Over() && !reflect.DeepEqual(before, g) {
		m.t.Fatalf("%s was for good, and changed", before.State)
	}
	if (g.State == grant.Pending || g.State == grant.Draft) && (!m.now.Before(g.DecideBy) || g.DecideBy.Sub(m.asked) > 2*time.Hour) {
		m.t.Fatalf("a request of %s is still %s at %s", m.asked, g.State, m.now)
	}
	if g.On(m.now) != (g.State == grant.Active) {
		m.t.Fatalf("%s until %s, at %s", g.State, g.Until, m.now)
	}
	if before.ActiveAt == nil && g.ActiveAt != nil {
		m.mayBegin()
	}
	if g.Until != nil && g.Until.Sub(*g.ActiveAt) > min(g.Duration(), time.Hour) {
		m.t.Fatalf("it lasts %s", g.Until.Sub(*g.ActiveAt))
	}
	if g.State == grant.ReviewDue && (g.ReviewBy == nil || g.BreakGlass && g.ReviewBy.Sub(*g.Until) > 24*time.Hour) {
		m.t.Fatalf("nobody must look at %+v in time", g)
	}
	if before.State != grant.Scheduled && len(g.Approvals) == 0 && g.State == grant.Pending || before.State == grant.Scheduled && g.State == grant.Pending {
		m.agreed = map[string]bool{}
		for _, a := range g.Approvals {
			m.agreed[a.Person] = true
		}
	}
}

// mayBegin holds a grant that has just begun against who agreed.
func (m *model) mayBegin() {
	count := 0
	for person := range m.agreed {
		if !m.mine(person) && m.eligible[person] {
			count++
		}
	}
	if count < max(m.policy.Approvals, m.g.Needs, 1) {
		m.t.Fatalf("it began with %d of %d: %+v", count, m.policy.Approvals, m.g)
	}
	if m.g.StartsAt != nil && m.now.Before(*m.g.StartsAt) {
		m.t.Fatalf("it began before its time")
	}
}

// TestNobodyOwesTwice says that who has broken the glass and was not looked at
// in time does not break it again.
func TestNobodyOwesTwice(t *testing.T) {
	t.Parallel()
	m := &model{now: time.Unix(1_700_000_000, 0), policy: resource.EnvironmentSpec{Grants: &resource.GrantPolicy{BreakGlass: true}}.GrantPolicy(), eligible: map[string]bool{"bob": true}}
	f := m.facts()
	r := grant.Request{Purpose: "hotfix", Reason: "down", Scope: grant.Extent{Permissions: []string{"device.write"}}, Seconds: 600}
	g, err := grant.BreakGlass(r, hands[0], f)
	if err != nil {
		t.Fatal(err)
	}
	f.Now = g.Until.Add(time.Second)
	g = grant.Step(g, f)
	if g.State != grant.ReviewDue || g.Overdue(f.Now) || g.Overdue(g.ReviewBy.Add(-time.Microsecond)) || !g.Overdue(*g.ReviewBy) {
		t.Fatalf("%+v", g)
	}
	f.Owes = func(person string) bool { return person == g.Person && g.Overdue(f.Now) }
	f.Now = g.ReviewBy.Add(-time.Second)
	if _, err := grant.BreakGlass(r, hands[1], f); err != nil {
		t.Fatal(err)
	}
	f.Now = *g.ReviewBy
	if _, err := grant.BreakGlass(r, hands[1], f); err == nil {
		t.Fatal("who owes a review broke the glass once more, by another token")
	}
	if _, err := grant.BreakGlass(r, hands[3], f); err != nil {
		t.Fatalf("somebody who owes nothing: %v", err)
	}
	if g, err = grant.Say(g, grant.Word{Verb: grant.Review, By: hands[3], Reason: "it was needed"}, f); err != nil || g.State != grant.Reviewed {
		t.Fatalf("%v %+v", err, g)
	}
	if _, err := grant.BreakGlass(r, hands[0], f); err != nil {
		t.Fatalf("after the review: %v", err)
	}
}
