package membership_test

import (
	"context"
	"crypto/x509"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/ca"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/membership"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/peer"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

// rig is a membership with a clock that tests move.
type rig struct {
	*membership.Membership
	t    *testing.T
	open func() *membership.Membership

	mu  sync.Mutex
	now time.Time
}

var somebody = access.Actor{Name: "ana"}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, now: time.Now().UTC().Truncate(time.Second)}
	clock := func() time.Time { r.mu.Lock(); defer r.mu.Unlock(); return r.now }
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	authority, err := ca.Open(t.TempDir(), clock)
	if err != nil {
		t.Fatal(err)
	}
	r.open = func() *membership.Membership {
		m, err := membership.Open(t.Context(), membership.Options{
			DB: db, Audit: audit.NewLog(db, clock), Authority: authority, URI: peer.URI, Name: peer.Name,
			Servers: []string{"control.example.com:7422"}, Own: []string{"control.example.com"}, Now: clock, Cut: func(string) {},
			Raise: func(context.Context, *sqldb.Tx) error { return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	r.Membership = r.open()
	return r
}

func (r *rig) pass(d time.Duration) { r.mu.Lock(); defer r.mu.Unlock(); r.now = r.now.Add(d) }

func (r *rig) token(peer string) string {
	r.t.Helper()
	token, err := r.NewToken(r.t.Context(), somebody, peer, 1, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	return token.Token
}

func (r *rig) join(token string, hosts ...string) (link.Joined, error) {
	r.t.Helper()
	request, err := peer.NewRequest()
	if err != nil {
		r.t.Fatal(err)
	}
	return r.Join(r.t.Context(), link.Join{Token: token, Hosts: hosts, CSR: request.CSR})
}

func (r *rig) joined(peer string, hosts ...string) *x509.Certificate {
	r.t.Helper()
	joined, err := r.join(r.token(peer), hosts...)
	if err != nil {
		r.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(joined.Certificate)
	if err != nil {
		r.t.Fatal(err)
	}
	return certificate
}

func TestATokenLetsOneProcessJoin(t *testing.T) {
	r := newRig(t)
	token := r.token("stamp.one")
	request, err := peer.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	req := link.Join{Token: token, Hosts: []string{"one.example.com"}, CSR: request.CSR}
	for range 2 { // the first answer may be lost
		joined, err := r.Join(t.Context(), req)
		if err != nil || joined.Peer != "stamp.one" || len(joined.Servers) != 1 {
			t.Fatalf("%+v, %v", joined, err)
		}
	}
	if _, err := r.join(token); !problem.Is(err, problem.Denied) {
		t.Errorf("another process joined with it: %v", err)
	}
	several, err := r.NewToken(t.Context(), somebody, "stamp.one", 2, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, true, false} {
		if _, err := r.join(several.Token); (err == nil) != want {
			t.Errorf("process %d joined by a token for two: %v", i, err)
		}
	}
	for _, wrong := range []string{"", "slj_guess.x", strings.Repeat("x", 5000)} {
		if _, err := r.join(wrong); !problem.Is(err, problem.Unauthenticated) {
			t.Errorf("%.20q: %v", wrong, err)
		}
	}
	late := r.token("stamp.two")
	r.pass(membership.DefaultLife)
	if _, err := r.join(late); !problem.Is(err, problem.Unauthenticated) {
		t.Errorf("joined with an expired token: %v", err)
	}
	for _, name := range []string{"control", "stamp.", "stamp.A", "stamp.one.two", "everybody"} {
		if _, err := r.NewToken(t.Context(), somebody, name, 1, 0); !problem.Is(err, problem.Invalid) {
			t.Errorf("a token for %q: %v", name, err)
		}
	}
}

func TestACertificateIsGoodUntilItIsRevoked(t *testing.T) {
	r := newRig(t)
	certificate := r.joined("stamp.one", "one.example.com")
	if name, err := r.Admit(certificate); err != nil || name != "stamp.one" {
		t.Errorf("%s, %v", name, err)
	}
	request, err := peer.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Renew(t.Context(), certificate, link.Join{Hosts: []string{"one.example.com", "uno.example.com"}, CSR: request.CSR}); err != nil {
		t.Fatal(err)
	}
	if err := r.Revoke(t.Context(), somebody, certificate.SerialNumber.Text(16)); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*membership.Membership{r.Membership, r.open()} { // also after a restart
		if _, err := m.Admit(certificate); !problem.Is(err, problem.Denied) {
			t.Errorf("admitted though revoked: %v", err)
		}
		if _, err := m.Renew(t.Context(), certificate, link.Join{CSR: request.CSR}); !problem.Is(err, problem.Denied) {
			t.Errorf("renewed though revoked: %v", err)
		}
	}
	if err := r.Revoke(t.Context(), somebody, "12"); !problem.Is(err, problem.NotFound) {
		t.Errorf("revoked nothing: %v", err)
	}
	other := newRig(t).joined("stamp.one")
	if _, err := r.Admit(other); !problem.Is(err, problem.Unauthenticated) {
		t.Errorf("admitted from another installation: %v", err)
	}
	r.pass(91 * 24 * time.Hour)
	if all, err := r.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("after their time there are %v, %v", all, err)
	}
}

func TestAHostBelongsToOnePeer(t *testing.T) {
	r := newRig(t)
	one := r.joined("stamp.one", "hub.example.com", "127.0.0.1")
	r.joined("stamp.one", "hub.example.com") // a second process of it
	for host, kind := range map[string]problem.Kind{"HUB.example.com": problem.Conflict, "control.example.com": problem.Conflict, "not a host": problem.Invalid, "a..b": problem.Invalid} {
		if _, err := r.join(r.token("stamp.two"), host); !problem.Is(err, kind) {
			t.Errorf("%q: %v", host, err)
		}
	}
	r.joined("stamp.two", "127.0.0.1")
	all, err := r.List(t.Context())
	if err != nil || len(all) != 3 {
		t.Fatalf("%v, %v", all, err)
	}
	for _, c := range all {
		if c.Peer == "stamp.one" {
			if err := r.Revoke(t.Context(), somebody, c.Serial); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.joined("stamp.two", "hub.example.com")
	if err := one.VerifyHostname("hub.example.com"); err != nil {
		t.Error(err)
	}
}
