package console

import (
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// devicePage is everything about one device.
type devicePage struct {
	base
	Device       fleet.Detail
	Environments []string // it can be moved to
	Telemetry    []link.LogRecord
	Recent       string // the same as JSON, for the plot
	Events       []link.LogRecord
	Queue        []link.QueuedMessage
	Twin         twinForm
}

// twinForm is the editor of tags and desired properties.
type twinForm struct {
	ID, CSRF      string
	ETag          string
	Tags, Desired string // as they are being edited
	Reported      string
	Notice        *notice
	// On a conflict, what others have made of it meanwhile.
	Theirs *twinForm
}

// document is the part of a twin the editor shows.
type document struct {
	ETag       string          `json:"etag"`
	Tags       json.RawMessage `json:"tags"`
	Properties struct {
		Desired  map[string]any `json:"desired"`
		Reported map[string]any `json:"reported"`
	} `json:"properties"`
}

// formOf makes an editor of a twin, without metadata.
func formOf(id, csrf string, twin json.RawMessage) (twinForm, error) {
	form := twinForm{ID: id, CSRF: csrf}
	if len(twin) == 0 {
		return form, nil
	}
	var d document
	if err := json.Unmarshal(twin, &d); err != nil {
		return form, err
	}
	form.ETag, form.Tags = d.ETag, pretty(d.Tags)
	for _, part := range []struct {
		values map[string]any
		into   *string
	}{{d.Properties.Desired, &form.Desired}, {d.Properties.Reported, &form.Reported}} {
		delete(part.values, "$metadata")
		delete(part.values, "$version")
		text, err := json.MarshalIndent(part.values, "", "  ")
		if err != nil {
			return form, err
		}
		*part.into = string(text)
	}
	return form, nil
}

// savedTwin says that the twin was stored.
var savedTwin = &notice{"good", "Saved. The device is told at once if it is connected."}

const recentRecords = 100

func (c *console) device(w http.ResponseWriter, r *http.Request, s access.Session) error {
	id, ctx := r.PathValue("id"), r.Context()
	d, err := c.Fleet.Show(ctx, id)
	if err != nil {
		return err
	}
	page := devicePage{base: c.base(r, s, d.DeviceID, "devices"), Device: d, Recent: "[]"}
	if page.Twin, err = formOf(id, s.CSRF, d.Twin); err != nil {
		return err
	}
	if r.URL.Query().Get("saved") == "twin" {
		page.Twin.Notice = savedTwin
	}
	levels, err := c.Fleet.Overview(ctx)
	if err != nil {
		return err
	}
	for _, l := range levels {
		if l.Name != d.Environment {
			page.Environments = append(page.Environments, l.Name)
		}
	}
	if d.Stamp != "" {
		if err := c.readLogs(r, &page, id); err != nil {
			c.Logger.Debug("logs of a device not read", "device", id, "error", err)
		}
	}
	return c.show(w, http.StatusOK, "device", "layout", page)
}

// readLogs fills in what the device's stamp keeps of it.
func (c *console) readLogs(r *http.Request, page *devicePage, id string) error {
	telemetry, err := c.Fleet.Telemetry(r.Context(), "", link.ReadLog{DeviceID: id, Last: true, Limit: recentRecords})
	if err != nil {
		return err
	}
	page.Telemetry = telemetry.Items
	recent, err := json.Marshal(append([]link.LogRecord{}, telemetry.Items...))
	if err != nil {
		return err
	}
	page.Recent = string(recent)
	events, err := c.Fleet.Events(r.Context(), "", link.ReadLog{DeviceID: id, Last: true, Limit: 20})
	if err != nil {
		return err
	}
	page.Events = events.Items
	queue, err := c.Fleet.Queued(r.Context(), id)
	page.Queue = queue.Items
	return err
}

func (c *console) devicePanel(w http.ResponseWriter, r *http.Request, _ access.Session) error {
	d, err := c.Fleet.Show(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return c.show(w, http.StatusOK, "device", "panel", devicePage{Device: d})
}

// saveTwin stores the edited twin if nobody else changed it meanwhile;
// otherwise it shows both versions.
func (c *console) saveTwin(w http.ResponseWriter, r *http.Request, s access.Session) error {
	id, posted := r.PathValue("id"), r.PostForm
	form := twinForm{ID: id, CSRF: s.CSRF, ETag: posted.Get("etag"), Tags: posted.Get("tags"), Desired: posted.Get("desired"), Reported: posted.Get("reported")}
	patch, err := form.document()
	if err == nil {
		var twin link.Twin
		if twin, err = c.Fleet.ReplaceTwin(r.Context(), s.Actor, id, form.ETag, patch); err == nil {
			if form, err = formOf(id, s.CSRF, twin.Document); err == nil {
				form.Notice = savedTwin
			}
		}
	}
	status := http.StatusOK
	if err != nil {
		status = statusOf(err)
		form.Notice = &notice{"bad", problem.Of(err).Error()}
	}
	if problem.Is(err, problem.Stale) {
		current, err := c.Fleet.Twin(r.Context(), id)
		if err != nil {
			return err
		}
		theirs, err := formOf(id, s.CSRF, current.Document)
		if err != nil {
			return err
		}
		form.Theirs, form.ETag = &theirs, theirs.ETag
		form.Notice = &notice{"bad", "Somebody else changed the twin while you were editing. Theirs is on the right; saving again replaces it with yours."}
	}
	return c.answerForm(w, r, status, id, "twin", form)
}

// document is what the editor holds, as a twin.
func (f twinForm) document() (json.RawMessage, error) {
	for name, text := range map[string]string{"tags": f.Tags, "desired": f.Desired} {
		if !json.Valid([]byte(text)) {
			return nil, problem.New(problem.Invalid, "the text is not JSON").At(name)
		}
	}
	return json.Marshal(map[string]any{"tags": json.RawMessage(f.Tags), "properties": map[string]any{"desired": json.RawMessage(f.Desired)}})
}

// answerForm shows a form's block again; without scripts the page itself.
func (c *console) answerForm(w http.ResponseWriter, r *http.Request, status int, id, block string, data any) error {
	if r.Header.Get("HX-Request") == "" && status == http.StatusOK {
		http.Redirect(w, r, "/devices/"+url.PathEscape(id)+"?saved="+block, http.StatusSeeOther)
		return nil
	}
	return c.show(w, status, "device", block, data)
}

// methodResult shows how a method call went.
type methodResult struct {
	Notice *notice
	Status int
	Answer string
}

func (c *console) invokeMethod(w http.ResponseWriter, r *http.Request, s access.Session) error {
	id, form := r.PathValue("id"), r.PostForm
	req := link.InvokeMethod{DeviceID: id, Method: form.Get("method"), ResponseTimeout: 15 * time.Second}
	if text := form.Get("payload"); text != "" {
		if !json.Valid([]byte(text)) {
			return problem.New(problem.Invalid, "the payload is not JSON; leave it empty for none").At("payload")
		}
		req.Payload = json.RawMessage(text)
	}
	result, err := c.Fleet.InvokeMethod(r.Context(), s.Actor, req)
	if err != nil {
		return err
	}
	return c.show(w, http.StatusOK, "device", "methodResult", methodResult{nil, result.Status, pretty(result.Payload)})
}

// queuePanel is the list of waiting messages with a notice.
type queuePanel struct {
	ID, CSRF string
	Queue    []link.QueuedMessage
	Notice   *notice
}

func (c *console) sendMessage(w http.ResponseWriter, r *http.Request, s access.Session) error {
	id := r.PathValue("id")
	m, err := c.Fleet.SendMessage(r.Context(), s.Actor, link.SendMessage{DeviceID: id, Body: []byte(r.PostForm.Get("body"))})
	if err != nil {
		return err
	}
	return c.showQueue(w, r, s, id, &notice{"good", "Queued " + m.MessageID + "."})
}

func (c *console) purgeMessages(w http.ResponseWriter, r *http.Request, s access.Session) error {
	id := r.PathValue("id")
	if _, err := c.Fleet.PurgeMessages(r.Context(), s.Actor, id); err != nil {
		return err
	}
	return c.showQueue(w, r, s, id, &notice{"good", "Dropped."})
}

func (c *console) showQueue(w http.ResponseWriter, r *http.Request, s access.Session, id string, n *notice) error {
	queue, err := c.Fleet.Queued(r.Context(), id)
	if err != nil {
		return err
	}
	return c.answerForm(w, r, http.StatusOK, id, "queue", queuePanel{id, s.CSRF, queue.Items, n})
}
