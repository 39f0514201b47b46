package command

import (
	"context"
	"crypto/rand"
	"database/sql"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Send queues a message for a device of this stamp.
func (q *Queues) Send(ctx context.Context, m link.SendMessage, now time.Time) (queued link.QueuedMessage, err error) {
	if m, err = check(m, now); err != nil {
		return queued, err
	}
	expires := now.Add(m.TTL)
	text := bag(m, expires)
	err = q.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := room(ctx, tx, m.DeviceID, now); err != nil {
			return err
		}
		sequence, _, err := sqldb.Row(ctx, tx, scanInt, `INSERT INTO command (device_id, message_id, correlation_id, content_type, properties, body, ack, enqueued_at, expires_at, deliveries)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0) RETURNING sequence`,
			m.DeviceID, m.MessageID, m.CorrelationID, m.ContentType, text, notNil(m.Body), m.Ack, sqldb.Micros(now), sqldb.Micros(expires))
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

const selectMessage = `SELECT sequence, device_id, message_id, properties, body, ack, enqueued_at, expires_at, deliveries FROM command`

func scanMessage(rows *sql.Rows) (m Message, err error) {
	var enqueued, expires int64
	err = rows.Scan(&m.Sequence, &m.DeviceID, &m.ID, &m.Bag, &m.Body, &m.Ack, &enqueued, &expires, &m.Deliveries)
	m.EnqueuedAt, m.ExpiresAt = sqldb.Time(enqueued), sqldb.Time(expires)
	return m, err
}

func scanInt(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }

// Waiting returns what a device may be handed now, oldest first: what nobody
// has borrowed by Receive.
func (q *Queues) Waiting(ctx context.Context, device string, now time.Time) ([]Message, error) {
	return sqldb.Rows(ctx, q.db, scanMessage, selectMessage+" WHERE device_id = ? AND expires_at > ? AND (lock = '' OR locked_until <= ?) ORDER BY sequence LIMIT ?",
		device, sqldb.Micros(now), sqldb.Micros(now), MaxQueue)
}

// Handed notes that a connection was given messages, which keeps Receive from
// lending them to another one of the same device meanwhile.
func (q *Queues) Handed(ctx context.Context, all []Message, now time.Time) error {
	return q.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, m := range all {
			_, err := tx.Exec(ctx, "UPDATE command SET deliveries = deliveries + 1, lock = '', locked_until = ? WHERE sequence = ? AND device_id = ?",
				sqldb.Micros(now.Add(LockTime)), m.Sequence, m.DeviceID)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Complete removes a message the device has acknowledged over its connection.
func (q *Queues) Complete(ctx context.Context, device string, sequence int64, now time.Time) error {
	_, err := q.settle(ctx, Success, now, "device_id = ? AND sequence = ?", device, sequence)
	return err
}

// Receive lends the oldest message out for LockTime; lock is what settles it.
func (q *Queues) Receive(ctx context.Context, device string, now time.Time) (m Message, lock string, found bool, err error) {
	lock = rand.Text()
	err = q.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		m, found, err = sqldb.Row(ctx, tx, scanMessage, selectMessage+" WHERE device_id = ? AND expires_at > ? AND locked_until <= ? ORDER BY sequence LIMIT 1",
			device, sqldb.Micros(now), sqldb.Micros(now))
		if err != nil || !found {
			return err
		}
		_, err := tx.Exec(ctx, "UPDATE command SET deliveries = deliveries + 1, lock = ?, locked_until = ? WHERE sequence = ?",
			lock, sqldb.Micros(now.Add(LockTime)), m.Sequence)
		return err
	})
	return m, lock, found, err
}

// Accept completes a message that Receive lent out.
func (q *Queues) Accept(ctx context.Context, device, lock string, now time.Time) error {
	return q.giveBack(ctx, Success, device, lock, now)
}

// Reject removes a message that Receive lent out and its device will not have.
func (q *Queues) Reject(ctx context.Context, device, lock string, now time.Time) error {
	return q.giveBack(ctx, Rejected, device, lock, now)
}

const held = "device_id = ? AND lock = ? AND lock <> '' AND locked_until > ?"

func (q *Queues) giveBack(ctx context.Context, outcome Outcome, device, lock string, now time.Time) error {
	settled, err := q.settle(ctx, outcome, now, held, device, lock, sqldb.Micros(now))
	if err == nil && settled == 0 {
		return errLockLost
	}
	return err
}

var errLockLost = problem.New(problem.Stale, "the message is not locked by this token any more: a lock ends after %s, or when the message expires", LockTime)

// Abandon puts a message that Receive lent out back into the queue; one that
// was put back MaxDeliveries times is given up.
func (q *Queues) Abandon(ctx context.Context, device, lock string, now time.Time) error {
	var givenUp int64
	err := q.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		changed, err := tx.Exec(ctx, "UPDATE command SET abandoned = abandoned + 1, locked_until = 0 WHERE "+held, device, lock, sqldb.Micros(now))
		if err != nil {
			return err
		}
		if changed == 0 {
			return errLockLost
		}
		givenUp, err = settleIn(ctx, tx, DeliveryCountExceeded, now, "device_id = ? AND lock = ? AND abandoned >= ?", device, lock, MaxDeliveries)
		return err
	})
	if err == nil {
		q.Settled(DeliveryCountExceeded, givenUp)
		q.Arrived.Ring()
	}
	return err
}

// Depth is how many messages wait, for all devices together.
func (q *Queues) Depth(ctx context.Context) (int64, error) {
	n, _, err := sqldb.Row(ctx, q.db, scanInt, "SELECT count(*) FROM command")
	return n, err
}

// Purge drops everything that waits for a device.
func (q *Queues) Purge(ctx context.Context, device string, now time.Time) (dropped int64, err error) {
	return q.settle(ctx, Purged, now, "device_id = ?", device)
}

// Expire drops what nobody fetched in time, and feedback nobody asked for.
func (q *Queues) Expire(ctx context.Context, now time.Time) error {
	if _, err := q.settle(ctx, Expired, now, "expires_at <= ?", sqldb.Micros(now)); err != nil {
		return err
	}
	return q.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM feedback WHERE expires_at <= ?", sqldb.Micros(now))
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
