package bus_test

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/bus/bustest"
)

// TestALogOutlivesItsServers appends from two processes while the servers of
// the cluster are killed and started again one by one, and sees what was
// acknowledged in the log once, in each writer's order.
func TestALogOutlivesItsServers(t *testing.T) {
	t.Parallel()
	cluster := bustest.Start(t, 3)
	open := func(process string) *bus.Log {
		t.Helper()
		conn, err := bus.Join(t.Context(), bus.External{Servers: cluster.URLs(), Namespace: "s-1", Replicas: 3, Process: process, Logger: slog.New(slog.DiscardHandler), Gap: func() {}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		log, err := conn.OpenLog(t.Context(), bus.LogConfig{Name: "TELEMETRY", Subjects: []string{"t.>"}, MaxBytes: 1 << 28})
		if err != nil {
			t.Fatal(err)
		}
		return log
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var running, writing sync.WaitGroup
	logs := []*bus.Log{open("a"), open("b")}
	for _, log := range logs {
		running.Go(func() {
			if err := log.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	var mu sync.Mutex
	acked := map[string]int{} // by writer: how many
	until := make(chan struct{})
	for writer := range 4 {
		subject := "t." + strconv.Itoa(writer)
		writing.Go(func() {
			for n := 1; ; n++ {
				select {
				case <-until:
					return
				default:
				}
				done := make(chan error, 1)
				logs[writer%2].Append(subject, []byte(strconv.Itoa(n)), func(_ uint64, err error) { done <- err })
				if err := <-done; err != nil {
					t.Errorf("%s %d: %v", subject, n, err)
					return
				}
				mu.Lock()
				acked[subject] = n
				mu.Unlock()
			}
		})
	}
	progress := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, each := range acked {
			n += each
		}
		return n
	}
	for i := range 3 {
		cluster.Kill(i)
		began, before := time.Now(), progress()
		for progress() < before+100 {
			time.Sleep(5 * time.Millisecond)
		}
		t.Logf("server %d killed: 100 more messages after %s", i, time.Since(began).Round(time.Millisecond))
		cluster.Resume(i)
		for before = progress(); progress() < before+100; {
			time.Sleep(5 * time.Millisecond)
		}
	}
	close(until)
	writing.Wait()
	for subject, last := range acked {
		records, more, err := logs[0].Read(t.Context(), subject, 0, last)
		if err != nil {
			t.Fatal(err)
		}
		if more || len(records) != last {
			t.Errorf("%s: %d messages in the log (more: %t), %d acknowledged", subject, len(records), more, last)
		}
		for i, r := range records {
			if string(r.Data) != strconv.Itoa(i+1) {
				t.Fatalf("%s: message %d is %s", subject, i+1, r.Data)
			}
		}
	}
	stop()
	running.Wait()
}

func TestServersAreReachedSafely(t *testing.T) {
	for at, good := range map[string]bool{
		"tls://nats.example.com:4222": true, "nats://127.0.0.1:4222": true, "nats://localhost": true,
		"nats://10.0.0.1:4222": false, "http://127.0.0.1": false, "127.0.0.1:4222": false, "": false,
	} {
		if err := bus.CheckServer(at); (err == nil) != good {
			t.Errorf("%q: %v", at, err)
		}
	}
}
