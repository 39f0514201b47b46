package bus

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Door lets processes elsewhere reach a server: peers as clients, and servers
// of the same link as its cluster.
type Door struct {
	Listen    string // host:port for peers
	Advertise string // host:port by which peers elsewhere reach it; empty is Listen
	Cluster   string // host:port for other servers; empty where the link has one
	Routes    []string
	// TLS has the server's certificate, also for what it dials itself, and the
	// authority of its peers.
	TLS *tls.Config
	// Peer says who a certificate, already held against the authority, is.
	Peer func(*x509.Certificate) (string, error)
}

func (d *Door) open(o *server.Options, own string, entered func(id uint64, serial string)) error {
	host, port, err := hostPort("link.listen", d.Listen)
	if err != nil {
		return err
	}
	o.DontListen, o.Host, o.Port = false, host, port
	o.ClientAdvertise = d.Advertise
	required := d.TLS.Clone()
	required.ClientAuth = tls.RequireAndVerifyClientCert
	peers := required.Clone()
	peers.VerifyConnection = nil // that is for servers; who a client is, the doorkeeper looks at
	o.TLSConfig, o.TLSHandshakeFirst, o.TLSTimeout = peers, true, handshakeTimeout.Seconds()
	guard := &doorkeeper{d, insider(own), entered}
	o.CustomClientAuthentication, o.CustomRouterAuthentication = guard, guard
	o.MaxConn, o.MaxSubs = maxPeers, maxPeerSubjects
	o.PingInterval, o.MaxPingsOut = pingEvery, maxPings
	o.AuthTimeout = handshakeTimeout.Seconds()
	if d.Cluster == "" {
		return nil
	}
	if o.Cluster.Host, o.Cluster.Port, err = hostPort("link.cluster", d.Cluster); err != nil {
		return err
	}
	o.Cluster.Name, o.Cluster.TLSConfig, o.Cluster.TLSTimeout = "link", required, handshakeTimeout.Seconds()
	for _, route := range d.Routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: route})
	}
	return nil
}

// The limits of a door.
const (
	handshakeTimeout = 5 * time.Second
	maxPeers         = 10_000
	maxPeerSubjects  = 10_000
	// A peer that stands still is off the link after as many pings: what is
	// asked of it goes to its other processes.
	pingEvery = 2 * time.Second
	maxPings  = 2
)

func hostPort(field, address string) (string, int, error) {
	host, text, err := net.SplitHostPort(address)
	port, wrong := strconv.Atoi(text)
	if err != nil || wrong != nil || port < 0 || port > 65535 {
		return "", 0, problem.New(problem.Invalid, "an address reads host:port, not %q", address).At(field)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// doorkeeper lets in whom a certificate names, each to its own subjects, and
// the server's own process by a secret that never leaves it.
type doorkeeper struct {
	door    *Door
	own     insider
	entered func(id uint64, serial string)
}

// Check is called by the server for every connection.
func (k *doorkeeper) Check(c server.ClientAuthentication) bool {
	state := c.GetTLSConnectionState()
	if state == nil {
		return k.own.Check(c)
	}
	if len(state.VerifiedChains) == 0 {
		return false
	}
	certificate := state.PeerCertificates[0]
	peer, err := k.door.Peer(certificate)
	if err != nil {
		return false
	}
	switch c.Kind() {
	case server.ROUTER:
		return link.HoldsServer(peer)
	case server.CLIENT:
		k.entered(c.GetID(), certificate.SerialNumber.Text(16))
		c.RegisterUser(&server.User{Username: peer, Permissions: permissions(peer), ConnectionDeadline: certificate.NotAfter})
		return true
	}
	return false
}

// enter notes whose certificate a connection came with, and forgets those that
// have left.
func (s *Server) enter(id uint64, serial string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.inside) > 2*maxPeers {
		for other := range s.inside {
			if s.ns.GetClient(other) == nil {
				delete(s.inside, other)
			}
		}
	}
	s.inside[id] = serial
}

// Cut ends the connections that came with a certificate.
func (s *Server) Cut(serial string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, other := range s.inside {
		if other != serial {
			continue
		}
		delete(s.inside, id)
		// One that has left already cannot be sent away.
		_ = s.ns.DisconnectClientByID(id)
	}
}

// Address is where the server listens for peers.
func (s *Server) Address() string {
	if at := s.ns.Addr(); at != nil {
		return at.String()
	}
	return ""
}

// ClusterAddress is where the server listens for others of the link.
func (s *Server) ClusterAddress() string {
	if at := s.ns.ClusterAddr(); at != nil {
		return at.String()
	}
	return ""
}

// Dialing is how a process reaches the link from outside.
type Dialing struct {
	Peer    string   // who it is
	Process string   // which one of that peer's
	Servers []string // host:port
	TLS     *tls.Config
	// Discovered is told of servers that are found on the way.
	Discovered func(servers []string)
	Logger     *slog.Logger
}

// Dial returns a connection at once, and keeps it up: while no server can be
// reached, calls fail as not ready.
func Dial(d Dialing) (*Conn, error) {
	servers := make([]string, len(d.Servers))
	for i, at := range d.Servers {
		servers[i] = "tls://" + at
	}
	logger := d.Logger.With("part", "link")
	nc, err := nats.Connect("", func(o *nats.Options) error { o.Servers = servers; return nil },
		nats.Name(d.Process), nats.CustomInboxPrefix(inboxOf(d.Peer)), nats.Secure(d.TLS), nats.TLSHandshakeFirst(),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(time.Second), nats.ReconnectJitter(0, time.Second), nats.ReconnectBufSize(-1),
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(maxPings), nats.Timeout(handshakeTimeout),
		nats.ConnectHandler(func(nc *nats.Conn) { logger.Info("on the link", "server", nc.ConnectedAddr()) }),
		nats.ReconnectHandler(func(nc *nats.Conn) { logger.Info("on the link again", "server", nc.ConnectedAddr()) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				logger.Warn("off the link; trying to get back", "error", err)
			}
		}),
		nats.DiscoveredServersHandler(func(nc *nats.Conn) {
			if d.Discovered != nil {
				d.Discovered(hostsOf(nc.Servers()))
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { logger.Warn("link", "error", err) }),
	)
	if err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	return &Conn{nc: nc, replicas: 1}, nil
}

func hostsOf(servers []string) []string {
	var hosts []string
	for _, s := range servers {
		if u, err := url.Parse(s); err == nil {
			hosts = append(hosts, u.Host)
		}
	}
	return hosts
}

// Connected reports whether a server can be reached just now.
func (c *Conn) Connected() bool { return c.nc.IsConnected() }

// Wait waits until the connection is up.
func (c *Conn) Wait(ctx context.Context) error {
	for !c.nc.IsConnected() {
		if c.nc.IsClosed() {
			return errors.New("the connection to the link is closed")
		}
		changed := c.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
		if c.nc.IsConnected() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
	return nil
}

// ownSecret is what the server's own process shows it.
func ownSecret() string { return rand.Text() + rand.Text() }
