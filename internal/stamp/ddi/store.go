package ddi

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// store keeps a record for each device that is an update client.
type store struct{ db *sqldb.DB }

// stored is a record with the number of its last change; 0 is none yet.
type stored struct {
	Record
	revision int64
}

func scanStored(rows *sql.Rows) (s stored, err error) {
	var text []byte
	if err := rows.Scan(&s.revision, &text); err != nil {
		return s, err
	}
	return s, json.Unmarshal(text, &s.Record)
}

func (st store) get(ctx context.Context, id string) (stored, error) {
	s, _, err := sqldb.Row(ctx, st.db, scanStored, "SELECT revision, record FROM ddi WHERE device_id = ?", id)
	if err != nil {
		return s, fmt.Errorf("read what is known of an update client: %w", err)
	}
	return s, nil
}

// errChanged is what a change hears that another one came before.
var errChanged = problem.New(problem.Stale, "the device said something else meanwhile")

// put replaces a record, unless it has changed since it was read. A device that
// has gone meanwhile takes its record along.
func (st store) put(ctx context.Context, id string, before stored, after Record) error {
	text, err := json.Marshal(after)
	if err != nil {
		return err
	}
	return st.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE ddi SET revision = revision + 1, record = ? WHERE device_id = ? AND revision = ?", string(text), id, before.revision)
		if err == nil && n == 0 && before.revision == 0 {
			n, err = tx.Exec(ctx, `INSERT INTO ddi (device_id, revision, record)
				SELECT device_id, 1, ? FROM device WHERE device_id = ? ON CONFLICT (device_id) DO NOTHING`, string(text), id)
		}
		if err == nil && n == 0 {
			err = errChanged
		}
		return err
	})
}
