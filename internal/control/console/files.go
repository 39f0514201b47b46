package console

import (
	"net/http"
	"strconv"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

var filesPage = newPage("files.html")

const shownFiles = 200

type filesView struct {
	base
	Stamps        []resource.Stamp
	Stamp, Device string
	Files         []link.Upload
}

func (c *console) files(w http.ResponseWriter, r *http.Request, s access.Session) error {
	q := r.URL.Query()
	view := filesView{base: inside(r, s, "files", "Files"), Stamp: q.Get("stamp"), Device: q.Get("device")}
	var err error
	if view.Stamps, err = c.Environments.Stamps(r.Context()); err != nil {
		return err
	}
	if view.Stamp == "" && len(view.Stamps) > 0 {
		view.Stamp = view.Stamps[0].Metadata.Name
	}
	if view.Stamp != "" {
		if view.Files, err = c.Fleet.Uploads(r.Context(), view.Stamp, view.Device, shownFiles); err != nil {
			return err
		}
	}
	return show(w, r, http.StatusOK, filesPage, "", view)
}

// file hands over what a device has sent. It is never shown as a page of ours,
// whatever is in it.
func (c *console) file(w http.ResponseWriter, r *http.Request, s access.Session) error {
	q := r.URL.Query()
	begun := false
	err := c.Fleet.ReadUpload(r.Context(), s.Actor, q.Get("stamp"), q.Get("blob"), func(chunk link.UploadChunk) error {
		if !begun {
			begun = true
			header := w.Header()
			header.Set("Content-Type", "application/octet-stream")
			header.Set("Content-Disposition", "attachment")
			header.Set("Content-Length", strconv.FormatInt(chunk.Size, 10))
		}
		_, err := w.Write(chunk.Data)
		return err
	})
	if begun && err != nil {
		panic(http.ErrAbortHandler) // half a file must not look whole
	}
	return err
}
