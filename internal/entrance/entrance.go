// Package entrance holds the TLS listeners that the planes of one process
// share, and shows each connection to the plane it is for: MQTT by the user
// name of its CONNECT, AMQP by the host of its open, HTTPS by its path.
package entrance

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/slipway/slipway/internal/amqp"
	"github.com/slipway/slipway/internal/httpserve"
	"github.com/slipway/slipway/internal/inbound"
	"github.com/slipway/slipway/internal/mqtt"
)

// Serve speaks with one MQTT client until its connection ends.
type Serve func(ctx context.Context, conn *mqtt.Conn, connect *mqtt.Connect)

// ServeAMQP speaks with one AMQP client until its connection ends.
type ServeAMQP func(ctx context.Context, conn *amqp.Conn)

// Options are what an entrance needs.
type Options struct {
	TLS   *tls.Config
	MQTT  func(connect *mqtt.Connect) (Serve, bool) // whom a CONNECT is for; false: nobody here
	AMQP  func(hostname string) (ServeAMQP, bool)   // whom a connection is for
	HTTPS http.Handler
	// From says from where each door may be used. Shared are the doors behind
	// HTTPS; its handler tells them apart.
	From   inbound.Lists
	Shared []inbound.Door
	// MaxConnections bounds open MQTT and AMQP connections; more are closed at once.
	MaxConnections int
	// MaxSockets bounds open sockets of all kinds, HTTPS too, of which that may
	// be half; 0 is as many as the process has descriptors for.
	MaxSockets int
	Logger     *slog.Logger
}

// maxHandshakes bounds TLS handshakes under way, so that a herd at the door
// leaves processor time to those inside; the rest wait their turn.
const maxHandshakes = 128

// A client may take helloTimeout to say its first byte, which costs us nothing,
// handshakeTimeout for TLS, for which it holds one of the places, and
// connectTimeout for its CONNECT.
const (
	helloTimeout     = 20 * time.Second
	handshakeTimeout = 5 * time.Second
	connectTimeout   = 20 * time.Second
)

// mqttLimits bound one MQTT connection. A packet holds the largest telemetry
// message with the longest topic; 1767 s is the hub's longest silence.
var mqttLimits = mqtt.Limits{
	MaxPacket: 262144 + 65536 + 16, ConnectTimeout: connectTimeout, WriteTimeout: 30 * time.Second,
	MaxKeepAlive: 1767 * time.Second, MaxBuffered: 1 << 20,
}

// Entrance is a set of listeners.
type Entrance struct {
	Options
	handshakes chan struct{}
	places     chan struct{}
	sockets    sockets   // of all kinds
	web        sockets   // of HTTPS
	opened     chan door // sockets bound and not yet served

	mu    sync.Mutex
	doors map[string]door // by host and the MQTT port that was asked for
}

// door is the sockets on one host.
type door struct{ mqtt, https, amqp net.Listener }

func (d door) close() (err error) {
	for _, l := range []net.Listener{d.mqtt, d.https, d.amqp} {
		if l != nil {
			err = errors.Join(err, l.Close())
		}
	}
	return err
}

// Ports are those of one host. Where AnyAMQP is set, another port will do for
// AMQP if the one that is wanted is taken.
type Ports struct {
	MQTT, HTTPS, AMQP int
	AnyAMQP           bool
}

// maxDoors bounds the hosts of one process.
const maxDoors = 1024

const (
	// usualConnections are let in where nothing else is said.
	usualConnections = 200_000
	// reserved are the descriptors that a process needs for itself: its
	// database, its log, the link.
	reserved = 512
)

// Connections is how many can be let in of those that are wanted, 0 being as
// many as usual: a process that has no descriptor left serves nobody.
func Connections(wanted int) int {
	if wanted == 0 {
		wanted = usualConnections
	}
	return Sockets(wanted)
}

// Sockets is how many can be open of those that are wanted, 0 being as many as
// there are descriptors for.
func Sockets(wanted int) int {
	most := descriptors() - reserved
	if wanted == 0 {
		wanted = most
	}
	return max(1, min(wanted, most))
}

// New returns an entrance without listeners.
func New(o Options) *Entrance {
	if can := Connections(o.MaxConnections); can < o.MaxConnections {
		o.Logger.Warn("fewer connections are let in than are wanted; the process may not open more files (LimitNOFILE, ulimit -n)", "wanted", o.MaxConnections, "let in", can)
	}
	o.MaxConnections, o.MaxSockets = Connections(o.MaxConnections), Sockets(o.MaxSockets)
	return &Entrance{
		Options: o, sockets: sockets{most: int64(o.MaxSockets)}, web: sockets{most: max(1, int64(o.MaxSockets/2))}, handshakes: make(chan struct{}, maxHandshakes), places: make(chan struct{}, o.MaxConnections),
		opened: make(chan door, maxDoors), doors: map[string]door{},
	}
}

// Open is how many sockets are open.
func (e *Entrance) Open() int64 { return e.sockets.open.Load() }

// Listen binds the ports on a host, unless that is done already, and returns
// them; 0 asks for free ones. Run serves them.
func (e *Entrance) Listen(host string, want Ports) (Ports, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	name := net.JoinHostPort(host, strconv.Itoa(want.MQTT))
	d, bound := e.doors[name]
	if !bound {
		for _, socket := range []struct {
			at   *net.Listener
			port int
		}{{&d.mqtt, want.MQTT}, {&d.https, want.HTTPS}, {&d.amqp, want.AMQP}} {
			l, err := listen(host, socket.port)
			if err != nil && socket.at == &d.amqp && want.AnyAMQP && errors.Is(err, syscall.EADDRINUSE) {
				l, err = listen(host, 0)
			}
			if err != nil {
				return Ports{}, errors.Join(err, d.close())
			}
			*socket.at = l
		}
		e.doors[name] = d
		e.opened <- d
	}
	return Ports{portOf(d.mqtt), portOf(d.https), portOf(d.amqp), want.AnyAMQP}, nil
}

func listen(host string, port int) (net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("listen on %s port %d: %w", host, port, err)
	}
	return l, nil
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// Run serves until ctx ends: then nobody new comes in, HTTPS requests under
// way are given a moment, and MQTT connections are left to their planes to cut.
func (e *Entrance) Run(ctx context.Context) error {
	server := httpserve.Server(e.HTTPS, e.Logger)
	var serving sync.WaitGroup
	failed := make(chan error, 3*maxDoors)
	for {
		select {
		case d := <-e.opened:
			serving.Go(func() { failed <- e.accept(ctx, e.From.Listen(d.mqtt, inbound.MQTT), e.serveMQTT) })
			serving.Go(func() { failed <- e.accept(ctx, e.From.Listen(d.amqp, inbound.AMQP), e.serveAMQP) })
			serving.Go(func() {
				failed <- server.Serve(tls.NewListener(web{e.From.Listen(d.https, e.Shared...), e}, e.httpsTLS()))
			})
		case err := <-failed:
			if err != nil && !errors.Is(err, http.ErrServerClosed) {
				return errors.Join(err, e.stop(server), wait(&serving))
			}
		case <-ctx.Done():
			return errors.Join(e.stop(server), wait(&serving))
		}
	}
}

func wait(group *sync.WaitGroup) error { group.Wait(); return nil }

func (e *Entrance) httpsTLS() *tls.Config {
	config := e.TLS.Clone()
	config.NextProtos = []string{"h2", "http/1.1"}
	return config
}

func (e *Entrance) stop(server *http.Server) error {
	e.mu.Lock()
	for _, d := range e.doors {
		if err := d.close(); err != nil && !errors.Is(err, net.ErrClosed) {
			e.Logger.Debug("listener closed", "error", err)
		}
	}
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return server.Close() // streams that follow something do not end by themselves
	}
	return nil
}

// accept takes connections in until the listener closes, and waits for those
// it has let in.
func (e *Entrance) accept(ctx context.Context, l net.Listener, serve func(context.Context, *tls.Conn)) error {
	var inside sync.WaitGroup
	defer inside.Wait()
	for {
		nc, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			// Out of descriptors, most likely: give those inside time to leave.
			e.Logger.Warn("accept failed", "error", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		if !e.sockets.take() {
			e.Logger.Warn("too many sockets", "limit", e.MaxSockets)
			e.shut(nc)
			continue
		}
		select {
		case e.places <- struct{}{}:
			inside.Go(func() {
				defer e.sockets.leave()
				defer func() { <-e.places }()
				e.serve(ctx, nc, serve)
			})
		default:
			e.sockets.leave()
			e.Logger.Warn("too many connections", "limit", e.MaxConnections)
			e.shut(nc)
		}
	}
}

func (e *Entrance) shut(nc net.Conn) {
	if err := nc.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		e.Logger.Debug("connection closed", "error", err)
	}
}

// serve secures a connection and has it served.
func (e *Entrance) serve(ctx context.Context, nc net.Conn, serve func(context.Context, *tls.Conn)) {
	defer e.shut(nc)
	// The end of the process must reach clients that say nothing.
	stop := context.AfterFunc(ctx, func() { e.shut(nc) })
	defer stop()
	secured, err := e.secure(ctx, nc)
	if err != nil {
		e.Logger.Debug("not let in", "remote", nc.RemoteAddr().String(), "error", err)
		return
	}
	serve(ctx, secured)
}

// serveMQTT finds out whom a connection is for and hands it over.
func (e *Entrance) serveMQTT(ctx context.Context, secured *tls.Conn) {
	conn := mqtt.NewConn(secured, mqttLimits)
	connect, err := conn.ReadConnect()
	if err != nil {
		e.Logger.Debug("no CONNECT", "remote", secured.RemoteAddr().String(), "error", err)
		return
	}
	e.handOver(ctx, conn, connect)
}

// serveAMQP does the same for AMQP. A client that names no host means the one
// it found.
func (e *Entrance) serveAMQP(ctx context.Context, secured *tls.Conn) {
	e.handOverAMQP(ctx, secured, secured.ConnectionState().ServerName, secured.LocalAddr())
}

func (e *Entrance) handOverAMQP(ctx context.Context, nc net.Conn, sni string, local net.Addr) {
	conn, err := amqp.Accept(nc)
	if err != nil {
		e.Logger.Debug("no AMQP", "remote", nc.RemoteAddr().String(), "error", err)
		return
	}
	names := []string{conn.Hostname, sni}
	if at, ok := local.(*net.TCPAddr); ok {
		names = append(names, at.IP.String())
	}
	for _, name := range names {
		if serve, known := e.AMQP(name); name != "" && known {
			serve(ctx, conn)
			return
		}
	}
	if err := conn.Refuse(&amqp.Error{Condition: amqp.NotFound, Description: fmt.Sprintf("there is no hub by the name %q", conn.Hostname)}); err != nil {
		e.Logger.Debug("refusal not delivered", "error", err)
	}
}

// handOver gives a connection to whom its CONNECT is for.
func (e *Entrance) handOver(ctx context.Context, conn *mqtt.Conn, connect *mqtt.Connect) {
	serve, known := e.MQTT(connect)
	if !known {
		e.Logger.Debug("nobody here by that name", "remote", conn.RemoteAddr().String())
		if err := conn.Refuse(mqtt.NotAuthorized); err != nil {
			e.Logger.Debug("refusal not delivered", "error", err)
		}
		return
	}
	serve(ctx, conn, connect)
}

// secure does TLS.
func (e *Entrance) secure(ctx context.Context, nc net.Conn) (*tls.Conn, error) {
	speaking, err := firstByte(nc)
	if err != nil {
		return nil, err
	}
	secured := tls.Server(speaking, e.TLS)
	if err := e.handshake(ctx, secured); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secured, nil
}

func (e *Entrance) handshake(ctx context.Context, secured *tls.Conn) error {
	select {
	case e.handshakes <- struct{}{}:
		defer func() { <-e.handshakes }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	return secured.HandshakeContext(ctx)
}

// speaking is a connection whose first byte was read already.
type speaking struct {
	net.Conn
	first []byte
}

// firstByte waits until a client says something: one that does not must not
// take a place from those that do.
func firstByte(nc net.Conn) (*speaking, error) {
	if err := nc.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return nil, err
	}
	s := &speaking{nc, make([]byte, 1)}
	if _, err := nc.Read(s.first); err != nil {
		return nil, fmt.Errorf("silent: %w", err)
	}
	return s, nc.SetReadDeadline(time.Time{})
}

// Read returns the first byte before the rest.
func (s *speaking) Read(b []byte) (int, error) {
	if len(s.first) > 0 && len(b) > 0 {
		n := copy(b, s.first)
		s.first = s.first[n:]
		return n, nil
	}
	return s.Conn.Read(b)
}
