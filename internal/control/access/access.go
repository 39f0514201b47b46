// Package access knows who asks and what they may do: people, programs and the
// tokens and sessions they come by, the permissions that routes ask for, the
// roles that have them, and where.
package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/slipway/slipway/internal/control/audit"
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
	Maker   string // who made its token, if that is another person
	Tenant  string // whose devices alone it sees; empty sees everything
	Rights  Rights
	Session string // by which it came, if it did
	MFA     bool   // a second factor was shown
	Limit   *Right // what its token is confined to, whatever its rights
	// Until is when that by which it came holds no longer; nil is no time.
	Until *time.Time
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
	open  holds

	// Controlled names the environments in which roles are not enough to change
	// anything; nil is none.
	Controlled func(ctx context.Context) ([]string, error)
	// Granted reports whether an actor has a grant for a permission in a place
	// now; nil is nobody.
	Granted func(ctx context.Context, actor Actor, place Place, p Permission) (bool, error)

	mu       sync.Mutex
	failures map[string]*rate.Limiter // by remote address, or by account
	fresh    map[use]bool             // what was used and is not written down
	uses     map[use]bool             // what is written down of today
}

// New returns the tokens and sessions kept in db.
func New(db *sqldb.DB, log *audit.Log, now func() time.Time) *Access {
	return &Access{db: db, audit: log, now: now, open: holds{all: map[*Hold]struct{}{}}, failures: map[string]*rate.Limiter{}, fresh: map[use]bool{}, uses: map[use]bool{}}
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
