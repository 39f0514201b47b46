package twin

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Store keeps the twins of one stamp.
type Store struct{ db *sqldb.DB }

// NewStore returns the twins kept in db.
func NewStore(db *sqldb.DB) *Store { return &Store{db} }

// Columns are what a Row reads, of table twin as t.
const Columns = `t.device_id, t.version, t.etag_version, t.tags, t.desired, t.desired_meta, t.desired_version, t.reported, t.reported_meta, t.reported_version`

const selectTwin = "SELECT " + Columns + " FROM twin t WHERE t.device_id = ?"

// Row takes the columns of a stored twin, for selects that join others to it.
type Row struct {
	twin                                               Twin
	tags, desired, desiredMeta, reported, reportedMeta []byte
}

// Into returns where rows.Scan puts Columns.
func (r *Row) Into() []any {
	t := &r.twin
	return []any{&t.DeviceID, &t.Version, &t.Edition, &r.tags, &r.desired, &r.desiredMeta, &t.Desired.Version, &r.reported, &r.reportedMeta, &t.Reported.Version}
}

// Twin decodes what was scanned.
func (r *Row) Twin() (t Twin, err error) {
	t = r.twin
	for _, part := range []struct {
		text []byte
		into *Document
	}{{r.tags, &t.Tags}, {r.desired, &t.Desired.Values}, {r.desiredMeta, &t.Desired.Meta}, {r.reported, &t.Reported.Values}, {r.reportedMeta, &t.Reported.Meta}} {
		if *part.into, err = decodeStored(part.text, "stored twin"); err != nil {
			return t, err
		}
	}
	return t, nil
}

func scanTwin(rows *sql.Rows) (Twin, error) {
	var r Row
	if err := rows.Scan(r.Into()...); err != nil {
		return Twin{}, err
	}
	return r.Twin()
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
	if err != nil {
		return err
	}
	return indexTags(ctx, tx, t)
}

// Update changes a twin if it still is the edition the caller names.
func (s *Store) Update(ctx context.Context, device, ifMatch string, change func(Twin) (Twin, error)) (changed Twin, err error) {
	return s.UpdateWith(ctx, device, ifMatch, change, nil)
}

// UpdateWith is Update with what the caller writes down of the change in the
// same commit; nil is nothing.
func (s *Store) UpdateWith(ctx context.Context, device, ifMatch string, change func(Twin) (Twin, error), also func(context.Context, *sqldb.Tx) error) (changed Twin, err error) {
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
		if changed.Edition != t.Edition && !reflect.DeepEqual(changed.Tags, t.Tags) {
			if err := indexTags(ctx, tx, changed); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `UPDATE twin SET version = ?, etag_version = ?, tags = ?, desired = ?, desired_meta = ?, desired_version = ?,
			reported = ?, reported_meta = ?, reported_version = ? WHERE device_id = ?`, columns...)
		if err != nil || also == nil {
			return err
		}
		return also(ctx, tx)
	})
	return changed, err
}

// columns are the values of a row, the key last.
func (t Twin) columns() ([]any, error) {
	texts := make([]string, 0, 5)
	for _, document := range []Document{t.Tags, t.Desired.Values, t.Desired.Meta, t.Reported.Values, t.Reported.Meta} {
		text, err := Encode(document)
		if err != nil {
			return nil, err
		}
		texts = append(texts, string(text))
	}
	return []any{t.Version, t.Edition, texts[0], texts[1], texts[2], t.Desired.Version, texts[3], texts[4], t.Reported.Version, t.DeviceID}, nil
}

// maxIndexed is how long a text of a tag may be to be found by an index.
const maxIndexed = 256

// TagPath is how the index of tags names a tag.
func TagPath(keys []string) string { return strings.Join(keys, "\x1f") }

// Indexed is a value as the index of tags holds it; ok says whether it does.
// PostgreSQL knows no text with a NUL in it.
func Indexed(value any) (indexed any, ok bool) {
	switch v := value.(type) {
	case string:
		return v, len(v) <= maxIndexed && !strings.Contains(v, "\x00")
	case float64:
		return v, true
	case json.Number:
		x, err := v.Float64()
		return x, err == nil
	}
	return nil, false
}

// IndexedFor is an indexed value as a database's column takes it.
func IndexedFor(d sqldb.Dialect, value any) (any, error) {
	if d == sqldb.SQLite {
		return value, nil
	}
	text, err := json.Marshal(value)
	return string(text), err
}

// indexTags writes down anew where the values of a twin's tags are found.
func indexTags(ctx context.Context, tx *sqldb.Tx, t Twin) error {
	if _, err := tx.Exec(ctx, "DELETE FROM tag WHERE device_id = ?", t.DeviceID); err != nil {
		return err
	}
	return indexBelow(ctx, tx, t.DeviceID, nil, t.Tags)
}

func indexBelow(ctx context.Context, tx *sqldb.Tx, device string, keys []string, at Document) error {
	for key, value := range at {
		path := append(keys[:len(keys):len(keys)], key)
		if below, ok := value.(Document); ok {
			if err := indexBelow(ctx, tx, device, path, below); err != nil {
				return err
			}
			continue
		}
		indexed, ok := Indexed(value)
		if !ok {
			continue
		}
		kept, err := IndexedFor(tx.Dialect(), indexed)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO tag (path, value, device_id) VALUES (?, ?, ?)", TagPath(path), kept, device); err != nil {
			return err
		}
	}
	return nil
}

// EnsureIndexed indexes the tags of twins stored before there was an index.
func (s *Store) EnsureIndexed(ctx context.Context) error {
	const chunk = 500
	indexed, _, err := sqldb.Row(ctx, s.db, scanInt, "SELECT count(*) FROM (SELECT 1 FROM tag LIMIT 1) t")
	if err != nil || indexed != 0 {
		return err
	}
	for after := ""; ; {
		twins, err := sqldb.Rows(ctx, s.db, scanTwin, "SELECT "+Columns+" FROM twin t WHERE t.tags <> '{}' AND t.device_id > ? ORDER BY t.device_id LIMIT ?", after, chunk)
		if err != nil || len(twins) == 0 {
			return err
		}
		err = s.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			for _, t := range twins {
				if err := indexTags(ctx, tx, t); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		after = twins[len(twins)-1].DeviceID
	}
}

func scanInt(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }
