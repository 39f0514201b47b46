package access

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// AccountIn returns an account as a part of a change.
func (a *Access) AccountIn(ctx context.Context, q sqldb.Querier, id string) (Account, error) {
	return accountIn(ctx, q, id)
}

// Holds reports whether a person may do something in a place by its roles now,
// whichever way it comes: an account that is disabled, or for which its
// provider does not vouch, may nothing. A role that is named must be the one
// that lets it.
func (a *Access) Holds(ctx context.Context, q sqldb.Querier, id string, p Permission, place Place, role string) (bool, error) {
	who, err := a.actor(ctx, q, id)
	if problem.Is(err, problem.Unauthenticated) {
		return false, nil
	}
	if err != nil || who.barred(p) {
		return false, err
	}
	rights := slices.DeleteFunc(slices.Clone(who.Rights), func(r Right) bool { return role != "" && r.Role != role })
	return rights.at(p, place), nil
}

// Held is a role that somebody has in an environment, with what of it was used
// of late.
type Held struct {
	Binding Binding
	Account string // empty for a group of which nobody is known
	UsedAt  *time.Time
	Unused  []Permission
}

// Held returns the roles that hold in an environment, and what of them was not
// used in so many days. A role of a group stands once, for the group.
func (a *Access) Held(ctx context.Context, environment string, days int) (all []Held, err error) {
	if err := a.KeepUses(ctx); err != nil {
		return nil, err
	}
	since := dayOf(a.now()) - int64(days)
	uses, err := sqldb.Rows(ctx, a.db, func(rows *sql.Rows) (u use, err error) { return u, rows.Scan(&u.actor, &u.permission, &u.day) },
		"SELECT actor, permission, max(day) FROM permission_use GROUP BY actor, permission")
	if err != nil {
		return nil, err
	}
	accounts, err := a.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	bindings, err := a.Bindings(ctx)
	if err != nil {
		return nil, err
	}
	for _, b := range bindings {
		permissions, _, err := permissionsOf(ctx, a.db, b.Role)
		if err != nil {
			return nil, err
		}
		if len(b.Bounds.Environments) > 0 && !slices.Contains(b.Bounds.Environments, environment) {
			continue
		}
		all = append(all, b.held(permissions, membersOf(b, accounts), uses, since))
	}
	return all, nil
}

// membersOf are the accounts that have a role.
func membersOf(b Binding, accounts []Account) (ids []string) {
	for _, account := range accounts {
		if account.ID == b.Account || b.Group != "" && slices.Contains(account.Groups, b.Group) {
			ids = append(ids, account.ID)
		}
	}
	return ids
}

// held holds a role against what those who have it did.
func (b Binding) held(permissions []Permission, members []string, uses []use, since int64) Held {
	h, last := Held{Binding: b, Account: b.Account}, int64(-1)
	for _, p := range permissions {
		at := int64(-1)
		for _, u := range uses {
			if u.permission == p && slices.Contains(members, u.actor) {
				at = max(at, u.day)
			}
		}
		if at < since {
			h.Unused = append(h.Unused, p)
		}
		last = max(last, at)
	}
	if last >= 0 {
		at := time.Unix(last*86400, 0).UTC()
		h.UsedAt = &at
	}
	return h
}
