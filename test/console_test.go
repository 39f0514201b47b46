package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	cdplog "github.com/chromedp/cdproto/log"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/slipway/slipway/internal/link"
)

// browser starts Debian's Chromium and returns a tab of it, with what its
// console complains about.
func browser(t *testing.T) (context.Context, func() []string) {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("Chromium is not installed: run `make setup-test`")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("no-first-run", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.UserDataDir(t.TempDir()))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	tab, closeTab := chromedp.NewContext(allocator)
	t.Cleanup(closeTab)
	if err := chromedp.Do(tab); err != nil {
		t.Fatalf("Chromium: %v", err)
	}
	var mu sync.Mutex
	var complaints []string
	go func() {
		for e, err := range chromedp.Events(tab, cdplog.EntryAdded) {
			if err != nil {
				return
			}
			// Answers of 4xx to forms are part of the test.
			if e.Entry.Level == cdplog.EntryLevelError && e.Entry.Source != cdplog.EntrySourceNetwork {
				mu.Lock()
				complaints = append(complaints, e.Entry.Text+" "+e.Entry.URL)
				mu.Unlock()
			}
		}
	}()
	go func() {
		for e, err := range chromedp.Events(tab, cdpruntime.ExceptionThrown) {
			if err != nil {
				return
			}
			mu.Lock()
			complaints = append(complaints, fmt.Sprintf("%+v", e.ExceptionDetails))
			mu.Unlock()
		}
	}()
	return tab, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return complaints
	}
}

func do(t *testing.T, tab context.Context, what string, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	limited, cancel := context.WithTimeout(tab, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(limited, actions...); err != nil {
		if html, err := chromedp.Run(tab, chromedp.OuterHTML("main")); err == nil {
			t.Logf("the page: %s", html)
		}
		t.Fatalf("%s: %v", what, err)
	}
}

// TestConsoleInABrowser does what an operator does first.
func TestConsoleInABrowser(t *testing.T) {
	in := start(t, "--demo", "5")
	tab, complaints := browser(t)
	url := in.ready.Console
	do(t, tab, "log in", chromedp.EmulateViewport(1440, 900), chromedp.Navigate(url), chromedp.WaitVisible(`#token`),
		chromedp.SendKeys(`#token`, "slp_wrong"), chromedp.Submit(`#token`), chromedp.WaitVisible(`#login-problem`),
		chromedp.SendKeys(`#token`, in.ready.AdminToken), chromedp.Submit(`#token`), chromedp.WaitVisible(`#board`))
	eventually(t, "the demo fleet shows by itself", 30*time.Second, func() bool {
		text, err := chromedp.Run(tab, chromedp.Text(`#env-test`))
		return err == nil && strings.Contains(strings.Join(strings.Fields(text), " "), "Connected 5")
	})
	do(t, tab, "search", chromedp.Navigate(url+"/devices"), chromedp.SendKeys(`#search`, "0003"),
		chromedp.WaitNotPresent(`a[href="/devices/sensor-0001"]`), chromedp.Click(`a[href="/devices/sensor-0003"]`), chromedp.WaitVisible(`#twin`))
	do(t, tab, "watch telemetry", chromedp.WaitVisible(`.u-over`), chromedp.WaitVisible(`//*[contains(@class, "u-series")]//*[contains(text(), "temperature")]`))
	do(t, tab, "run a method", chromedp.SetValue(`#method-name`, "selfTest"), chromedp.Click(`#method button.main`), chromedp.WaitVisible(`//*[@id="method"]//*[contains(text(), "200")]`))

	if _, err := in.api.PatchTwin(t.Context(), "sensor-0003", "", []byte(`{"tags":{"by":"somebody else"}}`)); err != nil {
		t.Fatal(err)
	}
	do(t, tab, "run into a conflict", chromedp.SetValue(`#desired`, `{"reportEvery": 1}`), chromedp.Click(`#twin button.main`), chromedp.WaitVisible(`#twin .theirs`))
	do(t, tab, "apply what I changed to theirs", chromedp.Click(`#twin button[value="reapply"]`))
	eventually(t, "both changes are in the twin", 20*time.Second, func() bool {
		twin := string(show(t, in, "sensor-0003").Twin)
		return strings.Contains(twin, `"reportEvery":1`) && strings.Contains(twin, "somebody else")
	})

	do(t, tab, "move through the dialog", chromedp.Click(`form[action="/moves/new"] button`), chromedp.WaitVisible(`#plan button.main`),
		chromedp.Click(`#plan button.main`))
	eventually(t, "the device has arrived", 30*time.Second, func() bool {
		d := show(t, in, "sensor-0003")
		return d.Environment == "production" && d.Status == "enabled"
	})
	if d := show(t, in, "sensor-0003"); d.Environment != "production" {
		t.Errorf("after the move: %+v", d.Device)
	}
	for _, page := range []string{"/moves", "/enrollments", "/enrollment-groups/demo", "/audit"} {
		do(t, tab, page, chromedp.Navigate(url+page), chromedp.WaitVisible(`h1`))
	}
	pictures(t, tab, url, map[string]string{"home": "/", "devices": "/devices", "device": "/devices/sensor-0002", "move": "/moves/move-1", "enrollments": "/enrollments", "audit": "/audit"})
	if found := complaints(); len(found) > 0 {
		t.Errorf("the browser complains: %s", strings.Join(found, "\n"))
	}
}

// TestBackEndPagesInABrowser goes through what teams do with their data: routes
// and their dead letters, queries, enrolments, what devices have sent.
func TestBackEndPagesInABrowser(t *testing.T) {
	in := start(t, "--demo", "5", "--allow-network", "127.0.0.0/8")
	gone := newReceiver(t, 0)
	in.apply(routeTo("alerts", gone.address, 1) + `---
apiVersion: slipway/v1
kind: Route
metadata: { name: history }
spec: { environment: test, endpoint: { archive: { directory: history } }, enrich: { site: $twin.tags.batch } }
`)
	tab, complaints := browser(t)
	url := in.ready.Console
	do(t, tab, "log in", chromedp.EmulateViewport(1440, 900), chromedp.Navigate(url), chromedp.WaitVisible(`#token`),
		chromedp.SendKeys(`#token`, in.ready.AdminToken), chromedp.Submit(`#token`), chromedp.WaitVisible(`#board`))
	in.settled(t, "alerts", func(s link.RouteState) bool { return s.DeadLetters > 0 })
	do(t, tab, "see that a route fails", chromedp.Navigate(url+"/routes"), chromedp.WaitVisible(`//*[@id="routetable"]//*[contains(@class, "failing")]`), chromedp.Click(`a[href="/routes/alerts"]`),
		chromedp.WaitVisible(`button[value="replay"]`))
	gone.open(t)
	do(t, tab, "replay its dead letters", chromedp.Click(`button[value="replay"]`), chromedp.WaitVisible(`//*[contains(text(), "once more")]`))
	eventually(t, "they are delivered", 30*time.Second, func() bool { return in.routes(t)["alerts"].DeadLetters == 0 && gone.distinct() > 0 })

	do(t, tab, "ask a question", chromedp.Navigate(url+"/query"), chromedp.SetValue(`#q`, "SELECT COUNT() AS n, status FROM devices GROUP BY status"), chromedp.Click(`form.question button.main`),
		chromedp.WaitVisible(`//td[text()="enabled"]`), chromedp.SetValue(`#name`, "by status"), chromedp.Click(`form[action="/query/save"] button`), chromedp.WaitVisible(`//a[text()="by status"]`))
	if out := in.must("query", "--saved", "by status", "--stamp", "test-1"); !strings.Contains(out, `"n":5`) {
		t.Errorf("the saved query says %s", out)
	}
	do(t, tab, "read why a question is none", chromedp.SetValue(`#q`, "SELECT * FROM devices WHERE"), chromedp.Click(`form.question button.main`), chromedp.WaitVisible(`#query-problem`))

	do(t, tab, "enrol a group", chromedp.Navigate(url+"/enrollments/new"), chromedp.SendKeys(`#name`, "from-console"), chromedp.Click(`button.main`), chromedp.WaitVisible(`#registration`))
	before, err := in.api.Resource(t.Context(), "EnrollmentGroup", "from-console", true)
	if err != nil {
		t.Fatal(err)
	}
	do(t, tab, "derive a key", chromedp.SendKeys(`#registration`, "pump-7"), chromedp.Click(`button[value="derive"]`), chromedp.WaitVisible(`code.secret`))
	do(t, tab, "rotate a key", chromedp.Click(`button[value="secondary"]`), chromedp.WaitNotPresent(`code.secret`)) // the page is another one
	eventually(t, "the secondary key is another", 10*time.Second, func() bool {
		after, err := in.api.Resource(t.Context(), "EnrollmentGroup", "from-console", true)
		return err == nil && string(before.Spec) != string(after.Spec)
	})
	do(t, tab, "disable it", chromedp.Navigate(url+"/enrollment-groups/from-console"), chromedp.Click(`button[value="disable"]`), chromedp.WaitVisible(`button[value="enable"]`))
	for _, page := range []string{"/jobs", "/files", "/files?stamp=test-1&device=nobody"} {
		do(t, tab, page, chromedp.Navigate(url+page), chromedp.WaitVisible(`h1`))
	}
	pictures(t, tab, url, map[string]string{
		"routes": "/routes", "route": "/routes/alerts", "query": "/query?q=SELECT+deviceId%2C+status%2C+connectionState%2C+tags+FROM+devices", "newenrollment": "/enrollments/new",
		"enrollment": "/enrollment-groups/from-console", "jobs": "/jobs", "files": "/files",
	})
	if found := complaints(); len(found) > 0 {
		t.Errorf("the browser complains: %s", strings.Join(found, "\n"))
	}
}

// pictures takes screenshots for people to look at, when they ask for them.
func pictures(t *testing.T, tab context.Context, url string, pages map[string]string) {
	dir := os.Getenv("SLIPWAY_SCREENSHOTS")
	if dir == "" {
		return
	}
	for _, theme := range []string{"light", "dark"} {
		do(t, tab, "choose colours", chromedp.Navigate(url), chromedp.WaitVisible(`#board`), chromedp.Click(`button[value="`+theme+`"]`),
			chromedp.WaitVisible(`html[data-theme="`+theme+`"]`))
		for _, width := range []int64{1440, 390} {
			for name, page := range pages {
				do(t, tab, "picture of "+page, chromedp.EmulateViewport(width, 900), chromedp.Navigate(url+page), chromedp.WaitVisible(`h1`), chromedp.Sleep(2500*time.Millisecond))
				png, err := chromedp.Run(tab, chromedp.FullScreenshot(100))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s-%d.png", name, theme, width)), png, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
