package bus_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
)

func openStore(t *testing.T) *bus.Conn {
	t.Helper()
	server, err := bus.Start(t.Context(), bus.Options{Name: "copy", Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	conn, err := server.Connect("copy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// fill appends records and waits until the log has them.
func fill(t *testing.T, log *bus.Log, from, to int) {
	t.Helper()
	done := make(chan error, to-from)
	for i := from; i < to; i++ {
		log.Append(fmt.Sprintf("t.d%d", i%7), bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 200), func(_ uint64, err error) { done <- err })
	}
	for i := from; i < to; i++ {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func TestALogComesBackAsItWas(t *testing.T) {
	t.Parallel()
	ctx, config := t.Context(), bus.LogConfig{Name: "TELEMETRY", Subjects: []string{"t.>"}, MaxBytes: 64 << 20, MaxAge: time.Hour}
	log, err := openStore(t).OpenLog(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, log, 0, 3000)
	want, _, err := log.Read(ctx, "t.d3", 0, 50)
	if err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	copied, err := log.Copy(ctx, &first)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, log, 3000, 3010)
	if _, err := log.Copy(ctx, &second); err != nil {
		t.Fatal(err)
	}
	common := 0
	for common < first.Len() && first.Bytes()[common] == second.Bytes()[common] {
		common++
	}
	t.Logf("copies of %d and %d bytes begin with the same %d", first.Len(), second.Len(), common)

	conn := openStore(t)
	if err := conn.RestoreLog(ctx, copied, bytes.NewReader(first.Bytes())); err != nil {
		t.Fatal(err)
	}
	back, err := conn.OpenLog(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := back.Read(ctx, "t.d3", 0, 50)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("after coming back: %v\n%.300v\nwas %.300v", err, got, want)
	}
	if state, err := back.State(ctx); err != nil || state.Last != 3000 {
		t.Errorf("state %+v, %v", state, err)
	}
	for name, damaged := range map[string][]byte{"half": first.Bytes()[:first.Len()/2], "changed": append(bytes.Repeat([]byte{1}, 40), first.Bytes()[40:]...)} {
		other := openStore(t)
		if err := other.RestoreLog(ctx, copied, bytes.NewReader(damaged)); err == nil {
			t.Errorf("a copy that is %s came back", name)
		}
		if empty, err := other.OpenLog(ctx, config); err != nil {
			t.Error(err)
		} else if state, err := empty.State(ctx); err != nil || state.Last != 0 {
			t.Errorf("a copy that is %s left %+v, %v", name, state, err)
		}
	}
}
