package update

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/device/retry"
	"github.com/slipway/slipway/internal/updatetest"
)

// world is a device's updater and the hub it asks, on real HTTP, with a proxy
// between them that may lie.
type world struct {
	t      *testing.T
	repo   *updatetest.Repository
	server *httptest.Server
	dir    string
	config Config
	app    *app

	mu       sync.Mutex
	lie      func(w http.ResponseWriter, r *http.Request, honest http.Handler) // nil: honest
	offline  bool
	shift    time.Duration // of the device's clock
	reports  []Report
	requests []string
	order    int64
	updater  *Updater
}

// app is a service that runs what is in its directory.
type app struct {
	mu     sync.Mutex
	files  *Files
	runs   string
	starts int
	broken map[string]bool // versions that do not stay up
}

func (a *app) version() string {
	text, err := os.ReadFile(filepath.Join(a.files.Path, "current", "app"))
	if err != nil {
		return "none"
	}
	version, _, _ := strings.Cut(string(text), "\n")
	return version
}

func (a *app) Ensure(ctx context.Context) error {
	a.mu.Lock()
	idle := a.runs == ""
	a.mu.Unlock()
	if idle {
		return a.Restart(ctx)
	}
	return nil
}

func (a *app) Restart(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.runs = a.version()
	a.starts++
	return nil
}

func (a *app) Check(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broken[a.runs] {
		return fmt.Errorf("it exited with status 1")
	}
	return nil
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, repo: updatetest.NewRepository(t, "test", "production"), dir: t.TempDir()}
	w.app = &app{files: &Files{Path: filepath.Join(w.dir, "app")}, broken: map[string]bool{}}
	w.config = Config{
		Directory: filepath.Join(w.dir, "updates"), Root: w.repo.Root(), Hardware: "gw-100", Environments: []string{"test", "production"},
		Components: map[string]Component{"firmware": {Version: "factory", Handler: w.app.files, Service: w.app}},
		Settle:     time.Millisecond, Deadline: 5 * time.Second, Patience: 300 * time.Millisecond, Reserve: 1,
		Policy: retry.Policy{Base: time.Millisecond, Cap: 5 * time.Millisecond, Attempts: 6, Dormant: time.Millisecond},
	}
	if testing.Verbose() {
		w.config.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	w.server = httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(w.server.Close)
	return w
}

func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.requests = append(w.requests, r.URL.Path+" "+r.Header.Get("Range"))
	lie := w.lie
	w.mu.Unlock()
	if lie != nil {
		lie(rw, r, http.HandlerFunc(w.honest))
		return
	}
	w.honest(rw, r)
}

func (w *world) honest(rw http.ResponseWriter, r *http.Request) {
	if name, found := strings.CutPrefix(r.URL.Path, "/updates/metadata/"); found {
		if text := w.repo.File(name); text != nil {
			_, _ = rw.Write(text) // the client sees what is missing
			return
		}
		http.NotFound(rw, r)
		return
	}
	sum := strings.TrimPrefix(r.URL.Path, "/updates/artifacts/")
	content := w.repo.Artifact(sum)
	if content == nil {
		http.NotFound(rw, r)
		return
	}
	rw.Header().Set("ETag", `"`+sum+`"`)
	http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(content))
}

// Fetch asks over HTTP.
func (w *world) Fetch(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.server.URL+"/"+path, nil)
	if err != nil {
		return nil, err
	}
	for key, values := range header {
		request.Header[key] = values
	}
	return http.DefaultTransport.RoundTrip(request)
}

// Report keeps what a device says, merged as a twin merges it.
func (w *world) Report(_ context.Context, patch []byte) (int64, error) {
	var document map[string]Report
	if err := json.Unmarshal(patch, &document); err != nil {
		w.t.Errorf("report %s: %v", patch, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.offline {
		return 0, errors.New("no connection")
	}
	w.reports = append(w.reports, document[Property])
	return int64(len(w.reports)), nil
}

// release publishes a release of firmware, and returns an order for it.
func (w *world) release(name string, size int, change func(*updatetest.Custom, *Order)) Order {
	content := []byte(name + "\n")
	for i := 0; len(content) < size; i++ {
		content = fmt.Appendf(content, "%s %d\n", name, i)
	}
	c := updatetest.Custom{Release: name, Environment: "test", Software: "firmware", Version: name, Counter: w.repo.Counter()}
	w.order++
	o := Order{Order: w.order, Release: name, Environment: "test", Software: []Software{{Name: "firmware", Version: name, Handler: "files", Artifacts: []Artifact{{File: "app", Size: int64(len(content))}}}}}
	signed := c
	if change != nil {
		change(&signed, &o)
	}
	o.Software[0].Artifacts[0].SHA256 = w.repo.Add("app", content, signed)
	w.repo.Sign()
	return o
}

// again is an order for the same, with a number of its own.
func (w *world) again(o Order) Order {
	w.order++
	o.Order = w.order
	return o
}

// boot runs an updater until stop is called.
func (w *world) boot() (u *Updater, stop func()) {
	w.t.Helper()
	u, err := New(w.config, w)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := u.Run(ctx); err != nil {
			var restart *ErrRestart
			if !errors.As(err, &restart) {
				w.t.Errorf("run: %v", err)
			}
		}
	}()
	w.updater = u
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	w.t.Cleanup(stop)
	u.Connected("hub", nil)
	return u, stop
}

func desired(o Order) []byte {
	text, err := json.Marshal(map[string]any{Property: o})
	if err != nil {
		panic(err)
	}
	return text
}

// ends waits for how an order ends.
func (w *world) ends(o Order) Report {
	w.t.Helper()
	var last Report
	w.until(func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, r := range w.reports {
			if r.Order == o.Order && r.final() {
				last = r
				return true
			}
		}
		return false
	})
	return last
}

// follow gives an order and waits for its end.
func (w *world) follow(o Order) Report {
	w.t.Helper()
	w.updater.Desired(desired(o))
	return w.ends(o)
}

func (w *world) until(done func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.t.Fatalf("it did not come to pass; state %+v\nreports %+v", w.updater.State(), w.reports)
		}
	}
}

func (w *world) phases(order int64) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, r := range w.reports {
		if r.Order == order && (len(all) == 0 || all[len(all)-1] != r.Phase) {
			all = append(all, r.Phase)
		}
	}
	return all
}

func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// runs fails the test unless a version runs, is reported and is confirmed.
func (w *world) runs(version string) {
	w.t.Helper()
	w.until(func() bool {
		w.app.mu.Lock()
		defer w.app.mu.Unlock()
		return w.app.runs != "" && w.updater.State().Phase == Idle && len(w.updater.State().Outbox) == 0
	})
	w.app.mu.Lock()
	running, linked := w.app.runs, w.app.version()
	w.app.mu.Unlock()
	w.mu.Lock()
	reported := w.reports[len(w.reports)-1].Software["firmware"]
	w.mu.Unlock()
	confirmed := w.updater.State().Running["firmware"].Version
	if all := []string{running, linked, reported, confirmed}; slices.ContainsFunc(all, func(v string) bool { return v != version && (version != "factory" || v != "none") }) {
		w.t.Errorf("runs %s, would start %s, reports %s, confirmed %s; want %s", running, linked, reported, confirmed, version)
	}
}
