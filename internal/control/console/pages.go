package console

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// homePage shows environments side by side with their stamps.
type homePage struct {
	base
	Levels []fleet.Level
	Scope  string
}

func (c *console) home(w http.ResponseWriter, r *http.Request, s access.Session) error {
	levels, err := c.Fleet.Overview(r.Context())
	if err != nil {
		return err
	}
	page := homePage{base: c.base(r, s, "Environments", "home"), Levels: levels}
	if scope, err := c.Fleet.Scope(r.Context()); err == nil {
		page.Scope = scope.IDScope
	}
	return c.show(w, http.StatusOK, "home", "layout", page)
}

// liveHome sends the environments anew every second.
func (c *console) liveHome(w http.ResponseWriter, r *http.Request, s access.Session) error {
	return c.repeat(w, r, time.Second, func(ctx context.Context, events *eventStream) (bool, error) {
		levels, err := c.Fleet.Overview(ctx)
		if err != nil {
			return false, err
		}
		return true, events.fragment(c.pages["home"], "levels", homePage{Levels: levels})
	})
}

// devicesPage is the list of devices with its filters.
type devicesPage struct {
	base
	Filter       fleet.Filter
	Page         fleet.Page
	Environments []string
	Stamps       []string
	Problem      string
	More         string // query of the next page
}

func (c *console) devices(w http.ResponseWriter, r *http.Request, s access.Session) error {
	q := r.URL.Query()
	page := devicesPage{base: c.base(r, s, "Devices", "devices"), Filter: fleet.Filter{
		Search: strings.TrimSpace(q.Get("search")), Where: strings.TrimSpace(q.Get("where")), Environment: q.Get("environment"), Stamp: q.Get("stamp"),
		Phase: link.Phase(q.Get("phase")), After: q.Get("after"), Limit: 50,
	}}
	levels, err := c.Fleet.Overview(r.Context())
	if err != nil {
		return err
	}
	for _, l := range levels {
		page.Environments = append(page.Environments, l.Name)
		for _, stamp := range l.Stamps {
			page.Stamps = append(page.Stamps, stamp.Metadata.Name)
		}
	}
	page.Page, err = c.Fleet.List(r.Context(), page.Filter)
	if problem.Is(err, problem.Invalid) {
		page.Problem, err = problem.Of(err).Message, nil
	}
	if err != nil {
		return err
	}
	if page.Page.Next != "" {
		q.Set("after", page.Page.Next)
		page.More = q.Encode()
	}
	block := "layout"
	if r.Header.Get("HX-Request") != "" {
		block = "list"
	}
	return c.show(w, http.StatusOK, "devices", block, page)
}

// startMove moves the devices that were ticked, or those a condition selects.
func (c *console) startMove(w http.ResponseWriter, r *http.Request, s access.Session) error {
	form := r.PostForm
	req := link.StartMove{Key: form.Get("key"), To: form.Get("to"), Reason: form.Get("reason"), Devices: form["device"]}
	if form.Get("everything") != "" {
		req.Devices, req.Where = nil, form.Get("where")
	}
	if len(req.Devices) == 0 && req.Where == "" {
		return problem.New(problem.Invalid, "tick the devices to move, or select them by a condition")
	}
	m, err := c.Fleet.StartMove(r.Context(), s.Actor, req)
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/moves/"+m.ID, http.StatusSeeOther)
	return nil
}

// movesPage lists the newest moves.
type movesPage struct {
	base
	Moves []link.Move
}

func (c *console) moves(w http.ResponseWriter, r *http.Request, s access.Session) error {
	moves, err := c.Fleet.Moves(r.Context(), 50)
	if err != nil {
		return err
	}
	return c.show(w, http.StatusOK, "moves", "layout", movesPage{c.base(r, s, "Moves", "moves"), moves.Items})
}

// movePage is one move with its census and devices.
type movePage struct {
	base
	Move    link.Move
	Devices []link.MovedDevice
	More    bool
}

// Done is the share of devices that have left their stamp, in percent.
func (p movePage) Done() int {
	c := p.Move.Census
	if c.Total == 0 {
		return 100
	}
	return (c.Total - c.Pending - c.Removing) * 100 / c.Total
}

func (c *console) readMove(ctx context.Context, id string) (page movePage, err error) {
	if page.Move, err = c.Fleet.Move(ctx, id); err != nil {
		return page, err
	}
	devices, err := c.Fleet.MoveDevices(ctx, link.ListMoveDevices{ID: id, Limit: 100})
	page.Devices, page.More = devices.Items, devices.More
	return page, err
}

func (c *console) move(w http.ResponseWriter, r *http.Request, s access.Session) error {
	page, err := c.readMove(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	page.base = c.base(r, s, "Move "+page.Move.ID, "moves")
	return c.show(w, http.StatusOK, "move", "layout", page)
}

// liveMove sends the move anew until nothing is left to wait for.
func (c *console) liveMove(w http.ResponseWriter, r *http.Request, _ access.Session) error {
	id := r.PathValue("id")
	return c.repeat(w, r, 500*time.Millisecond, func(ctx context.Context, events *eventStream) (bool, error) {
		page, err := c.readMove(ctx, id)
		if err != nil {
			return false, err
		}
		finished := page.Move.State == link.MoveComplete && page.Move.Census.Waiting == 0
		return !finished, events.fragment(c.pages["move"], "progress", page)
	})
}

// enrollmentsPage lists who may become a device.
type enrollmentsPage struct {
	base
	Groups, Individuals []link.Enrollment
	Scope               string
}

func (c *console) enrollments(w http.ResponseWriter, r *http.Request, s access.Session) error {
	page := enrollmentsPage{base: c.base(r, s, "Enrolments", "enrollments")}
	for kind, into := range map[link.EnrollmentKind]*[]link.Enrollment{link.Group: &page.Groups, link.Individual: &page.Individuals} {
		found, err := c.Fleet.Enrollments(r.Context(), link.ListEnrollments{Kind: kind, Limit: 200})
		if err != nil {
			return err
		}
		*into = found.Items
	}
	scope, err := c.Fleet.Scope(r.Context())
	page.Scope = scope.IDScope
	if err != nil {
		return err
	}
	return c.show(w, http.StatusOK, "enrollments", "layout", page)
}

// enrollmentPage is one enrolment, without its secrets.
type enrollmentPage struct {
	base
	Enrollment link.Enrollment
	Attested   string
	Tags       string
	Desired    string
}

func (c *console) enrollment(w http.ResponseWriter, r *http.Request, s access.Session) error {
	e, err := c.Fleet.Enrollment(r.Context(), link.EnrollmentRef{Kind: link.EnrollmentKind(r.PathValue("kind")), Name: r.PathValue("name")})
	if err != nil {
		return err
	}
	page := enrollmentPage{base: c.base(r, s, fmt.Sprintf("%s %s", e.Kind, e.Name), "enrollments"), Enrollment: e, Attested: "X.509 certificate"}
	if e.Spec.Attestation.SymmetricKey != nil {
		page.Attested = "symmetric key"
		page.Enrollment.Spec.Attestation.SymmetricKey = nil
	}
	if twin := e.Spec.InitialTwin; twin != nil {
		page.Tags, page.Desired = pretty(twin.Tags), pretty(twin.Desired)
	}
	return c.show(w, http.StatusOK, "enrollment", "layout", page)
}

// auditPage shows who did what.
type auditPage struct {
	base
	Entries []audit.Entry
	Before  int64 // of the next page; 0: there is none
}

const auditRows = 100

func (c *console) auditLog(w http.ResponseWriter, r *http.Request, s access.Session) error {
	var before int64
	if _, err := fmt.Sscan(r.URL.Query().Get("before"), &before); err != nil {
		before = 0
	}
	entries, err := c.Audit.List(r.Context(), before, auditRows)
	if err != nil {
		return err
	}
	page := auditPage{base: c.base(r, s, "Audit", "audit"), Entries: entries}
	if len(entries) == auditRows {
		page.Before = entries[len(entries)-1].Sequence
	}
	return c.show(w, http.StatusOK, "audit", "layout", page)
}
