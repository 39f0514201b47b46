package console

import (
	"encoding/json"
	"net"
	"net/http"
	"net/url"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/signin"
	"github.com/slipway/slipway/internal/problem"
)

// ceremonyCookie goes on with what was begun at the sign-in page. It comes back
// from an identity provider's page, too, which is why it is not strict.
const ceremonyCookie = "slipway-signin"

const ceremonySeconds = 600

func setCeremony(w http.ResponseWriter, r *http.Request, value string) {
	age := ceremonySeconds
	if value == "" {
		age = -1
	}
	http.SetCookie(w, &http.Cookie{Name: ceremonyCookie, Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode})
}

func ceremonyOf(r *http.Request) (string, error) {
	cookie, err := r.Cookie(ceremonyCookie)
	if err != nil || len(cookie.Value) > 100 {
		return "", problem.New(problem.Unauthenticated, "that took too long; begin again")
	}
	return cookie.Value, nil
}

// originOf is the address that people have of the console, by which passkeys
// know it.
func originOf(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

func loginOf(r *http.Request) access.Login {
	remote, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		remote = r.RemoteAddr
	}
	return access.Login{Remote: remote, Agent: r.UserAgent()}
}

// signIn is how people sign in, where that is set up.
func (c *console) signIn() (*signin.SignIn, error) {
	if c.SignIn == nil {
		return nil, problem.New(problem.NotFound, "there are no accounts here")
	}
	return c.SignIn, nil
}

var (
	loginPage      = newPage("login.html")
	codePage       = newPage("logincode.html")
	invitationPage = newPage("invitation.html")
	onwardPage     = newPage("onward.html")
)

type loginView struct {
	base
	Next     string
	Problem  string
	Account  string
	Ways     signin.Ways
	Passkeys bool // the address is one that passkeys can belong to
	ByToken  bool // the form for tokens is open
}

func (c *console) showLogin(w http.ResponseWriter, r *http.Request) error {
	next := within(r.URL.Query().Get("next"))
	if _, err := c.session(r); err == nil {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return nil
	}
	return c.loginForm(w, r, http.StatusOK, loginView{Next: next})
}

func (c *console) loginForm(w http.ResponseWriter, r *http.Request, status int, view loginView) error {
	view.base = outside(r, "Log in")
	if c.SignIn != nil {
		var err error
		if view.Ways, err = c.SignIn.Ways(r.Context()); err != nil {
			return err
		}
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	view.Passkeys = view.Ways.Accounts && net.ParseIP(host) == nil
	view.ByToken = view.ByToken || !view.Ways.Accounts && view.Ways.Provider == ""
	return show(w, r, status, loginPage, "", view)
}

// wrong shows a form again if what was entered is wrong.
func wrong(err error) bool {
	return problem.Is(err, problem.Unauthenticated) || problem.Is(err, problem.Busy) || problem.Is(err, problem.Denied) || problem.Is(err, problem.Invalid)
}

// login opens a session with a token.
func (c *console) login(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return formProblem(err)
	}
	next := within(r.PostFormValue("next"))
	cookie, err := c.Access.Login(r.Context(), r.PostFormValue("token"), loginOf(r))
	if wrong(err) {
		return c.loginForm(w, r, statusOf(problem.Of(err).Kind), loginView{Next: next, Problem: problem.Of(err).Message, ByToken: true})
	}
	return entered(w, r, cookie, next, err)
}

// entered sets the session's cookie and goes on.
func entered(w http.ResponseWriter, r *http.Request, cookie, next string, err error) error {
	if err != nil {
		return err
	}
	http.SetCookie(w, sessionCookie(r, cookie, sessionHours*3600))
	http.Redirect(w, r, next, http.StatusSeeOther)
	return nil
}

// loginPassword checks a password; a code follows where there is one to show.
func (c *console) loginPassword(w http.ResponseWriter, r *http.Request) error {
	s, err := c.signIn()
	if err == nil {
		err = r.ParseForm()
	}
	if err != nil {
		return err
	}
	next, account := within(r.PostFormValue("next")), r.PostFormValue("account")
	session, ceremony, err := s.Password(r.Context(), account, r.PostFormValue("password"), loginOf(r))
	switch {
	case wrong(err):
		return c.loginForm(w, r, statusOf(problem.Of(err).Kind), loginView{Next: next, Account: account, Problem: problem.Of(err).Message})
	case err == nil && ceremony != "":
		setCeremony(w, r, ceremony)
		http.Redirect(w, r, "/login/code?next="+url.QueryEscape(next), http.StatusSeeOther)
		return nil
	}
	return entered(w, r, session, "/account", err)
}

type codeView struct {
	base
	Next, Problem string
}

func (c *console) showCode(w http.ResponseWriter, r *http.Request) error {
	return show(w, r, http.StatusOK, codePage, "", codeView{base: outside(r, "Log in"), Next: within(r.URL.Query().Get("next"))})
}

func (c *console) loginCode(w http.ResponseWriter, r *http.Request) error {
	s, err := c.signIn()
	if err == nil {
		err = r.ParseForm()
	}
	if err != nil {
		return err
	}
	next, cookie := within(r.PostFormValue("next")), ""
	ceremony, err := ceremonyOf(r)
	if err == nil {
		cookie, err = s.Code(r.Context(), ceremony, r.PostFormValue("code"), loginOf(r))
	}
	if wrong(err) {
		return show(w, r, statusOf(problem.Of(err).Kind), codePage, "", codeView{outside(r, "Log in"), next, problem.Of(err).Message})
	}
	setCeremony(w, r, "")
	return entered(w, r, cookie, next, err)
}

func writeJSON(w http.ResponseWriter, value any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(value)
}

// askPasskey tells the browser what a passkey is to sign.
func (c *console) askPasskey(w http.ResponseWriter, r *http.Request) error {
	s, err := c.signIn()
	if err != nil {
		return err
	}
	options, ceremony, err := s.AskPasskey(r.Context(), originOf(r))
	if err != nil {
		return err
	}
	setCeremony(w, r, ceremony)
	return writeJSON(w, options)
}

func (c *console) loginPasskey(w http.ResponseWriter, r *http.Request) error {
	s, err := c.signIn()
	if err == nil {
		err = r.ParseForm()
	}
	if err != nil {
		return err
	}
	next, cookie := within(r.PostFormValue("next")), ""
	ceremony, err := ceremonyOf(r)
	if err == nil {
		cookie, err = s.Passkey(r.Context(), ceremony, []byte(r.PostFormValue("credential")), loginOf(r))
	}
	if wrong(err) {
		return c.loginForm(w, r, statusOf(problem.Of(err).Kind), loginView{Next: next, Problem: problem.Of(err).Message})
	}
	setCeremony(w, r, "")
	return entered(w, r, cookie, next, err)
}

const providerBack = "/login/provider/back"

// loginProvider sends a person to the identity provider.
func (c *console) loginProvider(w http.ResponseWriter, r *http.Request) error {
	s, err := c.signIn()
	if err != nil {
		return err
	}
	target, ceremony, err := s.AskProvider(r.Context(), originOf(r)+providerBack, within(r.URL.Query().Get("next")))
	if err != nil {
		return err
	}
	setCeremony(w, r, ceremony)
	http.Redirect(w, r, target, http.StatusSeeOther)
	return nil
}

type onwardView struct {
	base
	Next string
}

// loginVouched takes a person who comes back. The session's cookie is not sent
// with what another site began, so the page itself goes on.
func (c *console) loginVouched(w http.ResponseWriter, r *http.Request) error {
	s, err := c.signIn()
	if err != nil {
		return err
	}
	cookie, next := "", ""
	ceremony, err := ceremonyOf(r)
	if err == nil {
		cookie, next, err = s.Vouched(r.Context(), ceremony, r.URL.Query(), loginOf(r))
	}
	if wrong(err) || problem.Is(err, problem.Conflict) {
		return c.loginForm(w, r, statusOf(problem.Of(err).Kind), loginView{Next: "/", Problem: problem.Of(err).Message})
	}
	if err != nil {
		return err
	}
	setCeremony(w, r, "")
	http.SetCookie(w, sessionCookie(r, cookie, sessionHours*3600))
	return show(w, r, http.StatusOK, onwardPage, "", onwardView{outside(r, "Signed in"), within(next)})
}

type invitationView struct {
	base
	Code, Problem string
}

func (c *console) showInvitation(w http.ResponseWriter, r *http.Request) error {
	return show(w, r, http.StatusOK, invitationPage, "", invitationView{base: outside(r, "Welcome"), Code: r.URL.Query().Get("code")})
}

// acceptInvitation sets a first password.
func (c *console) acceptInvitation(w http.ResponseWriter, r *http.Request) error {
	s, err := c.signIn()
	if err == nil {
		err = r.ParseForm()
	}
	if err != nil {
		return err
	}
	code := r.PostFormValue("code")
	if r.PostFormValue("password") != r.PostFormValue("again") {
		return show(w, r, http.StatusUnprocessableEntity, invitationPage, "", invitationView{outside(r, "Welcome"), code, "the two passwords differ"})
	}
	cookie, err := s.Accept(r.Context(), code, r.PostFormValue("password"), loginOf(r))
	if wrong(err) {
		return show(w, r, statusOf(problem.Of(err).Kind), invitationPage, "", invitationView{outside(r, "Welcome"), code, problem.Of(err).Message})
	}
	return entered(w, r, cookie, "/account", err)
}
