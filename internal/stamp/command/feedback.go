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

// Outcome is what became of a message, spelled as back ends read it.
type Outcome string

// The outcomes.
const (
	Success               Outcome = "Success"
	Expired               Outcome = "Expired"
	DeliveryCountExceeded Outcome = "DeliveryCountExceeded"
	Rejected              Outcome = "Rejected"
	Purged                Outcome = "Purged"
)

// wanted are the acknowledgements with which a sender asked to hear of o.
func (o Outcome) wanted() (one, other string) {
	if o == Success {
		return link.AckPositive, link.AckFull
	}
	return link.AckNegative, link.AckFull
}

// Feedback tells a sender what became of its message, in the form in which
// back ends read it. Generation is that of the device at the time.
type Feedback struct {
	MessageID   string    `json:"originalMessageId"`
	At          time.Time `json:"enqueuedTimeUtc"`
	Status      Outcome   `json:"statusCode"`
	Description string    `json:"description"`
	DeviceID    string    `json:"deviceId"`
	Generation  string    `json:"deviceGenerationId"`
}

// The limits of feedback.
const (
	feedbackTTL   = time.Hour
	feedbackBatch = 64
)

// settle removes the messages a condition names, and writes down what those
// of their senders who asked for it are to hear.
func (q *Queues) settle(ctx context.Context, outcome Outcome, now time.Time, where string, args ...any) (settled int64, err error) {
	err = q.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		settled, err = settleIn(ctx, tx, outcome, now, where, args...)
		return err
	})
	if settled > 0 {
		q.Settled(outcome, settled)
		q.Arrived.Ring()
	}
	return settled, err
}

func settleIn(ctx context.Context, tx *sqldb.Tx, outcome Outcome, now time.Time, where string, args ...any) (int64, error) {
	one, other := outcome.wanted()
	_, err := tx.Exec(ctx, `INSERT INTO feedback (message_id, device_id, generation, status, description, at, expires_at)
		SELECT c.message_id, c.device_id, d.generation_id, ?, ?, ?, ? FROM command c JOIN device d USING (device_id)
		WHERE c.ack IN (?, ?) AND c.sequence IN (SELECT sequence FROM command WHERE `+where+`) ORDER BY c.sequence`,
		append([]any{string(outcome), string(outcome), sqldb.Micros(now), sqldb.Micros(now.Add(feedbackTTL)), one, other}, args...)...)
	if err != nil {
		return 0, err
	}
	return tx.Exec(ctx, "DELETE FROM command WHERE "+where, args...)
}

// ReceiveFeedback lends a batch of feedback out for LockTime, oldest first;
// lock is what settles it. An empty batch has no lock.
func (q *Queues) ReceiveFeedback(ctx context.Context, now time.Time) (batch []Feedback, lock string, err error) {
	lock = rand.Text()
	err = q.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE feedback SET lock = ?, locked_until = ? WHERE sequence IN
			(SELECT sequence FROM feedback WHERE locked_until <= ? AND expires_at > ? ORDER BY sequence LIMIT ?)`,
			lock, sqldb.Micros(now.Add(LockTime)), sqldb.Micros(now), sqldb.Micros(now), feedbackBatch)
		if err != nil {
			return err
		}
		batch, err = sqldb.Rows(ctx, tx, scanFeedback, `SELECT message_id, device_id, generation, status, description, at
			FROM feedback WHERE lock = ? ORDER BY sequence`, lock)
		return err
	})
	if len(batch) == 0 {
		lock = ""
	}
	return batch, lock, err
}

func scanFeedback(rows *sql.Rows) (f Feedback, err error) {
	var at int64
	err = rows.Scan(&f.MessageID, &f.DeviceID, &f.Generation, &f.Status, &f.Description, &at)
	f.At = sqldb.Time(at)
	return f, err
}

var errFeedbackLost = problem.New(problem.Stale, "the feedback is not locked by this token any more: a lock ends after %s", LockTime)

// CompleteFeedback removes a batch its receiver has dealt with.
func (q *Queues) CompleteFeedback(ctx context.Context, lock string, now time.Time) error {
	return q.onBatch(ctx, "DELETE FROM feedback WHERE lock = ? AND lock <> '' AND locked_until > ?", lock, sqldb.Micros(now))
}

// AbandonFeedback puts a batch back for the next receiver.
func (q *Queues) AbandonFeedback(ctx context.Context, lock string, now time.Time) error {
	err := q.onBatch(ctx, "UPDATE feedback SET lock = '', locked_until = 0, abandoned = abandoned + 1 WHERE lock = ? AND lock <> '' AND locked_until > ?", lock, sqldb.Micros(now))
	if err == nil {
		q.Arrived.Ring()
	}
	return err
}

func (q *Queues) onBatch(ctx context.Context, statement string, args ...any) error {
	return q.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		changed, err := tx.Exec(ctx, statement, args...)
		if err == nil && changed == 0 {
			return errFeedbackLost
		}
		return err
	})
}
