// Package entrance holds the TLS listeners that the planes of one process
// share, and shows each connection to the plane it is for: MQTT by the user
// name of its CONNECT, HTTPS by its path.
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
	"time"

	"github.com/slipway/slipway/internal/mqtt"
)

// Serve speaks with one MQTT client until its connection ends.
type Serve func(ctx context.Context, conn *mqtt.Conn, connect *mqtt.Connect)

// Options are what an entrance needs.
type Options struct {
	TLS   *tls.Config
	MQTT  func(connect *mqtt.Connect) (Serve, bool) // whom a CONNECT is for; false: nobody here
	HTTPS http.Handler
	// MaxConnections bounds open MQTT connections; more are closed at once.
	MaxConnections int
	Logger         *slog.Logger
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
	opened     chan door // sockets bound and not yet served

	mu    sync.Mutex
	doors map[string]door // by host and the MQTT port that was asked for
}

// door is the pair of sockets on one host.
type door struct{ mqtt, https net.Listener }

func (d door) close() error { return errors.Join(d.mqtt.Close(), d.https.Close()) }

// maxDoors bounds the hosts of one process.
const maxDoors = 1024

// New returns an entrance without listeners.
func New(o Options) *Entrance {
	if o.MaxConnections == 0 {
		o.MaxConnections = 200_000
	}
	return &Entrance{
		Options: o, handshakes: make(chan struct{}, maxHandshakes), places: make(chan struct{}, o.MaxConnections),
		opened: make(chan door, maxDoors), doors: map[string]door{},
	}
}

// Listen binds both ports on a host, unless that is done already, and returns
// the ports; 0 asks for free ones. Run serves them.
func (e *Entrance) Listen(host string, mqttPort, httpsPort int) (mqtts, https int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	name := net.JoinHostPort(host, strconv.Itoa(mqttPort))
	d, bound := e.doors[name]
	if !bound {
		if d.mqtt, err = listen(host, mqttPort); err != nil {
			return 0, 0, err
		}
		if d.https, err = listen(host, httpsPort); err != nil {
			return 0, 0, errors.Join(err, d.mqtt.Close())
		}
		e.doors[name] = d
		e.opened <- d
	}
	return portOf(d.mqtt), portOf(d.https), nil
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
	server := &http.Server{
		Handler: e.HTTPS, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(e.Logger.Handler(), slog.LevelDebug),
	}
	var serving sync.WaitGroup
	failed := make(chan error, 2*maxDoors)
	for {
		select {
		case d := <-e.opened:
			serving.Go(func() { failed <- e.acceptMQTT(ctx, d.mqtt) })
			serving.Go(func() { failed <- server.Serve(tls.NewListener(d.https, e.httpsTLS())) })
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

// acceptMQTT takes connections in until the listener closes, and waits for
// those it has let in.
func (e *Entrance) acceptMQTT(ctx context.Context, l net.Listener) error {
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
		select {
		case e.places <- struct{}{}:
			inside.Go(func() {
				defer func() { <-e.places }()
				e.serve(ctx, nc)
			})
		default:
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

// serve finds out whom a connection is for and hands it over.
func (e *Entrance) serve(ctx context.Context, nc net.Conn) {
	defer e.shut(nc)
	// The end of the process must reach clients that say nothing.
	stop := context.AfterFunc(ctx, func() { e.shut(nc) })
	defer stop()
	conn, connect, err := e.greet(ctx, nc)
	if err != nil {
		e.Logger.Debug("no CONNECT", "remote", nc.RemoteAddr().String(), "error", err)
		return
	}
	e.handOver(ctx, conn, connect)
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

func (e *Entrance) greet(ctx context.Context, nc net.Conn) (*mqtt.Conn, *mqtt.Connect, error) {
	speaking, err := firstByte(nc)
	if err != nil {
		return nil, nil, err
	}
	secured := tls.Server(speaking, e.TLS)
	if err := e.handshake(ctx, secured); err != nil {
		return nil, nil, fmt.Errorf("TLS: %w", err)
	}
	conn := mqtt.NewConn(secured, mqttLimits)
	connect, err := conn.ReadConnect()
	return conn, connect, err
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
