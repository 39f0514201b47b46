package signin

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
)

// Provider is an identity provider that speaks OpenID Connect.
type Provider struct {
	Issuer       string   `json:"issuer"`
	ClientID     string   `json:"clientId"`
	ClientSecret string   `json:"-"`
	SecretFile   string   `json:"clientSecretFile,omitempty"` // of the secret; a public client has none
	Name         string   `json:"name,omitempty"`             // on the button; default the issuer's host
	GroupsClaim  string   `json:"groupsClaim,omitempty"`      // default groups
	Scopes       []string `json:"scopes,omitempty"`           // beside openid; default profile, email
	RequireMFA   bool     `json:"requireMfa,omitempty"`       // refuse who showed the provider one factor only
}

// Check refuses what could not work, with the path of the part at fault.
func (p Provider) Check(field string) error {
	at, err := url.Parse(p.Issuer)
	switch {
	case err != nil || at.Host == "" || at.Scheme != "https" && !(at.Scheme == "http" && loopback(at.Hostname())):
		return problem.New(problem.Invalid, "an issuer is an https URL, not %q", p.Issuer).At(field + ".issuer")
	case p.ClientID == "":
		return problem.New(problem.Invalid, "name the client that the provider knows this console as").At(field + ".clientId")
	}
	return nil
}

func loopback(host string) bool { return host == "localhost" || host == "127.0.0.1" || host == "::1" }

// provider is a Provider that is talked to. It is looked up when it is first
// needed, so that control starts while it is away.
type provider struct {
	Provider
	client *http.Client
	mu     sync.Mutex
	found  *oidc.Provider
}

const (
	providerWait = 15 * time.Second
	maxGroups    = 200
	// vouching is how long a provider's word counts, unless it renews it: who is
	// removed there is out by then.
	vouching = 24 * time.Hour
)

func newProvider(p Provider) (*provider, error) {
	if err := p.Check("oidc"); err != nil {
		return nil, err
	}
	if p.Name == "" {
		at, err := url.Parse(p.Issuer)
		if err != nil {
			return nil, err
		}
		p.Name = at.Host
	}
	if p.GroupsClaim == "" {
		p.GroupsClaim = "groups"
	}
	if p.Scopes == nil {
		p.Scopes = []string{"profile", "email"}
	}
	return &provider{Provider: p, client: &http.Client{Timeout: providerWait}}, nil
}

// config is the client of the provider, which sends people back to an address.
func (p *provider) config(ctx context.Context, back string) (*oauth2.Config, *oidc.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found == nil {
		found, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), p.client), p.Issuer)
		if err != nil {
			return nil, nil, problem.New(problem.NotReady, "the identity provider %s does not answer: %w", p.Name, err)
		}
		p.found = found
	}
	return &oauth2.Config{ClientID: p.ClientID, ClientSecret: p.ClientSecret, Endpoint: p.found.Endpoint(), RedirectURL: back, Scopes: append([]string{oidc.ScopeOpenID}, p.Scopes...)}, p.found, nil
}

// asked is what a provider was asked, to hold its answer against.
type asked struct {
	State, Nonce, Verifier, Back, Next string
}

// AskProvider returns the address at which the provider asks a person who it
// is. The person comes back to the address back, and is meant to go on to next.
func (s *SignIn) AskProvider(ctx context.Context, back, next string) (target, ceremony string, err error) {
	if s.provider == nil {
		return "", "", problem.New(problem.NotFound, "no identity provider is set up")
	}
	config, _, err := s.provider.config(ctx, back)
	if err != nil {
		return "", "", err
	}
	a := asked{State: newID(), Nonce: newID() + newID(), Verifier: oauth2.GenerateVerifier(), Back: back, Next: next}
	ceremony, err = s.begin(ctx, awaitsProvider, "", a)
	return config.AuthCodeURL(a.State, oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)), ceremony, err
}

// Vouched opens a session for whom the provider sent back.
func (s *SignIn) Vouched(ctx context.Context, ceremony string, answer url.Values, from access.Login) (cookie, next string, err error) {
	if err := s.Access.Patience(from.Remote); err != nil {
		return "", "", err
	}
	var a asked
	if _, err := s.resume(ctx, ceremony, awaitsProvider, true, &a); err != nil {
		return "", "", err
	}
	if subtle.ConstantTimeCompare([]byte(answer.Get("state")), []byte(a.State)) != 1 {
		return "", "", problem.New(problem.Denied, "the answer is not to what was asked; begin again")
	}
	if fault := answer.Get("error"); fault != "" {
		return "", "", problem.New(problem.Denied, "the identity provider refused: %.200s %.500s", fault, answer.Get("error_description"))
	}
	config, found, err := s.provider.config(ctx, a.Back)
	if err != nil {
		return "", "", err
	}
	ctx = oidc.ClientContext(ctx, s.provider.client)
	tokens, err := config.Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(a.Verifier))
	if err != nil {
		s.Access.Failed(from.Remote)
		return "", "", problem.New(problem.Denied, "the identity provider did not take its own code back: %w", err)
	}
	claims, err := s.claims(ctx, found, tokens, a.Nonce)
	if err != nil {
		s.Access.Failed(from.Remote)
		return "", "", err
	}
	if s.provider.RequireMFA && !claims.mfa() {
		return "", "", problem.New(problem.Denied, "the identity provider saw one factor only; sign in there with a second one")
	}
	account, err := s.Access.Vouch(ctx, access.Vouched{
		Subject: s.provider.Issuer + " " + claims.Subject, ID: claims.id(), Name: claims.Name, Email: claims.Email, Groups: claims.groups,
		Until: s.Now().Add(vouching), Refresh: s.sealRefresh(tokens.RefreshToken),
	})
	if err != nil {
		return "", "", err
	}
	cookie, err = s.enter(ctx, account, access.ByOIDC, claims.mfa(), from)
	return cookie, a.Next, err
}

// claims are what a provider says of a person.
type claims struct {
	Subject           string   `json:"sub"`
	Name              string   `json:"name"`
	Email             string   `json:"email"`
	EmailVerified     bool     `json:"email_verified"`
	PreferredUsername string   `json:"preferred_username"`
	AMR               []string `json:"amr"`
	ACR               string   `json:"acr"`
	groups            []string
}

// claims checks an ID token and reads it. Groups may be a list or one text.
func (s *SignIn) claims(ctx context.Context, found *oidc.Provider, tokens *oauth2.Token, nonce string) (c claims, err error) {
	raw, _ := tokens.Extra("id_token").(string)
	checked, err := found.VerifierContext(ctx, &oidc.Config{ClientID: s.provider.ClientID, Now: s.Now}).Verify(ctx, raw)
	if err != nil {
		return c, problem.New(problem.Denied, "the identity provider's word does not hold: %w", err)
	}
	if nonce != "" && subtle.ConstantTimeCompare([]byte(checked.Nonce), []byte(nonce)) != 1 {
		return c, problem.New(problem.Denied, "the identity provider's word is for another question")
	}
	var all map[string]json.RawMessage
	if err := errors.Join(checked.Claims(&c), checked.Claims(&all)); err != nil {
		return c, problem.New(problem.Denied, "the identity provider's word cannot be read: %w", err)
	}
	c.groups = groupsOf(all[s.provider.GroupsClaim])
	return c, s.complete(ctx, found, tokens, &c, all)
}

// complete adds what a provider tells of a person only where it is asked: the
// ID token of a code need not have more than who it is of.
func (s *SignIn) complete(ctx context.Context, found *oidc.Provider, tokens *oauth2.Token, c *claims, said map[string]json.RawMessage) error {
	if c.Email != "" && said[s.provider.GroupsClaim] != nil || found.UserInfoEndpoint() == "" || tokens.AccessToken == "" {
		return nil
	}
	info, err := found.UserInfo(ctx, oauth2.StaticTokenSource(tokens))
	if err != nil {
		return problem.New(problem.NotReady, "the identity provider %s does not tell who the person is: %w", s.provider.Name, err)
	}
	if info.Subject != c.Subject {
		return problem.New(problem.Denied, "the identity provider tells of another person than its word is of")
	}
	var more claims
	var all map[string]json.RawMessage
	if err := errors.Join(info.Claims(&more), info.Claims(&all)); err != nil {
		return problem.New(problem.Denied, "what the identity provider tells cannot be read: %w", err)
	}
	if c.Email == "" {
		c.Email, c.EmailVerified = more.Email, more.EmailVerified
	}
	c.Name, c.PreferredUsername = cmp.Or(c.Name, more.Name), cmp.Or(c.PreferredUsername, more.PreferredUsername)
	if said[s.provider.GroupsClaim] == nil {
		c.groups = groupsOf(all[s.provider.GroupsClaim])
	}
	return nil
}

// groupsOf reads a claim of groups: a list of texts, or one text.
func groupsOf(claim json.RawMessage) (groups []string) {
	var one string
	if json.Unmarshal(claim, &one) == nil && one != "" {
		groups = []string{one}
	} else if json.Unmarshal(claim, &groups) != nil {
		return nil
	}
	groups = slices.DeleteFunc(groups, func(g string) bool { return g == "" || len(g) > 200 })
	return groups[:min(len(groups), maxGroups)]
}

// mfa reports whether the provider saw a second factor (RFC 8176).
func (c claims) mfa() bool {
	return slices.ContainsFunc(c.AMR, func(method string) bool {
		return slices.Contains([]string{"mfa", "otp", "hwk", "swk", "sms", "fpt", "face", "iris"}, method)
	}) || strings.Contains(strings.ToLower(c.ACR), "mfa") || c.ACR == "phr" || c.ACR == "phrh"
}

// id is by what the person is to be known here: an address that the provider
// checked, or its name there.
func (c claims) id() string {
	id := c.PreferredUsername
	if c.EmailVerified && c.Email != "" {
		id = c.Email
	}
	if id == "" {
		id = c.Subject
	}
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("._@+-", r) {
			return r
		}
		return '-'
	}, strings.ToLower(id))
}

func (s *SignIn) sealRefresh(token string) string {
	if token == "" {
		return ""
	}
	return s.seal("refresh", []byte(token))
}

// Renew asks the provider to vouch again for people whose word it gave, and
// puts out those for whom it does not any more.
func (s *SignIn) Renew(ctx context.Context) error {
	if s.provider == nil {
		return nil
	}
	people, err := s.Access.Renewable(ctx, s.Now().Add(vouching/2))
	if err != nil {
		return err
	}
	var faults []error
	for _, p := range people {
		faults = append(faults, s.renew(ctx, p))
	}
	return errors.Join(faults...)
}

func (s *SignIn) renew(ctx context.Context, p access.Vouched) error {
	token, err := s.open("refresh", p.Refresh)
	if err != nil {
		return err
	}
	config, found, err := s.provider.config(ctx, "")
	if err != nil {
		return err
	}
	ctx = oidc.ClientContext(ctx, s.provider.client)
	tokens, err := config.TokenSource(ctx, &oauth2.Token{RefreshToken: string(token)}).Token()
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.ErrorCode == "invalid_grant" {
		return s.Access.PutOut(ctx, p.ID)
	}
	if err != nil {
		return err
	}
	if raw, given := tokens.Extra("id_token").(string); given && raw != "" {
		c, err := s.claims(ctx, found, tokens, "")
		if err != nil {
			return err
		}
		p.Groups = c.groups
	}
	p.Until, p.Refresh = s.Now().Add(vouching), s.sealRefresh(tokens.RefreshToken)
	_, err = s.Access.Vouch(ctx, p)
	return err
}
