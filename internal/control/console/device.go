package console

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/decommission"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

var devicePage = newPage("device.html", "device_live.html", "device_twin.html", "device_ask.html")

const (
	shownMessages = 20
	shownEvents   = 20
)

// deviceView is the page of a device. Its parts are sent again as they change.
type deviceView struct {
	base
	fleet.Detail
	Environments []resource.Environment
	Next         string // environment the move dialog proposes
	Twin         twinView
	Method       methodView
	Send         sendView
	Queue        []link.QueuedMessage
	QueueProblem string
	Messages     []recordView
	Events       []recordView
	LogProblem   string
	Placement    *link.Placement // nil where provisioning does not say
	Update       *link.Update    // nil where it is to run no release
	UpdateAway   string          // why that is not known
	Retired      *decommission.Decommission
}

// CanRetire says whether the device may be taken out of use, and CanReturn
// whether that may be taken back.
func (v deviceView) CanRetire() bool {
	return v.Retired == nil || v.Retired.State == decommission.Lifted
}

// CanReturn is whether a decommissioning may be taken back now.
func (v deviceView) CanReturn() bool {
	if v.Retired == nil {
		return false
	}
	_, err := decommission.Lift(*v.Retired, "", "")
	return err == nil
}

// Path is the page's address.
func (v deviceView) Path() string { return string(deviceURL(v.DeviceID)) }

// Here says whether a stamp holds the device and answers for it.
func (v deviceView) Here() bool { return v.Stamp != "" && v.StampReachable && v.TwinETag != "" }

// Steps are the transitions, newest first.
func (v deviceView) Steps() []link.Transition {
	steps := slices.Clone(v.Transitions)
	slices.Reverse(steps)
	return steps
}

// Stays are where the device was, newest first.
func (v deviceView) Stays() []fleet.Stay {
	stays := slices.Clone(v.History)
	slices.Reverse(stays)
	return stays
}

func (c *console) device(w http.ResponseWriter, r *http.Request, s access.Session) error {
	view, err := c.deviceView(r, s)
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, devicePage, "", view)
}

// deviceView gathers the whole page. What a stamp does not answer is left out
// and said to be.
func (c *console) deviceView(r *http.Request, s access.Session) (deviceView, error) {
	ctx, id := r.Context(), r.PathValue("id")
	view := deviceView{base: inside(r, s, "devices", id)}
	if err := c.refresh(ctx, &view, id); err != nil {
		return view, err
	}
	view.Twin = newTwinView(view.Detail.Twin, view.TwinETag)
	view.Method, view.Send = newMethodView(), newSendView()
	var err error
	if view.Retired, err = c.retired(ctx, id); err != nil {
		return view, err
	}
	if view.Stamp != "" {
		messages, err := c.Fleet.Telemetry(ctx, "", link.ReadLog{DeviceID: id, Last: true, Limit: shownMessages})
		events, err2 := c.Fleet.Events(ctx, "", link.ReadLog{DeviceID: id, Last: true, Limit: shownEvents})
		for _, err := range []error{err, err2} {
			if err != nil {
				view.LogProblem = problem.Of(err).Message
			}
		}
		view.Messages, view.Events = newestFirst(messages.Items, shownMessages), newestFirst(events.Items, shownEvents)
	}
	if view.Environments, err = c.Environments.List(ctx); err == nil && len(view.Environments) > 0 {
		view.Next = c.nextAfter(view.Environment, view.Environments)
	}
	return view, err
}

// refresh reads again what changes by itself: the facts and the queue.
func (c *console) refresh(ctx context.Context, view *deviceView, id string) error {
	detail, err := c.Fleet.Show(ctx, id)
	if err != nil {
		return err
	}
	view.Detail, view.Queue, view.QueueProblem, view.Placement, view.Update, view.UpdateAway = detail, nil, "", nil, nil, ""
	// One that a back end made on a stamp was never placed.
	if p, err := c.Fleet.Placement(ctx, id); err == nil {
		view.Placement = &p
	}
	if detail.Stamp == "" {
		return nil
	}
	queue, err := c.Fleet.Queued(ctx, id)
	if err != nil {
		view.QueueProblem = problem.Of(err).Message
	}
	view.Queue = queue.Items
	update, err := c.Fleet.Update(ctx, detail.Stamp, id)
	switch {
	case err == nil:
		view.Update = &update
	case !problem.Is(err, problem.NotFound):
		view.UpdateAway = problem.Of(err).Message
	}
	return nil
}

// recordView is one line of the telemetry or the event log.
type recordView struct {
	link.LogRecord
	Text string // the body, on one line
	Size int
}

// Details are the fields of an event, "protocol mqtt, remote 127.0.0.1:5000".
func (v recordView) Details() string {
	fields := map[string]any{}
	for name, value := range v.Properties {
		fields[name] = value
	}
	if err := decode(v.Body, &fields); err != nil {
		return v.Text
	}
	all := make([]string, 0, len(fields))
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		all = append(all, fmt.Sprint(name, " ", fields[name]))
	}
	return strings.Join(all, ", ")
}

// bodyShown is how much of a body a line shows; the rest unfolds.
const bodyShown = 4000

func newRecordView(r link.LogRecord) recordView {
	view := recordView{LogRecord: r}
	switch {
	case len(r.Body) > 0:
		view.Size, view.Text = len(r.Body), compact(r.Body)
	case len(r.BodyBase64) > 0:
		view.Size, view.Text = len(r.BodyBase64), printable(r.BodyBase64)
	}
	view.Text = short(view.Text, bodyShown)
	return view
}

// newestFirst turns a page of a log around.
func newestFirst(items []link.LogRecord, most int) []recordView {
	views := make([]recordView, 0, min(len(items), most))
	for i := len(items) - 1; i >= 0 && len(views) < most; i-- {
		views = append(views, newRecordView(items[i]))
	}
	return views
}

func compact(raw json.RawMessage) string {
	return strings.Join(strings.Fields(string(raw)), " ")
}

// printable shows a body that is no JSON, with what cannot be printed as dots.
func printable(body []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return '·'
		}
		return r
	}, strings.ToValidUTF8(string(body[:min(len(body), bodyShown)]), "\uFFFD"))
}
