package signin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/oauth2-proxy/mockoidc"
	"github.com/pquerna/otp/totp"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

// door is signing in over a real database, with a clock that the test moves.
type door struct {
	*SignIn
	t   *testing.T
	now time.Time
}

func newDoor(t *testing.T, p *Provider) *door {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	d := &door{t: t, now: time.Now()}
	clock := func() time.Time { return d.now }
	log := audit.NewLog(db, clock)
	if d.SignIn, err = New(Options{DB: db, Access: access.New(db, log, clock), Audit: log, Secret: make([]byte, 32), Now: clock, Provider: p}); err != nil {
		t.Fatal(err)
	}
	return d
}

var (
	boss = access.Actor{Name: "admin", Kind: access.Bearer, Rights: access.Rights{access.RightOf(access.Admin, access.Bounds{})}}
	here = access.Login{Remote: "192.0.2.1", Agent: "a test"}
)

const secretWords = "correct horse battery"

// hire makes an account with a password and returns its session.
func (d *door) hire(id string) access.Session {
	d.t.Helper()
	if _, err := d.Access.AddAccount(d.t.Context(), boss, access.NewAccount{ID: id, Kind: access.Human}); err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.Access.Bind(d.t.Context(), boss, access.Binding{Role: access.Operator, Account: id}); err != nil {
		d.t.Fatal(err)
	}
	code, _, err := d.Invite(d.t.Context(), boss, id)
	if err != nil {
		d.t.Fatal(err)
	}
	cookie, err := d.Accept(d.t.Context(), code, secretWords, here)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.Accept(d.t.Context(), code, secretWords, here); !problem.Is(err, problem.Unauthenticated) {
		d.t.Errorf("the invitation was taken up twice: %v", err)
	}
	return d.session(cookie)
}

func (d *door) session(cookie string) access.Session {
	d.t.Helper()
	s, err := d.Access.Session(d.t.Context(), cookie)
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

func (d *door) code(secret string) string {
	d.t.Helper()
	code, err := totp.GenerateCode(secret, d.now)
	if err != nil {
		d.t.Fatal(err)
	}
	return code
}

func TestAPasswordAndACode(t *testing.T) {
	d := newDoor(t, nil)
	s := d.hire("ann")
	if s.MFA || s.MaySomewhere(access.DeviceRead) {
		t.Errorf("without a second factor: %+v", s.Actor)
	}
	app, ceremony, err := d.BeginApp(t.Context(), s.Actor, "here")
	if err != nil || len(app.QR) == 0 {
		t.Fatal(err)
	}
	if _, err := d.ConfirmApp(t.Context(), s.Actor, ceremony, "000000"); !problem.Is(err, problem.Invalid) {
		t.Errorf("any code will do: %v", err)
	}
	recoveries, err := d.ConfirmApp(t.Context(), s.Actor, ceremony, d.code(app.Secret))
	if err != nil || len(recoveries) != 10 {
		t.Fatalf("%q, %v", recoveries, err)
	}
	enter := func(code string) (access.Session, error) {
		session, ceremony, err := d.Password(t.Context(), "ann", secretWords, here)
		if err != nil || session != "" {
			t.Fatalf("%q, %v: a second factor was not asked for", session, err)
		}
		cookie, err := d.Code(t.Context(), ceremony, code, here)
		if err != nil {
			return access.Session{}, err
		}
		if _, err := d.Code(t.Context(), ceremony, code, here); err == nil {
			t.Error("the ceremony went on after it was over")
		}
		return d.session(cookie), nil
	}
	if _, err := enter(d.code(app.Secret)); !problem.Is(err, problem.Unauthenticated) {
		t.Errorf("the code that confirmed the app was good again: %v", err)
	}
	d.now = d.now.Add(time.Minute)
	full, err := enter(d.code(app.Secret))
	if err != nil || !full.MFA || !full.MaySomewhere(access.DeviceWrite) {
		t.Fatalf("%+v, %v", full.Actor, err)
	}
	if _, err := enter(d.code(app.Secret)); !problem.Is(err, problem.Unauthenticated) {
		t.Errorf("a code was good twice: %v", err)
	}
	if _, err := enter(strings.ToUpper(recoveries[3])); err != nil {
		t.Error(err)
	}
	if _, err := enter(recoveries[3]); !problem.Is(err, problem.Unauthenticated) {
		t.Errorf("a recovery code was good twice: %v", err)
	}
	all, err := d.Credentials(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Kind == totpKind {
			if err := d.Remove(t.Context(), full.Actor, c.ID); !problem.Is(err, problem.Conflict) {
				t.Errorf("the last second factor went: %v", err)
			}
		}
		if c.Kind == totpKind && strings.Contains(c.secret, app.Secret) || c.Kind == password && !strings.HasPrefix(c.secret, "$argon2id$") {
			t.Errorf("a secret is kept as it is: %+v", c)
		}
	}
	half := s.Actor
	half.MFA = false
	if _, _, err := d.BeginApp(t.Context(), half, "here"); !problem.Is(err, problem.Denied) {
		t.Errorf("who knows the password alone adds another second factor: %v", err)
	}
}

func TestWrongPasswordsHaveToWait(t *testing.T) {
	d := newDoor(t, nil)
	d.hire("ann")
	for _, c := range []struct{ account, password string }{{"ann", "wrong"}, {"bob", secretWords}, {"", ""}, {"ann", strings.Repeat("x", 1000)}, {strings.Repeat("x", 1000), "x"}} {
		if _, _, err := d.Password(t.Context(), c.account, c.password, here); !problem.Is(err, problem.Unauthenticated) {
			t.Errorf("%.20s %.20s: %v", c.account, c.password, err)
		}
	}
	busy := false
	for i := range 40 {
		elsewhere := access.Login{Remote: "192.0.2." + string(rune('a'+i))}
		_, _, err := d.Password(t.Context(), "ann", "guess", elsewhere)
		busy = busy || problem.Is(err, problem.Busy)
	}
	if !busy {
		t.Error("an account may be guessed at from everywhere")
	}
	if _, err := d.Accept(t.Context(), "x", "short", here); !problem.Is(err, problem.Invalid) {
		t.Errorf("a short password: %v", err)
	}
}

// browse goes where a browser would be sent, and returns what comes back.
func browse(t *testing.T, target string) url.Values {
	t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(target)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	back, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || back.Query().Get("code") == "" {
		t.Fatalf("%s: %d %s", target, resp.StatusCode, resp.Header)
	}
	return back.Query()
}

func TestAnIdentityProviderVouches(t *testing.T) {
	idp, err := mockoidc.Run()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := idp.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	idp.RefreshTTL = 48 * time.Hour
	d := newDoor(t, &Provider{Issuer: idp.Issuer(), ClientID: idp.Config().ClientID, ClientSecret: idp.Config().ClientSecret, Scopes: []string{"profile", "email", "groups"}})
	if _, err := d.Access.Bind(t.Context(), boss, access.Binding{Role: access.Operator, Group: "ops"}); err != nil {
		t.Fatal(err)
	}
	const back = "http://console.example/login/provider/back"
	come := func(groups ...string) (access.Session, string, error) {
		idp.QueueUser(&mockoidc.MockUser{Subject: "1", Email: "Ann@Example.com", EmailVerified: true, PreferredUsername: "ann", Groups: groups})
		target, ceremony, err := d.AskProvider(t.Context(), back, "/devices")
		if err != nil {
			t.Fatal(err)
		}
		asked, err := url.Parse(target)
		if q := asked.Query(); err != nil || q.Get("code_challenge_method") != "S256" || q.Get("nonce") == "" || q.Get("state") == "" {
			t.Errorf("the provider is asked %s", target)
		}
		answer := browse(t, target)
		forged := url.Values{"code": answer["code"], "state": {"other"}}
		if _, _, err := d.Vouched(t.Context(), "other", answer, here); !problem.Is(err, problem.Unauthenticated) {
			t.Errorf("another browser came back: %v", err)
		}
		_, other, err := d.AskProvider(t.Context(), back, "/")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := d.Vouched(t.Context(), other, forged, here); !problem.Is(err, problem.Denied) {
			t.Errorf("a forged state: %v", err)
		}
		cookie, next, err := d.Vouched(t.Context(), ceremony, answer, here)
		if err != nil {
			return access.Session{}, next, err
		}
		return d.session(cookie), next, nil
	}
	s, next, err := come("ops", "others")
	if err != nil || next != "/devices" || s.Name != "ann@example.com" || !s.May(access.DeviceWrite, access.Place{}) || s.About.Method != access.ByOIDC {
		t.Fatalf("%+v, %s, %v", s.Actor, next, err)
	}
	s, _, err = come("others")
	if err != nil || s.MaySomewhere(access.DeviceRead) {
		t.Errorf("out of the group, and still %+v, %v", s.Actor.Rights, err)
	}
	if _, _, err := d.Invite(t.Context(), boss, "ann@example.com"); !problem.Is(err, problem.Conflict) {
		t.Errorf("a password for whom the provider knows: %v", err)
	}
	d.now = d.now.Add(13 * time.Hour)
	idp.FastForward(13 * time.Hour)
	if err := d.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	account, err := d.Access.Account(t.Context(), "ann@example.com")
	if err != nil || account.VouchedUntil == nil || account.VouchedUntil.Before(d.now.Add(vouching-time.Minute)) {
		t.Errorf("the provider's word was not renewed: %+v, %v", account, err)
	}
	_, secret, err := d.Access.Create(t.Context(), boss, access.NewToken{Name: "laptop", Account: "ann@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	d.now = d.now.Add(25 * time.Hour) // nobody renewed it
	if _, err := d.Access.Authenticate(t.Context(), secret, "here"); !problem.Is(err, problem.Unauthenticated) {
		t.Errorf("a leaver's token works after a day: %v", err)
	}
}

func TestALeaverIsPutOut(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		at := "http://" + r.Host
		if _, err := w.Write([]byte(`{"issuer":"` + at + `","authorization_endpoint":"` + at + `/a","token_endpoint":"` + at + `/token","jwks_uri":"` + at + `/k"}`)); err != nil {
			t.Error(err)
		}
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		if _, err := w.Write([]byte(`{"error":"invalid_grant"}`)); err != nil {
			t.Error(err)
		}
	})
	idp := httptest.NewServer(mux)
	defer idp.Close()
	d := newDoor(t, &Provider{Issuer: idp.URL, ClientID: "slipway"})
	id, err := d.Access.Vouch(t.Context(), access.Vouched{Subject: "x 1", ID: "ann", Until: d.now.Add(time.Hour), Refresh: d.sealRefresh("token")})
	if err != nil {
		t.Fatal(err)
	}
	cookie, err := d.enter(t.Context(), id, access.ByOIDC, true, here)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Access.Session(t.Context(), cookie); !problem.Is(err, problem.Unauthenticated) {
		t.Errorf("the provider vouches no more, and the session goes on: %v", err)
	}
}

// FuzzWhatPeopleAndProvidersSend reads anything without falling over.
func FuzzWhatPeopleAndProvidersSend(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$AAAA$AAAA", `["a","b"]`, "123456")
	f.Add("", `"ops"`, "")
	s := &SignIn{hashing: make(chan struct{}, 1)}
	f.Fuzz(func(t *testing.T, kept, claim, code string) {
		if strings.Contains(kept, "$v=19$m=") && len(kept) < 40 { // cheap ones only
			if _, err := s.matches(context.Background(), "x", kept); err != nil && !problem.Is(err, problem.Internal) {
				t.Errorf("%q: %v", kept, err)
			}
		}
		if groups := groupsOf([]byte(claim)); len(groups) > maxGroups {
			t.Errorf("%d groups", len(groups))
		}
		if _, right := stepOf("JBSWY3DPEHPK3PXP", code, time.Unix(0, 0)); right && len(code) != codeDigits {
			t.Errorf("%q is a code", code)
		}
		if id := (claims{PreferredUsername: claim, Subject: "s"}).id(); strings.ContainsAny(id, " \n\"<>") {
			t.Errorf("%q is an id", id)
		}
	})
}
