package access

import (
	"context"
	"slices"

	"github.com/slipway/slipway/internal/problem"
)

// Find looks up the places that a request is about. None means that it does
// not matter where.
type Find func(ctx context.Context) ([]Place, error)

// Anywhere is for what belongs to no place.
func Anywhere(context.Context) ([]Place, error) { return nil, nil }

// Check lets an actor do something in the places that find looks up, or says
// what is missing. Roles are enough, unless the environment wants grants.
func (a *Access) Check(ctx context.Context, actor Actor, p Permission, find Find) error {
	if p == Own || p == Public {
		return nil
	}
	err := a.check(ctx, actor, p, find)
	if err == nil && !Again(ctx) {
		a.used(actor, p)
	}
	return err
}

func (a *Access) check(ctx context.Context, actor Actor, p Permission, find Find) error {
	var controlled []string
	if !p.Standing() && a.Controlled != nil {
		var err error
		if controlled, err = a.Controlled(ctx); err != nil {
			return err
		}
	}
	if len(controlled) == 0 && actor.May(p, Place{}) {
		return nil // everywhere; there is nothing to look up
	}
	places, err := find(ctx)
	if err != nil {
		if !actor.MaySomewhere(p) {
			return missing(actor, p) // what is there is not said to who may not ask
		}
		return err
	}
	if len(places) == 0 {
		if actor.MaySomewhere(p) {
			return nil
		}
		return missing(actor, p)
	}
	for _, place := range places {
		if err := a.checkAt(ctx, actor, p, place, slices.Contains(controlled, place.Environment)); err != nil {
			return err
		}
	}
	return nil
}

// checkAt is Check for one place.
func (a *Access) checkAt(ctx context.Context, actor Actor, p Permission, place Place, controlled bool) error {
	if !controlled && actor.May(p, place) {
		return nil
	}
	if place.Environment != "" && a.Granted != nil && actor.unbound(p, place) {
		granted, err := a.Granted(ctx, actor, place, p)
		if granted || err != nil {
			return err
		}
	}
	if controlled {
		return problem.New(problem.Denied, "environment %s wants a grant for %s, which %s has not now; ask for one with slipway grant request", place.Environment, p, actor.Name)
	}
	return missing(actor, p)
}

// missing says what an actor lacks and who has it.
func missing(actor Actor, p Permission) error {
	switch {
	case actor.barred(p):
		return problem.New(problem.Denied, "%s is for people; %s is a program", p, actor.Name)
	case actor.reach(p) != "":
		return problem.New(problem.Denied, "%s has %s for %s only; name that, or ask for the role %s that holds here too", actor.Name, p, actor.reach(p), oneOf(p.Roles()))
	}
	return problem.New(problem.Denied, "%s lacks %s, which the role %s has", actor.Name, p, oneOf(p.Roles()))
}

// reach says where an actor has a permission; empty is nowhere.
func (a Actor) reach(p Permission) string {
	switch {
	case a.Limit == nil:
		return a.Rights.where(p)
	case a.Limit.has(p) && a.Rights.where(p) != "":
		return a.Limit.Bounds.String()
	}
	return ""
}
