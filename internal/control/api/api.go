// Package api is control over HTTP: JSON in and out, described by OpenAPI 3.1,
// failures as problem+json (RFC 9457). A handler decodes, calls one method of
// one subject, and encodes.
package api

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/alert"
	"github.com/slipway/slipway/internal/control/artifact"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/backup"
	"github.com/slipway/slipway/internal/control/configuration"
	"github.com/slipway/slipway/internal/control/decommission"
	"github.com/slipway/slipway/internal/control/dossier"
	"github.com/slipway/slipway/internal/control/drift"
	"github.com/slipway/slipway/internal/control/environment"
	"github.com/slipway/slipway/internal/control/erasure"
	"github.com/slipway/slipway/internal/control/featureflag"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/gateway"
	"github.com/slipway/slipway/internal/control/grant"
	"github.com/slipway/slipway/internal/control/incident"
	"github.com/slipway/slipway/internal/control/insight"
	"github.com/slipway/slipway/internal/control/journal"
	"github.com/slipway/slipway/internal/control/membership"
	"github.com/slipway/slipway/internal/control/ofrep"
	"github.com/slipway/slipway/internal/control/place"
	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/readiness"
	"github.com/slipway/slipway/internal/control/rehearsal"
	"github.com/slipway/slipway/internal/control/release"
	"github.com/slipway/slipway/internal/control/retention"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/control/signin"
	"github.com/slipway/slipway/internal/control/signing"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/trail"
)

// Options are the subjects the API speaks for.
type Options struct {
	Access       *access.Access
	Places       *place.Finder // where things are, to ask for rights there
	SignIn       *signin.SignIn
	Audit        *audit.Log
	Environments *environment.Environments
	Fleet        *fleet.Fleet
	Artifacts    *artifact.Artifacts
	Releases     *release.Releases
	Signing      *signing.Signing
	Gates        *gate.Gates
	Members      *membership.Membership // nil where all planes are in one process
	Rollouts     *rollout.Rollouts
	Promotions   *promotion.Promotions
	Alerts       *alert.Alerts
	Journal      *journal.Journal
	Incidents    *incident.Incidents
	Backups      *backup.Backups
	Retention    *retention.Retention
	Rehearsals   *rehearsal.Rehearsals
	Flags        *featureflag.Flags
	OFREP        http.Handler // what flags are evaluated by
	Grants       *grant.Grants
	Gateway      *gateway.Gateway
	Readiness    *readiness.Readiness
	Insight      *insight.Insight
	Logger       *slog.Logger
	Version      string
	Provisioning string // the host back ends reach provisioning by
	Registering  string // where devices register, host:port

	Drift          *drift.Drift
	Configurations *configuration.Configurations

	Decommissions *decommission.Decommissions
	Erasures      *erasure.Erasures
	Dossiers      *dossier.Dossiers
}

// api holds the subjects for the handlers.
type api struct {
	Options
	huma    huma.API
	streams chan struct{} // a place for each stream being followed
}

const (
	maxBody     = 1 << 20
	maxPartBody = artifact.MaxPart + 1
	maxStreams  = 200
)

var setErrors sync.Once

// New returns the handler of everything under /api/, /healthz and /readyz.
func New(o Options) http.Handler {
	setErrors.Do(func() { huma.NewError = newProblem })
	mux := http.NewServeMux()
	config := huma.DefaultConfig("Slipway", o.Version)
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "/api/openapi", "", ""
	config.CreateHooks = nil // no $schema members in answers
	config.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaNames())
	config.Info.Description = "Environments, stamps, enrolments, devices and releases of one installation."
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}}
	config.Security = []map[string][]string{{"token": {}}}
	a := &api{Options: o, huma: humago.New(mux, config), streams: make(chan struct{}, maxStreams)}
	a.resources()
	a.blueprints()
	a.drift()
	a.configurations()
	a.devices()
	a.logs()
	a.journal()
	a.incidents()
	a.moves()
	a.admin()
	a.auditLog()
	a.people()
	a.policies()
	a.updateClients()
	a.uploads()
	a.routes()
	a.certificates()
	a.authorities()
	a.queries()
	a.peers()
	a.tenants()
	a.updates()
	a.promotions()
	a.backups()
	a.retention()
	a.rehearsals()
	a.caring()
	a.artifacts(mux)
	a.releases()
	a.signing()
	a.gates()
	a.monitoring()
	a.flags()
	a.grants()
	a.recordings()
	a.readiness()
	a.readinessReports()
	a.insight()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { reply(w, r, "ok\n") })
	mux.HandleFunc("GET /readyz", a.ready)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, r, problem.New(problem.NotFound, "there is no %s %s; /api/openapi.json lists what there is", r.Method, r.URL.Path))
	})
	return a.log(a.evaluating(a.authenticate(limited(mux))))
}

// evaluating gives requests about the values of flags to their own protocol,
// which knows other failures, other ways to send a token, and double slashes.
func (a *api) evaluating(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.OFREP != nil && ofrep.Serves(r.URL.Path) {
			a.OFREP.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func reply(w http.ResponseWriter, r *http.Request, text string) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	if _, err := w.Write([]byte(text)); err != nil {
		slog.Debug("answer not delivered", "path", r.URL.Path, "error", err)
	}
}

// ready says whether provisioning can be reached.
func (a *api) ready(w http.ResponseWriter, r *http.Request) {
	if _, err := a.Fleet.Scope(r.Context()); err != nil {
		writeProblem(w, r, err)
		return
	}
	reply(w, r, "ready\n")
}

// actorKey is where authenticate leaves the actor for its handlers.
type actorKey struct{}

func actorOf(ctx context.Context) access.Actor {
	actor, _ := ctx.Value(actorKey{}).(access.Actor)
	return actor
}

// public are the paths that need no token of ours.
func public(path string) bool {
	return path == joinPath || path == "/healthz" || path == "/readyz" || strings.HasPrefix(path, "/api/openapi")
}

// authenticate lets only bearers of a token past.
func (a *api) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cache-Control", "no-store")
		header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		asked := audit.Request{ID: uuid.NewString()}
		header.Set("X-Request-Id", asked.ID)
		if public(r.URL.Path) {
			next.ServeHTTP(w, r.WithContext(audit.With(r.Context(), asked)))
			return
		}
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || token == "" {
			header.Set("WWW-Authenticate", `Bearer realm="slipway"`)
			writeProblem(w, r, problem.New(problem.Unauthenticated, "send a token: Authorization: Bearer slp_…"))
			return
		}
		actor, err := a.Access.Authenticate(r.Context(), strings.TrimSpace(token), remote(r))
		if err != nil {
			header.Set("WWW-Authenticate", `Bearer realm="slipway", error="invalid_token"`)
			writeProblem(w, r, err)
			return
		}
		if err := a.confine(r, actor); err != nil {
			writeProblem(w, r, err)
			return
		}
		asked.Actor, asked.Person, asked.Token = actor.Name, actor.Person, actor.TokenID
		r, letGo := a.Access.HoldRequest(w, r, actor)
		defer letGo()
		next.ServeHTTP(w, r.WithContext(context.WithValue(audit.With(r.Context(), asked), actorKey{}, actor)))
	})
}

func remote(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// log writes one line a request.
func (a *api) log(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, recorder := time.Now(), &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(recorder, r)
		level := slog.LevelDebug
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			level = slog.LevelInfo // who reads changes nothing
		}
		a.Logger.Log(r.Context(), level, "request", "method", r.Method, "path", r.URL.Path, "status", recorder.status, "took", time.Since(start), "remote", remote(r), "request", w.Header().Get("X-Request-Id"))
	})
}

// statusRecorder remembers the status for the log.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the status on its way.
func (s *statusRecorder) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach what is underneath.
func (s *statusRecorder) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// route registers an operation. Failures are translated once, here.
func route[In, Out any](a *api, method, path, id, summary string, handle func(context.Context, *In) (*Out, error)) {
	register(a, huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, MaxBodyBytes: maxBody}, handle)
}

// register is route with all that can be said of an operation.
func register[In, Out any](a *api, o huma.Operation, handle func(context.Context, *In) (*Out, error)) {
	tag, _, _ := strings.Cut(strings.TrimPrefix(o.Path, "/api/v1/"), "/")
	o.Tags = []string{tag}
	line := lineOf(o.OperationID, reflect.TypeFor[In]())
	huma.Register(a.huma, o, func(ctx context.Context, in *In) (out *Out, err error) {
		trail.Current(ctx).Call(o.OperationID)
		if err = a.permit(ctx, line, saidBy(in)); err == nil {
			out, err = handle(ctx, in)
		}
		if err != nil {
			err = cmp.Or(access.Cut(ctx), err)
			a.logInternal(ctx, o.OperationID, err)
			return nil, statusOf(err)
		}
		return out, nil
	})
}

// logInternal keeps the whole of a fault that the answer only hints at.
func (a *api) logInternal(ctx context.Context, id string, err error) {
	if problem.Is(err, problem.Internal) {
		a.Logger.ErrorContext(ctx, "request failed", "operation", id, "error", err)
	}
}

// body is an answer.
type body[T any] struct{ Body T }

// tagged is an answer with an ETag.
type tagged[T any] struct {
	ETag string `header:"ETag"`
	Body T
}

func quote(etag string) string { return `"` + etag + `"` }

// list is a page of anything.
type list[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"Value of after for the next page; absent on the last"`
}

func listOf[T any](items []T, next string) *body[list[T]] {
	if items == nil {
		items = []T{}
	}
	return &body[list[T]]{list[T]{items, next}}
}
