package bus_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/peer"
	"github.com/slipway/slipway/internal/problem"
)

// ownServers are the servers that the processes of a stamp keep themselves.
type ownServers struct {
	site
	t       *testing.T
	servers []string
	dirs    []string
}

func newOwnServers(t *testing.T) *ownServers {
	t.Helper()
	o := &ownServers{site: newSite(t), t: t}
	for range 3 {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		free.Close()
		o.servers, o.dirs = append(o.servers, free.Addr().String()), append(o.dirs, t.TempDir())
	}
	return o
}

func (o *ownServers) join(ctx context.Context, i int, dir, as string) (*bus.Conn, error) {
	name := fmt.Sprint("p", i)
	return bus.Join(ctx, bus.External{Namespace: "s-1", Replicas: 3, Process: name, Logger: slog.New(slog.DiscardHandler), Gap: func() {}, Own: &bus.Options{
		Name: name, Dir: dir, Logger: slog.New(slog.DiscardHandler),
		Cluster: &bus.Cluster{Name: "s-1", Listen: o.servers[i], Advertise: o.servers[i], Servers: o.servers, TLS: peer.Among(o.tls(as), as)},
	}})
}

// together starts some of them at once: none is there before most are.
func (o *ownServers) together(which ...int) map[int]*bus.Conn {
	o.t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	conns := map[int]*bus.Conn{}
	for _, i := range which {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(o.t.Context(), 60*time.Second)
			defer cancel()
			conn, err := o.join(ctx, i, o.dirs[i], "stamp.s-1")
			if err != nil {
				o.t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			conns[i] = conn
		})
	}
	all.Wait()
	if len(conns) < len(which) {
		o.t.FailNow()
	}
	return conns
}

// strange has a process of another stamp come in the place of one.
func (o *ownServers) strange(i int) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), 2*time.Second)
	defer cancel()
	if conn, err := o.join(ctx, i, o.t.TempDir(), "stamp.other"); err == nil {
		conn.Close()
		o.t.Error("a process of another stamp keeps one of the servers")
	}
}

func ping(conn *bus.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return conn.Ping(ctx)
}

// TestServersOfProcessesAreACluster has three processes keep a server each. Two
// go on without the third; one alone knows that it is, and is not helped by a
// process of another stamp; what was acknowledged outlives all of that.
func TestServersOfProcessesAreACluster(t *testing.T) {
	t.Parallel()
	o := newOwnServers(t)
	conns := o.together(0, 1, 2)
	end := func(i int) { conns[i].Close(); delete(conns, i) }
	defer func() {
		for i := range conns {
			end(i)
		}
	}()
	logs := map[int]*bus.Log{}
	running, stop := context.WithCancel(context.Background())
	defer stop()
	open := func(i int) {
		t.Helper()
		log, err := conns[i].OpenLog(t.Context(), bus.LogConfig{Name: "TELEMETRY", Subjects: []string{"t.>"}, MaxBytes: 1 << 24})
		if err != nil {
			t.Fatal(err)
		}
		logs[i] = log
		go log.Run(running)
	}
	n := 0
	through := func(i int) {
		t.Helper()
		done := make(chan error, 1)
		logs[i].Append("t.1", fmt.Append(nil, n), func(_ uint64, err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatalf("p%d: %v", i, err)
		}
		n++
	}
	for i := range 3 {
		open(i)
		through(i)
	}
	if err := conns[0].Abandon(); err != nil {
		t.Fatal(err)
	}
	through(0)

	before := conns[1].Mark()
	end(0)
	through(1)
	through(2)
	if err := ping(conns[1]); err != nil {
		t.Errorf("with two of three: %v", err)
	}
	eventually(t, 10*time.Second, "the loss is noticed", func() bool { return conns[1].Mark() > before })

	end(2)
	o.strange(2)
	eventually(t, 10*time.Second, "one alone knows that it is", func() bool { return problem.Is(ping(conns[1]), problem.NotReady) })

	for i, conn := range o.together(0, 2) {
		conns[i] = conn
		open(i)
	}
	eventually(t, 10*time.Second, "they are together again", func() bool { return ping(conns[1]) == nil })
	for i := range 3 {
		through(i)
	}
	records, _, err := logs[0].Read(t.Context(), "t.1", 0, 100)
	if err != nil || len(records) != n {
		t.Fatalf("%d records of %d, %v", len(records), n, err)
	}
	for i, r := range records {
		if string(r.Data) != fmt.Sprint(i) {
			t.Errorf("record %d is %s", i, r.Data)
		}
	}
}
