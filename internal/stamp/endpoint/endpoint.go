// Package endpoint speaks to what is outside: it takes a batch of messages to
// where a route delivers. An endpoint is at-least-once: a batch that was sent
// and not confirmed comes again, with the same ids, so that receivers can
// tell.
package endpoint

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/outbound"
	"github.com/slipway/slipway/internal/problem"
)

// Message is one message on its way out.
type Message struct {
	DeviceID     string
	Sequence     uint64
	EnqueuedTime time.Time
	JSON         []byte // the whole record
	// Taken is the record as the route took it, where a processor has made it
	// another.
	Taken []byte
}

// Original is the record as the route took it.
func (m Message) Original() []byte {
	if m.Taken != nil {
		return m.Taken
	}
	return m.JSON
}

// Seal makes a record a message.
func Seal(r link.LogRecord) (Message, error) {
	text, err := json.Marshal(r)
	return Message{DeviceID: r.DeviceID, Sequence: r.Sequence, EnqueuedTime: r.EnqueuedTime, JSON: text}, err
}

// Endpoint takes batches. An error of kind problem.Invalid or problem.TooLarge
// means that this batch will never be taken; any other that it may be later,
// not before RetryAfter where one is given.
type Endpoint interface {
	Send(ctx context.Context, batch []Message) error
	Close() error
}

// Options are what endpoints are opened with.
type Options struct {
	Stamp, Environment, Route string
	Guard                     *outbound.Guard
	Archive                   string // the directory of archives
}

// ID names a message for good: receivers drop the second of two alike.
func (o Options) ID(sequence uint64) string {
	return fmt.Sprintf("%s.%s.%d", o.Stamp, o.Route, sequence)
}

// Open prepares an endpoint. Connections come about with the first batch.
func Open(spec link.Endpoint, o Options) (Endpoint, error) {
	switch {
	case spec.Webhook != nil:
		return openWebhook(*spec.Webhook, o)
	case spec.NATS != nil:
		return &natsEndpoint{spec: *spec.NATS, options: o}, nil
	case spec.Kafka != nil:
		return openKafka(*spec.Kafka, o)
	case spec.PostgreSQL != nil:
		return openPostgreSQL(*spec.PostgreSQL, o)
	case spec.Archive != nil:
		return openArchive(*spec.Archive, o)
	}
	return nil, problem.New(problem.Invalid, "the route has no endpoint")
}
