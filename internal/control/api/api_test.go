package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/blob"
	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/alert"
	"github.com/slipway/slipway/internal/control/api"
	"github.com/slipway/slipway/internal/control/artifact"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/backup"
	"github.com/slipway/slipway/internal/control/configuration"
	"github.com/slipway/slipway/internal/control/decommission"
	"github.com/slipway/slipway/internal/control/drift"
	"github.com/slipway/slipway/internal/control/environment"
	"github.com/slipway/slipway/internal/control/erasure"
	"github.com/slipway/slipway/internal/control/evidence"
	"github.com/slipway/slipway/internal/control/featureflag"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/gateway"
	"github.com/slipway/slipway/internal/control/grant"
	"github.com/slipway/slipway/internal/control/incident"
	"github.com/slipway/slipway/internal/control/insight"
	"github.com/slipway/slipway/internal/control/journal"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/control/monitor"
	"github.com/slipway/slipway/internal/control/place"
	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/readiness"
	"github.com/slipway/slipway/internal/control/rehearsal"
	"github.com/slipway/slipway/internal/control/release"
	"github.com/slipway/slipway/internal/control/retention"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/control/signin"
	"github.com/slipway/slipway/internal/control/signing"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/metrics"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/seal"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/vault"
)

// noDriver starts nothing and says that it did.
type noDriver struct{}

func (noDriver) Ensure(_ context.Context, s link.Stamp) (string, error) {
	return s.Name + ".example", nil
}
func (noDriver) Remove(context.Context, string) error { return nil }

// server is the API over real subjects, with provisioning and one stamp played
// by the test.
type server struct {
	t     *testing.T
	url   string
	token string
	conn  *bus.Conn

	db      *sqldb.DB
	log     *audit.Log
	journal *journal.Journal
	signing *signing.Signing
	drift   *drift.Drift
	people  *access.Access
}

func newServer(t *testing.T) *server {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	nats, err := bus.Start(t.Context(), bus.Options{Name: "link", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nats.Stop)
	conn, err := nats.Connect("control")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	log, err := audit.Open(t.Context(), db, make([]byte, 32), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	people := access.New(db, log, time.Now)
	go people.Watch(t.Context())
	token, err := people.Bootstrap(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	environments, err := environment.New(db, conn, noDriver{}, log, quiet, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	box, err := seal.New(make([]byte, seal.SecretSize))
	if err != nil {
		t.Fatal(err)
	}
	environments.Box = &box
	artifacts := artifact.New(db, blob.New(blob.Dir(t.TempDir())), artifact.Limits{Total: 64 << 20}, log, time.Now)
	releases := release.New(db, artifacts, log, time.Now)
	signed, err := signing.Open(t.Context(), signing.Options{DB: db, Audit: log, Releases: releases, Environment: environments.SpecIn, Secret: make([]byte, 32), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	environments.Changed = signed.Settle
	if err := errors.Join(bus.Answer(conn, link.ControlPeer, link.ArtifactRead, artifacts.Read), bus.Answer(conn, link.ControlPeer, link.MetadataRead, signed.Read)); err != nil {
		t.Fatal(err)
	}
	guard, err := outbound.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	devices := fleet.New(db, conn, environments, log, time.Now)
	gates := gate.New(gate.Options{
		Independent: people.Independent, DB: db, Audit: log, Now: time.Now, Guard: guard, Query: devices.Query, Environments: environments.List, Release: releases.Get, Components: releases.Components,
	})
	people.Controlled = environments.Controlled
	rollouts := rollout.New(rollout.Options{
		DB: db, Audit: log, Fleet: environments, Release: releases.Get, Judge: gates.Evaluate, Raise: environments.Raise, Reroute: environments.Kick, Logger: quiet, Now: time.Now,
		Put: func(context.Context, string, link.Releases) error { return nil },
	})
	promotions := promotion.New(promotion.Options{
		Independent: people.Independent, DB: db, Audit: log, Environments: environments, Releases: releases, Signing: signed, Gates: gates, Rollouts: rollouts, Guard: guard, Logger: quiet, Now: time.Now,
	})
	counted, err := monitor.New(monitor.Options{Dir: filepath.Join(t.TempDir(), "metrics"), Conn: conn, Registry: metrics.New("test", quiet), Stamps: environments.Stamps, Logger: quiet, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := counted.Close(); err != nil {
			t.Error(err)
		}
	})
	alerts := alert.New(alert.Options{DB: db, Audit: log, Monitor: counted, Guard: guard, Dir: t.TempDir(), Logger: quiet, Now: time.Now})
	signedIn, err := signin.New(signin.Options{DB: db, Access: people, Audit: log, Secret: make([]byte, 32), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	_, recoverer, err := vault.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	vaults := backup.Config{Vaults: []link.Vault{{Name: "cellar", Directory: t.TempDir()}}, Recipients: []string{recoverer}}
	backups, err := backup.New(backup.Options{Config: vaults, DB: db, Audit: log, Secret: make([]byte, 32), Stamps: environments.Stamps, Tenants: environments.Tenants, Logger: quiet, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	rehearsals := rehearsal.New(rehearsal.Options{
		DB: db, Audit: log, Seed: make([]byte, 32), Environment: environments.Get, Stamps: environments.Stamps, Release: releases.Get, Now: time.Now,
		Running: func(context.Context, string, string) (string, error) { return "", nil },
		Schema:  func(context.Context, string) (int64, error) { return 0, nil },
	})
	flags := featureflag.New(featureflag.Options{
		DB: db, Audit: log, Environments: environments.List, Release: releases.Get, Logger: quiet, Now: time.Now,
		Running: func(context.Context) ([]featureflag.Running, error) { return nil, nil },
	})
	grants := grant.New(grant.Options{
		DB: db, Audit: log, Environment: environments.SpecIn, People: grant.Accounts{Access: people}, Rights: grant.Accounts{Access: people}, Logger: quiet, Now: time.Now,
		Known: func(p string) bool { return access.Permission(p).Known() },
		Alarm: func(context.Context, grant.Grant, resource.GrantPolicy) error { return nil },
	})
	recorder := gateway.New(gateway.Options{
		DB: db, Audit: log, Fleet: devices, Grants: grants, Still: people.Still, Logger: quiet, Now: time.Now,
		Check: func(ctx context.Context, actor access.Actor, p string, at gateway.Place) error {
			return people.Check(ctx, actor, access.Permission(p), func(context.Context) ([]access.Place, error) {
				return []access.Place{{Environment: at.Environment, Stamp: at.Stamp, Tenant: at.Tenant}}, nil
			})
		},
		Environment: func(ctx context.Context, name string) error {
			_, err := environments.Get(ctx, name)
			return err
		},
		Stamp: func(ctx context.Context, name string) (string, error) {
			s, err := environments.Stamp(ctx, name)
			return s.Spec.Environment, err
		},
	})
	people.Granted = func(ctx context.Context, actor access.Actor, at access.Place, p access.Permission) (bool, error) {
		given, found, err := grants.Covering(ctx, actor, at.Environment, string(p), grant.Target{Stamp: at.Stamp, Tenant: at.Tenant, Device: gateway.Device(ctx)})
		if err != nil || !found {
			return false, err
		}
		if access.Again(ctx) {
			return gateway.Passes(ctx), nil
		}
		grants.Use(given.ID, string(p))
		return true, recorder.Pass(ctx, actor, given)
	}
	gathering := &evidence.Gatherer{DB: db, Environments: environments, Fleet: devices, Releases: releases, Promotions: promotions, Rollouts: rollouts, Gates: gates, Flags: flags, Signing: signed, People: people, Grants: grants, Audit: log, Alerts: alerts, Monitor: counted, Backups: backups, Now: time.Now}
	ready := readiness.New(readiness.Options{DB: db, Audit: log, Environments: environments.List, Gather: gathering.Gather, Sign: backups.Sign, Logger: quiet, Now: time.Now})
	kept, err := journal.Open(t.Context(), journal.Options{Dir: t.TempDir(), Stamps: environments.Stamps, Logger: quiet, Now: time.Now, Tenant: func(ctx context.Context, id string) (string, error) {
		at, err := devices.Whereabouts(ctx, id)
		return at.Tenant, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kept.Close(); err != nil {
			t.Error(err)
		}
	})
	drifts := drift.New(drift.Options{
		DB: db, Audit: log, Fleet: environments, Logger: quiet, Now: time.Now,
		Running:        func(context.Context) ([]drift.Running, error) { return nil, nil },
		Flags:          func(context.Context) (map[string]string, error) { return nil, nil },
		FlagsOf:        func(context.Context, string) (any, error) { return nil, nil },
		Enrollments:    func(context.Context) ([]link.Enrollment, error) { return nil, nil },
		Configurations: func(context.Context, string) ([]link.HeldConfiguration, error) { return nil, nil },
		Held:           func(context.Context, string) (link.Held, error) { return link.Held{}, nil },
		HeldDirectory:  environments.Directory,
		Sample:         func(context.Context, string, string) (link.Rows, error) { return link.Rows{}, nil },
	})
	handler := api.New(api.Options{
		Drift: drifts,
		Configurations: configuration.New(configuration.Options{
			DB: db, Audit: log, Gates: gates, Environment: environments.Get, Stamps: environments.Stamps, Logger: quiet, Now: time.Now,
			Put: func(context.Context, string, link.WantedConfigurations) error { return nil },
		}),
		Readiness: ready,
		Insight:   &insight.Insight{Environments: environments.List, Promotions: promotions.List, Rollouts: rollouts.List, Verifications: promotions.Verifications, Release: releases.Get, Now: time.Now},

		Alerts:  alerts,
		Journal: kept,
		Incidents: incident.New(incident.Options{DB: db, Audit: log, Where: devices.Whereabouts, Events: devices.Events, Logger: quiet, Now: time.Now, Environment: func(ctx context.Context, name string) error {
			_, err := environments.Get(ctx, name)
			return err
		}}),
		SignIn:  signedIn,
		Backups: backups, Rehearsals: rehearsals,
		Grants: grants, Gateway: recorder,
		Flags:  flags,
		Access: people, Places: &place.Finder{DB: db, Device: devices.Whereabouts, Enrollment: devices.Enrollment}, Audit: log, Environments: environments, Fleet: devices, Artifacts: artifacts, Releases: releases, Signing: signed, Gates: gates, Rollouts: rollouts, Promotions: promotions,
		Logger: quiet, Version: "1",
		Retention:     retention.New(retention.Options{DB: db, Audit: log, Planes: nobody{}, Stamps: environments.Stamps, Logger: quiet, Now: time.Now}),
		Decommissions: decommission.New(decommission.Options{DB: db, Audit: log, Find: devices.Whereabouts, Held: held, Logger: quiet, Now: time.Now}),
		Erasures:      erasure.New(erasure.Options{DB: db, Audit: log, Known: func(context.Context, string, string) error { return nil }, Held: held, Logger: quiet, Now: time.Now}),
		Dossiers:      dossiers(log, environments.Stamps),
	})
	h := httptest.NewServer(recorder.Wrap(gateway.API, handler))
	t.Cleanup(h.Close)
	return &server{t, h.URL, token, conn, db, log, kept, signed, drifts, people}
}

func (s *server) do(method, path, body string, header ...string) (int, string, http.Header) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

// openAPI is what the description must hold.
type openAPI struct {
	OpenAPI string
	Paths   map[string]map[string]struct {
		OperationID string
		Summary     string
	}
}

func TestEveryRouteIsDescribedAndDemandsAToken(t *testing.T) {
	s := newServer(t)
	status, text, _ := s.do("GET", "/api/openapi.json", "", "Authorization", "")
	var described openAPI
	if err := json.Unmarshal([]byte(text), &described); err != nil || status != 200 || !strings.HasPrefix(described.OpenAPI, "3.1") {
		t.Fatalf("%d, version %s, %v", status, described.OpenAPI, err)
	}
	routes := 0
	for path, methods := range described.Paths {
		for method, operation := range methods {
			routes++
			if operation.OperationID == "" || operation.Summary == "" {
				t.Errorf("%s %s is not described", method, path)
			}
			target := strings.NewReplacer("{id}", "x", "{name}", "x", "{method}", "x").Replace(path)
			for name, header := range map[string]string{"no token": "", "a wrong one": "Bearer slp_wrong", "another scheme": "Basic eDp5"} {
				status, body, answered := s.do(strings.ToUpper(method), target, "{}", "Authorization", header)
				guarded(t, method+" "+path, answered)
				if status != http.StatusUnauthorized && status != http.StatusTooManyRequests || !strings.Contains(body, "urn:slipway:problem:") {
					t.Errorf("%s %s with %s: %d %s", method, path, name, status, body)
				}
			}
		}
	}
	if routes < 30 {
		t.Errorf("only %d routes are described", routes)
	}
}

// guarded checks that an answer cannot be framed, sniffed or kept, and can be
// looked up in the audit log.
func guarded(t *testing.T, what string, h http.Header) {
	t.Helper()
	if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'; frame-ancestors 'none'") || h.Get("X-Request-Id") == "" {
		t.Errorf("%s answers with %v", what, h)
	}
}

func TestResourcesKeepTheirVersions(t *testing.T) {
	s := newServer(t)
	const path = "/api/v1/environments/dev"
	status, body, header := s.do("PUT", path, `{"spec":{"displayName":"Dev"}}`)
	if status != 200 || header.Get("ETag") != `"1"` {
		t.Fatalf("%d %s %s", status, header.Get("ETag"), body)
	}
	for _, c := range []struct {
		method, path, body, ifMatch string
		status                      int
		etag, says                  string
	}{
		{"PUT", path, `{"spec":{"displayName":"Dev"}}`, "", 200, `"1"`, ""},
		{"PUT", path + "?dryRun=true", `{"spec":{"displayName":"Other"}}`, "", 200, `"2"`, "Other"},
		{"GET", path, "", "", 200, `"1"`, `"displayName":"Dev"`},
		{"PUT", path, `{"spec":{"displayName":"Development"}}`, `"1"`, 200, `"2"`, "Development"},
		{"PUT", path, `{"spec":{"displayName":"Late"}}`, `"1"`, 412, "", "has changed"},
		{"PUT", "/api/v1/environments/new", `{"spec":{}}`, "*", 412, "", "nothing stored"},
		{"PUT", "/api/v1/environments/prod", `{"spec":{"promotesFrom":"dev"}}`, "", 200, `"1"`, ""},
		{"PUT", path, `{"spec":{"promotesFrom":"prod"}}`, "", 400, "", "circle"},
		{"DELETE", path, "", "", 409, "", "promotes from dev"},
		{"PUT", "/api/v1/stamps/s1", `{"spec":{"environment":"prod","region":"r"}}`, "", 200, `"1"`, `"capacity":10000`},
		{"PUT", "/api/v1/stamps/s2", `{"spec":{"environment":"none","region":"r"}}`, "", 400, "", "no environment"},
		{"DELETE", "/api/v1/environments/prod", "", "", 409, "", "1 stamps"},
		{"DELETE", "/api/v1/stamps/s1", "", "", 409, "", "closed first"},
		{"GET", "/api/v1/environments", "", "", 200, "", `"name":"dev"`},
		{"GET", "/api/v1/audit", "", "", 200, "", "environment.put"},
	} {
		status, body, header := s.do(c.method, c.path, c.body, "If-Match", c.ifMatch)
		if status != c.status || c.etag != "" && header.Get("ETag") != c.etag || !strings.Contains(body, c.says) {
			t.Errorf("%s %s %s: %d %s %s", c.method, c.path, c.body, status, header.Get("ETag"), body)
		}
	}
}

func TestTokensAreShownOnceAndCanBeRevoked(t *testing.T) {
	s := newServer(t)
	status, body, _ := s.do("POST", "/api/v1/tokens", `{"name":"ci","expiresInSeconds":60}`)
	var made struct{ ID, Token string }
	if err := json.Unmarshal([]byte(body), &made); err != nil || status != 200 || !strings.HasPrefix(made.Token, "slp_") {
		t.Fatalf("%d %s", status, body)
	}
	if status, body, _ := s.do("GET", "/api/v1/tokens", "", "Authorization", "Bearer "+made.Token); status != 200 || strings.Contains(body, made.Token) {
		t.Errorf("%d %s", status, body)
	}
	if status, _, _ := s.do("DELETE", "/api/v1/tokens/"+made.ID, ""); status != 204 {
		t.Errorf("revoking answered %d", status)
	}
	if status, _, _ := s.do("GET", "/api/v1/tokens", "", "Authorization", "Bearer "+made.Token); status != 401 {
		t.Errorf("a revoked token: %d", status)
	}
	if status, body, _ := s.do("DELETE", "/api/v1/tokens/admin", ""); status != 409 {
		t.Errorf("the last token: %d %s", status, body)
	}
}

func TestAStampThatIsAwayHidesNothingElse(t *testing.T) {
	s := newServer(t)
	registered := link.Registration{RegistrationID: "d#1", DeviceID: "d#1", Environment: "test", Stamp: "away", Phase: link.PhaseAssigned, Epoch: 1}
	for _, err := range []error{
		bus.Answer(s.conn, link.ProvisioningPeer, link.RegistrationGet, func(_ context.Context, ref link.RegistrationRef) (link.Registration, error) {
			if ref.DeviceID != "d#1" {
				return registered, problem.New(problem.NotFound, "there is no device %q", ref.DeviceID)
			}
			return registered, nil
		}),
		bus.Answer(s.conn, link.ProvisioningPeer, link.RegistrationList, func(context.Context, link.ListRegistrations) (link.Registrations, error) {
			return link.Registrations{Items: []link.Registration{registered}, More: true}, nil
		}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		path   string
		status int
		says   []string
	}{
		{"/api/v1/devices/d%231", 200, []string{`"stampReachable":false`, `"environment":"test"`, `"deviceId":"d#1"`}},
		{"/api/v1/devices", 200, []string{`"incomplete":[{"stamp":"away"`, `"next":"d#1"`}},
		{"/api/v1/devices/d%231/twin", 503, []string{"away", "urn:slipway:problem:not-ready"}},
		{"/api/v1/devices/other", 404, []string{"no device"}},
	} {
		status, body, _ := s.do("GET", c.path, "")
		for _, says := range c.says {
			if status != c.status || !strings.Contains(body, says) {
				t.Errorf("%s: %d %s, want %s", c.path, status, body, says)
			}
		}
	}
}
