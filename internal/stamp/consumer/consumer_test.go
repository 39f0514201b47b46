package consumer

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/stamp/migrations"
	"github.com/slipway/slipway/internal/stamp/telemetry"
)

func newGroups(t *testing.T, keep telemetry.Retention) (*Groups, func(n int)) {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	server, err := bus.Start(t.Context(), bus.Options{Name: "stamp", Dir: t.TempDir(), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	conn, err := server.Connect("stamp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	logs, err := telemetry.Open(t.Context(), conn, "test-1", keep, logger)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return New("test-1", db, logs, time.Now), func(n int) {
		var all sync.WaitGroup
		for i := range n {
			all.Add(1)
			logs.Append(telemetry.Origin{DeviceID: fmt.Sprint("d", i%7)}, "", []byte("{}"), func(_ uint64, err error) {
				if err != nil {
					t.Error(err)
				}
				all.Done()
			})
		}
		all.Wait()
	}
}

func read(t *testing.T, g *Groups, req link.ReadConsumer) link.ConsumerPage {
	t.Helper()
	page, err := g.Read(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func TestGroupsKeepTheirPlaces(t *testing.T) {
	g, send := newGroups(t, telemetry.DefaultRetention)
	send(10)
	begin := time.Now()
	late := link.ConsumerRef{Group: "late"}
	if page := read(t, g, link.ReadConsumer{ConsumerRef: late}); len(page.Items) != 0 || page.Position != 10 {
		t.Errorf("a new group begins with what comes: %+v", page)
	}
	early := link.ConsumerRef{Group: "early"}
	page := read(t, g, link.ReadConsumer{ConsumerRef: early, From: "earliest", Limit: 4})
	if len(page.Items) != 4 || page.Position != 4 {
		t.Errorf("got %+v", page)
	}
	if again := read(t, g, link.ReadConsumer{ConsumerRef: early}); len(again.Items) != 10 {
		t.Errorf("not acknowledged, it comes again: %d", len(again.Items))
	}
	for _, position := range []uint64{4, 3} { // the second comes late
		if c, err := g.Ack(t.Context(), link.AckConsumer{ConsumerRef: early, Position: position}); err != nil || c.Position != 4 || c.Lag != 6 {
			t.Errorf("%+v, %v", c, err)
		}
	}
	if ahead := read(t, g, link.ReadConsumer{ConsumerRef: early, After: 8}); len(ahead.Items) != 2 || ahead.Items[0].Sequence != 9 {
		t.Errorf("got %+v", ahead)
	}
	send(5)
	for name, c := range map[string]struct {
		seek  link.SeekConsumer
		first uint64
	}{
		"the beginning": {link.SeekConsumer{To: "earliest"}, 1},
		"a sequence":    {link.SeekConsumer{Sequence: 7}, 7},
		"a time":        {link.SeekConsumer{Time: &begin}, 11},
	} {
		c.seek.ConsumerRef = late
		if _, err := g.Seek(t.Context(), c.seek); err != nil {
			t.Fatal(err)
		}
		if page := read(t, g, link.ReadConsumer{ConsumerRef: late}); len(page.Items) == 0 || page.Items[0].Sequence != c.first {
			t.Errorf("%s: %+v", name, page)
		}
	}
	all, err := g.List(t.Context(), link.None{})
	if err != nil || len(all.Items) != 2 || all.Items[0].Group != "early" || all.Items[0].Lag != 11 {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := g.Delete(t.Context(), late); err != nil {
		t.Error(err)
	}
	if _, err := g.Delete(t.Context(), late); !problem.Is(err, problem.NotFound) {
		t.Errorf("got %v", err)
	}
}

func TestReadersWaitForWhatComes(t *testing.T) {
	g, send := newGroups(t, telemetry.DefaultRetention)
	ref := link.ConsumerRef{Group: "g"}
	read(t, g, link.ReadConsumer{ConsumerRef: ref})
	got := make(chan link.ConsumerPage)
	go func() {
		page, err := g.Read(t.Context(), link.ReadConsumer{ConsumerRef: ref, Wait: 20 * time.Second})
		if err != nil {
			t.Error(err)
		}
		got <- page
	}()
	send(1)
	if page := <-got; len(page.Items) != 1 || page.Position != 1 {
		t.Errorf("got %+v", page)
	}
}

func TestWhatRetentionTookIsTold(t *testing.T) {
	g, send := newGroups(t, telemetry.Retention{TelemetryBytes: 32 << 10, EventBytes: 32 << 10, TelemetryAge: time.Hour, EventAge: time.Hour})
	ref := link.ConsumerRef{Group: "g"}
	read(t, g, link.ReadConsumer{ConsumerRef: ref})
	send(5000)
	page := read(t, g, link.ReadConsumer{ConsumerRef: ref, Limit: 1000})
	if page.Lost == 0 || page.Lost+uint64(len(page.Items)) != page.Position {
		t.Errorf("lost %d, %d read, position %d", page.Lost, len(page.Items), page.Position)
	}
}

func TestWhatCannotBeReadIsRefused(t *testing.T) {
	g, _ := newGroups(t, telemetry.DefaultRetention)
	nine := 9
	for field, ref := range map[string]link.ConsumerRef{"group": {Group: "a b"}, "source": {Group: "g", Source: "twins"}, "partition": {Group: "g", Partition: &nine}} {
		if _, err := g.Read(t.Context(), link.ReadConsumer{ConsumerRef: ref}); problem.Of(err).Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := g.Ack(t.Context(), link.AckConsumer{ConsumerRef: link.ConsumerRef{Group: "g"}, Position: 1}); !problem.Is(err, problem.Invalid) {
		t.Errorf("got %v", err)
	}
	if _, err := g.Seek(t.Context(), link.SeekConsumer{ConsumerRef: link.ConsumerRef{Group: "g"}}); problem.Of(err).Field != "to" {
		t.Errorf("got %v", err)
	}
}
