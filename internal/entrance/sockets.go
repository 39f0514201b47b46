package entrance

import (
	"net"
	"sync"
	"sync/atomic"
)

// sockets counts what is open of what may be.
type sockets struct {
	open atomic.Int64
	most int64
}

// take counts one more, unless there are as many as may be.
func (s *sockets) take() bool {
	if s.open.Add(1) > s.most {
		s.open.Add(-1)
		return false
	}
	return true
}

func (s *sockets) leave() { s.open.Add(-1) }

// web is a listener for HTTPS whose connections count among the sockets, of
// which they may be a half: whoever opens those without end leaves the others to
// devices.
type web struct {
	net.Listener
	e *Entrance
}

// Accept closes connections at once for which there is no socket left.
func (w web) Accept() (net.Conn, error) {
	for {
		nc, err := w.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if w.e.web.take() {
			if w.e.sockets.take() {
				return &counted{Conn: nc, leave: sync.OnceFunc(func() { w.e.sockets.leave(); w.e.web.leave() })}, nil
			}
			w.e.web.leave()
		}
		w.e.Logger.Warn("too many sockets", "limit", w.e.MaxSockets)
		w.e.shut(nc)
	}
}

// counted is a connection that counts until it is closed.
type counted struct {
	net.Conn
	leave func()
}

// Close is net.Conn's.
func (c *counted) Close() error {
	c.leave()
	return c.Conn.Close()
}
