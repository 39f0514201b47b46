package update

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// artifacts has a proxy treat artifacts in its own way, and all else honestly.
func artifacts(lie func(w http.ResponseWriter, r *http.Request, honest http.Handler)) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		if strings.Contains(r.URL.Path, "/artifacts/") {
			lie(w, r, honest)
			return
		}
		honest.ServeHTTP(w, r)
	}
}

// cutter lets so many bytes of a body through, and breaks the connection.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(b []byte) (int, error) {
	n := min(len(b), c.left)
	n, err := c.ResponseWriter.Write(b[:n])
	if c.left -= n; err == nil && c.left == 0 {
		if f, ok := c.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	return n, err
}

func TestDownloadsThatEndWell(t *testing.T) {
	const size = 2 << 20
	first := true
	for name, lie := range map[string]func(http.ResponseWriter, *http.Request, http.Handler){
		"cut after each 64 KiB": func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
			honest.ServeHTTP(&cutter{w, 64 << 10}, r)
		},
		"Range is ignored": func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
			if first {
				first = false
				honest.ServeHTTP(&cutter{w, 100 << 10}, r)
			}
			r.Header.Del("Range")
			honest.ServeHTTP(w, r)
		},
		"416 once": func() func(http.ResponseWriter, *http.Request, http.Handler) {
			n := 0
			return func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
				switch n++; n {
				case 1:
					honest.ServeHTTP(&cutter{w, 100 << 10}, r)
				case 2:
					w.Header().Set("Content-Range", "bytes */5")
					http.Error(w, "no", http.StatusRequestedRangeNotSatisfiable)
				default:
					honest.ServeHTTP(w, r)
				}
			}
		}(),
		"another range than asked": func() func(http.ResponseWriter, *http.Request, http.Handler) {
			n := 0
			return func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
				if n++; n == 1 {
					honest.ServeHTTP(&cutter{w, 100 << 10}, r)
				}
				if n == 2 {
					r.Header.Set("Range", "bytes=50-")
				}
				honest.ServeHTTP(w, r)
			}
		}(),
		"too busy at first": func() func(http.ResponseWriter, *http.Request, http.Handler) {
			n := 0
			return func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
				if n++; n < 4 {
					http.Error(w, "later", http.StatusServiceUnavailable)
					return
				}
				honest.ServeHTTP(w, r)
			}
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.lie = artifacts(lie)
			w.boot()
			if r := w.follow(w.release("v1", size, nil)); r.Phase != ReportConfirmed {
				t.Errorf("ended with %+v", r)
			}
			w.runs("v1")
		})
	}
}

func TestDownloadsThatAreGivenUp(t *testing.T) {
	const size = 300 << 10
	for name, c := range map[string]struct {
		lie  func(http.ResponseWriter, *http.Request, http.Handler)
		says string
	}{
		"other content of the same length": {func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			_, _ = w.Write(bytes.Repeat([]byte("x"), size+10)[:contentLength("v1", size)])
		}, "another hash"},
		"without end": {func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			for r.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte("x"), 64<<10)); err != nil {
					return
				}
			}
		}, "more than"},
		"a trickle": {func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte("x"))
				w.(http.Flusher).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		}, "too slowly"},
		"silence": {func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "too slowly"},
		"not there": {func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { http.Error(w, "no", http.StatusNotFound) }, "404"},
		"416 always": {func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			http.Error(w, "no", http.StatusRequestedRangeNotSatisfiable)
		}, "416"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}, "302"},
		"always cut at 4 KiB": {func(w http.ResponseWriter, r *http.Request, h http.Handler) {
			r.Header.Del("Range")
			h.ServeHTTP(&cutter{w, 4096}, r)
		}, "given up"},
		"always cut, Range ignored": {func(w http.ResponseWriter, r *http.Request, h http.Handler) {
			r.Header.Del("Range")
			h.ServeHTTP(&cutter{w, 100 << 10}, r)
		}, "given up"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.lie = artifacts(c.lie)
			w.boot()
			if r := w.follow(w.release("v1", size, nil)); r.Phase != ReportFailed || !strings.Contains(r.Error, c.says) {
				t.Errorf("ended with %+v, want an error with %q", r, c.says)
			}
			w.runs("factory")
		})
	}
}

// contentLength is that of what release makes.
func contentLength(name string, size int) int {
	content := []byte(name + "\n")
	for i := 0; len(content) < size; i++ {
		content = fmt.Appendf(content, "%s %d\n", name, i)
	}
	return len(content)
}

func TestADiskThatIsFull(t *testing.T) {
	w := newWorld(t)
	w.config.Reserve = 1 << 60
	w.boot()
	if r := w.follow(w.release("v1", 1000, nil)); r.Phase != ReportFailed || !strings.Contains(r.Error, "free") {
		t.Errorf("ended with %+v", r)
	}
	for _, request := range w.requests {
		if strings.Contains(request, "artifacts") {
			t.Errorf("it fetched %s", request)
		}
	}
}

func TestADownloadGoesOnAfterARestart(t *testing.T) {
	const size = 1 << 20
	for name, spoil := range map[string]func(file string){
		"as it was": func(string) {},
		"with a hole in it": func(file string) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, make([]byte, len(text)), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"longer than it should be": func(file string) {
			if err := os.WriteFile(file, make([]byte, 2*size), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			hang := make(chan struct{})
			w.lie = artifacts(func(rw http.ResponseWriter, r *http.Request, honest http.Handler) {
				content := w.repo.Artifact(strings.TrimPrefix(r.URL.Path, "/updates/artifacts/"))
				rw.Header().Set("ETag", `"x"`)
				rw.Header().Set("Content-Length", strconv.Itoa(len(content)))
				_, _ = io.Copy(rw, bytes.NewReader(content[:500_000]))
				rw.(http.Flusher).Flush()
				<-hang
			})
			u, stop := w.boot()
			o := w.release("v1", size, nil)
			u.Desired(desired(o))
			file := filepath.Join(w.config.Directory, "artifacts", o.Software[0].Artifacts[0].SHA256+partial)
			w.until(func() bool { info, err := os.Stat(file); return err == nil && info.Size() >= 500_000 })
			stop()
			close(hang)
			spoil(file)
			w.set(func() { w.lie, w.requests = nil, nil })
			w.boot()
			if r := w.ends(o); r.Phase != ReportConfirmed {
				t.Errorf("ended with %+v", r)
			}
			resumed := false
			for _, request := range w.requests {
				resumed = resumed || strings.Contains(request, "bytes=500000-")
			}
			if resumed != (name != "longer than it should be") {
				t.Errorf("asked for %q", w.requests)
			}
			w.runs("v1")
		})
	}
}
