package telemetry

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

func open(t *testing.T) *Logs {
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
	logs, err := Open(t.Context(), conn, "test-1", DefaultRetention, logger)
	if err != nil {
		t.Fatal(err)
	}
	return logs
}

func appendAndWait(t *testing.T, l *Logs, o Origin, bag string, bodies ...string) {
	t.Helper()
	var all sync.WaitGroup
	all.Add(len(bodies))
	for _, body := range bodies {
		l.Append(o, bag, []byte(body), func(_ uint64, err error) {
			if err != nil {
				t.Error(err)
			}
			all.Done()
		})
	}
	all.Wait()
}

func TestWhatWasAppendedIsReadBackPerDevice(t *testing.T) {
	l := open(t)
	odd := "a.b*c%2E(d)"
	appendAndWait(t, l, Origin{DeviceID: "other"}, "", "1", "2")
	appendAndWait(t, l, Origin{DeviceID: odd, Generation: "g1", AuthMethod: "{}", ModelID: "dtmi:x;1"}, "%24.ct=application%2Fjson&alert=true", `{"t":1}`, "raw", "")

	page, err := l.ReadTelemetry(t.Context(), link.ReadLog{DeviceID: odd})
	if err != nil || len(page.Items) != 3 || page.More {
		t.Fatalf("%+v, %v", page, err)
	}
	first := page.Items[0]
	if first.DeviceID != odd || string(first.Body) != `{"t":1}` || first.Properties["alert"] != "true" || first.ContentType != "application/json" ||
		first.SystemProperties["dt-dataschema"] != "dtmi:x;1" || first.SystemProperties["iothub-connection-device-id"] != odd {
		t.Errorf("got %+v", first)
	}
	if !bytes.Equal(page.Items[1].BodyBase64, []byte("raw")) || page.Items[2].Body != nil {
		t.Errorf("got %+v", page.Items[1:])
	}
	last, err := l.ReadTelemetry(t.Context(), link.ReadLog{Last: true, Limit: 2})
	if err != nil || len(last.Items) != 2 || last.Items[1].Sequence != 5 {
		t.Errorf("last: %+v, %v", last, err)
	}
}

func TestWatchSeesWhatComes(t *testing.T) {
	l := open(t)
	appendAndWait(t, l, Origin{DeviceID: "d"}, "", "before")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := make(chan link.LogRecord, 10)
	ended := make(chan error, 1)
	go func() {
		ended <- l.WatchTelemetry(ctx, link.WatchLog{DeviceID: "d", After: 1}, func(r link.LogRecord) error { seen <- r; return nil })
	}()
	appendAndWait(t, l, Origin{DeviceID: "e"}, "", "other")
	appendAndWait(t, l, Origin{DeviceID: "d"}, "", "2")
	if r := <-seen; r.DeviceID != "d" || string(r.Body) != "2" {
		t.Errorf("saw %+v", r)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	l.Note(Event{DeviceID: "d", Kind: "connected", Details: map[string]string{"by": "sas"}})
	var events link.LogPage
	for len(events.Items) == 0 && t.Context().Err() == nil {
		var err error
		if events, err = l.ReadEvents(t.Context(), link.ReadLog{DeviceID: "d"}); err != nil {
			t.Fatal(err)
		}
	}
	if e := events.Items[0]; e.Kind != "connected" || e.Properties["by"] != "sas" {
		t.Errorf("event %+v", e)
	}
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		bag  string
		body int
		want problem.Kind
	}{
		{"", MaxSize, ""},
		{"", MaxSize + 1, problem.TooLarge},
		{"ab=cde", MaxSize - 4, problem.TooLarge},
		{"ab=cde", MaxSize - 5, ""},
		{"a=%z", 1, problem.Invalid},
		{"%24.mid=" + strings.Repeat("x", 129), 1, problem.Invalid},
		{strings.Repeat("a=b&", 300), 1, problem.Invalid},
	} {
		err := Check(c.bag, make([]byte, c.body))
		if (c.want == "") != (err == nil) || err != nil && !problem.Is(err, c.want) {
			t.Errorf("%.20q with %d bytes: %v, want %q", c.bag, c.body, err, c.want)
		}
	}
}

func FuzzUnseal(f *testing.F) {
	f.Add(seal(nil, Origin{Generation: "g", AuthMethod: "m"}, "a=b", []byte("body")))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, bag, body, err := unseal(data)
		if err != nil {
			return
		}
		o2, bag2, body2, err := unseal(seal(nil, o, bag, body))
		if err != nil || o2 != o || bag2 != bag || !bytes.Equal(body, body2) {
			t.Errorf("%q does not survive a round trip", data)
		}
	})
}
