package access

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Acquaintance is how long whoever made or invited an account counts as one
// with it where two people are wanted: they may have it still.
const Acquaintance = 30 * 24 * time.Hour

// maxKin bounds how far back makers are followed.
const maxKin = 100

// origin is by whose hand an account came to be.
type origin struct {
	madeBy, invitedBy  string
	createdAt, invited time.Time
}

// Independent lets somebody give their word on what others asked for, or said
// too. It refuses who is one of them, and who cannot be told from one of them:
// they made or invited the account of the other of late, by themselves or
// through an account that they made, or made the token that is used.
func (a *Access) Independent(ctx context.Context, q sqldb.Querier, actor Actor, others ...string) error {
	for _, other := range others {
		if other == "" {
			continue
		}
		kin, err := a.Kin(ctx, q, actor.Who(), actor.Maker, other)
		if err != nil {
			return err
		}
		if kin {
			return problem.New(problem.Denied, "%s cannot be told from %s, who made or invited the account or made the token; somebody else must say so", actor.Name, other)
		}
	}
	return nil
}

// Kin reports whether somebody, who came by a token that maker made for them,
// counts as one person with another. The maker may be empty.
func (a *Access) Kin(ctx context.Context, q sqldb.Querier, one, maker, other string) (bool, error) {
	if other == one || other == maker && maker != "" {
		return true, nil
	}
	for _, name := range []string{one, maker} {
		if name == "" {
			continue
		}
		made, err := a.makers(ctx, q, name)
		if err != nil || slices.Contains(made, other) {
			return err == nil, err
		}
	}
	made, err := a.makers(ctx, q, other)
	return err == nil && (slices.Contains(made, one) || maker != "" && slices.Contains(made, maker)), err
}

// makers are those who made or invited an account of late, those who did so
// with theirs, and so on.
func (a *Access) makers(ctx context.Context, q sqldb.Querier, account string) (all []string, err error) {
	since := a.now().Add(-Acquaintance)
	for next := []string{account}; len(next) > 0 && len(all) < maxKin; next = next[1:] {
		o, found, err := sqldb.Row(ctx, q, scanOrigin, "SELECT made_by, invited_by, created_at, invited_at FROM account WHERE id = ?", next[0])
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		for _, by := range []struct {
			name string
			at   time.Time
		}{{o.madeBy, o.createdAt}, {o.invitedBy, o.invited}} {
			if by.name != "" && by.at.After(since) && by.name != account && !slices.Contains(all, by.name) {
				all, next = append(all, by.name), append(next, by.name)
			}
		}
	}
	return all, nil
}

func scanOrigin(rows *sql.Rows) (o origin, err error) {
	var created, invited int64
	err = rows.Scan(&o.madeBy, &o.invitedBy, &created, &invited)
	o.createdAt, o.invited = sqldb.Time(created), sqldb.Time(invited)
	return o, err
}

// Invited notes within a change that somebody invites an account, and so could
// take its invitation up.
func (a *Access) Invited(ctx context.Context, tx *sqldb.Tx, actor Actor, account string) error {
	if err := a.mayActAs(ctx, tx, actor, account); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "UPDATE account SET invited_by = ?, invited_at = ? WHERE id = ?", actor.hand(), sqldb.Micros(a.now()), account)
	return err
}

// mayActAs refuses to give somebody a way to come as an account that may do
// what they cannot do.
func (a *Access) mayActAs(ctx context.Context, q sqldb.Querier, actor Actor, account string) error {
	found, err := accountIn(ctx, q, account)
	if err != nil || account == actor.Name {
		return err
	}
	all, err := rights(ctx, q, found)
	for _, r := range all {
		if err == nil {
			err = actor.mayGive(r)
		}
	}
	return err
}

// hand is the person with an account who does something; empty for a token that
// belongs to nobody, of which no more is known.
func (a Actor) hand() string {
	if a.Kind == Human || a.Kind == Service || a.Kind == Agent {
		return a.Who()
	}
	return ""
}

// inherit has who made an account stand in for it in what it made, as it goes.
func inherit(ctx context.Context, tx *sqldb.Tx, account string) error {
	o, _, err := sqldb.Row(ctx, tx, scanOrigin, "SELECT made_by, invited_by, created_at, invited_at FROM account WHERE id = ?", account)
	if err != nil {
		return err
	}
	for _, statement := range []string{
		"UPDATE account SET made_by = ? WHERE made_by = ?", "UPDATE account SET invited_by = ? WHERE invited_by = ?", "UPDATE token SET made_by = ? WHERE made_by = ?",
	} {
		if _, err := tx.Exec(ctx, statement, o.madeBy, account); err != nil {
			return err
		}
	}
	return nil
}
