package bus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

func start(t testing.TB, dir string) (*bus.Server, *bus.Conn) {
	t.Helper()
	server, err := bus.Start(t.Context(), bus.Options{Name: "test", Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	conn, err := server.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return server, conn
}

type question struct{ N int }
type answer struct{ Twice int }

var double = link.Call[question, answer]{Name: "double"}

func TestCallCarriesAnswersAndProblems(t *testing.T) {
	_, conn := start(t, "")
	err := bus.Answer(conn, "plane", double, func(ctx context.Context, q question) (answer, error) {
		if q.N < 0 {
			return answer{}, problem.New(problem.Invalid, "n must not be negative").At("n")
		}
		if _, ok := ctx.Deadline(); !ok {
			t.Error("the deadline did not travel")
		}
		return answer{2 * q.N}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := bus.Ask(t.Context(), conn, "plane", double, question{21})
	if err != nil || got.Twice != 42 {
		t.Errorf("got %v, %v", got, err)
	}
	_, err = bus.Ask(t.Context(), conn, "plane", double, question{-1})
	if p := problem.Of(err); p.Kind != problem.Invalid || p.Field != "n" {
		t.Errorf("got %+v", p)
	}
	if _, err = bus.Ask(t.Context(), conn, "nobody", double, question{1}); !problem.Is(err, problem.NotReady) {
		t.Errorf("asking nobody: %v", err)
	}
}

func TestSlowAnswerTimesOut(t *testing.T) {
	_, conn := start(t, "")
	release := make(chan struct{})
	defer close(release)
	err := bus.Answer(conn, "plane", double, func(ctx context.Context, q question) (answer, error) {
		<-release
		return answer{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err = bus.Ask(ctx, conn, "plane", double, question{1}); !problem.Is(err, problem.TimedOut) {
		t.Errorf("got %v", err)
	}
}

var numbers = link.Feed[question, answer]{Name: "numbers"}

func TestFeedIsBoundedAndEnds(t *testing.T) {
	_, conn := start(t, "")
	var mu sync.Mutex
	sent, left := 0, make(chan struct{})
	err := bus.AnswerFeed(conn, "plane", numbers, func(ctx context.Context, q question, send func(answer) error) error {
		for i := range q.N {
			if err := send(answer{i}); err != nil {
				close(left)
				return err
			}
			mu.Lock()
			sent = i
			mu.Unlock()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	if err := bus.Follow(t.Context(), conn, "plane", numbers, question{2000}, func(a answer) error {
		if a.Twice != got {
			return fmt.Errorf("item %d came as number %d", a.Twice, got)
		}
		got++
		mu.Lock()
		defer mu.Unlock()
		if sent > got+600 {
			return fmt.Errorf("%d sent, %d worked off", sent, got)
		}
		return nil
	}); err != nil || got != 2000 {
		t.Fatalf("got %d items, %v", got, err)
	}
	stop := errors.New("enough")
	if err := bus.Follow(t.Context(), conn, "plane", numbers, question{1 << 30}, func(answer) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	select {
	case <-left:
	case <-time.After(10 * time.Second):
		t.Error("the server goes on after the follower left")
	}
	if err := bus.Follow(t.Context(), conn, "nobody", numbers, question{1}, func(answer) error { return nil }); !problem.Is(err, problem.NotReady) {
		t.Errorf("following nobody: %v", err)
	}
}

func openLog(t testing.TB, conn *bus.Conn) *bus.Log {
	t.Helper()
	log, err := conn.OpenLog(t.Context(), bus.LogConfig{Name: "T", Subjects: []string{"t.>"}, MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func appendAll(t testing.TB, log *bus.Log, subjects, each int) {
	t.Helper()
	var all sync.WaitGroup
	all.Add(subjects * each)
	for i := range each {
		for s := range subjects {
			log.Append(fmt.Sprint("t.", s), []byte(fmt.Sprint(i)), func(seq uint64, err error) {
				if err != nil || seq == 0 {
					t.Errorf("append: %d, %v", seq, err)
				}
				all.Done()
			})
		}
	}
	all.Wait()
}

func TestLogKeepsOrderAndSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	server, conn := start(t, dir)
	appendAll(t, openLog(t, conn), 10, 200)
	conn.Close()
	server.Stop()

	_, conn = start(t, dir)
	log := openLog(t, conn)
	page, more, err := log.Read(t.Context(), "t.3", 0, 50)
	if err != nil || !more || len(page) != 50 || string(page[49].Data) != "49" {
		t.Fatalf("%d records, more %v, %v", len(page), more, err)
	}
	last, err := log.Last(t.Context(), "t.3", 5)
	if err != nil || len(last) != 5 || string(last[0].Data) != "195" || string(last[4].Data) != "199" {
		t.Fatalf("last: %v, %v", last, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err = log.Follow(ctx, "t.>", 0, func(bus.Record) error {
		if n++; n == 2000 {
			cancel()
		}
		return nil
	})
	if err != nil || n != 2000 {
		t.Errorf("followed %d, %v", n, err)
	}
}

func TestClosedLogAnswersEveryAppend(t *testing.T) {
	_, conn := start(t, t.TempDir())
	log := openLog(t, conn)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- log.Run(ctx) }()
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	log.Append("t.1", nil, func(_ uint64, err error) { answered <- err })
	if err := <-answered; !problem.Is(err, problem.NotReady) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkLogAppend(b *testing.B) {
	_, conn := start(b, b.TempDir())
	log := openLog(b, conn)
	data := make([]byte, 256)
	var all sync.WaitGroup
	b.ReportAllocs()
	for b.Loop() {
		all.Add(1)
		log.Append("t.1", data, func(uint64, error) { all.Done() })
	}
	all.Wait()
}

func TestFollowersLeaveNothingBehind(t *testing.T) {
	_, conn := start(t, t.TempDir())
	log := openLog(t, conn)
	appendAll(t, log, 1, 10)
	enough := errors.New("enough")
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			for range 100 { // together more than the server has room for
				err := log.Follow(t.Context(), "t.>", 5, func(r bus.Record) error {
					if r.Sequence == 10 {
						return enough
					}
					return nil
				})
				if !errors.Is(err, enough) {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
