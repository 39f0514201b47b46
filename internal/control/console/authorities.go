package console

import (
	"net/http"
	"strings"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

var authoritiesPage = newPage("authorities.html")

// authoritiesView is the list of certificate authorities, with what somebody
// wrote into a form that was refused.
type authoritiesView struct {
	base
	Items             []link.Authority
	Name, Certificate string // of one to add
	Problem           string
	Proving           string // the name of the one whose proof was refused
	Proof             string
}

func (c *console) authorities(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.showAuthorities(w, r, http.StatusOK, authoritiesView{base: inside(r, s, "enrollments", "Certificate authorities")})
}

func (c *console) showAuthorities(w http.ResponseWriter, r *http.Request, status int, view authoritiesView) (err error) {
	if view.Items, err = c.Fleet.Authorities(r.Context()); err != nil {
		return err
	}
	return show(w, r, status, authoritiesPage, "", view)
}

// changeAuthorities does what the forms of the page say: keep an authority,
// take the proof of its key, forget it.
func (c *console) changeAuthorities(w http.ResponseWriter, r *http.Request, s access.Session) error {
	f, ctx := r.PostForm, r.Context()
	view := authoritiesView{base: inside(r, s, "enrollments", "Certificate authorities")}
	name := strings.TrimSpace(f.Get("name"))
	var err error
	switch do := f.Get("do"); do {
	case "add":
		view.Name, view.Certificate = name, f.Get("certificate")
		_, err = c.Fleet.AddAuthority(ctx, s.Actor, link.AddAuthority{Name: name, Certificate: view.Certificate})
	case "verify":
		view.Proving, view.Proof = name, f.Get("certificate")
		_, err = c.Fleet.VerifyAuthority(ctx, s.Actor, link.VerifyAuthority{Name: name, Certificate: view.Proof})
	case "delete":
		if f.Get("sure") != name {
			return problem.New(problem.Invalid, "nothing was forgotten: the name typed is not %s", name)
		}
		err = c.Fleet.DeleteAuthority(ctx, s.Actor, name)
	default:
		return problem.New(problem.Invalid, "there is nothing called %q to do", do)
	}
	if err == nil {
		http.Redirect(w, r, "/authorities", http.StatusSeeOther)
		return nil
	}
	switch kind := problem.Of(err).Kind; kind {
	case problem.Invalid, problem.Conflict, problem.TooLarge, problem.Denied:
		view.Problem = problem.Of(err).Error()
		return c.showAuthorities(w, r, statusOf(kind), view)
	}
	return err
}
