package api

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/slipway/slipway/internal/control/artifact"
	"github.com/slipway/slipway/internal/problem"
)

const (
	artifactsPath = "/api/v1/artifacts"
	contentPath   = artifactsPath + "/{sha256}/content"
)

type artifactRef struct {
	SHA256 string `path:"sha256" minLength:"64" maxLength:"64" doc:"Of its content, hex"`
}

type listArtifacts struct {
	After string `query:"after" maxLength:"64"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000"`
}

type pruneArtifacts struct {
	Body struct {
		UnusedSeconds int64 `json:"unusedSeconds,omitempty" minimum:"1" doc:"How long nothing came of them, nor was made of them; default a day"`
		DryRun        bool  `json:"dryRun,omitempty" doc:"Answer what would be removed, remove nothing"`
	}
}

const defaultPage = 100

func pageOf(limit int) int {
	if limit == 0 {
		return defaultPage
	}
	return limit
}

// artifacts registers the files that releases are made of.
func (a *api) artifacts(mux *http.ServeMux) {
	route(a, "GET", artifactsPath, "listArtifacts", "Files that releases are made of, in order of digest", func(ctx context.Context, in *listArtifacts) (*body[list[artifact.File]], error) {
		limit := pageOf(in.Limit)
		all, err := a.Artifacts.List(ctx, in.After, limit)
		next := ""
		if len(all) == limit {
			next = all[limit-1].SHA256
		}
		return listOf(all, next), err
	})
	route(a, "GET", artifactsPath+"/{sha256}", "getArtifact", "What is known of a file, and how much of it has arrived", func(ctx context.Context, in *artifactRef) (*body[artifact.File], error) {
		f, err := a.Artifacts.Get(ctx, in.SHA256)
		return &body[artifact.File]{f}, err
	})
	route(a, "POST", artifactsPath+"/prune", "pruneArtifacts", "Remove files that no release names", func(ctx context.Context, in *pruneArtifacts) (*body[list[artifact.File]], error) {
		all, err := a.Artifacts.Prune(ctx, actorOf(ctx), time.Duration(in.Body.UnusedSeconds)*time.Second, in.Body.DryRun)
		return listOf(all, ""), err
	})
	mux.HandleFunc("GET "+contentPath, a.permitted("readArtifact", a.sendArtifact))
	mux.HandleFunc("PUT "+contentPath, a.permitted("writeArtifact", a.takePart))
	a.describeContent()
}

// describeContent adds to the description what the framework does not handle,
// as its handlers have whole bodies in memory.
func (a *api) describeContent() {
	files := map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}}}
	sha256 := &huma.Param{Name: "sha256", In: "path", Required: true, Schema: &huma.Schema{Type: "string", Pattern: "^[0-9a-f]{64}$"}}
	failed := &huma.Response{Description: "A problem", Content: map[string]*huma.MediaType{"application/problem+json": {Schema: a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")}}}
	text := func(name, in, about string, required bool) *huma.Param {
		return &huma.Param{Name: name, In: in, Description: about, Required: required, Schema: &huma.Schema{Type: "string"}}
	}
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "readArtifact", Method: "GET", Path: contentPath, Summary: "The content of a file; ranges and ETags work", Tags: []string{"artifacts"},
		Parameters: []*huma.Param{sha256, text("Range", "header", "Such as bytes=1048576-", false)},
		Responses:  map[string]*huma.Response{"200": {Description: "All of it", Content: files}, "206": {Description: "The part asked for", Content: files}, "default": failed},
	})
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "writeArtifact", Method: "PUT", Path: contentPath, Tags: []string{"artifacts"},
		Summary:     "Send a part of a file, in order; the last one finishes it",
		Description: fmt.Sprintf("A part has at most %d bytes and, unless it is the last, at least %d. A file of which all has arrived and that is not finished is finished by bytes */SIZE without a body.", artifact.MaxPart, artifact.MinPart),
		Parameters:  []*huma.Param{sha256, text("Content-Range", "header", "Such as bytes 0-8388607/20971520; without it the body is all of the file", false), text("file", "query", "The file's name", true)},
		RequestBody: &huma.RequestBody{Content: files},
		Responses: map[string]*huma.Response{
			"200":     {Description: "How far it is", Content: map[string]*huma.MediaType{"application/json": {Schema: a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[artifact.File](), true, "File")}}},
			"default": failed,
		},
	})
}

// sendArtifact serves a file's content, or ranges of it.
func (a *api) sendArtifact(w http.ResponseWriter, r *http.Request) {
	content, err := a.Artifacts.Open(r.Context(), r.PathValue("sha256"))
	if err != nil {
		a.logInternal(r.Context(), "readArtifact", err)
		writeProblem(w, r, err)
		return
	}
	defer func() {
		if err := content.Close(); err != nil {
			a.Logger.Warn("artifact not closed", "artifact", content.About.SHA256, "error", err)
		}
	}()
	header := w.Header()
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": content.About.File}))
	header.Set("ETag", quote(content.About.SHA256))
	header.Set("Cache-Control", "private, max-age=31536000, immutable")
	http.ServeContent(w, r, "", content.About.CreatedAt, content)
}

// partWait is how long a part may take to arrive.
const partWait = 10 * time.Minute

// takePart takes a part of a file.
func (a *api) takePart(w http.ResponseWriter, r *http.Request) {
	part, err := partOf(r)
	if err == nil {
		err = http.NewResponseController(w).SetReadDeadline(time.Now().Add(partWait))
	}
	if err == nil {
		var f artifact.File
		if f, err = a.Artifacts.Write(r.Context(), actorOf(r.Context()), part, r.Body); err == nil {
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(f); err != nil {
				slog.Debug("answer not delivered", "path", r.URL.Path, "error", err)
			}
			return
		}
	}
	if r.Context().Err() == nil {
		a.logInternal(r.Context(), "writeArtifact", err)
	}
	writeProblem(w, r, err)
}

var contentRange = regexp.MustCompile(`^bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18})$`)

// limited bounds what a request may bring: parts of files, and what gates are
// given to read, may be larger than other requests.
func limited(mux http.Handler) http.Handler {
	usual, parts, uploads := http.MaxBytesHandler(mux, maxBody), http.MaxBytesHandler(mux, maxPartBody), http.MaxBytesHandler(mux, maxUpload)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && isContent(r.URL.Path):
			parts.ServeHTTP(w, r)
		case isUpload(r):
			uploads.ServeHTTP(w, r)
		default:
			usual.ServeHTTP(w, r)
		}
	})
}

// isContent reports whether a path is that of a file's content.
func isContent(path string) bool {
	rest, found := strings.CutPrefix(path, artifactsPath+"/")
	return found && strings.HasSuffix(rest, "/content")
}

// partOf reads which part of a file a request brings.
func partOf(r *http.Request) (artifact.Part, error) {
	p := artifact.Part{SHA256: r.PathValue("sha256"), File: r.URL.Query().Get("file"), Length: r.ContentLength}
	if p.Length < 0 {
		return p, problem.New(problem.Invalid, "say how long the part is").At("Content-Length")
	}
	said := r.Header.Get("Content-Range")
	if said == "" {
		p.Size = p.Length
		return p, nil
	}
	found := contentRange.FindStringSubmatch(strings.TrimSpace(said))
	if found == nil {
		return p, problem.New(problem.Invalid, "it reads bytes FIRST-LAST/SIZE, or bytes */SIZE, not %q", said).At("Content-Range")
	}
	number := func(text string) int64 {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0 // none was said; others have at most 18 digits
		}
		return n
	}
	if p.Size = number(found[3]); found[1] == "" {
		p.Offset = p.Size
	} else {
		p.Offset = number(found[1])
	}
	if found[1] == "" && p.Length != 0 || found[1] != "" && number(found[2])-p.Offset+1 != p.Length {
		return p, problem.New(problem.Invalid, "%s does not fit a body of %d bytes", said, p.Length).At("Content-Range")
	}
	return p, nil
}
