package access

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Binding is a role that an account or a group has, somewhere.
type Binding struct {
	ID        string    `json:"id"`
	Role      string    `json:"role"`
	Account   string    `json:"account,omitempty"`
	Group     string    `json:"group,omitempty" doc:"Of an identity provider, instead of an account"`
	Bounds    Bounds    `json:"bounds" doc:"Where; empty is everywhere"`
	CreatedAt time.Time `json:"createdAt"`
	CreatedBy string    `json:"createdBy"`
}

// maxBindings bounds how many roles may be given.
const maxBindings = 10_000

func (b Binding) check() error {
	switch {
	case (b.Account == "") == (b.Group == ""):
		return problem.New(problem.Invalid, "name an account or a group, and not both").At("account")
	case len(b.Group) > 200:
		return problem.New(problem.Invalid, "a group's name has at most 200 characters").At("group")
	}
	return b.Bounds.check("bounds")
}

const selectBindings = "SELECT id, role, account, member_of, bounds, created_at, created_by FROM binding"

func scanBinding(rows *sql.Rows) (b Binding, err error) {
	var bounds []byte
	var created int64
	if err := rows.Scan(&b.ID, &b.Role, &b.Account, &b.Group, &bounds, &created, &b.CreatedBy); err != nil {
		return b, err
	}
	b.CreatedAt = sqldb.Time(created)
	return b, json.Unmarshal(bounds, &b.Bounds)
}

// Bindings returns who has which role where.
func (a *Access) Bindings(ctx context.Context) ([]Binding, error) {
	return sqldb.Rows(ctx, a.db, scanBinding, selectBindings+" ORDER BY account, member_of, role, id")
}

// Bind gives a role to an account or a group: none that lets them do what who
// gives it cannot do.
func (a *Access) Bind(ctx context.Context, actor Actor, b Binding) (given Binding, err error) {
	err = a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		given, err = a.bind(ctx, tx, actor, b)
		return err
	})
	return given, err
}

func (a *Access) bind(ctx context.Context, tx *sqldb.Tx, actor Actor, b Binding) (Binding, error) {
	if err := b.check(); err != nil {
		return b, err
	}
	if err := knownRole(ctx, tx, b.Role); err != nil {
		return b, err
	}
	right, err := rightOf(ctx, tx, b.Role, b.Bounds)
	if err == nil {
		err = actor.mayGive(right)
	}
	if err != nil {
		return b, err
	}
	b.ID, b.CreatedAt, b.CreatedBy = "b-"+strings.ToLower(rand.Text()[:10]), a.now().UTC().Truncate(time.Microsecond), actor.Name
	bounds, err := json.Marshal(b.Bounds)
	if err != nil {
		return b, err
	}
	if b.Account != "" {
		if _, err := accountIn(ctx, tx, b.Account); err != nil {
			return b, err
		}
	}
	n, _, err := sqldb.Row(ctx, tx, scanCount, "SELECT count(*) FROM binding")
	if err == nil && n >= maxBindings {
		err = problem.New(problem.Conflict, "%d roles are given, the most there may be; take some back", n)
	}
	if err != nil {
		return b, err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO binding (id, role, account, member_of, bounds, created_at, created_by) VALUES (?, ?, ?, ?, ?, ?, ?)",
		b.ID, b.Role, b.Account, b.Group, string(bounds), sqldb.Micros(b.CreatedAt), b.CreatedBy); err != nil {
		return b, err
	}
	return b, a.audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "role.give", Object: b.holder(), Outcome: audit.Done, Detail: b.Role + " " + b.Bounds.String()})
}

// holder names who has the role.
func (b Binding) holder() string {
	if b.Account != "" {
		return "account/" + b.Account
	}
	return "group/" + b.Group
}

// Unbind takes a role back.
func (a *Access) Unbind(ctx context.Context, actor Actor, id string) error {
	return a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return a.take(ctx, tx, actor, id) })
}

func (a *Access) take(ctx context.Context, tx *sqldb.Tx, actor Actor, id string) error {
	b, err := a.unbind(ctx, tx, id)
	if err != nil {
		return err
	}
	return a.audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "role.take", Object: b.holder(), Outcome: audit.Done, Detail: b.Role + " " + b.Bounds.String()})
}

// UnbindIn takes a role back as a part of a change that is recorded elsewhere.
func (a *Access) UnbindIn(ctx context.Context, tx *sqldb.Tx, id string) error {
	_, err := a.unbind(ctx, tx, id)
	return err
}

func (a *Access) unbind(ctx context.Context, tx *sqldb.Tx, id string) (Binding, error) {
	b, found, err := sqldb.Row(ctx, tx, scanBinding, selectBindings+" WHERE id = ?", id)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "no role was given under %q; slipway role list shows what was", id)
	}
	if err != nil {
		return b, err
	}
	if _, err := tx.Exec(ctx, "DELETE FROM binding WHERE id = ?", id); err != nil {
		return b, err
	}
	if err := Loses(ctx, tx); err != nil {
		return b, err
	}
	return b, a.stillAdmin(ctx, tx)
}

// rights are those of an account, by itself and by its groups.
func rights(ctx context.Context, q sqldb.Querier, account Account) (all Rights, err error) {
	bindings, err := sqldb.Rows(ctx, q, scanBinding, selectBindings+" WHERE account = ?", account.ID)
	if err != nil {
		return nil, err
	}
	if len(account.Groups) > 0 {
		ofGroups, err := sqldb.Rows(ctx, q, scanBinding, selectBindings+" WHERE member_of <> ''")
		if err != nil {
			return nil, err
		}
		bindings = append(bindings, slices.DeleteFunc(ofGroups, func(b Binding) bool { return !slices.Contains(account.Groups, b.Group) })...)
	}
	for _, b := range bindings {
		right, err := rightOf(ctx, q, b.Role, b.Bounds)
		if err != nil {
			return nil, err
		}
		all = append(all, right)
	}
	return all, nil
}

// actor is an account that asks, if it may now: a program only while the
// person who answers for it may.
func (a *Access) actor(ctx context.Context, q sqldb.Querier, id string) (Actor, error) {
	account, err := accountIn(ctx, q, id)
	if problem.Is(err, problem.NotFound) {
		err = problem.New(problem.Unauthenticated, "the account %s is gone", id)
	}
	if err == nil {
		err = account.active(a.now())
	}
	if err != nil {
		return Actor{}, err
	}
	who := Actor{Name: account.ID, Kind: account.Kind, Person: account.ID, Until: account.VouchedUntil}
	if account.Kind != Human {
		sponsor, err := accountIn(ctx, q, account.Sponsor)
		if err == nil {
			err = sponsor.active(a.now())
		}
		if err != nil {
			return Actor{}, problem.New(problem.Unauthenticated, "%s answers for %s and may do nothing now; give it another sponsor", account.Sponsor, id)
		}
		who.Person, who.Until = sponsor.ID, earlier(who.Until, sponsor.VouchedUntil)
	}
	who.Rights, err = rights(ctx, q, account)
	return who, err
}

// earlier is the earlier of two times, of which nil is none.
func earlier(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.Before(*a) {
		return b
	}
	return a
}

// stillAdmin refuses a change after which nobody could let anybody in: some
// token that nothing confines, or some person who is admin of everything and
// can sign in, must be left.
func (a *Access) stillAdmin(ctx context.Context, tx *sqldb.Tx) error {
	now := sqldb.Micros(a.now())
	n, _, err := sqldb.Row(ctx, tx, scanCount, `SELECT
		(SELECT count(*) FROM token WHERE account = '' AND role = '' AND tenant = '' AND bounds = '{}' AND expires_at IS NULL) +
		(SELECT count(*) FROM binding b JOIN account a ON a.id = b.account WHERE b.role = 'admin' AND b.bounds = '{}' AND a.kind = 'person' AND a.disabled = 0
			AND (a.vouched_until > ? OR EXISTS (SELECT 1 FROM credential c WHERE c.account = a.id AND c.kind IN ('password', 'passkey'))))`, now)
	if err == nil && n == 0 {
		err = problem.New(problem.Conflict, "nobody would be admin any more; make another token without a role or an expiry, or make somebody admin of everything, first")
	}
	return err
}
