package console

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/decommission"
	"github.com/slipway/slipway/internal/control/erasure"
	"github.com/slipway/slipway/internal/control/retention"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

var (
	carePage    = newPage("care.html")
	erasurePage = newPage("erasure.html")
)

// Retention shows how long things are kept, and has planes cleaned up.
type Retention interface {
	Overview(ctx context.Context) (retention.RetentionOverview, error)
	DryRun(ctx context.Context, only []string, days map[string]int) ([]retention.Trial, error)
	RunNow(ctx context.Context, actor access.Actor, only []string) ([]string, error)
	Place(ctx context.Context, actor access.Actor, on link.CareHold, reason string) (retention.LegalHold, error)
	Lift(ctx context.Context, actor access.Actor, id, reason string) (retention.LegalHold, error)
}

// Erasures makes planes forget devices and tenants.
type Erasures interface {
	List(ctx context.Context, limit int) ([]erasure.Erasure, error)
	Get(ctx context.Context, id string) (erasure.Erasure, error)
	Start(ctx context.Context, actor access.Actor, kind, subject, reason string) (erasure.Erasure, error)
	Prove(ctx context.Context, actor access.Actor, id string) (erasure.ErasureProof, error)
}

// Decommissions takes devices out of use.
type Decommissions interface {
	Of(ctx context.Context, device string) (decommission.Decommission, error)
	List(ctx context.Context, limit int) ([]decommission.Decommission, error)
	Start(ctx context.Context, actor access.Actor, r decommission.Request) (decommission.Decommission, error)
	TakeBack(ctx context.Context, actor access.Actor, device, reason string) (decommission.Decommission, error)
}

// careView is what is kept how long, and what becomes of it.
type careView struct {
	base
	retention.RetentionOverview
	Tried         bool
	Trials        []retention.Trial
	Erasures      []erasure.Erasure
	Decommissions []decommission.Decommission
}

func (c *console) care(w http.ResponseWriter, r *http.Request, s access.Session) (err error) {
	view := careView{base: inside(r, s, "care", "Data care"), Tried: r.FormValue("try") != ""}
	if view.RetentionOverview, err = c.Retention.Overview(r.Context()); err != nil {
		return err
	}
	if view.Tried {
		if view.Trials, err = c.Retention.DryRun(r.Context(), nil, nil); err != nil {
			return err
		}
	}
	if view.Erasures, err = c.Erasures.List(r.Context(), shownRows); err != nil {
		return err
	}
	if view.Decommissions, err = c.Retired.List(r.Context(), shownRows); err != nil {
		return err
	}
	return show(w, r, http.StatusOK, carePage, "", view)
}

// back leads to the page of data care.
func back(w http.ResponseWriter, r *http.Request, err error) error {
	if err == nil {
		http.Redirect(w, r, "/care", http.StatusSeeOther)
	}
	return err
}

func (c *console) cleanUp(w http.ResponseWriter, r *http.Request, s access.Session) error {
	var only []string
	if plane := r.PostFormValue("plane"); plane != "" {
		only = []string{plane}
	}
	_, err := c.Retention.RunNow(r.Context(), s.Actor, only)
	return back(w, r, err)
}

// namedSubject reads what a form is about: a device or a tenant.
func namedSubject(r *http.Request) (kind, name string) {
	return r.PostFormValue("kind"), r.PostFormValue("subject")
}

func (c *console) placeHold(w http.ResponseWriter, r *http.Request, s access.Session) error {
	kind, name := namedSubject(r)
	on := link.CareHold{Device: name}
	if kind == erasure.Tenant {
		on = link.CareHold{Tenant: name}
	}
	_, err := c.Retention.Place(r.Context(), s.Actor, on, r.PostFormValue("reason"))
	return back(w, r, err)
}

func (c *console) liftHold(w http.ResponseWriter, r *http.Request, s access.Session) error {
	_, err := c.Retention.Lift(r.Context(), s.Actor, r.PathValue("id"), r.PostFormValue("reason"))
	return back(w, r, err)
}

func (c *console) startErasure(w http.ResponseWriter, r *http.Request, s access.Session) error {
	kind, name := namedSubject(r)
	if r.PostFormValue("again") != name {
		return problem.New(problem.Invalid, "it cannot be taken back: write the same name twice").At("again")
	}
	e, err := c.Erasures.Start(r.Context(), s.Actor, kind, name, r.PostFormValue("reason"))
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/erasures/"+e.ID, http.StatusSeeOther)
	return nil
}

type erasureView struct {
	base
	erasure.Erasure
	Statement *erasure.Statement
}

func (c *console) erasure(w http.ResponseWriter, r *http.Request, s access.Session) error {
	e, err := c.Erasures.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	view := erasureView{base: inside(r, s, "care", e.ID), Erasure: e}
	if e.State == erasure.Done {
		// What the page says was done it reads in what was signed.
		p, err := c.Erasures.Prove(r.Context(), s.Actor, e.ID)
		if err != nil {
			return err
		}
		st, err := erasure.Verify(p, "")
		if err != nil {
			return err
		}
		view.Statement = &st
	}
	return show(w, r, http.StatusOK, erasurePage, "", view)
}

func (c *console) erasureProof(w http.ResponseWriter, r *http.Request, s access.Session) error {
	id := r.PathValue("id")
	p, err := c.Erasures.Prove(r.Context(), s.Actor, id)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Disposition", `attachment; filename="`+id+`.json"`)
	_, err = w.Write(append(text, '\n'))
	return err
}

func (c *console) decommissionDevice(w http.ResponseWriter, r *http.Request, s access.Session) error {
	minutes, err := strconv.ParseInt(r.PostFormValue("minutes"), 10, 32)
	if err != nil {
		return problem.New(problem.Invalid, "how long the device is waited for is a number of minutes; 0 does not ask it").At("minutes")
	}
	id := r.PathValue("id")
	_, err = c.Retired.Start(r.Context(), s.Actor, decommission.Request{Device: id, Reason: r.PostFormValue("reason"), Seconds: minutes * 60})
	return toDevice(w, r, id, err)
}

func (c *console) recommissionDevice(w http.ResponseWriter, r *http.Request, s access.Session) error {
	id := r.PathValue("id")
	_, err := c.Retired.TakeBack(r.Context(), s.Actor, id, r.PostFormValue("reason"))
	return toDevice(w, r, id, err)
}

func toDevice(w http.ResponseWriter, r *http.Request, id string, err error) error {
	if err == nil {
		http.Redirect(w, r, string(deviceURL(id)), http.StatusSeeOther)
	}
	return err
}

// retired is how far a device is on its way out of use; nil is not at all.
func (c *console) retired(ctx context.Context, id string) (*decommission.Decommission, error) {
	d, err := c.Retired.Of(ctx, id)
	if problem.Is(err, problem.NotFound) {
		return nil, nil
	}
	return &d, err
}
