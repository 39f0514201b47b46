package bus_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/bus/bustest"
	"github.com/slipway/slipway/internal/peer"
)

// TestALogOutlivesItsServers appends from two processes while the servers of
// the cluster are killed and started again one by one, and sees what was
// acknowledged in the log once, in each writer's order.
func TestALogOutlivesItsServers(t *testing.T) {
	t.Parallel()
	cluster := bustest.Start(t, 3)
	open := func(process string) *bus.Log {
		t.Helper()
		conn, err := bus.Join(t.Context(), bus.External{Servers: cluster.URLs(), Namespace: "s-1", Replicas: 3, Process: process, Logger: slog.New(slog.DiscardHandler), Gap: func() {}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		log, err := conn.OpenLog(t.Context(), bus.LogConfig{Name: "TELEMETRY", Subjects: []string{"t.>"}, MaxBytes: 1 << 28})
		if err != nil {
			t.Fatal(err)
		}
		return log
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var running, writing sync.WaitGroup
	logs := []*bus.Log{open("a"), open("b")}
	for _, log := range logs {
		running.Go(func() {
			if err := log.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	var mu sync.Mutex
	acked := map[string]int{} // by writer: how many
	until := make(chan struct{})
	for writer := range 4 {
		subject := "t." + strconv.Itoa(writer)
		writing.Go(func() {
			for n := 1; ; n++ {
				select {
				case <-until:
					return
				default:
				}
				done := make(chan error, 1)
				logs[writer%2].Append(subject, []byte(strconv.Itoa(n)), func(_ uint64, err error) { done <- err })
				if err := <-done; err != nil {
					t.Errorf("%s %d: %v", subject, n, err)
					return
				}
				mu.Lock()
				acked[subject] = n
				mu.Unlock()
			}
		})
	}
	progress := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, each := range acked {
			n += each
		}
		return n
	}
	for i := range 3 {
		cluster.Kill(i)
		began, before := time.Now(), progress()
		eventually(t, 40*time.Second, "appends go on", func() bool { return progress() >= before+100 })
		t.Logf("server %d killed: 100 more messages after %s", i, time.Since(began).Round(time.Millisecond))
		cluster.Resume(i)
		before = progress()
		eventually(t, 40*time.Second, "appends go on", func() bool { return progress() >= before+100 })
	}
	close(until)
	writing.Wait()
	for subject, last := range acked {
		records, more, err := logs[0].Read(t.Context(), subject, 0, last)
		if err != nil {
			t.Fatal(err)
		}
		if more || len(records) != last {
			t.Errorf("%s: %d messages in the log (more: %t), %d acknowledged", subject, len(records), more, last)
		}
		for i, r := range records {
			if string(r.Data) != strconv.Itoa(i+1) {
				t.Fatalf("%s: message %d is %s", subject, i+1, r.Data)
			}
		}
	}
	stop()
	running.Wait()
}

func TestServersAreReachedSafely(t *testing.T) {
	for at, good := range map[string]bool{
		"tls://nats.example.com:4222": true, "nats://127.0.0.1:4222": true, "nats://localhost": true,
		"nats://10.0.0.1:4222": false, "http://127.0.0.1": false, "127.0.0.1:4222": false, "": false,
	} {
		if err := bus.CheckServer(at); (err == nil) != good {
			t.Errorf("%q: %v", at, err)
		}
	}
}

// TestServersKnowAStampByItsCertificate runs a server as docs/how-to/processes.md
// has it: TLS, and an account for each stamp.
func TestServersKnowAStampByItsCertificate(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := t.TempDir()
	for _, name := range []string{"server", "test-1", "test-2", "nobody"} {
		writePair(t, s, dir, name)
	}
	cluster := bustest.StartWith(t, `
tls { cert_file: "`+dir+`/server.pem", key_file: "`+dir+`/server-key.pem", ca_file: "`+s.File()+`", verify_and_map: true }
accounts {
  test-1 { jetstream: enabled, users: [ { user: "CN=test-1" } ] }
  test-2 { jetstream: enabled, users: [ { user: "CN=test-2" } ] }
}`)
	server := strings.Replace(cluster.URLs()[0], "nats://", "tls://", 1)
	join := func(ctx context.Context, name string) (*bus.Conn, error) {
		return bus.Join(ctx, bus.External{
			Servers: []string{server}, CA: s.File(), Certificate: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+"-key.pem"),
			Namespace: "slipway-" + name, Process: name, Logger: slog.New(slog.DiscardHandler), Gap: func() {},
		})
	}
	for _, name := range []string{"test-1", "test-2"} {
		conn, err := join(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		log, err := conn.OpenLog(t.Context(), bus.LogConfig{Name: "TELEMETRY", Subjects: []string{"t.>"}, MaxBytes: 1 << 24})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		log.Append("t.1", []byte(name), func(_ uint64, err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if records, _, err := log.Read(t.Context(), "t.1", 0, 10); err != nil || len(records) != 1 || string(records[0].Data) != name {
			t.Errorf("%s reads %v, %v", name, records, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := join(ctx, "nobody"); err == nil {
		t.Error("a certificate without an account was let in")
	}
}

// writePair writes a certificate of the site and its key as files.
func writePair(t *testing.T, s site, dir, name string) {
	t.Helper()
	s.Name("127.0.0.1")
	pair, err := s.Own(name, peer.URI(name))()
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, name + "-key.pem": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNothingIsAcknowledgedInDoubt has a connection come back while nobody knows
// whether the process still counts.
func TestNothingIsAcknowledgedInDoubt(t *testing.T) {
	t.Parallel()
	cluster := bustest.StartWith(t, "")
	conn, err := bus.Join(t.Context(), bus.External{Servers: cluster.URLs(), Namespace: "s-1", Process: "p", Logger: slog.New(slog.DiscardHandler), Gap: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	log, err := conn.OpenLog(t.Context(), bus.LogConfig{Name: "TELEMETRY", Subjects: []string{"t.>"}, MaxBytes: 1 << 24})
	if err != nil {
		t.Fatal(err)
	}
	var live atomic.Bool
	live.Store(true)
	log.Fence(live.Load)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- log.Run(ctx) }()
	reconnect := func() {
		t.Helper()
		before := conn.Mark()
		cluster.Kill(0)
		cluster.Resume(0)
		eventually(t, 10*time.Second, "the connection is back", func() bool { return conn.Mark() > before })
	}
	done := make(chan error, 8)
	appendOne := func() { log.Append("t.1", []byte("x"), func(_ uint64, err error) { done <- err }) }
	arrived := func(n int) {
		t.Helper()
		eventually(t, 10*time.Second, "the log has it", func() bool {
			records, _, err := log.Read(t.Context(), "t.1", 0, 10)
			return err == nil && len(records) == n
		})
	}
	reconnect()
	appendOne()
	arrived(1)
	select {
	case err := <-done:
		t.Fatalf("acknowledged in doubt: %v", err)
	case <-time.After(time.Second):
	}
	conn.Certain(conn.Mark())
	if err := <-done; err != nil {
		t.Error(err)
	}
	// Given up meanwhile, the process acknowledges nothing, and goes on.
	reconnect()
	appendOne()
	appendOne()
	arrived(3)
	live.Store(false)
	for range 2 {
		if err := <-done; err == nil {
			t.Error("a process that was given up acknowledged a message")
		}
	}
	live.Store(true)
	appendOne()
	arrived(4)
	conn.Certain(conn.Mark())
	if err := <-done; err != nil {
		t.Error(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// eventually waits until something is so.
func eventually(t *testing.T, limit time.Duration, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); !so(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}
