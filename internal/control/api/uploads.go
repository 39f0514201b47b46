package api

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/slipway/slipway/internal/link"
)

type listUploads struct {
	StampRef
	Device string `query:"device" maxLength:"257"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000"`
}

type readUpload struct {
	StampRef
	Blob string `query:"blob" required:"true" maxLength:"1300" doc:"device/name, as the list shows it"`
}

// uploads registers the files that devices have sent.
func (a *api) uploads() {
	route(a, "GET", "/api/v1/stamps/{name}/uploads", "listUploads", "Files from devices, newest first", func(ctx context.Context, in *listUploads) (*body[list[link.Upload]], error) {
		all, err := a.Fleet.Uploads(ctx, in.Stamp, in.Device, in.Limit)
		return listOf(all, ""), err
	})
	route(a, "GET", "/api/v1/stamps/{name}/uploads/content", "readUpload", "The content of a file; reading it is recorded", func(ctx context.Context, in *readUpload) (*huma.StreamResponse, error) {
		return a.sendFile(ctx, in)
	})
}

// sendFile streams a file. What goes wrong before its first part becomes a
// problem; what goes wrong later breaks the connection, so that nobody takes
// half a file for a whole one.
func (a *api) sendFile(ctx context.Context, in *readUpload) (*huma.StreamResponse, error) {
	reading, stop := context.WithCancel(ctx)
	chunks, failed := make(chan link.UploadChunk), make(chan error, 1)
	actor := actorOf(ctx)
	go func() {
		defer close(chunks)
		failed <- a.Fleet.ReadUpload(reading, actor, in.Stamp, in.Blob, func(c link.UploadChunk) error {
			select {
			case chunks <- c:
				return nil
			case <-reading.Done():
				return reading.Err()
			}
		})
	}()
	first, any := <-chunks
	if !any {
		stop()
		return nil, <-failed
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		defer stop()
		_, w := humago.Unwrap(hctx)
		header := w.Header()
		header.Set("Content-Type", "application/octet-stream")
		header.Set("Content-Disposition", "attachment")
		header.Set("Content-Length", strconv.FormatInt(first.Size, 10))
		for chunk, more := first, true; more; chunk, more = <-chunks {
			if _, err := w.Write(chunk.Data); err != nil {
				return
			}
		}
		if err := <-failed; err != nil {
			a.Logger.Warn("file not sent whole", "file", in.Blob, "error", err)
			panic(http.ErrAbortHandler)
		}
	}}, nil
}
