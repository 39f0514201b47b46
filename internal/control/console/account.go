package console

import (
	"encoding/base64"
	"html/template"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/signin"
	"github.com/slipway/slipway/internal/problem"
)

var accountPage = newPage("account.html")

type accountView struct {
	base
	Me        access.Actor
	About     access.Account // empty for who came with a token of nobody
	HasOne    bool           // a second factor
	Lacks     bool           // one, and may do nothing until it has one
	Factors   []signin.Credential
	Codes     int // recovery codes that are left
	Fresh     []string
	App       *signin.App
	Picture   template.URL
	Passkeys  bool
	Sessions  []access.Opened
	Tokens    []access.Token
	Roles     []string
	Secret    string // of a token just made
	Problem   string
	SessionID string
}

func (c *console) account(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.showAccount(w, r, s, http.StatusOK, accountView{})
}

// showAccount shows what is one's own, with what has just come of a form.
func (c *console) showAccount(w http.ResponseWriter, r *http.Request, s access.Session, status int, view accountView) error {
	in, err := c.signIn()
	if err != nil {
		return err
	}
	ctx := r.Context()
	view.base, view.Me, view.SessionID, view.Roles = inside(r, s, "account", "Your account"), s.Actor, s.About.ID, access.BuiltIn
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	view.Passkeys = net.ParseIP(host) == nil
	if view.About, err = in.Access.Account(ctx, s.Name); err != nil && !problem.Is(err, problem.NotFound) {
		return err
	}
	all, err := in.Credentials(ctx, s.Name)
	if err != nil {
		return err
	}
	for _, one := range all {
		switch one.Kind {
		case "recovery":
			view.Codes++
		case "totp", "passkey":
			view.Factors, view.HasOne = append(view.Factors, one), true
		}
	}
	view.Lacks = view.About.ID != "" && !view.About.Provider && s.About.Method == access.ByPassword && !view.HasOne
	if view.About.ID != "" {
		if view.Sessions, err = in.Access.Sessions(ctx, s.Name); err != nil {
			return err
		}
		if view.Tokens, err = in.Access.Tokens(ctx, s.Name); err != nil {
			return err
		}
	}
	return show(w, r, status, accountPage, "", view)
}

// accountForm runs a form of the account's page and shows the page again, or
// says there what is wrong.
func (c *console) accountForm(w http.ResponseWriter, r *http.Request, s access.Session, do func(in *signin.SignIn, view *accountView) error) error {
	in, err := c.signIn()
	if err != nil {
		return err
	}
	var view accountView
	if err := do(in, &view); err != nil {
		known := problem.Of(err)
		if known.Kind == problem.Internal {
			return err
		}
		view.Problem = known.Message
		return c.showAccount(w, r, s, statusOf(known.Kind), view)
	}
	if view.Fresh == nil && view.App == nil && view.Secret == "" {
		http.Redirect(w, r, "/account", http.StatusSeeOther)
		return nil
	}
	return c.showAccount(w, r, s, http.StatusOK, view)
}

func (c *console) beginApp(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.accountForm(w, r, s, func(in *signin.SignIn, view *accountView) error {
		app, ceremony, err := in.BeginApp(r.Context(), s.Actor, r.Host)
		if err == nil {
			setCeremony(w, r, ceremony)
			view.App, view.Picture = &app, template.URL("data:image/png;base64,"+base64.StdEncoding.EncodeToString(app.QR)) // made just here
		}
		return err
	})
}

func (c *console) confirmApp(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.accountForm(w, r, s, func(in *signin.SignIn, view *accountView) error {
		ceremony, err := ceremonyOf(r)
		if err == nil {
			view.Fresh, err = in.ConfirmApp(r.Context(), s.Actor, ceremony, r.PostFormValue("code"))
		}
		return err
	})
}

func (c *console) beginPasskey(w http.ResponseWriter, r *http.Request, s access.Session) error {
	in, err := c.signIn()
	if err != nil {
		return err
	}
	options, ceremony, err := in.BeginPasskey(r.Context(), s.Actor, originOf(r))
	if err != nil {
		return err
	}
	setCeremony(w, r, ceremony)
	return writeJSON(w, options)
}

func (c *console) addPasskey(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.accountForm(w, r, s, func(in *signin.SignIn, view *accountView) error {
		ceremony, err := ceremonyOf(r)
		if err == nil {
			view.Fresh, err = in.AddPasskey(r.Context(), s.Actor, ceremony, strings.TrimSpace(r.PostFormValue("name")), []byte(r.PostFormValue("credential")))
		}
		return err
	})
}

func (c *console) newRecoveryCodes(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.accountForm(w, r, s, func(in *signin.SignIn, view *accountView) (err error) {
		view.Fresh, err = in.NewRecoveryCodes(r.Context(), s.Actor)
		return err
	})
}

func (c *console) removeFactor(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.accountForm(w, r, s, func(in *signin.SignIn, _ *accountView) error {
		return in.Remove(r.Context(), s.Actor, r.PostFormValue("factor"))
	})
}

func (c *console) endOwnSession(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.accountForm(w, r, s, func(in *signin.SignIn, _ *accountView) error {
		return in.Access.EndSession(r.Context(), s.Actor, r.PostFormValue("session"), s.Name)
	})
}

// maxDays is how many days a token made here may be good for.
const maxDays = 365

func (c *console) makeOwnToken(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.accountForm(w, r, s, func(in *signin.SignIn, view *accountView) error {
		days, err := strconv.Atoi(r.PostFormValue("days"))
		if err != nil || days < 1 || days > maxDays {
			return problem.New(problem.Invalid, "a token is good for 1 to %d days", maxDays).At("days")
		}
		if s.Kind == access.Bearer {
			return problem.New(problem.Denied, "you came with a token that is nobody's; slipway token create makes others")
		}
		_, view.Secret, err = in.Access.Create(r.Context(), s.Actor, access.NewToken{
			Name: strings.TrimSpace(r.PostFormValue("name")), Account: s.Name, Role: r.PostFormValue("role"), Life: time.Duration(days) * 24 * time.Hour,
		})
		return err
	})
}

func (c *console) revokeOwnToken(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.accountForm(w, r, s, func(in *signin.SignIn, _ *accountView) error {
		return in.Access.RevokeOwn(r.Context(), s.Actor, r.PostFormValue("token"))
	})
}
