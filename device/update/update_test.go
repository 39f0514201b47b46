package update

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/updatetest"
)

func TestADeviceFollowsOrders(t *testing.T) {
	w := newWorld(t)
	_, stop := w.boot()
	first := w.release("v1", 300_000, nil)
	if r := w.follow(first); r.Phase != ReportConfirmed || r.Hardware != "gw-100" || r.Software["firmware"] != "v1" {
		t.Errorf("ended with %+v", r)
	}
	w.runs("v1")
	if got := strings.Join(w.phases(first.Order), " "); !strings.HasSuffix(got, "trial confirmed") || strings.Contains(got, "failed") {
		t.Errorf("told %s", got)
	}
	if r := w.follow(w.release("v2", 1000, nil)); r.Phase != ReportConfirmed {
		t.Errorf("ended with %+v", r)
	}
	w.runs("v2")
	before := len(w.requests)
	if r := w.follow(w.again(w.release("v2", 1000, nil))); r.Phase != ReportConfirmed {
		t.Errorf("what it runs already ended with %+v", r)
	}
	if len(w.requests) != before {
		t.Error("it fetched what it runs already")
	}
	stop()
	w.boot()
	w.runs("v2")
	if left, err := os.ReadDir(filepath.Join(w.config.Directory, "artifacts")); err != nil || len(left) > 0 {
		t.Errorf("left on the disk: %v %v", left, err)
	}
}

func TestWhatFailsItsTrialGoesBack(t *testing.T) {
	for name, spoil := range map[string]func(w *world){
		"self-test": func(w *world) {
			w.config.SelfTest = func(context.Context) error {
				if w.app.version() == "bad" {
					return errors.New("exit status 1")
				}
				return nil
			}
		},
		"self-test hangs": func(w *world) {
			w.config.Deadline = 100 * time.Millisecond
			w.config.SelfTest = func(ctx context.Context) error {
				if w.app.version() == "bad" {
					<-ctx.Done()
				}
				return ctx.Err()
			}
		},
		"service": func(w *world) { w.app.broken["bad"] = true },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			spoil(w)
			w.boot()
			w.follow(w.release("v1", 100, nil))
			bad := w.release("bad", 100, nil)
			r := w.follow(bad)
			if r.Phase != ReportRolledBack || r.Error == "" || r.Software["firmware"] != "v1" {
				t.Errorf("ended with %+v", r)
			}
			w.runs("v1")
			if r := w.follow(w.again(bad)); r.Phase != ReportRolledBack {
				t.Errorf("the second time it ended with %+v", r)
			}
			w.runs("v1")
		})
	}
}

func TestSoftwareThatDidNotStayIsNotSaidToRun(t *testing.T) {
	w := newWorld(t)
	w.config.Components["firmware"] = Component{Handler: w.app.files, Service: w.app}
	w.app.broken["bad"] = true
	w.boot()
	r := w.follow(w.release("bad", 100, nil))
	if r.Phase != ReportRolledBack || r.Software["firmware"] != "" {
		t.Errorf("ended with %+v", r)
	}
	text, err := json.Marshal(w.updater.State().Outcome.Patch())
	if want := `"software":{"firmware":null}`; err != nil || !strings.Contains(string(text), want) {
		t.Errorf("the twin is changed by %s, which does not take away what was said during the trial: %v", text, err)
	}
}

func TestNoConfirmationWithoutTheHub(t *testing.T) {
	w := newWorld(t)
	w.config.Deadline = 200 * time.Millisecond
	var once bool
	u, _ := w.boot()
	o := w.release("v1", 100, nil)
	w.set(func() {
		w.lie = func(rw http.ResponseWriter, r *http.Request, honest http.Handler) {
			honest.ServeHTTP(rw, r)
			if strings.Contains(r.URL.Path, "artifacts") && !once {
				once = true
				w.set(func() { w.offline = true })
			}
		}
	})
	u.Desired(desired(o))
	w.until(func() bool { s := u.State(); return s.Phase == Idle && s.Job == 1 })
	w.set(func() { w.offline = false })
	if r := w.ends(o); r.Phase != ReportRolledBack || !strings.Contains(r.Error, "told") {
		t.Errorf("ended with %+v", r)
	}
	w.runs("factory")
}

func TestOrdersThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*updatetest.Custom, *Order)
		says   string
	}{
		"for other hardware, says the order":     {func(_ *updatetest.Custom, o *Order) { o.Software[0].Hardware = []string{"gw-200"} }, "gw-100"},
		"for other hardware, says the signature": {func(c *updatetest.Custom, _ *Order) { c.Hardware = []string{"gw-200"} }, "gw-200"},
		"another version is signed":              {func(c *updatetest.Custom, _ *Order) { c.Version = "v0" }, "not as ordered"},
		"another release is signed":              {func(_ *updatetest.Custom, o *Order) { o.Release = "other" }, "does not name"},
		"an environment it does not follow":      {func(_ *updatetest.Custom, o *Order) { o.Environment = "dev" }, "follows orders of"},
		"signed for another environment":         {func(_ *updatetest.Custom, o *Order) { o.Environment = "production" }, "does not name"},
		"another length":                         {func(_ *updatetest.Custom, o *Order) { o.Software[0].Artifacts[0].Size++ }, "not as ordered"},
		"another file":                           {func(_ *updatetest.Custom, o *Order) { o.Software[0].Artifacts[0].File = "b" }, "does not name"},
		"a path for a file":                      {func(_ *updatetest.Custom, o *Order) { o.Software[0].Artifacts[0].File = "../x" }, "no file name"},
		"unknown software":                       {func(_ *updatetest.Custom, o *Order) { o.Software[0].Name = "x" }, "no software x"},
		"a handler of its own choice":            {func(_ *updatetest.Custom, o *Order) { o.Software[0].Handler = "script" }, "not by script"},
		"software twice":                         {func(_ *updatetest.Custom, o *Order) { o.Software = append(o.Software, o.Software[0]) }, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.boot()
			r := w.follow(w.release("v1", 100, c.change))
			if r.Phase != ReportFailed || !strings.Contains(r.Error, c.says) {
				t.Errorf("ended with %+v, want an error with %q", r, c.says)
			}
			w.runs("factory")
		})
	}
	t.Run("nothing signed", func(t *testing.T) {
		w := newWorld(t)
		w.boot()
		o := w.release("v1", 100, nil)
		o.Software[0].Artifacts = nil
		if r := w.follow(o); r.Phase != ReportFailed || !strings.Contains(r.Error, "no artifacts") {
			t.Errorf("ended with %+v", r)
		}
	})
}

func TestTheWayBackHasToBeSignedAndSaid(t *testing.T) {
	w := newWorld(t)
	w.boot()
	first := w.release("v1", 100, nil)
	w.follow(first)
	w.follow(w.release("v2", 100, nil))
	if r := w.follow(w.again(first)); r.Phase != ReportFailed || !strings.Contains(r.Error, "older") {
		t.Errorf("unsaid it ended with %+v", r)
	}
	w.runs("v2")
	back := w.again(first)
	back.Back = true
	if r := w.follow(back); r.Phase != ReportConfirmed {
		t.Errorf("said it ended with %+v", r)
	}
	w.runs("v1")
	w.follow(w.release("v3", 100, nil))
	w.repo.Remove("test", "test/v1/firmware/app")
	w.repo.Sign()
	back = w.again(back)
	if r := w.follow(back); r.Phase != ReportFailed || !strings.Contains(r.Error, "does not name") {
		t.Errorf("withdrawn it ended with %+v", r)
	}
	w.runs("v3")
}

func TestAHigherOrderTakesTheFirstOnesPlace(t *testing.T) {
	w := newWorld(t)
	held := filepath.Join(w.dir, "hold")
	w.config.Veto = held
	if err := os.WriteFile(held, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	u, _ := w.boot()
	first, second := w.release("v1", 100, nil), w.release("v2", 100, nil)
	u.Desired(desired(first))
	w.until(func() bool { return u.State().Phase == Waiting })
	u.Desired(desired(second))
	w.until(func() bool { return u.State().Phase == Waiting && u.State().Last == second.Order })
	u.Desired(desired(first))
	if err := os.Remove(held); err != nil {
		t.Fatal(err)
	}
	if r := w.ends(second); r.Phase != ReportConfirmed {
		t.Errorf("ended with %+v", r)
	}
	w.runs("v2")
}

func TestAnOrderThatIsWithdrawnIsNotInstalled(t *testing.T) {
	w := newWorld(t)
	w.config.Veto = filepath.Join(w.dir, "hold")
	if err := os.WriteFile(w.config.Veto, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	u, _ := w.boot()
	for name, withdraw := range map[string]func(){
		"by a change":              func() { u.Desired([]byte(`{"slipway":null}`)) },
		"while it was not there":   func() { u.Connected("hub", []byte(`{"other":1}`)) },
		"with the device it is on": func() { u.Connected("another hub", []byte(`{}`)); u.Connected("hub", []byte(`{}`)) },
	} {
		u.Desired(desired(w.release("v1", 100, nil)))
		w.until(func() bool { return u.State().Phase == Waiting })
		u.Desired([]byte(`{"other":2}`))
		if u.State().Phase != Waiting {
			t.Fatal("a change of something else withdrew it")
		}
		withdraw()
		if s := u.State(); s.Phase != Idle {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if err := os.Remove(w.config.Veto); err != nil {
		t.Fatal(err)
	}
	if r := w.follow(w.release("a name (2)", 100, func(c *updatetest.Custom, o *Order) {
		c.Release, c.Version, o.Release, o.Software[0].Version = "v2", "v2", "v2", "v2"
	})); r.Phase != ReportConfirmed {
		t.Errorf("the next ended with %+v", r)
	}
}

func TestAnOrderThatComesWhileAnotherIsInstalledWaits(t *testing.T) {
	w := newWorld(t)
	let, trying := make(chan struct{}), make(chan struct{})
	w.config.SelfTest = func(context.Context) error {
		if w.app.version() == "v1" {
			close(trying)
			<-let
		}
		return nil
	}
	w.boot()
	first, second := w.release("v1", 100, nil), w.release("v2", 100, nil)
	w.updater.Desired(desired(first))
	<-trying
	w.updater.Desired(desired(second))
	close(let)
	if r := w.ends(first); r.Phase != ReportConfirmed {
		t.Errorf("the first ended with %+v", r)
	}
	if r := w.ends(second); r.Phase != ReportConfirmed {
		t.Errorf("the second ended with %+v", r)
	}
	w.runs("v2")
}

func TestWindowsAndVetoes(t *testing.T) {
	w := newWorld(t)
	veto := filepath.Join(w.dir, "hold")
	if err := os.WriteFile(veto, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	window, err := ParseWindow("daily " + now.Add(2*time.Hour).Format("15:04") + "-" + now.Add(6*time.Hour).Format("15:04"))
	if err != nil {
		t.Fatal(err)
	}
	w.config.Windows, w.config.Zone, w.config.Veto, w.config.VetoFor = []Window{window}, time.UTC, veto, 5*time.Hour
	w.config.Clock = func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return now }
	u, _ := w.boot()
	o := w.release("v1", 100, nil)
	u.Desired(desired(o))
	w.until(func() bool { p := w.phases(o.Order); return len(p) > 0 && p[len(p)-1] == ReportWaiting })
	if _, err := os.Stat(filepath.Join(w.config.Directory, "artifacts", o.Software[0].Artifacts[0].SHA256)); err != nil {
		t.Errorf("it did not fetch outside the window: %v", err)
	}
	asked := len(w.requests)
	w.set(func() { now = now.Add(3 * time.Hour) })
	time.Sleep(50 * time.Millisecond) // nothing is to happen
	if u.State().Phase != Waiting {
		t.Errorf("it did not heed the veto: %+v", u.State())
	}
	w.set(func() { now = now.Add(150 * time.Minute) }) // the veto is too old now
	if r := w.ends(o); r.Phase != ReportConfirmed {
		t.Errorf("ended with %+v", r)
	}
	if w.set(func() { asked = len(w.requests) - asked }); asked == 0 {
		t.Error("signed metadata was not asked again after hours of waiting")
	}
	w.runs("v1")
}

func TestWindowsByTheClockOnTheWall(t *testing.T) {
	for text, cases := range map[string]map[string]bool{
		"mon-fri 22:00-04:00": {"2026-11-23 22:00": true, "2026-11-23 21:59": false, "2026-11-28 03:59": true, "2026-11-28 04:00": false, "2026-11-29 23:00": false, "2026-11-23 03:00": false},
		"sat,sun 00:00-24:00": {"2026-11-28 00:00": true, "2026-11-29 23:59": true, "2026-11-30 00:00": false, "2026-11-27 23:59": false},
		"fri-mon 01:00-02:00": {"2026-11-30 01:30": true, "2026-11-24 01:30": false},
	} {
		w, err := ParseWindow(text)
		if err != nil {
			t.Fatal(err)
		}
		for at, want := range cases {
			moment, err := time.Parse("2006-01-02 15:04", at)
			if err != nil {
				t.Fatal(err)
			}
			if w.Open(moment) != want {
				t.Errorf("%s at %s is %v", text, moment.Format("Mon 15:04"), !want)
			}
		}
	}
	for _, wrong := range []string{"", "mon", "mon 1-2", "mon 25:00-26:00", "mon 10:00-10:00", "mön 10:00-11:00", "mon 24:00-01:00"} {
		if _, err := ParseWindow(wrong); err == nil {
			t.Errorf("%q is a window", wrong)
		}
	}
}

func TestTheWireTypesAreTheContracts(t *testing.T) {
	order := link.UpdateOrder{Order: 7, Release: "v1", Digest: "d", Environment: "test", Back: true, Software: []link.Software{{
		Name: "firmware", Version: "1", Hardware: []string{"gw"}, Handler: "files", Metadata: map[string]string{"a": "b"},
		Artifacts: []link.Artifact{{File: "app", Size: 3, SHA256: strings.Repeat("ab", 32)}},
	}}}
	text, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := ParseOrder(text)
	if err != nil {
		t.Fatal(err)
	}
	back, err := json.Marshal(ours)
	if err != nil || string(back) != string(text) {
		t.Errorf("%s became %s: %v", text, back, err)
	}
	report := link.UpdateReport{Hardware: "gw", Software: map[string]string{"firmware": "1"}, Order: 7, Phase: link.OrderTrial, Progress: 3, Error: "e"}
	if text, err = json.Marshal(report); err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if back, err = json.Marshal(r); err != nil || string(back) != string(text) {
		t.Errorf("%s became %s: %v", text, back, err)
	}
	if Property != link.UpdateProperty {
		t.Errorf("the property is %s", Property)
	}
	theirs := []string{link.OrderAccepted, link.OrderDownloading, link.OrderWaiting, link.OrderInstalling, link.OrderTrial, link.OrderConfirmed, link.OrderFailed, link.OrderRolledBack}
	if all := []string{ReportAccepted, ReportDownloading, ReportWaiting, ReportInstalling, ReportTrial, ReportConfirmed, ReportFailed, ReportRolledBack}; !reflect.DeepEqual(all, theirs) {
		t.Errorf("phases %v, the contract's %v", all, theirs)
	}
}
