package alert_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/alert"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/control/monitor"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

var (
	quiet = slog.New(slog.DiscardHandler)
	ann   = access.Actor{Name: "ann"}
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is alerts over metrics that a test tells.
type world struct {
	*alert.Alerts
	t    *testing.T
	conn *bus.Conn
	log  *audit.Log
}

func newWorld(t *testing.T) *world {
	w := &world{t: t}
	dir := t.TempDir()
	db, err := sqldb.Open(t.Context(), filepath.Join(dir, "control.db"), migrations.FS)
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	nats, err := bus.Start(t.Context(), bus.Options{Name: "link", Logger: quiet})
	must(t, err)
	t.Cleanup(nats.Stop)
	w.conn, err = nats.Connect("control")
	must(t, err)
	t.Cleanup(w.conn.Close)
	m, err := monitor.New(monitor.Options{
		Dir: filepath.Join(dir, "metrics"), Conn: w.conn, Registry: metrics.New("test", quiet), Logger: quiet, Now: time.Now,
		Stamps: func(context.Context) ([]resource.Stamp, error) {
			return []resource.Stamp{{Metadata: resource.Metadata{Name: "eu-1"}, Spec: resource.StampSpec{Environment: "production"}}}, nil
		},
	})
	must(t, err)
	guard, err := outbound.New([]string{"127.0.0.0/8"})
	must(t, err)
	w.log = audit.NewLog(db, time.Now)
	w.Alerts = alert.New(alert.Options{DB: db, Audit: w.log, Monitor: m, Guard: guard, Address: "https://slipway.example.com", Dir: filepath.Join(dir, "alerts"), Logger: quiet, Now: time.Now})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{m.Run, w.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		stop()
		running.Wait()
		must(t, m.Close())
	})
	return w
}

// tell tells what a stamp counts.
func (w *world) tell(text string) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := io.WriteString(z, text+"# EOF\n")
	must(w.t, err)
	must(w.t, z.Close())
	must(w.t, bus.Tell(w.conn, link.MetricsSubject(link.StampPeer("eu-1")), link.Metrics{Text: packed.Bytes()}))
}

func (w *world) until(what string, so func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !so(); <-time.After(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("not in time: %s", what)
		}
	}
}

// inbox keeps what receivers are sent.
type inbox struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
	heads  []http.Header
	status int
}

func newInbox(t *testing.T) *inbox {
	in := &inbox{status: http.StatusOK}
	in.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		in.mu.Lock()
		defer in.mu.Unlock()
		in.bodies, in.heads = append(in.bodies, r.URL.Path+" "+string(text)), append(in.heads, r.Header)
		w.WriteHeader(in.status)
	}))
	t.Cleanup(in.Close)
	return in
}

func (in *inbox) holds(parts ...string) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, body := range in.bodies {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(body, p)
		}
		if all {
			return true
		}
	}
	return false
}

func (w *world) receiver(name string, spec resource.ReceiverSpec) {
	w.t.Helper()
	_, err := w.PutReceiver(w.t.Context(), ann, name, spec, "", false)
	must(w.t, err)
}

const tooHot = "# TYPE heat gauge\nheat{room=\"b\"} %d\n"

func (w *world) rule() {
	w.t.Helper()
	_, err := w.PutRule(w.t.Context(), ann, "too-hot", resource.AlertRuleSpec{
		Expr: "heat > 30", Alert: "TooHot", Severity: resource.Page, Summary: "Room {{ $labels.room }} has {{ $value }} degrees", Runbook: "https://example.com/cool",
	}, "", false)
	must(w.t, err)
}

// An alert fires, is told to those who want it and to nobody else, and is told
// once more when it is over.
func TestAnAlertIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	people, others, chat, raw := newInbox(t), newInbox(t), newInbox(t), newInbox(t)
	soon := resource.Span("1s")
	w.receiver("people", resource.ReceiverSpec{Webhook: &resource.WebhookReceiver{URL: people.URL, Token: "secret"}, Match: map[string]string{"severity": "page|ticket"}, GroupWait: soon, GroupEvery: soon})
	w.receiver("others", resource.ReceiverSpec{Webhook: &resource.WebhookReceiver{URL: others.URL}, Match: map[string]string{"severity": "info"}, GroupWait: soon})
	w.receiver("chat", resource.ReceiverSpec{Chat: &resource.ChatReceiver{URL: chat.URL + "/hook"}, GroupWait: soon, GroupEvery: soon})
	w.receiver("raw", resource.ReceiverSpec{Alertmanager: &resource.AlertmanagerReceiver{URL: raw.URL}})
	_, err := w.PutOnCall(t.Context(), ann, "team", resource.OnCallSpec{People: []resource.OnCallPerson{{Name: "Bo"}}}, "", false)
	must(t, err)
	w.rule()
	w.tell(fmt.Sprintf(tooHot, 35))
	w.until("the webhook is told", func() bool {
		return people.holds(`"status":"firing"`, `"alertname":"TooHot"`, `"environment":"production"`, "Room b has 35 degrees", `"runbook_url":"https://example.com/cool"`, `"on_call":"Bo"`, `"version":"4"`)
	})
	w.until("the chat is told", func() bool { return chat.holds("/hook", "FIRING:1", "Room b has 35 degrees") })
	w.until("the Alertmanager is told", func() bool { return raw.holds("/api/v2/alerts", `"alertname":"TooHot"`) })
	if others.holds("TooHot") {
		t.Error("who wants other alerts was told")
	}
	if got := people.heads[0].Get("Authorization"); got != "Bearer secret" {
		t.Errorf("the token is %q", got)
	}
	active, err := w.Active(t.Context())
	must(t, err)
	if len(active) == 0 || active[0].Name != "TooHot" || active[0].OnCall != "Bo" || active[0].State != "firing" {
		t.Errorf("%+v", active)
	}
	r, err := w.Rule(t.Context(), "too-hot")
	must(t, err)
	if r.Status.State != "firing" || r.Status.Firing != 1 {
		t.Errorf("%+v", r.Status)
	}
	w.tell(fmt.Sprintf(tooHot, 20))
	w.until("the end is told", func() bool { return people.holds(`"status":"resolved"`, "TooHot") })
	shown, err := w.Receiver(t.Context(), "people")
	must(t, err)
	if shown.Spec.Webhook.Token != "***" || shown.Status.Sent < 2 {
		t.Errorf("%+v %+v", shown.Spec.Webhook, shown.Status)
	}
}

// Nobody is told of what is silenced, but it is shown.
func TestASilencedAlertIsNotTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	people := newInbox(t)
	w.receiver("people", resource.ReceiverSpec{Webhook: &resource.WebhookReceiver{URL: people.URL}, GroupWait: "1s", GroupEvery: "1s"})
	s, err := w.Silence(t.Context(), ann, map[string]string{"alertname": "TooHot", "room": "a|b"}, "the heating is mended", time.Time{}, time.Hour)
	must(t, err)
	w.rule()
	w.tell(fmt.Sprintf(tooHot, 35))
	w.until("the alert shows its silence", func() bool {
		all, err := w.Active(t.Context())
		return err == nil && len(all) > 0 && all[0].Name == "TooHot" && all[0].State == "firing" && all[0].Silence == s.ID
	})
	select {
	case <-time.After(4 * time.Second): // several times the group's wait
	case <-t.Context().Done():
	}
	if people.holds("TooHot") {
		t.Error("somebody was told")
	}
	must(t, w.EndSilence(t.Context(), ann, s.ID))
	w.until("it is told when the silence has ended", func() bool { return people.holds("TooHot") })
	if err := w.EndSilence(t.Context(), ann, s.ID); !problem.Is(err, problem.NotFound) {
		t.Errorf("ended twice: %v", err)
	}
	for name, match := range map[string]map[string]string{"all": nil, "odd": {"a b": "c"}, "empty": {"a": ""}} {
		if _, err := w.Silence(t.Context(), ann, match, "why", time.Time{}, time.Hour); !problem.Is(err, problem.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.Silence(t.Context(), ann, map[string]string{"a": "b"}, "why", time.Time{}, 1000*time.Hour); !problem.Is(err, problem.Invalid) {
		t.Errorf("for ever: %v", err)
	}
	entries, err := w.log.List(t.Context(), "ann", audit.Filter{Limit: 100})
	must(t, err)
	text, err := json.Marshal(entries)
	must(t, err)
	for _, want := range []string{"alert.silence", "alert.unsilence", "alert-rules.put", "receivers.put"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the audit log lacks %s", want)
		}
	}
}

// A test alert says how each receiver took it.
func TestATestAlert(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.Test(t.Context(), ann, ""); !problem.Is(err, problem.NotFound) {
		t.Errorf("without receivers: %v", err)
	}
	good, bad := newInbox(t), newInbox(t)
	bad.status = http.StatusForbidden
	w.receiver("bad", resource.ReceiverSpec{Chat: &resource.ChatReceiver{URL: bad.URL + "/T0P-SECRET"}})
	w.receiver("good", resource.ReceiverSpec{Webhook: &resource.WebhookReceiver{URL: good.URL}})
	mailbox := newMailbox(t)
	w.receiver("mail", resource.ReceiverSpec{Email: &resource.EmailReceiver{Server: mailbox.address, From: "Slipway <slipway@example.com>", To: []string{"ann@example.com"}, Insecure: true}})
	w.receiver("nowhere", resource.ReceiverSpec{Chat: &resource.ChatReceiver{URL: "http://127.0.0.1:1/T0P-SECRET"}})
	w.receiver("outside", resource.ReceiverSpec{Webhook: &resource.WebhookReceiver{URL: "http://10.0.0.1/"}}) // which the guard does not allow
	results, err := w.Test(t.Context(), ann, "")
	must(t, err)
	took := map[string]bool{}
	for _, r := range results {
		took[r.Receiver] = r.OK
		if strings.Contains(r.Problem, "SECRET") {
			t.Errorf("the problem of %s shows its address: %s", r.Receiver, r.Problem)
		}
		if r.OK != (r.Problem == "") {
			t.Errorf("%+v", r)
		}
	}
	if fmt.Sprint(took) != "map[bad:false good:true mail:true nowhere:false outside:false]" {
		t.Errorf("%+v", results)
	}
	if !good.holds("TestAlert", "nothing is wrong") {
		t.Error("the webhook was not told")
	}
	mailbox.mu.Lock()
	defer mailbox.mu.Unlock()
	for _, want := range []string{"RCPT TO:<ann@example.com>", "Subject: [FIRING:1] TestAlert", "nothing is wrong", "Auto-Submitted: auto-generated"} {
		if !strings.Contains(mailbox.text, want) {
			t.Errorf("the mail lacks %q:\n%s", want, mailbox.text)
		}
	}
}

// mailbox is the least of a mail server.
type mailbox struct {
	address string
	mu      sync.Mutex
	text    string
}

func newMailbox(t *testing.T) *mailbox {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	m := &mailbox{address: l.Addr().String()}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go m.serve(conn)
		}
	}()
	return m
}

func (m *mailbox) serve(conn net.Conn) {
	defer conn.Close()
	say := func(s string) { _, _ = io.WriteString(conn, s+"\r\n") }
	say("220 mail")
	lines, data := bufio.NewScanner(conn), false
	for lines.Scan() {
		line := lines.Text()
		m.mu.Lock()
		m.text += line + "\n"
		m.mu.Unlock()
		switch {
		case data && line == ".":
			data = false
			say("250 taken")
		case data:
		case strings.HasPrefix(line, "EHLO"):
			say("250 mail")
		case line == "DATA":
			data = true
			say("354 go on")
		case line == "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

// What cannot be is refused when it is declared, with the field at fault.
func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for field, spec := range map[string]resource.AlertRuleSpec{
		"spec.expr":     {Expr: "sum("},
		"spec.severity": {Expr: "up", Severity: "loud"},
		"spec.alert":    {Expr: "up", Alert: "no name"},
		"spec.record":   {Expr: "up", Record: "a:b", Summary: "both"},
		"spec.runbook":  {Expr: "up", Runbook: "javascript:alert(1)"},
		"spec.for":      {Expr: "up", For: "soon"},
		"spec.labels":   {Expr: "up", Labels: map[string]string{"__name__": "x"}},
		"spec":          {Expr: "up", Summary: "{{ $labels.nothing"},
	} {
		if _, err := w.PutRule(t.Context(), ann, "r", spec, "", false); !problem.Is(err, problem.Invalid) || problem.Of(err).Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	for field, spec := range map[string]resource.ReceiverSpec{
		"spec":                {},
		"spec.webhook.url":    {Webhook: &resource.WebhookReceiver{URL: "ftp://x"}},
		"spec.chat.url":       {Chat: &resource.ChatReceiver{URL: "x"}},
		"spec.email.server":   {Email: &resource.EmailReceiver{Server: "mail", From: "a@b.c", To: []string{"a@b.c"}}},
		"spec.email":          {Email: &resource.EmailReceiver{Server: "mail:25", From: "a@b.c\r\nBcc: x@y.z", To: []string{"a@b.c"}}},
		"spec.email.insecure": {Email: &resource.EmailReceiver{Server: "mail:25", From: "a@b.c", To: []string{"a@b.c"}, Password: "x", Insecure: true}},
		"spec.groupBy":        {Chat: &resource.ChatReceiver{URL: "https://x.y/"}, GroupBy: []string{"a b"}},
	} {
		if _, err := w.PutReceiver(t.Context(), ann, "r", spec, "", false); !problem.Is(err, problem.Invalid) || problem.Of(err).Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	for field, spec := range map[string]resource.SLOSpec{
		"spec.indicator": {Indicator: "luck", Objective: 0.9},
		"spec.good":      {Good: "up", Total: "up", Objective: 0.9},
		"spec.objective": {Indicator: "updates", Objective: 1},
		"spec.total":     {Good: "up[{{window}}]", Total: "sum({{window}}", Objective: 0.9},
	} {
		if _, err := w.PutSLO(t.Context(), ann, "s", spec, "", false); !problem.Is(err, problem.Invalid) || problem.Of(err).Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// How an SLO stands follows from what was counted.
func TestAnSLOStands(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.PutSLO(t.Context(), ann, "checks", resource.SLOSpec{
		Good: `sum by (environment) (max_over_time(checks_total{result="ok"}[{{window}}]))`, Total: `sum by (environment) (max_over_time(checks_total[{{window}}]))`, Objective: 0.9,
	}, "", false)
	must(t, err)
	w.tell("# TYPE checks counter\nchecks_total{result=\"ok\"} 80\nchecks_total{result=\"failed\"} 20\n")
	w.until("the SLO is missed", func() bool {
		s, err := w.SLO(t.Context(), "checks")
		if err != nil || len(s.Status.Items) != 1 || s.Status.Items[0].BurnShort == nil {
			return false
		}
		i := s.Status.Items[0]
		return i.Environment == "production" && i.State == "missed" && *i.Share == 0.8 && *i.Budget > -1.001 && *i.Budget < -0.999 && *i.BurnShort > 1.99 && *i.BurnShort < 2.01
	})
	all, err := w.SLOs(t.Context())
	must(t, err)
	if len(all) != 6 {
		t.Errorf("%d SLOs, and five are shipped beside the declared one", len(all))
	}
	must(t, w.Delete(t.Context(), ann, resource.KindSLO, "checks", ""))
	if _, err := w.SLO(t.Context(), "checks"); !problem.Is(err, problem.NotFound) {
		t.Errorf("deleted: %v", err)
	}
}

// promtool takes every rule, and each alert has its runbook.
func TestShippedRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.rule()
	text, err := w.File(t.Context())
	must(t, err)
	file := filepath.Join(t.TempDir(), "rules.yml")
	must(t, os.WriteFile(file, text, 0o600))
	if out, err := exec.CommandContext(t.Context(), "promtool", "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool: %s\n%s", err, out)
	}
	runbooks := 0
	for line := range strings.Lines(string(text)) {
		if name, found := strings.CutPrefix(strings.TrimSpace(line), "runbook: "); found {
			runbooks++
			if _, err := os.Stat("../../../docs/runbooks/" + name + ".md"); err != nil {
				t.Errorf("no runbook: %v", err)
			}
		}
	}
	alerts := strings.Count(string(text), "- alert: ")
	if runbooks != alerts-1 { // the declared one has a URL
		t.Errorf("%d alerts and %d runbooks", alerts, runbooks)
	}
}

func TestTurns(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)
	s := resource.OnCallSpec{People: []resource.OnCallPerson{{Name: "a"}, {Name: "b"}, {Name: "c"}}, From: begin, Turn: "7d"}
	for after, want := range map[time.Duration]string{-time.Hour: "c", 0: "a", 7*24*time.Hour - 1: "a", 7 * 24 * time.Hour: "b", 20 * 24 * time.Hour: "c", 21 * 24 * time.Hour: "a"} {
		now := s.Now(begin.Add(after), begin)
		if now.Now.Name != want || !now.Until.After(begin.Add(after)) || now.Until.Sub(begin.Add(after)) > 7*24*time.Hour {
			t.Errorf("after %s it is %+v, not %s", after, now, want)
		}
	}
}

// A gate asks for an SLO by its name.
func TestAGateAsksForAnSLO(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	guard, err := outbound.New(nil)
	must(t, err)
	gates := gate.New(gate.Options{Now: time.Now, Guard: guard, Metrics: w.Monitor.Ask, SLO: w.SLO})
	_, err = w.PutSLO(t.Context(), ann, "checks", resource.SLOSpec{
		Good: `sum by (environment) (max_over_time(checks_total{result="ok"}[{{window}}]))`, Total: `sum by (environment) (max_over_time(checks_total[{{window}}]))`, Objective: 0.9,
	}, "", false)
	must(t, err)
	w.tell("# TYPE checks counter\nchecks_total{result=\"ok\"} 80\nchecks_total{result=\"failed\"} 20\n")
	for want, g := range map[gate.Verdict]resource.SLOGate{
		gate.Fail:         {Name: "checks"},
		gate.Pass:         {Name: "checks", MaxBurn: 3},
		gate.Inconclusive: {Name: "checks", In: "test"},
		gate.Error:        {Name: "nothing"},
	} {
		w.until("the gate says "+string(want), func() bool {
			return gates.Evaluate(t.Context(), time.Now(), resource.Gate{Name: "g", SLO: &g}, gate.Subject{Environment: "production"}).Verdict == want
		})
	}
}

// A real Alertmanager receives what fires.
func TestRealAlertmanager(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("prometheus-alertmanager")
	if err != nil {
		t.Fatal("the tests need Alertmanager: run 'make setup-test', or install the package prometheus-alertmanager")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "alertmanager.yml")
	must(t, os.WriteFile(config, []byte("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"), 0o600))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := l.Addr().String()
	must(t, l.Close())
	process := exec.CommandContext(t.Context(), program, "--config.file="+config, "--storage.path="+dir, "--web.listen-address="+address, "--cluster.listen-address=")
	must(t, process.Start())
	t.Cleanup(func() { _ = process.Wait() })

	w := newWorld(t)
	w.receiver("theirs", resource.ReceiverSpec{Alertmanager: &resource.AlertmanagerReceiver{URL: "http://" + address}})
	w.rule()
	w.until("it listens", func() bool {
		_, err := w.Test(t.Context(), ann, "theirs")
		r, shown := w.Receiver(t.Context(), "theirs")
		return err == nil && shown == nil && r.Status.Sent > 0
	})
	w.tell(fmt.Sprintf(tooHot, 35))
	w.until("it has the alert", func() bool {
		out, err := exec.CommandContext(t.Context(), "amtool", "--alertmanager.url=http://"+address, "alert", "query", "alertname=TooHot", "room=b", "-o", "json").Output()
		return err == nil && strings.Contains(string(out), "Room b has 35 degrees") && strings.Contains(string(out), "https://example.com/cool")
	})
}
