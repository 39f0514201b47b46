package access

import (
	"cmp"
	"context"
	"database/sql"
	"maps"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// use is a permission that somebody used on a day.
type use struct {
	actor      string
	permission Permission
	day        int64
}

const (
	maxUses = 10_000 // kept in memory between two writes
	// keptUses is how long it is known what was used.
	keptUses = 400 * 24 * time.Hour
)

func dayOf(at time.Time) int64 { return at.Unix() / 86400 }

// used notes that an actor used a permission; it is written once in a while.
func (a *Access) used(actor Actor, p Permission) {
	if actor.Name == "" || a.now == nil {
		return
	}
	u := use{actor.Name, p, dayOf(a.now())}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.uses[u] && len(a.fresh) < maxUses {
		a.fresh[u] = true
	}
}

// KeepUses writes down which permissions were used since it did so last, and
// forgets what is very old.
func (a *Access) KeepUses(ctx context.Context) error {
	a.mu.Lock()
	fresh := a.fresh
	a.fresh = map[use]bool{}
	a.mu.Unlock()
	if len(fresh) == 0 {
		return nil
	}
	today := dayOf(a.now())
	err := a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for u := range fresh {
			if _, err := tx.Exec(ctx, "INSERT INTO permission_use (actor, permission, day) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", u.actor, string(u.permission), u.day); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "DELETE FROM permission_use WHERE day < ?", dayOf(a.now().Add(-keptUses)))
		return err
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		maps.Copy(a.fresh, fresh)
		return err
	}
	maps.DeleteFunc(a.uses, func(u use, _ bool) bool { return u.day < today })
	maps.Copy(a.uses, fresh)
	return nil
}

// Unused is a role of somebody, with what of it was not used of late.
type Unused struct {
	Binding Binding      `json:"binding"`
	Account string       `json:"account"`
	Used    []Permission `json:"used" doc:"What it used of the role"`
	Unused  []Permission `json:"unused" doc:"What it did not"`
	// Whole says that nothing at all of the role was used.
	Whole bool `json:"whole" doc:"Nothing of the role was used: it could be taken back"`
}

// UnusedRights holds what everybody may do against what they did in so many
// days. Roles younger than that are left out, as they had no time.
func (a *Access) UnusedRights(ctx context.Context, days int) (all []Unused, err error) {
	if days < 1 || days > 365 {
		return nil, problem.New(problem.Invalid, "days are 1 to 365, not %d", days).At("days")
	}
	if err := a.KeepUses(ctx); err != nil {
		return nil, err
	}
	since := a.now().Add(-time.Duration(days) * 24 * time.Hour)
	uses, err := sqldb.Rows(ctx, a.db, func(rows *sql.Rows) (u use, err error) { return u, rows.Scan(&u.actor, &u.permission) },
		"SELECT DISTINCT actor, permission FROM permission_use WHERE day >= ?", dayOf(since))
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
	used := map[use]bool{}
	for _, u := range uses {
		used[use{actor: u.actor, permission: u.permission}] = true
	}
	for _, b := range bindings {
		if b.CreatedAt.After(since) {
			continue
		}
		permissions, _, err := permissionsOf(ctx, a.db, b.Role)
		if err != nil {
			return nil, err
		}
		for _, account := range accounts {
			if account.ID == b.Account || b.Group != "" && slices.Contains(account.Groups, b.Group) {
				all = append(all, heldAgainst(b, permissions, account.ID, used))
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Unused) int { return cmp.Compare(a.Account, b.Account) })
	return slices.DeleteFunc(all, func(u Unused) bool { return len(u.Unused) == 0 }), nil
}

// heldAgainst parts a role into what an account used and what it did not.
func heldAgainst(b Binding, permissions []Permission, account string, used map[use]bool) Unused {
	u := Unused{Binding: b, Account: account, Used: []Permission{}, Unused: []Permission{}}
	for _, p := range permissions {
		if used[use{actor: account, permission: p}] {
			u.Used = append(u.Used, p)
		} else {
			u.Unused = append(u.Unused, p)
		}
	}
	u.Whole = len(u.Used) == 0
	return u
}
