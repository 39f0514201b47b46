package console

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// browserPath finds the browser the pages are looked at with.
func browserPath(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no browser: install chromium, see `make setup-test`")
	return ""
}

// openBrowser starts a browser and collects whatever it complains of.
func openBrowser(t *testing.T) (context.Context, func() []string) {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(browserPath(t)), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.UserDataDir(t.TempDir()))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	tab, closeTab := chromedp.NewContext(allocator)
	t.Cleanup(closeTab)
	if err := chromedp.Do(tab); err != nil {
		t.Fatalf("the browser does not start: %v", err)
	}
	var mu sync.Mutex
	var all []string
	complain := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, text)
	}
	go func() {
		for e, err := range chromedp.Events(tab, cdplog.EntryAdded) {
			if err != nil {
				return
			}
			// Forms answered with 4xx are part of the tests.
			if e.Entry.Level == cdplog.EntryLevelError && e.Entry.Source != cdplog.EntrySourceNetwork {
				complain(e.Entry.Text + " " + e.Entry.URL)
			}
		}
	}()
	go func() {
		for e, err := range chromedp.Events(tab, runtime.ExceptionThrown) {
			if err != nil {
				return
			}
			complain(fmt.Sprintf("%+v", e.ExceptionDetails))
		}
	}()
	return tab, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

type step = chromedp.Action[chromedp.Void]

func run(t *testing.T, tab context.Context, steps ...step) {
	t.Helper()
	limited, stop := context.WithTimeout(tab, 20*time.Second)
	defer stop()
	for i, s := range steps {
		if err := chromedp.Do(limited, s); err != nil {
			html, htmlErr := chromedp.Run(tab, chromedp.OuterHTML("main"))
			t.Fatalf("step %d: %v; the page: %.3000s (%v)", i+1, err, html, htmlErr)
		}
	}
}

// until waits for an expression of the page to be true, across pages.
func until(expression string) step {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		tick := time.NewTicker(30 * time.Millisecond)
		defer tick.Stop()
		for {
			ok, err := chromedp.Evaluate[bool](expression)(ctx, target)
			if ok && err == nil {
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("never true: %s (%w)", expression, errors.Join(err, ctx.Err()))
			case <-tick.C:
			}
		}
	})
}

// picture writes what the browser shows to the directory asked for, if any.
func picture(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("SLIPWAY_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		t.Fatal(err)
	}
}

func logInByHand(server *httptest.Server) step {
	return chromedp.Steps(chromedp.Navigate(server.URL+"/login"), chromedp.SendKeys("#token", goodToken), chromedp.Submit("#token"),
		until(`location.pathname === "/" && document.querySelector(".board") !== null`))
}

// TestPagesInABrowser looks at every page in both colours, wide and narrow:
// no complaint of the browser, nothing wider than the window.
func TestPagesInABrowser(t *testing.T) {
	server := httptest.NewServer(New(populated().options()))
	t.Cleanup(server.Close)
	ctx, complaints := openBrowser(t)
	run(t, ctx, chromedp.Navigate(server.URL+"/login"))
	picture(t, ctx, "login")
	run(t, ctx, logInByHand(server))
	for _, theme := range []string{"light", "dark"} {
		run(t, ctx, chromedp.Click(`button[value="`+theme+`"]`), until(`document.documentElement.dataset.theme === "`+theme+`"`))
		for _, width := range []int64{1440, 390} {
			run(t, ctx, chromedp.EmulateViewport(width, 900))
			for _, page := range pages {
				checkInBrowser(t, ctx, server.URL+page, fmt.Sprintf("%s-%d-%s", theme, width, strings.Trim(strings.Map(plain, page), "-")))
			}
		}
	}
	for _, c := range complaints() {
		t.Error("the browser complains:", c)
	}
}

func plain(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
		return r
	}
	return '-'
}

func checkInBrowser(t *testing.T, ctx context.Context, address, name string) {
	t.Helper()
	run(t, ctx, chromedp.Navigate(address), chromedp.WaitVisible("#main h1"),
		until(`!document.querySelector("[data-live]") || document.getElementById("livemark").textContent === "Live"`),
		until(`!document.getElementById("plot") || document.querySelector("#plot canvas") !== null`))
	overflow, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > innerWidth`))
	if err != nil || overflow {
		t.Errorf("%s is wider than the window (%v)", name, err)
	}
	picture(t, ctx, name)
}

// TestWhatMovesInABrowser drives the live parts: messages, moves, forms.
func TestWhatMovesInABrowser(t *testing.T) {
	w := populated()
	server := httptest.NewServer(New(w.options()))
	t.Cleanup(server.Close)
	ctx, complaints := openBrowser(t)
	run(t, ctx, logInByHand(server), chromedp.EmulateViewport(1440, 900))
	checkLiveTelemetry(t, ctx, server, w)
	checkTwinEditor(t, ctx, server, w)
	checkSearchAndMove(t, ctx, server, w)
	checkBoard(t, ctx, server, w)
	checkCensusFilter(t, ctx, server)
	for _, c := range complaints() {
		t.Error("the browser complains:", c)
	}
}

// settled waits until scripts have taken over what they put into the page;
// until then a click would be the browser's own.
func settled() chromedp.Action[chromedp.Void] {
	return until(`document.querySelector(".htmx-request, .htmx-swapping, .htmx-settling, .htmx-added") === null`)
}

func checkLiveTelemetry(t *testing.T, ctx context.Context, server *httptest.Server, w *world) {
	t.Helper()
	run(t, ctx, chromedp.Navigate(server.URL+"/devices/pump-0000"), until(`document.querySelector("#plot canvas") !== null`),
		until(`document.querySelectorAll("#plot .u-series").length === 4`))
	fresh := telemetryAt(60)
	select {
	case w.watch <- fresh:
	case <-ctx.Done():
		t.Fatal("nobody follows the device")
	}
	run(t, ctx, until(fmt.Sprintf(`document.querySelector("#messages tbody tr").id === "m-test-1-%d"`, fresh.Sequence)))
	run(t, ctx, chromedp.SetValue("#method-name", "reboot"), chromedp.Click("#method button.main"), until(`document.querySelector("#method .result").textContent.includes("status 200")`))
	run(t, ctx, chromedp.SetValue("#body", "hello"), chromedp.Click(`#commands button.main`), until(`document.querySelectorAll("#queue tbody tr").length === 2`))
}

func checkTwinEditor(t *testing.T, ctx context.Context, server *httptest.Server, w *world) {
	t.Helper()
	run(t, ctx, chromedp.Navigate(server.URL+"/devices/pump-0000"), chromedp.SetValue("#tags", `{"site":"north","line":5}`))
	w.mu.Lock()
	w.twins["pump-0000"] = link.Twin{ETag: "AAAAAAAAAAI=", Document: []byte(`{"version":8,"tags":{"site":"south","line":4},"properties":{"desired":{"interval":10},"reported":{}}}`)}
	w.mu.Unlock()
	run(t, ctx, chromedp.Click("#twin button.main"), until(`document.querySelector("#twin .theirs") !== null`))
	picture(t, ctx, "conflict")
	run(t, ctx, settled(), chromedp.Click(`#twin button[value="reapply"]`), until(`document.querySelector("#twin .chip.done") !== null`))
	w.mu.Lock()
	defer w.mu.Unlock()
	if want := `patch {"properties":{"desired":{}},"tags":{"line":5}}`; len(w.patches) != 1 || w.patches[0] != want {
		t.Errorf("wrote %q, want %s", w.patches, want)
	}
}

// checkBoard promotes from the dialog, is refused there, and sees the board
// change, with what is unfolded staying so.
func checkBoard(t *testing.T, ctx context.Context, server *httptest.Server, w *world) {
	t.Helper()
	refuse := func(why error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.refuse = why
	}
	refuse(problem.New(problem.Denied, "maria asked for it; somebody else must agree"))
	run(t, ctx, chromedp.Navigate(server.URL+"/pipeline"), until(`document.getElementById("livemark").textContent === "Live"`),
		chromedp.Click("#waits-production .gate summary"), chromedp.Click(`#waits-production [data-dialog]`), chromedp.WaitVisible("#dialog[open] #act-reason"),
		settled(), chromedp.SendKeys("#act-reason", "seen on the bench"), chromedp.Click("#act button.main"), chromedp.WaitVisible("#dialog .problem"))
	picture(t, ctx, "act-refused")
	w.mu.Lock()
	w.lanes = slices.Clone(w.lanes)
	moved := *w.lanes[3].Waiting
	moved.State, moved.Blocks = promotion.Queued, []promotion.Block{{Rule: promotion.RuleQueue, Object: "promotion-11", Reason: "promotion-11 runs in the environment"}}
	w.lanes[3].Waiting = &moved
	w.mu.Unlock()
	run(t, ctx, until(`document.querySelector("#waits-production > header .chip").textContent === "queued"`), until(`document.querySelector("#waits-production .gate").open`))
	refuse(nil)
	run(t, ctx, settled(), chromedp.Click("#act button.main"), until(`location.pathname === "/pipeline" && !document.querySelector("#dialog[open]")`))
	w.mu.Lock()
	defer w.mu.Unlock()
	if want := "approve promotion-13 seen on the bench"; len(w.said) != 1 || w.said[0] != want {
		t.Errorf("did %q, want %q", w.said, want)
	}
}

func checkCensusFilter(t *testing.T, ctx context.Context, server *httptest.Server) {
	t.Helper()
	run(t, ctx, chromedp.Navigate(server.URL+"/rollouts/rollout-12"), until(`document.getElementById("livemark").textContent === "Live"`), settled(),
		chromedp.SetValue("#of-state", "failed"), until(`document.getElementById("of-state").dispatchEvent(new Event("change", {bubbles: true}))`),
		until(`document.querySelectorAll("#updates tbody tr").length === 5 && location.search.includes("state=failed")`), until(`document.querySelector("#updates .reasons") !== null`))
	run(t, ctx, chromedp.Navigate(server.URL+"/releases/v1.4.0"), settled(), chromedp.SendKeys("#component", "zlib"), until(`document.querySelector("#component-rows").textContent.includes("30 of 240")`),
		chromedp.SetValue("#from", "v1.3.9"), until(`document.getElementById("from").dispatchEvent(new Event("change", {bubbles: true}))`), until(`document.querySelector("#diff .dim").textContent.includes("since v1.3.9")`))
}

func checkSearchAndMove(t *testing.T, ctx context.Context, server *httptest.Server, w *world) {
	t.Helper()
	run(t, ctx, chromedp.Navigate(server.URL+"/devices"), chromedp.SendKeys("#search", "pump-000"), until(`document.querySelectorAll("#results tbody tr").length === 10`),
		settled(),
		chromedp.Click(`#results tbody tr:nth-child(1) input`), chromedp.Click(`#results tbody tr:nth-child(2) input`),
		until(`document.querySelector("[data-needs]").textContent === "Move 2 selected…"`), chromedp.Click("[data-needs]"), chromedp.WaitVisible("#dialog[open] #to"))
	picture(t, ctx, "dialog")
	run(t, ctx, chromedp.Click("#plan button.main"), until(`location.pathname === "/moves/mv-new"`), until(`document.getElementById("livemark").textContent === "Live"`))
	w.mu.Lock()
	w.moves[len(w.moves)-1].State = link.MoveComplete
	w.moves[len(w.moves)-1].Census = link.Census{Total: 2, Arrived: 2}
	w.mu.Unlock()
	run(t, ctx, until(`document.querySelector("#progress .chip").textContent === "complete"`))
}
