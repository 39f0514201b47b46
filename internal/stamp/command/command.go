// Package command keeps the queues of cloud-to-device messages: what back ends
// sent and the device has not acknowledged yet.
package command

import (
	"context"
	"crypto/rand"
	"database/sql"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/propertybag"
	"github.com/slipway/slipway/internal/sqldb"
)

// The limits of a queue, as existing back ends know them.
const (
	MaxQueue   = 50
	MaxSize    = 64 << 10
	MinTTL     = time.Minute
	MaxTTL     = 48 * time.Hour
	DefaultTTL = time.Hour
	maxIDSize  = 128
)

// Message is one cloud-to-device message.
type Message struct {
	Sequence   int64
	DeviceID   string
	ID         string
	Bag        string // its properties as the device gets them
	Body       []byte
	EnqueuedAt time.Time
	ExpiresAt  time.Time
	Deliveries int
}

// Queues are the queues of one stamp's devices, in its database.
type Queues struct{ db *sqldb.DB }

// NewQueues returns the queues kept in db.
func NewQueues(db *sqldb.DB) *Queues { return &Queues{db} }

// check applies limits and defaults to what a back end sends.
func check(m link.SendMessage) (link.SendMessage, error) {
	if m.MessageID == "" {
		m.MessageID = rand.Text()
	}
	if m.TTL == 0 {
		m.TTL = DefaultTTL
	}
	size := len(m.Body) + propertybag.Size(propertybag.FromMap(m.Properties))
	switch {
	case m.TTL < MinTTL || m.TTL > MaxTTL:
		return m, problem.New(problem.Invalid, "a message lives %s to %s, not %s", MinTTL, MaxTTL, m.TTL).At("ttl")
	case len(m.MessageID) > maxIDSize:
		return m, problem.New(problem.Invalid, "a message id has at most %d characters, not %d", maxIDSize, len(m.MessageID)).At("messageId")
	case len(m.Properties) > propertybag.MaxProperties:
		return m, problem.New(problem.Invalid, "a message has at most %d properties, not %d", propertybag.MaxProperties, len(m.Properties)).At("properties")
	case size > MaxSize:
		return m, problem.New(problem.TooLarge, "a message to a device has at most %d bytes with its properties, not %d", MaxSize, size).At("body")
	}
	for key := range m.Properties {
		if key == "" || key[0] == '$' {
			return m, problem.New(problem.Invalid, "a property name must not be empty or start with '$', as %q does", key).At("properties")
		}
	}
	return m, nil
}

// bag renders what the device sees in the topic.
func bag(m link.SendMessage, expires time.Time) string {
	all := []propertybag.Property{{Key: "$.mid", Value: m.MessageID}, {Key: "$.to", Value: "/devices/" + m.DeviceID + "/messages/deviceBound"}}
	if m.CorrelationID != "" {
		all = append(all, propertybag.Property{Key: "$.cid", Value: m.CorrelationID})
	}
	if m.ContentType != "" {
		all = append(all, propertybag.Property{Key: "$.ct", Value: m.ContentType})
	}
	all = append(all, propertybag.Property{Key: "$.exp", Value: expires.UTC().Format(time.RFC3339)})
	return propertybag.Encode(append(all, propertybag.FromMap(m.Properties)...))
}

// Send queues a message for a device of this stamp.
func (q *Queues) Send(ctx context.Context, m link.SendMessage, now time.Time) (queued link.QueuedMessage, err error) {
	if m, err = check(m); err != nil {
		return queued, err
	}
	expires := now.Add(m.TTL)
	text := bag(m, expires)
	err = q.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := room(ctx, tx, m.DeviceID, now); err != nil {
			return err
		}
		sequence, _, err := sqldb.Row(ctx, tx, scanInt, `INSERT INTO command (device_id, message_id, correlation_id, content_type, properties, body, enqueued_at, expires_at, deliveries)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0) RETURNING sequence`,
			m.DeviceID, m.MessageID, m.CorrelationID, m.ContentType, text, notNil(m.Body), sqldb.Micros(now), sqldb.Micros(expires))
		queued = link.QueuedMessage{MessageID: m.MessageID, Sequence: sequence, EnqueuedAt: now, ExpiresAt: expires, Size: len(m.Body)}
		return err
	})
	return queued, err
}

// notNil keeps an empty body from being stored as NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// room says whether the device exists and its queue takes another message.
func room(ctx context.Context, tx *sqldb.Tx, device string, now time.Time) error {
	here, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT count(*) FROM device WHERE device_id = ?", device)
	if err != nil {
		return err
	}
	if here == 0 {
		return problem.New(problem.NotFound, "device %s is not on this stamp", device)
	}
	waiting, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT count(*) FROM command WHERE device_id = ? AND expires_at > ?", device, sqldb.Micros(now))
	if err != nil {
		return err
	}
	if waiting >= MaxQueue {
		return problem.New(problem.Conflict, "device %s has %d messages waiting, the most there may be; purge them or wait until it fetches them", device, waiting)
	}
	return nil
}

const selectMessage = `SELECT sequence, device_id, message_id, properties, body, enqueued_at, expires_at, deliveries FROM command`

func scanMessage(rows *sql.Rows) (m Message, err error) {
	var enqueued, expires int64
	err = rows.Scan(&m.Sequence, &m.DeviceID, &m.ID, &m.Bag, &m.Body, &enqueued, &expires, &m.Deliveries)
	m.EnqueuedAt, m.ExpiresAt = sqldb.Time(enqueued), sqldb.Time(expires)
	return m, err
}

func scanInt(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }

// After returns the device's messages with a greater sequence, oldest first.
func (q *Queues) After(ctx context.Context, device string, sequence int64, limit int, now time.Time) ([]Message, error) {
	return sqldb.Rows(ctx, q.db, scanMessage, selectMessage+" WHERE device_id = ? AND sequence > ? AND expires_at > ? ORDER BY sequence LIMIT ?",
		device, sequence, sqldb.Micros(now), limit)
}

// Sent notes that messages were handed to the device once more.
func (q *Queues) Sent(ctx context.Context, device string, first, last int64) error {
	return q.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE command SET deliveries = deliveries + 1 WHERE device_id = ? AND sequence BETWEEN ? AND ?", device, first, last)
		return err
	})
}

// Complete removes a message the device has acknowledged.
func (q *Queues) Complete(ctx context.Context, device string, sequence int64) error {
	return q.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM command WHERE device_id = ? AND sequence = ?", device, sequence)
		return err
	})
}

// Purge drops everything that waits for a device.
func (q *Queues) Purge(ctx context.Context, device string) (dropped int64, err error) {
	err = q.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		dropped, err = tx.Exec(ctx, "DELETE FROM command WHERE device_id = ?", device)
		return err
	})
	return dropped, err
}

// Expire drops what nobody fetched in time.
func (q *Queues) Expire(ctx context.Context, now time.Time) error {
	return q.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM command WHERE expires_at <= ?", sqldb.Micros(now))
		return err
	})
}

// List returns what waits for a device, oldest first.
func (q *Queues) List(ctx context.Context, device string, now time.Time) ([]link.QueuedMessage, error) {
	return sqldb.Rows(ctx, q.db, func(rows *sql.Rows) (link.QueuedMessage, error) {
		m, err := scanMessage(rows)
		return link.QueuedMessage{MessageID: m.ID, Sequence: m.Sequence, EnqueuedAt: m.EnqueuedAt, ExpiresAt: m.ExpiresAt, Deliveries: m.Deliveries, Size: len(m.Body)}, err
	}, selectMessage+" WHERE device_id = ? AND expires_at > ? ORDER BY sequence", device, sqldb.Micros(now))
}
