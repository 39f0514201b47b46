package environment

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// routeSpec holds what endpoints are reached with, so it is sealed.
var routeSpec = sqldb.Sealed{Table: "route", Key: []string{"name"}, Name: "spec"}

// Sealed are the columns that hold secrets.
var Sealed = []sqldb.Sealed{routeSpec}

const selectRoutes = "SELECT name, spec, version, '', created_at, updated_at FROM route"

func (r record) route() (route link.Route, err error) {
	route.Name = r.name
	return route, json.Unmarshal(r.spec, &route.Spec)
}

// shownRoute is a stored route as people see it.
func shownRoute(r record, spec link.RouteSpec, secrets bool) resource.Route {
	if !secrets {
		spec = resource.MaskRoute(spec)
	}
	return resource.Route{APIVersion: resource.APIVersion, Kind: resource.KindRoute, Metadata: r.metadata(), Spec: spec}
}

// Routes returns every route in order of name, with its state on each stamp.
// Secrets are masked unless asked for, which is recorded.
func (e *Environments) Routes(ctx context.Context, actor access.Actor, secrets bool) ([]resource.Route, error) {
	records, err := sqldb.Rows(ctx, e.db, scanRecord, selectRoutes+" ORDER BY name")
	if err != nil {
		return nil, err
	}
	if err := e.secretsRead(ctx, actor, "*", secrets); err != nil {
		return nil, err
	}
	states := e.routeStates(ctx)
	all := make([]resource.Route, len(records))
	for i, r := range records {
		route, err := r.route()
		if err != nil {
			return nil, err
		}
		all[i] = shownRoute(r, route.Spec, secrets)
		all[i].Status = &resource.RouteStatus{Stamps: states[r.name]}
	}
	return all, nil
}

// Route returns one route.
func (e *Environments) Route(ctx context.Context, actor access.Actor, name string, secrets bool) (resource.Route, error) {
	r, err := readOne(ctx, e.db, selectRoutes, "route", name)
	if err != nil {
		return resource.Route{}, err
	}
	route, err := r.route()
	if err != nil {
		return resource.Route{}, err
	}
	if err := e.secretsRead(ctx, actor, name, secrets); err != nil {
		return resource.Route{}, err
	}
	shown := shownRoute(r, route.Spec, secrets)
	shown.Status = &resource.RouteStatus{Stamps: e.routeStates(ctx)[name]}
	return shown, nil
}

func (e *Environments) secretsRead(ctx context.Context, actor access.Actor, name string, secrets bool) error {
	if !secrets {
		return nil
	}
	return e.audit.Write(ctx, audit.Entry{Actor: actor.Name, Action: "route.readSecrets", Object: "route/" + name})
}

// statesWait is how long a stamp may take to tell of its routes before the
// others are shown without it.
const statesWait = 2 * time.Second

// routeStates asks every stamp for the state of its routes.
func (e *Environments) routeStates(ctx context.Context) map[string][]link.RouteState {
	states := map[string][]link.RouteState{}
	stamps, err := e.stamps(ctx)
	if err != nil {
		return states
	}
	ctx, cancel := context.WithTimeout(ctx, statesWait)
	defer cancel()
	answers := make([]link.RouteStates, len(stamps))
	var asking sync.WaitGroup
	for i, s := range stamps {
		asking.Go(func() {
			answer, err := bus.Ask(ctx, e.conn, link.StampPeer(s.Name), link.RouteStatuses, link.None{})
			if err != nil {
				e.logger.Debug("a stamp does not tell of its routes", "stamp", s.Name, "error", err)
			}
			answers[i] = answer
		})
	}
	asking.Wait()
	for _, answer := range answers {
		for _, state := range answer.Items {
			states[state.Route] = append(states[state.Route], state)
		}
	}
	return states
}

// PutRoute creates or replaces a route. Masked secrets stay what they were.
func (e *Environments) PutRoute(ctx context.Context, actor access.Actor, name string, spec link.RouteSpec, ifMatch string, dryRun bool) (stored resource.Route, err error) {
	if err := resource.CheckName(resource.KindRoute, name); err != nil {
		return stored, err
	}
	if spec, err = resource.CheckRoute(spec); err != nil {
		return stored, err
	}
	if _, err := e.TryRoute(ctx, link.TryRoute{Spec: spec}); err != nil && !problem.Is(err, problem.NotReady) {
		return stored, err
	}
	masked, err := json.Marshal(resource.MaskRoute(spec))
	if err != nil {
		return stored, err
	}
	err = e.commit(ctx, dryRun, edit{actor, "route.put", name, string(masked), func(ctx context.Context, tx *sqldb.Tx) error {
		stored, err = e.storeRoute(ctx, tx, name, spec, ifMatch)
		return err
	}})
	return stored, err
}

func (e *Environments) storeRoute(ctx context.Context, tx *sqldb.Tx, name string, spec link.RouteSpec, ifMatch string) (stored resource.Route, err error) {
	if _, err := readOne(ctx, tx, selectEnvironments, "environment", spec.Environment); err != nil {
		return stored, problem.New(problem.Invalid, "%s; create it first", problem.Of(err).Message).At("spec.environment")
	}
	before, found, err := sqldb.Row(ctx, tx, scanRecord, selectRoutes+" WHERE name = ?", name)
	if err != nil {
		return stored, err
	}
	var old link.Route
	if found {
		if old, err = before.route(); err != nil {
			return stored, err
		}
		if old.Spec.Environment != spec.Environment {
			return stored, problem.New(problem.Conflict, "route %s is in environment %s and cannot change it; make another route", name, old.Spec.Environment).At("spec.environment")
		}
	} else if err := roomForRoute(ctx, tx, spec.Environment); err != nil {
		return stored, err
	}
	whole, err := resource.UnmaskRoute(spec, old.Spec)
	if err != nil {
		return stored, err
	}
	text, err := json.Marshal(whole)
	if err != nil {
		return stored, err
	}
	r, err := e.put(ctx, tx, selectRoutes, record{name: name, spec: text}, ifMatch)
	if err != nil {
		return stored, err
	}
	_, err = tx.Exec(ctx, `INSERT INTO route (name, environment, spec, version, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, version = excluded.version, updated_at = excluded.updated_at`,
		name, spec.Environment, tx.Seal(routeSpec, text, name), r.version, sqldb.Micros(r.created), sqldb.Micros(r.updated))
	return shownRoute(r, whole, false), err
}

func roomForRoute(ctx context.Context, tx *sqldb.Tx, environment string) error {
	n, _, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (n int, err error) { return n, rows.Scan(&n) }, "SELECT count(*) FROM route WHERE environment = ?", environment)
	if err == nil && n >= resource.MaxRoutes {
		err = problem.New(problem.Conflict, "environment %s has %d routes already, which is the most it may have; delete one", environment, n)
	}
	return err
}

// DeleteRoute removes a route. What it had not delivered stays in the log as
// long as that keeps it; its dead letters go.
func (e *Environments) DeleteRoute(ctx context.Context, actor access.Actor, name, ifMatch string) error {
	return e.commit(ctx, false, edit{actor, "route.delete", name, "", func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := readOne(ctx, tx, selectRoutes, "route", name)
		if err != nil {
			return err
		}
		if err := matches(ifMatch, r.version); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "DELETE FROM route WHERE name = ?", name)
		return err
	}})
}

// TryRoute asks a stamp what a route would make of a message: one of the
// route's environment, or else any, as all read routes alike.
func (e *Environments) TryRoute(ctx context.Context, req link.TryRoute) (link.RouteTrial, error) {
	var err error
	if req.Spec, err = resource.CheckRoute(req.Spec); err != nil {
		return link.RouteTrial{}, err
	}
	req.Spec = resource.MaskRoute(req.Spec)
	stamps, err := e.stamps(ctx)
	if err != nil {
		return link.RouteTrial{}, err
	}
	away := error(problem.New(problem.NotReady, "no stamp can be reached that could try the route"))
	for _, own := range []bool{true, false} {
		for _, s := range stamps {
			if (s.Environment == req.Spec.Environment) != own {
				continue
			}
			trial, err := bus.Ask(ctx, e.conn, link.StampPeer(s.Name), link.RouteTry, req)
			if err == nil || !problem.Is(err, problem.NotReady) && !problem.Is(err, problem.TimedOut) {
				return trial, err
			}
		}
	}
	return link.RouteTrial{}, away
}

// pushRoutes tells every stamp the routes of its environment, and those that
// its release brings.
func (e *Environments) pushRoutes(ctx context.Context, version int64, stamps []link.Stamp) error {
	documents, err := e.routesByEnvironment(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, s := range stamps {
		document, err := e.withRelease(ctx, link.Routes{Version: version, Environment: s.Environment, Routes: documents[s.Environment]}, s.Name)
		if err == nil {
			_, err = bus.Ask(ctx, e.conn, link.StampPeer(s.Name), link.RoutesPut, document)
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// routesByEnvironment are the routes that can go out, with their secrets.
func (e *Environments) routesByEnvironment(ctx context.Context) (map[string][]link.Route, error) {
	records, err := sqldb.Rows(ctx, e.db, scanRecord, selectRoutes+" ORDER BY name")
	if err != nil {
		return nil, err
	}
	all := map[string][]link.Route{}
	for _, r := range records {
		route, err := r.route()
		if err != nil {
			return nil, err
		}
		if route, err = e.Resolved(ctx, route); Unset(err) {
			e.logger.Warn("a route does not go out", "route", r.name, "error", err)
			continue
		} else if err != nil {
			return nil, err
		}
		all[route.Spec.Environment] = append(all[route.Spec.Environment], route)
	}
	return all, nil
}

// Wanted are the routes that a stamp is to have: those of its environment, and
// those that its release brings. Those whose secrets are not set name them.
func (e *Environments) Wanted(ctx context.Context, stamp string) (link.Routes, error) {
	s, err := e.Stamp(ctx, stamp)
	if err != nil {
		return link.Routes{}, err
	}
	routes, err := e.LinkedRoutes(ctx, s.Spec.Environment)
	if err != nil {
		return link.Routes{}, err
	}
	for i := range routes {
		if resolved, err := e.Resolved(ctx, routes[i]); err == nil {
			routes[i] = resolved
		} else if !Unset(err) {
			return link.Routes{}, err
		}
	}
	return e.withRelease(ctx, link.Routes{Environment: s.Spec.Environment, Routes: routes}, stamp)
}

// withRelease adds the routes of the release that a stamp runs. One that the
// environment has by the same name stands in its place.
func (e *Environments) withRelease(ctx context.Context, document link.Routes, stamp string) (link.Routes, error) {
	brought, err := e.ReleaseRoutes(ctx, stamp)
	document.Routes = slices.Clone(document.Routes)
	for _, route := range brought {
		own := slices.ContainsFunc(document.Routes, func(o link.Route) bool { return o.Name == route.Name })
		if !own {
			document.Routes = append(document.Routes, route)
		}
	}
	return document, err
}
