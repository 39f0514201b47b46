package access

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// maxRoles bounds how many roles may be declared.
const maxRoles = 500

// declaredRole is a role as it is stored.
type declaredRole struct {
	name             string
	spec             resource.RoleSpec
	version          int64
	created, updated time.Time
}

const selectRoles = "SELECT name, spec, version, created_at, updated_at FROM access_role"

func scanRole(rows *sql.Rows) (r declaredRole, err error) {
	var text []byte
	var created, updated int64
	if err := rows.Scan(&r.name, &text, &r.version, &created, &updated); err != nil {
		return r, err
	}
	r.created, r.updated = sqldb.Time(created), sqldb.Time(updated)
	return r, json.Unmarshal(text, &r.spec)
}

// permissionsOf are those of a role, built in or declared. One that is gone
// has none.
func permissionsOf(ctx context.Context, q sqldb.Querier, role string) ([]Permission, bool, error) {
	if slices.Contains(BuiltIn, role) {
		return PermissionsOf(role), true, nil
	}
	r, found, err := sqldb.Row(ctx, q, scanRole, selectRoles+" WHERE name = ?", role)
	return r.permissions(), found, err
}

func (r declaredRole) permissions() []Permission {
	if slices.Contains(BuiltIn, r.name) {
		return PermissionsOf(r.name)
	}
	all := make([]Permission, len(r.spec.Permissions))
	for i, p := range r.spec.Permissions {
		all[i] = Permission(p)
	}
	return all
}

// rightOf is a role as a right.
func rightOf(ctx context.Context, q sqldb.Querier, role string, bounds Bounds) (Right, error) {
	permissions, _, err := permissionsOf(ctx, q, role)
	return Right{Role: role, Permissions: permissions, Bounds: bounds}, err
}

// knownRole refuses a role that there is not.
func knownRole(ctx context.Context, q sqldb.Querier, role string) error {
	_, found, err := permissionsOf(ctx, q, role)
	if err == nil && !found {
		err = problem.New(problem.Invalid, "there is no role %q; slipway role list shows those there are", role).At("role")
	}
	return err
}

// mayGive refuses to have somebody give, or make, what they have not
// themselves: nobody can let anybody do more than they can.
func (a Actor) mayGive(r Right) error {
	if a.Kind == "" {
		return nil // the installation itself
	}
	for _, p := range r.Permissions {
		mine := slices.ContainsFunc(a.Rights, func(own Right) bool { return own.has(p) && own.Bounds.contain(r.Bounds) })
		if !mine || a.Limit != nil && !(a.Limit.has(p) && a.Limit.Bounds.contain(r.Bounds)) {
			return problem.New(problem.Denied, "%s has not %s %s, and cannot let anybody do what they cannot do themselves", a.Name, p, r.Bounds)
		}
	}
	return nil
}

// contain reports whether bounds hold everywhere that others do.
func (s Bounds) contain(others Bounds) bool {
	in := func(list, inner []string) bool {
		return len(list) == 0 || len(inner) > 0 && !slices.ContainsFunc(inner, func(name string) bool { return !slices.Contains(list, name) })
	}
	return in(s.Environments, others.Environments) && in(s.Stamps, others.Stamps) && in(s.Tenants, others.Tenants)
}

// errTried undoes a change that was only tried.
var errTried = errors.New("only tried")

// PutRole declares a role, and who has it if that is declared.
func (a *Access) PutRole(ctx context.Context, actor Actor, name string, spec resource.RoleSpec, ifMatch string, dryRun bool) (made resource.Role, err error) {
	if err := checkRole(name, spec); err != nil {
		return made, err
	}
	err = a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, changed, err := a.nextRole(ctx, tx, name, spec, ifMatch)
		if err != nil {
			return err
		}
		if err := actor.mayGive(Right{Permissions: r.permissions()}); err != nil && !slices.Contains(BuiltIn, name) {
			return problem.Of(err).At("spec.permissions")
		}
		if err := storeRole(ctx, tx, r); err != nil {
			return err
		}
		if err := a.audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "role.put", Object: "role/" + name, Outcome: audit.Done, Detail: oneLine(spec)}); err != nil {
			return err
		}
		if changed {
			if err := Loses(ctx, tx); err != nil {
				return err
			}
		}
		if err := a.settleHolders(ctx, tx, actor, r); err != nil {
			return err
		}
		if made, err = a.shownRole(ctx, tx, r); err == nil && dryRun {
			err = errTried
		}
		return err
	})
	if errors.Is(err, errTried) {
		err = nil
	}
	return made, err
}

// checkRole refuses what no role may be.
func checkRole(name string, spec resource.RoleSpec) error {
	if err := resource.CheckName(resource.KindRole, name); err != nil {
		return err
	}
	if err := spec.Check(); err != nil {
		return err
	}
	if slices.Contains(BuiltIn, name) && len(spec.Permissions) > 0 {
		return problem.New(problem.Invalid, "%s is built in and has its permissions; declare another role, or only who has this one", name).At("spec.permissions")
	}
	for i, p := range spec.Permissions {
		if _, found := known(Permission(p)); !found {
			return problem.New(problem.Invalid, "there is no permission %q; docs/how-to/people.md and /api/v1/roles list them", p).At(fmt.Sprintf("spec.permissions[%d]", i))
		}
	}
	if !slices.Contains(BuiltIn, name) && len(spec.Permissions) == 0 {
		return problem.New(problem.Invalid, "a role lets something be done; name the permissions").At("spec.permissions")
	}
	return nil
}

func oneLine(spec resource.RoleSpec) string {
	text, err := json.Marshal(spec)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// nextRole is the role to store, and whether it differs from what is there.
func (a *Access) nextRole(ctx context.Context, tx *sqldb.Tx, name string, spec resource.RoleSpec, ifMatch string) (declaredRole, bool, error) {
	old, found, err := sqldb.Row(ctx, tx, scanRole, selectRoles+" WHERE name = ?", name)
	if err != nil {
		return old, false, err
	}
	if err := old.matches(ifMatch); err != nil {
		return old, false, err
	}
	now := a.now().UTC().Truncate(time.Microsecond)
	next := declaredRole{name, spec, old.version + 1, now, now}
	if !found {
		n, _, err := sqldb.Row(ctx, tx, scanCount, "SELECT count(*) FROM access_role")
		if err == nil && n >= maxRoles {
			err = problem.New(problem.Conflict, "%d roles are declared, the most there may be", n)
		}
		return next, true, err
	}
	next.created = old.created
	if oneLine(old.spec) == oneLine(spec) {
		next.version, next.updated = old.version, old.updated
		return next, false, nil
	}
	return next, true, nil
}

// matches refuses a change of another version than somebody has seen.
func (r declaredRole) matches(ifMatch string) error {
	text := strings.Trim(strings.TrimPrefix(ifMatch, "W/"), `"`)
	if text == "" || r.version > 0 && (text == "*" || text == roleTag(r.version)) {
		return nil
	}
	return problem.New(problem.Stale, "the role is not as If-Match %s has it", ifMatch)
}

func roleTag(version int64) string { return strconv.FormatInt(version, 10) }

func storeRole(ctx context.Context, tx *sqldb.Tx, r declaredRole) error {
	_, err := tx.Exec(ctx, `INSERT INTO access_role (name, spec, version, created_at, updated_at) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, version = excluded.version, updated_at = excluded.updated_at`,
		r.name, oneLine(r.spec), r.version, sqldb.Micros(r.created), sqldb.Micros(r.updated))
	return err
}

// settleHolders gives a role to those whom it is declared for, and takes it
// from everybody else; each is a consequence in the audit log.
func (a *Access) settleHolders(ctx context.Context, tx *sqldb.Tx, actor Actor, r declaredRole) error {
	if r.spec.Holders == nil {
		return nil
	}
	have, err := sqldb.Rows(ctx, tx, scanBinding, selectBindings+" WHERE role = ?", r.name)
	if err != nil {
		return err
	}
	var kept []string
	for i, h := range r.spec.Holders {
		want := Binding{Role: r.name, Account: h.Account, Group: h.Group, Bounds: Bounds{h.Environments, h.Stamps, h.Tenants}}
		at := slices.IndexFunc(have, func(b Binding) bool { return b.like(want) && !slices.Contains(kept, b.ID) })
		if at >= 0 {
			kept = append(kept, have[at].ID)
			continue
		}
		_, err := a.bind(ctx, tx, actor, want)
		if problem.Is(err, problem.NotFound) {
			err = problem.New(problem.Invalid, "%w", err)
		}
		if err != nil {
			return problem.Of(err).At(fmt.Sprintf("spec.holders[%d]", i))
		}
	}
	for _, b := range have {
		if slices.Contains(kept, b.ID) {
			continue
		}
		if err := a.take(ctx, tx, actor, b.ID); err != nil {
			return err
		}
	}
	return nil
}

// like reports whether two bindings say the same.
func (b Binding) like(o Binding) bool {
	same := func(x, y []string) bool {
		return slices.Equal(slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y)))
	}
	return b.Account == o.Account && b.Group == o.Group && same(b.Bounds.Environments, o.Bounds.Environments) && same(b.Bounds.Stamps, o.Bounds.Stamps) && same(b.Bounds.Tenants, o.Bounds.Tenants)
}

// shownRole is a role as it is: with those who have it, where that is declared.
func (a *Access) shownRole(ctx context.Context, q sqldb.Querier, r declaredRole) (resource.Role, error) {
	have, err := sqldb.Rows(ctx, q, scanBinding, selectBindings+" WHERE role = ? ORDER BY account, member_of, id", r.name)
	if err != nil {
		return resource.Role{}, err
	}
	shown := resource.Role{APIVersion: resource.APIVersion, Kind: resource.KindRole, Metadata: resource.Metadata{Name: r.name}, Spec: r.spec}
	if r.version > 0 {
		shown.Metadata.ETag, shown.Metadata.CreatedAt, shown.Metadata.UpdatedAt = roleTag(r.version), &r.created, &r.updated
	}
	if r.spec.Holders != nil {
		shown.Spec.Holders = holdersOf(r.spec.Holders, have)
	}
	status := resource.RoleStatus{BuiltIn: slices.Contains(BuiltIn, r.name), Permissions: []string{}, Holders: len(have)}
	for _, p := range r.permissions() {
		status.Permissions = append(status.Permissions, string(p))
	}
	shown.Status = &status
	return shown, nil
}

// holdersOf are those who have a role: in the order in which they are declared,
// and then those who were given it in another way.
func holdersOf(declared []resource.RoleHolder, have []Binding) []resource.RoleHolder {
	all := []resource.RoleHolder{}
	for _, h := range declared {
		want := Binding{Account: h.Account, Group: h.Group, Bounds: Bounds{h.Environments, h.Stamps, h.Tenants}}
		if at := slices.IndexFunc(have, func(b Binding) bool { return b.like(want) }); at >= 0 {
			all, have = append(all, h), slices.Delete(slices.Clone(have), at, at+1)
		}
	}
	for _, b := range have {
		all = append(all, resource.RoleHolder{Account: b.Account, Group: b.Group, Environments: b.Bounds.Environments, Stamps: b.Bounds.Stamps, Tenants: b.Bounds.Tenants})
	}
	return all
}

// Roles are all there are, the built-in ones first.
func (a *Access) Roles(ctx context.Context) (all []resource.Role, err error) {
	declared, err := sqldb.Rows(ctx, a.db, scanRole, selectRoles+" ORDER BY name")
	if err != nil {
		return nil, err
	}
	var roles []declaredRole
	for _, name := range BuiltIn {
		at := slices.IndexFunc(declared, func(r declaredRole) bool { return r.name == name })
		if at < 0 {
			roles = append(roles, declaredRole{name: name})
			continue
		}
		roles, declared = append(roles, declared[at]), slices.Delete(declared, at, at+1)
	}
	for _, r := range append(roles, declared...) {
		shown, err := a.shownRole(ctx, a.db, r)
		if err != nil {
			return nil, err
		}
		all = append(all, shown)
	}
	return all, nil
}

// Role is one of them.
func (a *Access) Role(ctx context.Context, name string) (resource.Role, error) {
	r, found, err := sqldb.Row(ctx, a.db, scanRole, selectRoles+" WHERE name = ?", name)
	if err != nil {
		return resource.Role{}, err
	}
	if !found && !slices.Contains(BuiltIn, name) {
		return resource.Role{}, problem.New(problem.NotFound, "there is no role %q", name)
	}
	r.name = name
	return a.shownRole(ctx, a.db, r)
}

// DeleteRole deletes a declared role that nobody has. Of a built-in one it
// forgets that its holders are declared.
func (a *Access) DeleteRole(ctx context.Context, actor Actor, name, ifMatch string) error {
	return a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		old, found, err := sqldb.Row(ctx, tx, scanRole, selectRoles+" WHERE name = ?", name)
		switch {
		case err != nil:
			return err
		case !found:
			return problem.New(problem.NotFound, "no role %q is declared", name)
		}
		if err := old.matches(ifMatch); err != nil {
			return err
		}
		if !slices.Contains(BuiltIn, name) {
			n, _, err := sqldb.Row(ctx, tx, scanCount, "SELECT (SELECT count(*) FROM binding WHERE role = ?) + (SELECT count(*) FROM token WHERE role = ?)", name, name)
			if err == nil && n > 0 {
				err = problem.New(problem.Conflict, "%d accounts, groups or tokens have the role %s; take it from them first", n, name)
			}
			if err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, "DELETE FROM access_role WHERE name = ?", name); err != nil {
			return err
		}
		return a.audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "role.delete", Object: "role/" + name, Outcome: audit.Done})
	})
}
