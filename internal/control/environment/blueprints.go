package environment

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

const selectBlueprints = "SELECT name, spec, version, '', created_at, updated_at FROM blueprint"

func (r record) blueprint() (resource.Blueprint, error) {
	b := resource.Blueprint{APIVersion: resource.APIVersion, Kind: resource.KindBlueprint, Metadata: r.metadata()}
	return b, json.Unmarshal(r.spec, &b.Spec)
}

// Blueprints returns every blueprint, in order of name, with the environments
// made from it.
func (e *Environments) Blueprints(ctx context.Context) ([]resource.Blueprint, error) {
	records, err := sqldb.Rows(ctx, e.db, scanRecord, selectBlueprints+" ORDER BY name")
	if err != nil {
		return nil, err
	}
	environments, err := e.List(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]resource.Blueprint, len(records))
	for i, r := range records {
		if all[i], err = r.blueprint(); err != nil {
			return nil, err
		}
		all[i].Status = &resource.BlueprintStatus{Environments: madeFrom(r.name, environments)}
	}
	return all, nil
}

func madeFrom(blueprint string, environments []resource.Environment) []string {
	names := []string{}
	for _, env := range environments {
		if env.Spec.Blueprint == blueprint {
			names = append(names, env.Metadata.Name)
		}
	}
	return names
}

// Blueprint returns one blueprint.
func (e *Environments) Blueprint(ctx context.Context, name string) (resource.Blueprint, error) {
	all, err := e.Blueprints(ctx)
	if err != nil {
		return resource.Blueprint{}, err
	}
	i := slices.IndexFunc(all, func(b resource.Blueprint) bool { return b.Metadata.Name == name })
	if i < 0 {
		return resource.Blueprint{}, problem.New(problem.NotFound, "there is no blueprint %q", name)
	}
	return all[i], nil
}

// PutBlueprint creates or replaces a blueprint, and makes every environment
// that is made from it anew, as one change.
func (e *Environments) PutBlueprint(ctx context.Context, actor access.Actor, name string, spec resource.BlueprintSpec, ifMatch string, dryRun bool) (stored resource.Blueprint, err error) {
	if err := resource.CheckName(resource.KindBlueprint, name); err != nil {
		return stored, err
	}
	if err := spec.Check(); err != nil {
		return stored, err
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return stored, err
	}
	err = e.commit(ctx, dryRun, edit{actor, "blueprint.put", name, string(text), func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := e.put(ctx, tx, selectBlueprints, record{name: name, spec: text}, ifMatch)
		if err != nil {
			return err
		}
		if stored, err = r.blueprint(); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `INSERT INTO blueprint (name, spec, version, created_at, updated_at) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, version = excluded.version, updated_at = excluded.updated_at`,
			name, string(text), r.version, sqldb.Micros(r.created), sqldb.Micros(r.updated)); err != nil {
			return err
		}
		stored.Status, err = e.rederive(ctx, tx, name, spec)
		return err
	}})
	return stored, err
}

// rederive makes the environments of a blueprint anew.
func (e *Environments) rederive(ctx context.Context, tx *sqldb.Tx, name string, spec resource.BlueprintSpec) (*resource.BlueprintStatus, error) {
	records, err := sqldb.Rows(ctx, tx, scanRecord, selectEnvironments+" ORDER BY name")
	if err != nil {
		return nil, err
	}
	status := &resource.BlueprintStatus{Environments: []string{}}
	for _, r := range records {
		env, err := r.environment()
		if err != nil {
			return nil, err
		}
		if env.Spec.Blueprint != name {
			continue
		}
		d, err := resource.Derive(spec, r.name, env.Spec.Own())
		if err == nil {
			_, err = e.storeDerived(ctx, tx, r.name, d, "")
		}
		if err != nil {
			return nil, problem.New(problem.Of(err).Kind, "environment %s: %w", r.name, err)
		}
		status.Environments = append(status.Environments, r.name)
	}
	return status, nil
}

// DeleteBlueprint removes a blueprint that no environment is made from.
func (e *Environments) DeleteBlueprint(ctx context.Context, actor access.Actor, name, ifMatch string) error {
	return e.commit(ctx, false, edit{actor, "blueprint.delete", name, "", func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := readOne(ctx, tx, selectBlueprints, "blueprint", name)
		if err != nil {
			return err
		}
		if err := matches(ifMatch, r.version); err != nil {
			return err
		}
		records, err := sqldb.Rows(ctx, tx, scanRecord, selectEnvironments)
		if err != nil {
			return err
		}
		for _, other := range records {
			if env, err := other.environment(); err != nil || env.Spec.Blueprint == name {
				return problem.New(problem.Conflict, "environment %s is made from blueprint %s; change that first", other.name, name)
			}
		}
		_, err = tx.Exec(ctx, "DELETE FROM blueprint WHERE name = ?", name)
		return err
	}})
}

// derive works out what an environment declares. One without a blueprint is
// what it says.
func (e *Environments) derive(ctx context.Context, q sqldb.Querier, name string, declared resource.EnvironmentSpec) (resource.Derived, error) {
	if declared.Blueprint == "" {
		return resource.Derived{Environment: declared}, nil
	}
	r, found, err := sqldb.Row(ctx, q, scanRecord, selectBlueprints+" WHERE name = ?", declared.Blueprint)
	if err != nil {
		return resource.Derived{}, err
	}
	if !found {
		return resource.Derived{}, problem.New(problem.Invalid, "there is no blueprint %q; apply it first", declared.Blueprint).At("spec.blueprint")
	}
	b, err := r.blueprint()
	if err != nil {
		return resource.Derived{}, err
	}
	d, err := resource.Derive(b.Spec, name, declared)
	if err != nil {
		return d, err
	}
	return d, d.OnlyOwn(declared)
}

// storeDerived stores an environment with the stamps and routes that it has of
// its blueprint. A stamp that is there keeps its state, which is how it is
// operated, not what it is.
func (e *Environments) storeDerived(ctx context.Context, tx *sqldb.Tx, name string, d resource.Derived, ifMatch string) (stored resource.Environment, err error) {
	if stored, err = e.storeEnvironment(ctx, tx, name, d.Environment, ifMatch); err != nil {
		return stored, err
	}
	for _, own := range slices.Sorted(maps.Keys(d.Stamps)) {
		if err := e.storeOwnStamp(ctx, tx, own, d.Stamps[own]); err != nil {
			return stored, fmt.Errorf("stamp %s: %w", own, err)
		}
	}
	for _, own := range slices.Sorted(maps.Keys(d.Routes)) {
		if _, err := e.storeRoute(ctx, tx, own, d.Routes[own], ""); err != nil {
			return stored, fmt.Errorf("route %s: %w", own, err)
		}
	}
	return stored, nil
}

func (e *Environments) storeOwnStamp(ctx context.Context, tx *sqldb.Tx, name string, spec resource.StampSpec) error {
	old, found, err := sqldb.Row(ctx, tx, scanRecord, selectStamps+" WHERE name = ?", name)
	if err != nil {
		return err
	}
	if found {
		before, err := old.stamp()
		if err != nil {
			return err
		}
		spec.State = before.State
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	_, err = e.storeStamp(ctx, tx, name, spec, text, "")
	return err
}

// Derivation says where what an environment is comes from.
type Derivation struct {
	Environment string               `json:"environment"`
	Blueprint   string               `json:"blueprint,omitempty" doc:"Absent where it is made from none"`
	Inherits    []Inherited          `json:"inherits" doc:"What it has as its blueprint says"`
	Differs     []resource.Differing `json:"differs" doc:"Where it is not as its blueprint says, and why"`
	Stamps      map[string]string    `json:"stamps" doc:"Its stamps by the name that each has in the blueprint"`
	Routes      map[string]string    `json:"routes" doc:"Its routes by the name that each has in the blueprint"`
}

// Inherited is a part of the blueprint that an environment takes over.
type Inherited struct {
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
}

// Derivation tells where what an environment is comes from.
func (e *Environments) Derivation(ctx context.Context, name string) (Derivation, error) {
	env, err := e.Get(ctx, name)
	out := Derivation{Environment: name, Blueprint: env.Spec.Blueprint, Inherits: []Inherited{}, Differs: []resource.Differing{}, Stamps: map[string]string{}, Routes: map[string]string{}}
	if err != nil || env.Spec.Blueprint == "" {
		return out, err
	}
	b, err := e.Blueprint(ctx, env.Spec.Blueprint)
	if err != nil {
		return out, err
	}
	d, err := resource.Derive(b.Spec, name, env.Spec.Own())
	if err != nil {
		return out, err
	}
	out.Differs = append(out.Differs, d.Differs...)
	for path, value := range resource.Leaves(b.Spec, d.Differs) {
		out.Inherits = append(out.Inherits, Inherited{Path: path, Value: value})
	}
	slices.SortFunc(out.Inherits, func(a, b Inherited) int { return strings.Compare(a.Path, b.Path) })
	for own := range d.Stamps {
		out.Stamps[own[len(name)+1:]] = own
	}
	for own := range d.Routes {
		out.Routes[own[len(name)+1:]] = own
	}
	return out, nil
}

// Template is what the stamps and routes of an environment are meant to be, by
// its blueprint; found is false where it is made from none.
func (e *Environments) Template(ctx context.Context, name string) (d resource.Derived, found bool, err error) {
	env, err := e.Get(ctx, name)
	if err != nil || env.Spec.Blueprint == "" {
		return d, false, err
	}
	b, err := e.Blueprint(ctx, env.Spec.Blueprint)
	if err != nil {
		return d, false, err
	}
	d, err = resource.Derive(b.Spec, name, env.Spec.Own())
	return d, true, err
}

// LinkedRoutes returns the routes of an environment, with their secrets.
func (e *Environments) LinkedRoutes(ctx context.Context, name string) ([]link.Route, error) {
	records, err := sqldb.Rows(ctx, e.db, scanRecord, selectRoutes+" WHERE environment = ? ORDER BY name", name)
	if err != nil {
		return nil, err
	}
	all := make([]link.Route, len(records))
	for i, r := range records {
		if all[i], err = r.route(); err != nil {
			return nil, err
		}
	}
	return all, nil
}
