package access

import (
	"context"
	"database/sql"
	"strings"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Session is a console login.
type Session struct {
	Actor
	CSRF string // must come with every form
}

// Login opens a console session with a token and returns its cookie.
func (a *Access) Login(ctx context.Context, token, remote string) (cookie string, err error) {
	actor, err := a.Authenticate(ctx, strings.TrimSpace(token), remote)
	if err != nil {
		return "", err
	}
	if actor.Tenant != "" {
		return "", problem.New(problem.Denied, "the token is of tenant %s; the console shows the whole installation, and needs a token of it", actor.Tenant)
	}
	cookie, now := secret(), a.now()
	csrf := secret()
	err = a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM session WHERE expires_at <= ?", sqldb.Micros(now)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO session (hash, token_id, csrf, created_at, expires_at) VALUES (?, ?, ?, ?, ?)",
			digest(cookie), actor.TokenID, csrf, sqldb.Micros(now), sqldb.Micros(now.Add(sessionLife))); err != nil {
			return err
		}
		return a.audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "session.open", Object: actor.TokenID, Outcome: audit.Done, Detail: remote})
	})
	return cookie, err
}

// Session finds the session of a cookie.
func (a *Access) Session(ctx context.Context, cookie string) (Session, error) {
	if cookie == "" || len(cookie) > maxSecret {
		return Session{}, problem.New(problem.Unauthenticated, "log in first")
	}
	type row struct{ token, csrf string }
	r, found, err := sqldb.Row(ctx, a.db, func(rows *sql.Rows) (r row, err error) { return r, rows.Scan(&r.token, &r.csrf) },
		"SELECT token_id, csrf FROM session WHERE hash = ? AND expires_at > ?", digest(cookie), sqldb.Micros(a.now()))
	if err != nil {
		return Session{}, err
	}
	t, there, err := sqldb.Row(ctx, a.db, scanToken, selectTokens+" WHERE id = ?", r.token)
	if err == nil && (!found || !there || t.expired(a.now())) {
		err = problem.New(problem.Unauthenticated, "the session is over; log in again")
	}
	return Session{t.bearer(), r.csrf}, err
}

// Logout ends a session.
func (a *Access) Logout(ctx context.Context, cookie string) error {
	return a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM session WHERE hash = ?", digest(cookie))
		return err
	})
}
