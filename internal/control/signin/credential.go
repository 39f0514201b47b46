package signin

import (
	"context"
	"crypto/rand"
	"database/sql"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// The kinds of credentials.
const (
	password   = "password"
	totpKind   = "totp"
	passkey    = "passkey"
	recovery   = "recovery"
	invitation = "invitation"
)

// Credential is one way in which an account shows who it is, as its owner sees
// it.
type Credential struct {
	ID        string
	Kind      string
	Name      string
	CreatedAt time.Time
	UsedAt    *time.Time
	secret    string
	counter   int64
}

const selectCredentials = "SELECT id, kind, name, secret, counter, created_at, used_at FROM credential"

func scanCredential(rows *sql.Rows) (c Credential, err error) {
	var created int64
	var used sql.NullInt64
	err = rows.Scan(&c.ID, &c.Kind, &c.Name, &c.secret, &c.counter, &created, &used)
	c.CreatedAt, c.UsedAt = sqldb.Time(created), sqldb.NullTime(used)
	return c, err
}

func scanPair[T any](pair func(a, b string) T) func(*sql.Rows) (T, error) {
	return func(rows *sql.Rows) (T, error) {
		var a, b string
		err := rows.Scan(&a, &b)
		return pair(a, b), err
	}
}

func (s *SignIn) count(ctx context.Context, q sqldb.Querier, query string, args ...any) (int64, error) {
	n, _, err := sqldb.Row(ctx, q, func(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }, query, args...)
	return n, err
}

// of returns an account's credentials of a kind, oldest first.
func of(ctx context.Context, q sqldb.Querier, account, kind string) ([]Credential, error) {
	return sqldb.Rows(ctx, q, scanCredential, selectCredentials+" WHERE account = ? AND kind = ? ORDER BY created_at, id", account, kind)
}

// Credentials returns what an account shows who it is by, without secrets.
func (s *SignIn) Credentials(ctx context.Context, account string) ([]Credential, error) {
	return sqldb.Rows(ctx, s.DB, scanCredential, selectCredentials+" WHERE account = ? AND kind <> 'invitation' ORDER BY kind, created_at, id", account)
}

func newID() string { return "c-" + strings.ToLower(rand.Text()[:12]) }

func (s *SignIn) insert(ctx context.Context, tx *sqldb.Tx, account, kind, name, secret string, life time.Duration) error {
	var expires any
	if life > 0 {
		expires = sqldb.Micros(s.Now().Add(life))
	}
	_, err := tx.Exec(ctx, "INSERT INTO credential (id, account, kind, name, secret, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
		newID(), account, kind, name, secret, sqldb.Micros(s.Now()), expires)
	return err
}

func (s *SignIn) record(ctx context.Context, tx *sqldb.Tx, by, action, account, detail string) error {
	return s.Audit.Record(ctx, tx, audit.Entry{Actor: by, Action: action, Object: "account/" + account, Outcome: audit.Done, Detail: detail})
}

// invitationLife is how long an invitation may be taken up.
const invitationLife = 72 * time.Hour

// Invite makes the code by which a person sets a password, once. It voids the
// one before; what the person has already stays until it is taken up.
func (s *SignIn) Invite(ctx context.Context, actor access.Actor, account string) (code string, until time.Time, err error) {
	found, err := s.Access.Account(ctx, account)
	switch {
	case err != nil:
		return "", until, err
	case found.Kind != access.Human:
		return "", until, problem.New(problem.Conflict, "%s is a program; it comes with a token: slipway token create", account)
	case found.Provider:
		return "", until, problem.New(problem.Conflict, "%s signs in through the identity provider", account)
	}
	code, until = rand.Text(), s.Now().Add(invitationLife)
	err = s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM credential WHERE account = ? AND kind = 'invitation'", account); err != nil {
			return err
		}
		if err := s.insert(ctx, tx, account, invitation, "", digest(code), invitationLife); err != nil {
			return err
		}
		if err := s.Access.Invited(ctx, tx, actor, account); err != nil {
			return err
		}
		return s.record(ctx, tx, actor.Name, "account.invite", account, "")
	})
	return code, until, err
}

// Accept takes up an invitation: it sets the password, voids what there was
// before, and opens a session in which a second factor is to be added.
func (s *SignIn) Accept(ctx context.Context, code, chosen string, from access.Login) (cookie string, err error) {
	if err := s.Access.Patience(from.Remote); err != nil {
		return "", err
	}
	if err := checkPassword(chosen); err != nil {
		return "", err
	}
	hash, err := s.hash(ctx, chosen)
	if err != nil {
		return "", err
	}
	account := ""
	err = s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		var found bool
		account, found, err = sqldb.Row(ctx, tx, func(rows *sql.Rows) (a string, err error) { return a, rows.Scan(&a) },
			"SELECT account FROM credential WHERE kind = 'invitation' AND secret = ? AND expires_at > ?", digest(code), sqldb.Micros(s.Now()))
		if err == nil && !found {
			err = problem.New(problem.Unauthenticated, "the invitation was taken up, or is too old; ask for another")
		}
		if err != nil {
			return err
		}
		for _, statement := range []string{"DELETE FROM credential WHERE account = ?", "DELETE FROM session WHERE account = ?"} {
			if _, err := tx.Exec(ctx, statement, account); err != nil {
				return err
			}
		}
		if err := access.Loses(ctx, tx); err != nil {
			return err
		}
		if err := s.insert(ctx, tx, account, password, "", hash, 0); err != nil {
			return err
		}
		return s.record(ctx, tx, account, "account.accept", account, from.Remote)
	})
	if problem.Is(err, problem.Unauthenticated) {
		s.Access.Failed(from.Remote)
	}
	if err != nil {
		return "", err
	}
	return s.enter(ctx, account, access.ByPassword, false, from)
}

// Remove takes a passkey or an app with codes from the account that asks. The
// last second factor stays.
func (s *SignIn) Remove(ctx context.Context, actor access.Actor, id string) error {
	return s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		c, found, err := sqldb.Row(ctx, tx, scanCredential, selectCredentials+" WHERE id = ? AND account = ? AND kind IN ('totp', 'passkey')", id, actor.Name)
		if err == nil && !found {
			err = problem.New(problem.NotFound, "you have no such second factor")
		}
		if err != nil {
			return err
		}
		n, err := s.count(ctx, tx, "SELECT count(*) FROM credential WHERE account = ? AND kind IN ('totp', 'passkey')", actor.Name)
		if err == nil && n == 1 {
			err = problem.New(problem.Conflict, "it is the only second factor you have; add another first")
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM credential WHERE id = ?", id); err != nil {
			return err
		}
		return s.record(ctx, tx, actor.Name, "credential.remove", actor.Name, c.Kind+" "+c.Name)
	})
}

// prove marks the session as one in which a second factor was shown, and
// returns recovery codes if the account has none yet.
func (s *SignIn) prove(ctx context.Context, tx *sqldb.Tx, actor access.Actor) (codes []string, err error) {
	if _, err := tx.Exec(ctx, "UPDATE session SET mfa = 1 WHERE id = ? AND account = ?", actor.Session, actor.Name); err != nil {
		return nil, err
	}
	n, err := s.count(ctx, tx, "SELECT count(*) FROM credential WHERE account = ? AND kind = 'recovery'", actor.Name)
	if err != nil || n > 0 {
		return nil, err
	}
	return s.recoveryCodes(ctx, tx, actor.Name)
}

// recoveries is how many recovery codes somebody has.
const recoveries = 10

// recoveryCodes makes new ones in the place of those before. Each is good once,
// in the place of a code.
func (s *SignIn) recoveryCodes(ctx context.Context, tx *sqldb.Tx, account string) (codes []string, err error) {
	if _, err := tx.Exec(ctx, "DELETE FROM credential WHERE account = ? AND kind = 'recovery'", account); err != nil {
		return nil, err
	}
	for range recoveries {
		text := strings.ToLower(rand.Text()[:16])
		if err := s.insert(ctx, tx, account, recovery, "", digest(text), 0); err != nil {
			return nil, err
		}
		codes = append(codes, text[:4]+"-"+text[4:8]+"-"+text[8:12]+"-"+text[12:])
	}
	return codes, nil
}

// NewRecoveryCodes replaces the recovery codes of the account that asks.
func (s *SignIn) NewRecoveryCodes(ctx context.Context, actor access.Actor) (codes []string, err error) {
	if !actor.MFA {
		return nil, problem.New(problem.Denied, "add a second factor first")
	}
	err = s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if codes, err = s.recoveryCodes(ctx, tx, actor.Name); err != nil {
			return err
		}
		return s.record(ctx, tx, actor.Name, "credential.recovery", actor.Name, "")
	})
	return codes, err
}
