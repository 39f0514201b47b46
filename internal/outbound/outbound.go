// Package outbound guards the connections that Slipway opens because somebody
// declared where to: routes, webhooks. A name may lead anywhere, so it is the
// address it resolves to that counts, at the moment of connecting: addresses
// of this machine and of private networks are refused unless they are allowed.
package outbound

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// Guard decides which addresses may be connected to.
type Guard struct {
	allowed []netip.Prefix
	closed  bool
}

// Closed is a guard that lets nothing out.
func Closed() *Guard { return &Guard{closed: true} }

// New returns a guard that lets connections out to public addresses, and to
// those in the networks allowed, such as 10.1.0.0/16.
func New(allowed []string) (*Guard, error) {
	g := &Guard{}
	for _, text := range allowed {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, notAddr := netip.ParseAddr(text)
			if notAddr != nil {
				return nil, problem.New(problem.Invalid, "a network reads 10.1.0.0/16 or 10.1.2.3, not %q", text)
			}
			prefix = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
		}
		g.allowed = append(g.allowed, prefix.Masked())
	}
	return g, nil
}

// reserved are networks that are neither private nor public in the sense of
// net/netip, but lead inside all the same.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),   // carrier-grade NAT, RFC 6598
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments, RFC 6890
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarking, RFC 2544
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, and broadcast
	netip.MustParsePrefix("64:ff9b::/96"),    // IPv4 behind NAT64, RFC 6052
	netip.MustParsePrefix("64:ff9b:1::/48"),  // the same, local, RFC 8215
	netip.MustParsePrefix("2002::/16"),       // IPv4 behind 6to4
	netip.MustParsePrefix("2001::/32"),       // Teredo
	netip.MustParsePrefix("fec0::/10"),       // site-local
	netip.MustParsePrefix("::ffff:0:0:0/96"), // IPv4-translated
}

// Check refuses an address that may not be connected to.
func (g *Guard) Check(addr netip.Addr) error {
	if g.closed {
		return problem.New(problem.Denied, "this process connects to nothing outside")
	}
	addr = addr.Unmap().WithZone("")
	holds := func(p netip.Prefix) bool { return p.Contains(addr) }
	if slices.ContainsFunc(g.allowed, holds) {
		return nil
	}
	if !addr.IsGlobalUnicast() || addr.IsPrivate() || slices.ContainsFunc(reserved, holds) {
		return problem.New(problem.Denied, "%s is not a public address; start with --allow-network %s to let connections out to it", addr, addr)
	}
	return nil
}

// dialWait bounds how long a connection may take to come about.
const dialWait = 10 * time.Second

// DialContext connects like a net.Dialer where the guard allows.
func (g *Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialWait, Control: func(_, resolved string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(resolved)
		if err != nil {
			return fmt.Errorf("%s: %w", resolved, err)
		}
		return g.Check(at.Addr())
	}}
	return d.DialContext(ctx, network, address)
}

// Client returns an HTTP client that connects where the guard allows, follows
// no redirect, uses no proxy, and keeps few connections.
func (g *Guard) Client(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext: g.DialContext, TLSHandshakeTimeout: dialWait, ForceAttemptHTTP2: true,
			MaxIdleConns: 4, MaxConnsPerHost: 4, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
