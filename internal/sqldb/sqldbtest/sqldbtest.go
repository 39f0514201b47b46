// Package sqldbtest starts a real PostgreSQL server for tests: a cluster of its
// own in a temporary directory, reached over a unix socket, gone with the test.
package sqldbtest

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// superuser owns the cluster.
const superuser = "slipway"

// Server is a PostgreSQL server that a test can kill and start again.
type Server struct {
	// URL reaches it over TCP.
	URL string

	t        testing.TB
	dir      string // of its socket and its data
	bin      string
	as       *syscall.SysProcAttr
	settings string
}

// Postgres starts a server and returns its connection string. It costs about a
// second; tests share one where they can.
func Postgres(t testing.TB) string {
	t.Helper()
	s := start(t, "-c listen_addresses=''")
	return "host=" + s.dir + " user=" + superuser + " dbname=postgres sslmode=disable"
}

// PostgresURL starts a server that listens on loopback too and returns its URL.
func PostgresURL(t testing.TB) string {
	t.Helper()
	return Start(t).URL
}

// Start starts a server that listens on loopback.
func Start(t testing.TB) *Server {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(free.Addr().String())
	if err = errors.Join(err, free.Close()); err != nil {
		t.Fatal(err)
	}
	s := start(t, "-c listen_addresses=127.0.0.1 -p "+port)
	s.URL = "postgres://" + superuser + "@127.0.0.1:" + port + "/postgres"
	return s
}

func start(t testing.TB, settings string) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "pg") // short: a socket's path has few characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s := &Server{t: t, dir: dir, bin: binaries(t), as: unprivileged(t, dir), settings: settings}
	s.run("initdb", "-D", s.data(), "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	s.Resume()
	t.Cleanup(s.Kill)
	return s
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) run(program string, args ...string) {
	s.t.Helper()
	command := exec.Command(filepath.Join(s.bin, program), args...)
	command.SysProcAttr, command.Dir = s.as, s.dir
	if out, err := command.CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// Kill ends the server at once, as a crash does: it recovers when resumed.
func (s *Server) Kill() {
	s.t.Helper()
	s.run("pg_ctl", "-D", s.data(), "-m", "immediate", "-w", "stop")
}

// Resume starts the server on its data.
func (s *Server) Resume() {
	s.t.Helper()
	s.run("pg_ctl", "-D", s.data(), "-w", "-l", filepath.Join(s.dir, "log"), "-o", s.settings+" -c fsync=off -k "+s.dir, "start")
}

// binaries finds the directory of the newest server that is installed.
func binaries(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		t.Fatal(err)
	}
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1])
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		t.Fatal("the test needs a PostgreSQL server: run 'make setup-test', or install the package postgresql")
	}
	return filepath.Dir(path)
}

// unprivileged makes the server run as somebody else where the tests run as
// root, which PostgreSQL refuses.
func unprivileged(t testing.TB, dir string) *syscall.SysProcAttr {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		who, err = user.Lookup("nobody")
	}
	if err != nil {
		t.Fatal(err)
	}
	uid, errUID := strconv.Atoi(who.Uid)
	gid, errGID := strconv.Atoi(who.Gid)
	if errUID != nil || errGID != nil {
		t.Fatalf("user %s has no numbers", who.Username)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}
