package hubhttp

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/problem"
)

// file is an answer that may be asked for in parts.
type file struct {
	content io.ReadSeeker
	kind    string
	cache   string
	done    func() error
}

// The downloads a device may have at once, and for how long it may take
// nothing.
const (
	maxDownloads = 4
	stalledFor   = 30 * time.Second
)

// downloads are how many each device has.
type downloads struct {
	mu   sync.Mutex
	open map[string]int
}

// begin takes one of a device's places; the result gives it back.
func (d *downloads) begin(id string) (end func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open[id] >= maxDownloads {
		return nil, problem.New(problem.Busy, "device %s may have %d downloads at once; wait for one to end", id, maxDownloads).After(5 * time.Second)
	}
	if d.open == nil {
		d.open = map[string]int{}
	}
	d.open[id]++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.open[id]--; d.open[id] == 0 {
			delete(d.open, id)
		}
	}, nil
}

// getArtifact hands a device a file of a release that it is to run.
func (e *Edge) getArtifact(c *call) (answer, error) {
	end, err := e.downloads.begin(c.sender.DeviceID)
	if err != nil {
		return answer{}, err
	}
	content, _, err := e.Software.ArtifactFor(c.ctx, c.sender.DeviceID, c.args[1])
	if err != nil {
		end()
		return answer{}, noFile(err)
	}
	done := func() error { end(); return content.Close() }
	return answer{etag: c.args[1], file: &file{content, "application/octet-stream", "private, immutable, max-age=31536000", done}}, nil
}

// getMetadata hands a device signed metadata.
func (e *Edge) getMetadata(c *call) (answer, error) {
	content, err := e.Software.Metadata(c.ctx, c.args[1])
	if err != nil {
		return answer{}, noFile(err)
	}
	return answer{file: &file{content, "application/json", "no-cache", func() error { return nil }}}, nil
}

// noFile says that it is not the device that was not found.
func noFile(err error) error {
	if problem.Is(err, problem.NotFound) {
		return coded{err, "FileNotFound", 404002}
	}
	return err
}

// serveFile sends a file, or the parts of it that are asked for.
func (e *Edge) serveFile(w http.ResponseWriter, r *http.Request, a answer) {
	header := w.Header()
	header.Set("Content-Type", a.file.kind)
	header.Set("Cache-Control", a.file.cache)
	header.Set("X-Content-Type-Options", "nosniff")
	if a.etag != "" {
		header.Set("ETag", `"`+a.etag+`"`)
	}
	slow := patient{w, http.NewResponseController(w)}
	http.ServeContent(slow, r, "", time.Time{}, a.file.content)
	if err := errors.Join(slow.until(time.Time{}), a.file.done()); err != nil {
		e.Logger.Debug("a file did not end well", "path", r.URL.Path, "error", err)
	}
}

// patient lets a slow device take its time, but not one that takes nothing.
type patient struct {
	http.ResponseWriter
	controller *http.ResponseController
}

// Write is http.ResponseWriter's.
func (p patient) Write(b []byte) (int, error) {
	if err := p.until(time.Now().Add(stalledFor)); err != nil {
		return 0, err
	}
	return p.ResponseWriter.Write(b)
}

// until sets when a write is given up; not every connection knows that.
func (p patient) until(at time.Time) error {
	err := p.controller.SetWriteDeadline(at)
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}
