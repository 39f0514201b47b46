package console

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

var stampPage = newPage("stamp.html")

type stampPageView struct {
	base
	Done string
	Unit unit
}

// unit is a stamp with what it carries, and what leaves it.
type unit struct {
	resource.Stamp
	CSRF    string
	Limits  []limit
	Tenants []resource.Tenant // whose devices it takes; none means all
	Moves   []link.Move       // that take devices off it
}

// limit is something of which a stamp takes on only so much.
type limit struct {
	Name       string
	Used, Most float64
	Bytes      bool
	Rate       bool // of each second, and not a whole number
}

func (c *console) stamp(w http.ResponseWriter, r *http.Request, s access.Session) error {
	found, err := c.findUnit(r.Context(), s, r.PathValue("name"))
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, stampPage, "", stampPageView{inside(r, s, "home", "Stamp "+found.Metadata.Name), r.URL.Query().Get("done"), found})
}

func (c *console) stampLive(w http.ResponseWriter, r *http.Request, session access.Session) error {
	return c.live(w, r, pulseEvery, func(ctx context.Context, s *stream) error {
		found, err := c.findUnit(ctx, session, r.PathValue("name"))
		if err != nil {
			return err
		}
		return s.part(stampPage, "unit", found)
	})
}

// shownMoves is how many moves are looked through for those of a stamp.
const shownMoves = 100

func (c *console) findUnit(ctx context.Context, s access.Session, name string) (found unit, err error) {
	found.CSRF = s.CSRF
	if found.Stamp, err = c.Fleet.Stamp(ctx, name); err != nil {
		return found, err
	}
	found.Limits = limitsOf(found.Stamp)
	tenants, err := c.Fleet.Tenants(ctx)
	if err != nil {
		return found, err
	}
	for _, tenant := range tenants {
		for _, only := range found.Spec.Tenants {
			if tenant.Metadata.Name == only {
				found.Tenants = append(found.Tenants, tenant)
			}
		}
	}
	moves, err := c.Fleet.Moves(ctx, shownMoves)
	if problem.Is(err, problem.NotReady) || problem.Is(err, problem.TimedOut) {
		return found, nil // provisioning, which has them, is away
	}
	for _, move := range moves.Items {
		if move.From == name || move.Stamp == name {
			found.Moves = append(found.Moves, move)
		}
	}
	return found, err
}

// limitsOf are what a stamp has room for and how much of it is used.
func limitsOf(s resource.Stamp) []limit {
	if s.Status == nil {
		return nil
	}
	all := []limit{{Name: "Places", Used: float64(s.Status.Assigned), Most: float64(s.Spec.Capacity)}}
	if told := s.Status.Limits; told != nil {
		all = append(all,
			limit{Name: "Connections", Used: float64(s.Status.Connected), Most: float64(told.Connections)},
			limit{Name: "Messages each second", Used: s.Status.Rate, Most: told.MessagesPerSecond, Rate: true},
			limit{Name: "Telemetry and events kept", Used: float64(s.Status.Stored), Most: float64(told.TelemetryBytes), Bytes: true})
		if told.Sockets > 0 { // a stamp that shares its sockets with others does not count them
			all = slices.Insert(all, 2, limit{Name: "Sockets", Used: float64(s.Status.Sockets), Most: float64(told.Sockets)})
		}
	}
	return all
}

// Tone is the colour of the bar. Telemetry that fills its room is no trouble:
// the oldest goes.
func (l limit) Tone() string {
	switch {
	case l.Bytes || l.Most == 0 || l.Used < l.Most*0.8:
		return "ok"
	case l.Used < l.Most*0.95:
		return "warn"
	}
	return "bad"
}

// setStamp opens, closes or drains a stamp.
func (c *console) setStamp(w http.ResponseWriter, r *http.Request, s access.Session) error {
	name, state := r.PathValue("name"), link.StampState(r.PostForm.Get("state"))
	stamp, err := c.Fleet.Stamp(r.Context(), name)
	if err != nil {
		return err
	}
	perSecond, err := strconv.ParseFloat(cmp.Or(r.PostForm.Get("perSecond"), "0"), 64)
	if err != nil || perSecond < 0 {
		return problem.New(problem.Invalid, "devices each second are a number, 0 for as fast as it goes").At("perSecond")
	}
	stamp.Spec.State = state
	if _, err := c.Environments.PutStamp(r.Context(), s.Actor, name, stamp.Spec, stamp.Metadata.ETag, false); err != nil {
		return err
	}
	if state != link.StampDraining {
		http.Redirect(w, r, "/stamps/"+name+"?done="+url.QueryEscape("The stamp is "+string(state)+" now"), http.StatusSeeOther)
		return nil
	}
	move, err := c.Fleet.StartMove(r.Context(), s.Actor, link.StartMove{From: name, PerSecond: perSecond, Reason: "stamp " + name + " is drained"})
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/moves/"+move.ID, http.StatusSeeOther)
	return nil
}
