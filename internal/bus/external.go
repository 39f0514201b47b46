package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/slipway/slipway/internal/problem"
)

// External says how a process reaches NATS servers that it shares with others:
// servers that run elsewhere, or those that each of the processes keeps one of.
type External struct {
	Servers []string // nats:// or tls:// URLs
	// Own is the server that this process keeps, instead of Servers.
	Own *Options
	// Credentials is a file of NATS credentials; empty where the servers know
	// the client by its certificate, its user in the URL, or let everybody in.
	Credentials      string
	CA               string // PEM file of the servers' authority; empty is the system's
	Certificate, Key string // PEM files of the client's
	// Namespace begins every name used there, so that several stamps may use
	// the same servers.
	Namespace string
	Replicas  int // of each log
	Process   string
	Logger    *slog.Logger
	// Gap is told when something that was said meanwhile may not have arrived.
	Gap func()
}

// CheckServer says what is wrong with the URL of a server. Without TLS it must
// be on loopback.
func CheckServer(at string) error {
	u, err := url.Parse(at)
	if err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" {
		return problem.New(problem.Invalid, "a server of NATS is named by tls://host:port, or nats://host:port on loopback")
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme != "tls" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return problem.New(problem.Invalid, "%s is not on loopback, so it must be reached with TLS: tls://%s", u.Hostname(), u.Host)
	}
	return nil
}

// silence is how long a server may not answer before another one is taken.
const silence = 6 * time.Second

// Join connects to the servers. It waits until one of them answers, or until the
// process's own is with most of them.
func Join(ctx context.Context, e External) (*Conn, error) {
	logger := e.Logger.With("part", "nats")
	options := []nats.Option{
		nats.Name(e.Process), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond), nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond), nats.ReconnectBufSize(-1),
		nats.PingInterval(silence / 3), nats.MaxPingsOutstanding(2), nats.Timeout(handshakeTimeout), nats.FlusherTimeout(silence),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			logger.Info("connected again", "server", nc.ConnectedAddr())
			e.Gap()
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				logger.Warn("connection lost; trying the next server", "error", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			logger.Warn("nats", "error", err)
			e.Gap()
		}),
	}
	if e.Own != nil {
		return joinOwn(ctx, e, options)
	}
	nc, err := nats.Connect(strings.Join(e.Servers, ","), append(options, reaching(e)...)...)
	if err != nil {
		return nil, fmt.Errorf("nats: %w", err)
	}
	c := e.conn(nc)
	for !nc.IsConnected() {
		logger.Warn("no server of NATS can be reached; waiting for one")
		if err := c.Wait(ctx); err != nil {
			nc.Close()
			return nil, errors.Join(errors.New("no server of NATS can be reached"), err)
		}
	}
	return c, nil
}

func (e External) conn(nc *nats.Conn) *Conn {
	return &Conn{nc: nc, namespace: e.Namespace, replicas: max(1, e.Replicas), elsewhere: true}
}

// reaching is how servers elsewhere are dialled, and what is shown to them.
func reaching(e External) []nats.Option {
	options := []nats.Option{nats.SetCustomDialer(abrupt{&net.Dialer{Timeout: handshakeTimeout}})}
	if e.Credentials != "" {
		options = append(options, nats.UserCredentials(e.Credentials))
	}
	if e.Certificate != "" {
		options = append(options, nats.ClientCert(e.Certificate, e.Key))
	}
	if e.CA != "" {
		options = append(options, nats.RootCAs(e.CA))
	} else if strings.HasPrefix(e.Servers[0], "tls://") {
		options = append(options, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}))
	}
	return options
}

// joinOwn starts the process's own server and connects to it.
func joinOwn(ctx context.Context, e External, options []nats.Option) (*Conn, error) {
	own, err := Start(ctx, *e.Own)
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect("", append(options, nats.InProcessServer(own.ns), nats.UserInfo(e.Process, own.own))...)
	if err != nil {
		own.Stop()
		return nil, fmt.Errorf("nats: %w", err)
	}
	c := e.conn(nc)
	c.own = own
	return c, nil
}

// abrupt is a dialer whose connections end with what they have not delivered:
// that is sent again on the next one, and must not come late as well.
type abrupt struct{ *net.Dialer }

// Dial is nats.CustomDialer's.
func (a abrupt) Dial(network, address string) (net.Conn, error) {
	conn, err := a.Dialer.Dial(network, address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		err = tcp.SetLinger(0)
	}
	return conn, err
}

// Mark is a moment of the connection, and Certain says that the process was
// known to be one of its stamp's after that moment. What the servers
// acknowledge over a connection made since then is not passed on before: others
// may have given the process up while it had none. Where the process keeps one of
// the servers itself, losing another one is as good as losing the connection.
func (c *Conn) Mark() uint64 {
	mark := c.nc.Stats().Reconnects
	if c.own != nil {
		mark += c.own.sight.losses.Load()
	}
	return mark
}

// Certain is described with Mark.
func (c *Conn) Certain(mark uint64) { c.sure.Store(mark) }

// certain reports whether that is so of the connection there is.
func (c *Conn) certain() bool { return !c.elsewhere || c.sure.Load() == c.Mark() }

// Abandon gives up what the servers have not been told yet, and connects anew.
func (c *Conn) Abandon() error { return c.nc.ForceReconnect() }

// Ping asks the server that the connection is to whether it is there; one that is
// without most of the others counts as away.
func (c *Conn) Ping(ctx context.Context) error {
	if !c.nc.IsConnected() {
		return problem.New(problem.NotReady, "no server of NATS can be reached")
	}
	if c.own != nil && !c.own.sight.most() {
		return problem.New(problem.NotReady, "this process's server of NATS has lost most of the others")
	}
	return c.nc.FlushWithContext(ctx)
}

// Within is a subject in the connection's namespace.
func (c *Conn) Within(subject string) string {
	if c.namespace == "" {
		return subject
	}
	return c.namespace + "." + subject
}
