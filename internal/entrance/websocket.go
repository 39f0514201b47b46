package entrance

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"

	"github.com/coder/websocket"

	"github.com/slipway/slipway/internal/inbound"
	"github.com/slipway/slipway/internal/mqtt"
)

// IsWebSocket reports whether a path is one where clients open a WebSocket, for
// any plane: the hub's, or that of clients made for Event Hubs.
func IsWebSocket(path string) bool {
	path = strings.TrimSuffix(path, "/")
	return strings.EqualFold(path, "/$iothub/websocket") || strings.EqualFold(path, "/$servicebus/websocket")
}

// The subprotocols, MQTT and AMQP over WebSocket.
const (
	overMQTT = "mqtt"
	overAMQP = "AMQPWSB10"
)

// doors are those that the subprotocols lead to.
var doors = map[string]inbound.Door{overMQTT: inbound.MQTT, overAMQP: inbound.AMQP}

// maxFrame bounds one WebSocket message; packets may be cut anywhere.
const maxFrame = 1 << 20

// ServeWebSocket speaks MQTT or AMQP with a client that comes over HTTPS.
// Clients prove themselves in the protocol: an Origin says nothing.
func (e *Entrance) ServeWebSocket(w http.ResponseWriter, r *http.Request) {
	select {
	case e.places <- struct{}{}:
		defer func() { <-e.places }()
	default:
		http.Error(w, "too many connections", http.StatusServiceUnavailable)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{overMQTT, overAMQP}, InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		e.Logger.Debug("no WebSocket", "remote", r.RemoteAddr, "error", err)
		return
	}
	defer ws.CloseNow()
	if door := doors[ws.Subprotocol()]; door != "" && !e.From.LetsConn(newStream(r.Context(), ws, r), door) {
		e.Logger.Debug("not let in", "remote", r.RemoteAddr, "door", door)
		return
	}
	if ws.Subprotocol() == "" {
		if err := ws.Close(websocket.StatusPolicyViolation, "the subprotocol is "+overMQTT+" or "+overAMQP); err != nil {
			e.Logger.Debug("WebSocket closed", "error", err)
		}
		return
	}
	ws.SetReadLimit(maxFrame)
	ctx := context.WithoutCancel(r.Context())
	if ws.Subprotocol() == overAMQP {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		e.handOverAMQP(ctx, newStream(ctx, ws, r), host, local)
		return
	}
	conn := mqtt.NewConn(newStream(ctx, ws, r), mqttLimits)
	connect, err := conn.ReadConnect()
	if err != nil {
		e.Logger.Debug("no CONNECT", "remote", r.RemoteAddr, "error", err)
		return
	}
	e.handOver(ctx, conn, connect)
}

// stream is a WebSocket as a connection: its messages as one stream, the
// addresses and the certificates of the request it came with.
type stream struct {
	net.Conn
	ws     *websocket.Conn
	remote net.Addr
	state  tls.ConnectionState
}

func newStream(ctx context.Context, ws *websocket.Conn, r *http.Request) *stream {
	s := &stream{Conn: websocket.NetConn(ctx, ws, websocket.MessageBinary), ws: ws}
	s.remote = s.Conn.RemoteAddr()
	if address, err := net.ResolveTCPAddr("tcp", r.RemoteAddr); err == nil {
		s.remote = address
	}
	if r.TLS != nil {
		s.state = *r.TLS
	}
	return s
}

// RemoteAddr is the client's address.
func (s *stream) RemoteAddr() net.Addr { return s.remote }

// ConnectionState is that of the TLS connection the WebSocket runs over.
func (s *stream) ConnectionState() tls.ConnectionState { return s.state }

// Close drops the connection; a farewell could wait for a client that is stuck.
func (s *stream) Close() error { return s.ws.CloseNow() }
