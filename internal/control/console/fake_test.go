package console

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

const (
	goodToken = "slp_good"
	csrfToken = "csrf-of-the-session"
)

// world is every subject the console shows, in memory.
type world struct {
	Fleet // what no test here asks for
	story
	mu          sync.Mutex
	sessions    map[string]bool
	role        string // of whoever logs in
	levels      []fleet.Level
	devices     []fleet.Device
	details     map[string]fleet.Detail
	twins       map[string]link.Twin
	queue       []link.QueuedMessage
	moves       []link.Move
	started     []link.StartMove
	patches     []string
	entries     []audit.Entry
	filters     []fleet.Filter
	authorities []link.Authority
	watch       chan link.LogRecord // telemetry as it comes
	methods     func(link.InvokeMethod) (link.MethodResult, error)
}

var noon = time.Now().UTC().Truncate(time.Second)

func newWorld() *world {
	w := &world{role: access.Admin, sessions: map[string]bool{}, details: map[string]fleet.Detail{}, twins: map[string]link.Twin{}, watch: make(chan link.LogRecord)}
	w.methods = func(link.InvokeMethod) (link.MethodResult, error) {
		return link.MethodResult{Status: 200, Payload: json.RawMessage(`{"uptime":86231,"ok":true}`)}, nil
	}
	return w
}

// populated is a world with two environments, a fleet and a move.
func populated() *world {
	w := newWorld()
	w.levels = []fleet.Level{
		{Name: "test", DisplayName: "Test", Waiting: 0, Devices: 40, Connected: 38, Capacity: 500, Rate: 41.3, Stamps: []fleet.Place{placed("test-1", "test", "local", 40, 500, 38, 41.3, 0.4)}},
		{Name: "production", DisplayName: "Production", Waiting: 3, Devices: 9204, Connected: 9150, Capacity: 20000, Rate: 1874.2, Stamps: []fleet.Place{
			placed("production-eu", "production", "eu-west", 8400, 10000, 8391, 1702, 0.7), placed("production-us", "production", "us-east", 804, 10000, 759, 172.2, 34)}},
	}
	w.levels[1].Stamps[0].Status.Limits = &link.StampLimits{Connections: 30000, MessagesPerSecond: 5000, TelemetryBytes: 4 << 30}
	w.levels[1].Stamps[0].Status.Stored = 3 << 30
	for i, name := range []string{"one", "two", "three"} {
		w.levels[1].Stamps[0].Status.Processes = append(w.levels[1].Stamps[0].Status.Processes, resource.Process{
			Name: name, Version: "v1.4.0", Leads: i == 1, Connected: int64(2797), Connections: 10000, Rate: 567, StartedAt: noon.Add(-26 * time.Hour), SeenAt: noon})
	}
	for i := range 12 {
		seen := noon.Add(-time.Duration(i*i*7) * time.Second)
		d := fleet.Device{DeviceID: fmt.Sprintf("pump-%04d", i), Environment: "test", Stamp: "test-1", Status: fleet.StatusEnabled, Connected: i%4 != 3,
			AssignedAt: &seen, LastActivity: &seen, Messages: int64(1200 - i*57), Enrollment: "demo", StampReachable: true}
		if i == 5 {
			d.Status, d.Stamp, d.Environment, d.Connected = fleet.StatusWaiting, "", "production", false
		}
		w.devices = append(w.devices, d)
	}
	w.addDevice(w.devices[0])
	odd := w.devices[1]
	odd.DeviceID = "odd#1%+?:é"
	w.devices = append(w.devices, odd)
	w.addDevice(odd)
	done := noon.Add(-time.Hour)
	w.moves = []link.Move{
		{ID: "mv-running", To: "production", Where: "tags.site = 'north'", Reason: "release 1.2", Actor: "admin", State: link.MoveRunning, CreatedAt: noon.Add(-90 * time.Second),
			Census: link.Census{Total: 1000, Pending: 120, Removing: 40, Waiting: 210, Arrived: 600, Already: 25, Failed: 5, Returning: 190}},
		{ID: "mv-done", To: "production", Actor: "admin", State: link.MoveComplete, CreatedAt: noon.Add(-2 * time.Hour), FinishedAt: &done, Census: link.Census{Total: 2, Arrived: 2}},
	}
	w.queue = []link.QueuedMessage{{MessageID: "9c1f0a7e-5a35-4a0c-b0cd-7c2fe3a2b7aa", Sequence: 4, EnqueuedAt: noon, ExpiresAt: noon.Add(time.Hour), Deliveries: 1, Size: 48}}
	w.tell()
	w.entries = []audit.Entry{{Sequence: 2, At: noon, Actor: "admin", Action: "twin.patch", Object: "device/pump-0001", Outcome: audit.Asked, Detail: `{"tags":{"site":"north"}}`},
		{Sequence: 1, At: noon, Actor: "admin", Action: "move.start", Object: "environment/production", Outcome: audit.Failed, Detail: "to production: 1 named"}}
	return w
}

func placed(name, env, region string, assigned, capacity int, connected int64, rate, age float64) fleet.Place {
	seen := noon
	return fleet.Place{AgeSeconds: age, Stamp: resource.Stamp{Metadata: resource.Metadata{Name: name},
		Spec:   resource.StampSpec{Environment: env, Region: region, Capacity: capacity, State: link.StampOpen},
		Status: &resource.StampStatus{State: "open", Host: name + ".example.net", Assigned: assigned, Connected: connected, Rate: rate, SeenAt: &seen}}}
}

func (w *world) addDevice(d fleet.Device) {
	since := noon.Add(-25 * time.Minute)
	before := noon.Add(-3 * time.Hour)
	w.details[d.DeviceID] = fleet.Detail{Device: d, RegistrationID: d.DeviceID, EnrollmentKind: string(link.Group), Phase: link.PhaseAssigned, Epoch: 3, AuthType: link.AuthSAS,
		ConnectedAt: &since, CreatedAt: before,
		History: []fleet.Stay{{Environment: "test", Stamp: "test-0", From: before, To: &since, Reason: "moved by admin"}, {Environment: "test", Stamp: "test-1", From: since}},
		Transitions: []link.Transition{{At: before, Step: "assigned", Environment: "test", Stamp: "test-0", Epoch: 1}, {At: since, Step: "removed", Environment: "test", Stamp: "test-0", Epoch: 2, Reason: "moved", Move: "mv-done"},
			{At: since, Step: "assigned", Environment: "test", Stamp: "test-1", Epoch: 3}}}
	w.twins[d.DeviceID] = link.Twin{ETag: "AAAAAAAAAAE=", Document: json.RawMessage(`{"deviceId":"x","etag":"AAAAAAAAAAE=","version":7,"tags":{"site":"north","line":4},
		"properties":{"desired":{"interval":10,"$metadata":{},"$version":3},"reported":{"firmware":"1.2.0","selfTest":"ok","battery":{"level":0.83},"$version":4}}}`)}
}

func (w *world) options() Options {
	return Options{Access: w, Audit: auditOf{w}, Environments: environmentsOf{w}, Fleet: w, Releases: releasesOf{w}, Signing: signingOf{w}, Promotions: promotionsOf{w}, Rollouts: rolloutsOf{w}, Gates: gatesOf{w}, Alerts: alertsOf{w}, Journal: journalOf{w}, Incidents: incidentsOf{w}, Metrics: metricsOf{w}, Backups: backupsOf{w}, Retention: retentionOf{w}, Erasures: erasuresOf{w}, Retired: retiredOf{w}, Flags: flagsOf{w}, Drift: driftOf{w}, Configurations: configurationsOf{w}, Derivations: derivationsOf{w}, Grants: grantsOf{w}, Gateway: gatewayOf{w}, Permissions: []string{"device.write", "device.move", "stamp.write"}, Logger: slog.New(slog.DiscardHandler), Provisioning: "provisioning.example.net:8883", Version: "v1.4.0"}
}

func (w *world) Login(_ context.Context, token string, _ access.Login) (string, error) {
	if strings.TrimSpace(token) != goodToken {
		return "", problem.New(problem.Unauthenticated, "the token is not known or has expired")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sessions["cookie-1"] = true
	return "cookie-1", nil
}

func (w *world) HoldRequest(_ http.ResponseWriter, r *http.Request, _ access.Actor) (*http.Request, func()) {
	return r, func() {}
}

func (w *world) Session(_ context.Context, cookie string) (access.Session, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.sessions[cookie] {
		return access.Session{}, problem.New(problem.Unauthenticated, "the session is over; log in again")
	}
	return access.Session{Actor: access.Actor{Name: "admin", TokenID: "admin", Rights: access.Rights{access.RightOf(w.role, access.Bounds{})}}, CSRF: csrfToken}, nil
}

func (w *world) Check(ctx context.Context, actor access.Actor, p access.Permission, find access.Find) error {
	return new(access.Access).Check(ctx, actor, p, find)
}

func (w *world) Logout(_ context.Context, cookie string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.sessions, cookie)
	return nil
}

type auditOf struct{ *world }

func (a auditOf) List(_ context.Context, _ string, f audit.Filter) ([]audit.Entry, error) {
	if f.Before > 0 || f.Object != "" {
		return nil, nil
	}
	return a.entries[:min(f.Limit, len(a.entries))], nil
}

func (a auditOf) Show(_ context.Context, _ string, sequence int64) (audit.Entry, audit.Proof, error) {
	for _, e := range a.entries {
		if e.Sequence == sequence {
			return e, audit.Proof{Checkpoint: a.signed()}, nil
		}
	}
	return audit.Entry{}, audit.Proof{}, problem.New(problem.NotFound, "there is no entry %d", sequence)
}

func (a auditOf) signed() audit.Checkpoint {
	return audit.Checkpoint{Size: 2, At: noon, Note: "slipway/audit/test\n2\nAAAA\n"}
}

func (a auditOf) Latest(context.Context) (audit.Checkpoint, error) { return a.signed(), nil }

func (a auditOf) WitnessStates(context.Context) ([]audit.WitnessState, error) {
	return []audit.WitnessState{{Name: "file /mnt/worm/checkpoints", Size: 2, At: &noon}, {Name: "url https://witness.example", Problem: "it answered 503"}}, nil
}

type environmentsOf struct{ *world }

func (e environmentsOf) Routes(context.Context, access.Actor, bool) ([]resource.Route, error) {
	return nil, nil
}

func (e environmentsOf) Route(_ context.Context, _ access.Actor, name string, _ bool) (resource.Route, error) {
	return resource.Route{}, problem.New(problem.NotFound, "there is no route %q", name)
}

func (e environmentsOf) List(context.Context) ([]resource.Environment, error) {
	var all []resource.Environment
	for i, level := range e.levels {
		env := resource.Environment{Metadata: resource.Metadata{Name: level.Name}, Spec: resource.EnvironmentSpec{DisplayName: level.DisplayName}}
		if i > 0 {
			env.Spec.PromotesFrom = e.levels[i-1].Name
			env.Spec.Promotion = &resource.PromotionSpec{Freeze: []resource.Freeze{
				{Name: "weekend", Reason: "nobody is there", Start: "2026-01-02T16:00:00", Duration: "62h", RRule: "FREQ=WEEKLY;BYDAY=FR", Timezone: "Europe/Berlin", Exempt: []string{"security", "rollback"}},
				{Name: "stocktaking", Reason: "the plants count their parts", Start: noon.Add(2 * 24 * time.Hour).Format("2006-01-02T15:04:05"), Duration: "3d"},
			}}
		} else {
			env.Spec.AutoMove = &link.AutoMove{To: "production", Where: "properties.reported.selfTest = 'ok'", MinMessages: 20, Connected: true}
		}
		all = append(all, env)
	}
	return all, nil
}

func (e environmentsOf) Stamps(context.Context) (all []resource.Stamp, err error) {
	for _, level := range e.levels {
		for _, p := range level.Stamps {
			all = append(all, p.Stamp)
		}
	}
	return all, nil
}

func (w *world) Overview(context.Context) ([]fleet.Level, error) { return w.levels, nil }

func (w *world) List(_ context.Context, f fleet.Filter) (fleet.Page, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.filters = append(w.filters, f)
	if strings.HasPrefix(f.Where, "!") {
		return fleet.Page{}, problem.New(problem.Invalid, "column 1: expected a property, found !").At("where")
	}
	page := fleet.Page{}
	for _, d := range w.devices {
		if !strings.Contains(d.DeviceID, f.Search) || f.Stamp != "" && d.Stamp != f.Stamp || f.Environment != "" && d.Environment != f.Environment || d.DeviceID <= f.After {
			continue
		}
		page.Items = append(page.Items, d)
	}
	return page, nil
}

func (w *world) Stamps(context.Context) (all []resource.Stamp, err error) {
	for _, level := range w.levels {
		for _, p := range level.Stamps {
			all = append(all, p.Stamp)
		}
	}
	return all, nil
}

func (w *world) Stamp(ctx context.Context, name string) (resource.Stamp, error) {
	all, err := w.Stamps(ctx)
	for _, s := range all {
		if s.Metadata.Name == name {
			return s, err
		}
	}
	return resource.Stamp{}, problem.New(problem.NotFound, "there is no stamp %q", name)
}

func (e environmentsOf) PutStamp(_ context.Context, _ access.Actor, name string, spec resource.StampSpec, _ string, _ bool) (resource.Stamp, error) {
	for i := range e.levels {
		for j := range e.levels[i].Stamps {
			if s := &e.levels[i].Stamps[j]; s.Metadata.Name == name {
				s.Spec = spec
				return s.Stamp, nil
			}
		}
	}
	return resource.Stamp{}, problem.New(problem.NotFound, "there is no stamp %q", name)
}

func (w *world) Capacity(context.Context) ([]fleet.Capacity, error) {
	days := 12.0
	return []fleet.Capacity{
		{Environment: "test", Stamps: 1, Places: 1000, Taken: 40, Free: 0.96, PerDay: 3},
		{Environment: "production", Stamps: 1, Places: 20000, Taken: 18000, Free: 0.1, PerDay: 166.7, FullIn: &days, Waiting: 3,
			Advice: []fleet.Advice{{Severity: "warn", Says: "full in 12 days", Remedy: "declare another stamp"}, {Severity: "bad", Says: "all devices are on one stamp", Remedy: "declare a second"}}},
	}, nil
}

func (w *world) Tenants(context.Context) ([]resource.Tenant, error) {
	return []resource.Tenant{
		{Metadata: resource.Metadata{Name: "acme"}, Spec: resource.TenantSpec{DisplayName: "Acme <Corporation>", Regions: []string{"eu-west"}, Devices: 500, MessagesPerSecond: 20}, Status: &resource.TenantStatus{Devices: 17}},
		{Metadata: resource.Metadata{Name: "coyote"}},
	}, nil
}

func (w *world) Placement(_ context.Context, id string) (link.Placement, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, ok := w.details[id]
	if !ok {
		return link.Placement{}, problem.New(problem.NotFound, "there is no device %q", id)
	}
	return link.Placement{
		DeviceID: id, Environment: d.Environment, EnvironmentFrom: "move-3", Tenant: "acme", Enrollment: "line-7", Policy: "weighted", Stamp: d.Stamp,
		Stamps: []link.StampVerdict{
			{Stamp: d.Stamp, Region: "eu-west", State: link.StampOpen, Taken: 7, Capacity: 20000, Verdict: link.VerdictHere},
			{Stamp: "far-away", Region: "us-east", State: link.StampOpen, Taken: 3, Capacity: 20000, Verdict: link.VerdictBarred, Reason: "is in region us-east, and tenant acme stays in eu-west"},
		},
	}, nil
}

func (w *world) Show(_ context.Context, id string) (fleet.Detail, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, ok := w.details[id]
	if !ok {
		return d, problem.New(problem.NotFound, "there is no device %q", id)
	}
	if d.Stamp != "" {
		d.Twin, d.TwinETag = w.twins[id].Document, w.twins[id].ETag
	}
	return d, nil
}

func (w *world) PatchTwin(_ context.Context, _ access.Actor, id, ifMatch string, patch json.RawMessage) (link.Twin, error) {
	return w.write("patch", id, ifMatch, patch)
}

func (w *world) ReplaceTwin(_ context.Context, _ access.Actor, id, ifMatch string, document json.RawMessage) (link.Twin, error) {
	return w.write("replace", id, ifMatch, document)
}

func (w *world) write(how, id, ifMatch string, document json.RawMessage) (link.Twin, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.twins[id].ETag != ifMatch {
		return link.Twin{}, problem.New(problem.Stale, "the twin has changed since")
	}
	w.patches = append(w.patches, how+" "+string(document))
	return w.twins[id], nil
}

func (w *world) InvokeMethod(_ context.Context, _ access.Actor, req link.InvokeMethod) (link.MethodResult, error) {
	return w.methods(req)
}

func (w *world) SendMessage(_ context.Context, _ access.Actor, m link.SendMessage) (link.QueuedMessage, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := link.QueuedMessage{MessageID: "m-" + fmt.Sprint(len(w.queue)+1), Sequence: int64(100 + len(w.queue)), EnqueuedAt: noon, ExpiresAt: noon.Add(m.TTL), Size: len(m.Body)}
	w.queue = append(w.queue, q)
	return q, nil
}

func (w *world) Queued(context.Context, string) (link.QueuedMessages, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return link.QueuedMessages{Items: slices.Clone(w.queue)}, nil
}

func (w *world) PurgeMessages(context.Context, access.Actor, string) (link.Purged, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.queue)
	w.queue = nil
	return link.Purged{Total: n}, nil
}

// telemetryAt is the n-th message of the demo device.
func telemetryAt(n int) link.LogRecord {
	wave := float64(n%17) - 8
	return link.LogRecord{DeviceID: "pump-0000", Stamp: "test-1", Sequence: uint64(n + 1), EnqueuedTime: noon.Add(time.Duration(n-60) * 2 * time.Second), ContentType: "application/json",
		Properties: map[string]string{"alert": "false"}, Body: json.RawMessage(fmt.Sprintf(`{"temperature":%.2f,"pressure":%.1f,"battery":{"level":%.3f},"site":"north"}`, 21+wave*wave/20, 1013+wave, 0.9-float64(n)/500))}
}

func (w *world) Telemetry(context.Context, string, link.ReadLog) (link.LogPage, error) {
	if len(w.devices) == 0 {
		return link.LogPage{}, nil
	}
	var page link.LogPage
	for n := range 60 {
		page.Items = append(page.Items, telemetryAt(n))
	}
	return page, nil
}

func (w *world) Events(context.Context, string, link.ReadLog) (link.LogPage, error) {
	var page link.LogPage
	for i, kind := range []string{"provisioned", "connected", "desiredChanged", "methodInvoked", "disconnected", "refused", "connected"} {
		page.Items = append(page.Items, link.LogRecord{DeviceID: "pump-0000", Stamp: "test-1", Sequence: uint64(i + 1), EnqueuedTime: noon.Add(time.Duration(i-70) * time.Second), Kind: kind,
			Body: json.RawMessage(`{"remote":"127.0.0.1:51234","protocol":"mqtt"}`)})
	}
	return page, nil
}

func (w *world) FollowTelemetry(ctx context.Context, _ string, _ link.WatchLog, each func(link.LogRecord) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-w.watch:
			if err := each(r); err != nil {
				return err
			}
		}
	}
}

func (w *world) FollowEvents(ctx context.Context, _ string, _ link.WatchLog, _ func(link.LogRecord) error) error {
	<-ctx.Done()
	return nil
}

func (w *world) StartMove(_ context.Context, actor access.Actor, req link.StartMove) (link.Move, error) {
	if req.To == "nowhere" {
		return link.Move{}, problem.New(problem.Invalid, "there is no environment %q", req.To).At("to")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.started = append(w.started, req)
	m := link.Move{ID: "mv-new", To: req.To, Actor: actor.Name, State: link.MoveRunning, CreatedAt: noon, Census: link.Census{Total: len(req.Devices), Pending: len(req.Devices)}}
	w.moves = append(w.moves, m)
	return m, nil
}

func (w *world) Move(_ context.Context, id string) (link.Move, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.moves {
		if m.ID == id {
			return m, nil
		}
	}
	return link.Move{}, problem.New(problem.NotFound, "there is no move %q", id)
}

func (w *world) Moves(context.Context, int) (link.Moves, error) {
	return link.Moves{Items: w.moves}, nil
}

func (w *world) MoveDevices(_ context.Context, req link.ListMoveDevices) (link.MovedDevices, error) {
	all := []link.MovedDevice{{DeviceID: "pump-0000", State: "arrived"}, {DeviceID: "pump-0001", State: "waiting"}, {DeviceID: "pump-0002", State: "failed", Problem: "superseded by move mv-later"}}
	return link.MovedDevices{Items: slices.DeleteFunc(all, func(d link.MovedDevice) bool { return req.State != "" && d.State != req.State })}, nil
}

const secretKey = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"

func (w *world) Enrollment(_ context.Context, ref link.EnrollmentRef) (link.Enrollment, error) {
	if len(w.devices) == 0 || ref.Name != "demo" {
		return link.Enrollment{}, problem.New(problem.NotFound, "there is no enrolment %q", ref.Name)
	}
	return link.Enrollment{Kind: ref.Kind, Name: "demo", ETag: "1", Devices: 25, CreatedAt: noon, UpdatedAt: noon, Spec: link.EnrollmentSpec{Environment: "test",
		Attestation: link.Attestation{SymmetricKey: &link.SymmetricKey{PrimaryKey: secretKey, SecondaryKey: secretKey}},
		InitialTwin: &link.InitialTwin{Tags: json.RawMessage(`{"site":"north"}`)}}}, nil
}

func (w *world) Enrollments(ctx context.Context, req link.ListEnrollments) (link.Enrollments, error) {
	if e, err := w.Enrollment(ctx, link.EnrollmentRef{Kind: req.Kind, Name: "demo"}); err == nil && req.Kind == link.Group {
		return link.Enrollments{Items: []link.Enrollment{e}}, nil
	}
	return link.Enrollments{}, nil
}

// authorityOf is one whose key nobody has proven to have, or somebody has.
func authorityOf(name string, verified bool) link.Authority {
	a := link.Authority{Name: name, Subject: "CN=" + name + ",O=Acme", Thumbprint: strings.Repeat(fmt.Sprintf("%02x", len(name)), 32), NotAfter: noon.AddDate(9, 0, 0), CreatedAt: noon}
	if verified {
		a.VerifiedAt = &a.CreatedAt
	} else {
		a.Code = strings.Repeat("A1B2C3", 8)
	}
	return a
}

func (w *world) Authorities(context.Context) ([]link.Authority, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.authorities == nil && len(w.devices) > 0 {
		w.authorities = []link.Authority{authorityOf("factory", false), authorityOf("line-7", true)}
	}
	return slices.Clone(w.authorities), nil
}

func (w *world) AddAuthority(_ context.Context, _ access.Actor, req link.AddAuthority) (link.Authority, error) {
	if !strings.Contains(req.Certificate, "CERTIFICATE") {
		return link.Authority{}, problem.New(problem.Invalid, "must be one certificate in PEM").At("certificate")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.authorities = append(w.authorities, authorityOf(req.Name, false))
	return w.authorities[len(w.authorities)-1], nil
}

func (w *world) VerifyAuthority(_ context.Context, _ access.Actor, req link.VerifyAuthority) (link.Authority, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, a := range w.authorities {
		if a.Name == req.Name && strings.Contains(req.Certificate, a.Code) {
			w.authorities[i] = authorityOf(a.Name, true)
			return w.authorities[i], nil
		}
	}
	return link.Authority{}, problem.New(problem.Denied, "the common name must be the authority's verification code").At("certificate")
}

func (w *world) DeleteAuthority(_ context.Context, _ access.Actor, name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.authorities = slices.DeleteFunc(w.authorities, func(a link.Authority) bool { return a.Name == name })
	return nil
}

func (w *world) Scope(context.Context) (link.Scope, error) {
	return link.Scope{IDScope: "0ne00A1B2C3"}, nil
}

// logIn is the cookie of an open session.
func (w *world) logIn(t *testing.T) *http.Cookie {
	t.Helper()
	value, err := w.Login(t.Context(), goodToken, access.Login{Remote: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	return &http.Cookie{Name: "slipway", Value: value, Path: "/"}
}
