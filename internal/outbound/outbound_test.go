package outbound

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

func TestOnlyPublicAndAllowedAddresses(t *testing.T) {
	guard, err := New([]string{"10.1.0.0/16", "fd00::1"})
	if err != nil {
		t.Fatal(err)
	}
	for text, allowed := range map[string]bool{
		"93.184.216.34": true, "2606:2800:220:1::1": true, "10.1.2.3": true, "::ffff:10.1.2.3": true, "fd00::1": true,
		"127.0.0.1": false, "::1": false, "10.2.0.1": false, "192.168.1.1": false, "172.16.0.1": false, "169.254.169.254": false,
		"0.0.0.0": false, "::": false, "::ffff:127.0.0.1": false, "100.64.1.1": false, "224.0.0.1": false, "255.255.255.255": false,
		"fd00::2": false, "fe80::1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false,
	} {
		if err := guard.Check(netip.MustParseAddr(text)); (err == nil) != allowed {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := New([]string{"everything"}); !problem.Is(err, problem.Invalid) {
		t.Errorf("got %v", err)
	}
}

func TestNamesAreHeldAgainstTheirAddress(t *testing.T) {
	inside := httptest.NewServer(http.RedirectHandler("/elsewhere", http.StatusFound))
	defer inside.Close()
	_, port, err := net.SplitHostPort(inside.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	closed, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := closed.DialContext(context.Background(), "tcp", "localhost:"+port); !problem.Is(err, problem.Denied) {
		t.Errorf("got %v", err)
	}
	open, err := New([]string{"127.0.0.0/8", "::1"})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := open.Client(5 * time.Second).Get(inside.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusFound {
		t.Errorf("the redirect was followed to %d", resp.StatusCode)
	}
}
