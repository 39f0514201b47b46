// Package signin is how people show who they are: a password with a second
// factor, a passkey, or the word of an identity provider. What comes of it is
// a session of package access.
package signin

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Options are what signing in is built from.
type Options struct {
	DB     *sqldb.DB
	Access *access.Access
	Audit  *audit.Log
	Secret []byte // seals what must not be read in the database
	Now    func() time.Time
	// Provider is who vouches for people; nil is nobody.
	Provider *Provider
}

// SignIn knows how each account shows who it is.
type SignIn struct {
	Options
	box      cipher.AEAD
	hashing  chan struct{} // a place for each password that is hashed now
	provider *provider
}

// maxHashing is how many passwords are hashed at once: each takes memory.
const maxHashing = 2

// New returns the ways to sign in.
func New(o Options) (*SignIn, error) {
	key, err := hkdf.Key(sha256.New, o.Secret, nil, "slipway sign-in", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	s := &SignIn{Options: o, hashing: make(chan struct{}, maxHashing)}
	if s.box, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	if o.Provider != nil {
		s.provider, err = newProvider(*o.Provider)
	}
	return s, err
}

// Ways are the ways to sign in that are set up.
type Ways struct {
	Accounts bool   // some account has a password or a passkey
	Provider string // what the identity provider is called; empty is none
}

// Ways tells which there are.
func (s *SignIn) Ways(ctx context.Context) (w Ways, err error) {
	if s.provider != nil {
		w.Provider = s.provider.Name
	}
	n, err := s.count(ctx, s.DB, "SELECT count(*) FROM credential WHERE kind IN ('password', 'passkey')")
	w.Accounts = n > 0
	return w, err
}

// seal hides a text from who reads the database; it opens for the same purpose
// only.
func (s *SignIn) seal(purpose string, text []byte) string {
	nonce := make([]byte, s.box.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		panic(err) // crypto/rand never fails on supported systems
	}
	return base64.StdEncoding.EncodeToString(s.box.Seal(nonce, nonce, text, []byte(purpose)))
}

func (s *SignIn) open(purpose, sealed string) ([]byte, error) {
	text, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil || len(text) < s.box.NonceSize() {
		return nil, problem.New(problem.Internal, "what was sealed for %s is damaged", purpose)
	}
	return s.box.Open(nil, text[:s.box.NonceSize()], text[s.box.NonceSize():], []byte(purpose))
}

// The kinds of ceremonies.
const (
	awaitsCode     = "code"
	awaitsPasskey  = "passkey"
	addsTOTP       = "add-totp"
	addsPasskey    = "add-passkey"
	awaitsProvider = "provider"
)

// ceremonyLife is how long the second half of something may take.
const (
	ceremonyLife  = 10 * time.Minute
	maxCeremonies = 10_000
)

// begin notes what was begun and returns the cookie that goes on with it.
func (s *SignIn) begin(ctx context.Context, kind, account string, document any) (cookie string, err error) {
	text, err := json.Marshal(document)
	if err != nil {
		return "", err
	}
	cookie = rand.Text() + rand.Text()
	now := s.Now()
	return cookie, s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM ceremony WHERE expires_at <= ?", sqldb.Micros(now)); err != nil {
			return err
		}
		n, err := s.count(ctx, tx, "SELECT count(*) FROM ceremony")
		if err == nil && n >= maxCeremonies {
			err = problem.New(problem.Busy, "too many people are signing in; wait a little").After(ceremonyLife)
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO ceremony (hash, kind, account, document, expires_at) VALUES (?, ?, ?, ?, ?)",
			digest(cookie), kind, account, s.seal(kind, text), sqldb.Micros(now.Add(ceremonyLife)))
		return err
	})
}

// resume finds what was begun; with once it is gone thereafter, so that nobody
// goes on with it twice.
func (s *SignIn) resume(ctx context.Context, cookie, kind string, once bool, document any) (account string, err error) {
	err = s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		type row struct{ account, document string }
		r, found, err := sqldb.Row(ctx, tx, scanPair(func(a, b string) row { return row{a, b} }),
			"SELECT account, document FROM ceremony WHERE hash = ? AND kind = ? AND expires_at > ?", digest(cookie), kind, sqldb.Micros(s.Now()))
		if err == nil && !found {
			err = problem.New(problem.Unauthenticated, "that took too long, or was finished already; begin again")
		}
		if err != nil {
			return err
		}
		if once {
			if _, err := tx.Exec(ctx, "DELETE FROM ceremony WHERE hash = ?", digest(cookie)); err != nil {
				return err
			}
		}
		account = r.account
		text, err := s.open(kind, r.document)
		if err != nil {
			return err
		}
		return json.Unmarshal(text, document)
	})
	return account, err
}

// enter opens a session for an account, if it may act now.
func (s *SignIn) enter(ctx context.Context, account, method string, mfa bool, from access.Login) (cookie string, err error) {
	found, err := s.Access.Account(ctx, account)
	if err == nil && found.Disabled {
		err = problem.New(problem.Denied, "the account %s is disabled; whoever is admin can enable it", account)
	}
	if err != nil {
		return "", err
	}
	from.Account, from.Method, from.MFA = account, method, mfa
	err = s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE account SET signed_in_at = ? WHERE id = ?", sqldb.Micros(s.Now()), account); err != nil {
			return err
		}
		cookie, err = s.Access.Open(ctx, tx, from, account)
		return err
	})
	return cookie, err
}

// digest is what is kept of a random secret.
func digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
