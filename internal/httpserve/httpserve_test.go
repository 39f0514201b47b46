package httpserve_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/httpserve"
)

func TestRequestsBeyondTheBoundsAreRefused(t *testing.T) {
	t.Parallel()
	served := false
	handler := httpserve.Filter(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served = true }))
	many := http.Header{}
	for i := range httpserve.MaxFields + 1 {
		many.Add("X-Many", fmt.Sprint(i))
	}
	for _, try := range []struct {
		name   string
		uri    string
		header http.Header
		want   int
	}{
		{"an ordinary one", "/devices?q=1", nil, 200},
		{"the longest address", "/" + strings.Repeat("a", httpserve.MaxURL-1), nil, 200},
		{"a longer one", "/" + strings.Repeat("a", httpserve.MaxURL), nil, http.StatusRequestURITooLong},
		{"too many fields", "/", many, http.StatusRequestHeaderFieldsTooLarge},
	} {
		r := httptest.NewRequest(http.MethodGet, try.uri, nil)
		if try.header != nil {
			r.Header = try.header
		}
		w := httptest.NewRecorder()
		served = false
		handler.ServeHTTP(w, r)
		if w.Code != try.want || served != (try.want == 200) {
			t.Errorf("%s: %d, served: %v", try.name, w.Code, served)
		}
	}
}

func TestBrowsersAreToldToKeepToHTTPS(t *testing.T) {
	t.Parallel()
	handler := httpserve.Filter(http.NotFoundHandler())
	for host, want := range map[string]bool{"slipway.example.com": true, "slipway.example.com:8443": true, "localhost:8443": false, "127.0.0.1:8443": false, "[::1]:8443": false, "10.1.2.3": false} {
		for _, secured := range []bool{true, false} {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Host = host
			if secured {
				r.TLS = &tls.ConnectionState{}
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if got := w.Header().Get("Strict-Transport-Security") != ""; got != (want && secured) {
				t.Errorf("%s over TLS %v: %v", host, secured, got)
			}
		}
	}
}

// serve serves a handler within shortened times.
func serve(t *testing.T, handler http.Handler, header time.Duration) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := httpserve.Server(handler, slog.New(slog.DiscardHandler))
	if server.ReadHeaderTimeout != httpserve.HeaderWait || server.MaxHeaderBytes != httpserve.MaxHeader {
		t.Errorf("%+v", server)
	}
	server.ReadHeaderTimeout = header
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return listener.Addr().String()
}

// TestASlowHeaderEndsTheConnection is the slow-loris: a byte now and then.
func TestASlowHeaderEndsTheConnection(t *testing.T) {
	t.Parallel()
	served := make(chan struct{}, 1)
	at := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served <- struct{}{} }), 200*time.Millisecond)
	nc, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-tick.C {
		if _, err := nc.Write([]byte("a")); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a header that never ends keeps its connection")
		}
	}
	if len(served) > 0 {
		t.Error("it was served")
	}
}

// TestABodyMayTakeItsTimeButNotAll posts in two parts, with a wait between, and
// asks again on the same connection.
func TestABodyMayTakeItsTimeButNotAll(t *testing.T) {
	t.Parallel()
	at := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %v", text, err)
	}), time.Second)
	nc, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	answers := bufio.NewReader(nc)
	for range 2 {
		for _, part := range []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n", "ab", "cd"} {
			if _, err := io.WriteString(nc, part); err != nil {
				t.Fatal(err)
			}
		}
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		if err != nil || string(text) != "abcd <nil>" {
			t.Errorf("%q, %v", text, err)
		}
	}
}

// TestABodyThatDoesNotComeIsGivenUp holds what the server sets against what a
// client has sent, with a control that only notes it.
func TestABodyThatDoesNotComeIsGivenUp(t *testing.T) {
	t.Parallel()
	var due []time.Time
	begun := time.Now()
	w := &noting{ResponseWriter: httptest.NewRecorder(), due: &due}
	r := httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader(strings.Repeat("a", 6400)), strings.NewReader("b")))
	httpserve.Filter(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
	})).ServeHTTP(w, r)
	if len(due) < 3 {
		t.Fatalf("%d deadlines were set", len(due))
	}
	if first := due[0].Sub(begun); first < httpserve.BodyWait || first > httpserve.BodyWait+time.Minute {
		t.Errorf("the first byte may take %s", first)
	}
	if more := due[len(due)-2].Sub(due[0]).Round(time.Second); more != 6400/httpserve.LeastRate*time.Second {
		t.Errorf("6400 bytes earn %s", more)
	}
	if !due[len(due)-1].IsZero() {
		t.Error("the next request is bound by the time of this one")
	}
}

type noting struct {
	http.ResponseWriter
	due *[]time.Time
}

// SetReadDeadline is what http.ResponseController calls.
func (n *noting) SetReadDeadline(at time.Time) error { *n.due = append(*n.due, at); return nil }

// TestWhatIsLeftOfABodyIsNoRequest gives a body up before its end, as handlers do
// that refuse it: the connection is closed after the answer.
func TestWhatIsLeftOfABodyIsNoRequest(t *testing.T) {
	server := httptest.NewServer(httpserve.Filter(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := r.Body.Read(make([]byte, 10)); err != nil {
			t.Error(err)
		}
		if err := r.Body.Close(); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	})))
	defer server.Close()
	resp, err := server.Client().Post(server.URL, "text/plain", strings.NewReader(strings.Repeat("x", 2<<20)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if !resp.Close {
		t.Error("the rest of the body would be read as a request")
	}
}
