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

// script runs JavaScript in the page.
func script(text string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := chromedp.Evaluate[any](text)(ctx, target)
		return err
	})
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
	do(t, tab, "log in", chromedp.EmulateViewport(1440, 900), chromedp.Navigate(url), chromedp.WaitVisible(`input[name=token]`),
		chromedp.SendKeys(`input[name=token]`, "slp_wrong"), chromedp.Submit(`input[name=token]`), chromedp.WaitVisible(`.notice.bad`),
		chromedp.SendKeys(`input[name=token]`, in.ready.AdminToken), chromedp.Submit(`input[name=token]`), chromedp.WaitVisible(`.levels`))
	eventually(t, "the demo fleet shows by itself", 30*time.Second, func() bool {
		text, err := chromedp.Run(tab, chromedp.Text(`.level`))
		return err == nil && strings.Contains(text, "5 connected")
	})
	do(t, tab, "search", chromedp.Navigate(url+"/devices"), chromedp.SendKeys(`input[name=search]`, "0003"),
		chromedp.WaitNotPresent(`//a[text()="sensor-0001"]`), chromedp.Click(`//a[text()="sensor-0003"]`), chromedp.WaitVisible(`#panel .timeline`))
	do(t, tab, "watch telemetry", chromedp.WaitVisible(`#plot canvas`), chromedp.WaitVisible(`//div[@id="legend"]/span[contains(., "temperature")]`))
	do(t, tab, "run a method", chromedp.SendKeys(`input[name=method]`, "selfTest"), chromedp.Click(`form[hx-post$="/method"] button`), chromedp.WaitVisible(`//div[@id="method-result"]//pre[contains(., "ok")]`))

	if _, err := in.api.PatchTwin(t.Context(), "sensor-0003", "", []byte(`{"tags":{"by":"somebody else"}}`)); err != nil {
		t.Fatal(err)
	}
	do(t, tab, "run into a conflict", chromedp.SetValue(`textarea[name=desired]`, `{"reportEvery": 1}`), chromedp.Click(`#twin button.primary`),
		chromedp.WaitVisible(`//form[@id="twin"]//pre[contains(., "somebody else")]`))
	do(t, tab, "save all the same", chromedp.Click(`#twin button.primary`), chromedp.WaitVisible(`#twin .notice.good`))
	if twin := string(show(t, in, "sensor-0003").Twin); !strings.Contains(twin, `"reportEvery":1`) {
		t.Errorf("the twin is %s", twin)
	}

	do(t, tab, "move through the dialog", script(`window.confirm = () => true`), chromedp.Click(`form[action="/moves"] button.primary`),
		chromedp.WaitVisible(`//span[contains(@class, "chip") and text()="arrived"]`))
	if d := show(t, in, "sensor-0003"); d.Environment != "production" {
		t.Errorf("after the move: %+v", d.Device)
	}
	for _, page := range []string{"/moves", "/enrollments", "/enrollments/EnrollmentGroup/demo", "/audit"} {
		do(t, tab, page, chromedp.Navigate(url+page), chromedp.WaitVisible(`h1`))
	}
	pictures(t, tab, url)
	if found := complaints(); len(found) > 0 {
		t.Errorf("the browser complains: %s", strings.Join(found, "\n"))
	}
}

// pictures takes screenshots for people to look at, when they ask for them.
func pictures(t *testing.T, tab context.Context, url string) {
	dir := os.Getenv("SLIPWAY_SCREENSHOTS")
	if dir == "" {
		return
	}
	for _, theme := range []string{"light", "dark"} {
		do(t, tab, "choose colours", chromedp.Navigate(url), chromedp.WaitVisible(`form[action="/theme"] button`),
			script(fmt.Sprintf(`(() => { const b = document.querySelector('form[action="/theme"] button'); if (b.value === %q) b.click(); })()`, theme)))
		do(t, tab, "colours", chromedp.WaitVisible(`.levels`))
		for _, width := range []int64{1440, 390} {
			for name, page := range map[string]string{"home": "/", "devices": "/devices", "device": "/devices/sensor-0002", "move": "/moves/move-1", "enrollments": "/enrollments", "audit": "/audit"} {
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
