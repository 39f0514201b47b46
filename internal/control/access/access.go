// Package access knows who asks: the bearers of API tokens and the people
// logged in to the console with one.
package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Kind is what sort of actor somebody is.
type Kind string

// The kinds of actors.
const (
	Human   Kind = "person"
	Service Kind = "service" // a program of ours or of a customer
	Agent   Kind = "agent"   // a program that decides by itself what to do
	Bearer  Kind = "token"   // a token that belongs to nobody
)

// Actor is who asks.
type Actor struct {
	Name    string // as it is recorded: of the person, the service, or the token
	Kind    Kind
	Person  string // who answers for it: itself, or a program's sponsor
	TokenID string
	Tenant  string // whose devices alone it sees; empty sees everything
}

// Token is what is known of an API token; its secret is shown once.
type Token struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Tenant    string     `json:"tenant,omitempty"`
	CreatedAt time.Time  `json:"createdAt"`
	CreatedBy string     `json:"createdBy"`
	ExpiresAt *time.Time `json:"expiresAt,omitempty"`
}

// Session is a console login.
type Session struct {
	Actor
	CSRF string // must come with every form
}

const (
	prefix      = "slp_" // marks our tokens for secret scanners
	sessionLife = 12 * time.Hour
	maxTokens   = 1000
	maxName     = 100
	maxSecret   = 200 // longer ones are not even hashed
)

// Access keeps tokens and sessions, in control's database.
type Access struct {
	db    *sqldb.DB
	audit *audit.Log
	now   func() time.Time

	mu       sync.Mutex
	failures map[string]*rate.Limiter // by remote address
}

// New returns the tokens and sessions kept in db.
func New(db *sqldb.DB, log *audit.Log, now func() time.Time) *Access {
	return &Access{db: db, audit: log, now: now, failures: map[string]*rate.Limiter{}}
}

// secret makes 256 random bits as text.
func secret() string {
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // crypto/rand never fails on supported systems
	}
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// digest is what is stored of a secret. Secrets are random, so one round of a
// plain hash is as good as many, and looking it up by index compares nothing
// byte by byte.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

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

func count(ctx context.Context, q sqldb.Querier) (int64, error) {
	n, _, err := sqldb.Row(ctx, q, func(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }, "SELECT count(*) FROM token")
	return n, err
}

func (a *Access) insert(ctx context.Context, tx *sqldb.Tx, t Token, token string) error {
	var expires any
	if t.ExpiresAt != nil {
		expires = sqldb.Micros(*t.ExpiresAt)
	}
	if _, err := tx.Exec(ctx, "INSERT INTO token (id, name, hash, created_at, expires_at, created_by, tenant) VALUES (?, ?, ?, ?, ?, ?, ?)",
		t.ID, t.Name, digest(token), sqldb.Micros(t.CreatedAt), expires, t.CreatedBy, t.Tenant); err != nil {
		return err
	}
	return a.audit.Record(ctx, tx, audit.Entry{Actor: t.CreatedBy, Action: "token.create", Object: t.ID, Outcome: audit.Done, Detail: t.Name})
}

// Create makes a token and returns its secret, which nobody can ask for again.
// A life of 0 is no expiry; one of a tenant sees that tenant's devices alone.
func (a *Access) Create(ctx context.Context, actor Actor, name, tenant string, life time.Duration) (Token, string, error) {
	if name == "" || len(name) > maxName {
		return Token{}, "", problem.New(problem.Invalid, "a token's name has 1 to %d characters", maxName).At("name")
	}
	if life < 0 {
		return Token{}, "", problem.New(problem.Invalid, "a token cannot have expired before it is made").At("expiresIn")
	}
	t := Token{ID: strings.ToLower(rand.Text()[:12]), Name: name, Tenant: tenant, CreatedAt: a.now().UTC(), CreatedBy: actor.Name}
	if life > 0 {
		until := t.CreatedAt.Add(life)
		t.ExpiresAt = &until
	}
	token := prefix + secret()
	err := a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
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

// List returns all tokens, oldest first.
func (a *Access) List(ctx context.Context) ([]Token, error) {
	return sqldb.Rows(ctx, a.db, scanToken, "SELECT id, name, tenant, created_at, expires_at, created_by FROM token ORDER BY created_at, id")
}

func scanToken(rows *sql.Rows) (t Token, err error) {
	var created int64
	var expires sql.NullInt64
	err = rows.Scan(&t.ID, &t.Name, &t.Tenant, &created, &expires, &t.CreatedBy)
	t.CreatedAt, t.ExpiresAt = sqldb.Time(created), sqldb.NullTime(expires)
	return t, err
}

// Revoke ends a token and every session opened with it.
func (a *Access) Revoke(ctx context.Context, actor Actor, id string) error {
	return a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := count(ctx, tx)
		if err != nil {
			return err
		}
		if n == 1 {
			return problem.New(problem.Conflict, "this is the last token; make another before you revoke it")
		}
		gone, err := tx.Exec(ctx, "DELETE FROM token WHERE id = ?", id)
		if err != nil {
			return err
		}
		if gone == 0 {
			return problem.New(problem.NotFound, "there is no token %q", id)
		}
		return a.audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "token.revoke", Object: id, Outcome: audit.Done})
	})
}

// Authenticate finds out who bears a token. An address that shows many wrong
// ones has to wait.
func (a *Access) Authenticate(ctx context.Context, token, remote string) (Actor, error) {
	if err := a.patience(remote); err != nil {
		return Actor{}, err
	}
	t, found := Token{}, false
	if len(token) <= maxSecret {
		var err error
		t, found, err = sqldb.Row(ctx, a.db, scanToken, "SELECT id, name, tenant, created_at, expires_at, created_by FROM token WHERE hash = ?", digest(token))
		if err != nil {
			return Actor{}, err
		}
	}
	if !found || t.ExpiresAt != nil && !a.now().Before(*t.ExpiresAt) {
		a.failed(remote)
		return Actor{}, problem.New(problem.Unauthenticated, "the token is not known or has expired; `slipway token create` makes one")
	}
	return Actor{Name: t.Name, TokenID: t.ID, Tenant: t.Tenant}, nil
}

// Failures per address: some at once, then one every two seconds.
const (
	failureBurst = 20
	failureEvery = 2 * time.Second
	maxRemotes   = 10_000
)

func (a *Access) patience(remote string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if limiter := a.failures[remote]; limiter != nil && limiter.TokensAt(a.now()) < 1 {
		return problem.New(problem.Busy, "too many wrong tokens from your address; wait a little").After(failureEvery)
	}
	return nil
}

func (a *Access) failed(remote string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	limiter := a.failures[remote]
	if limiter == nil {
		if len(a.failures) >= maxRemotes {
			clear(a.failures)
		}
		limiter = rate.NewLimiter(rate.Every(failureEvery), failureBurst)
		a.failures[remote] = limiter
	}
	limiter.AllowN(a.now(), 1)
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
	s, found, err := sqldb.Row(ctx, a.db, func(rows *sql.Rows) (s Session, err error) {
		return s, rows.Scan(&s.TokenID, &s.Name, &s.CSRF)
	}, `SELECT t.id, t.name, s.csrf FROM session s JOIN token t ON t.id = s.token_id
		WHERE s.hash = ? AND s.expires_at > ? AND (t.expires_at IS NULL OR t.expires_at > ?)`,
		digest(cookie), sqldb.Micros(a.now()), sqldb.Micros(a.now()))
	if err == nil && !found {
		err = problem.New(problem.Unauthenticated, "the session is over; log in again")
	}
	return s, err
}

// Logout ends a session.
func (a *Access) Logout(ctx context.Context, cookie string) error {
	return a.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM session WHERE hash = ?", digest(cookie))
		return err
	})
}
