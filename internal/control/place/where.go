package place

import (
	"context"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
)

// Anywhere is where what belongs to no place is, such as a release.
var Anywhere = Where{}

// Whole is the installation: only a right that nothing bounds holds there.
var Whole = Where{find: func(context.Context, *Finder, Said) ([]access.Place, error) { return []access.Place{{}}, nil }}

// Environment is the one that a field names; where it names none, all are.
func Environment(field string) Where {
	return Where{[]string{field}, func(_ context.Context, _ *Finder, said Said) ([]access.Place, error) {
		return []access.Place{{Environment: said.one(field)}}, nil
	}}
}

// Every is each environment there is.
var Every = Where{find: func(ctx context.Context, f *Finder, _ Said) ([]access.Place, error) { return f.every(ctx) }}

// EnvironmentOrEvery is like Environment, but is each one where none is named.
func EnvironmentOrEvery(field string) Where {
	return Where{[]string{field}, func(ctx context.Context, f *Finder, said Said) ([]access.Place, error) {
		if name := said.one(field); name != "" {
			return []access.Place{{Environment: name}}, nil
		}
		return f.every(ctx)
	}}
}

// Tenant is the one that a field names.
func Tenant(field string) Where {
	return Where{[]string{field}, func(_ context.Context, _ *Finder, said Said) ([]access.Place, error) {
		return []access.Place{{Tenant: said.one(field)}}, nil
	}}
}

// Stamp is the one that a field names.
func Stamp(field string) Where {
	return Where{[]string{field}, func(ctx context.Context, f *Finder, said Said) ([]access.Place, error) {
		return one(f.stamp(ctx, said.one(field)))
	}}
}

// StampDeclared is a stamp in the environment that it is declared for, and in
// the one where it is already.
func StampDeclared(field, environment string) Where {
	return Where{[]string{field, environment}, func(ctx context.Context, f *Finder, said Said) ([]access.Place, error) {
		name := said.one(field)
		declared := access.Place{Environment: said.one(environment), Stamp: name}
		now, err := f.stamp(ctx, name)
		return withOld(declared, now, err)
	}}
}

// Device is the one that a field names, or the device of a module.
func Device(field string) Where {
	return Where{[]string{field}, func(ctx context.Context, f *Finder, said Said) ([]access.Place, error) {
		return one(f.device(ctx, said.one(field)))
	}}
}

// DeviceLog is a device's log on its stamp, or on another that a field names.
func DeviceLog(field, stamp string) Where {
	return Where{[]string{field, stamp}, func(ctx context.Context, f *Finder, said Said) ([]access.Place, error) {
		at, err := f.device(ctx, said.one(field))
		if name := said.one(stamp); err == nil && name != "" && name != at.Stamp {
			tenant := at.Tenant
			at, err = f.stamp(ctx, name)
			at.Tenant = tenant
		}
		return one(at, err)
	}}
}

// Devices are those of an environment, stamp and tenant that fields name.
func Devices(environment, stamp, tenant string) Where {
	return Where{[]string{environment, stamp, tenant}, func(ctx context.Context, f *Finder, said Said) ([]access.Place, error) {
		at := access.Place{Environment: said.one(environment), Tenant: said.one(tenant)}
		if name := said.one(stamp); name != "" {
			found, err := f.stamp(ctx, name)
			if err != nil {
				return nil, err
			}
			at.Stamp, at.Environment = name, found.Environment
		}
		return []access.Place{at}, nil
	}}
}

// Queried is a stamp, or an environment, or everything that is asked.
func Queried(environment, stamp string) Where {
	return Where{[]string{environment, stamp}, func(ctx context.Context, f *Finder, said Said) ([]access.Place, error) {
		if name := said.one(stamp); name != "" {
			return one(f.stamp(ctx, name))
		}
		return []access.Place{{Environment: said.one(environment)}}, nil
	}}
}

// By looks up what a field names by its id: the environment of a promotion,
// a hold and so on. What is of every environment is of each.
func By(what Thing, field string) Where {
	return Where{[]string{field}, func(ctx context.Context, f *Finder, said Said) ([]access.Place, error) {
		environment, err := f.environmentOf(ctx, what, said.one(field))
		if err != nil || environment != "" {
			return []access.Place{{Environment: environment}}, err
		}
		return f.every(ctx)
	}}
}

// Declared is what is declared under a name for an environment, and tenant,
// and where it is already.
func Declared(what Thing, name, environment string, tenant ...string) Where {
	return Where{append([]string{name, environment}, tenant...), func(ctx context.Context, f *Finder, said Said) ([]access.Place, error) {
		declared := access.Place{Environment: said.one(environment)}
		for _, field := range tenant {
			declared.Tenant = said.one(field)
		}
		old, err := f.environmentOf(ctx, what, said.one(name))
		return withOld(declared, access.Place{Environment: old}, err)
	}}
}

// Moved is where a move takes devices from and to. One that selects devices by
// a condition takes them from anywhere, unless a stamp is named.
func Moved(to, stamp, from, devices string) Where {
	return Where{[]string{to, stamp, from, devices}, func(ctx context.Context, f *Finder, said Said) (all []access.Place, err error) {
		if name := said.one(to); name != "" {
			all = append(all, access.Place{Environment: name})
		}
		for _, field := range []string{stamp, from} {
			if name := said.one(field); name != "" {
				at, err := f.stamp(ctx, name)
				if err != nil {
					return nil, err
				}
				all = append(all, at)
			}
		}
		if said.one(from) != "" {
			return all, nil
		}
		origin, err := f.devices(ctx, said(devices))
		return append(all, origin...), err
	}}
}

func one(at access.Place, err error) ([]access.Place, error) { return []access.Place{at}, err }

// withOld adds where something is already, if it is anywhere.
func withOld(declared, old access.Place, err error) ([]access.Place, error) {
	if problem.Is(err, problem.NotFound) || err == nil && (old == declared || old == access.Place{}) {
		return []access.Place{declared}, nil
	}
	return []access.Place{declared, old}, err
}
