package console

import (
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

func filled(pairs ...string) url.Values {
	form := url.Values{"csrf": {csrfToken}}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return form
}

func TestDevicesAreFiltered(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	body := browser.htmx().get("/devices?search=0003&environment=test&phase=assigned", http.StatusOK)
	has(t, body, "pump-0003")
	hasNot(t, body, "pump-0004", "<html")
	if f := w.filters[0]; f.Search != "0003" || f.Environment != "test" || f.Phase != link.PhaseAssigned {
		t.Errorf("asked for %+v", f)
	}
	has(t, browser.get("/devices?where=!", http.StatusUnprocessableEntity), "expected a property", "where-problem")
	has(t, browser.get("/devices?search=nothing", http.StatusOK), "No device matches")
	has(t, browser.get("/devices", http.StatusOK), `href="/devices/odd%231%25&#43;%3F:%C3%A9"`)
}

func TestMoveOfSelectedDevices(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	has(t, browser.htmx().get("/moves/new?device=pump-0000&device=pump-0001", http.StatusOK), "2 devices", `value="production" selected`)
	answer := browser.post("/moves", http.StatusSeeOther, filled("device", "pump-0000", "device", "pump-0001", "to", "production", "reason", "ready", "key", "k1"))
	if answer.Header().Get("Location") != "/moves/mv-new" {
		t.Errorf("led to %q", answer.Header().Get("Location"))
	}
	want := link.StartMove{Key: "k1", To: "production", Devices: []string{"pump-0000", "pump-0001"}, Reason: "ready"}
	if !reflect.DeepEqual(w.started[0], want) {
		t.Errorf("started %+v, want %+v", w.started[0], want)
	}
	has(t, browser.post("/moves", http.StatusUnprocessableEntity, filled("to", "production")).Body.String(), "no device is selected")
	has(t, browser.post("/moves", http.StatusUnprocessableEntity, filled("to", "nowhere", "device", "pump-0000")).Body.String(), "there is no environment")
}

func TestMoveOfAllThatMatch(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	browser.post("/moves", http.StatusSeeOther, filled("all", "1", "where", "tags.a = 1", "to", "production"))
	browser.post("/moves", http.StatusSeeOther, filled("all", "1", "search", "000", "environment", "test", "to", "production"))
	if first := w.started[0]; first.Where != "tags.a = 1" || first.Devices != nil {
		t.Errorf("a condition alone starts %+v", first)
	}
	if second := w.started[1]; second.Where != "" || len(second.Devices) != 9 {
		t.Errorf("a filter starts %+v", second)
	}
	has(t, browser.post("/moves", http.StatusUnprocessableEntity, filled("all", "1", "search", "nothing", "to", "production")).Body.String(), "no device matches any more")
}

func TestTwinIsReplacedAsWritten(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	form := filled("etag", "AAAAAAAAAAE=", "tags", `{"site":"south"}`, "desired", `{"serial":12345678901234567890}`, "action", "replace")
	has(t, browser.htmx().post("/devices/pump-0000/twin", http.StatusOK, form).Body.String(), ">saved<")
	browser.post("/devices/pump-0000/twin", http.StatusSeeOther, form)
	if want := `replace {"properties":{"desired":{"serial":12345678901234567890}},"tags":{"site":"south"}}`; w.patches[0] != want {
		t.Errorf("wrote %s, want %s", w.patches[0], want)
	}
	form.Set("desired", `[1]`)
	has(t, browser.post("/devices/pump-0000/twin", http.StatusUnprocessableEntity, form).Body.String(), "write a JSON object", "desired-problem", "[1]")
}

func TestTwinConflictShowsBothAndReapplies(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	form := filled("etag", "old", "baseTags", `{"site":"east","line":4}`, "baseDesired", `{"interval":10}`, "tags", `{"site":"east","line":5}`, "desired", `{"interval":10}`, "action", "replace")
	body := browser.post("/devices/pump-0000/twin", http.StatusPreconditionFailed, form).Body.String()
	has(t, body, "Somebody else has changed this twin", "Apply only my changes", `value="AAAAAAAAAAE="`, "&#34;line&#34;:5", "&#34;site&#34;: &#34;north&#34;")
	checkPage(t, "conflict", body, true)
	form.Set("etag", "AAAAAAAAAAE=")
	form.Set("action", "reapply")
	browser.post("/devices/pump-0000/twin", http.StatusSeeOther, form)
	if want := `patch {"properties":{"desired":{}},"tags":{"line":5}}`; w.patches[0] != want {
		t.Errorf("wrote %s, want %s", w.patches[0], want)
	}
}

func TestMergePatch(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{`{}`, `{}`, `{}`},
		{`{"a":1}`, `{"a":1}`, `{}`},
		{`{"a":1}`, `{"a":2,"b":{"c":1}}`, `{"a":2,"b":{"c":1}}`},
		{`{"a":1,"b":2}`, `{"b":2}`, `{"a":null}`},
		{`{"a":{"b":1,"c":2}}`, `{"a":{"b":1,"c":3}}`, `{"a":{"c":3}}`},
		{`{"a":{"b":1}}`, `{"a":5}`, `{"a":5}`},
		{`{"a":[1,2]}`, `{"a":[2,1]}`, `{"a":[2,1]}`},
	} {
		from, err := section(c.from)
		to, err2 := section(c.to)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		got, err := json.Marshal(mergePatch(from, to))
		if err != nil || string(got) != c.want {
			t.Errorf("from %s to %s: %s, %v; want %s", c.from, c.to, got, err, c.want)
		}
	}
}

func TestMethodAnswersInItsPlace(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	body := browser.htmx().post("/devices/pump-0000/method", http.StatusOK, filled("method", "reboot", "payload", `{"a":1}`, "timeout", "10")).Body.String()
	has(t, body, "status 200", "uptime", `value="reboot"`)
	hasNot(t, body, "<html")
	has(t, browser.post("/devices/pump-0000/method", http.StatusUnprocessableEntity, filled("method", "reboot", "payload", "{", "timeout", "10")).Body.String(), "not JSON")
	has(t, browser.post("/devices/pump-0000/method", http.StatusUnprocessableEntity, filled("method", "reboot", "timeout", "1")).Body.String(), "5 to 300")
	w.methods = func(link.InvokeMethod) (link.MethodResult, error) {
		return link.MethodResult{}, problem.New(problem.NotReady, "the device is not connected")
	}
	has(t, browser.post("/devices/pump-0000/method", http.StatusServiceUnavailable, filled("method", "reboot", "timeout", "10")).Body.String(), "the device is not connected")
}

func TestMessagesAreQueuedAndDropped(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	has(t, browser.htmx().post("/devices/pump-0000/messages", http.StatusOK, filled("body", `{"go":1}`, "minutes", "5")).Body.String(), "Queued as m-2")
	if len(w.queue) != 2 || w.queue[1].ExpiresAt.Sub(noon) != 5*time.Minute {
		t.Errorf("queued %+v", w.queue)
	}
	has(t, browser.post("/devices/pump-0000/messages", http.StatusUnprocessableEntity, filled("body", "x", "minutes", "9999")).Body.String(), "1 to 2880")
	has(t, browser.htmx().post("/devices/pump-0000/messages/purge", http.StatusOK, filled()).Body.String(), "Dropped 2 messages", "Nothing waits")
}

func TestLargeFormsAreRefused(t *testing.T) {
	browser := asBrowser(t, populated())
	browser.post("/devices/pump-0000/messages", http.StatusRequestEntityTooLarge, filled("body", strings.Repeat("x", maxForm)))
}

func TestNumbersOfAMessage(t *testing.T) {
	for body, want := range map[string]map[string]float64{
		`{"t":21.5,"s":"x","b":true,"deep":{"v":1,"more":{"w":2,"evenMore":{"x":3}}}}`:        {"t": 21.5, "deep.v": 1, "deep.more.w": 2},
		`{"ts":1763683200,"ms":1763683200123,"v":1}`:                                          {"v": 1},
		`{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9,"j":10,"k":11,"l":12,"m":13}`: {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7, "h": 8, "i": 9, "j": 10, "k": 11, "l": 12},
		`[1,2]`: nil,
		``:      nil,
		`{`:     nil,
	} {
		if got := numbers(json.RawMessage(body)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", body, got, want)
		}
	}
}

// FuzzNumbers: whatever a device sends, the plot stays small and nothing panics.
func FuzzNumbers(f *testing.F) {
	f.Add([]byte(`{"a":{"b":{"c":1}},"d":1e300}`))
	f.Add([]byte("\xff\x00{"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if n := len(numbers(body)); n > maxSeries {
			t.Fatalf("%d series", n)
		}
		if len(newRecordView(link.LogRecord{Body: body}).Details()) > 0 && len(body) == 0 {
			t.Fatal("details of nothing")
		}
		if text := newRecordView(link.LogRecord{BodyBase64: body}).Text; strings.ContainsAny(text, "\x00\n\x7f") {
			t.Fatalf("%q", text)
		}
	})
}

func TestAStampIsShownAndTakenOutOfService(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	has(t, browser.get("/stamps/production-eu", http.StatusOK), "production-eu.example.net", "v1.4.0", "leads", "2\u202f797 / 10\u202f000", "3 GiB / 4 GiB")
	browser.get("/stamps/nowhere", http.StatusNotFound)
	browser.post("/stamps/production-eu/state", http.StatusSeeOther, filled("state", "closed"))
	if state := w.levels[1].Stamps[0].Spec.State; state != link.StampClosed {
		t.Errorf("the stamp is %s", state)
	}
	answer := browser.post("/stamps/production-eu/state", http.StatusSeeOther, filled("state", "draining", "perSecond", "2.5"))
	if answer.Header().Get("Location") != "/moves/mv-new" || w.started[0].From != "production-eu" || w.started[0].PerSecond != 2.5 {
		t.Errorf("led to %s, started %+v", answer.Header().Get("Location"), w.started)
	}
	browser.post("/stamps/production-eu/state", http.StatusUnprocessableEntity, filled("state", "draining", "perSecond", "many"))
}

func TestATenantIsShownAndMoved(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	has(t, browser.get("/tenants/acme", http.StatusOK), "/devices?tenant=acme", "production-eu", "eu-west", `<option>production-eu`)
	browser.get("/tenants/nobody", http.StatusNotFound)
	answer := browser.post("/tenants/acme/move", http.StatusSeeOther, filled("stamp", "production-eu", "perSecond", "20"))
	if answer.Header().Get("Location") != "/moves/mv-new" || w.started[0].Where != "tenant = 'acme'" || w.started[0].Stamp != "production-eu" || w.started[0].PerSecond != 20 {
		t.Errorf("led to %s, started %+v", answer.Header().Get("Location"), w.started)
	}
	browser.post("/tenants/acme/move", http.StatusUnprocessableEntity, filled("stamp", ""))
	browser.post("/tenants/nobody/move", http.StatusNotFound, filled("stamp", "production-eu"))
}

func TestTheTopologyShowsWhatThereIs(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	has(t, browser.get("/topology", http.StatusOK), "control", "v1.4.0", "provisioning", "answers", `href="/stamps/production-us"`, "8\u202f391 of 8\u202f400 connected", "two v1.4.0, leads")
}
