package console

import (
	"maps"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

// done are forms as people send them, and what comes of each.
var done = map[string]struct {
	form []string
	said string
}{
	"promote":        {[]string{"release", "v1.4.0", "environment", "production", "reason", "tested"}, "admin promotes v1.4.0 to production tested"},
	"retry":          {[]string{"promotion", "promotion-8", "reason", "the rack is back"}, "retry promotion-8 the rack is back"},
	"approve":        {[]string{"promotion", "promotion-13", "reason", "seen"}, "approve promotion-13 seen"},
	"reject":         {[]string{"promotion", "promotion-13", "reason", "too late"}, "reject promotion-13 too late"},
	"lift":           {[]string{"environment", "staging", "release", "v1.4.0-bad", "reason", "it was the rack"}, "lift staging v1.4.0-bad it was the rack"},
	"withdraw":       {[]string{"promotion", "promotion-13", "reason", "not needed"}, "withdraw promotion-13 not needed"},
	"rollback":       {[]string{"environment", "production", "to", "v1.3.9", "reason", "it hurts", "force", "1"}, "rollback production v1.3.9 it hurts true"},
	"hold":           {[]string{"environment", "staging", "reason", "load test", "all", "1", "hours", "1.5"}, "hold staging load test true 1h30m0s"},
	"end-hold":       {[]string{"hold", "hold-9"}, "end hold-9"},
	"approve-waiver": {[]string{"waiver", "waiver-3"}, "approve waiver-3"},
	"review-waiver":  {[]string{"waiver", "waiver-3", "found", "it was right"}, "review waiver-3 it was right"},
	"pause":          {[]string{"rollout", "rollout-12", "reason", "a look"}, "pause rollout-12 a look"},
	"resume":         {[]string{"rollout", "rollout-12", "reason", "fine"}, "resume rollout-12 fine"},
	"skip":           {[]string{"rollout", "rollout-12", "stamp", "production-eu", "reason", "enough"}, "skip rollout-12 production-eu enough"},
	"abort":          {[]string{"rollout", "rollout-12", "reason", "no", "leave", "1"}, "abort rollout-12 no true false"},
	"halt":           {[]string{"environment", "", "reason", "incident", "exempt", "security", "exempt", "rollback"}, "halt  incident [security rollback] 0s"},
	"kill-flag":      {[]string{"flag", "fast-path", "environment", "test", "reason", "lost"}, "kill test fast-path  lost"},
	"revive-flag":    {[]string{"flag", "fast-path", "environment", "production", "reason", "mended"}, "revive production fast-path mended"},
	"give-flag":      {[]string{"flag", "fast-path", "environment", "test", "variant", "on", "reason", "try"}, "flag test fast-path ENABLED on try"},
	"disable-flag":   {[]string{"flag", "fast-path", "environment", "test", "reason", "off"}, "flag test fast-path DISABLED  off"},
	"enable-flag":    {[]string{"flag", "fast-path", "environment", "test", "reason", "on"}, "flag test fast-path ENABLED  on"},
	"plain-flag":     {[]string{"flag", "fast-path", "environment", "production", "reason", "plain"}, "flag production fast-path   plain"},
	"submit-grant":   {[]string{"grant", "grant-7"}, "submit grant-7 "},
	"approve-grant":  {[]string{"grant", "grant-1", "reason", "as we spoke"}, "approve grant-1 as we spoke"},
	"deny-grant":     {[]string{"grant", "grant-1", "reason", "not now"}, "deny grant-1 not now"},
	"withdraw-grant": {[]string{"grant", "grant-1", "reason", "not needed"}, "withdraw grant-1 not needed"},
	"revoke-grant":   {[]string{"grant", "grant-2", "reason", "enough"}, "revoke grant-2 enough"},
	"end-grant":      {[]string{"grant", "grant-2", "reason", "done"}, "end grant-2 done"},
	"review-grant":   {[]string{"grant", "grant-5", "found", "as asked"}, "review grant-5 as asked"},
	"open-review":    {[]string{"environment", "production"}, "open review production"},
	"keep-right":     {[]string{"review", "review-2", "right", "b-1"}, "decide review-2 b-1 keep "},
	"remove-right":   {[]string{"review", "review-2", "right", "b-1", "reason", "left"}, "decide review-2 b-1 remove left"},
	"lift-halt":      {[]string{"halt", "h-1", "reason", "over"}, "lift h-1 over"},

	"accept-drift":           {[]string{"difference", "4f1c0a2b3c4d", "environment", "production", "reason", "a trial", "hours", "24"}, "accept production 4f1c0a2b3c4d admin a trial 24h0m0s"},
	"accept-parity":          {[]string{"from", "test", "to", "production", "path", "limits.eu-1.connections", "reason", "smaller"}, "accept-parity test production limits.eu-1.connections admin smaller 720h0m0s"},
	"approve-configuration":  {[]string{"configuration", "pace", "environment", "production", "reason", "right"}, "approve-configuration production pace right"},
	"rollback-configuration": {[]string{"configuration", "pace", "environment", "production", "reason", "batteries"}, "rollback-configuration production pace batteries"},
}

func TestWhatPeopleDoIsDone(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	for name, one := range done {
		w.said = nil
		answer := browser.post("/acts/"+name, http.StatusSeeOther, filled(append(one.form, "next", "/freezes?month=2026-12")...))
		if len(w.said) != 1 || w.said[0] != one.said || answer.Header().Get("Location") != "/freezes?month=2026-12" {
			t.Errorf("%s: did %q and led to %q, want %q", name, w.said, answer.Header().Get("Location"), one.said)
		}
	}
	for name := range acts {
		if _, tried := done[name]; !tried {
			t.Errorf("nobody tries %s", name)
		}
	}
}

func TestWhatPeopleDoNeedsAReason(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	for name, one := range done {
		form := filled(one.form...)
		if acts[name].reason == "" {
			continue
		}
		form.Set(acts[name].reason, "  ")
		body := browser.htmx().post("/acts/"+name, http.StatusUnprocessableEntity, form).Body.String()
		has(t, body, "say why", `role="alert"`, `name="csrf"`)
		hasNot(t, body, "<html")
	}
	if len(w.said) > 0 {
		t.Errorf("did %q without a reason", w.said)
	}
}

func TestWhatIsRefusedIsSaidInPlace(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	w.refuse = problem.New(problem.Denied, "maria asked for the promotion and cannot approve it; somebody else must")
	for name, one := range done {
		body := browser.htmx().post("/acts/"+name, http.StatusForbidden, filled(one.form...)).Body.String()
		has(t, body, "somebody else must")
		checkPage(t, name, browser.post("/acts/"+name, http.StatusForbidden, filled(one.form...)).Body.String(), true)
	}
	body := browser.post("/acts/hold", http.StatusForbidden, filled("environment", "staging", "reason", "load test", "all", "1", "hours", "2")).Body.String()
	has(t, body, "load test</textarea>", `name="all" value="1" checked`, `value="2"`)
	has(t, browser.post("/acts/promote", http.StatusForbidden, filled("release", "v1.4.0", "asked-release", "1", "environment", "production", "asked-environment", "1", "reason", "x")).Body.String(), "<option selected>v1.4.0", `value="production" selected`)
	for _, hours := range []string{"0", "-1", "NaN", "Inf", "1e9", "soon"} {
		has(t, browser.post("/acts/hold", http.StatusUnprocessableEntity, filled("environment", "staging", "reason", "x", "hours", hours)).Body.String(), "hours are a number")
	}
}

func TestWhatPeopleDoIsTheirOwn(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	for name, one := range done {
		form := filled(one.form...)
		form.Set("csrf", "of another session")
		browser.post("/acts/"+name, http.StatusForbidden, form)
		browser.get("/acts/"+name, http.StatusOK) // asking changes nothing
	}
	if len(w.said) > 0 {
		t.Errorf("a refused form did %q", w.said)
	}
	browser.get("/acts/nothing", http.StatusNotFound)
	browser.post("/acts/nothing", http.StatusNotFound, filled())
	answer := browser.post("/acts/end-hold", http.StatusSeeOther, filled("hold", "hold-9", "next", "https://evil.example"))
	if got := answer.Header().Get("Location"); got != "/" {
		t.Errorf("led to %q", got)
	}
	if got := browser.htmx().post("/acts/end-hold", http.StatusNoContent, filled("hold", "hold-9", "next", "/pipeline")).Header().Get("HX-Redirect"); got != "/pipeline" {
		t.Errorf("a dialog led to %q", got)
	}
}

func TestTheBoardShowsWhatGoesOn(t *testing.T) {
	w := populated()
	w.halts = append(w.halts, gate.Halt{ID: "h-1", Reason: "incident 4711", Actor: "ops", At: noon})
	body := asBrowser(t, w).get("/pipeline", http.StatusOK)
	has(t, body, "v1.5.0", "Halted everywhere", "incident 4711", "Held", "the load test runs until the evening", "wave 2 of 4", "of the wave 12 devices tried", "1 of 2 people agree", "histogram_quantile",
		"/acts/lift-halt?halt=h-1", "/acts/end-hold?", "hold=hold-9", "/acts/approve?", "promotion=promotion-13", "/acts/rollback?environment=production", "/rollouts/rollout-12", "INC-4711")
}

func TestWhatMayComeNext(t *testing.T) {
	verified := promotion.Lane{Environment: "test", Current: &rollout.Stood{Release: "v2"}, Verification: &promotion.Verification{Passed: true}}
	failed, empty := verified, verified
	failed.Verification = &promotion.Verification{}
	empty.Current, empty.Verification = nil, nil
	after := func(change func(*promotion.Lane)) promotion.Lane {
		l := promotion.Lane{Environment: "production", PromotesFrom: "test", Current: &rollout.Stood{Release: "v1"}}
		change(&l)
		return l
	}
	for name, c := range map[string]struct {
		lane, before promotion.Lane
		want         string
	}{
		"verified upstream":     {after(func(*promotion.Lane) {}), verified, "v2"},
		"not verified upstream": {after(func(*promotion.Lane) {}), failed, ""},
		"nothing upstream":      {after(func(*promotion.Lane) {}), empty, ""},
		"there already":         {after(func(l *promotion.Lane) { l.Current.Release = "v2" }), verified, ""},
		"waits":                 {after(func(l *promotion.Lane) { l.Waiting = &promotion.Promotion{Release: "v2"} }), verified, ""},
		"another one waits":     {after(func(l *promotion.Lane) { l.Waiting = &promotion.Promotion{Release: "v1.9"} }), verified, "v2"},
		"on its way":            {after(func(l *promotion.Lane) { l.Running = &promotion.Promotion{Release: "v2"} }), verified, ""},
		"kept out":              {after(func(l *promotion.Lane) { l.Rejections = []promotion.Rejection{{Release: "v2"}} }), verified, ""},
		"the first takes any":   {after(func(l *promotion.Lane) { l.PromotesFrom = "" }), empty, "v3"},
	} {
		got := ""
		if next := nextInto(c.lane, []promotion.Lane{c.before, c.lane}, "v3"); next != nil {
			got = next.Release
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestARolloutShowsItsDevices(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	body := browser.get("/rollouts/rollout-12", http.StatusOK)
	has(t, body, "production-canary", "production-us", "Updated 590. Pending 171. Failed 9.", "Not reached 7572", "Reconnects, an hour each", "By hardware", "/acts/pause?", "/acts/abort?")
	hasNot(t, body, "/acts/resume?")
	some := browser.htmx().get("/rollouts/rollout-12?stamp=production-eu&state=failed", http.StatusOK)
	has(t, some, `id="updates"`, "self-test: pressure sensor does not answer", "pump-0004")
	hasNot(t, some, "<html", "pump-0000")
	has(t, browser.get("/rollouts/rollout-12?stamp=production-us", http.StatusOK), "stamp production-us does not answer")
	w.updates[0].Rollout, w.updates[0].Release = "", "v1.3.9"
	has(t, browser.get("/rollouts/rollout-12?stamp=production-eu", http.StatusOK), "No wave has come to it yet")
	browser.get("/rollouts/rollout-1", http.StatusNotFound)
	w.view.State = rollout.Paused
	w.view.Cause = &rollout.Cause{Stamp: "production-eu", Wave: 2, By: "maria", Reason: "a look at pump-b", At: noon}
	has(t, browser.get("/rollouts/rollout-12", http.StatusOK), "/acts/resume?", "a look at pump-b")
}

// TestACensusIsDrawnWhole: the states of any census fill the bar and no more.
func TestACensusIsDrawnWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := func(name string) int64 { return rapid.Int64Range(0, 2_000_000).Draw(t, name) }
		c := link.UpdateCensus{Updated: n("updated"), Pending: n("pending"), Failed: n("failed"), RolledBack: n("rolledBack"), Unreachable: n("unreachable"), Exempt: n("exempt")}
		all := n("all")
		parts, end, count := updateParts(c, all), 0.0, int64(0)
		for _, p := range parts {
			if math.Abs(p.X-end) > 1e-9 {
				t.Fatalf("%s begins at %g, not at %g", p.Name, p.X, end)
			}
			end, count = p.X+p.Width, count+int64(p.Count)
		}
		if whole := max(all, total(c)); count != whole || whole > 0 && math.Abs(end-100) > 1e-6 {
			t.Fatalf("%d devices to %g %%, want %d to 100 %%", count, end, whole)
		}
	})
}

func TestAReleaseIsShownAndCompared(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	has(t, browser.get("/releases", http.StatusOK), "firmware 1.4.0", "forward-only", `href="/releases/v1.5.0"`)
	body := browser.get("/releases/v1.4.0", http.StatusOK)
	has(t, body, "gateway.swu", "hot-pumps", "wear-forecast", "0007-pressure", "everySeconds", "software firmware from 1.3.9-bad to 1.4.0", "was not let into production", "240 components; these are the first 100", `href="https://git.example.com/`)
	part := browser.htmx().get("/releases/v1.4.0?from=v1.3.9", http.StatusOK)
	has(t, part, "since v1.3.9", "from 1.3.9 to 1.4.0")
	hasNot(t, part, "<html")
	found := browser.htmx().get("/releases/v1.4.0?part=components&component=OpenSSL", http.StatusOK)
	has(t, found, "30 of 240", "pkg:generic/openssl@")
	hasNot(t, found, "busybox", "<html")
	has(t, browser.get("/releases/v1.4.0?component=nothing", http.StatusOK), "No component matches")
	browser.get("/releases/v0", http.StatusNotFound)
	browser.get("/releases/v1.4.0?from=v0", http.StatusNotFound)
	w.releases[1].Spec.Source = "javascript:alert(1)"
	hasNot(t, browser.get("/releases/v1.4.0", http.StatusOK), `href="javascript`)
}

func TestTheCalendarShowsAMonth(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	body := browser.get("/freezes?month=2026-12", http.StatusOK)
	has(t, body, "December 2026", "?month=2026-11", "?month=2027-01", "nobody is there", "not for security, rollback", "4 Dec 15:00 to 7 Dec 05:00 UTC")
	for _, month := range []string{"2026-13", "soon", "0001-01", "9999-12"} {
		browser.get("/freezes?month="+url.QueryEscape(month), http.StatusUnprocessableEntity)
	}
	w.halts = append(w.halts, gate.Halt{ID: "h-1", Reason: "incident 4711", Actor: "ops", At: noon.Add(-time.Hour)})
	has(t, browser.get("/freezes", http.StatusOK), "Halted everywhere", "incident 4711", "/acts/lift-halt?halt=h-1", `class="halted"`)
}

func TestAMonthIsDrawnWhole(t *testing.T) {
	m := monthOf{time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	env := resource.Environment{Spec: resource.EnvironmentSpec{Promotion: &resource.PromotionSpec{Freeze: []resource.Freeze{{Name: "office", Reason: "people", Allow: true, Start: "2026-01-05T08:00:00", Duration: "9h", RRule: "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH"}}}}}
	row, end, open := m.row(env, nil, m.from), 0.0, 0.0
	for _, s := range row.Spans {
		if math.Abs(s.X-end) > 1e-9 {
			t.Fatalf("a stretch begins at %g, not at %g", s.X, end)
		}
		if end = s.X + s.Width; s.Kind == "open" {
			open += s.Width
		}
	}
	if want := 100 * 16 * 9 / (28 * 24.0); math.Abs(end-100) > 1e-9 || math.Abs(open-want) > 1e-6 {
		t.Errorf("open for %g %% to %g, want %g %%", open, end, want)
	}
	if days := m.days(); len(days) != 28 || !days[0].Weekend || days[1].Weekend {
		t.Errorf("the ruler is %+v", days)
	}
}

func TestADeviceShowsItsSoftware(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	has(t, browser.get("/devices/pump-0000", http.StatusOK), `id="software"`, "Is to run", "downloading", "/rollouts/rollout-12", "wave 1")
	has(t, browser.get("/devices/odd%231%25+%3F:%C3%A9", http.StatusOK), "It is to run no release")
}

// TestReleasesHaveColoursOfTheirOwn: the same names have the same colours in
// whatever order they come, and few enough have each another.
func TestReleasesHaveColoursOfTheirOwn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`v[0-9]{1,3}`), 0, 12, rapid.ID).Draw(t, "names")
		colours, used := palette(names), map[string]bool{}
		for _, c := range colours {
			used[c] = true
		}
		again := palette(append(rapid.Permutation(names).Draw(t, "again"), names...))
		if !maps.Equal(colours, again) || len(used) != min(len(names), hues) {
			t.Fatalf("%v and %v", colours, again)
		}
	})
}

func TestNamesAreShownAsWords(t *testing.T) {
	for name, want := range map[any]string{link.UpdateRolledBack: "rolled back", "wavePassed": "wave passed", rollout.Running: "running", "": ""} {
		if got := words(name); got != want {
			t.Errorf("%v is shown as %q, want %q", name, got, want)
		}
	}
}

func TestFiguresAreShort(t *testing.T) {
	for n, want := range map[float64]string{0.49723: "0.497", 99.44: "99.4", 4158.2: "4\u202f158", 1e18: "1e+18", 0: "0"} {
		if got := figure(n); got != want {
			t.Errorf("%g is %q, want %q", n, got, want)
		}
	}
	if got := figure((*float64)(nil)); got != "–" {
		t.Errorf("nothing is %q", got)
	}
}

func TestAnActIsNamedByWhatItIsAbout(t *testing.T) {
	for words, want := range map[string]string{"": "Promote", "release=v1": "Promote v1", "environment=production": "Promote to production", "release=v1&environment=production": "Promote v1 to production"} {
		about, err := url.ParseQuery(words)
		if got := acts["promote"].title(about); err != nil || strings.TrimSpace(got) != want {
			t.Errorf("about %q: %q, want %q", words, got, want)
		}
	}
}
