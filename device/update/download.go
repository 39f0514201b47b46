package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/device/retry"
)

// Hub is what an Updater needs of the device's client; *device.Client is one.
type Hub interface {
	Fetch(ctx context.Context, path string, header http.Header) (*http.Response, error)
	Report(ctx context.Context, patch []byte) (version int64, err error)
}

// statusError is an answer that brings nothing.
type statusError struct {
	status int
	after  time.Duration
	name   string
}

// Error says which.
func (e *statusError) Error() string {
	return fmt.Sprintf("the hub answered %d for %s", e.status, e.name)
}

// errSlow is why a transfer was broken off.
var errSlow = errors.New("the hub sends too slowly")

// downloader fetches files from the hub: metadata whole, artifacts in as many
// pieces as it takes.
type downloader struct {
	hub       Hub
	directory string
	rate      int64         // bytes a second, below which a transfer is broken off
	patience  time.Duration // over which that is measured
	reserve   int64         // bytes of the disk that are left free
	free      func(directory string) (int64, error)
	heard     func(t time.Time) // what the hub says is the time
}

// get asks for a path, and has the answer broken off when it is too slow: the
// time it has ends patience after the last mark.
func (d *downloader) get(ctx context.Context, path string, header http.Header) (*http.Response, *pace, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	p := &pace{share: max(1, int64(float64(d.rate)*d.patience.Seconds())), patience: d.patience, cancel: cancel}
	response, err := d.hub.Fetch(ctx, path, header)
	if err != nil {
		cancel(nil)
		return nil, nil, err
	}
	p.timer = time.AfterFunc(d.patience, func() { cancel(errSlow) })
	if t, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		d.heard(t)
	}
	p.body, p.ctx = response.Body, ctx
	return response, p, nil
}

// pace reads a body that has to bring its share of bytes within each stretch
// of patience.
type pace struct {
	ctx      context.Context
	body     io.ReadCloser
	timer    *time.Timer
	patience time.Duration
	share    int64
	got      int64
	cancel   context.CancelCauseFunc
}

// Read reads and counts.
func (p *pace) Read(b []byte) (int, error) {
	n, err := p.body.Read(b)
	if p.got += int64(n); p.got >= p.share {
		p.got = 0
		p.timer.Reset(p.patience)
	}
	if err != nil && err != io.EOF && errors.Is(context.Cause(p.ctx), errSlow) {
		err = errSlow
	}
	return n, err
}

// Close ends the transfer.
func (p *pace) Close() error {
	p.timer.Stop()
	p.cancel(nil)
	return p.body.Close()
}

// metadata fetches a file of signed metadata, at most so many bytes of it.
func (d *downloader) metadata(ctx context.Context, name string, most int64) (text []byte, err error) {
	response, body, err := d.get(ctx, "updates/metadata/"+name, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	switch {
	case response.StatusCode == http.StatusNotFound:
		return nil, errAbsent
	case response.StatusCode != http.StatusOK:
		return nil, answered(response, name)
	}
	text, err = io.ReadAll(io.LimitReader(body, most+1))
	if err == nil && int64(len(text)) > most {
		return nil, refuse("%s has more than %d bytes", name, most)
	}
	return text, err
}

func answered(response *http.Response, name string) error {
	return &statusError{response.StatusCode, retry.After(response.Header.Get("Retry-After"), time.Now()), name}
}

// path is where a verified artifact is.
func (d *downloader) path(a Artifact) string { return filepath.Join(d.directory, a.SHA256) }

// sweep removes all but some artifacts.
func (d *downloader) sweep(keep []Artifact) error {
	entries, err := os.ReadDir(d.directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		wanted := slices.ContainsFunc(keep, func(a Artifact) bool { return strings.HasPrefix(entry.Name(), a.SHA256) })
		if !wanted {
			err = errors.Join(err, os.RemoveAll(filepath.Join(d.directory, entry.Name())))
		}
	}
	return err
}

// room asks whether the disk takes what is still to come.
func (d *downloader) room(artifacts []Artifact) error {
	var missing int64
	for _, a := range artifacts {
		if _, err := os.Stat(d.path(a)); err == nil {
			continue
		}
		missing += a.Size
		if info, err := os.Stat(d.path(a) + partial); err == nil {
			missing -= min(info.Size(), a.Size)
		}
	}
	free, err := d.free(d.directory)
	if err != nil {
		return fmt.Errorf("ask how much is free on the disk: %w", err)
	}
	if missing > 0 && missing+d.reserve > free {
		return refuse("the disk has %d bytes free; the artifacts need %d more, and %d stay free", free, missing, d.reserve)
	}
	return nil
}

// The names of what has not come whole: its first bytes, and the ETag that the
// hub gave them.
const (
	partial = ".part"
	tag     = ".etag"
)

// part is an artifact on its way. It is hashed as it comes; what was there
// when the process began is hashed once.
type part struct {
	artifact Artifact
	name     string
	file     *os.File
	sum      hash.Hash
	offset   int64
	whole    bool // all of it came since the process began
}

func (d *downloader) open(a Artifact) (p *part, err error) {
	if err := os.MkdirAll(d.directory, 0o700); err != nil {
		return nil, err
	}
	p = &part{artifact: a, name: d.path(a) + partial, sum: sha256.New()}
	if p.file, err = os.OpenFile(p.name, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if p.offset, err = io.Copy(p.sum, p.file); err != nil {
		return nil, errors.Join(err, p.file.Close())
	}
	p.whole = p.offset == 0
	if p.offset > a.Size {
		err = p.restart()
	}
	return p, err
}

// restart throws away what came.
func (p *part) restart() error {
	p.sum.Reset()
	p.offset, p.whole = 0, true
	if err := os.Remove(strings.TrimSuffix(p.name, partial) + tag); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	_, err := p.file.Seek(0, io.SeekStart)
	return err
}

// advance asks once for what is missing, and takes what comes of it.
func (d *downloader) advance(ctx context.Context, p *part, progress func(int64)) (err error) {
	header := http.Header{}
	if p.offset > 0 && p.offset < p.artifact.Size {
		header.Set("Range", "bytes="+strconv.FormatInt(p.offset, 10)+"-")
		if etag, err := readFile(d.path(p.artifact)+tag, 1024); err == nil && len(etag) > 0 {
			header.Set("If-Range", string(etag))
		}
	}
	if p.offset == p.artifact.Size && p.artifact.Size > 0 {
		return d.finish(p)
	}
	response, body, err := d.get(ctx, "updates/artifacts/"+p.artifact.SHA256, header)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	if err := d.begin(p, response); err != nil {
		return err
	}
	if err := p.take(body, progress); err != nil {
		return err
	}
	return d.finish(p)
}

// begin sees where the answer begins, which need not be where it was to.
func (d *downloader) begin(p *part, response *http.Response) error {
	switch response.StatusCode {
	case http.StatusPartialContent:
		wanted := fmt.Sprintf("bytes %d-%d/%d", p.offset, p.artifact.Size-1, p.artifact.Size)
		if got := response.Header.Get("Content-Range"); got != wanted {
			return errors.Join(fmt.Errorf("the hub sent %q of %q", clip(got), wanted), p.restart())
		}
	case http.StatusOK:
		if err := p.restart(); err != nil {
			return err
		}
		if etag := response.Header.Get("ETag"); etag != "" && len(etag) < 1024 && !strings.HasPrefix(etag, "W/") {
			if err := WriteFile(d.path(p.artifact)+tag, []byte(etag), 0o600); err != nil {
				return err
			}
		}
	case http.StatusRequestedRangeNotSatisfiable:
		return errors.Join(answered(response, "the rest of "+p.artifact.File), p.restart())
	default:
		return answered(response, p.artifact.File)
	}
	return nil
}

// take writes and hashes a body, which may be cut short but must not be longer
// than what is signed.
func (p *part) take(body io.Reader, progress func(int64)) error {
	buffer := make([]byte, 64<<10)
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			if p.offset+int64(n) > p.artifact.Size {
				return refuse("the hub sends more than the %d bytes that are signed of %s", p.artifact.Size, p.artifact.File)
			}
			if _, err := p.file.Write(buffer[:n]); err != nil {
				return refuse("write %s: %s", p.artifact.File, err)
			}
			p.sum.Write(buffer[:n])
			p.offset += int64(n)
			progress(int64(n))
		}
		switch {
		case err == io.EOF && p.offset < p.artifact.Size:
			return io.ErrUnexpectedEOF
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// finish judges the whole and gives it its name. What has come in pieces and
// over restarts is fetched once more before it counts as forged, as a loss of
// power may have left a hole in it.
func (d *downloader) finish(p *part) error {
	if hex.EncodeToString(p.sum.Sum(nil)) != p.artifact.SHA256 {
		whole := p.whole
		if err := p.restart(); err != nil {
			return err
		}
		if whole {
			return refuse("%s is not what is signed: its content has another hash", p.artifact.File)
		}
		return fmt.Errorf("%s was damaged on this device; it is fetched anew", p.artifact.File)
	}
	if err := p.file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(p.name, d.path(p.artifact)); err != nil {
		return err
	}
	if err := os.Remove(d.path(p.artifact) + tag); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDirectory(d.directory)
}

// check hashes an artifact that was verified some time ago.
func (d *downloader) check(a Artifact) (err error) {
	f, err := os.Open(d.path(a))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	if n, err := io.Copy(sum, f); err != nil || n != a.Size || hex.EncodeToString(sum.Sum(nil)) != a.SHA256 {
		return errors.Join(fmt.Errorf("%s was damaged on this device", a.File), err)
	}
	return nil
}
