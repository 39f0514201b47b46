package console

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// methodView is the form for a direct method with what came of it.
type methodView struct {
	Method, Payload string
	Timeout         int // seconds
	Problem         string
	Result          *link.MethodResult
	Took            time.Duration
}

const (
	defaultTimeout = 30
	minTimeout     = 5
	maxTimeout     = 300
)

func newMethodView() methodView { return methodView{Timeout: defaultTimeout} }

func (c *console) invokeMethod(w http.ResponseWriter, r *http.Request, s access.Session) error {
	asked := methodView{Method: strings.TrimSpace(r.PostForm.Get("method")), Payload: strings.TrimSpace(r.PostForm.Get("payload"))}
	begun := c.now()
	result, cause := c.runMethod(r, s, &asked)
	view, err := c.deviceView(r, s)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if cause != nil {
		asked.Problem, status = problem.Of(cause).Message, statusOf(problem.Of(cause).Kind)
	} else {
		asked.Result, asked.Took = &result, c.now().Sub(begun).Round(time.Millisecond)
	}
	view.Method = asked
	return show(w, r, status, devicePage, "method", view)
}

func (c *console) runMethod(r *http.Request, s access.Session, asked *methodView) (link.MethodResult, error) {
	var err error
	asked.Timeout, err = strconv.Atoi(r.PostForm.Get("timeout"))
	if err != nil || asked.Timeout < minTimeout || asked.Timeout > maxTimeout {
		asked.Timeout = defaultTimeout
		return link.MethodResult{}, problem.New(problem.Invalid, "the time to wait is %d to %d whole seconds", minTimeout, maxTimeout)
	}
	if asked.Method == "" {
		return link.MethodResult{}, problem.New(problem.Invalid, "name the method to run")
	}
	if asked.Payload != "" && !json.Valid([]byte(asked.Payload)) {
		return link.MethodResult{}, problem.New(problem.Invalid, "the payload is not JSON; a text is written in quotes")
	}
	req := link.InvokeMethod{DeviceID: r.PathValue("id"), Method: asked.Method, ResponseTimeout: time.Duration(asked.Timeout) * time.Second}
	if asked.Payload != "" {
		req.Payload = json.RawMessage(asked.Payload)
	}
	return c.Fleet.InvokeMethod(r.Context(), s.Actor, req)
}

// sendView is the form for a cloud-to-device message.
type sendView struct {
	Body    string
	Minutes int // it waits at most
	Problem string
	Done    string
}

const (
	defaultMinutes = 60
	maxMinutes     = 48 * 60
)

func newSendView() sendView { return sendView{Minutes: defaultMinutes} }

func (c *console) sendMessage(w http.ResponseWriter, r *http.Request, s access.Session) error {
	form := sendView{Body: r.PostForm.Get("body")}
	queued, err := c.queue(r, s, &form)
	if err == nil {
		form = newSendView()
		form.Done = "Queued as " + queued.MessageID
	}
	return c.answerQueue(w, r, s, form, err)
}

func (c *console) queue(r *http.Request, s access.Session, form *sendView) (link.QueuedMessage, error) {
	var err error
	form.Minutes, err = strconv.Atoi(r.PostForm.Get("minutes"))
	if err != nil || form.Minutes < 1 || form.Minutes > maxMinutes {
		form.Minutes = defaultMinutes
		return link.QueuedMessage{}, problem.New(problem.Invalid, "a message waits 1 to %d whole minutes", maxMinutes)
	}
	m := link.SendMessage{DeviceID: r.PathValue("id"), Body: []byte(form.Body), TTL: time.Duration(form.Minutes) * time.Minute}
	if json.Valid(m.Body) {
		m.ContentType = "application/json"
	}
	return c.Fleet.SendMessage(r.Context(), s.Actor, m)
}

func (c *console) purgeMessages(w http.ResponseWriter, r *http.Request, s access.Session) error {
	form := newSendView()
	purged, err := c.Fleet.PurgeMessages(r.Context(), s.Actor, r.PathValue("id"))
	if err == nil {
		form.Done = "Dropped " + plural(purged.Total, "message", "messages")
	}
	return c.answerQueue(w, r, s, form, err)
}

// answerQueue shows the queue with what came of a form.
func (c *console) answerQueue(w http.ResponseWriter, r *http.Request, s access.Session, form sendView, cause error) error {
	view, err := c.deviceView(r, s)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if cause != nil {
		form.Problem, status = problem.Of(cause).Message, statusOf(problem.Of(cause).Kind)
	} else if !fromHTMX(r) {
		http.Redirect(w, r, view.Path()+"#messages", http.StatusSeeOther)
		return nil
	}
	view.Send = form
	return show(w, r, status, devicePage, "commands", view)
}
