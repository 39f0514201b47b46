package environment

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

const selectTenants = "SELECT name, spec, version, '', created_at, updated_at FROM tenant"

func (r record) tenant() (resource.Tenant, error) {
	t := resource.Tenant{APIVersion: resource.APIVersion, Kind: resource.KindTenant, Metadata: r.metadata()}
	return t, json.Unmarshal(r.spec, &t.Spec)
}

// Tenants returns every tenant that is declared, in order of name.
func (e *Environments) Tenants(ctx context.Context) ([]resource.Tenant, error) {
	records, err := sqldb.Rows(ctx, e.db, scanRecord, selectTenants+" ORDER BY name")
	if err != nil {
		return nil, err
	}
	all := make([]resource.Tenant, len(records))
	for i, r := range records {
		if all[i], err = r.tenant(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Tenant returns one tenant.
func (e *Environments) Tenant(ctx context.Context, name string) (resource.Tenant, error) {
	r, err := readOne(ctx, e.db, selectTenants, "tenant", name)
	if err != nil {
		return resource.Tenant{}, err
	}
	return r.tenant()
}

// PutTenant creates or replaces a tenant.
func (e *Environments) PutTenant(ctx context.Context, actor access.Actor, name string, spec resource.TenantSpec, ifMatch string, dryRun bool) (stored resource.Tenant, err error) {
	if err := resource.CheckName(resource.KindTenant, name); err != nil {
		return stored, err
	}
	if err := spec.Check(); err != nil {
		return stored, err
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return stored, err
	}
	err = e.commit(ctx, dryRun, edit{actor, "tenant.put", name, string(text), func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := e.put(ctx, tx, selectTenants, record{name: name, spec: text}, ifMatch)
		if err != nil {
			return err
		}
		if stored, err = r.tenant(); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO tenant (name, spec, version, created_at, updated_at) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, version = excluded.version, updated_at = excluded.updated_at`,
			name, string(text), r.version, sqldb.Micros(r.created), sqldb.Micros(r.updated))
		return err
	}})
	return stored, err
}

// DeleteTenant removes a tenant that no stamp is kept for. That it has no
// devices, the caller has seen to.
func (e *Environments) DeleteTenant(ctx context.Context, actor access.Actor, name, ifMatch string) error {
	return e.commit(ctx, false, edit{actor, "tenant.delete", name, "", func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := readOne(ctx, tx, selectTenants, "tenant", name)
		if err != nil {
			return err
		}
		if err := matches(ifMatch, r.version); err != nil {
			return err
		}
		stamps, err := sqldb.Rows(ctx, tx, scanRecord, selectStamps)
		if err != nil {
			return err
		}
		for _, other := range stamps {
			if s, err := other.stamp(); err != nil || slices.Contains(s.Tenants, name) {
				return problem.New(problem.Conflict, "stamp %s is kept for tenant %s; change that first", other.name, name)
			}
		}
		_, err = tx.Exec(ctx, "DELETE FROM tenant WHERE name = ?", name)
		return err
	}})
}

// checkTenants refuses names of tenants that are not declared.
func (e *Environments) checkTenants(ctx context.Context, q sqldb.Querier, field string, names []string) error {
	for _, name := range names {
		if name == link.DefaultTenant {
			continue
		}
		if _, err := readOne(ctx, q, selectTenants, "tenant", name); err != nil {
			return problem.New(problem.Invalid, "%s; declare it first", problem.Of(err).Message).At(field)
		}
	}
	return nil
}

// CheckTenant refuses the name of a tenant that is not declared.
func (e *Environments) CheckTenant(ctx context.Context, field, name string) error {
	if name == "" {
		return nil
	}
	return e.checkTenants(ctx, e.db, field, []string{name})
}

// linkedTenants are the tenants as the other planes know them.
func (e *Environments) linkedTenants(ctx context.Context) ([]link.Tenant, error) {
	all, err := e.Tenants(ctx)
	linked := make([]link.Tenant, len(all))
	for i, t := range all {
		linked[i] = t.Spec.Linked(t.Metadata.Name)
	}
	return linked, err
}

// pushTenants tells every stamp the tenants.
func (e *Environments) pushTenants(ctx context.Context, d link.Directory, stamps []link.Stamp) (failed error) {
	for _, s := range stamps {
		if _, err := bus.Ask(ctx, e.conn, link.StampPeer(s.Name), link.TenantsPut, link.Tenants{Version: d.Version, Items: d.Tenants}); err != nil {
			failed = err
		}
	}
	return failed
}
