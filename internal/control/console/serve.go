package console

import (
	"bytes"
	"errors"
	"net/http"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
)

// handler serves a request or says why not.
type handler func(w http.ResponseWriter, r *http.Request) error

// sessionHandler serves a person who is logged in.
type sessionHandler func(w http.ResponseWriter, r *http.Request, s access.Session) error

// maxForm bounds what a form may send: a twin with room to spare.
const maxForm = 1 << 20

// serve turns what a handler returns into a page.
func (c *console) serve(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := h(w, r); err != nil {
			c.fail(w, r, err)
		}
	})
}

// secured sets what keeps a page from being framed, sniffed, leaked or made
// to run what we did not write.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Frame-Options", "DENY")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// fromHTMX reports whether a script asks for a part of the page.
func fromHTMX(r *http.Request) bool { return r.Header.Get("HX-Request") == "true" }

// show renders a page, or the named part of it when a script asks.
func show(w http.ResponseWriter, r *http.Request, status int, p *page, part string, data any) error {
	name := "layout"
	if fromHTMX(r) && part != "" {
		name = part
	}
	var body bytes.Buffer // so that a failure can still become an error page
	if err := p.render(&body, name, data); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Vary", "HX-Request")
	w.WriteHeader(status)
	if _, err := body.WriteTo(w); err != nil {
		return nil // who asked has left; there is nobody to tell
	}
	return nil
}

// statusOf is the one translation of kinds to HTTP.
func statusOf(kind problem.Kind) int {
	switch kind {
	case problem.Invalid:
		return http.StatusUnprocessableEntity
	case problem.Unauthenticated:
		return http.StatusUnauthorized
	case problem.Denied:
		return http.StatusForbidden
	case problem.NotFound:
		return http.StatusNotFound
	case problem.Conflict:
		return http.StatusConflict
	case problem.Stale:
		return http.StatusPreconditionFailed
	case problem.TooLarge:
		return http.StatusRequestEntityTooLarge
	case problem.NotReady:
		return http.StatusServiceUnavailable
	case problem.TimedOut:
		return http.StatusGatewayTimeout
	case problem.Busy:
		return http.StatusTooManyRequests
	}
	return http.StatusInternalServerError
}

// formProblem says what is wrong with a form that could not be read.
func formProblem(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return problem.New(problem.TooLarge, "the form is larger than %d bytes", large.Limit)
	}
	return problem.New(problem.Invalid, "the form could not be read: %w", err)
}
