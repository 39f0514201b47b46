package access

import (
	"context"
	"database/sql"
	"encoding/json"
	"regexp"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Account is a person, or a program that a person answers for.
type Account struct {
	ID           string     `json:"id"`
	Kind         Kind       `json:"kind"`
	Name         string     `json:"name,omitempty" doc:"As people read it"`
	Email        string     `json:"email,omitempty"`
	Sponsor      string     `json:"sponsor,omitempty" doc:"Of a program: the person who answers for it"`
	Provider     bool       `json:"provider" doc:"Known by an identity provider, and not by a password here"`
	Groups       []string   `json:"groups,omitempty" doc:"As the provider last said"`
	Disabled     bool       `json:"disabled"`
	VouchedUntil *time.Time `json:"vouchedUntil,omitempty" doc:"How long the provider's last word counts"`
	CreatedAt    time.Time  `json:"createdAt"`
	CreatedBy    string     `json:"createdBy"`
	SignedInAt   *time.Time `json:"signedInAt,omitempty"`
}

// NewAccount is an account as it is asked for.
type NewAccount struct {
	ID, Name, Email string
	Kind            Kind
	Sponsor         string
}

// maxAccounts bounds how many accounts there may be.
const maxAccounts = 10_000

var accountID = regexp.MustCompile(`^[a-z0-9][a-z0-9._@+-]{0,62}$`)

func (n NewAccount) check() error {
	switch {
	case !accountID.MatchString(n.ID):
		return problem.New(problem.Invalid, "an account's id has up to 63 small letters, digits and . _ @ + -, and begins with a letter or a digit").At("id")
	case len(n.Name) > maxName:
		return problem.New(problem.Invalid, "a name has at most %d characters", maxName).At("name")
	case len(n.Email) > 254:
		return problem.New(problem.Invalid, "an address has at most 254 characters").At("email")
	case n.Kind != Human && n.Kind != Service && n.Kind != Agent:
		return problem.New(problem.Invalid, "an account is a person, a service or an agent, not %q", n.Kind).At("kind")
	case n.Kind == Human && n.Sponsor != "":
		return problem.New(problem.Invalid, "a person answers for itself and has no sponsor").At("sponsor")
	case n.Kind != Human && n.Sponsor == "":
		return problem.New(problem.Invalid, "a program needs a person who answers for it").At("sponsor")
	}
	return nil
}

const selectAccounts = "SELECT id, kind, name, email, sponsor, subject, member_of, disabled, vouched_until, created_at, created_by, signed_in_at FROM account"

func scanAccount(rows *sql.Rows) (a Account, err error) {
	var subject string
	var groups []byte
	var created int64
	var vouched, signed sql.NullInt64
	if err := rows.Scan(&a.ID, &a.Kind, &a.Name, &a.Email, &a.Sponsor, &subject, &groups, &a.Disabled, &vouched, &created, &a.CreatedBy, &signed); err != nil {
		return a, err
	}
	a.Provider, a.VouchedUntil, a.SignedInAt, a.CreatedAt = subject != "", sqldb.NullTime(vouched), sqldb.NullTime(signed), sqldb.Time(created)
	return a, json.Unmarshal(groups, &a.Groups)
}

// active says why an account may do nothing now.
func (a Account) active(now time.Time) error {
	switch {
	case a.Disabled:
		return problem.New(problem.Unauthenticated, "the account %s is disabled", a.ID)
	case a.VouchedUntil != nil && !now.Before(*a.VouchedUntil):
		return problem.New(problem.Unauthenticated, "the identity provider has not vouched for %s of late; sign in to the console once", a.ID)
	}
	return nil
}

// Accounts returns people and programs, in order of id.
func (a *Access) Accounts(ctx context.Context) ([]Account, error) {
	return sqldb.Rows(ctx, a.db, scanAccount, selectAccounts+" ORDER BY id")
}

// Account returns one account.
func (a *Access) Account(ctx context.Context, id string) (Account, error) {
	return accountIn(ctx, a.db, id)
}

func accountIn(ctx context.Context, q sqldb.Querier, id string) (Account, error) {
	found, there, err := sqldb.Row(ctx, q, scanAccount, selectAccounts+" WHERE id = ?", id)
	if err == nil && !there {
		err = problem.New(problem.NotFound, "there is no account %q", id)
	}
	return found, err
}

// AddAccount makes an account. A person signs in once it is invited.
func (a *Access) AddAccount(ctx context.Context, actor Actor, want NewAccount) (made Account, err error) {
	if err := want.check(); err != nil {
		return made, err
	}
	err = a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if want.Kind != Human {
			sponsor, err := accountIn(ctx, tx, want.Sponsor)
			if err != nil || sponsor.Kind != Human || sponsor.active(a.now()) != nil {
				return problem.New(problem.Invalid, "the sponsor %q is no person with an active account", want.Sponsor).At("sponsor")
			}
		}
		if err := a.freeName(ctx, tx, want.ID); err != nil {
			return err
		}
		if err := a.insertAccount(ctx, tx, actor, want, ""); err != nil {
			return err
		}
		made, err = accountIn(ctx, tx, want.ID)
		return err
	})
	return made, err
}

// freeName refuses a name by which somebody else is known already: what is
// recorded under it must be of one actor.
func (a *Access) freeName(ctx context.Context, tx *sqldb.Tx, name string) error {
	n, _, err := sqldb.Row(ctx, tx, scanCount, "SELECT (SELECT count(*) FROM account WHERE id = ?) + (SELECT count(*) FROM token WHERE name = ? AND account = '')", name, name)
	if err == nil && n > 0 {
		err = problem.New(problem.Conflict, "an account or a token has the name %s already", name).At("id")
	}
	if err != nil {
		return err
	}
	n, _, err = sqldb.Row(ctx, tx, scanCount, "SELECT count(*) FROM account")
	if err == nil && n >= maxAccounts {
		err = problem.New(problem.Conflict, "there are %d accounts, the most there may be", n)
	}
	return err
}

func (a *Access) insertAccount(ctx context.Context, tx *sqldb.Tx, by Actor, want NewAccount, subject string) error {
	if _, err := tx.Exec(ctx, "INSERT INTO account (id, kind, name, email, sponsor, subject, member_of, created_at, created_by, made_by) VALUES (?, ?, ?, ?, ?, ?, '[]', ?, ?, ?)",
		want.ID, string(want.Kind), want.Name, want.Email, want.Sponsor, subject, sqldb.Micros(a.now()), by.Name, by.hand()); err != nil {
		return err
	}
	return a.audit.Record(ctx, tx, audit.Entry{Actor: by.Name, Action: "account.create", Object: "account/" + want.ID, Outcome: audit.Done, Detail: string(want.Kind)})
}

// SetDisabled has an account do nothing any more, with everything that acts
// for it, or lets it act again.
func (a *Access) SetDisabled(ctx context.Context, actor Actor, id string, disabled bool) (changed Account, err error) {
	action := map[bool]string{true: "account.disable", false: "account.enable"}[disabled]
	err = a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := accountIn(ctx, tx, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE account SET disabled = ? WHERE id = ?", disabled, id); err != nil {
			return err
		}
		if disabled {
			if _, err := tx.Exec(ctx, "DELETE FROM session WHERE account = ?", id); err != nil {
				return err
			}
			if err := Loses(ctx, tx); err != nil {
				return err
			}
			if err := a.stillAdmin(ctx, tx); err != nil {
				return err
			}
		}
		if changed, err = accountIn(ctx, tx, id); err != nil {
			return err
		}
		return a.audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: action, Object: "account/" + id, Outcome: audit.Done})
	})
	return changed, err
}

// RemoveAccount deletes an account with its tokens, sessions and roles. A
// person who answers for programs keeps its account until others do.
func (a *Access) RemoveAccount(ctx context.Context, actor Actor, id string) error {
	return a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := accountIn(ctx, tx, id); err != nil {
			return err
		}
		n, _, err := sqldb.Row(ctx, tx, scanCount, "SELECT count(*) FROM account WHERE sponsor = ?", id)
		if err != nil {
			return err
		}
		if n > 0 {
			return problem.New(problem.Conflict, "%s answers for %d programs; delete them or give them another sponsor first, or disable the account", id, n)
		}
		if err := inherit(ctx, tx, id); err != nil {
			return err
		}
		for _, statement := range []string{"DELETE FROM token WHERE account = ?", "DELETE FROM binding WHERE account = ?", "DELETE FROM account WHERE id = ?"} {
			if _, err := tx.Exec(ctx, statement, id); err != nil {
				return err
			}
		}
		if err := Loses(ctx, tx); err != nil {
			return err
		}
		if err := a.stillAdmin(ctx, tx); err != nil {
			return err
		}
		return a.audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "account.delete", Object: "account/" + id, Outcome: audit.Done})
	})
}

// SetSponsor has another person answer for a program.
func (a *Access) SetSponsor(ctx context.Context, actor Actor, id, sponsor string) (changed Account, err error) {
	err = a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		old, err := accountIn(ctx, tx, id)
		if err != nil {
			return err
		}
		person, err := accountIn(ctx, tx, sponsor)
		if old.Kind == Human || err != nil || person.Kind != Human || person.active(a.now()) != nil {
			return problem.New(problem.Invalid, "the sponsor of a program is a person with an active account").At("sponsor")
		}
		if _, err := tx.Exec(ctx, "UPDATE account SET sponsor = ? WHERE id = ?", sponsor, id); err != nil {
			return err
		}
		if err := Loses(ctx, tx); err != nil {
			return err
		}
		if changed, err = accountIn(ctx, tx, id); err != nil {
			return err
		}
		return a.audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "account.sponsor", Object: "account/" + id, Outcome: audit.Done, Detail: sponsor})
	})
	return changed, err
}

func scanCount(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }
