package metrics

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/slipway/slipway/internal/trail"
)

// HTTP counts the requests that a handler answers. The name says which handler;
// paths are no labels, as they name devices.
func (r *Registry) HTTP(name string, next http.Handler) http.Handler {
	labels := prometheus.Labels{"handler": name}
	seconds := promauto.With(r).NewHistogramVec(prometheus.HistogramOpts{
		Name: "slipway_http_request_seconds", Help: "How long requests took to answer.", Buckets: Seconds, ConstLabels: labels,
	}, []string{"method", "code"})
	busy := promauto.With(r).NewGauge(prometheus.GaugeOpts{Name: "slipway_http_requests_under_way", Help: "Requests that are being answered.", ConstLabels: labels})
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		began := time.Now()
		busy.Inc()
		defer busy.Dec()
		seen := &status{ResponseWriter: w, code: http.StatusOK}
		next.ServeHTTP(seen, req)
		if w.Header().Get("Content-Type") == "text/event-stream" {
			return // it went on for as long as somebody listened
		}
		trace, traced := trail.Of(req.Context())
		if !traced {
			trace, _ = TraceOf(req.Header.Get("traceparent"))
		}
		Observe(seconds.WithLabelValues(method(req.Method), strconv.Itoa(seen.code)), time.Since(began), trace)
	})
}

// method is a request's, as far as the label may have it: clients may send any.
func method(name string) string {
	switch name {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return name
	}
	return "other"
}

// status remembers what was answered.
type status struct {
	http.ResponseWriter
	code int
}

// WriteHeader notes the code.
func (s *status) WriteHeader(code int) {
	if code >= http.StatusOK {
		s.code = code
	}
	s.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController at the writer, for streams.
func (s *status) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Flush passes on what was written so far.
func (s *status) Flush() {
	if f, ok := s.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// TraceOf is the trace that a traceparent header names, as W3C writes it.
func TraceOf(header string) (trace string, ok bool) {
	parts := strings.Split(header, "-")
	if len(parts) < 4 || len(parts[0]) != 2 || len(parts[1]) != 32 || len(parts[2]) != 16 || strings.Trim(parts[1], "0") == "" {
		return "", false
	}
	for _, c := range parts[1] {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", false
		}
	}
	return parts[1], true
}

// Local reports whether a request comes from the machine itself and was not
// passed on by a proxy there.
func Local(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || r.Header.Get("Forwarded") != "" || r.Header.Get("X-Forwarded-For") != "" {
		return false
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Guarded serves to the machine itself, and beyond it to whoever shows a token
// that is let in: as a bearer, or as the password of basic authentication.
func Guarded(next http.Handler, letIn func(r *http.Request, token string) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := Token(r)
		if !Local(r) && (token == "" || !letIn(r, token)) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="slipway"`)
			http.Error(w, "metrics are shown to holders of a token: Authorization: Bearer TOKEN", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Token is what a request shows: a bearer token, or the password of basic
// authentication, which is what some of the field's programs can send.
func Token(r *http.Request) string {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return strings.TrimSpace(token)
	}
	_, password, _ := r.BasicAuth()
	return password
}
