// Package bus is the one home of NATS JetStream: the embedded servers, the
// calls and feeds between planes, and a stamp's durable log.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Options say what an embedded server is for.
type Options struct {
	Name string
	// Dir holds the streams; empty means a server without JetStream.
	Dir string
	// MaxStore bounds what all streams together keep on disk, in bytes;
	// default 10 GiB.
	MaxStore int64
	// Door lets other processes in; without one the planes of this process
	// alone reach the server, in memory.
	Door *Door
	// Cluster makes it one of several servers; nil is a server of its own.
	Cluster *Cluster
	Logger  *slog.Logger
}

// Server is an embedded NATS server.
type Server struct {
	ns    *server.Server
	own   string // what this process shows it where it has a door
	sight *sight // nil unless it is one of several

	mu     sync.Mutex
	inside map[uint64]string // serials of certificates, by the connection
}

// maxPayload admits the largest telemetry message (256 KiB) with its
// envelope, and a page of them being answered.
const maxPayload = 8 << 20

// Start starts a server and returns when it answers, not merely runs: a
// JetStream that failed to start shows only in its health. One of several answers
// when most of them are there.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.MaxStore == 0 {
		o.MaxStore = 10 << 30
	}
	options := &server.Options{
		ServerName:         o.Name,
		DontListen:         true,
		NoSigs:             true,
		MaxPayload:         maxPayload,
		MaxPending:         256 << 20,
		JetStream:          o.Dir != "",
		StoreDir:           o.Dir,
		JetStreamMaxMemory: 64 << 20,
		JetStreamMaxStore:  o.MaxStore,
		SyncInterval:       time.Second,
		NoSystemAccount:    false,
	}
	own := ownSecret()
	s := &Server{own: own, inside: map[uint64]string{}}
	if o.Door != nil {
		if err := o.Door.open(options, own, s.enter); err != nil {
			return nil, err
		}
	}
	if o.Cluster != nil {
		if err := o.Cluster.open(options, own); err != nil {
			return nil, err
		}
	}
	ns, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("nats server %s: %w", o.Name, err)
	}
	s.ns = ns
	ns.SetLoggerV2(serverLog{o.Logger.With("part", "nats", "server", o.Name)}, false, false, false)
	ns.Start()
	if err := ready(ctx, ns, o.Dir != ""); err != nil {
		ns.Shutdown()
		ns.WaitForShutdown()
		return nil, fmt.Errorf("nats server %s: %w", o.Name, err)
	}
	if o.Cluster != nil {
		s.sight = &sight{servers: len(o.Cluster.Servers), stop: make(chan struct{})}
		s.sight.others.Store(int64(ns.NumRemotes()))
		go s.sight.watch(ns.NumRemotes)
	}
	return s, nil
}

func ready(ctx context.Context, ns *server.Server, jetstream bool) error {
	if !ns.ReadyForConnections(10 * time.Second) {
		return errors.New("not ready after 10 s")
	}
	for jetstream {
		health := ns.Healthz(nil)
		if health.StatusCode == 200 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not healthy: %s", health.Error)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// Stop shuts the server down and waits for it.
func (s *Server) Stop() {
	if s.sight != nil {
		close(s.sight.stop)
	}
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
}

// Conn is a plane's connection to a server.
type Conn struct {
	nc        *nats.Conn
	namespace string // what names begin with on servers that others use too
	replicas  int
	elsewhere bool // the servers, or others of them, are not this process's own and may come and go
	sure      atomic.Uint64
	own       *Server // that ends with the connection; nil where it does not

	mu        sync.Mutex
	serving   []*service
	withdrawn bool
	leaving   []*nats.Subscription // with calls that have come before
	busy      atomic.Int64         // calls that are being answered
}

// Connect opens an in-memory connection that lives as long as the server.
func (s *Server) Connect(name string) (*Conn, error) {
	nc, err := nats.Connect("", nats.InProcessServer(s.ns), nats.Name(name), nats.UserInfo(name, s.own), nats.MaxReconnects(-1))
	if err != nil {
		return nil, fmt.Errorf("connect to the bus as %s: %w", name, err)
	}
	return &Conn{nc: nc, replicas: 1}, nil
}

// Close closes the connection at once, and ends the server that is its own.
func (c *Conn) Close() {
	c.nc.Close()
	if c.own != nil {
		c.own.Stop()
	}
}

// serverLog hands the server's log lines to slog.
type serverLog struct{ *slog.Logger }

func (l serverLog) Noticef(format string, args ...any) { l.Logger.Debug(fmt.Sprintf(format, args...)) }
func (l serverLog) Debugf(format string, args ...any)  { l.Logger.Debug(fmt.Sprintf(format, args...)) }
func (l serverLog) Tracef(format string, args ...any)  { l.Logger.Debug(fmt.Sprintf(format, args...)) }
func (l serverLog) Warnf(format string, args ...any) {
	if strings.Contains(format, "TLS Handshake First") {
		return // nobody dials us otherwise
	}
	l.Logger.Warn(fmt.Sprintf(format, args...))
}
func (l serverLog) Errorf(format string, args ...any) { l.Logger.Error(fmt.Sprintf(format, args...)) }
func (l serverLog) Fatalf(format string, args ...any) { l.Logger.Error(fmt.Sprintf(format, args...)) }
