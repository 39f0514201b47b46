package bus_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/ca"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/peer"
	"github.com/slipway/slipway/internal/problem"
)

// site is an authority and what its peers show one another.
type site struct{ *ca.Authority }

func newSite(t *testing.T) site {
	t.Helper()
	authority, err := ca.Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	authority.Name("127.0.0.1")
	return site{authority}
}

func (s site) tls(name string) *tls.Config {
	return peer.LinkTLS(s.Pool(), s.Own(name, peer.URI(name)))
}

func (s site) door(name string, routes ...string) *bus.Door {
	return &bus.Door{Listen: "127.0.0.1:0", Cluster: "127.0.0.1:0", Routes: routes, TLS: s.tls(name), Peer: func(c *x509.Certificate) (string, error) { return peer.Name(c) }}
}

func (s site) serve(t *testing.T, name string, routes ...string) *bus.Server {
	t.Helper()
	server, err := bus.Start(t.Context(), bus.Options{Name: name, Door: s.door(name, routes...), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

func (s site) dial(t *testing.T, name string, config *tls.Config, servers ...string) *bus.Conn {
	t.Helper()
	conn, err := bus.Dial(bus.Dialing{Peer: name, Process: name, Servers: servers, TLS: config, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

func within(t *testing.T, conn *bus.Conn, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return conn.Wait(ctx)
}

func (s site) peer(t *testing.T, name string, servers ...string) *bus.Conn {
	t.Helper()
	conn := s.dial(t, name, s.tls(name), servers...)
	if err := within(t, conn, 10*time.Second); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return conn
}

func TestPeersSpeakOnlyAsThemselves(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.serve(t, link.ControlPeer)
	control, err := server.Connect(link.ControlPeer)
	if err != nil {
		t.Fatal(err)
	}
	one, two := s.peer(t, "stamp.one", server.Address()), s.peer(t, "stamp.two", server.Address())
	provisioning := s.peer(t, link.ProvisioningPeer, server.Address())
	ask := link.Call[question, question]{Name: "identity.put"}
	echo := func(_ context.Context, q question) (question, error) { return q, nil }
	answer := func(c *bus.Conn, name string) {
		t.Helper()
		if err := bus.Answer(c, name, ask, echo); err != nil {
			t.Fatal(err)
		}
	}
	answer(one, "stamp.one")
	for name, conn := range map[string]*bus.Conn{"control": control, "provisioning": provisioning} {
		if got, err := bus.Ask(t.Context(), conn, "stamp.one", ask, question{7}); err != nil || got.N != 7 {
			t.Errorf("%s asks: %v, %v", name, got, err)
		}
	}
	// A stamp may fetch from control what its devices are to run; provisioning,
	// which has none, may not.
	for _, name := range []string{link.ArtifactRead.Name, link.MetadataRead.Name} {
		fetch := link.Call[question, question]{Name: name}
		if err := bus.Answer(control, link.ControlPeer, fetch, echo); err != nil {
			t.Fatal(err)
		}
		if got, err := bus.Ask(t.Context(), one, link.ControlPeer, fetch, question{7}); err != nil || got.N != 7 {
			t.Errorf("a stamp asks %s: %v, %v", name, got, err)
		}
		hasty, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if _, err := bus.Ask(hasty, provisioning, link.ControlPeer, fetch, question{1}); !problem.Is(err, problem.TimedOut) && !problem.Is(err, problem.NotReady) {
			t.Errorf("provisioning asked %s: %v", name, err)
		}
		cancel()
	}
	// Neither may another stamp ask, nor answer in its place, nor tell what is
	// observed of it.
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := bus.Ask(short, two, "stamp.one", ask, question{1}); !problem.Is(err, problem.TimedOut) && !problem.Is(err, problem.NotReady) {
		t.Errorf("a stamp asked another: %v", err)
	}
	answer(two, "stamp.three")
	if _, err := bus.Ask(t.Context(), control, "stamp.three", ask, question{1}); !problem.Is(err, problem.NotReady) {
		t.Errorf("a stamp answered for another: %v", err)
	}
	heard := make(chan string, 10)
	if err := bus.Hear(control, link.ObservedSubject("stamp.*"), func(subject string, _ question) { heard <- subject }); err != nil {
		t.Fatal(err)
	}
	for _, about := range []string{"stamp.one", "stamp.two"} {
		if err := bus.Tell(two, link.ObservedSubject(about), question{1}); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-heard; got != "observed.stamp.two" {
		t.Errorf("heard %s", got)
	}
}

func TestFeedsCrossTheLink(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.serve(t, link.ControlPeer)
	control, err := server.Connect(link.ControlPeer)
	if err != nil {
		t.Fatal(err)
	}
	stamp := s.peer(t, "stamp.one", server.Address())
	numbers := link.Feed[question, question]{Name: "numbers"}
	if err := bus.AnswerFeed(stamp, "stamp.one", numbers, func(_ context.Context, q question, send func(question) error) error {
		for i := range q.N {
			if err := send(question{i}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	const many = 5000 // several times what may be under way
	seen := 0
	err = bus.Follow(t.Context(), control, "stamp.one", numbers, question{many}, func(q question) error {
		if q.N != seen {
			t.Fatalf("%d instead of %d", q.N, seen)
		}
		seen++
		return nil
	})
	if err != nil || seen != many {
		t.Errorf("%d of %d: %v", seen, many, err)
	}
}

func TestOnlyPeersAreLetIn(t *testing.T) {
	t.Parallel()
	s, other := newSite(t), newSite(t)
	server := s.serve(t, link.ControlPeer)
	nobody := s.tls("stamp.one")
	nobody.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	foreign := s.tls("stamp.one")
	foreign.GetClientCertificate = other.tls("stamp.one").GetClientCertificate
	unnamed := s.tls("stamp.one")
	unnamed.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.GetCertificate(nil) }
	for name, config := range map[string]*tls.Config{"no certificate": nobody, "another authority's": foreign, "one of a server": unnamed} {
		if err := within(t, s.dial(t, "stamp.one", config, server.Address()), 300*time.Millisecond); err == nil {
			t.Errorf("let in with %s", name)
		}
	}
	// A stamp cannot pose as a server of the link, nor join it as one.
	posing := s.serve(t, "stamp.one")
	if err := within(t, s.dial(t, link.ProvisioningPeer, s.tls(link.ProvisioningPeer), posing.Address()), 300*time.Millisecond); err == nil {
		t.Error("a stamp was taken for a server of the link")
	}
}

func TestTheLinkOutlivesControl(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	control := s.serve(t, link.ControlPeer)
	second := s.serve(t, link.ProvisioningPeer, control.ClusterAddress())
	provisioning, err := second.Connect(link.ProvisioningPeer)
	if err != nil {
		t.Fatal(err)
	}
	stamp := s.peer(t, "stamp.one", control.Address(), second.Address())
	put := link.Call[question, question]{Name: link.IdentityPut.Name}
	if err := bus.Answer(stamp, "stamp.one", put, func(_ context.Context, q question) (question, error) { return q, nil }); err != nil {
		t.Fatal(err)
	}
	reach := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for {
			// What was under way through a server that dies is lost with it.
			short, stop := context.WithTimeout(ctx, time.Second)
			_, err := bus.Ask(short, provisioning, "stamp.one", put, question{1})
			stop()
			if !problem.Is(err, problem.NotReady) && !problem.Is(err, problem.TimedOut) || ctx.Err() != nil {
				return err
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	if err := reach(); err != nil {
		t.Fatalf("across two servers: %v", err)
	}
	control.Stop()
	if err := reach(); err != nil {
		t.Fatalf("without control: %v", err)
	}
}
