package bus

import (
	"crypto/subtle"
	"crypto/tls"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Cluster makes an embedded server one of several that keep the same logs, each
// in a process of its own. The other servers are let in by certificate, and of
// clients only the process itself.
type Cluster struct {
	Name      string
	Listen    string   // host:port for the others
	Advertise string   // host:port by which the others reach it
	Servers   []string // all of them, this one too, host:port
	// TLS has the server's certificate, also for what it dials itself, and
	// refuses whoever is not one of the servers.
	TLS *tls.Config
}

func (c *Cluster) open(o *server.Options, own string) (err error) {
	// A server that takes no clients at all never begins to look for others.
	o.DontListen, o.Host, o.Port = false, "127.0.0.1", server.RANDOM_PORT
	o.CustomClientAuthentication = insider(own)
	if o.Cluster.Host, o.Cluster.Port, err = hostPort("cluster.nats.listen", c.Listen); err != nil {
		return err
	}
	required := c.TLS.Clone()
	required.ClientAuth = tls.RequireAndVerifyClientCert
	o.Cluster.Name, o.Cluster.Advertise = c.Name, c.Advertise
	o.Cluster.TLSConfig, o.Cluster.TLSTimeout = required, handshakeTimeout.Seconds()
	o.PingInterval, o.MaxPingsOut = pingEvery, maxPings
	for _, at := range c.Servers {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: at})
	}
	return nil
}

// insider lets the server's own process in, by a secret that never leaves it.
type insider string

// Check is called by the server for every client.
func (own insider) Check(c server.ClientAuthentication) bool {
	return c.Kind() == server.CLIENT && subtle.ConstantTimeCompare([]byte(c.GetOpts().Password), []byte(own)) == 1
}

// sight is what a server of a cluster sees of the others.
type sight struct {
	servers int          // that there are, this one too
	others  atomic.Int64 // that it is connected to
	losses  atomic.Uint64
	stop    chan struct{}
}

// lookEvery is how often a server looks whether it has the others. Who calls a
// process in vain gives it up after awayFor of package cluster, which is longer.
const lookEvery = 100 * time.Millisecond

// watch counts how often one of the others was lost.
func (s *sight) watch(connected func() int) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		now := int64(connected())
		if before := s.others.Swap(now); now < before {
			s.losses.Add(uint64(before - now))
		}
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
	}
}

// most reports whether the server is with most of them, which only one part of
// them can be.
func (s *sight) most() bool { return 2*(s.others.Load()+1) > int64(s.servers) }
