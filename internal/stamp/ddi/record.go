package ddi

import (
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Record is what is remembered of a device as an update client.
type Record struct {
	Client     Client            `json:"client,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	// Told says that the attributes were sent since they were last asked for.
	Told bool `json:"told,omitempty"`
	// Action is the order that the client has begun last; nil before the first.
	Action *Action `json:"action,omitempty"`
	// Installed is the last that ended well.
	Installed *link.UpdateOrder `json:"installed,omitempty"`
}

// Action is an order as far as a client has come with it. The client begins it
// with its first feedback; before that nothing is remembered.
type Action struct {
	Order link.UpdateOrder `json:"order"`
	// Written says that what was ordered is in place and may run after the next
	// start, so that it is too late to stop.
	Written bool `json:"written,omitempty"`
	// Unstoppable says that the client was told to stop and would not.
	Unstoppable bool   `json:"unstoppable,omitempty"`
	Result      Result `json:"result,omitempty"`
	// Unconfirmed is a success of which the running version is still to tell.
	Unconfirmed bool     `json:"unconfirmed,omitempty"`
	Status      string   `json:"status,omitempty"`
	Messages    []string `json:"messages,omitempty"` // the last ones
	// Last is a digest of the last feedback: it comes again where the client
	// did not hear our answer.
	Last string `json:"last,omitempty"`
	// Said is what the stamp was told last of the action.
	Said link.UpdateReport `json:"said,omitzero"`
}

// Result is how an action ended; empty while it has not.
type Result string

// The results.
const (
	Succeeded Result = "success"
	Failed    Result = "failure"
	Canceled  Result = "canceled"
)

// Offer is the one piece of work that a poll shows: an order, or that it is to
// be stopped.
type Offer struct {
	Order link.UpdateOrder
	Stop  bool
}

// Offer says what the client is to work on. current is the device's order, nil
// when it has none; due says that there is something to do about it now.
//
// What a client has begun stays until it ends, as a link that disappears
// between installation and restart loses the result for ever. It is stopped
// only before it is written: a client acknowledges later ones, and boots the
// new software all the same.
func (r Record) Offer(current *link.UpdateOrder, due bool) (Offer, bool) {
	if a := r.Action; a != nil && a.Result == "" {
		same := current != nil && current.Order == a.Order.Order
		return Offer{Order: a.Order, Stop: !same && !a.Written && !a.Unstoppable}, true
	}
	if current == nil || !due || r.Action != nil && current.Order <= r.Action.Order.Order {
		return Offer{}, false
	}
	return Offer{Order: *current}, true
}

// begunInstalling reports whether a client is past fetching what an order names.
func (r Record) begunInstalling(id int64) bool {
	a := r.Action
	return a != nil && a.Order.Order == id && a.Status != "DOWNLOAD" && a.Status != "DOWNLOADED"
}

// refusal is a failure with the status that clients know it by.
type refusal struct {
	error
	status int
}

func (r refusal) Unwrap() error { return r.error }

var (
	errClosed    = refusal{problem.New(problem.Conflict, "the action is closed"), http.StatusGone}
	errNoAction  = problem.New(problem.NotFound, "the device has no such action")
	errNotToStop = refusal{problem.New(problem.Conflict, "the action is not to be stopped"), http.StatusMethodNotAllowed}
)

// begun is the action that feedback is about. The first feedback is the last
// moment to hold a client back: it is taken only while the order is offered.
func (r Record) begun(id int64, offer Offer, offered bool) (Action, error) {
	if r.Action != nil && id <= r.Action.Order.Order {
		switch {
		case id < r.Action.Order.Order || r.Action.Result != "":
			return Action{}, errClosed
		default:
			return *r.Action, nil
		}
	}
	if !offered || offer.Stop || offer.Order.Order != id {
		return Action{}, errNoAction
	}
	return Action{Order: offer.Order}, nil
}

// Feedback takes what a client says of an action: the record then, and what
// that means for the stamp, nil where it means nothing new.
func (r Record) Feedback(id int64, f Feedback, offer Offer, offered bool) (Record, *link.UpdateReport, error) {
	a, err := r.begun(id, offer, offered)
	if err != nil {
		return r, nil, err
	}
	if a.Last == f.digest() {
		return r, nil, nil
	}
	a.note(f)
	report := &link.UpdateReport{Order: id}
	switch f.Execution {
	case "closed":
		r.end(&a, f, report)
	case "canceled":
		report = nil // noted only: what ends a cancellation is the answer to it
	case "scheduled", "rejected":
		report.Phase, report.Error = link.OrderWaiting, reasonOf(f.Details)
	case "download", "downloaded":
		report.Phase = link.OrderDownloading
	default:
		a.Written = a.Written || slices.Contains(f.Details, allWritten) || f.Of > 0 && f.Done == f.Of
		report.Phase, report.Progress = link.OrderInstalling, f.percent()
		if a.Written {
			report.Progress = 100
		}
	}
	switch {
	case report != nil && reflect.DeepEqual(*report, a.Said):
		report = nil // one more line of a log
	case report != nil:
		a.Said = *report
	}
	r.Action = &a
	return r, report, nil
}

// What SWUpdate says once everything is written; after a restart with the old
// software; and when it was told to skip an update, which it calls a success.
const (
	allWritten = "All Chunks Installed."
	fellBack   = "Update Failed."
	skipped    = "Skipped Update."
)

// end closes an action as the client says.
func (r *Record) end(a *Action, f Feedback, report *link.UpdateReport) {
	r.Told = false // what it runs may be something else now
	if f.Finished == "failure" || slices.Contains(f.Details, skipped) {
		a.Result, report.Phase, report.Error = Failed, link.OrderFailed, reasonOf(a.Messages)
		if a.Written || slices.Contains(f.Details, fellBack) {
			report.Phase = link.OrderRolledBack
		}
		return
	}
	a.Result, a.Written = Succeeded, true
	r.Installed = &a.Order
	if !r.confirms(a.Order) {
		a.Unconfirmed = true
		report.Phase, report.Progress = link.OrderInstalling, 100
		return
	}
	report.Phase, report.Software = link.OrderConfirmed, versionsOf(a.Order)
}

// CancelFeedback takes the answer to a cancellation.
func (r Record) CancelFeedback(id int64, f Feedback, offer Offer, offered bool) (Record, *link.UpdateReport, error) {
	if r.Action == nil || id > r.Action.Order.Order {
		return r, nil, errNoAction
	}
	if id < r.Action.Order.Order || r.Action.Result != "" {
		return r, nil, errClosed
	}
	if !offered || !offer.Stop {
		return r, nil, errNotToStop
	}
	a := *r.Action
	a.note(f)
	var report *link.UpdateReport
	switch {
	case f.Execution == "closed" && f.Finished != "failure":
		a.Result, r.Told = Canceled, false
		report = &link.UpdateReport{Order: id, Phase: link.OrderFailed, Error: "stopped: something else was ordered"}
	case f.Execution == "closed", f.Execution == "rejected":
		a.Unstoppable = true
	}
	r.Action = &a
	return r, report, nil
}

// versionsOf are what a device runs that has carried out an order.
func versionsOf(o link.UpdateOrder) map[string]string {
	versions := map[string]string{}
	for _, s := range o.Software {
		versions[s.Name] = s.Version
	}
	return versions
}

// Runs takes which software a device says it runs, and returns what that means
// for the stamp: where it is what an action was to bring, that is confirmed. How
// the action stands is told again with it, as a report is the whole of what a
// device says of its order, and the one before may not have been looked at yet.
func (r Record) Runs(hardware string, software map[string]string, current *link.UpdateOrder) (Record, link.UpdateReport) {
	report := link.UpdateReport{}
	if a := r.Action; a != nil && current != nil && current.Order == a.Order.Order {
		report = a.Said
	}
	report.Hardware, report.Software = hardware, software
	if r.Action == nil || !r.Action.Unconfirmed {
		return r, report
	}
	for name, version := range versionsOf(r.Action.Order) {
		if software[name] != version {
			return r, report
		}
	}
	a := *r.Action
	a.Unconfirmed = false
	a.Said = link.UpdateReport{Order: a.Order.Order, Phase: link.OrderConfirmed}
	r.Action = &a
	report.Order, report.Phase, report.Progress = a.Order.Order, link.OrderConfirmed, 0
	return r, report
}

const (
	maxMessages = 50
	maxMessage  = 512
)

// note keeps what was said, of which there may be much, as far as there is room.
func (a *Action) note(f Feedback) {
	a.Last, a.Status = f.digest(), strings.ToUpper(f.Execution)
	kept := slices.Clone(a.Messages)
	for _, text := range f.Details {
		if text = bounded(text); text != "" {
			kept = append(kept, text)
		}
	}
	a.Messages = kept[max(0, len(kept)-maxMessages):]
}

// bounded is a text that databases and people can read.
func bounded(text string) string {
	text = strings.ToValidUTF8(text, "�")
	text = strings.TrimSpace(strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, text))
	if len(text) <= maxMessage {
		return text
	}
	return strings.ToValidUTF8(text[:maxMessage], "")
}

// reasonOf is what messages say about a failure: those that speak of errors, the
// first of which is mostly the cause of the others, or else the last one.
func reasonOf(messages []string) string {
	var errors []string
	last := ""
	for _, text := range messages {
		if text = bounded(text); text != "" {
			last = text
		}
		if strings.Contains(strings.ToLower(text), "error") && !slices.Contains(errors, text) {
			errors = append(errors, text)
		}
	}
	if len(errors) == 0 {
		return last
	}
	return bounded(strings.Join(errors, "; "))
}
