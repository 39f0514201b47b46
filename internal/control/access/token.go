package access

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Bootstrap makes the first token when there is none and returns it; later it
// returns nothing.
func (a *Access) Bootstrap(ctx context.Context) (token string, err error) {
	fresh := prefix + secret()
	err = a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		token = ""
		n, err := count(ctx, tx)
		if err != nil || n > 0 {
			return err
		}
		token = fresh
		return a.insert(ctx, tx, Token{ID: "admin", Name: "admin", CreatedAt: a.now(), CreatedBy: "slipway"}, fresh)
	})
	return token, err
}

// Token is what is known of an API token; its secret is shown once.
type Token struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Account   string     `json:"account,omitempty" doc:"Whose it is; without one it stands for itself"`
	Tenant    string     `json:"tenant,omitempty"`
	Role      string     `json:"role,omitempty" doc:"All it may do at most; empty bounds nothing"`
	Bounds    Bounds     `json:"bounds" doc:"Where it may do that"`
	CreatedAt time.Time  `json:"createdAt"`
	CreatedBy string     `json:"createdBy"`
	madeBy    string     // the person who made it for another
	ExpiresAt *time.Time `json:"expiresAt,omitempty"`
}

func (t Token) expired(now time.Time) bool { return t.ExpiresAt != nil && !now.Before(*t.ExpiresAt) }

// limit is what a token confines its bearer to; nil is nothing.
func (t Token) limit(ctx context.Context, q sqldb.Querier) (*Right, error) {
	bounds := t.Bounds
	if t.Tenant != "" {
		bounds.Tenants = []string{t.Tenant}
	}
	switch {
	case t.Role != "":
		r, err := rightOf(ctx, q, t.Role, bounds)
		return &r, err
	case !bounds.Everywhere():
		return &Right{Permissions: Permissions(), Bounds: bounds}, nil
	}
	return nil, nil
}

// bearer is who comes with a token: its account, or the token itself where it
// belongs to nobody. Neither may more than the token is confined to.
func (a *Access) bearer(ctx context.Context, t Token) (Actor, error) {
	limit, err := t.limit(ctx, a.db)
	if err != nil {
		return Actor{}, err
	}
	if t.Account != "" {
		who, err := a.actor(ctx, a.db, t.Account)
		who.Maker = t.madeBy
		who.TokenID, who.Tenant, who.Limit, who.Until = t.ID, t.Tenant, limit, earlier(who.Until, t.ExpiresAt)
		return who, err
	}
	return Actor{Name: t.Name, Kind: Bearer, Person: t.Name, TokenID: t.ID, Tenant: t.Tenant, Rights: Rights{RightOf(Admin, Bounds{})}, Limit: limit, Until: t.ExpiresAt}, nil
}

func count(ctx context.Context, q sqldb.Querier) (int64, error) {
	n, _, err := sqldb.Row(ctx, q, scanCount, "SELECT count(*) FROM token")
	return n, err
}

func (a *Access) insert(ctx context.Context, tx *sqldb.Tx, t Token, token string) error {
	var expires any
	if t.ExpiresAt != nil {
		expires = sqldb.Micros(*t.ExpiresAt)
	}
	bounds, err := json.Marshal(t.Bounds)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO token (id, name, hash, created_at, expires_at, created_by, account, tenant, role, bounds, made_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		t.ID, t.Name, digest(token), sqldb.Micros(t.CreatedAt), expires, t.CreatedBy, t.Account, t.Tenant, t.Role, string(bounds), t.madeBy); err != nil {
		return err
	}
	return a.audit.Record(ctx, tx, audit.Entry{Actor: t.CreatedBy, Action: "token.create", Object: "token/" + t.ID, Outcome: audit.Done, Detail: t.Name})
}

// NewToken is a token as it is asked for.
type NewToken struct {
	Name    string
	Account string // whose it is; empty is the one who asks, or nobody's where a token that is nobody's asks
	Tenant  string // whose devices alone it sees; empty sees everything
	Role    string // all it may do at most; empty bounds nothing
	Bounds  Bounds
	Life    time.Duration // 0 is for ever
}

func (n NewToken) check() error {
	switch {
	case n.Name == "" || len(n.Name) > maxName:
		return problem.New(problem.Invalid, "a token's name has 1 to %d characters", maxName).At("name")
	case n.Life < 0:
		return problem.New(problem.Invalid, "a token cannot have expired before it is made").At("expiresIn")
	}
	return n.Bounds.check("bounds")
}

// Create makes a token and returns its secret, which nobody can ask for again.
func (a *Access) Create(ctx context.Context, actor Actor, want NewToken) (Token, string, error) {
	if err := want.check(); err != nil {
		return Token{}, "", err
	}
	if want.Account == "" && actor.Kind != Bearer && actor.Kind != "" {
		want.Account = actor.Name // what people make is theirs, so that they cannot be two
	}
	t := Token{ID: strings.ToLower(rand.Text()[:12]), Name: want.Name, Account: want.Account, Tenant: want.Tenant, Role: want.Role, Bounds: want.Bounds, CreatedAt: a.now().UTC(), CreatedBy: actor.Name}
	if t.Account != "" && t.Account != actor.Name {
		t.madeBy = actor.hand()
	}
	if want.Life > 0 {
		until := t.CreatedAt.Add(want.Life)
		t.ExpiresAt = &until
	}
	if l := actor.Limit; l != nil && !(l.has(AccessAdmin) && l.Everywhere()) {
		return t, "", problem.New(problem.Denied, "who is confined makes no tokens; do it signed in to the console, or with a token that is not")
	}
	token := prefix + secret()
	err := a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if t.Role != "" {
			if err := knownRole(ctx, tx, t.Role); err != nil {
				return err
			}
		}
		if t.Account != "" {
			if err := a.mayActAs(ctx, tx, actor, t.Account); err != nil {
				return err
			}
		} else if err := a.mayFree(ctx, tx, actor, t); err != nil {
			return err
		} else if n, _, err := sqldb.Row(ctx, tx, scanCount, "SELECT count(*) FROM account WHERE id = ?", t.Name); err != nil || n > 0 {
			return cmp.Or(err, error(problem.New(problem.Conflict, "there is an account %s; a token of that name would pass for it", t.Name).At("name")))
		}
		n, err := count(ctx, tx)
		if err != nil {
			return err
		}
		if n >= maxTokens {
			return problem.New(problem.Conflict, "there are %d tokens, the most there may be; revoke some", n)
		}
		return a.insert(ctx, tx, t, token)
	})
	return t, token, err
}

// mayFree refuses to make a token that stands for itself and can more than who
// makes it.
func (a *Access) mayFree(ctx context.Context, q sqldb.Querier, actor Actor, t Token) error {
	limit, err := t.limit(ctx, q)
	if err != nil {
		return err
	}
	if limit == nil {
		all := RightOf(Admin, Bounds{})
		limit = &all
	}
	return actor.mayGive(*limit)
}

// Tokens returns an account's tokens, oldest first.
func (a *Access) Tokens(ctx context.Context, account string) ([]Token, error) {
	return sqldb.Rows(ctx, a.db, scanToken, selectTokens+" WHERE account = ? ORDER BY created_at, id", account)
}

// List returns all tokens, oldest first.
func (a *Access) List(ctx context.Context) ([]Token, error) {
	return sqldb.Rows(ctx, a.db, scanToken, selectTokens+" ORDER BY created_at, id")
}

const selectTokens = "SELECT id, name, account, tenant, role, bounds, created_at, expires_at, created_by, made_by FROM token"

func scanToken(rows *sql.Rows) (t Token, err error) {
	var bounds []byte
	var created int64
	var expires sql.NullInt64
	if err := rows.Scan(&t.ID, &t.Name, &t.Account, &t.Tenant, &t.Role, &bounds, &created, &expires, &t.CreatedBy, &t.madeBy); err != nil {
		return t, err
	}
	t.CreatedAt, t.ExpiresAt = sqldb.Time(created), sqldb.NullTime(expires)
	return t, json.Unmarshal(bounds, &t.Bounds)
}

// Revoke ends a token and every session opened with it.
func (a *Access) Revoke(ctx context.Context, actor Actor, id string) error {
	return a.revoke(ctx, actor, id, "")
}

// RevokeOwn is Revoke for a token of the account that asks.
func (a *Access) RevokeOwn(ctx context.Context, actor Actor, id string) error {
	return a.revoke(ctx, actor, id, actor.Name)
}

func (a *Access) revoke(ctx context.Context, actor Actor, id, account string) error {
	return a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		gone, err := tx.Exec(ctx, "DELETE FROM token WHERE id = ? AND (? = '' OR account = ?)", id, account, account)
		if err != nil {
			return err
		}
		if gone == 0 {
			return problem.New(problem.NotFound, "there is no token %q", id)
		}
		if err := Loses(ctx, tx); err != nil {
			return err
		}
		if err := a.stillAdmin(ctx, tx); err != nil {
			return err
		}
		return a.audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "token.revoke", Object: "token/" + id, Outcome: audit.Done})
	})
}

// Authenticate finds out who bears a token. An address that shows many wrong
// ones has to wait.
func (a *Access) Authenticate(ctx context.Context, token, remote string) (Actor, error) {
	if err := a.Patience(remote); err != nil {
		return Actor{}, err
	}
	t, found := Token{}, false
	if len(token) <= maxSecret {
		var err error
		t, found, err = sqldb.Row(ctx, a.db, scanToken, selectTokens+" WHERE hash = ?", digest(token))
		if err != nil {
			return Actor{}, err
		}
	}
	if !found || t.expired(a.now()) {
		a.Failed(remote)
		return Actor{}, problem.New(problem.Unauthenticated, "the token is not known or has expired; `slipway token create` makes one")
	}
	return a.bearer(ctx, t)
}
