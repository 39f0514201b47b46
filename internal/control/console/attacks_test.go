package console

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/httpserve"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/migrations"
	"github.com/slipway/slipway/internal/stamp/twin"
)

// attack is one attempt: what is tried, what comes of it, and the trying, which
// tells how it ended.
type attack struct {
	kind, attempt, outcome string
	try                    func(t *testing.T) (ended string)
}

// attacks are what docs/threat-model.md lists, in its order.
var attacks = []attack{
	{"SSRF", "a webhook at an address of this machine, of its network or of a cloud's metadata, in ten spellings", "refused when it is dialled", dialInside},
	{"SSRF", "an allowed address that redirects to one that is not", "the redirect is not followed", redirectInside},
	{"CSRF", "each form without the session's token, and with another session's", "403, nothing is changed", forgeForms},
	{"CSRF", "signing in from another site's page; leading to another site afterwards", "403; leads to the first page", forgeLogin},
	{"XSS", "script in a device's id, twin, history, telemetry and audit entries, on every page, in Chromium", "nothing of it runs, and the policy has nothing to stop", storeScripts},
	{"SQL injection", "quotes, comments and second statements in a query's text, in its names and in an id", "text like any other, or refused by the grammar", injectSQL},
	{"path traversal", "dots and slashes, plain and encoded, in an asset's path", "404", leaveAssets},
	{"path traversal", "dots and slashes in a name that a directory is called by", "refused", leaveDirectories},
	{"bombs", "a YAML file of aliases to aliases, and one nested ten thousand times", "refused within a second", bombYAML},
	{"bombs", "a twin nested without end, and one of a million properties", "refused within a second", bombTwin},
	{"bombs", "a kilobyte that unpacks to a hundred million", "refused at the bound", bombGzip},
	{"slow-loris", "a header that comes a byte at a time, and one without end", "the connection is closed", dripHeader},
	{"log injection", "line ends and escapes in what a client calls itself", "one line, quoted", forgeLog},
}

// TestAttacksEndAsTheThreatModelSays tries each attack, and holds the document's
// table against what was tried.
func TestAttacksEndAsTheThreatModelSays(t *testing.T) {
	var table strings.Builder
	for _, a := range attacks {
		fmt.Fprintf(&table, "| %s | %s | %s |\n", a.kind, a.attempt, a.outcome)
		t.Run(a.kind+"/"+a.attempt, func(t *testing.T) {
			if ended := a.try(t); ended != a.outcome {
				t.Errorf("it ended otherwise: %s", ended)
			}
		})
	}
	document, err := os.ReadFile("../../../docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(document), "|---|---|---|\n"+table.String()+"\n") {
		t.Errorf("docs/threat-model.md has another table than\n%s", table.String())
	}
}

func dialInside(t *testing.T) string {
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the inside was reached") }))
	defer inside.Close()
	_, port, err := net.SplitHostPort(inside.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	guard, err := outbound.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := guard.Client(5 * time.Second)
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1", "169.254.169.254", "10.0.0.1", "[fd00::1]", "[64:ff9b::7f00:1]"} {
		answer, err := client.Get("http://" + net.JoinHostPort(strings.Trim(host, "[]"), port))
		if err == nil {
			answer.Body.Close()
			return host + " answers"
		}
		if host != "127.1" && !problem.Is(err, problem.Denied) { // which Go reads as a name that nobody has
			return fmt.Sprintf("%s: %v", host, err)
		}
	}
	return "refused when it is dialled"
}

func redirectInside(t *testing.T) string {
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the inside was reached") }))
	defer inside.Close()
	listener, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	outside := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.RedirectHandler(inside.URL, http.StatusTemporaryRedirect), ReadHeaderTimeout: time.Minute}}
	outside.Start()
	defer outside.Close()
	guard, err := outbound.New([]string{"127.0.0.2/32"})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := guard.Client(5*time.Second).Post(outside.URL, "text/plain", strings.NewReader("x"))
	if err != nil {
		return err.Error()
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusTemporaryRedirect {
		return answer.Status
	}
	return "the redirect is not followed"
}

func forgeForms(t *testing.T) string {
	w := populated()
	browser := asBrowser(t, w)
	for _, target := range []string{"/logout", "/theme", "/moves", "/devices/pump-0000/twin", "/devices/pump-0000/method", "/devices/pump-0000/messages", "/devices/pump-0000/messages/purge", "/backups", "/drills", "/acts/kill-flag", "/grants"} {
		for _, token := range []string{"", "of another session"} {
			if got := browser.do("POST", target, url.Values{"csrf": {token}, "device": {"pump-0000"}, "to": {"production"}}); got.Code != http.StatusForbidden {
				return fmt.Sprintf("POST %s: %d", target, got.Code)
			}
		}
	}
	if len(w.started)+len(w.patches)+len(w.said) != 0 || len(w.queue) != 1 {
		return "something is changed"
	}
	return "403, nothing is changed"
}

func forgeLogin(t *testing.T) string {
	browser := client{t: t, handler: New(populated().options()), headers: map[string]string{"Sec-Fetch-Site": "cross-site"}}
	if got := browser.do("POST", "/login", url.Values{"token": {goodToken}}); got.Code != http.StatusForbidden {
		return got.Result().Status
	}
	for _, next := range []string{"https://evil.example", "//evil.example", `/\evil.example`, "javascript:alert(1)"} {
		if got := within(next); got != "/" {
			return "leads to " + got
		}
	}
	return "403; leads to the first page"
}

// script runs wherever it is taken for markup, an attribute or code.
const script = `"'><script>window.taken=1</script><img src=x onerror="window.taken=1"><svg onload="window.taken=1">{{.}}${window.taken=1}`

func storeScripts(t *testing.T) string {
	w := populated()
	hostile := w.devices[0]
	hostile.DeviceID = script
	w.devices = append(w.devices, hostile)
	w.addDevice(hostile)
	twinOf, err := json.Marshal(map[string]any{"tags": map[string]any{script: script}, "properties": map[string]any{"desired": map[string]any{script: script}, "reported": map[string]any{script: []any{script}}}})
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{script: 1, "text": script})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{script, "pump-0000"} {
		w.twins[id] = link.Twin{ETag: script, Document: twinOf}
		d := w.details[id]
		d.Enrollment, d.RegistrationID = script, script
		d.History[0].Reason, d.Transitions[1].Reason = script, script
		w.details[id] = d
	}
	w.queue = append(w.queue, link.QueuedMessage{MessageID: script, EnqueuedAt: noon, ExpiresAt: noon.Add(time.Hour)})
	w.moves[0].Where, w.moves[0].Reason, w.moves[0].Actor = script, script, script
	w.entries = append(w.entries, audit.Entry{Sequence: 3, At: noon, Actor: script, Action: "twin.patch", Object: "device/" + script, Outcome: audit.Done, Detail: script, Reason: script})
	server := httptest.NewServer(New(w.options()))
	t.Cleanup(server.Close)
	tab, complaints := openBrowser(t)
	run(t, tab, logInByHand(server))
	untaken := func(page string) bool {
		taken, err := chromedp.Run(tab, chromedp.Evaluate[bool](`"taken" in window || document.querySelector("#main script, #main img[src=x], #main svg[onload]") !== null`))
		if err != nil {
			t.Fatalf("%s: %v", page, err)
		}
		return !taken
	}
	all := append([]string{"/devices/" + url.PathEscape(script), "/devices?search=" + url.QueryEscape(script), "/moves/new?device=" + url.QueryEscape(script), "/audit/3", "/nowhere/" + url.PathEscape(script)}, pages...)
	for _, page := range all {
		run(t, tab, chromedp.Navigate(server.URL+page), chromedp.WaitReady("#main"))
		if !untaken(page) {
			return "it runs on " + page
		}
	}
	run(t, tab, chromedp.Navigate(server.URL+"/devices/pump-0000"), until(`document.getElementById("livemark").textContent === "Live"`))
	fresh := telemetryAt(60)
	fresh.Body = body
	select {
	case w.watch <- fresh:
	case <-tab.Done():
		t.Fatal("nobody follows the device")
	}
	run(t, tab, until(fmt.Sprintf(`document.querySelector("#messages tbody tr").id === "m-test-1-%d"`, fresh.Sequence)))
	if !untaken("live telemetry") {
		return "it runs in live telemetry"
	}
	for _, c := range complaints() {
		return "the browser complains: " + c
	}
	return "nothing of it runs, and the policy has nothing to stop"
}

func injectSQL(t *testing.T) string {
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	devices := device.NewDevices(db, twin.NewStore(db))
	for _, id := range []string{"d1", "x'or'1'='1"} {
		if _, err := devices.Create(t.Context(), device.Spec{ID: id}, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	for where, want := range map[string]int{
		`deviceId = 'd1'`:                                1,
		`deviceId = 'x\'or\'1\'=\'1'`:                    1,
		`deviceId = 'x''or''1''=''1'`:                    -1,
		`deviceId = 'd1\' OR \'1\'=\'1'`:                 0,
		`deviceId = 'd1'' OR ''1''=''1'`:                 -1,
		`tags.a = 'x\' UNION SELECT primary_key --'`:     0,
		`deviceId = '"; DROP TABLE device; --'`:          0,
		`tags.a = '\'`:                                   -1,
		`deviceId = 'd1' OR 1=1 --`:                      -1,
		`deviceId = 'd1'; DROP TABLE device`:             -1,
		`deviceId = 'd1' UNION SELECT * FROM device`:     -1,
		`tags."a') OR 1=1 --" = 1`:                       -1,
		`tags.a') OR (1=1 = 1`:                           -1,
		`deviceId IN (SELECT device_id FROM device)`:     -1,
		"deviceId = 'd1'\x00 OR 1=1":                     -1,
		`deviceId = 'd1' /* */ OR deviceId = deviceId`:   -1,
		`primary_key != ''`:                              -1,
		`sqlite_version() = '3' OR pg_sleep(10) IS NULL`: -1,
	} {
		page, err := devices.Query(t.Context(), link.QueryDevices{Where: where})
		switch {
		case want < 0 && !problem.Is(err, problem.Invalid):
			return fmt.Sprintf("%s is taken: %d, %v", where, len(page.Items), err)
		case want >= 0 && (err != nil || len(page.Items) != want):
			return fmt.Sprintf("%s finds %d, not %d: %v", where, len(page.Items), want, err)
		}
	}
	if n, err := devices.Count(t.Context()); err != nil || n != 2 {
		return fmt.Sprintf("%d devices are left: %v", n, err)
	}
	return "text like any other, or refused by the grammar"
}

func leaveAssets(t *testing.T) string {
	browser := asBrowser(t, populated())
	for _, path := range []string{"/assets/../console.go", "/assets/..%2fconsole.go", "/assets/%2e%2e/console.go", "/assets/%2e%2e%2f%2e%2e%2fcontrol.go", "/assets//etc/passwd", "/assets/..%5cconsole.go", "/assets/", "/assets/%00"} {
		w := browser.do("GET", path, nil)
		for w.Code == http.StatusMovedPermanently || w.Code == http.StatusTemporaryRedirect {
			w = browser.do("GET", w.Header().Get("Location"), nil)
		}
		if w.Code != http.StatusNotFound {
			return fmt.Sprintf("%s: %d", path, w.Code)
		}
	}
	return "404"
}

func leaveDirectories(*testing.T) string {
	for _, name := range []string{"..", "../up", "a/../../b", "/etc", `..\up`, "a\x00b", ".", "a/b", "%2e%2e"} {
		if resource.CheckName(resource.KindStamp, name) == nil {
			return fmt.Sprintf("a stamp may be called %q", name)
		}
		if resource.CheckName(resource.KindEnvironment, name) == nil {
			return fmt.Sprintf("an environment may be called %q", name)
		}
	}
	return "refused"
}

// soon calls something that has to end soon.
func soon(fn func() error) (took time.Duration, err error) {
	begun := time.Now()
	err = fn()
	return time.Since(begun), err
}

// inTime is what "within a second" allows on a machine that does much besides.
const inTime = 5 * time.Second

func bombYAML(*testing.T) string {
	laughs := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for i := 'b'; i <= 'k'; i++ {
		laughs += fmt.Sprintf("%c: &%c [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", i-1), 9), ", "))
	}
	for name, text := range map[string]string{"aliases": laughs, "nesting": "kind: " + strings.Repeat("[", 10_000), "mappings": strings.Repeat("{a: ", 10_000)} {
		took, err := soon(func() error { _, err := resource.Decode(name, []byte(text)); return err })
		if err == nil || took > inTime {
			return fmt.Sprintf("%s: %v after %s", name, err, took)
		}
	}
	return "refused within a second"
}

func bombTwin(*testing.T) string {
	var wide strings.Builder
	for i := range 1_000_000 {
		fmt.Fprintf(&wide, `,"p%d":%d`, i, i)
	}
	for name, desired := range map[string]string{"wide": `{"p":1` + wide.String() + "}", "deep": strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)} {
		took, err := soon(func() error {
			_, err := twin.New("d", &link.TwinContent{Desired: json.RawMessage(desired)}, time.Now())
			return err
		})
		if err == nil || took > inTime {
			return fmt.Sprintf("%s: %v after %s", name, err, took)
		}
	}
	return "refused within a second"
}

func bombGzip(t *testing.T) string {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := io.CopyN(w, zeros{}, 100<<20); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := metrics.Unpack(link.Metrics{Text: packed.Bytes()}); err == nil {
		return "unpacked"
	}
	return "refused at the bound"
}

type zeros struct{}

// Read is io.Reader's.
func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func dripHeader(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := httpserve.Server(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was served") }), slog.New(slog.DiscardHandler))
	server.ReadHeaderTimeout = 300 * time.Millisecond // the real one would take ten seconds of everybody's time
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	for name, every := range map[string]time.Duration{"a byte at a time": 20 * time.Millisecond, "without end": 0} {
		nc, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		err = drip(t.Context(), nc, every)
		nc.Close()
		if err != nil {
			return name + ": " + err.Error()
		}
	}
	return "the connection is closed"
}

// drip sends a header that does not end, until it can no longer.
func drip(ctx context.Context, nc net.Conn, every time.Duration) error {
	if _, err := io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\nX-Long: "); err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if _, err := io.WriteString(nc, "a"); err != nil {
			return nil
		}
		if every > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(every):
			}
		}
	}
	return errors.New("it stays open")
}

func forgeLog(*testing.T) string {
	for _, handler := range []func(io.Writer) slog.Handler{
		func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
		func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
	} {
		var out bytes.Buffer
		slog.New(handler(&out)).Info("not let in", "device", "x\ntime=2026-01-01T00:00:00Z level=INFO msg=\"admin signed in\"\r\n\x1b[2J\u2028")
		if bytes.Count(out.Bytes(), []byte("\n")) != 1 || bytes.ContainsAny(bytes.TrimSuffix(out.Bytes(), []byte("\n")), "\r\n\x1b") {
			return fmt.Sprintf("%q", out.String())
		}
	}
	return "one line, quoted"
}
