package environment

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// List returns every environment in order of promotion: first those that
// promote from none.
func (e *Environments) List(ctx context.Context) ([]resource.Environment, error) {
	records, err := sqldb.Rows(ctx, e.db, scanRecord, selectEnvironments+" ORDER BY name")
	if err != nil {
		return nil, err
	}
	all := make([]resource.Environment, len(records))
	for i, r := range records {
		if all[i], err = r.environment(); err != nil {
			return nil, err
		}
	}
	return inOrder(all), nil
}

// inOrder sorts environments by how far down the promotion path they are.
func inOrder(all []resource.Environment) []resource.Environment {
	from := map[string]string{}
	for _, env := range all {
		from[env.Metadata.Name] = env.Spec.PromotesFrom
	}
	depth := func(name string) (n int) {
		for from[name] != "" && n < len(all) {
			name, n = from[name], n+1
		}
		return n
	}
	sorted := make([]resource.Environment, 0, len(all))
	for level := 0; len(sorted) < len(all) && level <= len(all); level++ {
		for _, env := range all {
			if depth(env.Metadata.Name) == level {
				sorted = append(sorted, env)
			}
		}
	}
	return sorted
}

func (r record) environment() (resource.Environment, error) {
	env := resource.Environment{APIVersion: resource.APIVersion, Kind: resource.KindEnvironment, Metadata: r.metadata()}
	return env, json.Unmarshal(r.spec, &env.Spec)
}

// Controlled names the environments in which changes take a grant.
func (e *Environments) Controlled(ctx context.Context) ([]string, error) {
	all, err := sqldb.Rows(ctx, e.db, scanRecord, selectEnvironments)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range all {
		env, err := r.environment()
		if err != nil {
			return nil, err
		}
		if env.Spec.Access == resource.AccessControlled {
			names = append(names, r.name)
		}
	}
	return names, nil
}

// Get returns one environment.
func (e *Environments) Get(ctx context.Context, name string) (resource.Environment, error) {
	r, err := readOne(ctx, e.db, selectEnvironments, "environment", name)
	if err != nil {
		return resource.Environment{}, err
	}
	return r.environment()
}

// SpecIn returns an environment's spec as part of a change.
func (e *Environments) SpecIn(ctx context.Context, q sqldb.Querier, name string) (resource.EnvironmentSpec, error) {
	r, err := readOne(ctx, q, selectEnvironments, "environment", name)
	if err != nil {
		return resource.EnvironmentSpec{}, err
	}
	env, err := r.environment()
	return env.Spec, err
}

// Put creates or replaces an environment.
func (e *Environments) Put(ctx context.Context, actor access.Actor, name string, spec resource.EnvironmentSpec, ifMatch string, dryRun bool) (stored resource.Environment, err error) {
	if err := resource.CheckName(resource.KindEnvironment, name); err != nil {
		return stored, err
	}
	if err := spec.Check(name); err != nil {
		return stored, err
	}
	whole, err := e.derive(ctx, e.db, name, spec)
	if err != nil {
		return stored, err
	}
	if err := e.checkRule(ctx, whole.Environment.AutoMove); err != nil {
		return stored, err
	}
	if err := e.checkWaves(ctx, whole.Environment.Promotion); err != nil {
		return stored, err
	}
	text, err := json.Marshal(spec.Own())
	if err != nil {
		return stored, err
	}
	err = e.commit(ctx, dryRun, edit{actor, "environment.put", name, string(text), func(ctx context.Context, tx *sqldb.Tx) error {
		d, err := e.derive(ctx, tx, name, spec) // the blueprint may have changed since
		if err != nil {
			return err
		}
		stored, err = e.storeDerived(ctx, tx, name, d, ifMatch)
		return err
	}})
	return stored, err
}

// storeEnvironment stores an environment as part of a change.
func (e *Environments) storeEnvironment(ctx context.Context, tx *sqldb.Tx, name string, spec resource.EnvironmentSpec, ifMatch string) (stored resource.Environment, err error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return stored, err
	}
	if err := e.checkPath(ctx, tx, name, spec); err != nil {
		return stored, err
	}
	r, err := e.put(ctx, tx, selectEnvironments, record{name: name, spec: text}, ifMatch)
	if err != nil {
		return stored, err
	}
	if stored, err = r.environment(); err != nil {
		return stored, err
	}
	if _, err = tx.Exec(ctx, `INSERT INTO environment (name, spec, version, created_at, updated_at) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, version = excluded.version, updated_at = excluded.updated_at`,
		name, string(text), r.version, sqldb.Micros(r.created), sqldb.Micros(r.updated)); err != nil {
		return stored, err
	}
	return stored, e.Changed(ctx, tx, name)
}

// put works out the record to store: the next version of what is there. An
// equal spec keeps its version.
func (e *Environments) put(ctx context.Context, tx *sqldb.Tx, query string, r record, ifMatch string) (record, error) {
	old, found, err := sqldb.Row(ctx, tx, scanRecord, query+" WHERE name = ?", r.name)
	if err != nil {
		return r, err
	}
	if err := matches(ifMatch, old.version); err != nil {
		return r, err
	}
	now := e.now().UTC().Truncate(time.Microsecond)
	r.version, r.created, r.updated, r.host = old.version+1, now, now, old.host
	if found {
		r.created = old.created
		if bytes.Equal(old.spec, r.spec) {
			r.version, r.updated = old.version, old.updated
		}
	}
	return r, nil
}

// checkRule asks a stamp whether the rule's condition can be read, as stamps
// are who read it. Without one in reach the rule is taken as it is.
func (e *Environments) checkRule(ctx context.Context, rule *link.AutoMove) error {
	if rule == nil || rule.Where == "" {
		return nil
	}
	return e.checkWhere(ctx, rule.Where, "spec.autoMove.where")
}

// checkWaves asks the same of the conditions of a rollout's waves.
func (e *Environments) checkWaves(ctx context.Context, p *resource.PromotionSpec) error {
	if p == nil || p.Rollout == nil {
		return nil
	}
	for i, wave := range p.Rollout.Waves {
		if wave.Where == "" {
			continue
		}
		if err := e.checkWhere(ctx, wave.Where, fmt.Sprintf("spec.promotion.rollout.waves[%d].where", i)); err != nil {
			return err
		}
	}
	return nil
}

func (e *Environments) checkWhere(ctx context.Context, where, field string) error {
	stamps, err := e.stamps(ctx)
	if err != nil {
		return err
	}
	for _, s := range stamps {
		_, err := bus.Ask(ctx, e.conn, link.StampPeer(s.Name), link.DeviceQuery, link.QueryDevices{Where: where, Limit: 1})
		if problem.Is(err, problem.Invalid) {
			return problem.Of(err).At(field)
		}
		if err == nil {
			return nil
		}
	}
	return nil
}

// checkPath refuses promotion paths that lead nowhere or in a circle.
func (e *Environments) checkPath(ctx context.Context, tx *sqldb.Tx, name string, spec resource.EnvironmentSpec) error {
	records, err := sqldb.Rows(ctx, tx, scanRecord, selectEnvironments)
	if err != nil {
		return err
	}
	from := map[string]string{}
	for _, r := range records {
		env, err := r.environment()
		if err != nil {
			return err
		}
		from[r.name] = env.Spec.PromotesFrom
	}
	_, known := from[spec.PromotesFrom]
	if spec.PromotesFrom != "" && !known {
		return problem.New(problem.Invalid, "there is no environment %q to promote from; create it first", spec.PromotesFrom).At("spec.promotesFrom")
	}
	from[name] = spec.PromotesFrom
	for at, steps := name, 0; from[at] != ""; at, steps = from[at], steps+1 {
		if steps > len(from) {
			return problem.New(problem.Invalid, "the promotion path would be a circle").At("spec.promotesFrom")
		}
	}
	return nil
}

// Delete removes an environment that has no stamps and that none promotes from.
func (e *Environments) Delete(ctx context.Context, actor access.Actor, name, ifMatch string) error {
	return e.commit(ctx, false, edit{actor, "environment.delete", name, "", func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := readOne(ctx, tx, selectEnvironments, "environment", name)
		if err != nil {
			return err
		}
		if err := matches(ifMatch, r.version); err != nil {
			return err
		}
		stamps, err := sqldb.Rows(ctx, tx, scanRecord, selectStamps+" WHERE environment = ?", name)
		if err != nil {
			return err
		}
		if len(stamps) > 0 {
			return problem.New(problem.Conflict, "environment %s has %d stamps; delete them first", name, len(stamps))
		}
		routes, err := sqldb.Rows(ctx, tx, scanRecord, selectRoutes+" WHERE environment = ?", name)
		if err != nil {
			return err
		}
		if len(routes) > 0 {
			return problem.New(problem.Conflict, "environment %s has %d routes; delete them first", name, len(routes))
		}
		others, err := sqldb.Rows(ctx, tx, scanRecord, selectEnvironments)
		if err != nil {
			return err
		}
		for _, other := range others {
			if env, err := other.environment(); err != nil || env.Spec.PromotesFrom == name {
				return problem.New(problem.Conflict, "environment %s promotes from %s; change that first", other.name, name)
			}
		}
		if _, err = tx.Exec(ctx, "DELETE FROM environment WHERE name = ?", name); err != nil {
			return err
		}
		return e.Changed(ctx, tx, name)
	}})
}

// Stamps returns every stamp in order of name, with what it last told.
func (e *Environments) Stamps(ctx context.Context) ([]resource.Stamp, error) {
	records, err := sqldb.Rows(ctx, e.db, scanRecord, selectStamps+" ORDER BY name")
	if err != nil {
		return nil, err
	}
	all := make([]resource.Stamp, len(records))
	for i, r := range records {
		if all[i], err = e.shown(r); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Stamp returns one stamp.
func (e *Environments) Stamp(ctx context.Context, name string) (resource.Stamp, error) {
	r, err := readOne(ctx, e.db, selectStamps, "stamp", name)
	if err != nil {
		return resource.Stamp{}, err
	}
	return e.shown(r)
}

func (e *Environments) shown(r record) (resource.Stamp, error) {
	s := resource.Stamp{APIVersion: resource.APIVersion, Kind: resource.KindStamp, Metadata: r.metadata()}
	e.mu.Lock()
	o, seen := e.together(r.name), len(e.observed[r.name]) > 0
	status := resource.StampStatus{Host: r.host, Connected: o.Connected, Sockets: o.Sockets, Rate: o.Rate, Messages: o.Messages, OverQuota: o.OverQuota, Admission: o.Admission, Stored: o.BytesStored, Problem: e.problems[r.name], Processes: e.processes(r.name)}
	e.mu.Unlock()
	if seen {
		status.SeenAt, status.Limits = &o.At, &o.Limits
	}
	s.Status = &status
	return s, json.Unmarshal(r.spec, &s.Spec)
}

// PutStamp creates or replaces a stamp. Its environment stays what it was.
func (e *Environments) PutStamp(ctx context.Context, actor access.Actor, name string, spec resource.StampSpec, ifMatch string, dryRun bool) (stored resource.Stamp, err error) {
	if err := resource.CheckName(resource.KindStamp, name); err != nil {
		return stored, err
	}
	if spec, err = spec.Check(); err != nil {
		return stored, err
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return stored, err
	}
	err = e.commit(ctx, dryRun, edit{actor, "stamp.put", name, string(text), func(ctx context.Context, tx *sqldb.Tx) error {
		stored, err = e.storeStamp(ctx, tx, name, spec, text, ifMatch)
		return err
	}})
	return stored, err
}

// AddStamp creates a stamp by a name that none has yet.
func (e *Environments) AddStamp(ctx context.Context, actor access.Actor, name string, spec resource.StampSpec) error {
	spec, err := spec.Check()
	if err != nil {
		return err
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	return e.commit(ctx, false, edit{actor, "stamp.put", name, string(text), func(ctx context.Context, tx *sqldb.Tx) error {
		if _, found, err := sqldb.Row(ctx, tx, scanRecord, selectStamps+" WHERE name = ?", name); err != nil || found {
			return cmp.Or(err, error(problem.New(problem.Conflict, "there is a stamp %s already", name)))
		}
		_, err := e.storeStamp(ctx, tx, name, spec, text, "")
		return err
	}})
}

func (e *Environments) storeStamp(ctx context.Context, tx *sqldb.Tx, name string, spec resource.StampSpec, text []byte, ifMatch string) (stored resource.Stamp, err error) {
	if _, err := readOne(ctx, tx, selectEnvironments, "environment", spec.Environment); err != nil {
		return stored, problem.New(problem.Invalid, "%s; create it first", problem.Of(err).Message).At("spec.environment")
	}
	if err := e.checkTenants(ctx, tx, "spec.tenants", spec.Tenants); err != nil {
		return stored, err
	}
	r, err := e.put(ctx, tx, selectStamps, record{name: name, spec: text}, ifMatch)
	if err != nil {
		return stored, err
	}
	if err := sameEnvironment(ctx, tx, name, spec.Environment); err != nil {
		return stored, err
	}
	if stored, err = e.shown(r); err != nil {
		return stored, err
	}
	_, err = tx.Exec(ctx, `INSERT INTO stamp (name, environment, spec, version, host, created_at, updated_at) VALUES (?, ?, ?, ?, '', ?, ?)
		ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, version = excluded.version, updated_at = excluded.updated_at`,
		name, spec.Environment, string(text), r.version, sqldb.Micros(r.created), sqldb.Micros(r.updated))
	return stored, err
}

func sameEnvironment(ctx context.Context, tx *sqldb.Tx, name, environment string) error {
	old, found, err := sqldb.Row(ctx, tx, scanRecord, selectStamps+" WHERE name = ?", name)
	if err != nil || !found {
		return err
	}
	stamp, err := old.stamp()
	if err == nil && stamp.Environment != environment {
		err = problem.New(problem.Conflict, "stamp %s is in environment %s and cannot change it; make another stamp and move its devices", name, stamp.Environment).At("spec.environment")
	}
	return err
}

// DeleteStamp removes a stamp that holds no devices.
func (e *Environments) DeleteStamp(ctx context.Context, actor access.Actor, name, ifMatch string) error {
	// Provisioning counts the places; a stamp being emptied must be closed
	// first, or a device could be assigned between this look and the change.
	r, err := readOne(ctx, e.db, selectStamps, "stamp", name)
	if err != nil {
		return err
	}
	if s, err := r.stamp(); err != nil || s.State == link.StampOpen {
		return problem.New(problem.Conflict, "stamp %s is open; set its state to closed first, so that no device is assigned to it meanwhile", name)
	}
	counts, err := bus.Ask(ctx, e.conn, link.ProvisioningPeer, link.RegistrationCount, link.None{})
	if err != nil {
		return err
	}
	for _, c := range counts.ByStamp {
		if c.Stamp == name && c.Count > 0 {
			return problem.New(problem.Conflict, "stamp %s holds %d devices; move them first", name, c.Count)
		}
	}
	err = e.commit(ctx, false, edit{actor, "stamp.delete", name, "", func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := readOne(ctx, tx, selectStamps, "stamp", name)
		if err != nil {
			return err
		}
		if err := matches(ifMatch, r.version); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "DELETE FROM stamp WHERE name = ?", name)
		return err
	}})
	if err != nil {
		return err
	}
	return e.driver.Remove(ctx, name)
}
