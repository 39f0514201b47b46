package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/control/gateway"
	"github.com/slipway/slipway/internal/control/grant"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

var (
	ada = access.Actor{Name: "ada", Kind: access.Human, Person: "ada"}
	bob = access.Actor{Name: "bob", Kind: access.Human, Person: "bob"}
)

// world is a gateway over a real database and real grants, with devices played
// by the test.
type world struct {
	t       *testing.T
	at      string
	db      *sqldb.DB
	log     *audit.Log
	grants  *grant.Grants
	gateway *gateway.Gateway

	mu     sync.Mutex
	later  time.Duration // by how much the clock is ahead
	method func(ctx context.Context, req link.InvokeMethod) (link.MethodResult, error)
	// revoked is the id of a token that is void.
	revoked string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, at: sqldbtest.At(t), method: func(context.Context, link.InvokeMethod) (link.MethodResult, error) {
		return link.MethodResult{Status: 200, Payload: json.RawMessage(`{"ok":true}`)}, nil
	}}
	w.open()
	t.Cleanup(func() {
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.later)
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.later += d
}

func (w *world) open() {
	w.t.Helper()
	db, err := sqldb.Open(w.t.Context(), w.at, migrations.FS)
	if err != nil {
		w.t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	w.db, w.log = db, audit.NewLog(db, w.now)
	w.grants = grant.New(grant.Options{
		DB: db, Audit: w.log, People: everybody{}, Now: w.now, Logger: quiet, Known: func(string) bool { return true },
		Environment: func(context.Context, sqldb.Querier, string) (resource.EnvironmentSpec, error) {
			return resource.EnvironmentSpec{}, nil
		},
		Alarm: func(context.Context, grant.Grant, resource.GrantPolicy) error { return nil },
	})
	w.gateway = gateway.New(gateway.Options{
		DB: db, Audit: w.log, Fleet: w, Grants: w.grants, Still: w.still, Logger: quiet, Now: w.now, Check: w.check,
		Environment: func(context.Context, string) error { return nil },
		Stamp:       func(_ context.Context, name string) (string, error) { return strings.TrimSuffix(name, "-1"), nil },
	})
}

func (w *world) restart() {
	w.t.Helper()
	if err := w.db.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

// still finds that a token was revoked.
func (w *world) still(_ context.Context, actor access.Actor) (access.Actor, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.revoked != "" && w.revoked == actor.TokenID {
		return actor, problem.New(problem.Unauthenticated, "the token was revoked, or has expired")
	}
	return actor, nil
}

// everybody decides on grants.
type everybody struct{}

func (everybody) Party(context.Context, sqldb.Querier, string) (grant.Party, error) {
	return grant.Party{}, nil
}

func (everybody) Decides(context.Context, sqldb.Querier, string, string, string) (bool, error) {
	return true, nil
}

func (everybody) Kin(_ context.Context, _ sqldb.Querier, person, _, other string) (bool, error) {
	return person == other, nil
}

// check is what access does in an environment that wants grants for changes.
func (w *world) check(ctx context.Context, actor access.Actor, permission string, at gateway.Place) error {
	if permission == "device.read" || at.Environment == "test" {
		return nil
	}
	if permission == "audit.read" || permission == "grant.approve" {
		if actor.Name == "eve" {
			return nil
		}
		return problem.New(problem.Denied, "%s reads no records", actor.Name)
	}
	given, found, err := w.grants.Covering(ctx, actor, at.Environment, permission, grant.Target{Stamp: at.Stamp, Tenant: at.Tenant, Device: gateway.Device(ctx)})
	if err != nil {
		return err
	}
	if !found {
		return problem.New(problem.Denied, "%s wants a grant", at.Environment)
	}
	return w.gateway.Pass(ctx, actor, given)
}

func (w *world) Show(_ context.Context, id string) (d fleet.Detail, err error) {
	environment, _, found := strings.Cut(id, "-")
	if !found {
		return d, problem.New(problem.NotFound, "there is no device %s", id)
	}
	d.DeviceID, d.Environment, d.Stamp = id, environment, environment+"-1"
	return d, nil
}

func (w *world) Twin(context.Context, string) (link.Twin, error) {
	return link.Twin{Document: json.RawMessage(`{"tags":{"batch":"7"},"password":"hunter2"}`)}, nil
}

func (w *world) PatchTwin(_ context.Context, _ access.Actor, _, _ string, patch json.RawMessage) (link.Twin, error) {
	return link.Twin{Document: patch}, nil
}

func (w *world) InvokeMethod(ctx context.Context, _ access.Actor, req link.InvokeMethod) (link.MethodResult, error) {
	return w.method(ctx, req)
}

func (w *world) SendMessage(context.Context, access.Actor, link.SendMessage) (link.QueuedMessage, error) {
	return link.QueuedMessage{MessageID: "m-1"}, nil
}

func (w *world) Query(_ context.Context, environment, stamp string, req link.RunQuery) ([]fleet.Answer, error) {
	if strings.Contains(req.Query, "FORM") {
		return nil, problem.New(problem.Invalid, "there is no FORM")
	}
	return []fleet.Answer{{Stamp: environment + "-1", Rows: link.Rows{Items: []json.RawMessage{[]byte(`{"deviceId":"production-7"}`)}}}}, nil
}

// granted gives somebody a grant that another approved.
func (w *world) granted(actor access.Actor, life time.Duration, devices ...string) grant.Grant {
	w.t.Helper()
	g, err := w.grants.Ask(w.t.Context(), actor, grant.Asking{Environment: "production", Request: grant.Request{
		Purpose: "troubleshooting", Reason: "INC-7", Seconds: int64(life / time.Second), Scope: grant.Extent{Permissions: []string{"device.write"}, Devices: devices},
	}})
	if err == nil {
		g, err = w.grants.Say(w.t.Context(), access.Actor{Name: "eve", Kind: access.Human, Person: "eve"}, g.ID, grant.Word{Verb: grant.Approve})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

func (w *world) shell(actor access.Actor, o gateway.Opening) gateway.Session {
	w.t.Helper()
	s, err := w.gateway.Open(w.t.Context(), actor, o)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) types(actor access.Actor, id, line string) gateway.Reply {
	w.t.Helper()
	a, err := w.gateway.Type(w.t.Context(), actor, id, line)
	if err != nil {
		w.t.Fatalf("%s: %v", line, err)
	}
	return a
}

func (w *world) lines(id string) []gateway.Line {
	w.t.Helper()
	all, err := w.gateway.Lines(w.t.Context(), id, 0, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

func (w *world) actions() (all []audit.Entry) {
	w.t.Helper()
	all, err := w.log.List(w.t.Context(), "test", audit.Filter{Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// TestAShellIsRecordedBeforeAnythingIsDone looks at the record from inside the
// device, and afterwards holds its digest against the audit log.
func TestAShellIsRecordedBeforeAnythingIsDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.gateway.Open(t.Context(), ada, gateway.Opening{Environment: "production", Device: "production-7"}); !problem.Is(err, problem.Denied) {
		t.Fatalf("without a grant: %v", err)
	}
	g := w.granted(ada, time.Hour)
	s := w.shell(ada, gateway.Opening{Environment: "production", Device: "production-7", Reason: "INC-7"})
	if s.Grant != g.ID || s.Until == nil || !s.Until.Equal(*g.Until) {
		t.Fatalf("%+v", s)
	}
	w.method = func(_ context.Context, req link.InvokeMethod) (link.MethodResult, error) {
		if lines := w.lines(s.ID); len(lines) != 1 || lines[0].Kind != gateway.In || lines[0].Text != `method reboot {"delay":3,"password":"***"}` {
			t.Errorf("the device was asked before the record has it: %+v", lines)
		}
		if string(req.Payload) != `{"delay": 3, "password": "hunter2"}` {
			t.Errorf("the device got %s", req.Payload)
		}
		return link.MethodResult{Status: 200, Payload: json.RawMessage(`{"token":"abcdefgh","ok":true}`)}, nil
	}
	if a := w.types(ada, s.ID, `method reboot {"delay": 3, "password": "hunter2"}`); a.Failed || !strings.Contains(a.Output, "abcdefgh") {
		t.Fatalf("%+v", a)
	}
	w.restart()
	w.types(ada, s.ID, "twin")
	if a := w.types(ada, s.ID, "device test-1"); !a.Failed {
		t.Fatalf("a device of another environment: %+v", a)
	}
	if _, err := w.gateway.Type(t.Context(), bob, s.ID, "twin"); !problem.Is(err, problem.Denied) {
		t.Fatalf("another's session: %v", err)
	}
	for who, want := range map[string]int{"ada": 1, "bob": 0, "eve": 1} {
		actor := access.Actor{Name: who, Kind: access.Human, Person: who}
		all, _, err := w.gateway.List(t.Context(), actor, gateway.Filter{Environment: "production"})
		if denied := w.gateway.MayRead(t.Context(), actor, s); err != nil || len(all) != want || (denied == nil) != (want == 1) {
			t.Errorf("%s sees %d sessions: %v %v", who, len(all), err, denied)
		}
	}
	if a := w.types(ada, s.ID, "exit"); a.Session.ClosedAt == nil {
		t.Fatalf("%+v", a)
	}
	w.checkDigest(s.ID)
}

func (w *world) checkDigest(id string) {
	w.t.Helper()
	var text bytes.Buffer
	if err := w.gateway.Cast(w.t.Context(), id, &text); err != nil {
		w.t.Fatal(err)
	}
	if strings.Contains(text.String(), "hunter2") || strings.Contains(text.String(), "abcdefgh") {
		w.t.Errorf("a secret was recorded:\n%s", text.String())
	}
	sum := sha256.Sum256(text.Bytes())
	digest, closed := hex.EncodeToString(sum[:]), 0
	for _, e := range w.actions() {
		if e.Action == "session.close" && e.Object == "session/"+id {
			closed++
			if !strings.Contains(e.Detail, digest) {
				w.t.Errorf("the audit log has %s, the record %s", e.Detail, digest)
			}
		}
	}
	if same, err := w.gateway.Verify(w.t.Context(), id); err != nil || !same || closed != 1 {
		w.t.Errorf("%v %v, closed %d times", same, err, closed)
	}
	for n, line := range strings.Split(strings.TrimSpace(text.String()), "\n") {
		var header map[string]any
		var event []any
		if n == 0 && (json.Unmarshal([]byte(line), &header) != nil || header["version"] != 2.0) || n > 0 && (json.Unmarshal([]byte(line), &event) != nil || len(event) != 3) {
			w.t.Errorf("line %d is no asciicast: %s", n+1, line)
		}
	}
	err := w.db.Commit(w.t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE recording_line SET text = 'nothing' WHERE recording = ? AND number = 2", id)
		return err
	})
	if same, verifyErr := w.gateway.Verify(w.t.Context(), id); err != nil || verifyErr != nil || same {
		w.t.Errorf("a changed record was not noticed: %v %v", err, verifyErr)
	}
}

// TestAShellEndsWithItsToken opens two, and revokes what one of them was opened
// with.
func TestAShellEndsWithItsToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	laptop, phone := ada, ada
	laptop.TokenID, phone.TokenID = "laptop", "phone"
	cut, kept := w.shell(laptop, gateway.Opening{Environment: "test"}), w.shell(phone, gateway.Opening{Environment: "test"})
	w.mu.Lock()
	w.revoked = "laptop"
	w.mu.Unlock()
	if err := w.gateway.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id, over := range map[string]bool{cut.ID: true, kept.ID: false} {
		s, err := w.gateway.Get(t.Context(), id)
		if err != nil || (s.ClosedAt != nil) != over || over && !strings.Contains(s.Outcome, "revoked") {
			t.Errorf("%v %+v", err, s)
		}
	}
}

// TestAShellEndsWithItsGrant has a command wait for ever, and measures how
// long it goes on after the grant.
func TestAShellEndsWithItsGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.granted(ada, time.Hour)
	s := w.shell(ada, gateway.Opening{Environment: "production", Device: "production-7"})
	asked := make(chan struct{})
	w.method = func(ctx context.Context, _ link.InvokeMethod) (r link.MethodResult, err error) {
		close(asked)
		<-ctx.Done()
		return r, ctx.Err()
	}
	type ended struct {
		a   gateway.Reply
		err error
		at  time.Time
	}
	over := make(chan ended)
	go func() {
		a, err := w.gateway.Type(t.Context(), ada, s.ID, "method sleep")
		over <- ended{a, err, time.Now()}
	}()
	<-asked
	began := time.Now()
	w.pass(time.Hour)
	e := <-over
	if e.err != nil || !e.a.Failed || !strings.Contains(e.a.Output, g.ID) || e.at.Sub(began) > time.Second {
		t.Fatalf("%v %+v after %s", e.err, e.a, e.at.Sub(began))
	}
	t.Logf("cut after %s", e.at.Sub(began))
	if _, err := w.gateway.Type(t.Context(), ada, s.ID, "twin"); !problem.Is(err, problem.Denied) && !problem.Is(err, problem.Conflict) {
		t.Fatalf("it went on: %v", err)
	}
	if err := w.gateway.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s, err := w.gateway.Get(t.Context(), s.ID); err != nil || s.ClosedAt == nil || s.Lines != 2 {
		t.Fatalf("%v %+v", err, s)
	}
	w.checkDigest(s.ID)
}

// TestRequestsUnderAGrant passes requests through the gateway: those that only
// a grant allows are recorded before their handler, others not at all.
func TestRequestsUnderAGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.granted(ada, time.Hour, "production-7")
	server := httptest.NewServer(w.gateway.Wrap(gateway.API, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		environment := r.Header.Get("Environment")
		var early []byte
		if r.Header.Get("Content-Type") == "application/json" { // as the API does, which reads before it asks
			var err error
			if early, err = io.ReadAll(r.Body); err != nil {
				t.Error(err)
			}
		}
		if err := w.check(r.Context(), ada, "device.write", gateway.Place{Environment: environment}); err != nil {
			http.Error(rw, err.Error(), http.StatusForbidden)
			return
		}
		if all, _, err := w.gateway.List(r.Context(), ada, gateway.Filter{Grant: g.ID}); err != nil || environment == "production" && (len(all) != 1 || all[0].Lines%2 != 1) {
			t.Errorf("it was done before it was recorded: %v %+v", err, all)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		rw.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(rw, `{"got": %d, "primaryKey": "c2VjcmV0"}`, len(early)+len(body))
	})))
	defer server.Close()
	ask := func(environment, path, kind, body string) string {
		req, err := http.NewRequestWithContext(t.Context(), "PATCH", server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Environment", environment)
		req.Header.Set("Content-Type", kind)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	long := strings.Repeat("x", 200_000)
	for _, c := range []struct{ environment, path, kind, body, want, asked string }{
		{"test", "/api/v1/devices/test-1/twin", "application/json", `{"tags":{}}`, `{"got": 11, "primaryKey": "c2VjcmV0"}`, ""},
		{"production", "/api/v1/devices/production-8/twin", "application/json", `{}`, `production wants a grant`, ""},
		{"production", "/api/v1/devices", "application/json", `{}`, `production wants a grant`, ""},
		{"production", "/api/v1/devices/production-7/twin?token=abc", "application/json", `{"tags":{"wifiPassword":"hunter2","a":1.50}}`, `{"got": 44, "primaryKey": "c2VjcmV0"}`, "PATCH /api/v1/devices/production-7/twin?token=***\n" + `{"tags":{"a":1.50,"wifiPassword":"***"}}`},
		{"production", "/devices/production-7/twin", "application/x-www-form-urlencoded", `csrf=abc&document=%7B%22secret%22%3A+%22hunter2%22%7D`, `{"got": 53, "primaryKey": "c2VjcmV0"}`, "PATCH /devices/production-7/twin\n" + `csrf=***&document={"secret":"***"}`},
		{"production", "/api/v1/devices/production-7/twin", "application/json", `{"a":"` + long + `"}`, `{"got": 200008, "primaryKey": "c2VjcmV0"}`, "PATCH /api/v1/devices/production-7/twin\n(application/json, its first 65536 bytes have sha256 "},
		{"production", "/api/v1/devices/production-7/twin", "application/octet-stream", long, `{"got": 200000, "primaryKey": "c2VjcmV0"}`, "PATCH /api/v1/devices/production-7/twin\n(application/octet-stream, its first 65536 bytes have sha256 "},
	} {
		if got := ask(c.environment, c.path, c.kind, c.body); got != c.want {
			t.Errorf("%s %s: %s", c.environment, c.path, got)
		}
		all, _, err := w.gateway.List(t.Context(), ada, gateway.Filter{Grant: g.ID})
		if err != nil || c.asked == "" && len(all) != 0 {
			t.Errorf("%s was recorded: %v", c.path, err)
		}
		if c.asked == "" {
			continue
		}
		lines := w.lines(all[0].ID)
		if in := lines[len(lines)-2]; in.Kind != gateway.In || !strings.HasPrefix(in.Text, c.asked) {
			t.Errorf("%q was recorded as %q", c.asked, in.Text)
		}
		if out := lines[len(lines)-1]; out.Kind != gateway.Out || !strings.HasPrefix(out.Text, "200 OK\n{\"got\":") || strings.Contains(out.Text, "c2Vj") {
			t.Errorf("the answer was recorded as %q", out.Text)
		}
	}
	if err := w.gateway.Pass(t.Context(), ada, g); !problem.Is(err, problem.Denied) {
		t.Errorf("it passed by no way that is recorded: %v", err)
	}
}

// TestStreamsAreCut measures how long a stream goes on after its grant.
func TestStreamsAreCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := httptest.NewServer(w.gateway.Wrap(gateway.API, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if err := w.check(r.Context(), ada, "device.write", gateway.Place{Environment: "production"}); err != nil {
			http.Error(rw, err.Error(), http.StatusForbidden)
			return
		}
		out, tick := http.NewResponseController(rw), time.NewTicker(5*time.Millisecond)
		defer tick.Stop()
		for r.Context().Err() == nil {
			fmt.Fprintln(rw, "tick")
			if err := out.Flush(); err != nil {
				return
			}
			<-tick.C
		}
	})))
	defer server.Close()
	for how, end := range map[string]func(g grant.Grant){
		"revoked": func(g grant.Grant) {
			if _, err := w.grants.Say(t.Context(), bob, g.ID, grant.Word{Verb: grant.Revoke, Reason: "enough"}); err != nil {
				t.Error(err)
			}
		},
		"expired": func(grant.Grant) { w.pass(time.Hour) },
	} {
		g := w.granted(ada, time.Hour)
		resp, err := http.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(resp.Body)
		for range 3 {
			if !lines.Scan() || lines.Text() != "tick" {
				t.Fatalf("no stream: %q %v", lines.Text(), lines.Err())
			}
		}
		began := time.Now()
		end(g)
		for lines.Scan() {
		}
		took := time.Since(began)
		t.Logf("%s: cut after %s", how, took)
		if took > time.Second {
			t.Errorf("%s: it went on for %s", how, took)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		again, err := http.Get(server.URL)
		if err != nil || again.StatusCode != http.StatusForbidden {
			t.Errorf("%s: and once more: %v %v", how, again, err)
		}
		if err := again.Body.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestMask takes secrets out and leaves the rest.
func TestMask(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.shell(ada, gateway.Opening{Environment: "test", Device: "test-1"})
	for line, want := range map[string]string{
		`method set {"ssid":"home","psk":"x","wifiPassword":"p"}`:                                    `method set {"psk":"x","ssid":"home","wifiPassword":"***"}`,
		"shell curl -H 'Authorization: Bearer abcdefghijk' http://x":                                 "shell curl -H 'Authorization: Bearer ***' http://x",
		"send HostName=h;DeviceId=d;SharedAccessKey=abc123=":                                         "send HostName=h;DeviceId=d;SharedAccessKey=***",
		"shell mysql --password=hunter2 -e x":                                                        "shell mysql --password=*** -e x",
		"shell echo slp_abcdefghijklmnop":                                                            "shell echo slp_***",
		"shell fetch https://ada:hunter2@example.com/x":                                              "shell fetch https://ada:***@example.com/x",
		"send -----BEGIN PRIVATE KEY-----MIIB-----END PRIVATE KEY----- and more":                     "send *** and more",
		`query SELECT * FROM devices WHERE tags.batch = '7'`:                                         `query SELECT * FROM devices WHERE tags.batch = '7'`,
		`twin {"tags":{"count":12345678901234567890},"list":[{"apiKey":"k"},{"name":"n","v":null}]}`: `twin {"list":[{"apiKey":"***"},{"name":"n","v":null}],"tags":{"count":12345678901234567890}}`,
	} {
		w.types(ada, s.ID, line)
		lines := w.lines(s.ID)
		if got := lines[len(lines)-2].Text; got != want {
			t.Errorf("%s was recorded as %s", line, got)
		}
	}
}
