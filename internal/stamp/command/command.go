// Package command keeps the queues of cloud-to-device messages: what back ends
// sent and the device has not acknowledged yet, and what they want to hear of
// it afterwards.
package command

import (
	"crypto/rand"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/propertybag"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/tasks"
)

// The limits of a queue, as existing back ends know them.
const (
	MaxQueue      = 50
	MaxSize       = 64 << 10
	MinTTL        = time.Minute
	MaxTTL        = 48 * time.Hour
	DefaultTTL    = time.Hour
	LockTime      = time.Minute // how long a message is lent out
	MaxDeliveries = 10          // abandoned so often, a message is given up
	maxIDSize     = 128
)

// Message is one cloud-to-device message.
type Message struct {
	Sequence   int64
	DeviceID   string
	ID         string
	Bag        string // its properties as the device gets them
	Body       []byte
	Ack        string // none, positive, negative or full
	EnqueuedAt time.Time
	ExpiresAt  time.Time
	Deliveries int
}

// Queues are the queues of one stamp's devices, in its database.
type Queues struct {
	db *sqldb.DB
	// Arrived rings when there may be feedback.
	Arrived tasks.Bell
	// Settled is told what became of messages, and of how many.
	Settled func(outcome Outcome, n int64)
}

// NewQueues returns the queues kept in db.
func NewQueues(db *sqldb.DB) *Queues { return &Queues{db: db, Settled: func(Outcome, int64) {}} }

// check applies limits and defaults to what a back end sends.
func check(m link.SendMessage, now time.Time) (link.SendMessage, error) {
	if m.MessageID == "" {
		m.MessageID = rand.Text()
	}
	if m.Ack == "" {
		m.Ack = link.AckNone
	}
	if m.ExpiresAt != nil {
		m.TTL = m.ExpiresAt.Sub(now)
		if m.TTL <= 0 || m.TTL > MaxTTL {
			return m, problem.New(problem.Invalid, "a message expires within %s from now, not at %s", MaxTTL, m.ExpiresAt.UTC().Format(time.RFC3339)).At("expiresAt")
		}
	} else if m.TTL == 0 {
		m.TTL = DefaultTTL
	} else if m.TTL < MinTTL || m.TTL > MaxTTL {
		return m, problem.New(problem.Invalid, "a message lives %s to %s, not %s", MinTTL, MaxTTL, m.TTL).At("ttl")
	}
	return m, checkContent(m)
}

func checkContent(m link.SendMessage) error {
	size := len(m.Body) + propertybag.Size(propertybag.FromMap(m.Properties))
	switch {
	case m.Ack != link.AckNone && m.Ack != link.AckPositive && m.Ack != link.AckNegative && m.Ack != link.AckFull:
		return problem.New(problem.Invalid, "an acknowledgement is none, positive, negative or full, not %q", m.Ack).At("ack")
	case len(m.Properties) > propertybag.MaxProperties:
		return problem.New(problem.Invalid, "a message has at most %d properties, not %d", propertybag.MaxProperties, len(m.Properties)).At("properties")
	case size > MaxSize:
		return problem.New(problem.TooLarge, "a message to a device has at most %d bytes with its properties, not %d", MaxSize, size).At("body")
	}
	for field, text := range map[string]string{
		"messageId": m.MessageID, "correlationId": m.CorrelationID, "userId": m.UserID,
		"contentType": m.ContentType, "contentEncoding": m.ContentEncoding,
	} {
		if len(text) > maxIDSize {
			return problem.New(problem.Invalid, "this has at most %d characters, not %d", maxIDSize, len(text)).At(field)
		}
	}
	for key := range m.Properties {
		if key == "" || key[0] == '$' {
			return problem.New(problem.Invalid, "a property name must not be empty or start with '$', as %q does", key).At("properties")
		}
	}
	return nil
}

// bag renders what the device sees in the topic.
func bag(m link.SendMessage, expires time.Time) string {
	device, module := link.SplitIdentity(m.DeviceID)
	to := "/devices/" + device + "/messages/deviceBound"
	if module != "" {
		to = "/devices/" + device + "/modules/" + module + "/messages/deviceBound"
	}
	all := []propertybag.Property{{Key: "$.mid", Value: m.MessageID}, {Key: "$.to", Value: to}}
	for _, p := range []propertybag.Property{
		{Key: "$.cid", Value: m.CorrelationID}, {Key: "$.uid", Value: m.UserID},
		{Key: "$.ct", Value: m.ContentType}, {Key: "$.ce", Value: m.ContentEncoding},
	} {
		if p.Value != "" {
			all = append(all, p)
		}
	}
	all = append(all, propertybag.Property{Key: "$.exp", Value: expires.UTC().Format(time.RFC3339)})
	if m.Ack != link.AckNone {
		all = append(all, propertybag.Property{Key: "iothub-ack", Value: m.Ack})
	}
	return propertybag.Encode(append(all, propertybag.FromMap(m.Properties)...))
}
