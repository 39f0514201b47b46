package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/slipway/slipway/internal/ca"
	"github.com/slipway/slipway/internal/mqtt"
)

const peerPort = 28883

// measurePeers runs the same ingest against brokers that keep messages in
// memory only, with the same TLS.
func measurePeers(ctx context.Context, report *report, dir string, long time.Duration) error {
	pool, err := peerCertificate(dir)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	me, err := user.Current()
	if err != nil {
		return err
	}
	config := filepath.Join(dir, "mosquitto.conf")
	text := fmt.Sprintf("listener %d 127.0.0.1\ncafile %s\ncertfile %s\nkeyfile %s\nallow_anonymous true\nmax_inflight_messages 0\nuser %s\n", peerPort, filepath.Join(dir, "ca.pem"), filepath.Join(dir, "peer.pem"), filepath.Join(dir, "peer.key"), me.Username)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	broker, err := exec.LookPath("mosquitto")
	if err != nil {
		broker = "/usr/sbin/mosquitto" // where Debian puts it, outside most PATHs
	}
	for _, peer := range []struct {
		name    string
		command *exec.Cmd
	}{
		{"mosquitto", exec.CommandContext(ctx, broker, "-c", config)},
		{"mochi", exec.CommandContext(ctx, self, "-peer", "mochi", "-dir", dir)},
	} {
		if err := measurePeer(report, pool, peer.name, peer.command, long); err != nil {
			return fmt.Errorf("%s: %w", peer.name, err)
		}
	}
	return nil
}

func measurePeer(report *report, pool *x509.CertPool, name string, command *exec.Cmd, long time.Duration) error {
	command.Stderr = io.Discard
	if err := command.Start(); err != nil {
		return fmt.Errorf("%w; run `make setup-test`", err)
	}
	p := &process{command: command}
	defer p.stop()
	for _, inFlight := range []int{1, 32} {
		var conns []conn
		for i := range connections {
			c, err := dialPeer(pool, deviceID(i))
			if err != nil {
				return err
			}
			conns = append(conns, conn{c, deviceID(i)})
		}
		r, err := load(command.Process.Pid, conns, telemetryLoad, inFlight, long)
		closeAll(conns)
		if err != nil {
			return err
		}
		report.add(ingestName(inFlight), ingestGoal(inFlight), name, r)
	}
	return nil
}

// dialPeer connects, waiting for the peer to start.
func dialPeer(pool *x509.CertPool, id string) (c *mqtt.ClientConn, err error) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if c, err = dial(pool, "127.0.0.1", peerPort, &mqtt.Connect{ClientID: id}); err == nil {
			return c, nil
		}
	}
	return nil, err
}

// peerCertificate writes a certificate like the server's own.
func peerCertificate(dir string) (*x509.CertPool, error) {
	authority, err := ca.Open(dir, time.Now)
	if err != nil {
		return nil, err
	}
	authority.Name("127.0.0.1")
	pair, err := authority.GetCertificate(nil)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return nil, err
	}
	var chain []byte
	for _, der := range pair.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if err := os.WriteFile(filepath.Join(dir, "peer.pem"), chain, 0o644); err != nil {
		return nil, err
	}
	return authority.Pool(), os.WriteFile(filepath.Join(dir, "peer.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o644)
}

// runMochi is the peer from the Go module proxy, in this process.
func runMochi(ctx context.Context, dir string) error {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "peer.pem"), filepath.Join(dir, "peer.key"))
	if err != nil {
		return err
	}
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		return err
	}
	listener := listeners.NewTCP(listeners.Config{
		ID: "bench", Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(peerPort)), TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
	})
	if err := server.AddListener(listener); err != nil {
		return err
	}
	if err := server.Serve(); err != nil {
		return err
	}
	<-ctx.Done()
	return server.Close()
}
