package inbound_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/inbound"
)

func TestDoorsLetInWhomTheirListsName(t *testing.T) {
	t.Parallel()
	lists, err := inbound.ParseFlags([]string{"people=10.1.0.0/16", "people=2001:db8::/32", "mqtt=192.0.2.7", "metrics=127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, try := range []struct {
		from  string
		doors []inbound.Door
		want  bool
	}{
		{"10.1.2.3", []inbound.Door{inbound.People}, true},
		{"::ffff:10.1.2.3", []inbound.Door{inbound.People}, true},
		{"10.2.0.1", []inbound.Door{inbound.People}, false},
		{"::ffff:10.2.0.1", []inbound.Door{inbound.People}, false},
		{"2001:db8:1::1", []inbound.Door{inbound.People}, true},
		{"2001:db9::1", []inbound.Door{inbound.People}, false},
		{"fe80::1%eth0", []inbound.Door{inbound.People}, false},
		{"192.0.2.7", []inbound.Door{inbound.MQTT}, true},
		{"192.0.2.8", []inbound.Door{inbound.MQTT}, false},
		{"192.0.2.8", []inbound.Door{inbound.MQTT, inbound.Devices}, true}, // devices are open to all
		{"192.0.2.8", []inbound.Door{inbound.MQTT, inbound.People}, false},
		{"203.0.113.1", []inbound.Door{inbound.AMQP}, true},
	} {
		if got := lists.Lets(netip.MustParseAddr(try.from), try.doors...); got != try.want {
			t.Errorf("%s at %v: %v", try.from, try.doors, got)
		}
	}
	for _, bad := range []string{"people", "people=", "folk=10.0.0.0/8", "people=10.1.2.3/16", "people=ten", "people=::ffff:10.0.0.0/104", "people=fe80::1%eth0"} {
		if _, err := inbound.ParseFlags([]string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if _, err := inbound.Parse(map[string][]string{"people": {}}); err == nil {
		t.Error("an empty list is taken, which would say nothing or shut everybody out")
	}
}

func TestStrangersAreClosedBeforeAByteIsSaid(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lists, err := inbound.ParseFlags([]string{"people=10.0.0.0/8", "mqtt=127.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 1)
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }), ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(lists.Listen(listener, inbound.People)) }()
	nc, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n, err := nc.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("a stranger hears %d bytes", n)
	} else if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("a stranger's connection stays open")
	}
	if err := errors.Join(nc.Close(), server.Close()); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	if len(asked) > 0 {
		t.Error("a stranger was served")
	}
}

func TestADoorThatSharesItsListenerIsNotThereForStrangers(t *testing.T) {
	t.Parallel()
	lists, err := inbound.ParseFlags([]string{"people=10.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "inside") })
	for _, try := range []struct {
		door inbound.Door
		from string
		want int
	}{{inbound.People, "10.1.1.1:99", 200}, {inbound.People, "192.0.2.1:99", 404}, {inbound.People, "nonsense", 404}, {inbound.Devices, "192.0.2.1:99", 200}} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = try.from
		w := httptest.NewRecorder()
		lists.Handle(try.door, handler).ServeHTTP(w, r)
		if w.Code != try.want {
			t.Errorf("%+v: %d", try, w.Code)
		}
	}
}
