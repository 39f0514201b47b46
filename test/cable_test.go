package test

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// cable is a piece of network between somebody and a server, or several servers
// of which each connection gets one. It can be cut as a real one is: what is sent
// goes nowhere, and nobody is told.
type cable struct {
	address string
	targets []string
	fails   []atomic.Int32 // how often in a row each target did not say that it is ready

	listener net.Listener
	turn     atomic.Uint32
	mu       sync.Mutex
	mended   chan struct{} // closed unless the cable is cut
	conns    map[net.Conn]struct{}
}

// lay puts a cable before targets. The address may leave its port open.
func lay(t *testing.T, address string, targets ...string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{address: l.Addr().String(), targets: targets, fails: make([]atomic.Int32, len(targets)), listener: l, mended: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	close(c.mended)
	go c.accept()
	t.Cleanup(func() {
		l.Close()
		c.mend()
		c.mu.Lock()
		defer c.mu.Unlock()
		for conn := range c.conns {
			conn.Close()
		}
	})
	return c
}

func (c *cable) accept() {
	for {
		near, err := c.listener.Accept()
		if err != nil {
			return
		}
		go c.join(near)
	}
}

// join connects a caller with the next target that takes connections.
func (c *cable) join(near net.Conn) {
	defer near.Close()
	<-c.whole()
	for range c.targets {
		next := int(c.turn.Add(1)) % len(c.targets)
		if c.fails[next].Load() >= maxFails {
			continue
		}
		far, err := net.DialTimeout("tcp", c.targets[next], time.Second)
		if err != nil {
			continue
		}
		defer far.Close()
		c.keep(near, far)
		defer c.forget(near, far)
		var both sync.WaitGroup
		for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
			both.Go(func() { c.carry(way[0], way[1]) })
		}
		both.Wait()
		return
	}
}

// A balancer asks each target every so often whether it is ready, and passes
// over one that twice was not.
const (
	probeEvery = time.Second
	maxFails   = 2
)

// balance asks targets at where they say whether they are ready, until the test
// ends.
func (c *cable) balance(t *testing.T, client *http.Client, at []string) {
	for i, url := range at {
		go func() {
			tick := time.NewTicker(probeEvery)
			defer tick.Stop()
			for {
				select {
				case <-t.Context().Done():
					return
				case <-tick.C:
				}
				answer, err := client.Get(url)
				if err == nil {
					answer.Body.Close()
				}
				if err == nil && answer.StatusCode == http.StatusNoContent {
					c.fails[i].Store(0)
				} else {
					c.fails[i].Add(1)
				}
			}
		}()
	}
}

func (c *cable) keep(conns ...net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range conns {
		c.conns[conn] = struct{}{}
	}
}

func (c *cable) forget(conns ...net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range conns {
		delete(c.conns, conn)
	}
}

// carry takes bytes one way. Neither they nor an end pass a cable that is cut.
func (c *cable) carry(from, to net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if c.waited() && reset(from) {
			return
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// waited waits until the cable is mended, and reports whether it was cut.
func (c *cable) waited() bool {
	whole := c.whole()
	select {
	case <-whole:
		return false
	default:
		<-whole
		return true
	}
}

// reset reports whether the other end has given a connection up, with what was
// still under way.
func reset(conn net.Conn) bool {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return true
	}
	var pending error
	err = raw.Control(func(descriptor uintptr) {
		var code int
		if code, pending = syscall.GetsockoptInt(int(descriptor), syscall.SOL_SOCKET, syscall.SO_ERROR); code != 0 {
			pending = syscall.Errno(code)
		}
	})
	return err != nil || pending != nil
}

func (c *cable) whole() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mended
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mended = make(chan struct{})
}

func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.mended:
	default:
		close(c.mended)
	}
}
