package hubamqp

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/amqp"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/throttle"
)

// ackProperty is how a sender asks for feedback.
const ackProperty = "iothub-ack"

// sendToDevice queues a message for the device its To names.
func (e *Edge) sendToDevice(ctx context.Context, m amqp.Message) amqp.Outcome {
	req, err := command(m)
	if err == nil {
		err = e.Hub.Operations.Allow(throttle.Messages, 1, e.Now())
	}
	if err == nil {
		_, err = e.Hub.Send(ctx, req)
	}
	if err != nil {
		e.Logger.Debug("message to a device refused", "device", req.DeviceID, "error", err)
		return amqp.Rejected(refusal(err))
	}
	return amqp.Accepted
}

// command reads a message for a device.
func command(m amqp.Message) (req link.SendMessage, err error) {
	if req.DeviceID, err = addressee(m.Properties.To); err != nil {
		return req, err
	}
	req.Body = m.Data
	if text, ok := m.Value.(string); ok {
		req.Body = []byte(text)
	} else if binary, ok := m.Value.([]byte); ok {
		req.Body = binary
	}
	p := m.Properties
	req.MessageID, req.CorrelationID, req.UserID = idText(p.MessageID), idText(p.CorrelationID), string(p.UserID)
	req.ContentType, req.ContentEncoding = p.ContentType, p.ContentEncoding
	if at, ok := p.AbsoluteExpiry.(time.Time); ok && at.UnixMilli() > 0 {
		req.ExpiresAt = &at
	}
	req.Properties = map[string]string{}
	for _, pair := range m.Application {
		name, ok := pair.Key.(string)
		if !ok {
			return req, problem.New(problem.Invalid, "the name of a property is text, not a %T", pair.Key)
		}
		if name == ackProperty {
			req.Ack = strings.ToLower(fmt.Sprint(pair.Value))
			continue
		}
		req.Properties[name] = propertyText(pair.Value)
	}
	return req, nil
}

// addressee is the device, or module, of an address such as
// /devices/{id}/messages/devicebound.
func addressee(to string) (string, error) {
	parts := strings.Split(strings.Trim(to, "/"), "/")
	switch {
	case len(parts) == 4 && strings.EqualFold(parts[0], "devices") && strings.EqualFold(parts[2], "messages"):
		return unescape(parts[1]), nil
	case len(parts) == 6 && strings.EqualFold(parts[0], "devices") && strings.EqualFold(parts[2], "modules"):
		return link.ModuleIdentity(unescape(parts[1]), unescape(parts[3])), nil
	}
	return "", problem.New(problem.Invalid, "a message is for /devices/{id}/messages/devicebound, not for %q", to)
}

// idText is an id as text, in whichever of its types it came.
func idText(id any) string {
	switch id := id.(type) {
	case nil:
		return ""
	case amqp.UUID:
		return fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16])
	case []byte:
		return string(id)
	}
	return fmt.Sprint(id)
}

func propertyText(value any) string {
	switch value := value.(type) {
	case nil:
		return ""
	case time.Time:
		return value.UTC().Format(time.RFC3339Nano)
	case []byte:
		return string(value)
	}
	return fmt.Sprint(value)
}

// refusal translates an error to a condition that SDKs know.
func refusal(err error) *amqp.Error {
	p := problem.Of(err)
	conditions := map[problem.Kind]amqp.Symbol{
		problem.NotFound: amqp.NotFound, problem.Conflict: amqp.ResourceLimit, problem.TooLarge: amqp.MessageTooLarge,
		problem.Invalid: "com.microsoft:argument-error", problem.Denied: amqp.Unauthorized, problem.Unauthenticated: amqp.Unauthorized,
		problem.Busy: "com.microsoft:device-container-throttled", problem.NotReady: "com.microsoft:timeout", problem.TimedOut: "com.microsoft:timeout",
	}
	condition, known := conditions[p.Kind]
	if !known {
		condition = amqp.InternalError
	}
	return &amqp.Error{Condition: condition, Description: p.Error()}
}

// lookEvery is how often what is due again is looked for without a reason.
const lookEvery = 5 * time.Second

// loan is something lent out that a receiver completes or abandons.
type loan struct {
	message  amqp.Message
	complete func(context.Context) error
	abandon  func(context.Context) error
}

// lend sends what next finds, until ctx ends. arrived is asked before next, so
// that nothing is missed between the two.
func (e *Edge) lend(ctx context.Context, s *amqp.Sender, arrived func() <-chan struct{}, next func(context.Context) (loan, bool, error)) error {
	var settling sync.WaitGroup
	defer settling.Wait()
	for {
		if err := s.Ready(ctx); err != nil {
			return nil
		}
		bell := arrived()
		l, found, err := next(ctx)
		if err != nil {
			return err
		}
		if !found {
			select {
			case <-ctx.Done():
				return nil
			case <-bell:
			case <-time.After(lookEvery):
			}
			continue
		}
		delivery, err := s.Send(ctx, l.message, false)
		if err != nil {
			return l.abandon(context.WithoutCancel(ctx))
		}
		settling.Go(func() {
			select {
			case outcome := <-delivery.Outcome():
				e.settle(ctx, l, outcome)
			case <-ctx.Done():
				e.settle(ctx, l, amqp.Released)
			}
		})
	}
}

func (e *Edge) settle(ctx context.Context, l loan, outcome amqp.Outcome) {
	ctx = context.WithoutCancel(ctx)
	do := l.abandon
	if outcome.Accepted() || outcome.Rejected() {
		do = l.complete // a receiver that rejects does not want it again
	}
	if err := do(ctx); err != nil {
		e.Logger.Debug("not settled; the lock has ended", "error", err)
	}
}

// sendFeedback sends what became of messages to devices, in batches.
func (e *Edge) sendFeedback(ctx context.Context, s *amqp.Sender) error {
	queues := e.Hub.Queues
	return e.lend(ctx, s, queues.Arrived.Next, func(ctx context.Context) (loan, bool, error) {
		batch, lock, err := queues.ReceiveFeedback(ctx, e.Now())
		if err != nil || lock == "" {
			return loan{}, false, err
		}
		body, err := json.Marshal(batch)
		return loan{
			message:  e.document(body, "application/vnd.microsoft.iothub.feedback.json", lock),
			complete: func(ctx context.Context) error { return queues.CompleteFeedback(ctx, lock, e.Now()) },
			abandon:  func(ctx context.Context) error { return queues.AbandonFeedback(ctx, lock, e.Now()) },
		}, true, err
	})
}

// sendNotifications tells of files that devices have sent.
func (e *Edge) sendNotifications(ctx context.Context, s *amqp.Sender) error {
	return e.lend(ctx, s, e.Uploads.Notified.Next, func(ctx context.Context) (loan, bool, error) {
		n, lock, found, err := e.Uploads.ReceiveNotification(ctx)
		if err != nil || !found {
			return loan{}, false, err
		}
		body, err := json.Marshal(n.Document(e.host()))
		return loan{
			message:  e.document(body, "application/vnd.microsoft.iothub.filenotification.json", lock),
			complete: func(ctx context.Context) error { return e.Uploads.CompleteNotification(ctx, lock) },
			abandon:  func(ctx context.Context) error { return e.Uploads.AbandonNotification(ctx, lock) },
		}, true, err
	})
}

func (e *Edge) host() string {
	if hosts := e.Hub.Hosts(); len(hosts) > 0 {
		return hosts[0]
	}
	return e.Hub.Stamp
}

func (e *Edge) document(body []byte, contentType, id string) amqp.Message {
	now := e.Now()
	return amqp.Message{
		Annotations: amqp.Map{{Key: amqp.Symbol("iothub-enqueuedtime"), Value: now}},
		Properties:  amqp.Properties{MessageID: id, UserID: []byte(e.Hub.Stamp), To: "/" + nodeFeedback, ContentType: contentType, ContentEncoding: "utf-8", CreationTime: now},
		Data:        body,
	}
}
