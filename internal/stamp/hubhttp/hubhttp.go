// Package hubhttp is the hub protocol's HTTPS edge. Devices send telemetry,
// fetch messages and upload files; back ends use registry, twins, methods,
// queries, configurations and jobs, in the shapes that existing SDKs send and
// parse.
package hubhttp

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/policy"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sastoken"
	"github.com/slipway/slipway/internal/stamp/configuration"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/hub"
	"github.com/slipway/slipway/internal/stamp/job"
	"github.com/slipway/slipway/internal/stamp/software"
	"github.com/slipway/slipway/internal/stamp/throttle"
	"github.com/slipway/slipway/internal/stamp/transfer"
	"github.com/slipway/slipway/internal/stamp/upload"
)

// People says who a bearer token of the control plane belongs to, and whether
// they may change the stamp.
type People func(ctx context.Context, token string) (name string, write bool, err error)

// Parts are what the edge serves.
type Parts struct {
	Hub            *hub.Hub
	Policies       *policy.Policies
	Configurations *configuration.Engine
	Jobs           *job.Runner
	Uploads        *upload.Uploads
	Transfers      *transfer.Runner
	Software       *software.Engine
	People         People
	Logger         *slog.Logger
	Now            func() time.Time
}

// Edge serves the service API of one hub.
type Edge struct {
	Parts
	routes    []route
	downloads downloads
}

// New returns the edge of a hub.
func New(p Parts) *Edge {
	e := &Edge{Parts: p}
	e.routes = e.table()
	return e
}

// maxBody bounds a request: a bulk change of 100 devices with their twins.
const maxBody = 8 << 20

// call is one request that has found its route.
type call struct {
	ctx    context.Context
	r      *http.Request
	args   []string // what stands for the braces of the pattern, decoded
	body   []byte
	actor  hub.Actor  // of a back end
	sender hub.Sender // of a device
}

// ifMatch is the ETag that a request demands.
func (c *call) ifMatch() string { return c.r.Header.Get("If-Match") }

// decode reads the body into a value. Members nobody knows are passed over, as
// newer SDKs send more than older hubs know.
func (c *call) decode(into any) error {
	if err := json.Unmarshal(c.body, into); err != nil {
		return coded{problem.New(problem.Invalid, "the body is not what is expected here: %w", err), "IotHubFormatError", 400006}
	}
	return nil
}

// answer is what a call results in.
type answer struct {
	status int    // 200 when 0, 204 without a body
	body   any    // nil: none
	raw    []byte // instead of body
	etag   string
	header map[string]string
	file   *file // instead of both
}

// route leads a method and a path to what serves it. In a pattern {} stands
// for any one segment.
type route struct {
	method  string
	pattern []string
	right   policy.Right // none: for the device that the path names
	serve   func(*call) (answer, error)
}

// deviceOnly is the right of a route that devices use for themselves.
const deviceOnly policy.Right = ""

func on(methodAndPath string, right policy.Right, serve func(*call) (answer, error)) route {
	method, path, _ := strings.Cut(methodAndPath, " ")
	return route{method, strings.Split(strings.Trim(path, "/"), "/"), right, serve}
}

// matches returns what stands for the braces. Literal segments are compared
// without regard to letter case, as some clients write them differently.
func (rt route) matches(method string, segments []string) ([]string, bool) {
	if rt.method != method || len(rt.pattern) != len(segments) {
		return nil, false
	}
	var args []string
	for i, want := range rt.pattern {
		if want == "{}" {
			args = append(args, segments[i])
		} else if !strings.EqualFold(want, segments[i]) {
			return nil, false
		}
	}
	return args, true
}

// kind is the kind of operation that a route counts as. Messages of devices
// are held to the pace of each device and the quota of its tenant instead.
func (rt route) kind() throttle.Kind {
	last := rt.pattern[len(rt.pattern)-1]
	switch first := rt.pattern[0]; {
	case first == "devices" && last == "query":
		return throttle.Queries
	case first == "devices" && last == "files":
		return throttle.Uploads
	case rt.right == deviceOnly:
		return ""
	case first == "devices" && last == "commands", first == "messages":
		return throttle.Messages
	case last == "methods", first == "digitaltwins" && rt.method == http.MethodPost:
		return throttle.Methods
	case (first == "twins" || first == "digitaltwins") && rt.method == http.MethodGet:
		return throttle.TwinReads
	case first == "twins" || first == "digitaltwins":
		return throttle.TwinUpdates
	case first == "jobs":
		return throttle.Jobs
	case first == "configurations":
		return throttle.Configurations
	}
	return throttle.Registry
}

// checkIDs refuses ids that hold what stands between the two of a module.
func (rt route) checkIDs(args []string) error {
	if len(args) == 0 || !slices.Contains([]string{"devices", "twins", "digitaltwins"}, rt.pattern[0]) {
		return nil
	}
	ids := args[:1]
	if len(rt.pattern) > 3 && rt.pattern[2] == "modules" {
		ids = args[:2]
	}
	for _, id := range ids {
		if strings.Contains(id, "/") {
			return problem.New(problem.Invalid, "an id has no slash, unlike %q", id).At("deviceId")
		}
	}
	return nil
}

// segmentsOf takes a path apart as it was sent, so that ids may hold anything
// that is percent-encoded.
func segmentsOf(escaped string) ([]string, error) {
	parts := strings.Split(strings.Trim(escaped, "/"), "/")
	for i, part := range parts {
		text, err := url.PathUnescape(part)
		if err != nil {
			return nil, problem.New(problem.Invalid, "the path %q is not percent-encoded correctly", escaped)
		}
		parts[i] = text
	}
	return parts, nil
}

// ServeHTTP answers one request of a device or a back end.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/"+upload.Container+"/") {
		e.serveBlob(w, r)
		return
	}
	a, err := e.serve(r)
	if err != nil {
		e.refuse(w, r, err)
		return
	}
	if a.file != nil {
		e.serveFile(w, r, a)
		return
	}
	header := w.Header()
	for name, value := range a.header {
		header.Set(name, value)
	}
	if a.etag != "" {
		header.Set("ETag", `"`+a.etag+`"`)
	}
	if a.raw != nil {
		if _, err := w.Write(a.raw); err != nil {
			e.Logger.Debug("answer not delivered", "error", err)
		}
		return
	}
	if a.body == nil {
		if a.status == 0 {
			a.status = http.StatusNoContent
		}
		w.WriteHeader(a.status)
		return
	}
	e.write(w, a.status, a.body)
}

func (e *Edge) write(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		e.Logger.Error("an answer cannot be written", "error", err)
		status, text = http.StatusInternalServerError, []byte(`{"Message":"ErrorCode:ServerError;"}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if status != 0 {
		w.WriteHeader(status)
	}
	if _, err := w.Write(text); err != nil {
		e.Logger.Debug("answer not delivered", "error", err)
	}
}

func (e *Edge) serve(r *http.Request) (answer, error) {
	segments, err := segmentsOf(r.URL.EscapedPath())
	if err != nil {
		return answer{}, err
	}
	rt, args, err := e.find(r.Method, segments)
	if err != nil {
		return answer{}, err
	}
	if err := rt.checkIDs(args); err != nil {
		return answer{}, err
	}
	c := &call{ctx: r.Context(), r: r, args: args}
	if rt.right == deviceOnly {
		c.sender, err = e.authenticate(c)
	} else {
		c.actor, err = e.authorize(r, rt, segments)
	}
	if err == nil {
		err = e.Hub.Operations.Allow(rt.kind(), 1, e.Now())
	}
	if err != nil {
		return answer{}, err
	}
	if c.body, err = readBody(r); err != nil {
		return answer{}, err
	}
	return rt.serve(c)
}

func (e *Edge) find(method string, segments []string) (route, []string, error) {
	for _, rt := range e.routes {
		if args, ok := rt.matches(method, segments); ok {
			return rt, args, nil
		}
	}
	return route{}, nil, coded{problem.New(problem.NotFound, "the hub has no %s /%s", method, strings.Join(segments, "/")), "InvalidProtocolVersion", 400001}
}

func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, problem.New(problem.TooLarge, "a request has at most %d bytes", maxBody)
	}
	if err != nil {
		return nil, problem.New(problem.Invalid, "the body cannot be read: %w", err)
	}
	return body, nil
}

const bearer = "Bearer "

// authorize says who makes a request, if they may: the holder of a policy's
// key, a person of the control plane, or a device that looks after its own
// modules.
func (e *Edge) authorize(r *http.Request, rt route, segments []string) (hub.Actor, error) {
	text := r.Header.Get("Authorization")
	if token, ok := strings.CutPrefix(text, bearer); ok {
		return e.authorizePerson(r.Context(), token, rt)
	}
	if text == "" {
		return "", problem.New(problem.Unauthenticated, "an Authorization header is needed: a shared access signature of a policy, or a bearer token")
	}
	token, err := sastoken.Parse(text)
	if err != nil {
		return "", problem.New(problem.Unauthenticated, "the token cannot be read: %w", err)
	}
	if token.Policy == "" {
		return e.authorizeDevice(r.Context(), text, segments)
	}
	p, err := e.Policies.Verify(token, e.Hub.Hosts(), e.Now(), segments...)
	if err != nil {
		return "", err
	}
	if !p.Allows(rt.right) {
		return "", problem.New(problem.Unauthenticated, "the policy %s lacks the right %s", p.Name, rt.right)
	}
	return hub.Actor("policy " + p.Name), nil
}

func (e *Edge) authorizePerson(ctx context.Context, token string, rt route) (hub.Actor, error) {
	if e.People == nil {
		return "", problem.New(problem.Unauthenticated, "this hub takes no bearer tokens")
	}
	name, write, err := e.People(ctx, token)
	if err != nil {
		return "", err
	}
	if !write && rt.method != http.MethodGet {
		return "", problem.New(problem.Denied, "the token of %s may read only", name)
	}
	return hub.Actor(name), nil
}

// authorizeDevice lets a device make, read and remove its own modules.
func (e *Edge) authorizeDevice(ctx context.Context, token string, segments []string) (hub.Actor, error) {
	own := len(segments) >= 3 && strings.EqualFold(segments[0], "devices") && strings.EqualFold(segments[2], "modules")
	if !own {
		return "", problem.New(problem.Unauthenticated, "a device may manage its own modules here, and nothing else")
	}
	d, err := e.Hub.Devices.Get(ctx, segments[1])
	if problem.Is(err, problem.NotFound) {
		return "", problem.New(problem.Unauthenticated, "the token is of no device of this hub")
	}
	if err != nil {
		return "", err
	}
	if _, err := d.Authenticate(device.Credentials{DeviceID: d.ID, Hosts: e.Hub.Hosts(), Token: token}, e.Policies, e.Now()); err != nil {
		return "", err
	}
	return hub.Actor("device " + d.ID), nil
}
