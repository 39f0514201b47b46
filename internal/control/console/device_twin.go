package console

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
)

// twinView is the editor: what is being written, the version it began from,
// and the version that is there now if that is another.
type twinView struct {
	ETag                  string
	Tags, Desired         string // as edited
	BaseTags, BaseDesired string // as they were when the editing began
	Version               int64
	Reported              string
	Conflict              *twinConflict
	TagsProblem           string
	DesiredProblem        string
	Problem               string
	Saved                 bool
}

// twinConflict is what somebody else has saved in the meantime.
type twinConflict struct {
	Tags, Desired string
}

// twinDocument is a twin as stamps tell it.
type twinDocument struct {
	Version    int64          `json:"version"`
	Tags       map[string]any `json:"tags"`
	Properties struct {
		Desired  map[string]any `json:"desired"`
		Reported map[string]any `json:"reported"`
	} `json:"properties"`
}

func newTwinView(document json.RawMessage, etag string) twinView {
	var d twinDocument
	if err := decode(document, &d); err != nil {
		return twinView{ETag: etag, Problem: "the twin could not be read: " + err.Error()}
	}
	view := twinView{ETag: etag, Version: d.Version, Tags: written(d.Tags), Desired: written(d.Properties.Desired), Reported: written(d.Properties.Reported)}
	view.BaseTags, view.BaseDesired = view.Tags, view.Desired
	return view
}

// decode reads JSON and keeps numbers as they are written.
func decode(text []byte, into any) error {
	if len(text) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(into)
}

// written sets out a section for reading and editing, without what the hub
// keeps in it.
func written(section map[string]any) string {
	plain := map[string]any{}
	for key, value := range section {
		if key != "$metadata" && key != "$version" {
			plain[key] = value
		}
	}
	text, err := json.MarshalIndent(plain, "", "  ")
	if err != nil {
		return "{}" // what was decoded can be encoded
	}
	return string(text)
}

func (c *console) saveTwin(w http.ResponseWriter, r *http.Request, s access.Session) error {
	form := r.PostForm
	edited := twinView{ETag: form.Get("etag"), Tags: form.Get("tags"), Desired: form.Get("desired"), BaseTags: form.Get("baseTags"), BaseDesired: form.Get("baseDesired")}
	cause := c.writeTwin(r, s, &edited, form.Get("action") == "reapply")
	if cause == nil && !fromHTMX(r) {
		http.Redirect(w, r, string(deviceURL(r.PathValue("id")))+"#twin", http.StatusSeeOther)
		return nil
	}
	view, err := c.deviceView(r, s)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if cause == nil {
		view.Twin.Saved = true
	} else {
		status = statusOf(problem.Of(cause).Kind)
		view.Twin = edited.after(cause, view.Twin)
	}
	return show(w, r, status, devicePage, "twin", view)
}

// after is the editor once a save failed: what was written stays, and beside
// it stands what is there now if somebody else was faster.
func (edited twinView) after(cause error, now twinView) twinView {
	edited.Reported, edited.Version = now.Reported, now.Version
	if !problem.Is(cause, problem.Stale) {
		if edited.TagsProblem == "" && edited.DesiredProblem == "" {
			edited.Problem = problem.Of(cause).Error()
		}
		return edited
	}
	edited.ETag = now.ETag
	edited.Conflict = &twinConflict{Tags: now.Tags, Desired: now.Desired}
	return edited
}

// writeTwin saves what was written in place of the version it began from; or
// applies only the changes that were made to the version that is there now.
func (c *console) writeTwin(r *http.Request, s access.Session, edited *twinView, reapply bool) error {
	tags, err := section(edited.Tags)
	if err != nil {
		edited.TagsProblem = problem.Of(err).Message
		return err
	}
	desired, err := section(edited.Desired)
	if err != nil {
		edited.DesiredProblem = problem.Of(err).Message
		return err
	}
	write := c.Fleet.ReplaceTwin
	if reapply {
		if tags, desired, err = changes(edited, tags, desired); err != nil {
			return err
		}
		write = c.Fleet.PatchTwin
	}
	document, err := json.Marshal(map[string]any{"tags": tags, "properties": map[string]any{"desired": desired}})
	if err != nil {
		return err
	}
	_, err = write(r.Context(), s.Actor, r.PathValue("id"), edited.ETag, document)
	return err
}

func changes(edited *twinView, tags, desired map[string]any) (map[string]any, map[string]any, error) {
	baseTags, err := section(edited.BaseTags)
	if err != nil {
		return nil, nil, err
	}
	baseDesired, err := section(edited.BaseDesired)
	if err != nil {
		return nil, nil, err
	}
	return mergePatch(baseTags, tags), mergePatch(baseDesired, desired), nil
}

// section reads one section of a twin as somebody wrote it.
func section(text string) (map[string]any, error) {
	var value map[string]any
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		return nil, problem.New(problem.Invalid, "write a JSON object such as {\"site\": \"north\"}: %w", err)
	}
	if d.More() {
		return nil, problem.New(problem.Invalid, "there is text after the end of the JSON object")
	}
	if value == nil {
		value = map[string]any{}
	}
	return value, nil
}

// mergePatch is the RFC 7396 patch that makes to out of from.
func mergePatch(from, to map[string]any) map[string]any {
	patch := map[string]any{}
	for key, value := range to {
		old, had := from[key]
		if had && reflect.DeepEqual(old, value) {
			continue
		}
		oldObject, wasObject := old.(map[string]any)
		object, isObject := value.(map[string]any)
		if wasObject && isObject {
			patch[key] = mergePatch(oldObject, object)
			continue
		}
		patch[key] = value
	}
	for key := range from {
		if _, kept := to[key]; !kept {
			patch[key] = nil
		}
	}
	return patch
}
