package access

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Session is a console login.
type Session struct {
	Actor
	About Opened
	CSRF  string // must come with every form
}

// Opened is what is known of a session; its cookie is nowhere but in the
// browser.
type Opened struct {
	ID        string    `json:"id"`
	Account   string    `json:"account,omitempty"`
	Token     string    `json:"token,omitempty" doc:"Id of the token it was opened with"`
	Method    string    `json:"method" enum:"token,password,passkey,oidc"`
	MFA       bool      `json:"mfa" doc:"A second factor was shown"`
	Remote    string    `json:"remote"`
	Agent     string    `json:"agent,omitempty" doc:"The browser, as it says"`
	CreatedAt time.Time `json:"createdAt"`
	SeenAt    time.Time `json:"seenAt"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// Login is how somebody came in.
type Login struct {
	Account string
	token   string
	Method  string
	MFA     bool
	Remote  string
	Agent   string
}

// The ways to come in.
const (
	ByToken    = "token"
	ByPassword = "password"
	ByPasskey  = "passkey"
	ByOIDC     = "oidc"
)

const (
	maxAgent    = 200
	maxSessions = 100         // of one account or token; the oldest give way
	seenEvery   = time.Minute // how exactly it is known when a session was used
)

// Login opens a console session with a token and returns its cookie.
func (a *Access) Login(ctx context.Context, token string, from Login) (cookie string, err error) {
	actor, err := a.Authenticate(ctx, strings.TrimSpace(token), from.Remote)
	if err != nil {
		return "", err
	}
	if actor.Tenant != "" {
		return "", problem.New(problem.Denied, "the token is of tenant %s; the console shows the whole installation, and needs a token of it", actor.Tenant)
	}
	from.token, from.Account, from.Method, from.MFA = actor.TokenID, "", ByToken, false
	err = a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		cookie, err = a.Open(ctx, tx, from, actor.Name)
		return err
	})
	return cookie, err
}

// Open opens a session for an account that has shown who it is, as part of a
// change, and returns its cookie.
func (a *Access) Open(ctx context.Context, tx *sqldb.Tx, from Login, name string) (cookie string, err error) {
	cookie, now := secret(), a.now()
	if len(from.Agent) > maxAgent {
		from.Agent = strings.ToValidUTF8(from.Agent[:maxAgent], "")
	}
	if _, err := tx.Exec(ctx, "DELETE FROM session WHERE expires_at <= ?", sqldb.Micros(now)); err != nil {
		return "", err
	}
	id := "s-" + strings.ToLower(rand.Text()[:10])
	gone, err := tx.Exec(ctx, `DELETE FROM session WHERE id IN (SELECT id FROM session WHERE account = ? OR token_id = ? ORDER BY created_at DESC, id LIMIT 1000 OFFSET ?)`,
		from.Account, from.token, maxSessions-1)
	if err == nil && gone > 0 {
		err = Loses(ctx, tx)
	}
	if err != nil {
		return "", err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO session (id, hash, token_id, account, method, mfa, remote, agent, csrf, created_at, seen_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		id, digest(cookie), orNull(from.token), orNull(from.Account), from.Method, from.MFA, from.Remote, from.Agent, secret(), sqldb.Micros(now), sqldb.Micros(now), sqldb.Micros(now.Add(sessionLife))); err != nil {
		return "", err
	}
	return cookie, a.audit.Record(ctx, tx, audit.Entry{Actor: name, Action: "session.open", Object: cmp.Or(from.token, "account/"+from.Account), Outcome: audit.Done, Detail: from.Method + " from " + from.Remote})
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

const selectSessions = "SELECT id, account, token_id, method, mfa, remote, agent, csrf, created_at, seen_at, expires_at FROM session"

func scanSession(rows *sql.Rows) (s Session, err error) {
	var account, token sql.NullString
	var created, seen, expires int64
	o := &s.About
	err = rows.Scan(&o.ID, &account, &token, &o.Method, &o.MFA, &o.Remote, &o.Agent, &s.CSRF, &created, &seen, &expires)
	o.Account, o.Token, o.CreatedAt, o.SeenAt, o.ExpiresAt = account.String, token.String, sqldb.Time(created), sqldb.Time(seen), sqldb.Time(expires)
	return s, err
}

// Session finds the session of a cookie.
func (a *Access) Session(ctx context.Context, cookie string) (Session, error) {
	if cookie == "" || len(cookie) > maxSecret {
		return Session{}, problem.New(problem.Unauthenticated, "log in first")
	}
	now := a.now()
	s, found, err := sqldb.Row(ctx, a.db, scanSession, selectSessions+" WHERE hash = ? AND expires_at > ?", digest(cookie), sqldb.Micros(now))
	if err == nil && !found {
		err = problem.New(problem.Unauthenticated, "the session is over; log in again")
	}
	if err != nil {
		return Session{}, err
	}
	if s.Actor, err = a.behind(ctx, s.About); err != nil {
		return Session{}, err
	}
	if now.Sub(s.About.SeenAt) > seenEvery {
		err = a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE session SET seen_at = ? WHERE id = ?", sqldb.Micros(now), s.About.ID)
			return err
		})
	}
	return s, err
}

// behind is who a session is of. One of a local account without a second
// factor is there to add one, and for nothing else.
func (a *Access) behind(ctx context.Context, o Opened) (who Actor, err error) {
	if o.Token == "" {
		who, err = a.actor(ctx, a.db, o.Account)
		if o.Method == ByPassword && !o.MFA {
			who.Limit = &Right{Role: "second factor"}
		}
		who.Session, who.MFA, who.Until = o.ID, o.MFA, earlier(who.Until, &o.ExpiresAt)
		return who, err
	}
	t, found, err := sqldb.Row(ctx, a.db, scanToken, selectTokens+" WHERE id = ?", o.Token)
	if err == nil && (!found || t.expired(a.now())) {
		err = problem.New(problem.Unauthenticated, "the session's token is void; log in again")
	}
	if err != nil {
		return who, err
	}
	who, err = a.bearer(ctx, t)
	who.Session, who.Until = o.ID, earlier(who.Until, &o.ExpiresAt)
	return who, err
}

// Sessions returns those of an account, or all if none is named, newest first.
func (a *Access) Sessions(ctx context.Context, account string) ([]Opened, error) {
	all, err := sqldb.Rows(ctx, a.db, scanSession, selectSessions+" WHERE expires_at > ? AND (? = '' OR account = ?) ORDER BY created_at DESC, id LIMIT 1000", sqldb.Micros(a.now()), account, account)
	opened := make([]Opened, len(all))
	for i, s := range all {
		opened[i] = s.About
	}
	return opened, err
}

// EndSession ends a session by its id: any, or only one of an account.
func (a *Access) EndSession(ctx context.Context, actor Actor, id, account string) error {
	return a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		gone, err := tx.Exec(ctx, "DELETE FROM session WHERE id = ? AND (? = '' OR account = ?)", id, account, account)
		if err == nil && gone == 0 {
			err = problem.New(problem.NotFound, "there is no session %q", id)
		}
		if err == nil {
			err = Loses(ctx, tx)
		}
		if err != nil {
			return err
		}
		return a.audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "session.end", Object: "session/" + id, Outcome: audit.Done})
	})
}

// Logout ends a session.
func (a *Access) Logout(ctx context.Context, cookie string) error {
	return a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM session WHERE hash = ?", digest(cookie)); err != nil {
			return err
		}
		return Loses(ctx, tx)
	})
}
