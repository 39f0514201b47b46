package ddi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

var statuses = map[problem.Kind]int{
	problem.Invalid: http.StatusBadRequest, problem.Unauthenticated: http.StatusUnauthorized, problem.Denied: http.StatusForbidden,
	problem.NotFound: http.StatusNotFound, problem.Conflict: http.StatusConflict, problem.Stale: http.StatusConflict,
	problem.TooLarge: http.StatusRequestEntityTooLarge, problem.NotReady: http.StatusServiceUnavailable,
	problem.TimedOut: http.StatusGatewayTimeout, problem.Busy: http.StatusTooManyRequests, problem.Internal: http.StatusInternalServerError,
}

func statusOf(err error) int {
	var known refusal
	if errors.As(err, &known) {
		return known.status
	}
	return statuses[problem.Of(err).Kind]
}

const (
	halJSON   = "application/hal+json"
	plainJSON = "application/json"
)

// answer writes a document, or that it is what the client has already.
func (e *Edge) answer(q *request, body any) error {
	kind := halJSON
	if accept := q.r.Header.Get("Accept"); strings.Contains(accept, plainJSON) && !strings.Contains(accept, halJSON) {
		kind = plainJSON
	}
	e.write(q.w, q.r, http.StatusOK, kind, body)
	return nil
}

// write writes a document with its length: there are clients that know no
// chunks.
func (e *Edge) write(w http.ResponseWriter, r *http.Request, status int, kind string, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		e.Logger.Error("an answer cannot be written", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	header := w.Header()
	if status == http.StatusOK {
		digest := sha256.Sum256(text)
		etag := `"` + hex.EncodeToString(digest[:16]) + `"`
		header.Set("ETag", etag)
		if hasTag(r.Header.Get("If-None-Match"), etag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	header.Set("Content-Type", kind)
	header.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	if _, err := w.Write(text); err != nil {
		e.Logger.Debug("answer not delivered", "error", err)
	}
}

// hasTag reports whether a list of entity tags names one.
func hasTag(list, etag string) bool {
	for tag := range strings.SplitSeq(list, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
			return true
		}
	}
	return false
}

// read reads the body of a request.
func read(q *request) ([]byte, error) {
	if err := http.NewResponseController(q.w).SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, err
	}
	text, err := io.ReadAll(http.MaxBytesReader(q.w, q.r.Body, maxBody))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, problem.New(problem.TooLarge, "a client says at most %d bytes at once; leave older lines out", maxBody)
	}
	if err != nil {
		return nil, problem.New(problem.Invalid, "the body cannot be read: %w", err)
	}
	return text, nil
}
