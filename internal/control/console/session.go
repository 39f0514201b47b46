package console

import (
	"cmp"
	"crypto/subtle"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
)

const sessionHours = 12

// cookieName differs by scheme: only the name with the prefix is bound to TLS
// and this very host, and a browser without TLS would not keep it.
func cookieName(r *http.Request) string {
	if r.TLS != nil {
		return "__Host-slipway"
	}
	return "slipway"
}

func sessionCookie(r *http.Request, value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: cookieName(r), Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
	}
}

func (c *console) session(r *http.Request) (access.Session, error) {
	cookie, err := r.Cookie(cookieName(r))
	if err != nil {
		return access.Session{}, problem.New(problem.Unauthenticated, "log in first")
	}
	return c.Access.Session(r.Context(), cookie.Value)
}

// loggedIn lets a request pass that has a session and, if it changes
// anything, the session's CSRF token.
func (c *console) loggedIn(h sessionHandler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		s, err := c.session(r)
		if problem.Is(err, problem.Unauthenticated) {
			toLogin(w, r)
			return nil
		}
		if err != nil {
			return err
		}
		if r.Method == http.MethodPost {
			if err := r.ParseForm(); err != nil {
				return formProblem(err)
			}
			if subtle.ConstantTimeCompare([]byte(r.PostFormValue("csrf")), []byte(s.CSRF)) != 1 {
				return problem.New(problem.Denied, "the form is from another session; go back, load the page again and repeat")
			}
		}
		if r, err = c.withAlarm(r); err != nil {
			return err
		}
		asked := audit.Request{ID: uuid.NewString(), Actor: s.Name, Person: s.Person, Token: s.TokenID}
		w.Header().Set("X-Request-Id", asked.ID)
		r, letGo := c.Access.HoldRequest(w, r, s.Actor)
		defer letGo()
		err = h(w, r.WithContext(audit.With(r.Context(), asked)), s)
		return cmp.Or(cutIf(r, err), err)
	}
}

// cutIf is why a request failed that was cut.
func cutIf(r *http.Request, err error) error {
	if err == nil {
		return nil
	}
	return access.Cut(r.Context())
}

// toLogin sends a person to log in and back to where they wanted to be. A
// stream or a form cannot be come back to.
func toLogin(w http.ResponseWriter, r *http.Request) {
	target := "/login"
	switch here := r.Header.Get("HX-Current-URL"); {
	case strings.HasSuffix(r.URL.Path, "/live"):
		w.WriteHeader(http.StatusUnauthorized) // an EventSource stops at that
		return
	case fromHTMX(r):
		if u, err := url.Parse(here); err == nil {
			target += "?next=" + url.QueryEscape(u.RequestURI())
		}
		w.Header().Set("HX-Redirect", target)
		w.WriteHeader(http.StatusNoContent)
		return
	case r.Method == http.MethodGet && r.URL.Path != "/":
		target += "?next=" + url.QueryEscape(r.URL.RequestURI())
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
}

// within returns a path of this console, or its root: a link from elsewhere
// must not be able to send people away after they log in.
func within(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n") {
		return "/"
	}
	return next
}

func (c *console) logout(w http.ResponseWriter, r *http.Request, _ access.Session) error {
	cookie, err := r.Cookie(cookieName(r))
	if err != nil {
		return err
	}
	if err := c.Access.Logout(r.Context(), cookie.Value); err != nil {
		return err
	}
	http.SetCookie(w, sessionCookie(r, "", -1))
	http.Redirect(w, r, "/login", http.StatusSeeOther)
	return nil
}

const (
	themeCookie = "slipway-theme"
	year        = 365 * 24 * 3600
)

// theme is "light", "dark", or empty for what the system prefers.
func theme(r *http.Request) string {
	cookie, err := r.Cookie(themeCookie)
	if err != nil || cookie.Value != "light" && cookie.Value != "dark" {
		return ""
	}
	return cookie.Value
}

func (c *console) setTheme(w http.ResponseWriter, r *http.Request, _ access.Session) error {
	chosen, age := r.PostFormValue("theme"), year
	if chosen != "light" && chosen != "dark" {
		chosen, age = "", -1
	}
	http.SetCookie(w, &http.Cookie{Name: themeCookie, Value: chosen, Path: "/", MaxAge: age, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, within(r.PostFormValue("next")), http.StatusSeeOther)
	return nil
}
