package ddi

import (
	"cmp"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// md5Suffix turns the address of a file into that of its checksum.
const md5Suffix = ".MD5SUM"

func escaped(file string) string { return url.PathEscape(file) }

// module is the software that a path names, of an order that is the device's.
func (e *Edge) module(q *request) (link.Software, string, error) {
	text := q.at.rest[1]
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < modulesPerAction {
		return link.Software{}, "", errNoFile
	}
	s, err := e.look(q)
	if err != nil {
		return link.Software{}, "", err
	}
	orders := []*link.UpdateOrder{s.current, s.Installed}
	if s.Action != nil {
		orders = append(orders, &s.Action.Order)
	}
	for _, o := range orders {
		if o != nil && o.Order == n/modulesPerAction && int(n%modulesPerAction) < len(o.Software) {
			return o.Software[n%modulesPerAction], text, nil
		}
	}
	return link.Software{}, "", errNoFile
}

var errNoFile = problem.New(problem.NotFound, "the device was ordered no such file")

// artifacts lists the files of a software.
func (e *Edge) artifacts(q *request) error {
	software, module, err := e.module(q)
	if err != nil {
		return err
	}
	all := artifactsOf(software, module, linksOf(q.r, q.at))
	if all == nil {
		all = []artifactBody{}
	}
	return e.answer(q, all)
}

// download serves a file, or its checksum.
func (e *Edge) download(q *request) error {
	software, _, err := e.module(q)
	if err != nil {
		return err
	}
	name := q.at.rest[3]
	for _, a := range software.Artifacts {
		switch name {
		case a.File:
			return e.send(q, a)
		case a.File + md5Suffix:
			return e.sendSum(q, a)
		}
	}
	return errNoFile
}

func (e *Edge) sendSum(q *request, a link.Artifact) error {
	if a.MD5 == "" {
		return errNoFile
	}
	text := a.MD5 + "  " + a.File
	q.w.Header().Set("Content-Type", "text/plain")
	q.w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	if q.r.Method == http.MethodHead {
		return nil
	}
	if _, err := q.w.Write([]byte(text)); err != nil {
		e.Logger.Debug("answer not delivered", "error", err)
	}
	return nil
}

const (
	// maxTransfers is how many files a device may fetch at once: some read
	// one in several parts.
	maxTransfers = 4
	// maxTransfer is how long one may take; a client goes on where it ended.
	maxTransfer = 6 * time.Hour
)

// begin takes one of the places a device has for transfers.
func (e *Edge) begin(id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.transfers[id] >= maxTransfers {
		return problem.New(problem.Busy, "a device fetches at most %d files at once", maxTransfers).After(time.Second)
	}
	e.transfers[id]++
	return nil
}

func (e *Edge) end(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.transfers[id]--; e.transfers[id] == 0 {
		delete(e.transfers, id)
	}
}

// send serves a file, whole or in parts.
func (e *Edge) send(q *request, a link.Artifact) (err error) {
	if err := e.begin(q.sender.DeviceID); err != nil {
		return err
	}
	defer e.end(q.sender.DeviceID)
	content, _, err := e.Engine.Artifact(q.ctx, a.SHA256)
	if err != nil {
		return err
	}
	defer func() {
		if closing := content.Close(); closing != nil {
			e.Logger.Warn("a file was not closed", "error", closing)
		}
	}()
	control := http.NewResponseController(q.w)
	if err := control.SetWriteDeadline(time.Now().Add(maxTransfer)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	header := q.w.Header()
	header.Set("ETag", `"`+cmp.Or(a.SHA1, a.SHA256)+`"`)
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": a.File}))
	header.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(q.w, q.r, "", time.Time{}, content)
	if err := control.SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		e.Logger.Debug("the connection is gone", "error", err)
	}
	return nil
}
