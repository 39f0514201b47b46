package console

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/signin"
	"github.com/slipway/slipway/internal/problem"
)

var peoplePage = newPage("people.html")

// unusedDays is after how many days the page shows a right as unused.
const unusedDays = 90

type peopleView struct {
	base
	Accounts []access.Account
	Bindings []access.Binding
	Unused   []access.Unused
	Sessions []access.Opened
	Roles    []string
	Kinds    []access.Kind
	MayWrite bool
	Invited  string // whom the invitation is for
	Link     string // by which an invitation is taken up
	Until    time.Time
	Problem  string
}

func (c *console) people(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.showPeople(w, r, s, http.StatusOK, peopleView{})
}

func (c *console) showPeople(w http.ResponseWriter, r *http.Request, s access.Session, status int, view peopleView) error {
	in, err := c.signIn()
	if err != nil {
		return err
	}
	ctx := r.Context()
	view.base, view.Roles, view.Kinds = inside(r, s, "people", "People"), nil, []access.Kind{access.Human, access.Service, access.Agent}
	view.MayWrite = s.May(access.AccessAdmin, access.Place{})
	roles, err := in.Access.Roles(ctx)
	if err != nil {
		return err
	}
	for _, role := range roles {
		view.Roles = append(view.Roles, role.Metadata.Name)
	}
	if view.Accounts, err = in.Access.Accounts(ctx); err != nil {
		return err
	}
	if view.Bindings, err = in.Access.Bindings(ctx); err != nil {
		return err
	}
	if view.Unused, err = in.Access.UnusedRights(ctx, unusedDays); err != nil {
		return err
	}
	if view.Sessions, err = in.Access.Sessions(ctx, ""); err != nil {
		return err
	}
	return show(w, r, status, peoplePage, "", view)
}

// peopleForm runs a form of the page and shows the page again.
func (c *console) peopleForm(w http.ResponseWriter, r *http.Request, s access.Session, do func(in *signin.SignIn, view *peopleView) error) error {
	in, err := c.signIn()
	if err != nil {
		return err
	}
	var view peopleView
	if err := do(in, &view); err != nil {
		known := problem.Of(err)
		if known.Kind == problem.Internal {
			return err
		}
		view.Problem = known.Message
		return c.showPeople(w, r, s, statusOf(known.Kind), view)
	}
	if view.Link == "" {
		http.Redirect(w, r, "/people", http.StatusSeeOther)
		return nil
	}
	return c.showPeople(w, r, s, http.StatusOK, view)
}

// invite makes the link by which a person sets a password.
func invite(r *http.Request, s access.Session, in *signin.SignIn, view *peopleView, account string) error {
	code, until, err := in.Invite(r.Context(), s.Actor, account)
	if err == nil {
		view.Invited, view.Link, view.Until = account, originOf(r)+"/invitation?code="+url.QueryEscape(code), until
	}
	return err
}

func (c *console) addPerson(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.peopleForm(w, r, s, func(in *signin.SignIn, view *peopleView) error {
		f := r.PostForm
		made, err := in.Access.AddAccount(r.Context(), s.Actor, access.NewAccount{
			ID: strings.TrimSpace(f.Get("id")), Name: strings.TrimSpace(f.Get("name")), Kind: access.Kind(f.Get("kind")), Sponsor: strings.TrimSpace(f.Get("sponsor")),
		})
		if err == nil && made.Kind == access.Human {
			err = invite(r, s, in, view, made.ID)
		}
		return err
	})
}

func (c *console) doPerson(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.peopleForm(w, r, s, func(in *signin.SignIn, view *peopleView) (err error) {
		account := r.PostForm.Get("account")
		switch do := r.PostForm.Get("do"); do {
		case "invite":
			return invite(r, s, in, view, account)
		case "disable", "enable":
			_, err = in.Access.SetDisabled(r.Context(), s.Actor, account, do == "disable")
			return err
		}
		return problem.New(problem.Invalid, "there is nothing called %q to do", r.PostForm.Get("do"))
	})
}

func (c *console) giveRole(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.peopleForm(w, r, s, func(in *signin.SignIn, _ *peopleView) error {
		f := r.PostForm
		b := access.Binding{Role: f.Get("role"), Bounds: access.Bounds{Environments: strings.Fields(f.Get("environments")), Stamps: strings.Fields(f.Get("stamps")), Tenants: strings.Fields(f.Get("tenants"))}}
		if group, isGroup := strings.CutPrefix(strings.TrimSpace(f.Get("holder")), "group:"); isGroup {
			b.Group = strings.TrimSpace(group)
		} else {
			b.Account = group
		}
		_, err := in.Access.Bind(r.Context(), s.Actor, b)
		return err
	})
}

func (c *console) takeRole(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.peopleForm(w, r, s, func(in *signin.SignIn, _ *peopleView) error {
		return in.Access.Unbind(r.Context(), s.Actor, r.PostForm.Get("binding"))
	})
}

func (c *console) endSession(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.peopleForm(w, r, s, func(in *signin.SignIn, _ *peopleView) error {
		return in.Access.EndSession(r.Context(), s.Actor, r.PostForm.Get("session"), "")
	})
}
