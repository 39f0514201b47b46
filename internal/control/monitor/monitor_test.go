package monitor_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control/monitor"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/resource"
)

var quiet = slog.New(slog.DiscardHandler)

// world is a monitor, with a clock and a link.
type world struct {
	t       *testing.T
	dir     string
	conn    *bus.Conn
	ahead   atomic.Int64
	monitor *monitor.Monitor
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir()}
	nats, err := bus.Start(t.Context(), bus.Options{Name: "link", Logger: quiet})
	must(t, err)
	t.Cleanup(nats.Stop)
	w.conn, err = nats.Connect("control")
	must(t, err)
	t.Cleanup(w.conn.Close)
	w.monitor = w.open(w.dir)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.monitor.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		must(t, <-done)
		must(t, w.monitor.Close())
	})
	return w
}

func (w *world) open(dir string) *monitor.Monitor {
	m, err := monitor.New(monitor.Options{
		Dir: dir, Conn: w.conn, Registry: metrics.New("test", quiet), Logger: quiet, Now: w.now,
		Stamps: func(context.Context) ([]resource.Stamp, error) {
			return []resource.Stamp{{Metadata: resource.Metadata{Name: "eu-1"}, Spec: resource.StampSpec{Environment: "production", Region: "eu-west"}}}, nil
		},
	})
	must(w.t, err)
	return m
}

// tell tells metrics as a stamp does.
func (w *world) tell(text string) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := io.WriteString(z, text+"# EOF\n")
	must(w.t, err)
	must(w.t, z.Close())
	must(w.t, bus.Tell(w.conn, link.MetricsSubject(link.StampPeer("eu-1")), link.Metrics{Text: packed.Bytes()}))
}

// value is the one value of a query now, as text; empty when there is none.
func (w *world) value(m *monitor.Monitor, query string) string {
	w.t.Helper()
	status, text, err := m.Ask(w.t.Context(), "query", url.Values{"query": {query}, "time": {fmt.Sprint(float64(w.now().UnixMilli()) / 1000)}})
	must(w.t, err)
	var a struct {
		Error string
		Data  struct{ Result []struct{ Value [2]any } }
	}
	must(w.t, json.Unmarshal(text, &a))
	if status != http.StatusOK {
		w.t.Fatalf("%s: %d %s", query, status, a.Error)
	}
	if len(a.Data.Result) != 1 {
		return ""
	}
	return a.Data.Result[0].Value[1].(string)
}

func (w *world) await(query, want string) {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); w.value(w.monitor, query) != want; <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s is %q, not %q", query, w.value(w.monitor, query), want)
		}
	}
}

const messages = "# TYPE slipway_hub_messages counter\n# HELP slipway_hub_messages Told.\nslipway_hub_messages_total{result=\"ok\"} %d\n"

func TestWhatProcessesTellIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tell(fmt.Sprintf(messages, 7))
	w.await(`slipway_hub_messages_total{environment="production",region="eu-west",stamp="eu-1",job="slipway",plane="stamp"}`, "7")
	w.await(`up{stamp="eu-1"}`, "1")
	w.await(`slipway_build_info{plane="control",version="test"}`, "1")

	// Who is meant to tell and never did is down; so is who falls silent, and
	// what it told has ended.
	w.ahead.Add(int64(time.Minute))
	w.await(`up{instance="provisioning"}`, "0")
	w.await(`up{stamp="eu-1"}`, "0")
	if v := w.value(w.monitor, "slipway_hub_messages_total"); v != "" {
		t.Errorf("a silent stamp still counts %s messages", v)
	}
	w.tell(fmt.Sprintf(messages, 9))
	w.await(`slipway_hub_messages_total`, "9")
	w.tell("# TYPE other gauge\nother 1\n")
	w.await("other", "1")
	if v := w.value(w.monitor, "slipway_hub_messages_total"); v != "" {
		t.Errorf("a series that the stamp does not tell any more is still %s", v)
	}
	down := 0
	for _, one := range w.monitor.Targets() {
		if !one.Up {
			down++
		}
	}
	if down != 1 {
		t.Errorf("%d processes are down, and provisioning alone is: %+v", down, w.monitor.Targets())
	}
}

// What was written down is there after a kill: a copy of the directory, taken
// while it is open, is what a killed process leaves.
func TestAKillLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 10 {
		w.tell(fmt.Sprintf(messages, i))
		w.await("slipway_hub_messages_total", fmt.Sprint(i))
		w.ahead.Add(int64(time.Second))
	}
	left := filepath.Join(t.TempDir(), "metrics")
	must(t, os.CopyFS(left, os.DirFS(w.dir)))
	again := w.open(left)
	defer func() { must(t, again.Close()) }()
	if v := w.value(again, "slipway_hub_messages_total"); v != "9" {
		t.Errorf("after a kill the last value is %q", v)
	}
	if v := w.value(again, "count_over_time(slipway_hub_messages_total[1h]) >= 10"); v == "" {
		t.Error("after a kill values are missing")
	}
}

func TestWhatIsAskedIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.await(`up{plane="control"}`, "1")
	for name, c := range map[string]struct {
		path, form string
		status     int
		says       string
	}{
		"no query":      {"query", "", 400, "cannot be read"},
		"no PromQL":     {"query", "query=sum(", 400, "cannot be read"},
		"long":          {"query", "query=" + strings.Repeat("a", 20_000), 422, "at most"},
		"too many":      {"query_range", "query=up&start=0&end=1000000&step=1", 400, "11000"},
		"backwards":     {"query_range", "query=up&start=10&end=1&step=1", 400, "before the start"},
		"no step":       {"query_range", "query=up&start=1&end=10", 400, "step"},
		"odd time":      {"query", "query=up&time=yesterday", 400, "yesterday"},
		"odd timeout":   {"query", "query=up&timeout=soon", 400, "soon"},
		"all series":    {"series", "", 400, "match[]"},
		"odd selector":  {"series", "match[]={", 400, "selects no series"},
		"odd limit":     {"labels", "limit=-1", 400, "limit"},
		"unknown":       {"admin/tsdb/delete_series", "match[]=up", 404, "monitor.md"},
		"nothing there": {"query", "query=nothing", 200, `"result":[]`},
		"names":         {"labels", "match[]=up", 200, `"instance"`},
		"values":        {"label/plane/values", "", 200, `"control"`},
		"of a time":     {"series", "match[]=up&start=1&end=2", 200, `"data":[]`},
		"about":         {"metadata", "metric=slipway_build_info", 200, "Always 1"},
		"targets":       {"targets", "", 200, `"health":"up"`},
		"build":         {"status/buildinfo", "", 200, "version"},
	} {
		form, err := url.ParseQuery(c.form)
		must(t, err)
		status, text, err := w.monitor.Ask(t.Context(), c.path, form)
		must(t, err)
		if status != c.status || !strings.Contains(string(text), c.says) {
			t.Errorf("%s: %d %.300s; want %d and %q", name, status, text, c.status, c.says)
		}
	}
}

// Exemplars lead from a value to the trace behind it.
func TestExemplarsAreKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tell("# TYPE took histogram\ntook_bucket{le=\"1.0\"} 1 # {trace_id=\"0af7651916cd43dd8448eb211c80319c\"} 0.5\ntook_bucket{le=\"+Inf\"} 1\ntook_sum 0.5\ntook_count 1\n")
	w.await("took_count", "1")
	_, text, err := w.monitor.Ask(t.Context(), "query_exemplars", url.Values{"query": {"took_bucket"}, "start": {"0"}, "end": {fmt.Sprint(w.now().Unix() + 10)}})
	must(t, err)
	if !strings.Contains(string(text), "0af7651916cd43dd8448eb211c80319c") {
		t.Errorf("no exemplar: %s", text)
	}
}

// A real promtool asks, and a real Prometheus federates.
func TestRealPrometheus(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tell(fmt.Sprintf(messages, 7))
	w.await("slipway_hub_messages_total", "7")
	server := httptest.NewServer(w.monitor.Handler())
	defer server.Close()
	ask := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput()
		if err != nil {
			t.Errorf("promtool %s: %s\n%s", args, err, out)
		}
		return string(out)
	}
	at := server.URL + monitor.Prefix
	if out := ask("query", "instant", at, "sum(slipway_hub_messages_total)"); !strings.Contains(out, "=> 7") {
		t.Error(out)
	}
	if out := ask("query", "range", "--step=10s", at, "up"); !strings.Contains(out, "eu-1") {
		t.Error(out)
	}
	if out := ask("query", "series", "--match=up", at); !strings.Contains(out, `stamp="eu-1"`) {
		t.Error(out)
	}
	if out := ask("query", "labels", at, "stamp"); !strings.Contains(out, "eu-1") {
		t.Error(out)
	}
	theirs := startPrometheus(t, server.Listener.Addr().String())
	for deadline := time.Now().Add(60 * time.Second); ; <-time.After(200 * time.Millisecond) {
		out, err := exec.CommandContext(t.Context(), "promtool", "query", "instant", theirs, `slipway_hub_messages_total{stamp="eu-1"}`).CombinedOutput()
		if err == nil && strings.Contains(string(out), "=> 7") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the other Prometheus has nothing of ours: %s", out)
		}
	}
}

// startPrometheus runs a Prometheus that federates from an address.
func startPrometheus(t *testing.T, from string) string {
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("the tests need Prometheus: run 'make setup-test', or install the package prometheus")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `
scrape_configs:
  - job_name: federate
    honor_labels: true
    scrape_interval: 1s
    metrics_path: %s/federate
    params: {"match[]": ['{job="slipway"}']}
    static_configs: [{targets: [%q]}]
`, monitor.Prefix, from), 0o600))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := l.Addr().String()
	must(t, l.Close())
	process := exec.CommandContext(t.Context(), program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	must(t, process.Start())
	t.Cleanup(func() { _ = process.Wait() })
	return "http://" + address
}

// The dashboard for Grafana asks nothing that cannot be answered.
func TestTheDashboardAsksPromQL(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../deploy/grafana/slipway.json")
	must(t, err)
	var dashboard struct {
		UID, Title string
		Panels     []struct {
			ID      int
			Title   string
			GridPos struct{ H, W, X, Y int }
			Targets []struct{ Expr string }
		}
	}
	must(t, json.Unmarshal(text, &dashboard))
	if dashboard.UID == "" || len(dashboard.Panels) == 0 {
		t.Fatal("the dashboard is empty")
	}
	seen := map[string]bool{}
	for _, p := range dashboard.Panels {
		if at := fmt.Sprint(p.GridPos); seen[at] || p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s is in the way at %s", p.Title, at)
		} else {
			seen[at] = true
		}
		for _, target := range p.Targets {
			if err := monitor.CheckQuery(strings.ReplaceAll(target.Expr, "$__rate_interval", "5m")); err != nil {
				t.Errorf("%s: %v", p.Title, err)
			}
		}
		if len(p.Targets) == 0 {
			t.Errorf("%s asks nothing", p.Title)
		}
	}
}
