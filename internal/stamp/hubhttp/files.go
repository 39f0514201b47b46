package hubhttp

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/upload"
)

// startUpload gives a device a place for a file.
func (e *Edge) startUpload(c *call) (answer, error) {
	var sent struct {
		BlobName string `json:"blobName"`
	}
	if err := c.decode(&sent); err != nil {
		return answer{}, err
	}
	place, err := e.Uploads.Start(c.ctx, c.sender.DeviceID, sent.BlobName)
	if problem.Is(err, problem.Denied) {
		err = coded{err, "DeviceMaximumActiveFileUploadLimitExceeded", 403006}
	}
	return answer{body: map[string]string{
		"correlationId": place.CorrelationID, "hostName": c.r.Host, "containerName": upload.Container,
		"blobName": place.Blob, "sasToken": place.Signature,
	}}, err
}

// endUpload notes what the device says of its upload. The correlation id
// stands in the path or in the body.
func (e *Edge) endUpload(c *call) (answer, error) {
	var sent struct {
		CorrelationID string `json:"correlationId"`
		Succeeded     bool   `json:"isSuccess"`
		Description   string `json:"statusDescription"`
	}
	if err := c.decode(&sent); err != nil {
		return answer{}, err
	}
	if len(c.args) > 1 {
		sent.CorrelationID = c.args[1]
	}
	err := e.Uploads.End(c.ctx, c.sender.DeviceID, sent.CorrelationID, sent.Succeeded, sent.Description)
	if err == nil {
		e.Hub.NoteUpload(c.sender, sent.CorrelationID, sent.Succeeded)
	}
	return answer{}, err
}

// receiveNotification lends a back end the oldest notification of a file.
func (e *Edge) receiveNotification(c *call) (answer, error) {
	n, lock, found, err := e.Uploads.ReceiveNotification(c.ctx)
	if err != nil || !found {
		return answer{status: http.StatusNoContent}, err
	}
	return answer{etag: lock, body: n.Document(c.r.Host)}, nil
}

func (e *Edge) completeNotification(c *call) (answer, error) {
	return answer{}, lockLost(e.Uploads.CompleteNotification(c.ctx, c.args[0]))
}

func (e *Edge) abandonNotification(c *call) (answer, error) {
	return answer{}, lockLost(e.Uploads.AbandonNotification(c.ctx, c.args[0]))
}

// serveBlob answers as blob storage does, for the step of an upload that SDKs
// leave to a storage client.
func (e *Edge) serveBlob(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Ms-Request-Id", uuid.NewString())
	header.Set("X-Ms-Version", "2021-10-04")
	if id := r.Header.Get("X-Ms-Client-Request-Id"); len(id) <= 64 {
		header.Set("X-Ms-Client-Request-Id", id)
	}
	_, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	grant, err := e.Uploads.Verify(name, r.URL.Query())
	if err == nil {
		switch r.Method {
		case http.MethodPut:
			err = e.putBlob(w, r, grant)
		case http.MethodGet, http.MethodHead:
			err = e.getBlob(w, r, grant)
		default:
			err = problem.New(problem.Invalid, "a file is put or got, not %s", r.Method)
		}
	}
	if err != nil {
		e.refuseBlob(w, r, err)
	}
}

// blockList is the body that names the blocks of a file.
type blockList struct {
	Blocks []struct {
		XMLName xml.Name
		ID      string `xml:",chardata"`
	} `xml:",any"`
}

const maxBlockList = 8 << 20

func (e *Edge) putBlob(w http.ResponseWriter, r *http.Request, grant upload.Grant) error {
	// A transfer takes as long as its place is good for, and no longer.
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(upload.Life)); err != nil {
		return err
	}
	sum, err := base64.StdEncoding.DecodeString(r.Header.Get("Content-MD5"))
	if err != nil {
		return problem.New(problem.Invalid, "a Content-MD5 is base64 text")
	}
	if len(sum) == 0 {
		sum = nil
	}
	var stored upload.Blob
	switch r.URL.Query().Get("comp") {
	case "block":
		if err := e.Uploads.PutBlock(r.Context(), grant, r.URL.Query().Get("blockid"), r.Body, sum); err != nil {
			return err
		}
		w.WriteHeader(http.StatusCreated)
		return nil
	case "blocklist":
		var list blockList
		if err := xml.NewDecoder(io.LimitReader(r.Body, maxBlockList)).Decode(&list); err != nil {
			return problem.New(problem.Invalid, "a list of blocks is XML: %w", err)
		}
		var ids []string
		for _, block := range list.Blocks {
			ids = append(ids, block.ID)
		}
		stored, err = e.Uploads.PutBlockList(r.Context(), grant, ids, r.Header.Get("X-Ms-Blob-Content-Type"))
	case "":
		if kind := r.Header.Get("X-Ms-Blob-Type"); kind != "" && !strings.EqualFold(kind, "BlockBlob") {
			return problem.New(problem.Invalid, "files are block blobs here, not %q", kind)
		}
		stored, err = e.Uploads.PutBlob(r.Context(), grant, r.Body, r.Header.Get("Content-Type"), sum)
	default:
		return problem.New(problem.Invalid, "there is no comp=%s here", r.URL.Query().Get("comp"))
	}
	if err != nil {
		return err
	}
	describe(w.Header(), stored)
	w.WriteHeader(http.StatusCreated)
	return nil
}

func describe(header http.Header, b upload.Blob) {
	header.Set("ETag", `"0x`+strings.ToUpper(hex.EncodeToString(b.MD5))+`"`)
	header.Set("Last-Modified", b.UpdatedAt.UTC().Format(http.TimeFormat))
	header.Set("Content-MD5", base64.StdEncoding.EncodeToString(b.MD5))
}

func (e *Edge) getBlob(w http.ResponseWriter, r *http.Request, grant upload.Grant) (err error) {
	b, file, err := e.Uploads.Find(r.Context(), grant.Blob)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	header := w.Header()
	describe(header, b)
	header.Set("X-Ms-Blob-Type", "BlockBlob")
	// A device's file must not become a page of ours.
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Content-Disposition", "attachment")
	header.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", b.UpdatedAt, file)
	return nil
}

// blobFaults are the codes storage clients know.
var blobFaults = map[problem.Kind]struct {
	status int
	code   string
}{
	problem.Invalid: {http.StatusBadRequest, "InvalidInput"}, problem.Denied: {http.StatusForbidden, "AuthenticationFailed"},
	problem.NotFound: {http.StatusNotFound, "BlobNotFound"}, problem.TooLarge: {http.StatusRequestEntityTooLarge, "RequestBodyTooLarge"},
}

func (e *Edge) refuseBlob(w http.ResponseWriter, r *http.Request, err error) {
	p := problem.Of(err)
	fault, known := blobFaults[p.Kind]
	if !known {
		fault.status, fault.code = http.StatusInternalServerError, "InternalError"
		e.Logger.Error("file not served", "path", r.URL.Path, "error", err)
	}
	w.Header().Set("X-Ms-Error-Code", fault.code)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(fault.status)
	if r.Method == http.MethodHead {
		return
	}
	text, err := xml.Marshal(struct {
		XMLName struct{} `xml:"Error"`
		Code    string
		Message string
	}{Code: fault.code, Message: p.Error()})
	if err == nil {
		_, err = w.Write(append([]byte(xml.Header), text...))
	}
	if err != nil {
		e.Logger.Debug("answer not delivered", "error", err)
	}
}
