package metrics_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/problem"
)

var quiet = slog.New(slog.DiscardHandler)

func get(t *testing.T, h http.Handler, path, from string, header ...string) (int, string) {
	t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	r.RemoteAddr = from
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestWhoSeesMetrics(t *testing.T) {
	t.Parallel()
	h := metrics.Guarded(metrics.New("1.2.3", quiet).Handler(), func(_ *http.Request, token string) bool { return token == "right" })
	for name, c := range map[string]struct {
		from   string
		header []string
		want   int
	}{
		"the machine itself":       {"127.0.0.1:1", nil, 200},
		"over IPv6":                {"[::1]:1", nil, 200},
		"another":                  {"192.0.2.1:1", nil, 401},
		"a proxy on the machine":   {"127.0.0.1:1", []string{"X-Forwarded-For", "192.0.2.1"}, 401},
		"another sort of proxy":    {"127.0.0.1:1", []string{"Forwarded", "for=192.0.2.1"}, 401},
		"another with a token":     {"192.0.2.1:1", []string{"Authorization", "Bearer right"}, 200},
		"another with a wrong one": {"192.0.2.1:1", []string{"Authorization", "Bearer wrong"}, 401},
		"as a password":            {"192.0.2.1:1", []string{"Authorization", "Basic YW55OnJpZ2h0"}, 200},
	} {
		if status, text := get(t, h, metrics.Path, c.from, c.header...); status != c.want || (status == 200) != strings.Contains(text, `slipway_build_info{goversion=`) {
			t.Errorf("%s: %d, not %d", name, status, c.want)
		}
	}
}

func TestRequestsAreCounted(t *testing.T) {
	t.Parallel()
	r := metrics.New("1.2.3", quiet)
	h := r.HTTP("api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	get(t, h, "/devices/one", "192.0.2.1:1", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	get(t, h, "/no", "192.0.2.1:1", "traceparent", "00-nonsense")
	text, err := r.Text()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`slipway_http_request_seconds_count{code="200",handler="api",method="GET"} 1`, `slipway_http_request_seconds_count{code="418",handler="api",method="GET"} 1`,
		`trace_id="0af7651916cd43dd8448eb211c80319c"`, "# EOF",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the text lacks %s", want)
		}
	}
	if strings.Contains(string(text), "devices/one") {
		t.Error("a path has become a label")
	}
}

func TestTold(t *testing.T) {
	t.Parallel()
	r := metrics.New("1.2.3", quiet)
	r.Collect("test", func(_ context.Context, add func(metrics.Sample)) error {
		add(metrics.Sample{Name: "looked_up", Help: "Looked up.", Value: 3})
		return errors.New("and then it failed")
	})
	ctx, stop := context.WithCancel(t.Context())
	var told link.Metrics
	if err := r.Tell("one", func(m link.Metrics) error { told = m; stop(); return nil })(ctx); err != nil {
		t.Fatal(err)
	}
	text, err := metrics.Unpack(told)
	if err != nil || told.Process != "one" || !strings.Contains(string(text), "looked_up 3.0") {
		t.Errorf("%v: %s", err, text)
	}
	if _, err := metrics.Unpack(link.Metrics{Text: []byte("nonsense")}); err == nil {
		t.Error("nonsense was unpacked")
	}
}

func TestResults(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		metrics.OK: nil, metrics.Throttled: problem.New(problem.Busy, ""), metrics.Failed: errors.New("disk"), metrics.Refused: problem.New(problem.Denied, ""),
	} {
		if got := metrics.Result(err); got != want {
			t.Errorf("%v is %s, not %s", err, got, want)
		}
	}
}

func TestNamesAreAsTheFieldHasThem(t *testing.T) {
	t.Parallel()
	r := metrics.New("1.2.3", quiet)
	r.HTTP("api", http.NotFoundHandler())
	r.Database()
	problems, err := testutil.GatherAndLint(r)
	if err != nil || len(problems) > 0 {
		t.Error(err, problems)
	}
}
