package sqldb

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

func TestReadsOfASilentServerEnd(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	var settled atomic.Bool
	settled.Store(true)
	h := &hurried{Conn: near, wait: 20 * time.Millisecond, settled: &settled}
	read := func() error {
		_, err := h.Read(make([]byte, 1))
		return err
	}
	if err := read(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the read ended with %v", err)
	}
	// A deadline of somebody else is kept, and removed by them.
	if err := h.SetDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- read() }()
	select {
	case err := <-ended:
		t.Fatalf("the read ended with %v before the deadline that was set", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := h.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the read ended with %v", err)
	}
	if err := h.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := read(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the read ended with %v", err)
	}
}
