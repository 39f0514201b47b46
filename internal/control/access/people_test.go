package access

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

// office is access over a real database, with a clock that the test moves.
type office struct {
	*Access
	t   *testing.T
	now time.Time
}

func newOffice(t *testing.T) *office {
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
	o := &office{t: t, now: time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return o.now }
	o.Access = New(db, audit.NewLog(db, clock), clock)
	return o
}

var boss = Actor{Name: "admin", Kind: Bearer, Rights: Rights{RightOf(Admin, Bounds{})}}

func (o *office) add(kind Kind, id, sponsor string, roles ...Binding) {
	o.t.Helper()
	if _, err := o.AddAccount(o.t.Context(), boss, NewAccount{ID: id, Kind: kind, Sponsor: sponsor}); err != nil {
		o.t.Fatal(err)
	}
	for _, b := range roles {
		b.Account = id
		if _, err := o.Bind(o.t.Context(), boss, b); err != nil {
			o.t.Fatal(err)
		}
	}
}

func (o *office) token(as Actor, want NewToken) (id, secret string) {
	o.t.Helper()
	made, secret, err := o.Create(o.t.Context(), as, want)
	if err != nil {
		o.t.Fatal(err)
	}
	return made.ID, secret
}

func (o *office) bearer(secret string) Actor {
	o.t.Helper()
	who, err := o.Authenticate(o.t.Context(), secret, "here")
	if err != nil {
		o.t.Fatal(err)
	}
	return who
}

// session opens one and returns its cookie.
func (o *office) session(account, method string, mfa bool) (cookie string) {
	o.t.Helper()
	err := o.db.Commit(o.t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
		cookie, err = o.Open(ctx, tx, Login{Account: account, Method: method, MFA: mfa, Remote: "here"}, account)
		return err
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return cookie
}

func TestTokensNeverExceedTheirOwner(t *testing.T) {
	o := newOffice(t)
	o.add(Human, "ann", "", Binding{Role: Operator, Bounds: Bounds{Environments: []string{"test"}}})
	test, prod := Place{Environment: "test"}, Place{Environment: "prod"}
	_, whole := o.token(boss, NewToken{Name: "laptop", Account: "ann"})
	_, admin := o.token(boss, NewToken{Name: "as if admin", Account: "ann", Role: Admin})
	_, viewer := o.token(boss, NewToken{Name: "looks", Account: "ann", Role: Viewer})
	for secret, want := range map[string][3]bool{whole: {true, true, false}, admin: {true, true, false}, viewer: {true, false, false}} {
		who := o.bearer(secret)
		if who.Name != "ann" || who.Kind != Human || who.Who() != "ann" {
			t.Errorf("the bearer is %+v", who)
		}
		if got := [3]bool{who.May(DeviceRead, test), who.May(DeviceWrite, test), who.May(DeviceRead, prod)}; got != want {
			t.Errorf("%s may %v, want %v", who.TokenID, got, want)
		}
	}
	if _, _, err := o.Create(t.Context(), o.bearer(viewer), NewToken{Name: "more"}); !problem.Is(err, problem.Denied) {
		t.Errorf("a confined token made another: %v", err)
	}
	made, _, err := o.Create(t.Context(), o.bearer(whole), NewToken{Name: "phone"})
	if err != nil || made.Account != "ann" {
		t.Errorf("what ann makes is of %q: %v", made.Account, err)
	}
	if _, _, err := o.Create(t.Context(), boss, NewToken{Name: "ann"}); !problem.Is(err, problem.Conflict) {
		t.Errorf("a token that passes for ann: %v", err)
	}
	bindings, err := o.Bindings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Bootstrap(t.Context()); err != nil { // there are tokens already, so it makes none
		t.Fatal(err)
	}
	o.token(boss, NewToken{Name: "root"})
	if err := o.Unbind(t.Context(), boss, bindings[0].ID); err != nil {
		t.Fatal(err)
	}
	if o.bearer(whole).May(DeviceRead, test) {
		t.Error("the role was taken back, and the token did not notice")
	}
}

func TestAProgramStopsWithItsSponsor(t *testing.T) {
	o := newOffice(t)
	o.token(boss, NewToken{Name: "root"})
	o.add(Human, "ann", "")
	o.add(Human, "bob", "")
	o.add(Service, "ci", "ann", Binding{Role: Developer})
	_, secret := o.token(boss, NewToken{Name: "ci", Account: "ci"})
	if who := o.bearer(secret); who.Name != "ci" || who.Who() != "ann" || who.Kind != Service || !who.May(ReleaseWrite, Place{}) || who.May(ReleaseApprove, Place{}) {
		t.Errorf("the bearer is %+v", who)
	}
	if _, err := o.SetDisabled(t.Context(), boss, "ann", true); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Authenticate(t.Context(), secret, "here"); !problem.Is(err, problem.Unauthenticated) || !strings.Contains(err.Error(), "another sponsor") {
		t.Errorf("ann is gone, and ci goes on: %v", err)
	}
	if err := o.RemoveAccount(t.Context(), boss, "ann"); !problem.Is(err, problem.Conflict) {
		t.Errorf("ann answers for ci: %v", err)
	}
	if _, err := o.SetSponsor(t.Context(), boss, "ci", "bob"); err != nil {
		t.Fatal(err)
	}
	if who := o.bearer(secret); who.Who() != "bob" {
		t.Errorf("bob answers for it now, not %s", who.Who())
	}
	for _, bad := range []NewAccount{{ID: "x", Kind: Agent}, {ID: "x", Kind: Agent, Sponsor: "ci"}, {ID: "x", Kind: Agent, Sponsor: "ann"}, {ID: "X", Kind: Human}, {ID: "x", Kind: Human, Sponsor: "bob"}, {ID: "x", Kind: Bearer}} {
		if _, err := o.AddAccount(t.Context(), boss, bad); !problem.Is(err, problem.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestSessionsAreSeenAndEnded(t *testing.T) {
	o := newOffice(t)
	o.add(Human, "ann", "", Binding{Role: Admin})
	half, full := o.session("ann", ByPassword, false), o.session("ann", ByPassword, true)
	one, err := o.Session(t.Context(), half)
	if err != nil || one.MaySomewhere(DeviceRead) || one.Name != "ann" {
		t.Errorf("without a second factor ann may something: %+v, %v", one.Actor, err)
	}
	if _, _, err := o.Create(t.Context(), one.Actor, NewToken{Name: "around it"}); !problem.Is(err, problem.Denied) {
		t.Errorf("and made a token: %v", err)
	}
	two, err := o.Session(t.Context(), full)
	if err != nil || !two.May(AccessAdmin, Place{}) || !two.MFA {
		t.Errorf("%+v, %v", two.Actor, err)
	}
	o.now = o.now.Add(10 * time.Minute)
	if _, err := o.Session(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	all, err := o.Sessions(t.Context(), "ann")
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, s := range all {
		if seen := s.SeenAt.Equal(o.now); seen != (s.ID == two.About.ID) {
			t.Errorf("%s was seen at %s", s.ID, s.SeenAt)
		}
	}
	if err := o.EndSession(t.Context(), two.Actor, one.About.ID, "bob"); !problem.Is(err, problem.NotFound) {
		t.Errorf("bob ended ann's session: %v", err)
	}
	if err := o.EndSession(t.Context(), two.Actor, one.About.ID, "ann"); err != nil {
		t.Error(err)
	}
	if _, err := o.Session(t.Context(), half); !problem.Is(err, problem.Unauthenticated) {
		t.Errorf("it was ended: %v", err)
	}
	o.now = o.now.Add(sessionLife)
	if _, err := o.Session(t.Context(), full); !problem.Is(err, problem.Unauthenticated) {
		t.Errorf("it has lasted long enough: %v", err)
	}
}

func TestSomebodyStaysAdmin(t *testing.T) {
	o := newOffice(t)
	id, _ := o.token(boss, NewToken{Name: "root"})
	o.add(Human, "ann", "", Binding{Role: Admin})
	if err := o.Revoke(t.Context(), boss, id); !problem.Is(err, problem.Conflict) {
		t.Fatalf("ann cannot sign in yet, and the last token went: %v", err)
	}
	err := o.db.Commit(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO credential (id, account, kind, name, secret, created_at) VALUES ('c', 'ann', 'password', '', 'x', 0)")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Revoke(t.Context(), boss, id); err != nil {
		t.Errorf("ann is admin: %v", err)
	}
	bindings, err := o.Bindings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, disabled := o.SetDisabled(t.Context(), boss, "ann", true)
	for what, err := range map[string]error{"disabled": disabled, "without the role": o.Unbind(t.Context(), boss, bindings[0].ID), "gone": o.RemoveAccount(t.Context(), boss, "ann")} {
		if !problem.Is(err, problem.Conflict) {
			t.Errorf("the last admin is %s: %v", what, err)
		}
	}
}

func TestUnusedRights(t *testing.T) {
	o := newOffice(t)
	o.add(Human, "ann", "", Binding{Role: Approver}, Binding{Role: Auditor})
	who := Actor{Name: "ann", Rights: Rights{RightOf(Approver, Bounds{})}}
	o.now = o.now.Add(100 * 24 * time.Hour)
	for _, p := range PermissionsOf(Approver) {
		if err := o.Check(t.Context(), who, p, Anywhere); err != nil {
			t.Fatal(err)
		}
	}
	o.add(Human, "new", "", Binding{Role: Admin})
	found, err := o.UnusedRights(t.Context(), 90)
	if err != nil || len(found) != 1 || found[0].Binding.Role != Auditor || found[0].Whole || len(found[0].Unused) == 0 {
		t.Fatalf("%+v, %v", found, err)
	}
	o.now = o.now.Add(91 * 24 * time.Hour)
	found, err = o.UnusedRights(t.Context(), 90)
	if err != nil || len(found) != 3 || !found[0].Whole {
		t.Errorf("%+v, %v", found, err)
	}
}
