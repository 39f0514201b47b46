// Package bustest starts a real cluster of NATS servers for tests: processes of
// their own on loopback, which a test can kill, stop and start again.
package bustest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Cluster is some servers that are one cluster.
type Cluster struct {
	t       testing.TB
	bin     string
	servers []*server
}

type server struct {
	args    []string
	port    string
	running *exec.Cmd
}

// Start starts servers and returns when streams can be made. Clients are told
// of no other servers than they know, so that a test may stand between.
func Start(t testing.TB, servers int) *Cluster {
	t.Helper()
	c := build(t)
	var routes []string
	for range servers {
		client, route := freePort(t), freePort(t)
		c.servers = append(c.servers, &server{port: client, args: []string{"-a", "127.0.0.1", "-p", client, "--cluster", "nats://127.0.0.1:" + route, "--no_advertise"}})
		routes = append(routes, "nats://127.0.0.1:"+route)
	}
	for i, s := range c.servers {
		s.args = append(s.args, "-n", fmt.Sprintf("n%d", i), "--cluster_name", "test", "-js", "-sd", t.TempDir(), "--routes", strings.Join(routes, ","))
		c.Resume(i)
	}
	t.Cleanup(func() {
		for i := range c.servers {
			c.Kill(i)
		}
	})
	c.until(c.probe)
	return c
}

// StartWith starts one server with a configuration, beside what it needs to be
// found. It returns when the server listens.
func StartWith(t testing.TB, config string) *Cluster {
	t.Helper()
	c := build(t)
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	c.servers = []*server{{port: port, args: []string{"-c", file, "-a", "127.0.0.1", "-p", port, "-js", "-sd", t.TempDir()}}}
	c.Resume(0)
	t.Cleanup(func() { c.Kill(0) })
	c.until(func() error {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return c
}

func build(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{t: t, bin: filepath.Join(t.TempDir(), "nats-server")}
	build := exec.Command("go", "build", "-o", c.bin, "github.com/nats-io/nats-server/v2")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("nats-server: %v\n%s", err, text)
	}
	return c
}

func freePort(t testing.TB) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	_, port, err := net.SplitHostPort(free.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// URLs are where the servers are.
func (c *Cluster) URLs() []string {
	var all []string
	for _, s := range c.servers {
		all = append(all, "nats://127.0.0.1:"+s.port)
	}
	return all
}

// Kill kills a server as kill -9 does.
func (c *Cluster) Kill(i int) {
	s := c.servers[i]
	if s.running == nil {
		return
	}
	if err := s.running.Process.Kill(); err != nil {
		c.t.Error(err)
	}
	_ = s.running.Wait() // it was killed, which is what it says
	s.running = nil
}

// Resume starts a server that was killed.
func (c *Cluster) Resume(i int) {
	c.t.Helper()
	s := c.servers[i]
	s.running = exec.Command(c.bin, s.args...)
	s.running.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.running.Start(); err != nil {
		c.t.Fatal(err)
	}
}

// Freeze stops a server without ending it, and Thaw lets it go on: to the
// others it is as one whose network is cut.
func (c *Cluster) Freeze(i int) { c.signal(i, syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (c *Cluster) Thaw(i int) { c.signal(i, syscall.SIGCONT) }

func (c *Cluster) signal(i int, s syscall.Signal) {
	c.t.Helper()
	if err := c.servers[i].running.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// until waits until a step succeeds.
func (c *Cluster) until(step func() error) {
	c.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := step()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("the cluster is not ready: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// probe succeeds when the servers have a leader.
func (c *Cluster) probe() error {
	nc, err := nats.Connect(strings.Join(c.URLs(), ","))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	config := jetstream.StreamConfig{Name: "PROBE", Subjects: []string{"probe"}, Replicas: len(c.servers)}
	if _, err := js.CreateOrUpdateStream(c.t.Context(), config); err != nil {
		return err
	}
	return js.DeleteStream(c.t.Context(), "PROBE")
}
