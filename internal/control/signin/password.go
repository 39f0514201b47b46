package signin

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
	"golang.org/x/crypto/argon2"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Passwords are hashed with argon2id, with the memory and time that OWASP asks
// for at least.
const (
	hashMemory  = 19 * 1024 // KiB
	hashTime    = 2
	hashLength  = 32
	minPassword = 12
	maxPassword = 200
)

func checkPassword(chosen string) error {
	if n := utf8.RuneCountInString(chosen); n < minPassword || len(chosen) > maxPassword {
		return problem.New(problem.Invalid, "a password has at least %d characters and at most %d bytes", minPassword, maxPassword).At("password")
	}
	return nil
}

// hash is what is kept of a password.
func (s *SignIn) hash(ctx context.Context, chosen string) (string, error) {
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	sum, err := s.derive(ctx, chosen, salt, hashTime, hashMemory)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s", argon2.Version, hashMemory, hashTime, base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(sum)), err
}

func (s *SignIn) derive(ctx context.Context, chosen string, salt []byte, times, memory uint32) ([]byte, error) {
	select {
	case s.hashing <- struct{}{}:
		defer func() { <-s.hashing }()
		return argon2.IDKey([]byte(chosen), salt, times, memory, 1, hashLength), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// matches reports whether a password is the one of a hash.
func (s *SignIn) matches(ctx context.Context, shown, kept string) (bool, error) {
	var version int
	var memory, times uint32
	parts := strings.Split(kept, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false, problem.New(problem.Internal, "a kept password is damaged")
	}
	_, versionErr := fmt.Sscanf(parts[2], "v=%d", &version)
	_, costErr := fmt.Sscanf(parts[3], "m=%d,t=%d,p=1", &memory, &times)
	salt, saltErr := base64.RawStdEncoding.DecodeString(parts[4])
	sum, sumErr := base64.RawStdEncoding.DecodeString(parts[5])
	if versionErr != nil || costErr != nil || saltErr != nil || sumErr != nil || version != argon2.Version || memory > 1<<20 || times > 100 || times == 0 {
		return false, problem.New(problem.Internal, "a kept password is damaged")
	}
	got, err := s.derive(ctx, shown, salt, times, memory)
	return err == nil && subtle.ConstantTimeCompare(got, sum) == 1, err
}

// nobodys is the hash that the password of an account that is not there is
// compared with, so that it takes as long.
const nobodys = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

var errWrong = problem.New(problem.Unauthenticated, "the name, the password or the code is wrong")

// Password checks a name and a password. It leads to a session in which a
// second factor is to be added where there is none, and otherwise to the cookie
// of a ceremony that waits for a code.
func (s *SignIn) Password(ctx context.Context, account, shown string, from access.Login) (session, ceremony string, err error) {
	if err := s.patience(account, from.Remote); err != nil {
		return "", "", err
	}
	if len(shown) > maxPassword || len(account) > 63 {
		return "", "", errWrong
	}
	kept, found, err := sqldb.Row(ctx, s.DB, scanCredential, selectCredentials+" WHERE account = ? AND kind = 'password'", account)
	if err != nil {
		return "", "", err
	}
	if !found {
		kept.secret = nobodys
	}
	right, err := s.matches(ctx, shown, kept.secret)
	if err != nil {
		return "", "", err
	}
	if !right || !found {
		s.failed(account, from.Remote)
		return "", "", errWrong
	}
	codes, err := of(ctx, s.DB, account, totpKind)
	if err != nil {
		return "", "", err
	}
	keys, err := of(ctx, s.DB, account, passkey)
	switch {
	case err != nil:
		return "", "", err
	case len(codes) == 0 && len(keys) == 0:
		session, err = s.enter(ctx, account, access.ByPassword, false, from)
		return session, "", err
	}
	ceremony, err = s.begin(ctx, awaitsCode, account, struct{}{})
	return "", ceremony, err
}

// Code ends the ceremony that a password began: with a code of the app, or a
// recovery code.
func (s *SignIn) Code(ctx context.Context, ceremony, shown string, from access.Login) (cookie string, err error) {
	account, err := s.resume(ctx, ceremony, awaitsCode, false, &struct{}{})
	if err != nil {
		return "", err
	}
	if err := s.patience(account, from.Remote); err != nil {
		return "", err
	}
	shown = strings.NewReplacer(" ", "", "-", "").Replace(strings.ToLower(strings.TrimSpace(shown)))
	err = s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		ok, err := s.spendCode(ctx, tx, account, shown)
		if err == nil && !ok {
			err = errWrong
		}
		return err
	})
	if problem.Is(err, problem.Unauthenticated) {
		s.failed(account, from.Remote)
	}
	if err != nil {
		return "", err
	}
	if _, err := s.resume(ctx, ceremony, awaitsCode, true, &struct{}{}); err != nil {
		return "", err
	}
	return s.enter(ctx, account, access.ByPassword, true, from)
}

// spendCode takes a code if it is right, so that it is not right again.
func (s *SignIn) spendCode(ctx context.Context, tx *sqldb.Tx, account, shown string) (bool, error) {
	apps, err := of(ctx, tx, account, totpKind)
	if err != nil {
		return false, err
	}
	for _, app := range apps {
		secret, err := s.open(totpKind, app.secret)
		if err != nil {
			return false, err
		}
		step, right := stepOf(string(secret), shown, s.Now())
		if !right || step <= app.counter {
			continue
		}
		_, err = tx.Exec(ctx, "UPDATE credential SET counter = ?, used_at = ? WHERE id = ?", step, sqldb.Micros(s.Now()), app.ID)
		return err == nil, err
	}
	spent, err := tx.Exec(ctx, "DELETE FROM credential WHERE account = ? AND kind = 'recovery' AND secret = ?", account, digest(shown))
	if err != nil || spent == 0 {
		return false, err
	}
	return true, s.record(ctx, tx, account, "credential.recover", account, "")
}

// A code is good for a step of time, and a step before and after, as clocks
// differ.
const (
	stepSeconds = 30
	codeDigits  = 6
)

// stepOf finds the step of time that a code is of.
func stepOf(secret, shown string, now time.Time) (int64, bool) {
	if len(shown) != codeDigits {
		return 0, false
	}
	for _, off := range []int64{0, -1, 1} {
		at := now.Add(time.Duration(off) * stepSeconds * time.Second)
		code, err := totp.GenerateCodeCustom(secret, at, totp.ValidateOpts{Period: stepSeconds, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err == nil && subtle.ConstantTimeCompare([]byte(code), []byte(shown)) == 1 {
			return int64(math.Floor(float64(at.Unix()) / stepSeconds)), true
		}
	}
	return 0, false
}

// patience makes an address wait that failed often, and whoever tries an
// account on which many failed.
func (s *SignIn) patience(account, remote string) error {
	if err := s.Access.Patience(remote); err != nil {
		return err
	}
	return s.Access.Patience("account " + account)
}

func (s *SignIn) failed(account, remote string) {
	s.Access.Failed(remote)
	s.Access.Failed("account " + account)
}
