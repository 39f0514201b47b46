// Package bus is the one home of NATS JetStream: the embedded servers, the
// calls and feeds between planes, and a stamp's durable log.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	Logger   *slog.Logger
}

// Server is an embedded NATS server that listens nowhere: the planes of this
// process reach it in memory.
type Server struct{ ns *server.Server }

// maxPayload admits the largest telemetry message (256 KiB) with its
// envelope, and a page of them being answered.
const maxPayload = 8 << 20

// Start starts a server and returns when it answers, not merely runs: a
// JetStream that failed to start shows only in its health.
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
	ns, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("nats server %s: %w", o.Name, err)
	}
	ns.SetLoggerV2(serverLog{o.Logger.With("part", "nats", "server", o.Name)}, false, false, false)
	ns.Start()
	if err := ready(ctx, ns, o.Dir != ""); err != nil {
		ns.Shutdown()
		ns.WaitForShutdown()
		return nil, fmt.Errorf("nats server %s: %w", o.Name, err)
	}
	return &Server{ns}, nil
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
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
}

// Conn is a plane's connection to a server.
type Conn struct{ nc *nats.Conn }

// Connect opens an in-memory connection that lives as long as the server.
func (s *Server) Connect(name string) (*Conn, error) {
	nc, err := nats.Connect("", nats.InProcessServer(s.ns), nats.Name(name), nats.MaxReconnects(-1))
	if err != nil {
		return nil, fmt.Errorf("connect to the bus as %s: %w", name, err)
	}
	return &Conn{nc}, nil
}

// Close closes the connection at once.
func (c *Conn) Close() { c.nc.Close() }

// serverLog hands the server's log lines to slog.
type serverLog struct{ *slog.Logger }

func (l serverLog) Noticef(format string, args ...any) { l.Logger.Debug(fmt.Sprintf(format, args...)) }
func (l serverLog) Debugf(format string, args ...any)  { l.Logger.Debug(fmt.Sprintf(format, args...)) }
func (l serverLog) Tracef(format string, args ...any)  { l.Logger.Debug(fmt.Sprintf(format, args...)) }
func (l serverLog) Warnf(format string, args ...any)   { l.Logger.Warn(fmt.Sprintf(format, args...)) }
func (l serverLog) Errorf(format string, args ...any)  { l.Logger.Error(fmt.Sprintf(format, args...)) }
func (l serverLog) Fatalf(format string, args ...any)  { l.Logger.Error(fmt.Sprintf(format, args...)) }
