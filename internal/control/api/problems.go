package api

import (
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/slipway/slipway/internal/problem"
)

// statuses are the HTTP statuses of the kinds of failure.
var statuses = map[problem.Kind]int{
	problem.Invalid: http.StatusBadRequest, problem.Unauthenticated: http.StatusUnauthorized, problem.Denied: http.StatusForbidden,
	problem.NotFound: http.StatusNotFound, problem.Conflict: http.StatusConflict, problem.Stale: http.StatusPreconditionFailed,
	problem.TooLarge: http.StatusRequestEntityTooLarge, problem.NotReady: http.StatusServiceUnavailable,
	problem.TimedOut: http.StatusGatewayTimeout, problem.Busy: http.StatusTooManyRequests, problem.Internal: http.StatusInternalServerError,
}

// Problem is a failure as RFC 9457 shows it.
type Problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Field    string `json:"field,omitempty" doc:"The part of the request at fault"`
	Instance string `json:"instance" doc:"Names this occurrence in the server's log"`
	retry    int
}

// Error makes a Problem an error.
func (p *Problem) Error() string { return p.Detail }

// GetStatus tells the framework the status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType tells the framework the media type.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders adds Retry-After where waiting helps.
func (p *Problem) GetHeaders() http.Header {
	if p.retry == 0 {
		return nil
	}
	return http.Header{"Retry-After": {strconv.Itoa(p.retry)}}
}

func typeOf(kind problem.Kind) string { return "urn:slipway:problem:" + string(kind) }

// statusOf is the one translation of failures to HTTP.
func statusOf(err error) *Problem {
	known := problem.Of(err)
	p := &Problem{
		Type: typeOf(known.Kind), Title: strings.ReplaceAll(string(known.Kind), "-", " "), Status: statuses[known.Kind],
		Detail: known.Message, Field: known.Field, Instance: "urn:uuid:" + uuid.NewString(),
	}
	if known.RetryAfter > 0 {
		p.retry = int(math.Ceil(known.RetryAfter.Seconds()))
	} else if known.Kind == problem.NotReady || known.Kind == problem.Busy {
		p.retry = 1
	}
	return p
}

// newProblem renders what the framework itself refuses.
func newProblem(status int, message string, errs ...error) huma.StatusError {
	kind := problem.Internal
	for k, s := range statuses {
		if s == status || status == http.StatusUnprocessableEntity && k == problem.Invalid || status == http.StatusUnsupportedMediaType && k == problem.Invalid {
			kind = k
		}
	}
	if status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest
	}
	p := statusOf(problem.New(kind, "%s", message))
	p.Status = status
	for i, err := range errs {
		var detailed huma.ErrorDetailer
		if !errors.As(err, &detailed) {
			p.Detail += ": " + err.Error()
			continue
		}
		d := detailed.ErrorDetail()
		field := strings.TrimPrefix(d.Location, "body.")
		if i == 0 {
			p.Field = field
		}
		p.Detail += "; " + field + ": " + d.Message
	}
	return p
}

// writeProblem answers outside the framework.
func writeProblem(w http.ResponseWriter, r *http.Request, err error) {
	p := statusOf(err)
	for key, values := range p.GetHeaders() {
		w.Header()[key] = values
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	if err := json.NewEncoder(w).Encode(p); err != nil {
		slog.Debug("answer not delivered", "path", r.URL.Path, "error", err)
	}
}
