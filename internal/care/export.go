package care

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
)

// exportPage is how many rows are read at once.
const exportPage = 200

// Export is Holding's. Rows go out as objects of their columns.
func (t Table) Export(ctx context.Context, device string, each func(link.SubjectItem) error) error {
	if t.Device == "" || t.Columns == "" {
		return nil
	}
	where, args := t.ofDevice(device)
	for offset := 0; ; offset += exportPage {
		page, err := sqldb.Rows(ctx, t.DB, scanObject, "SELECT "+t.Columns+" FROM "+t.Name+" WHERE "+where+" ORDER BY "+t.Key+" LIMIT ? OFFSET ?", append(args, exportPage, offset)...)
		if err != nil {
			return err
		}
		for _, row := range page {
			if err := each(link.SubjectItem{Kind: t.Of, Row: row}); err != nil {
				return err
			}
		}
		if len(page) < exportPage {
			return nil
		}
	}
}

// scanObject reads a row as JSON. Columns that end in _at, and at, are times;
// texts that are JSON stand in it as they are.
func scanObject(rows *sql.Rows) (json.RawMessage, error) {
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	values, into := make([]any, len(names)), make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	if err := rows.Scan(into...); err != nil {
		return nil, err
	}
	object := map[string]any{}
	for i, name := range names {
		object[name] = shown(name, values[i])
	}
	return json.Marshal(object)
}

// shown is a value as whoever it is about can read it.
func shown(name string, value any) any {
	switch v := value.(type) {
	case int64:
		if name == "at" || strings.HasSuffix(name, "_at") || strings.HasPrefix(name, "not_") {
			return sqldb.Time(v)
		}
	case []byte:
		if json.Valid(v) {
			return json.RawMessage(v)
		}
		if utf8.Valid(v) {
			return string(v)
		}
	case string:
		if text := []byte(v); len(text) > 0 && (text[0] == '{' || text[0] == '[') && json.Valid(text) {
			return json.RawMessage(text)
		}
	}
	return value
}
