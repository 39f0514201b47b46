package console

import (
	"html/template"
	"net/http"
	"net/url"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

var devicesPage = newPage("devices.html")

const devicesPerPage = 50

type devicesView struct {
	base
	Filter       fleet.Filter
	Filtered     bool
	Environments []resource.Environment
	Stamps       []resource.Stamp
	Phases       []link.Phase
	Page         fleet.Page
	Problem      string       // what is wrong with the condition
	Fields       url.Values   // the filter, without the place in the list
	First, Next  template.URL // the first page, and the one after this
}

func filterOf(q url.Values) fleet.Filter {
	return fleet.Filter{
		Search: q.Get("search"), Where: q.Get("where"), Environment: q.Get("environment"), Stamp: q.Get("stamp"), Tenant: q.Get("tenant"),
		Phase: link.Phase(q.Get("phase")), After: q.Get("after"), Limit: devicesPerPage,
	}
}

// queryOf is the filter as part of an address.
func queryOf(f fleet.Filter) url.Values {
	q := url.Values{}
	for key, value := range map[string]string{"search": f.Search, "where": f.Where, "environment": f.Environment, "stamp": f.Stamp, "tenant": f.Tenant, "phase": string(f.Phase)} {
		if value != "" {
			q.Set(key, value)
		}
	}
	return q
}

func listURL(q url.Values) template.URL {
	return template.URL("/devices?" + q.Encode()) // encoded just here
}

func (c *console) devices(w http.ResponseWriter, r *http.Request, s access.Session) error {
	view := devicesView{base: inside(r, s, "devices", "Devices"), Filter: filterOf(r.URL.Query()),
		Phases: []link.Phase{link.PhaseAssigned, link.PhaseWaiting, link.PhaseRemoving, link.PhaseCreating}}
	view.Fields = queryOf(view.Filter)
	view.First, view.Filtered = listURL(view.Fields), len(view.Fields) > 0
	var err error
	if view.Environments, err = c.Environments.List(r.Context()); err != nil {
		return err
	}
	if view.Stamps, err = c.Environments.Stamps(r.Context()); err != nil {
		return err
	}
	status := http.StatusOK
	view.Page, err = c.Fleet.List(r.Context(), view.Filter)
	if problem.Is(err, problem.Invalid) {
		view.Problem, status = problem.Of(err).Message, http.StatusUnprocessableEntity
	} else if err != nil {
		return err
	}
	if view.Page.Next != "" {
		next := queryOf(view.Filter)
		next.Set("after", view.Page.Next)
		view.Next = listURL(next)
	}
	return show(w, r, status, devicesPage, "results", view)
}
