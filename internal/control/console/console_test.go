package console

import (
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// client asks a console as a browser would.
type client struct {
	t       *testing.T
	handler http.Handler
	cookie  *http.Cookie
	headers map[string]string
}

func (c client) do(method, target string, form url.Values) *httptest.ResponseRecorder {
	c.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range c.headers {
		r.Header.Set(name, value)
	}
	if c.cookie != nil {
		r.AddCookie(c.cookie)
	}
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	return w
}

func (c client) get(target string, status int) string {
	c.t.Helper()
	w := c.do("GET", target, nil)
	if w.Code != status {
		c.t.Fatalf("GET %s: status %d, want %d: %s", target, w.Code, status, w.Body)
	}
	return w.Body.String()
}

func (c client) post(target string, status int, form url.Values) *httptest.ResponseRecorder {
	c.t.Helper()
	w := c.do("POST", target, form)
	if w.Code != status {
		c.t.Fatalf("POST %s: status %d, want %d: %s", target, w.Code, status, w.Body)
	}
	return w
}

func (c client) htmx() client {
	c.headers = map[string]string{"HX-Request": "true", "HX-Current-URL": "http://example.com/devices?search=a"}
	return c
}

// asBrowser is a console over w with somebody logged in.
func asBrowser(t *testing.T, w *world) client {
	t.Helper()
	return client{t: t, handler: New(w.options()), cookie: w.logIn(t)}
}

func has(t *testing.T, body string, wanted ...string) {
	t.Helper()
	for _, want := range wanted {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in:\n%s", want, body)
		}
	}
}

func hasNot(t *testing.T, body string, unwanted ...string) {
	t.Helper()
	for _, no := range unwanted {
		if strings.Contains(body, no) {
			t.Errorf("%q in:\n%s", no, body)
		}
	}
}

// checkPage holds a page against the rules every page keeps: well formed; no
// inline script or style; each POST form has the CSRF token; each visible
// field has a label; ids are unique.
func checkPage(t *testing.T, name, body string, inside bool) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(body))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	ids, labels, fields := map[string]bool{}, map[string]bool{}, []string{}
	posting, token := false, false
	for {
		next, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s is not well formed: %v", name, err)
		}
		switch e := next.(type) {
		case xml.StartElement:
			at := map[string]string{}
			for _, a := range e.Attr {
				at[a.Name.Local] = a.Value
				if a.Name.Local == "style" || strings.HasPrefix(a.Name.Local, "on") {
					t.Errorf("%s: <%s> has an inline %s", name, e.Name.Local, a.Name.Local)
				}
			}
			if id := at["id"]; id != "" {
				if ids[id] {
					t.Errorf("%s: two elements have the id %s", name, id)
				}
				ids[id] = true
			}
			switch e.Name.Local {
			case "form":
				posting, token = at["method"] == "post", false
			case "label":
				labels[at["for"]] = true
			case "script":
				if at["src"] == "" {
					t.Errorf("%s has an inline script", name)
				}
			case "input", "select", "textarea":
				token = token || at["name"] == "csrf" && at["value"] == csrfToken
				if at["type"] != "hidden" && at["aria-label"] == "" {
					fields = append(fields, at["id"])
				}
			}
		case xml.EndElement:
			if e.Name.Local == "form" && posting && inside && !token {
				t.Errorf("%s has a form without the CSRF token", name)
			}
		}
	}
	for _, id := range fields {
		if id == "" || !labels[id] {
			t.Errorf("%s: the field %q has no label", name, id)
		}
	}
}

var pages = []string{"/", "/topology", "/stamps/production-eu", "/tenants/acme", "/devices", "/devices?search=pump&environment=test", "/devices/pump-0000", "/devices/odd%231%25+%3F:%C3%A9", "/moves", "/moves/new?device=pump-0000&device=pump-0001",
	"/moves/new?all=1&where=tags.a+%3D+1", "/moves/mv-running", "/moves/mv-done?state=failed", "/enrollments", "/enrollment-groups/demo", "/enrollments/demo", "/enrollments/new", "/authorities", "/audit", "/audit?object=device%2Fa&from=2026-01-02T03:04", "/audit/2",
	"/pipeline", "/matrix", "/freezes", "/freezes?month=2026-12", "/promotions/promotion-13", "/rollouts/rollout-12", "/rollouts/rollout-12?stamp=production-eu&state=failed", "/releases", "/releases/v1.4.0", "/flags", "/flags/fast-path", "/configurations", "/configurations/pace", "/drift", "/parity/test/production", "/environments/production", "/acts/kill-flag?flag=fast-path&environment=test", "/grants", "/grants/new", "/grants/grant-1", "/grants/grant-2", "/grants/grant-5", "/access-reviews", "/access-reviews/review-1", "/access-reviews/review-2", "/acts/remove-right?review=review-2&right=b-1&next=/access-reviews/review-2", "/recordings", "/recordings/session-1", "/recordings/session-2", "/acts/approve-grant?grant=grant-1&next=/grants", "/acts/promote", "/acts/halt?next=/freezes", "/acts/rollback?environment=production"}

func TestEveryPageKeepsTheRules(t *testing.T) {
	browser := asBrowser(t, populated())
	for _, page := range pages {
		body := browser.get(page, http.StatusOK)
		checkPage(t, page, body, true)
		hasNot(t, body, secretKey, "ZgotmplZ", "&lt;nil&gt;", "map[", "%!")
	}
	checkPage(t, "not found", browser.get("/nowhere", http.StatusNotFound), true)
	browser.cookie = nil
	checkPage(t, "login", browser.get("/login", http.StatusOK), false)
}

func TestEveryPageOfAnEmptyInstallation(t *testing.T) {
	browser := asBrowser(t, newWorld())
	for page, hint := range map[string]string{"/": "slipway apply", "/devices": "slipway up --demo", "/moves": "slipway device move", "/enrollments": "EnrollmentGroup", "/authorities": "None yet", "/audit": "Nothing has been changed", "/moves/new": "No device is selected",
		"/pipeline": "promotesFrom", "/matrix": "No environment is declared", "/freezes": "No environment is declared", "/releases": "slipway release create", "/acts/promote": "Promote"} {
		body := browser.get(page, http.StatusOK)
		checkPage(t, page, body, true)
		has(t, body, hint)
	}
}

func TestPagesNeedASession(t *testing.T) {
	browser := client{t: t, handler: New(populated().options())}
	for _, page := range pages {
		w := browser.do("GET", page, nil)
		if w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "/login") {
			t.Errorf("GET %s without a session: %d to %q", page, w.Code, w.Header().Get("Location"))
		}
	}
	if w := browser.do("GET", "/devices/pump-0000/live", nil); w.Code != http.StatusUnauthorized {
		t.Errorf("a stream without a session: %d", w.Code)
	}
	w := browser.htmx().do("GET", "/devices", nil)
	if got := w.Header().Get("HX-Redirect"); got != "/login?next=%2Fdevices%3Fsearch%3Da" {
		t.Errorf("a part without a session leads to %q", got)
	}
}

func TestLoginOpensASessionAndLogoutEndsIt(t *testing.T) {
	w := populated()
	browser := client{t: t, handler: New(w.options())}
	has(t, browser.post("/login", http.StatusUnauthorized, url.Values{"token": {"slp_wrong"}}).Body.String(), "not known or has expired", `aria-invalid="true"`)
	answer := browser.post("/login", http.StatusSeeOther, url.Values{"token": {goodToken}, "next": {"/devices?search=a"}})
	if got := answer.Header().Get("Location"); got != "/devices?search=a" {
		t.Errorf("logged in to %q", got)
	}
	cookie := answer.Result().Cookies()[0]
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.Secure {
		t.Errorf("the session's cookie is %+v", cookie)
	}
	browser.cookie = cookie
	browser.get("/devices", http.StatusOK)
	browser.post("/logout", http.StatusSeeOther, url.Values{"csrf": {csrfToken}})
	browser.get("/devices", http.StatusSeeOther)
}

func TestCookieOverTLSIsBoundToIt(t *testing.T) {
	browser := client{t: t, handler: New(populated().options())}
	cookie := browser.post("https://example.com/login", http.StatusSeeOther, url.Values{"token": {goodToken}}).Result().Cookies()[0]
	if cookie.Name != "__Host-slipway" || !cookie.Secure {
		t.Errorf("the session's cookie is %+v", cookie)
	}
}

func TestLoginLeadsNowhereElse(t *testing.T) {
	for next, want := range map[string]string{"": "/", "/moves": "/moves", "https://evil.example": "/", "//evil.example": "/", `/\evil.example`: "/", "javascript:alert(1)": "/", "/a\r\nb": "/", "devices": "/"} {
		if got := within(next); got != want {
			t.Errorf("%q leads to %q, want %q", next, got, want)
		}
	}
}

func TestFormsOfOthersAreRefused(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	for _, target := range []string{"/logout", "/theme", "/moves", "/devices/pump-0000/twin", "/devices/pump-0000/method", "/devices/pump-0000/messages", "/devices/pump-0000/messages/purge"} {
		browser.post(target, http.StatusForbidden, url.Values{"device": {"pump-0000"}, "to": {"production"}})
		browser.post(target, http.StatusForbidden, url.Values{"csrf": {"of another session"}})
	}
	browser.headers = map[string]string{"Sec-Fetch-Site": "cross-site"}
	browser.post("/login", http.StatusForbidden, url.Values{"token": {goodToken}})
	if len(w.started)+len(w.patches) != 0 || len(w.queue) != 1 {
		t.Error("a refused form changed something")
	}
}

func TestEveryAnswerIsSecured(t *testing.T) {
	browser := asBrowser(t, populated())
	for _, target := range []string{"/", "/login", "/nowhere", "/assets/base.css"} {
		h := browser.do("GET", target, nil).Header()
		has(t, h.Get("Content-Security-Policy"), "default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'")
		hasNot(t, h.Get("Content-Security-Policy"), "unsafe")
		if h.Get("X-Frame-Options") != "DENY" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") == "" {
			t.Errorf("GET %s: headers are %v", target, h)
		}
	}
}

func TestAssetsAreKeptByVersion(t *testing.T) {
	browser := client{t: t, handler: New(populated().options())}
	if got := browser.do("GET", asset("base.css"), nil).Header().Get("Cache-Control"); !strings.Contains(got, "immutable") {
		t.Errorf("an asset by its version has Cache-Control %q", got)
	}
	browser.get("/assets/../console.go", http.StatusTemporaryRedirect)
	browser.get("/assets/nothing.css", http.StatusNotFound)
}

func TestThemeIsKept(t *testing.T) {
	browser := asBrowser(t, populated())
	answer := browser.post("/theme", http.StatusSeeOther, url.Values{"csrf": {csrfToken}, "theme": {"dark"}, "next": {"/devices"}})
	chosen := answer.Result().Cookies()[0]
	r := httptest.NewRequest("GET", "/login", nil)
	r.AddCookie(chosen)
	w := httptest.NewRecorder()
	browser.handler.ServeHTTP(w, r)
	has(t, w.Body.String(), `data-theme="dark"`)
}

func TestErrorsHelp(t *testing.T) {
	browser := asBrowser(t, populated())
	has(t, browser.get("/capacity", http.StatusOK), "full in 12 days", ">12 days<", "Acme &lt;Corporation&gt;", "eu-west", "all that take it")
	has(t, browser.get("/devices/pump-0000", http.StatusOK), "Why it is here", "by move-3", "tenant acme stays in eu-west")
	has(t, browser.get("/devices/nobody", http.StatusNotFound), "there is no device", "Search devices")
	w := browser.htmx().do("GET", "/devices/nobody", nil)
	if w.Header().Get("HX-Retarget") != "#notice" || strings.Contains(w.Body.String(), "<html") {
		t.Errorf("a part that fails answers %v %s", w.Header(), w.Body)
	}
}
