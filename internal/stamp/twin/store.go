package twin

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Store keeps the twins of one stamp.
type Store struct{ db *sqldb.DB }

// NewStore returns the twins kept in db.
func NewStore(db *sqldb.DB) *Store { return &Store{db} }

const selectTwin = `SELECT device_id, version, etag_version, tags, desired, desired_meta, desired_version, reported, reported_meta, reported_version
	FROM twin WHERE device_id = ?`

func scanTwin(rows *sql.Rows) (t Twin, err error) {
	var tags, desired, desiredMeta, reported, reportedMeta []byte
	err = rows.Scan(&t.DeviceID, &t.Version, &t.Edition, &tags, &desired, &desiredMeta, &t.Desired.Version, &reported, &reportedMeta, &t.Reported.Version)
	if err != nil {
		return t, err
	}
	for _, part := range []struct {
		text []byte
		into *Document
	}{{tags, &t.Tags}, {desired, &t.Desired.Values}, {desiredMeta, &t.Desired.Meta}, {reported, &t.Reported.Values}, {reportedMeta, &t.Reported.Meta}} {
		if *part.into, err = decodeStored(part.text, "stored twin"); err != nil {
			return t, err
		}
	}
	return t, nil
}

func read(ctx context.Context, q sqldb.Querier, device string) (Twin, error) {
	t, found, err := sqldb.Row(ctx, q, scanTwin, selectTwin, device)
	if err != nil {
		return t, fmt.Errorf("read twin: %w", err)
	}
	if !found {
		return t, problem.New(problem.NotFound, "device %s is not on this stamp", device)
	}
	return t, nil
}

// Get returns a device's twin.
func (s *Store) Get(ctx context.Context, device string) (Twin, error) { return read(ctx, s.db, device) }

// Content returns what a move carries along, inside the change that ends the
// twin here.
func (s *Store) Content(ctx context.Context, tx *sqldb.Tx, device string) (link.TwinContent, error) {
	t, err := read(ctx, tx, device)
	if err != nil {
		return link.TwinContent{}, err
	}
	return t.Content()
}

// Create stores a device's first twin.
func (s *Store) Create(ctx context.Context, tx *sqldb.Tx, device string, content *link.TwinContent, now time.Time) error {
	t, err := New(device, content, now)
	if err != nil {
		return err
	}
	columns, err := t.columns()
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO twin (version, etag_version, tags, desired, desired_meta, desired_version, reported, reported_meta, reported_version, device_id)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, columns...)
	return err
}

// Update changes a twin if it still is the edition the caller names.
func (s *Store) Update(ctx context.Context, device, ifMatch string, change func(Twin) (Twin, error)) (changed Twin, err error) {
	err = s.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		t, err := read(ctx, tx, device)
		if err != nil {
			return err
		}
		if !t.Matches(ifMatch) {
			return problem.New(problem.Stale, "the twin has changed since; its ETag is %q now", t.ETag())
		}
		if changed, err = change(t); err != nil {
			return err
		}
		columns, err := changed.columns()
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE twin SET version = ?, etag_version = ?, tags = ?, desired = ?, desired_meta = ?, desired_version = ?,
			reported = ?, reported_meta = ?, reported_version = ? WHERE device_id = ?`, columns...)
		return err
	})
	return changed, err
}

// columns are the values of a row, the key last.
func (t Twin) columns() ([]any, error) {
	texts := make([]string, 0, 5)
	for _, document := range []Document{t.Tags, t.Desired.Values, t.Desired.Meta, t.Reported.Values, t.Reported.Meta} {
		text, err := encode(document)
		if err != nil {
			return nil, err
		}
		texts = append(texts, string(text))
	}
	return []any{t.Version, t.Edition, texts[0], texts[1], texts[2], t.Desired.Version, texts[3], texts[4], t.Reported.Version, t.DeviceID}, nil
}
