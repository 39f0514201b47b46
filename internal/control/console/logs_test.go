package console

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/journal"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

func init() {
	pages = append(pages, "/logs", "/logs?level=warn&device=sensor-0001", "/traces", "/traces/"+someTrace)
}

const someTrace = "4bf92f3577b34da6a3ce929d0e0e4736"

// journalOf is what the processes of a world say: something, where it has
// environments.
type journalOf struct{ w *world }

func (j journalOf) Search(_ context.Context, f journal.Filter) (all []journal.Entry, err error) {
	switch {
	case f.Level == "loud":
		return nil, problem.New(problem.Invalid, "a level is not %q", f.Level)
	case len(j.w.levels) == 0:
		return nil, nil
	}
	for i := range f.Limit {
		all = append(all, journal.Entry{ID: int64(10_000 - i), Line: link.Line{
			At: noon.Add(-time.Duration(i) * time.Second), Level: []string{"info", "warn", "error"}[i%3], Message: fmt.Sprintf("telemetry not stored <b>%d</b>", i), Plane: "stamp", Stamp: "test-1",
			Device: "sensor/0001", Tenant: "acme", Trace: someTrace, More: map[string]string{"error": "the log did not answer in time"},
		}})
	}
	return all, nil
}

func (j journalOf) Traces(context.Context, int) ([]link.Span, error) {
	if len(j.w.levels) == 0 {
		return nil, nil
	}
	return []link.Span{{Trace: someTrace, ID: "1", Name: "invokeMethod", Plane: "control", Began: noon, Micros: 41_250}}, nil
}

func (j journalOf) Trace(_ context.Context, id string) ([]journal.Step, error) {
	if id != someTrace {
		return nil, problem.New(problem.NotFound, "there is no trace %s", id)
	}
	return []journal.Step{
		{Depth: 0, Span: link.Span{Trace: id, ID: "1", Name: "invokeMethod", Plane: "control", Began: noon, Micros: 41_250, More: map[string]string{"path": "/api/v1/devices/sensor-0001/methods/reboot"}}},
		{Depth: 1, Span: link.Span{Trace: id, ID: "2", Name: "ask method.invoke", Plane: "control", Began: noon.Add(2 * time.Millisecond), Micros: 38_000}},
		{Depth: 2, Span: link.Span{Trace: id, ID: "3", Name: "method.invoke", Plane: "stamp", Stamp: "production-eu", Began: noon.Add(3 * time.Millisecond), Micros: 36_000, Problem: "the device <i>did not answer"}},
	}, nil
}

func TestLogsAreSearchedAndTracesShown(t *testing.T) {
	browser := asBrowser(t, populated())
	body := browser.get("/logs?level=warn&text=stored&device=sensor%2F0001", http.StatusOK)
	has(t, body, "telemetry not stored &lt;b&gt;0", `value="stored"`, "error=the log did not answer", "/traces/"+someTrace, "/devices/sensor%2F0001", "before=9801", `<option value="warn" selected>`)
	hasNot(t, body, "&lt;b&gt;200")
	has(t, browser.get("/logs?level=loud", http.StatusUnprocessableEntity), "a level is not")
	browser.get("/logs?from=yesterday", http.StatusUnprocessableEntity)
	has(t, asBrowser(t, newWorld()).get("/logs", http.StatusOK), "No process has said anything yet")
	has(t, browser.get("/traces", http.StatusOK), "invokeMethod", "41.25ms", someTrace)
	has(t, browser.get("/traces/"+someTrace, http.StatusOK), "· · ", "method.invoke", "production-eu", "did not answer", `width="87`)
	browser.get("/traces/none", http.StatusNotFound)
}
