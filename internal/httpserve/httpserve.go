// Package httpserve is how every process serves HTTP: what it bounds of a
// request before anybody looks at it, how slow a client may be, and what
// browsers are told. The bounds are in this one place.
package httpserve

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"
)

// The bounds of a request.
const (
	// MaxURL is how long a path with its query may be.
	MaxURL = 8 << 10
	// MaxHeader is how many bytes its header may have.
	MaxHeader = 64 << 10
	// MaxFields is how many fields its header may have.
	MaxFields = 200
	// HeaderWait is how long a client may take for TLS, and again for the header.
	HeaderWait = 10 * time.Second
	// IdleWait is how long a connection may be silent between requests.
	IdleWait = 2 * time.Minute
	// BodyWait is how long a client may take for a body, and LeastRate how many
	// bytes a second it must send for longer: what devices behind the slowest
	// radios manage.
	BodyWait  = 30 * time.Second
	LeastRate = 64
	// maxStreams is how many requests a client may have under way on one
	// connection.
	maxStreams = 100
)

// hsts has browsers use HTTPS alone for a year.
const hsts = "max-age=31536000"

// Server serves a handler within the bounds.
func Server(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler: Filter(handler), ReadHeaderTimeout: HeaderWait, IdleTimeout: IdleWait, MaxHeaderBytes: MaxHeader,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}

// Filter refuses requests beyond the bounds.
func Filter(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && named(r.Host) {
			w.Header().Set("Strict-Transport-Security", hsts)
		}
		if len(r.RequestURI) > MaxURL {
			http.Error(w, fmt.Sprintf("the address has %d bytes, %d more than it may", len(r.RequestURI), len(r.RequestURI)-MaxURL), http.StatusRequestURITooLong)
			return
		}
		if n := fields(r.Header); n > MaxFields {
			http.Error(w, fmt.Sprintf("the header has %d fields, %d more than it may", n, n-MaxFields), http.StatusRequestHeaderFieldsTooLarge)
			return
		}
		if r.Body != nil && r.Body != http.NoBody {
			// The server looks at the body of its own request whether all of it was
			// read: what was not must never be taken for the next request.
			r = r.WithContext(r.Context())
			r.Body = &body{ReadCloser: r.Body, control: http.NewResponseController(w), begun: time.Now()}
		}
		handler.ServeHTTP(w, r)
	})
}

func fields(header http.Header) (n int) {
	for _, values := range header {
		n += len(values)
	}
	return n
}

// named reports whether a request is for a name that others know, too: what is
// said of an address or of this machine binds nobody.
func named(host string) bool {
	if only, _, err := net.SplitHostPort(host); err == nil {
		host = only
	}
	return host != "localhost" && host != "" && net.ParseIP(host) == nil && host[0] != '['
}

// body is the body of a request that has to come in time.
type body struct {
	io.ReadCloser
	control *http.ResponseController
	begun   time.Time
	read    int64
}

// Read gives a client as long as it may take for what it has sent so far.
func (b *body) Read(into []byte) (int, error) {
	due := b.begun.Add(BodyWait + time.Duration(b.read/LeastRate)*time.Second)
	if err := b.control.SetReadDeadline(due); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := b.ReadCloser.Read(into)
	b.read += int64(n)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, fmt.Errorf("the body came more slowly than %d bytes a second: %w", LeastRate, err)
	}
	if err != nil { // its end: the next request is not bound by this one's time
		if reset := b.control.SetReadDeadline(time.Time{}); reset != nil && !errors.Is(reset, http.ErrNotSupported) {
			return n, reset
		}
	}
	return n, err
}
