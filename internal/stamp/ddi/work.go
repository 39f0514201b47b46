package ddi

import (
	"math"
	"net/http"
	"strconv"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// standing is where a device stands as an update client.
type standing struct {
	stored
	current *link.UpdateOrder // what it is to run; nil when it has no order
	offer   Offer
	offered bool
	hold    bool // it may fetch what is offered, and is to wait with the rest
}

// look finds out where a device stands. It writes nothing.
func (e *Edge) look(q *request) (s standing, err error) {
	if s.stored, err = e.records.get(q.ctx, q.sender.DeviceID); err != nil {
		return s, err
	}
	if client := clientOf(q.r.UserAgent()); client != Other {
		s.Client = client
	}
	order, update, found, err := e.Engine.Order(q.ctx, q.sender.DeviceID)
	if err != nil {
		return s, err
	}
	due := false
	if found {
		s.current = &order
		due = e.due(order, update)
	}
	if due {
		open, err := openFor(order, e.Now())
		if err != nil {
			e.Logger.Warn("an order waits for a window that cannot be read", "device", q.sender.DeviceID, "release", order.Release, "error", err)
		}
		// SWUpdate calls an update that it is to hold a success; RAUC's client
		// fetches it beforehand.
		s.hold = !open
		due = open || s.Client == RAUC
	}
	s.offer, s.offered = s.Offer(s.current, due)
	s.hold = s.hold && !s.begunInstalling(order.Order)
	return s, nil
}

// due reports whether there is something to do about an order: it is what the
// device is to run now, and is not settled.
func (e *Edge) due(o link.UpdateOrder, u link.Update) bool {
	if u.Release != o.Release || u.State != link.UpdatePending && u.State != link.UpdateUnreachable {
		return false
	}
	if o.Order < 1 || o.Order > math.MaxInt32 {
		e.Logger.Error("an order has a number that update clients cannot hold", "device", u.DeviceID, "order", o.Order)
		return false
	}
	return len(chunksOf(o, links{})) > 0
}

// poll answers the request a client makes again and again.
func (e *Edge) poll(q *request) error {
	s, err := e.look(q)
	if err != nil {
		return err
	}
	e.Hub.LookedIn(q.sender)
	l := linksOf(q.r, q.at)
	body := rootBody{Links: map[string]href{}}
	body.Config.Polling.Sleep = sleepOf(e.Settings.Poll, q.sender.DeviceID)
	id := strconv.FormatInt(s.offer.Order.Order, 10)
	switch {
	case s.offered && s.offer.Stop:
		body.Links["cancelAction"] = href{l.work("cancelAction/" + id)}
	case s.offered:
		body.Links["deploymentBase"] = href{l.work("deploymentBase/" + id + "?c=" + checksumOf(s.offer.Order))}
	}
	if s.Installed != nil {
		id := strconv.FormatInt(s.Installed.Order, 10)
		body.Links["installedBase"] = href{l.work("installedBase/" + id + "?c=" + checksumOf(*s.Installed))}
	}
	if !s.Told {
		body.Links["configData"] = href{l.work("configData")}
	}
	return e.answer(q, body)
}

// number is the action that a path names.
func number(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 {
		return 0, errNoAction
	}
	return id, nil
}

// deployment shows the order that the client was offered.
func (e *Edge) deployment(q *request) error {
	id, err := number(q.at.rest[1])
	if err != nil {
		return err
	}
	s, err := e.look(q)
	if err != nil {
		return err
	}
	if !s.offered || s.offer.Stop || s.offer.Order.Order != id {
		return errNoAction
	}
	body := e.shown(q, s.offer.Order)
	if s.hold {
		body.Deployment.Update, body.Deployment.Maintenance = "skip", "unavailable"
	}
	if n, err := strconv.Atoi(q.r.URL.Query().Get("actionHistory")); err == nil && n != 0 && s.Action != nil && s.Action.Order.Order == id {
		messages := s.Action.Messages
		if n > 0 {
			messages = messages[max(0, len(messages)-n):]
		}
		body.History = &historyBody{s.Action.Status, messages}
	}
	return e.answer(q, body)
}

func (e *Edge) shown(q *request, o link.UpdateOrder) orderBody {
	return orderBody{
		ID:         strconv.FormatInt(o.Order, 10),
		Deployment: deploymentBody{Download: "forced", Update: "forced", Chunks: chunksOf(o, linksOf(q.r, q.at))},
	}
}

// installed shows the last order that ended well.
func (e *Edge) installed(q *request) error {
	id, err := number(q.at.rest[1])
	if err != nil {
		return err
	}
	s, err := e.records.get(q.ctx, q.sender.DeviceID)
	if err != nil {
		return err
	}
	if s.Installed == nil || s.Installed.Order != id {
		return errNoAction
	}
	return e.answer(q, e.shown(q, *s.Installed))
}

// cancellation shows which action is to be stopped.
func (e *Edge) cancellation(q *request) error {
	id, err := number(q.at.rest[1])
	if err != nil {
		return err
	}
	s, err := e.look(q)
	if err != nil {
		return err
	}
	if !s.offered || !s.offer.Stop || s.offer.Order.Order != id {
		return errNoAction
	}
	text := strconv.FormatInt(id, 10)
	return e.answer(q, map[string]any{"id": text, "cancelAction": map[string]string{"stopId": text}})
}

// confirmation says that nobody need consent: who may start a release has.
func (e *Edge) confirmation(q *request) error {
	return e.answer(q, map[string]any{"autoConfirm": map[string]bool{"active": true}, "_links": map[string]href{}})
}

func (e *Edge) feedback(q *request) error       { return e.hear(q, Record.Feedback) }
func (e *Edge) cancelFeedback(q *request) error { return e.hear(q, Record.CancelFeedback) }

// hearing is what a record makes of feedback.
type hearing func(r Record, id int64, f Feedback, offer Offer, offered bool) (Record, *link.UpdateReport, error)

// hear takes feedback.
func (e *Edge) hear(q *request, take hearing) error {
	id, err := number(q.at.rest[1])
	if err != nil {
		return err
	}
	text, err := read(q)
	if err != nil {
		return err
	}
	f, err := decodeFeedback(text)
	if err != nil {
		return err
	}
	return e.change(q, func(s standing) (Record, *link.UpdateReport, error) {
		return take(s.Record, id, f, s.offer, s.offered)
	})
}

// maxTries is how often a change is tried that others overtake.
const maxTries = 3

// change has the stamp hear what a device's words mean, and then remembers
// them: a device that gets no answer says them again, and the stamp takes them
// again without harm.
func (e *Edge) change(q *request, apply func(standing) (Record, *link.UpdateReport, error)) error {
	for try := 1; ; try++ {
		s, err := e.look(q)
		if err != nil {
			return err
		}
		after, report, err := apply(s)
		if err != nil {
			return err
		}
		if report != nil {
			if err := e.Engine.Report(q.ctx, q.sender.DeviceID, *report); err != nil {
				return err
			}
		}
		if equal(s.Record, after) {
			return nil
		}
		err = e.records.put(q.ctx, q.sender.DeviceID, s.stored, after)
		if !problem.Is(err, problem.Stale) || try == maxTries {
			return err
		}
	}
}

// refuse writes a failure as clients of a hawkBit server know it.
func (e *Edge) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p, status := problem.Of(err), statusOf(err)
	if p.Kind == problem.Internal {
		e.Logger.Error("an update client was not served", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "TargetToken")
	}
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds()))))
	}
	e.write(w, r, status, "application/json", map[string]string{"errorCode": "slipway." + string(p.Kind), "message": p.Error()})
}
