package hub

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/policy"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/command"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/migrations"
	"github.com/slipway/slipway/internal/stamp/telemetry"
	"github.com/slipway/slipway/internal/stamp/tenant"
	"github.com/slipway/slipway/internal/stamp/twin"
	"github.com/slipway/slipway/internal/trail"
)

// messagesARound are so many that a round takes long enough to be measured.
const messagesARound = 20_000

// BenchmarkWhatBeingWatchedCosts is by how much more processor time a message of
// telemetry takes because it is counted and a share of all is traced. Rounds with
// and without take turns, so that a busy machine is no matter, and the processor
// time of the whole process counts. Nothing of a connection (TLS, MQTT) is in it,
// so that the share is larger here than a stamp's. Messages are not audited:
// nobody changes anything by them.
func BenchmarkWhatBeingWatchedCosts(b *testing.B) {
	h := benchedHub(b)
	counted := h.meters
	s := h.newSession(device.Device{ID: "d1", GenerationID: "1", Tenant: link.DefaultTenant}, Arrival{}, device.Proof{}, nil, time.Now())
	round := func(watched bool) time.Duration {
		h.meters = nil
		share := 0.0
		if watched {
			h.meters, share = counted, trail.DefaultShare
		}
		if _, err := trail.Open(b.Context(), trail.Options{Output: slog.NewTextHandler(io.Discard, nil), Share: share}); err != nil {
			b.Fatal(err)
		}
		before := processorTime(b)
		var acknowledged sync.WaitGroup
		acknowledged.Add(messagesARound)
		for range messagesARound {
			if err := s.Publish("", []byte(`{"temperature":21.5}`), func(err error) {
				if err != nil {
					b.Error(err)
				}
				acknowledged.Done()
			}); err != nil {
				b.Fatal(err)
			}
		}
		acknowledged.Wait()
		return processorTime(b) - before
	}
	round(true)
	round(false)
	var ratios []float64
	var with, without time.Duration
	for n := 0; b.Loop(); n++ {
		first, second := round(n%2 == 0), round(n%2 != 0)
		if n%2 != 0 {
			first, second = second, first
		}
		with, without = with+first, without+second
		ratios = append(ratios, float64(first)/float64(second))
	}
	slices.Sort(ratios)
	messages := float64(len(ratios) * messagesARound)
	b.ReportMetric(float64(with.Nanoseconds())/messages, "cpu-ns/message")
	b.ReportMetric((ratios[len(ratios)/2]-1)*100, "%more")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// benchedHub is a hub over a real database and log.
func benchedHub(b *testing.B) *Hub {
	b.Helper()
	quiet := slog.New(slog.DiscardHandler)
	db, err := sqldb.Open(b.Context(), b.TempDir()+"/stamp.db", migrations.FS)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	server, err := bus.Start(b.Context(), bus.Options{Name: "stamp-x", Dir: b.TempDir(), MaxStore: 1 << 40, Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Stop)
	conn, err := server.Connect("x")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(conn.Close)
	logs, err := telemetry.Open(b.Context(), conn, "x", telemetry.DefaultRetention, quiet)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- logs.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	twins := twin.NewStore(db)
	policies, err := policy.Open(b.Context(), db, policy.Hub)
	if err != nil {
		b.Fatal(err)
	}
	quotas, err := tenant.Open(b.Context(), db)
	if err != nil {
		b.Fatal(err)
	}
	limits := DefaultLimits
	limits.MessageRate = 0
	return New(Parts{
		Stamp: "x", Hosts: func() []string { return nil }, Devices: device.NewDevices(db, twins), Policies: policies, Twins: twins, Queues: command.NewQueues(db), Logs: logs, Quotas: quotas,
		Limits: limits, Logger: quiet, Now: time.Now, Metrics: metrics.New("bench", quiet), Changed: func(string) {}, Turned: func(string) {},
	})
}
