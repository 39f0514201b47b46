package access

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Vouched is a person as an identity provider says.
type Vouched struct {
	Subject         string // the provider, and by what it knows the person
	ID, Name, Email string
	Groups          []string
	Until           time.Time // how long its word counts
	Refresh         string    // sealed: what its word is renewed with
}

// Vouch keeps what an identity provider says of a person and returns its
// account, which it makes at the first time. An account that somebody made here
// under the same id is another person's.
func (a *Access) Vouch(ctx context.Context, v Vouched) (id string, err error) {
	if len(v.Name) > maxName || len(v.Email) > 254 {
		v.Name, v.Email = "", ""
	}
	groups, err := json.Marshal(append([]string{}, v.Groups...))
	if err != nil {
		return "", err
	}
	err = a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		found, there, err := sqldb.Row(ctx, tx, scanAccount, selectAccounts+" WHERE subject = ?", v.Subject)
		if err != nil {
			return err
		}
		id = found.ID
		if !there {
			want := NewAccount{ID: v.ID, Name: v.Name, Email: v.Email, Kind: Human}
			if err := want.check(); err != nil {
				return problem.New(problem.Denied, "the identity provider's name for you, %q, cannot be an account's: %w", v.ID, err)
			}
			if err := a.freeName(ctx, tx, v.ID); err != nil {
				return err
			}
			if err := a.insertAccount(ctx, tx, Actor{Name: v.ID}, want, v.Subject); err != nil {
				return err
			}
			id = v.ID
		}
		if there && !sameGroups(found.Groups, v.Groups) {
			if err := Loses(ctx, tx); err != nil { // the provider may have taken the person out of a group
				return err
			}
		}
		_, err = tx.Exec(ctx, "UPDATE account SET member_of = ?, vouched_until = ?, refresh = ? WHERE id = ?", string(groups), sqldb.Micros(v.Until), v.Refresh, id)
		return err
	})
	return id, err
}

// sameGroups reports whether two lists of groups give the same rights.
func sameGroups(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// Renewable returns whose word ends before a time and can be renewed.
func (a *Access) Renewable(ctx context.Context, before time.Time) ([]Vouched, error) {
	return sqldb.Rows(ctx, a.db, func(rows *sql.Rows) (v Vouched, err error) {
		var groups []byte
		if err := rows.Scan(&v.ID, &v.Subject, &v.Name, &v.Email, &groups, &v.Refresh); err != nil {
			return v, err
		}
		return v, json.Unmarshal(groups, &v.Groups)
	}, "SELECT id, subject, name, email, member_of, refresh FROM account WHERE refresh <> '' AND disabled = 0 AND vouched_until < ? ORDER BY vouched_until LIMIT 500", sqldb.Micros(before))
}

// PutOut ends what a person does for whom the provider vouches no more, until
// it does again.
func (a *Access) PutOut(ctx context.Context, id string) error {
	return a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE account SET vouched_until = ?, refresh = '' WHERE id = ?", sqldb.Micros(a.now()), id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM session WHERE account = ?", id); err != nil {
			return err
		}
		if err := Loses(ctx, tx); err != nil {
			return err
		}
		return a.audit.Record(ctx, tx, audit.Entry{Actor: "slipway", Action: "account.lapse", Object: "account/" + id, Outcome: audit.Done, Detail: "the identity provider vouches no more"})
	})
}
