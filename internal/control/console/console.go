// Package console is control over HTML: pages from the server that work
// without scripts, and fragments and events for what moves.
package console

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"encoding/hex"
	"errors"
	"html/template"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/environment"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/problem"
)

// Options are the subjects the console shows.
type Options struct {
	Access       *access.Access
	Audit        *audit.Log
	Environments *environment.Environments
	Fleet        *fleet.Fleet
	Logger       *slog.Logger
}

//go:embed templates
var templateFiles embed.FS

//go:embed assets
var assetFiles embed.FS

// console holds the subjects and the parsed pages for the handlers.
type console struct {
	Options
	pages    map[string]*template.Template
	assets   fs.FS
	revision string // of the assets, so that browsers may keep them
	streams  chan struct{}
}

const (
	cookieName = "slipway_session"
	themeName  = "slipway_theme"
	maxForm    = 512 << 10
	maxStreams = 500
)

// New returns the console's handler.
func New(o Options) http.Handler {
	assets, err := fs.Sub(assetFiles, "assets")
	if err != nil {
		panic(err) // the directory is embedded above
	}
	c := &console{Options: o, assets: assets, revision: revisionOf(assets), streams: make(chan struct{}, maxStreams)}
	c.pages = c.parse()
	mux := http.NewServeMux()
	mux.Handle("GET /assets/", http.StripPrefix("/assets/", c.serveAssets()))
	mux.HandleFunc("GET /login", c.login)
	mux.HandleFunc("POST /login", c.logIn)
	for pattern, handle := range map[string]handler{
		"GET /{$}":                       c.home,
		"GET /live/home":                 c.liveHome,
		"GET /devices":                   c.devices,
		"GET /devices/{id}":              c.device,
		"GET /devices/{id}/live":         c.liveDevice,
		"GET /devices/{id}/panel":        c.devicePanel,
		"POST /devices/{id}/twin":        c.saveTwin,
		"POST /devices/{id}/method":      c.invokeMethod,
		"POST /devices/{id}/message":     c.sendMessage,
		"POST /devices/{id}/purge":       c.purgeMessages,
		"POST /moves":                    c.startMove,
		"GET /moves":                     c.moves,
		"GET /moves/{id}":                c.move,
		"GET /live/moves/{id}":           c.liveMove,
		"GET /enrollments":               c.enrollments,
		"GET /enrollments/{kind}/{name}": c.enrollment,
		"GET /audit":                     c.auditLog,
		"POST /logout":                   c.logOut,
		"POST /theme":                    c.theme,
		"/":                              c.nowhere,
	} {
		mux.Handle(pattern, c.guard(handle))
	}
	return secure(mux)
}

// handler is a page's code; its error becomes the error page.
type handler func(w http.ResponseWriter, r *http.Request, s access.Session) error

// secure sets what every answer must carry. Scripts and styles come from files
// of ours alone.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if r.TLS != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

// guard lets only people past who are logged in, and forms only that carry
// their session's token.
func (c *console) guard(handle handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := c.session(r)
		if problem.Is(err, problem.Unauthenticated) {
			c.askToLogIn(w, r)
			return
		}
		if err == nil && r.Method == http.MethodPost {
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			err = checkForm(r, s)
		}
		if err == nil {
			err = handle(w, r, s)
		}
		if err != nil {
			c.fail(w, r, s, err)
		}
	})
}

func (c *console) session(r *http.Request) (access.Session, error) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return access.Session{}, problem.New(problem.Unauthenticated, "log in first")
	}
	return c.Access.Session(r.Context(), cookie.Value)
}

func checkForm(r *http.Request, s access.Session) error {
	if err := r.ParseForm(); err != nil {
		return problem.New(problem.Invalid, "the form cannot be read: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(r.PostForm.Get("csrf")), []byte(s.CSRF)) != 1 {
		return problem.New(problem.Denied, "the form is not from this session; reload the page and try again")
	}
	return nil
}

func (c *console) askToLogIn(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("HX-Request") != "" || strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		w.Header().Set("HX-Redirect", "/login")
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	target := "/login"
	if r.Method == http.MethodGet && r.URL.Path != "/" {
		target += "?to=" + template.URLQueryEscaper(r.URL.RequestURI())
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
}

// base is what every page has.
type base struct {
	Title    string
	Active   string // entry of the navigation
	Actor    string
	CSRF     string
	Theme    string // light, dark or empty for the system's
	Revision string
}

func (c *console) base(r *http.Request, s access.Session, title, active string) base {
	b := base{Title: title, Active: active, Actor: s.Name, CSRF: s.CSRF, Revision: c.revision}
	if cookie, err := r.Cookie(themeName); err == nil && (cookie.Value == "light" || cookie.Value == "dark") {
		b.Theme = cookie.Value
	}
	return b
}

// parse makes a template set for each page: the layout, the fragments that
// pages share, and the page itself.
func (c *console) parse() map[string]*template.Template {
	pages := map[string]*template.Template{}
	shared := template.Must(template.New("").Funcs(functions).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html"))
	for _, name := range []string{"login", "home", "devices", "device", "moves", "move", "enrollments", "enrollment", "audit", "error"} {
		pages[name] = template.Must(template.Must(shared.Clone()).ParseFS(templateFiles, "templates/"+name+".html"))
	}
	return pages
}

// show renders a page, or one block of it.
func (c *console) show(w http.ResponseWriter, status int, page, block string, data any) error {
	var b strings.Builder
	if err := c.pages[page].ExecuteTemplate(&b, block, data); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if _, err := w.Write([]byte(b.String())); err != nil {
		c.Logger.Debug("page not delivered", "page", page, "error", err)
	}
	return nil
}

// errorPage says what went wrong and what to do.
type errorPage struct {
	base
	Status  int
	Message string
}

// statuses are the HTTP statuses of the kinds of failure.
var statuses = map[problem.Kind]int{
	problem.Invalid: 400, problem.Unauthenticated: 401, problem.Denied: 403, problem.NotFound: 404, problem.Conflict: 409,
	problem.Stale: 412, problem.TooLarge: 413, problem.Busy: 429, problem.NotReady: 503, problem.TimedOut: 504,
}

func statusOf(err error) int {
	if status, ok := statuses[problem.Of(err).Kind]; ok {
		return status
	}
	return http.StatusInternalServerError
}

func (c *console) fail(w http.ResponseWriter, r *http.Request, s access.Session, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	status := statusOf(err)
	if status == http.StatusInternalServerError {
		c.Logger.Error("page failed", "path", r.URL.Path, "error", err)
	}
	if r.Header.Get("HX-Request") != "" {
		if err := c.show(w, status, "error", "notice", notice{"bad", problem.Of(err).Error()}); err != nil {
			c.Logger.Error("notice not rendered", "error", err)
		}
		return
	}
	page := errorPage{c.base(r, s, http.StatusText(status), ""), status, problem.Of(err).Error()}
	if err := c.show(w, status, "error", "layout", page); err != nil {
		c.Logger.Error("error page not rendered", "error", err)
	}
}

// notice is a line that says how something went.
type notice struct{ Tone, Text string }

func (c *console) nowhere(_ http.ResponseWriter, r *http.Request, _ access.Session) error {
	return problem.New(problem.NotFound, "there is no page %s", r.URL.Path)
}

// revisionOf digests the assets.
func revisionOf(assets fs.FS) string {
	sum := sha256.New()
	err := fs.WalkDir(assets, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(assets, path)
		sum.Write(text)
		return err
	})
	if err != nil {
		panic(err) // the files are embedded
	}
	return hex.EncodeToString(sum.Sum(nil))[:12]
}

func (c *console) serveAssets() http.Handler {
	files := http.FileServerFS(c.assets)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=86400")
		files.ServeHTTP(w, r)
	})
}

// loginPage asks for a token.
type loginPage struct {
	base
	To      string
	Problem string
}

func (c *console) login(w http.ResponseWriter, r *http.Request) {
	c.showLogin(w, r, http.StatusOK, r.URL.Query().Get("to"), "")
}

func (c *console) showLogin(w http.ResponseWriter, r *http.Request, status int, to, message string) {
	page := loginPage{c.base(r, access.Session{}, "Log in", ""), to, message}
	if err := c.show(w, status, "login", "layout", page); err != nil {
		c.Logger.Error("login page not rendered", "error", err)
	}
}

// logIn opens a session. Logging in from another site is refused by the
// cookie's SameSite and the browser's own word on where the form comes from.
func (c *console) logIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	to := r.PostFormValue("to")
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		c.showLogin(w, r, http.StatusForbidden, to, "The form came from another site.")
		return
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	cookie, err := c.Access.Login(r.Context(), r.PostFormValue("token"), host)
	if err != nil {
		c.showLogin(w, r, statusOf(err), to, problem.Of(err).Message)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: cookie, Path: "/", HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode})
	if !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.HasPrefix(to, "/\\") {
		to = "/"
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func (c *console) logOut(w http.ResponseWriter, r *http.Request, _ access.Session) error {
	if cookie, err := r.Cookie(cookieName); err == nil {
		if err := c.Access.Logout(r.Context(), cookie.Value); err != nil {
			return err
		}
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, "/login", http.StatusSeeOther)
	return nil
}

func (c *console) theme(w http.ResponseWriter, r *http.Request, _ access.Session) error {
	http.SetCookie(w, &http.Cookie{Name: themeName, Value: r.PostForm.Get("theme"), Path: "/", MaxAge: int((365 * 24 * time.Hour).Seconds()), HttpOnly: true, SameSite: http.SameSiteStrictMode})
	back := "/"
	if referer := r.Referer(); strings.Contains(referer, "://"+r.Host+"/") {
		back = referer
	}
	http.Redirect(w, r, back, http.StatusSeeOther)
	return nil
}
