package trail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	collectlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	collecttraces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/slipway/slipway/internal/link"
)

func opened(t *testing.T, output io.Writer, collector string) *Trail {
	t.Helper()
	tr, err := Open(t.Context(), Options{Output: slog.NewTextHandler(output, nil), Collector: collector, Plane: "control", Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestLinesCannotBeForgedAndHoldNoSecret(t *testing.T) {
	var output bytes.Buffer
	tr := opened(t, &output, "")
	l := tr.Logger().With("plane", "stamp", "stamp", "test-1")
	evil := "x\ntime=2026 level=ERROR msg=forged\r\x1b[31m\u202e\u2028"
	l.Warn(evil, "device", evil, "token", "slp_abcdefghijklmnop", "error", errors.New("postgres://slipway:hunter22@db: Authorization: Bearer abcdefghijkl SharedAccessKey=c2VjcmV0 slp_abcdefghijkl"),
		slog.Group("in", "password", "hunter22", "path", evil))
	text := output.String()
	if strings.Count(text, "\n") != 1 || strings.ContainsAny(text[:len(text)-1], "\r\x1b\u202e\u2028") {
		t.Errorf("the output is not one plain line: %q", text)
	}
	taken := tr.store.take(10)
	if len(taken.Lines) != 1 {
		t.Fatal(taken)
	}
	one := taken.Lines[0]
	if one.Stamp != "test-1" || one.Plane != "stamp" || one.Level != "warn" || !strings.Contains(one.Device, "forged") {
		t.Errorf("%+v", one)
	}
	all := text + fmt.Sprint(one)
	for _, secret := range []string{"hunter22", "abcdefgh", "c2VjcmV0"} {
		if strings.Contains(all, secret) {
			t.Errorf("%q is in %s", secret, all)
		}
	}
	for _, r := range fmt.Sprint(one) {
		if r != ' ' && !unicode.IsPrint(r) {
			t.Errorf("%q", r)
		}
	}
}

func FuzzPlain(f *testing.F) {
	f.Add("a\nb\x00\xff slp_aaaaaaaaaaaa ://u:p@h")
	f.Fuzz(func(t *testing.T, text string) {
		got := Plain(text, 100)
		for _, r := range got {
			if !unicode.IsPrint(r) && r != '\uFFFD' {
				t.Errorf("%q of %q", got, text)
			}
		}
	})
}

func TestWhatControlDoesNotTakeIsKeptWithinBounds(t *testing.T) {
	t.Parallel()
	s := newStore()
	for i := range 3 * maxLines {
		s.line(link.Line{Message: fmt.Sprint(i)})
	}
	if len(s.lines.items) > maxLines {
		t.Fatal(len(s.lines.items))
	}
	tr, refuse := &Trail{store: s}, errors.New("control is away")
	tr.tell(t.Context(), "p", func(context.Context, link.Trail) error { return refuse })
	s.line(link.Line{Message: "last"})
	var got []string
	lost := int64(0)
	tr.tell(t.Context(), "p", func(_ context.Context, bundle link.Trail) error {
		lost += bundle.Lost
		for _, l := range bundle.Lines {
			got = append(got, l.Message)
		}
		return nil
	})
	if got[len(got)-1] != "last" || got[len(got)-2] != fmt.Sprint(3*maxLines-1) || int64(len(got))+lost != 3*maxLines+1 {
		t.Errorf("%d lines and %d lost, the last %s", len(got), lost, got[len(got)-1])
	}
}

// collector is the receiving side of OTLP over HTTP, as its messages define it.
type collector struct {
	mu    sync.Mutex
	lines []string
	spans []string
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var logs collectlogs.ExportLogsServiceRequest
	var traces collecttraces.ExportTraceServiceRequest
	switch {
	case r.URL.Path == "/v1/logs" && proto.Unmarshal(body, &logs) == nil:
		for _, of := range logs.ResourceLogs {
			for _, scope := range of.ScopeLogs {
				for _, l := range scope.LogRecords {
					c.lines = append(c.lines, fmt.Sprintf("%s %x %v %s", l.SeverityText, l.TraceId, l.Body.GetStringValue(), of.Resource.Attributes[0].Value.GetStringValue()))
				}
			}
		}
	case r.URL.Path == "/v1/traces" && proto.Unmarshal(body, &traces) == nil:
		for _, of := range traces.ResourceSpans {
			for _, scope := range of.ScopeSpans {
				for _, s := range scope.Spans {
					c.spans = append(c.spans, fmt.Sprintf("%x %s", s.TraceId, s.Name))
				}
			}
		}
	default:
		w.WriteHeader(http.StatusBadRequest)
	}
}

func TestACollectorGetsLinesAndSpansOfOneTrace(t *testing.T) {
	got := &collector{}
	server := httptest.NewServer(got)
	defer server.Close()
	tr := opened(t, io.Discard, server.URL)
	ctx, work := Begin(t.Context(), "outer")
	_, inner := Under(ctx, "inner")
	tr.Logger().WarnContext(ctx, "said within", "device", "d1")
	inner.Say("device", "d1").End(errors.New("it failed"))
	work.End(nil)
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{fmt.Sprintf("[WARN %s said within slipway]", work.Trace()), fmt.Sprintf("[%s inner %s outer]", work.Trace(), work.Trace())}
	if lines, spans := fmt.Sprint(got.lines), fmt.Sprint(got.spans); lines != want[0] || spans != want[1] {
		t.Errorf("%s and %s, not %s", lines, spans, want)
	}
	kept := tr.store.take(10)
	if len(kept.Spans) != 2 || kept.Lines[0].Trace != work.Trace() || kept.Spans[0].Parent != kept.Spans[1].ID || kept.Spans[0].Problem != "it failed" {
		t.Errorf("%+v", kept)
	}
}

func TestACollectorThatIsAwayKeepsNobodyWaiting(t *testing.T) {
	stuck := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stuck }))
	defer server.Close()
	defer close(stuck)
	tr := opened(t, io.Discard, server.URL)
	began := time.Now()
	for i := range 20 * maxQueued {
		_, work := Begin(t.Context(), "work")
		work.End(nil)
		if i%4 == 0 {
			tr.Logger().Info("said")
		}
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := tr.Close(ctx); err == nil {
		t.Error("what was not taken was not told")
	}
}

func TestTracesGoOnOverHTTPAndStayWithinBounds(t *testing.T) {
	tr := opened(t, io.Discard, "")
	var inside string
	h := HTTP("control", "", false, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { inside, _ = Of(r.Context()) }))
	ask := func(parent string) string {
		r, w := httptest.NewRequest("GET", "/x", nil), httptest.NewRecorder()
		if parent != "" {
			r.Header.Set("traceparent", parent)
		}
		h.ServeHTTP(w, r)
		return w.Header().Get(Header)
	}
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	if got := ask("00-" + id + "-00f067aa0ba902b7-01"); got != id || inside != id {
		t.Error(got, inside)
	}
	if got := ask("00-" + id + "-00f067aa0ba902b7-00"); got != "" {
		t.Error("traced although the asker does not: " + got)
	}
	if got := ask("nonsense"); len(got) != 32 || got == id {
		t.Error(got)
	}
	traced := 0
	for range 50 * traceBurst {
		if ask("00-"+id+"-00f067aa0ba902b7-01") != "" {
			traced++
		}
	}
	if traced > 49*traceBurst {
		t.Errorf("%d traces were taken on at once", traced)
	}
	if _, work := Seldom(t.Context(), "x"); work != nil {
		t.Error("a share of nothing is traced")
	}
	if lines := tr.store.take(1).Spans; len(lines) != 1 {
		t.Error(lines)
	}
}
