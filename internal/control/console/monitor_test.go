package console

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/docs/runbooks"
	"github.com/slipway/slipway/internal/control/monitor"
)

func TestTheFirstPageSaysWhetherAllIsWell(t *testing.T) {
	body := asBrowser(t, populated()).get("/", http.StatusOK)
	has(t, body, "1 thing to be looked at now", "Messages in production are acknowledged", "/runbooks/ingest-slow", "availability test missed", "1 silenced", "/incidents/i-1")
	hasNot(t, body, "given up 12 messages") // it is silenced
	has(t, asBrowser(t, newWorld()).get("/", http.StatusOK), "All is well")
}

func TestAlertsAreShownAndSilenced(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	body := browser.get("/alerts", http.StatusOK)
	has(t, body, "IngestSlow", "firing", "pending", "silenced", "Ann", "team-chat", "severity=page|ticket", "84 % full &lt;b&gt;")
	has(t, browser.get("/alerts?silence=alertname%3DStampNearlyFull+stamp%3Dproduction-eu", http.StatusOK), `value="alertname=StampNearlyFull stamp=production-eu"`)
	browser.post("/alerts/silence", http.StatusSeeOther, url.Values{"csrf": {csrfToken}, "labels": {"alertname=IngestSlow"}, "for": {"2h"}, "reason": {"a test"}})
	browser.post("/alerts/unsilence", http.StatusSeeOther, url.Values{"csrf": {csrfToken}, "silence": {"s1"}})
	if got := fmt.Sprint(w.patches); got != "[silence IngestSlow 2h0m0s a test end s1]" {
		t.Error(got)
	}
	browser.post("/alerts/silence", http.StatusUnprocessableEntity, url.Values{"csrf": {csrfToken}, "labels": {"nonsense"}, "for": {"2h"}, "reason": {"x"}})
	browser.post("/alerts/silence", http.StatusUnprocessableEntity, url.Values{"csrf": {csrfToken}, "labels": {"a=b"}, "for": {"soon"}, "reason": {"x"}})
	tested := browser.post("/alerts/test", http.StatusOK, url.Values{"csrf": {csrfToken}, "receiver": {"team-chat"}})
	has(t, tested.Body.String(), "the receiver answered 403")
}

func TestMetricsAreDrawn(t *testing.T) {
	browser := asBrowser(t, populated())
	body := browser.get("/monitor?environment=production&span=6h", http.StatusOK)
	has(t, body, "Connected devices", "<polyline", "production", `<option selected>6h</option>`)
	has(t, browser.get("/monitor?query=broken(", http.StatusOK), "cannot be read: &lt;here&gt;")
	has(t, browser.get("/slos", http.StatusOK), "99.962", "missed", "burning", "Nothing that counts has happened yet")
}

func TestEveryRunbookIsShown(t *testing.T) {
	browser := asBrowser(t, newWorld())
	files, err := runbooks.Files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(f.Name(), ".md")
		body := browser.get("/runbooks/"+name, http.StatusOK)
		checkPage(t, name, body, true)
		has(t, body, "<h2>Look</h2>", "<h2>Do</h2>", "<ol>")
		hasNot(t, body, "`", "##")
	}
	browser.get("/runbooks/..%2Frunbooks", http.StatusNotFound)
	browser.get("/runbooks/nothing", http.StatusNotFound)
}

func TestAChartIsDrawnWhole(t *testing.T) {
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(minutes int, v float64) monitor.Point {
		return monitor.Point{At: from.Add(time.Duration(minutes) * time.Minute), Value: v}
	}
	c := draw("x", "X", "s", []monitor.Line{
		{Labels: map[string]string{"stamp": "a", "job": "slipway"}, Points: []monitor.Point{at(0, 0), at(1, 0.4), at(30, 0.2), at(60, math.Inf(1))}},
		{Labels: map[string]string{"stamp": "b", "job": "slipway"}},
	}, from, from.Add(time.Hour), time.Minute)
	if len(c.Curves) != 2 || len(c.Curves[0].Lines) != 2 || c.Curves[0].Name != "a" || c.Curves[0].Last != "200 ms" || c.Curves[1].Last != "–" {
		t.Errorf("%+v", c.Curves)
	}
	if want := "0.0,160.0 10.0,32.0 "; c.Curves[0].Lines[0] != want {
		t.Errorf("%q, not %q", c.Curves[0].Lines[0], want)
	}
	if c.Ticks[0].Label != "500 ms" || c.Ticks[4].Label != "0 ms" || c.Times[2] != "00:30" {
		t.Errorf("%+v %v", c.Ticks, c.Times)
	}
	if empty := draw("x", "X", "", nil, from, from.Add(time.Hour), time.Minute); !empty.Empty {
		t.Error("nothing is drawn as something")
	}
	for v, want := range map[float64]float64{0.3: 0.5, 1: 1, 1.1: 2, 2.2: 2.5, 26: 50, 999: 1000} {
		if got := niceCeil(v); math.Abs(got-want) > 1e-9 {
			t.Errorf("after %g comes %g, not %g", v, got, want)
		}
	}
}
