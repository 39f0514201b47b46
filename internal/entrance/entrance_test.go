package entrance_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/ca"
	"github.com/slipway/slipway/internal/entrance"
	"github.com/slipway/slipway/internal/mqtt"
)

// TestSilentClientsDoNotBarTheDoor opens far more connections than handshakes
// may be under way, says nothing on them, and still comes in beside them.
func TestSilentClientsDoNotBarTheDoor(t *testing.T) {
	ca, err := ca.Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	ca.Name("127.0.0.1")
	e := entrance.New(entrance.Options{
		TLS: ca.ServerTLS(), HTTPS: http.NotFoundHandler(), Logger: slog.New(slog.DiscardHandler),
		MQTT: func(connect *mqtt.Connect) (entrance.Serve, bool) {
			return func(_ context.Context, conn *mqtt.Conn, connect *mqtt.Connect) {
				if err := conn.Accept(false, connect.KeepAlive); err != nil {
					t.Error(err)
				}
				if _, err := conn.Next(); err == nil {
					t.Error("the client said something")
				}
			}, connect.ClientID == "welcome"
		},
	})
	ports, err := e.Listen("127.0.0.1", entrance.Ports{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports.MQTT))
	for range 500 {
		nc, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
	}
	for id, want := range map[string]mqtt.ConnackCode{"welcome": mqtt.Accepted, "stranger": mqtt.NotAuthorized} {
		nc, err := tls.Dial("tcp", address, &tls.Config{RootCAs: ca.Pool(), ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12})
		if err != nil {
			t.Fatal(err)
		}
		conn := mqtt.NewClientConn(nc, 1<<16)
		limited, stop := context.WithTimeout(t.Context(), 10*time.Second)
		connack, err := conn.Connect(limited, &mqtt.Connect{ProtocolName: "MQTT", ProtocolLevel: 4, CleanSession: true, ClientID: id, KeepAlive: 60})
		stop()
		if err != nil || connack.Code != want {
			t.Errorf("%s: %+v, %v", id, connack, err)
		}
		conn.Close()
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestHTTPSLeavesSocketsToDevices opens idle connections to the port for HTTPS
// without end: half of the sockets are left for MQTT, and come back when they
// are closed.
func TestHTTPSLeavesSocketsToDevices(t *testing.T) {
	ca, err := ca.Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	e := entrance.New(entrance.Options{
		TLS: ca.ServerTLS(), HTTPS: http.NotFoundHandler(), Logger: slog.New(slog.DiscardHandler), MaxSockets: 8,
		MQTT: func(*mqtt.Connect) (entrance.Serve, bool) { return nil, false },
	})
	ports, err := e.Listen("127.0.0.1", entrance.Ports{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	var all []net.Conn
	open := func(port int) {
		t.Helper()
		nc, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, nc)
	}
	are := func(n int64) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); e.Open() != n; {
			if time.Now().After(deadline) {
				t.Fatalf("%d sockets are open, not %d", e.Open(), n)
			}
			<-time.After(5 * time.Millisecond)
		}
	}
	for range 20 {
		open(ports.HTTPS)
	}
	are(4)
	for range 20 {
		open(ports.MQTT)
	}
	are(8)
	for _, nc := range all {
		nc.Close()
	}
	are(0)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
