package gate_test

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/resource"
)

// exporter has metrics that a test sets.
type exporter struct {
	*httptest.Server
	value, good, total atomic.Int64
}

func newExporter(t *testing.T) *exporter {
	e := &exporter{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		e.total.Add(10)
		if _, err := fmt.Fprintf(w, "errors{environment=\"test\"} %d\nnothing NaN\nendless +Inf\ngood_total %d\nall_total %d\n", e.value.Load(), e.good.Load(), e.total.Load()); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(e.Close)
	return e
}

// startPrometheus starts a real Prometheus that scrapes a target five times a
// second, and returns its URL.
func startPrometheus(t *testing.T, target string) string {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("the tests need Prometheus: run 'make setup-test', or install the package prometheus")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: { scrape_interval: 200ms, scrape_timeout: 200ms }\nscrape_configs:\n  - job_name: exporter\n    static_configs: [ { targets: [ %q ] } ]\n", strings.TrimPrefix(target, "http://"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--log.level=error")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if err := cmd.Wait(); err != nil && ctx.Err() == nil {
			t.Errorf("%v: %s", err, said.String())
		}
	})
	return "http://" + address
}

// until waits for a gate to say something.
func until(t *testing.T, w *world, g resource.Gate, s gate.Subject, want gate.Verdict) gate.Result {
	t.Helper()
	g.Name = "g"
	var last gate.Result
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); {
		if last = w.Evaluate(t.Context(), time.Now(), g, s); last.Verdict == want {
			return last
		}
		select {
		case <-t.Context().Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatalf("%s, not %s: %s", last.Verdict, want, last.Reason)
	return last
}

func TestRealPrometheus(t *testing.T) {
	e, w := newExporter(t), newWorld(t)
	url := startPrometheus(t, e.URL)
	o := w.Options
	o.Prometheus = url
	w.Gates = gate.New(o)
	s := gate.Subject{Environment: "test", Release: link.Release{Name: `v1"} or up{job="exporter`}}
	errors := resource.Gate{PromQL: &resource.PromQLGate{Query: "sum(errors{environment={{environment}}})", Window: "10s", Max: ptr(0.0), MinSamples: 5, Consecutive: 5}}
	if r := until(t, w, errors, s, gate.Pass); r.Query != `sum(errors{environment="test"})` || r.Samples < 5 || *r.Value != 0 || r.Threshold != "<= 0" || r.Window != "10s" || len(r.Evidence) == 0 {
		t.Errorf("%+v", r)
	}
	e.value.Store(3)
	if r := until(t, w, errors, s, gate.Fail); *r.Value != 3 {
		t.Errorf("%+v", r)
	}
	e.value.Store(0)
	until(t, w, errors, s, gate.Pass)
	for name, c := range map[string]struct {
		gate   resource.PromQLGate
		want   gate.Verdict
		reason string
	}{
		"no such series":        {resource.PromQLGate{Query: "no_such_metric", Max: ptr(1.0)}, gate.Inconclusive, "no values"},
		"the same, to fail":     {resource.PromQLGate{Query: "no_such_metric", Max: ptr(1.0), OnNoData: resource.NoDataFail}, gate.Fail, "no values"},
		"the same, to pass":     {resource.PromQLGate{Query: "no_such_metric", Max: ptr(1.0), OnNoData: resource.NoDataPass}, gate.Warn, "lets that through"},
		"NaN":                   {resource.PromQLGate{Query: "nothing", Max: ptr(1.0)}, gate.Inconclusive, "NaN"},
		"nothing by nothing":    {resource.PromQLGate{Query: "sum(errors) / sum(errors)", Max: ptr(1.0), Window: "5s", Consecutive: 1}, gate.Inconclusive, "NaN"},
		"infinity":              {resource.PromQLGate{Query: "endless", Min: ptr(0.95)}, gate.Inconclusive, "infinite"},
		"no PromQL":             {resource.PromQLGate{Query: "sum(", Max: ptr(1.0)}, gate.Error, "parse error"},
		"text":                  {resource.PromQLGate{Query: `"hello"`, Max: ptr(1.0)}, gate.Error, "the Prometheus answered"},
		"a name that would out": {resource.PromQLGate{Query: "up{job={{release}}}", Min: ptr(0.0)}, gate.Inconclusive, "no values"},
		"not there":             {resource.PromQLGate{Query: "up", Max: ptr(1.0), Prometheus: "http://127.0.0.1:1"}, gate.Error, "did not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			w.clock = time.Now()
			w.verdict(t, resource.Gate{PromQL: &c.gate}, s, c.want, c.reason)
		})
	}
	burn := resource.Gate{SLO: &resource.SLOGate{Objective: 0.5, Good: "sum(increase(good_total[{{window}}]))", Total: "sum(increase(all_total[{{window}}]))", Short: "5s", Long: "10s", MinSamples: 10}}
	if r := until(t, w, burn, s, gate.Fail); *r.Value != 2 || r.Samples < 10 {
		t.Errorf("%+v", r)
	}
	e.good.Store(math.MaxInt32)
	until(t, w, burn, s, gate.Pass)
	guard, err := outbound.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	o.Guard = guard
	w.Gates, w.clock = gate.New(o), time.Now()
	w.verdict(t, errors, s, gate.Error, "not a public address")
	w.Prometheus = ""
	w.verdict(t, errors, s, gate.Error, "the installation has none")
}
