// Package inbound says from which networks each of a process's doors may be
// reached. It is asked before TLS, so whoever comes from elsewhere learns
// nothing, and costs next to nothing.
package inbound

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/problem"
)

// Door is what a process is reached for.
type Door string

// The doors.
const (
	People  Door = "people"  // console and API
	Devices Door = "devices" // HTTPS of devices and back ends
	MQTT    Door = "mqtt"    // also over WebSocket
	AMQP    Door = "amqp"
	Metrics Door = "metrics" // what Prometheus scrapes
)

// Doors are all of them.
var Doors = []Door{People, Devices, MQTT, AMQP, Metrics}

// Lists are the networks that may use each door; one without a list is open to
// all.
type Lists map[Door][]netip.Prefix

// maxNetworks bounds the networks of one door.
const maxNetworks = 1000

// Parse reads the networks of doors: 10.1.0.0/16, 2001:db8::/32, or an address.
func Parse(from map[string][]string) (Lists, error) {
	lists := Lists{}
	for name, networks := range from {
		door := Door(name)
		if !slices.Contains(Doors, door) {
			return nil, problem.New(problem.Invalid, "there is no door %q; there are people, devices, mqtt, amqp and metrics", name)
		}
		if len(networks) == 0 || len(networks) > maxNetworks {
			return nil, problem.New(problem.Invalid, "name 1 to %d networks that may use the door %s, not %d; without a list it is open to all", maxNetworks, name, len(networks))
		}
		for _, text := range networks {
			network, err := parseNetwork(text)
			if err != nil {
				return nil, problem.Of(err).At(name)
			}
			lists[door] = append(lists[door], network)
		}
	}
	return lists, nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil || network.Addr().Is4In6() {
		return network, problem.New(problem.Invalid, "a network reads 10.1.0.0/16, 2001:db8::/32 or 10.1.2.3, not %q", text)
	}
	if network != network.Masked() {
		return network, problem.New(problem.Invalid, "%s names one address of a network; the network is %s, the address %s", text, network.Masked(), network.Addr())
	}
	return network, nil
}

// ParseFlags reads what a command line says: DOOR=NETWORK, and that again for
// each network more.
func ParseFlags(flags []string) (Lists, error) {
	from := map[string][]string{}
	for _, flag := range flags {
		door, network, ok := strings.Cut(flag, "=")
		if !ok {
			return nil, problem.New(problem.Invalid, "write DOOR=NETWORK, such as people=10.1.0.0/16, not %q", flag)
		}
		from[door] = append(from[door], network)
	}
	return Parse(from)
}

// Lets reports whether an address may use one of some doors.
func (l Lists) Lets(from netip.Addr, doors ...Door) bool {
	from = from.Unmap().WithZone("")
	for _, door := range doors {
		networks, limited := l[door]
		if !limited || slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(from) }) {
			return true
		}
	}
	return false
}

// LetsConn is Lets for the other end of a connection.
func (l Lists) LetsConn(nc net.Conn, doors ...Door) bool {
	if len(l) == 0 {
		return true
	}
	remote, ok := nc.RemoteAddr().(*net.TCPAddr)
	return ok && l.Lets(remote.AddrPort().Addr(), doors...)
}

// Listen closes the connections of a listener at once that come from where none
// of its doors may be used.
func (l Lists) Listen(listener net.Listener, doors ...Door) net.Listener {
	if len(l) == 0 {
		return listener
	}
	return &guarded{listener, l, doors}
}

type guarded struct {
	net.Listener
	lists Lists
	doors []Door
}

// Accept is net.Listener's.
func (g *guarded) Accept() (net.Conn, error) {
	for {
		nc, err := g.Listener.Accept()
		if err != nil || g.lists.LetsConn(nc, g.doors...) {
			return nc, err
		}
		_ = nc.Close() // that it could not be closed is no news
	}
}

// Handle serves a door that shares its listener with others: whoever may use
// those only gets the answer for what is not there.
func (l Lists) Handle(door Door, handler http.Handler) http.Handler {
	if _, limited := l[door]; !limited {
		return handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !l.Lets(from.Addr(), door) {
			http.NotFound(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	})
}
