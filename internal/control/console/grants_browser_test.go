package console

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/gateway"
	"github.com/slipway/slipway/internal/control/grant"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/control/place"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

// team is two people before an environment that wants grants: real grants and
// a real gateway over a real database, and devices that the test plays.
type team struct {
	*world
	t       *testing.T
	db      *sqldb.DB
	access  *access.Access
	grants  *grant.Grants
	gateway *gateway.Gateway

	clock sync.Mutex
	later time.Duration
}

func (m *team) now() time.Time {
	m.clock.Lock()
	defer m.clock.Unlock()
	return time.Now().Add(m.later)
}

func (m *team) pass(d time.Duration) {
	m.clock.Lock()
	defer m.clock.Unlock()
	m.later += d
}

// Login takes a name for a token.
func (m *team) Login(_ context.Context, token string, _ access.Login) (string, error) {
	return strings.TrimSpace(token), nil
}

// Session finds the person: ada works on devices and decides, bob decides.
func (m *team) Session(_ context.Context, cookie string) (access.Session, error) {
	roles, known := map[string]access.Rights{
		"ada": {access.RightOf(access.Operator, access.Bounds{}), access.RightOf(access.Approver, access.Bounds{})}, "bob": {access.RightOf(access.Approver, access.Bounds{})},
	}[cookie]
	if !known {
		return access.Session{}, problem.New(problem.Unauthenticated, "log in first")
	}
	return access.Session{Actor: access.Actor{Name: cookie, Kind: access.Human, Person: cookie, Rights: roles}, CSRF: csrfToken}, nil
}

func (m *team) Check(ctx context.Context, actor access.Actor, p access.Permission, find access.Find) error {
	return m.access.Check(ctx, actor, p, find)
}

func (m *team) Party(_ context.Context, _ sqldb.Querier, person string) (grant.Party, error) {
	return grant.Party{Person: person, Name: person}, nil
}

func (m *team) Decides(_ context.Context, _ sqldb.Querier, _, _, _ string) (bool, error) {
	return true, nil
}

func (m *team) Kin(_ context.Context, _ sqldb.Querier, person, _, other string) (bool, error) {
	return person == other, nil
}

func (m *team) Twin(context.Context, string) (link.Twin, error) { return link.Twin{}, nil }

func (m *team) Whereabouts(context.Context, string) (access.Place, error) {
	return access.Place{Environment: "test", Stamp: "test-1"}, nil
}

// newTeam is the console over it all; what only a grant allows passes the
// gateway.
func newTeam(t *testing.T) (*team, *httptest.Server) {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	m := &team{world: populated(), t: t, db: db}
	quiet, log := slog.New(slog.DiscardHandler), audit.NewLog(db, m.now)
	m.grants = grant.New(grant.Options{
		DB: db, Audit: log, People: m, Now: m.now, Logger: quiet, Known: func(string) bool { return true },
		Environment: func(context.Context, sqldb.Querier, string) (resource.EnvironmentSpec, error) {
			return resource.EnvironmentSpec{Grants: &resource.GrantPolicy{BreakGlass: true}}, nil
		},
		Alarm: func(context.Context, grant.Grant, resource.GrantPolicy) error { return nil },
	})
	m.access = &access.Access{
		Controlled: func(context.Context) ([]string, error) { return []string{"test"}, nil },
		Granted: func(ctx context.Context, actor access.Actor, at access.Place, p access.Permission) (bool, error) {
			g, found, err := m.grants.Covering(ctx, actor, at.Environment, string(p), grant.Target{Stamp: at.Stamp, Tenant: at.Tenant, Device: gateway.Device(ctx)})
			if err != nil || !found {
				return false, err
			}
			return true, m.gateway.Pass(ctx, actor, g)
		},
	}
	m.gateway = gateway.New(gateway.Options{
		DB: db, Audit: log, Fleet: m, Grants: m.grants, Logger: quiet, Now: m.now,
		Still: func(_ context.Context, actor access.Actor) (access.Actor, error) { return actor, nil },
		Check: func(ctx context.Context, actor access.Actor, p string, at gateway.Place) error {
			return m.access.Check(ctx, actor, access.Permission(p), func(context.Context) ([]access.Place, error) {
				return []access.Place{{Environment: at.Environment}}, nil
			})
		},
	})
	o := m.options()
	o.Access, o.Grants, o.Gateway, o.Places = m, m.grants, m.gateway, &place.Finder{DB: db, Device: m.Whereabouts}
	server := httptest.NewServer(m.gateway.Wrap(gateway.Console, New(o)))
	t.Cleanup(server.Close)
	return m, server
}

var _ gateway.Fleet = (*team)(nil)

// become logs in as another person.
func become(server *httptest.Server, name string) step {
	return chromedp.Steps(chromedp.Navigate(server.URL+"/login"), until(`document.querySelector("#token, form[action='/logout']") !== null`),
		until(`(() => { const out = document.querySelector("form[action='/logout'] button"); if (out) out.click(); return document.querySelector("#token") !== null; })()`),
		chromedp.SendKeys("#token", name), chromedp.Submit("#token"), until(`location.pathname === "/" && document.querySelector(".who .name").textContent === "`+name+`"`))
}

// say opens a dialog, gives a reason and presses its button.
func say(act, reason string) step {
	return chromedp.Steps(settled(), chromedp.Click(`a[data-dialog][href*="`+act+`"]`), chromedp.WaitVisible("#dialog[open] #act-reason"), settled(), chromedp.SendKeys("#act-reason", reason), chromedp.Click("#act button[class]:last-child"))
}

// TestAGrantInABrowser asks, is refused one's own approval, is approved by
// somebody else, acts, and is stopped when the time is over; afterwards what
// was done is replayed and reviewed.
func TestAGrantInABrowser(t *testing.T) {
	m, server := newTeam(t)
	ctx, complaints := openBrowser(t)
	state := func(s string) step {
		return until(`document.querySelector("#grant .chip").textContent === "` + s + `"`)
	}
	run(t, ctx, chromedp.EmulateViewport(1440, 900), become(server, "ada"), chromedp.Navigate(server.URL+"/devices/pump-0000"), settled(),
		chromedp.SetValue("#method-name", "reboot"), chromedp.Click("#method button.main"), until(`document.body.textContent.includes("wants a grant")`))
	run(t, ctx, chromedp.Navigate(server.URL+"/grants"), chromedp.Click(`a[href="/grants/new"]`), chromedp.WaitVisible("#minutes"),
		chromedp.SetValue("#environment", "test"), chromedp.SetValue("#minutes", "30"), chromedp.SetValue("#devices", "pump-0000"), chromedp.SendKeys("#reason", "the pump does not start"),
		chromedp.Click("form.card button.main"), until(`location.pathname === "/grants/grant-1"`), state("pending"))
	run(t, ctx, say("approve-grant", "I agree with myself"), until(`document.querySelector("#dialog .problem") !== null && document.querySelector("#dialog .problem").textContent.includes("somebody else must approve it")`))
	run(t, ctx, become(server, "bob"), chromedp.Navigate(server.URL+"/grants/grant-1"), say("approve-grant", "as we spoke"), state("active"), until(`document.querySelector(".countdown").textContent.includes("min")`))
	picture(t, ctx, "grant-active")
	run(t, ctx, become(server, "ada"), chromedp.Navigate(server.URL+"/devices/pump-0000"), settled(), chromedp.SetValue("#method-name", "reboot"), chromedp.SetValue("#payload", `{"password": "hunter2"}`),
		chromedp.Click("#method button.main"), until(`document.querySelector("#method .result") && document.querySelector("#method .result").textContent.includes("status 200")`))
	m.pass(30 * time.Minute)
	run(t, ctx, chromedp.Click("#method button.main"), until(`document.body.textContent.includes("wants a grant")`))
	if err := m.gateway.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, ctx, become(server, "bob"), chromedp.Navigate(server.URL+"/grants/grant-1"), state("review due"), chromedp.Click(`a[href="/recordings/session-1"]`),
		until(`document.querySelectorAll("#record li.i").length === 1 && document.getElementById("record").textContent.includes("method=reboot") && document.getElementById("record").textContent.includes("***")`),
		until(`!document.getElementById("record").textContent.includes("hunter2") && document.querySelector(".chip.pass").textContent === "as it was"`))
	picture(t, ctx, "session")
	run(t, ctx, chromedp.Click("[data-play]"), until(`document.querySelector("[data-play]").textContent === "Play" && document.querySelectorAll("#record li:not([hidden])").length === 2`))
	run(t, ctx, chromedp.Navigate(server.URL+"/grants/grant-1"), settled(), chromedp.Click(`a[data-dialog][href*="review-grant"]`), chromedp.WaitVisible("#dialog[open] #act-reason"), settled(),
		chromedp.SendKeys("#act-reason", "one restart, as asked"), chromedp.Click("#act button[class]:last-child"), state("reviewed"))
	run(t, ctx, become(server, "ada"), chromedp.Navigate(server.URL+"/grants/new?environment=test&purpose=hotfix"), chromedp.SendKeys("#reason", "all pumps stopped"), chromedp.Click(`button[name="breakGlass"]`),
		until(`location.pathname === "/grants/grant-2" && document.querySelector(".alarm").textContent.includes("ada has broken the glass in test")`))
	picture(t, ctx, "break-glass")
	for _, c := range complaints() {
		t.Error("the browser complains:", c)
	}
}
