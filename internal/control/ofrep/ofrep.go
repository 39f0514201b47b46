// Package ofrep serves feature flags by the OpenFeature Remote Evaluation
// Protocol (OFREP 0.3), so that the OpenFeature SDKs of any language work with
// an environment's flags, or with a stamp's: one flag, all flags with an ETag
// of what was evaluated, and a stream that says when to ask again.
//
// Clients are met where they are: some double the slash, some put no value for
// what has none, and all of them slow down only for a 429 with whole seconds.
package ofrep

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/featureflag"
	"github.com/slipway/slipway/internal/flag"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/tasks"
)

// Flags evaluates flags.
type Flags interface {
	Of(scope featureflag.Scope) (*featureflag.State, error)
	ScopeOfStamp(stamp string) (featureflag.Scope, error)
	Evaluate(s *featureflag.State, key string, context map[string]any) flag.Evaluation
	All(s *featureflag.State, context map[string]any) []flag.Evaluation
}

// Options are what the protocol is served with.
type Options struct {
	Flags Flags
	// Changed rings when flags have changed.
	Changed *tasks.Bell
	// Authenticate finds out whether the bearer of a token may ask for the flags
	// of an environment.
	Authenticate func(ctx context.Context, token, remote, environment string) error
	// Secret signs the addresses of streams, which browsers cannot send a token
	// to.
	Secret []byte
	Logger *slog.Logger
	Now    func() time.Time
}

// handler serves the protocol.
type handler struct {
	Options
	streams chan struct{} // a place for each stream
}

const (
	maxBody    = 64 << 10
	maxStreams = 20_000
	streamLife = 24 * time.Hour
	// inactivity is after how long a page nobody looks at gives its stream up.
	inactivity = 120
	// keepAlive is how often a stream says something, so that what is between
	// does not take it for dead.
	keepAlive = 20 * time.Second
	// spread is over how long clients that come back at once are told to ask.
	spread = 2 * time.Second
)

// New returns the handler of every path that Serves.
func New(o Options) http.Handler { return &handler{o, make(chan struct{}, maxStreams)} }

// The middle of every path of the protocol.
const middle = "/ofrep/v1/"

// Serves reports whether a path is one of the protocol's. Before the middle is
// /api/v1/environments/NAME or /api/v1/stamps/NAME, which is the base URL that
// clients are configured with.
func Serves(urlPath string) bool {
	_, _, ok := split(urlPath)
	return ok
}

// split takes a path apart: the scope's segments, and what is asked for.
func split(urlPath string) (scope []string, rest string, ok bool) {
	base, rest, found := strings.Cut(path.Clean(urlPath), middle)
	below, inside := strings.CutPrefix(base, "/api/v1/")
	scope = strings.Split(below, "/")
	return scope, rest, found && inside && len(scope) == 2 && (scope[0] == "environments" || scope[0] == "stamps")
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	// Tokens are sent by hand, never by the browser, so any page may ask.
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("Access-Control-Expose-Headers", "ETag, Retry-After")
	if r.Method == http.MethodOptions {
		header.Set("Access-Control-Allow-Methods", "GET, POST")
		header.Set("Access-Control-Allow-Headers", "Content-Type, If-None-Match, Authorization, X-API-Key, Last-Event-ID, Cache-Control")
		header.Set("Access-Control-Max-Age", "7200")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	scope, rest, _ := split(r.URL.Path)
	key, single := strings.CutPrefix(rest, "evaluate/flags/")
	switch {
	case r.Method == http.MethodGet && rest == "events":
		h.stream(w, r, scope)
	case r.Method == http.MethodPost && rest == "evaluate/flags":
		h.bulk(w, r, scope)
	case r.Method == http.MethodPost && single && key != "":
		h.single(w, r, scope, key)
	default:
		h.refuse(w, key, http.StatusNotFound, flag.CodeGeneral, "there is no "+r.Method+" "+rest+" in OFREP")
	}
}

// state authenticates a request and finds the flags it is about.
func (h *handler) state(r *http.Request, path []string) (*featureflag.State, error) {
	scope := featureflag.Scope{Environment: path[1]}
	var unknown error
	if path[0] == "stamps" {
		scope, unknown = h.Flags.ScopeOfStamp(path[1])
	}
	token := r.Header.Get("X-API-Key")
	if scheme, bearer, found := strings.Cut(r.Header.Get("Authorization"), " "); found && strings.EqualFold(scheme, "Bearer") {
		token = strings.TrimSpace(bearer)
	}
	if token == "" {
		return nil, problem.New(problem.Unauthenticated, "send a token: Authorization: Bearer slp_…, or X-API-Key: slp_…")
	}
	if err := h.Authenticate(r.Context(), token, r.RemoteAddr, scope.Environment); err != nil {
		return nil, err
	}
	if unknown != nil {
		return nil, unknown
	}
	return h.Flags.Of(scope)
}

// errContext says that a context is none.
var errContext = errors.New("the context is no object")

// contextOf reads what is sent of who asks.
func contextOf(w http.ResponseWriter, r *http.Request) (map[string]any, error) {
	var sent struct {
		Context json.RawMessage `json:"context"`
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, problem.New(problem.TooLarge, "a context has at most %d bytes", maxBody)
	}
	if len(body) == 0 {
		return map[string]any{}, nil
	}
	if err := json.Unmarshal(body, &sent); err != nil {
		return nil, problem.New(problem.Invalid, "the body is no JSON object with a context: %w", err)
	}
	of := map[string]any{}
	if len(sent.Context) == 0 || string(sent.Context) == "null" {
		return of, nil
	}
	if err := json.Unmarshal(sent.Context, &of); err != nil {
		return nil, errContext
	}
	return of, bounded(of, 0)
}

// The bounds of a context beside its size.
const (
	maxDepth = 16
	maxList  = 1000
	maxText  = 4 << 10
)

func bounded(value any, depth int) error {
	if depth > maxDepth {
		return problem.New(problem.Invalid, "a context is at most %d levels deep", maxDepth)
	}
	switch value := value.(type) {
	case string:
		if len(value) > maxText {
			return problem.New(problem.Invalid, "a text in a context has at most %d bytes, not %d", maxText, len(value))
		}
	case []any:
		if len(value) > maxList {
			return problem.New(problem.Invalid, "a list in a context has at most %d members, not %d", maxList, len(value))
		}
		for _, one := range value {
			if err := bounded(one, depth+1); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, one := range value {
			if err := bounded(one, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *handler) single(w http.ResponseWriter, r *http.Request, scope []string, key string) {
	state, err := h.state(r, scope)
	if err == nil {
		err = flag.CheckKey(key)
	}
	if err != nil {
		h.fail(w, key, err)
		return
	}
	who, err := contextOf(w, r)
	if err != nil {
		h.fail(w, key, err)
		return
	}
	result := h.Flags.Evaluate(state, key, who)
	status := http.StatusOK
	switch result.ErrorCode {
	case "":
	case flag.CodeNotFound:
		status = http.StatusNotFound
	default:
		status = http.StatusBadRequest
	}
	h.reply(w, status, result)
}

// evaluated is the answer about all flags.
type evaluated struct {
	Flags        []flag.Evaluation `json:"flags"`
	Metadata     map[string]any    `json:"metadata,omitempty"`
	EventStreams []eventStream     `json:"eventStreams,omitempty"`
}

type eventStream struct {
	Type               string   `json:"type"`
	Endpoint           endpoint `json:"endpoint"`
	InactivityDelaySec int      `json:"inactivityDelaySec"`
}

type endpoint struct {
	RequestURI string `json:"requestUri"`
}

func (h *handler) bulk(w http.ResponseWriter, r *http.Request, scope []string) {
	state, err := h.state(r, scope)
	if err != nil {
		h.fail(w, "", err)
		return
	}
	who, err := contextOf(w, r)
	if err != nil {
		h.fail(w, "", err)
		return
	}
	answer := evaluated{Flags: h.Flags.All(state, who), Metadata: map[string]any{"environment": state.Environment}}
	if state.Release != "" {
		answer.Metadata["release"] = state.Release
	}
	tag, err := tagOf(answer)
	if err != nil {
		h.fail(w, "", err)
		return
	}
	w.Header().Set("ETag", tag)
	if matches(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	base := "/api/v1/" + strings.Join(scope, "/")
	answer.EventStreams = []eventStream{{Type: "sse", Endpoint: endpoint{base + middle + "events?ticket=" + h.ticket(scope)}, InactivityDelaySec: inactivity}}
	h.reply(w, http.StatusOK, answer)
}

// tagOf names what was evaluated, whatever it was evaluated from.
func tagOf(answer evaluated) (string, error) {
	text, err := json.Marshal(answer)
	sum := sha256.Sum256(text)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`, err
}

// matches reads If-None-Match as a list, and compares weakly.
func matches(lines []string, tag string) bool {
	for _, line := range lines {
		for one := range strings.SplitSeq(line, ",") {
			one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
			if one == "*" || one == tag {
				return true
			}
		}
	}
	return false
}

// failure is what is told of a failure; Key is of the one flag asked for.
type failure struct {
	Key          string `json:"key,omitempty"`
	ErrorCode    string `json:"errorCode"`
	ErrorDetails string `json:"errorDetails"`
}

// fail answers for an error, in the way that keeps clients from making it
// worse: who is to wait hears 429 with whole seconds.
func (h *handler) fail(w http.ResponseWriter, key string, err error) {
	if errors.Is(err, errContext) {
		h.refuse(w, key, http.StatusBadRequest, flag.CodeInvalidContext, err.Error())
		return
	}
	p := problem.Of(err)
	switch p.Kind {
	case problem.Unauthenticated:
		w.Header().Set("WWW-Authenticate", `Bearer realm="slipway"`)
		h.refuse(w, key, http.StatusUnauthorized, flag.CodeGeneral, p.Message)
	case problem.Denied:
		h.refuse(w, key, http.StatusForbidden, flag.CodeGeneral, p.Message)
	case problem.NotFound:
		code := flag.CodeGeneral
		if key != "" {
			code = flag.CodeNotFound
		}
		h.refuse(w, key, http.StatusNotFound, code, p.Message)
	case problem.Invalid, problem.TooLarge:
		h.refuse(w, key, http.StatusBadRequest, flag.CodeParse, p.Message)
	case problem.Busy, problem.NotReady, problem.TimedOut:
		h.wait(w, key, p)
	default:
		h.Logger.Error("flag not evaluated", "error", err)
		h.refuse(w, key, http.StatusInternalServerError, flag.CodeGeneral, p.Message)
	}
}

func (h *handler) wait(w http.ResponseWriter, key string, p *problem.Error) {
	seconds := int(max(p.RetryAfter, time.Second)/time.Second) + rand.IntN(3)
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	h.refuse(w, key, http.StatusTooManyRequests, flag.CodeGeneral, p.Message)
}

func (h *handler) refuse(w http.ResponseWriter, key string, status int, code, details string) {
	h.reply(w, status, failure{key, code, details})
}

func (h *handler) reply(w http.ResponseWriter, status int, answer any) {
	text, err := json.Marshal(answer)
	if err != nil {
		h.Logger.Error("flags not told", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if _, err := w.Write(text); err != nil {
		h.Logger.Debug("answer not delivered", "error", err)
	}
}
