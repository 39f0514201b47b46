package signin

import (
	"bytes"
	"context"
	"encoding/json"
	"image/png"
	"net"
	"net/url"
	"strings"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/pquerna/otp/totp"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// maxFactors is how many second factors of a kind somebody may have.
const maxFactors = 10

// App is what an app that makes codes is set up with.
type App struct {
	Secret string
	URL    string
	QR     []byte // PNG
}

type addingApp struct{ Secret string }

// BeginApp makes the secret of an app that makes codes. It counts once a code
// was shown.
func (s *SignIn) BeginApp(ctx context.Context, actor access.Actor, host string) (app App, ceremony string, err error) {
	if err := s.mayAdd(ctx, actor, totpKind); err != nil {
		return app, "", err
	}
	key, err := totp.Generate(totp.GenerateOpts{Issuer: "Slipway " + host, AccountName: actor.Name})
	if err != nil {
		return app, "", err
	}
	picture, err := key.Image(220, 220)
	if err != nil {
		return app, "", err
	}
	var qr bytes.Buffer
	if err := png.Encode(&qr, picture); err != nil {
		return app, "", err
	}
	ceremony, err = s.begin(ctx, addsTOTP, actor.Name, addingApp{key.Secret()})
	return App{key.Secret(), key.URL(), qr.Bytes()}, ceremony, err
}

// mayAdd refuses more second factors than there may be, and any to a session
// that showed none although there is one: whoever knows only the password must
// not add another.
func (s *SignIn) mayAdd(ctx context.Context, actor access.Actor, kind string) error {
	account, err := s.Access.Account(ctx, actor.Name)
	if err != nil || account.Kind != access.Human || actor.Session == "" || account.Provider {
		return problem.New(problem.Conflict, "second factors are for people with an account of their own here, who signed in with it")
	}
	n, err := s.count(ctx, s.DB, "SELECT count(*) FROM credential WHERE account = ? AND kind IN ('totp', 'passkey')", actor.Name)
	switch {
	case err != nil:
		return err
	case n > 0 && !actor.MFA:
		return problem.New(problem.Denied, "sign in with the second factor that you have before you add another")
	case n >= maxFactors:
		return problem.New(problem.Conflict, "you have %d second factors, the most there may be; remove one", n)
	}
	return nil
}

// ConfirmApp adds the app if it shows a code that is right now. The first
// second factor comes with recovery codes.
func (s *SignIn) ConfirmApp(ctx context.Context, actor access.Actor, ceremony, shown string) (codes []string, err error) {
	var adding addingApp
	account, err := s.resume(ctx, ceremony, addsTOTP, false, &adding)
	if err == nil && account != actor.Name {
		err = problem.New(problem.Denied, "somebody else began that")
	}
	if err == nil {
		err = s.patience(account, "session "+actor.Session)
	}
	if err == nil {
		err = s.mayAdd(ctx, actor, totpKind)
	}
	if err != nil {
		return nil, err
	}
	step, right := stepOf(adding.Secret, strings.ReplaceAll(strings.TrimSpace(shown), " ", ""), s.Now())
	if !right {
		s.failed(account, "session "+actor.Session)
		return nil, problem.New(problem.Invalid, "the code is wrong; enter the one that the app shows now").At("code")
	}
	err = s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := s.insert(ctx, tx, actor.Name, totpKind, "app", s.seal(totpKind, []byte(adding.Secret)), 0); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE credential SET counter = ? WHERE account = ? AND kind = 'totp' AND counter = 0", step, actor.Name); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM ceremony WHERE hash = ?", digest(ceremony)); err != nil {
			return err
		}
		if codes, err = s.prove(ctx, tx, actor); err != nil {
			return err
		}
		return s.record(ctx, tx, actor.Name, "credential.add", actor.Name, totpKind)
	})
	return codes, err
}

// holder is an account as passkeys know it.
type holder struct {
	account string
	keys    []webauthn.Credential
}

// WebAuthnID is by what a passkey knows its account.
func (h holder) WebAuthnID() []byte { return []byte(h.account) }

// WebAuthnName is what people choose a passkey by.
func (h holder) WebAuthnName() string { return h.account }

// WebAuthnDisplayName is what people choose a passkey by.
func (h holder) WebAuthnDisplayName() string { return h.account }

// WebAuthnCredentials are the passkeys that the account has.
func (h holder) WebAuthnCredentials() []webauthn.Credential { return h.keys }

func (s *SignIn) holder(ctx context.Context, account string) (holder, error) {
	kept, err := of(ctx, s.DB, account, passkey)
	h := holder{account: account}
	for _, c := range kept {
		var key webauthn.Credential
		if err := json.Unmarshal([]byte(c.secret), &key); err != nil {
			return h, err
		}
		h.keys = append(h.keys, key)
	}
	return h, err
}

// relying is this console as passkeys know it, by the address people have of
// it. An address of numbers has none.
func relying(origin string) (*webauthn.WebAuthn, error) {
	at, err := url.Parse(origin)
	if err != nil || at.Hostname() == "" {
		return nil, problem.New(problem.Invalid, "%q is no address of a console", origin)
	}
	if net.ParseIP(at.Hostname()) != nil {
		return nil, problem.New(problem.Conflict, "passkeys belong to a name, and %s is none; open the console by its name, such as localhost", at.Hostname())
	}
	return webauthn.New(&webauthn.Config{
		RPID: at.Hostname(), RPDisplayName: "Slipway", RPOrigins: []string{origin},
		AuthenticatorSelection: protocol.AuthenticatorSelection{ResidentKey: protocol.ResidentKeyRequirementRequired, UserVerification: protocol.VerificationRequired},
	})
}

// begun is a passkey ceremony: what was asked, and by which address.
type begun struct {
	Origin  string
	Session *webauthn.SessionData
}

// BeginPasskey asks the browser for a new passkey.
func (s *SignIn) BeginPasskey(ctx context.Context, actor access.Actor, origin string) (options any, ceremony string, err error) {
	if err := s.mayAdd(ctx, actor, passkey); err != nil {
		return nil, "", err
	}
	site, err := relying(origin)
	if err != nil {
		return nil, "", err
	}
	h, err := s.holder(ctx, actor.Name)
	if err != nil {
		return nil, "", err
	}
	creation, session, err := site.BeginRegistration(h, webauthn.WithExclusions(webauthn.Credentials(h.keys).CredentialDescriptors()))
	if err != nil {
		return nil, "", err
	}
	ceremony, err = s.begin(ctx, addsPasskey, actor.Name, begun{origin, session})
	return creation, ceremony, err
}

// AddPasskey keeps the passkey that the browser made.
func (s *SignIn) AddPasskey(ctx context.Context, actor access.Actor, ceremony, name string, response []byte) (codes []string, err error) {
	var b begun
	account, err := s.resume(ctx, ceremony, addsPasskey, true, &b)
	if err == nil && account != actor.Name {
		err = problem.New(problem.Denied, "somebody else began that")
	}
	if err == nil {
		err = s.mayAdd(ctx, actor, passkey)
	}
	if err != nil {
		return nil, err
	}
	if len(name) > 100 {
		return nil, problem.New(problem.Invalid, "a name has at most 100 characters").At("name")
	}
	site, err := relying(b.Origin)
	if err != nil {
		return nil, err
	}
	h, err := s.holder(ctx, account)
	if err != nil {
		return nil, err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return nil, problem.New(problem.Invalid, "the browser's answer cannot be read: %w", err)
	}
	key, err := site.CreateCredential(h, *b.Session, parsed)
	if err != nil {
		return nil, problem.New(problem.Invalid, "the passkey was not accepted: %w", err)
	}
	text, err := json.Marshal(key)
	if err != nil {
		return nil, err
	}
	err = s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := s.insert(ctx, tx, account, passkey, name, string(text), 0); err != nil {
			return err
		}
		if codes, err = s.prove(ctx, tx, actor); err != nil {
			return err
		}
		return s.record(ctx, tx, account, "credential.add", account, passkey+" "+name)
	})
	return codes, err
}

// AskPasskey asks the browser for any passkey it has for this console.
func (s *SignIn) AskPasskey(ctx context.Context, origin string) (options any, ceremony string, err error) {
	site, err := relying(origin)
	if err != nil {
		return nil, "", err
	}
	assertion, session, err := site.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, "", err
	}
	ceremony, err = s.begin(ctx, awaitsPasskey, "", begun{origin, session})
	return assertion, ceremony, err
}

// Passkey opens a session for whoever's passkey signed. It is two factors at
// once: the device that has it, and how that knows its owner.
func (s *SignIn) Passkey(ctx context.Context, ceremony string, response []byte, from access.Login) (cookie string, err error) {
	if err := s.Access.Patience(from.Remote); err != nil {
		return "", err
	}
	var b begun
	if _, err := s.resume(ctx, ceremony, awaitsPasskey, true, &b); err != nil {
		return "", err
	}
	site, err := relying(b.Origin)
	if err != nil {
		return "", err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return "", problem.New(problem.Invalid, "the browser's answer cannot be read: %w", err)
	}
	account := ""
	_, key, err := site.ValidatePasskeyLogin(func(_, handle []byte) (webauthn.User, error) {
		account = string(handle)
		return s.holder(ctx, account)
	}, *b.Session, parsed)
	if err != nil {
		s.Access.Failed(from.Remote)
		return "", problem.New(problem.Unauthenticated, "the passkey is not known here: %w", err)
	}
	if key.Authenticator.CloneWarning {
		return "", problem.New(problem.Denied, "the passkey was used elsewhere since; remove it and make another")
	}
	if err := s.noteUse(ctx, account, key); err != nil {
		return "", err
	}
	return s.enter(ctx, account, access.ByPasskey, true, from)
}

// noteUse keeps how often a passkey was used, by which copies show.
func (s *SignIn) noteUse(ctx context.Context, account string, key *webauthn.Credential) error {
	text, err := json.Marshal(key)
	if err != nil {
		return err
	}
	return s.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		kept, err := of(ctx, tx, account, passkey)
		if err != nil {
			return err
		}
		for _, c := range kept {
			var old webauthn.Credential
			if err := json.Unmarshal([]byte(c.secret), &old); err != nil {
				return err
			}
			if bytes.Equal(old.ID, key.ID) {
				if _, err := tx.Exec(ctx, "UPDATE credential SET secret = ?, used_at = ? WHERE id = ?", string(text), sqldb.Micros(s.Now()), c.ID); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
