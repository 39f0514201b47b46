// Package audit keeps who did what when: one entry for each change, written
// in the change's own transaction where that is control's, and before and
// after it where another plane carries it out.
package audit

import (
	"context"
	"database/sql"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// The outcomes of an action.
const (
	Done   = "done"
	Asked  = "asked"
	Failed = "failed"
)

// Entry is one line of the log.
type Entry struct {
	Sequence int64     `json:"sequence"`
	At       time.Time `json:"at"`
	Actor    string    `json:"actor"`
	Action   string    `json:"action"`
	Object   string    `json:"object"`
	Outcome  string    `json:"outcome"`
	Detail   string    `json:"detail,omitempty"`
}

// Log is the audit log, in control's database.
type Log struct {
	db  *sqldb.DB
	now func() time.Time
}

// NewLog returns the log kept in db.
func NewLog(db *sqldb.DB, now func() time.Time) *Log { return &Log{db, now} }

// Record writes an entry inside a change.
func (l *Log) Record(ctx context.Context, tx *sqldb.Tx, e Entry) error {
	_, err := tx.Exec(ctx, "INSERT INTO audit (at, actor, action, object, outcome, detail) VALUES (?, ?, ?, ?, ?, ?)",
		sqldb.Micros(l.now()), e.Actor, e.Action, e.Object, e.Outcome, e.Detail)
	return err
}

// Around records that something is asked of another plane, asks, and records a
// failure. Without the first record nothing is asked.
func (l *Log) Around(ctx context.Context, e Entry, ask func() error) error {
	e.Outcome = Asked
	if err := l.write(ctx, e); err != nil {
		return err
	}
	err := ask()
	if err != nil {
		e.Outcome, e.Detail = Failed, problem.Of(err).Error()
		if writeErr := l.write(context.WithoutCancel(ctx), e); writeErr != nil {
			return writeErr
		}
	}
	return err
}

func (l *Log) write(ctx context.Context, e Entry) error {
	return l.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return l.Record(ctx, tx, e) })
}

// List returns entries older than before (0: the newest), newest first.
func (l *Log) List(ctx context.Context, before int64, limit int) ([]Entry, error) {
	if before <= 0 {
		before = 1 << 62
	}
	return sqldb.Rows(ctx, l.db, func(rows *sql.Rows) (e Entry, err error) {
		var at int64
		err = rows.Scan(&e.Sequence, &at, &e.Actor, &e.Action, &e.Object, &e.Outcome, &e.Detail)
		e.At = sqldb.Time(at)
		return e, err
	}, "SELECT sequence, at, actor, action, object, outcome, detail FROM audit WHERE sequence < ? ORDER BY sequence DESC LIMIT ?", before, limit)
}
