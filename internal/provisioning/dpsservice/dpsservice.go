// Package dpsservice is the provisioning protocol's HTTPS edge for back ends:
// enrolments, groups and registrations in the shapes that existing service SDKs
// send and parse.
package dpsservice

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/policy"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/provisioning/directory"
	"github.com/slipway/slipway/internal/provisioning/dpswire"
	"github.com/slipway/slipway/internal/provisioning/enrollment"
	"github.com/slipway/slipway/internal/provisioning/registration"
	"github.com/slipway/slipway/internal/sastoken"
)

// Parts are what the edge serves.
type Parts struct {
	Enrollments   *enrollment.Enrollments
	Registrations *registration.Service
	Directory     *directory.Store
	Policies      *policy.Policies
	Hosts         func() []string
	// People says whose a bearer token of control is, and whether they may
	// change things.
	People func(ctx context.Context, token string) (name string, write bool, err error)
	Logger *slog.Logger
	Now    func() time.Time
}

// Edge serves the service API.
type Edge struct {
	Parts
	routes []route
	pace   *rate.Limiter
}

// New returns the edge.
func New(p Parts) *Edge {
	e := &Edge{Parts: p, pace: rate.NewLimiter(perSecond, atOnce)}
	e.routes = e.table()
	return e
}

// The limits of a request and of a page, and how many requests are served a
// second, and at once after a quiet time.
const (
	perSecond = 200
	atOnce    = 1000

	maxBody = 4 << 20
	maxPage = 1000
)

// call is one request that has found its route.
type call struct {
	r    *http.Request
	kind link.EnrollmentKind
	name string
	body []byte
}

func (c *call) ctx() context.Context { return c.r.Context() }

// ifMatch is the ETag that a request demands. These ETags carry their quotes
// inside the JSON text, so that they may come back quoted twice.
func (c *call) ifMatch() string {
	return strings.Trim(strings.ReplaceAll(c.r.Header.Get("If-Match"), `\"`, `"`), `"`)
}

type answer struct {
	status int
	body   any
	header map[string]string
}

// route leads a method and a path to what serves it; {} is any one segment.
type route struct {
	method  string
	pattern []string
	right   policy.Right
	kind    link.EnrollmentKind
	serve   func(*call) (answer, error)
}

func on(methodAndPath string, right policy.Right, kind link.EnrollmentKind, serve func(*call) (answer, error)) route {
	method, path, _ := strings.Cut(methodAndPath, " ")
	return route{method, strings.Split(path, "/")[1:], right, kind, serve}
}

func (e *Edge) table() (all []route) {
	for path, kind := range map[string]link.EnrollmentKind{"/enrollments": link.Individual, "/enrollmentGroups": link.Group} {
		all = append(all,
			on("POST "+path+"/query", policy.EnrollmentRead, kind, e.queryEnrollments),
			on("POST "+path, policy.EnrollmentWrite, kind, e.bulk),
			on("GET "+path+"/{}", policy.EnrollmentRead, kind, e.getEnrollment),
			on("PUT "+path+"/{}", policy.EnrollmentWrite, kind, e.putEnrollment),
			on("DELETE "+path+"/{}", policy.EnrollmentWrite, kind, e.deleteEnrollment),
			on("POST "+path+"/{}/attestationmechanism", policy.EnrollmentWrite, kind, e.getAttestation),
		)
	}
	return append(all,
		on("POST /registrations/{}/query", policy.RegistrationStatusRead, "", e.queryRegistrations),
		on("GET /registrations/{}", policy.RegistrationStatusRead, "", e.getRegistration),
		on("DELETE /registrations/{}", policy.RegistrationStatusWrite, "", e.deleteRegistration),
	)
}

func (rt route) matches(method string, segments []string) (name string, ok bool) {
	if rt.method != method || len(rt.pattern) != len(segments) {
		return "", false
	}
	for i, want := range rt.pattern {
		if want == "{}" {
			name = segments[i]
		} else if !strings.EqualFold(want, segments[i]) {
			return "", false
		}
	}
	return name, true
}

// ServeHTTP answers one request of a back end.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, err := e.serve(r)
	header := w.Header()
	header.Set("Content-Type", "application/json; charset=utf-8")
	if err != nil {
		e.refuse(w, r, err)
		return
	}
	for name, value := range a.header {
		header.Set(name, value)
	}
	if a.body == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	text, err := json.Marshal(a.body)
	if err != nil {
		e.refuse(w, r, err)
		return
	}
	if a.status != 0 {
		w.WriteHeader(a.status)
	}
	if _, err := w.Write(text); err != nil {
		e.Logger.Debug("answer not delivered", "error", err)
	}
}

func (e *Edge) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if problem.Is(err, problem.Internal) {
		e.Logger.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	code, retry, body := dpswire.Failure(err, e.Now())
	w.Header().Set("X-Ms-Error-Code", strconv.Itoa(dpswire.ErrorCode(err)))
	if retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(retry))
	}
	if code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "SharedAccessSignature")
	}
	w.WriteHeader(code)
	if _, err := w.Write(body); err != nil {
		e.Logger.Debug("answer not delivered", "error", err)
	}
}

func (e *Edge) serve(r *http.Request) (answer, error) {
	segments := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	for i, part := range segments {
		text, err := url.PathUnescape(part)
		if err != nil {
			return answer{}, problem.New(problem.Invalid, "the path is not percent-encoded correctly")
		}
		segments[i] = text
	}
	for _, rt := range e.routes {
		name, ok := rt.matches(r.Method, segments)
		if !ok {
			continue
		}
		if err := e.authorize(r, rt); err != nil {
			return answer{}, err
		}
		if !e.pace.AllowN(e.Now(), 1) {
			return answer{}, problem.New(problem.Busy, "the service takes %g requests a second", float64(e.pace.Limit())).After(time.Second)
		}
		body, err := readBody(r)
		if err != nil {
			return answer{}, err
		}
		return rt.serve(&call{r: r, kind: rt.kind, name: name, body: body})
	}
	return answer{}, problem.New(problem.NotFound, "there is no %s %s", r.Method, r.URL.Path)
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

// authorize checks the token of a policy, or of a person.
func (e *Edge) authorize(r *http.Request, rt route) error {
	text := r.Header.Get("Authorization")
	if bearer, ok := strings.CutPrefix(text, "Bearer "); ok {
		name, write, err := e.People(r.Context(), bearer)
		if err == nil && !write && rt.right != policy.EnrollmentRead && rt.right != policy.RegistrationStatusRead {
			err = problem.New(problem.Denied, "the token of %s may read only", name)
		}
		return err
	}
	token, err := sastoken.Parse(text)
	if err != nil {
		return problem.New(problem.Unauthenticated, "an Authorization header is needed, a shared access signature of a policy or a bearer token: %w", err)
	}
	p, err := e.Policies.Verify(token, e.Hosts(), e.Now())
	if err == nil && !p.Allows(rt.right) {
		err = problem.New(problem.Denied, "the policy %s lacks the right %s", p.Name, rt.right)
	}
	return err
}

// The headers by which a query is paged.
const (
	maxItemsHeader     = "X-Ms-Max-Item-Count"
	continuationHeader = "X-Ms-Continuation"
)

// page reads the paging headers; after is the last name of the page before.
func (c *call) page(source string) (after string, limit int, err error) {
	var sent struct {
		Query string `json:"query"`
	}
	if err := json.Unmarshal(c.body, &sent); err != nil {
		return "", 0, problem.New(problem.Invalid, "the body reads {\"query\": \"SELECT * FROM %s\"}: %w", source, err)
	}
	if words := strings.Fields(sent.Query); len(words) != 4 || !strings.EqualFold(strings.Join(words[:3], " "), "SELECT * FROM") {
		return "", 0, problem.New(problem.Invalid, "the query reads SELECT * FROM %s, not %q", source, sent.Query).At("query")
	}
	limit = maxPage
	if text := c.r.Header.Get(maxItemsHeader); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxPage {
			return "", 0, problem.New(problem.Invalid, "a page holds 1 to %d items, not %q", maxPage, text).At(maxItemsHeader)
		}
	}
	if text := c.r.Header.Get(continuationHeader); text != "" {
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || len(raw) < 8 || string(raw[:8]) != c.mark() {
			return "", 0, problem.New(problem.Invalid, "the continuation token is not one of this query").At(continuationHeader)
		}
		after = string(raw[8:])
	}
	return after, limit, nil
}

// mark keeps a continuation token from being used for another query.
func (c *call) mark() string {
	sum := sha256.Sum256([]byte(strings.ToLower(c.r.URL.Path)))
	return string(sum[:8])
}

func (c *call) next(last string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(c.mark() + last))
}
