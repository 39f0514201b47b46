package enrollment

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
)

// keptSpec holds the keys of an enrolment, so it is sealed.
var keptSpec = sqldb.Sealed{Table: "enrollment", Key: []string{"kind", "name_key"}, Name: "spec"}

// Sealed are the columns that hold secrets.
var Sealed = []sqldb.Sealed{keptSpec}

const columns = "kind, name_key, name, version, spec, created_at, updated_at"

// stored is an enrolment with the number behind its ETag.
type stored struct {
	link.Enrollment
	version int64
}

func scan(r *sql.Rows) (e stored, err error) {
	var kind, key, spec string
	var created, updated int64
	if err := r.Scan(&kind, &key, &e.Name, &e.version, keptSpec.Into(&spec, &kind, &key), &created, &updated); err != nil {
		return e, err
	}
	if err := json.Unmarshal([]byte(spec), &e.Spec); err != nil {
		return e, fmt.Errorf("enrolment %s: %w", e.Name, err)
	}
	e.Kind, e.ETag = link.EnrollmentKind(kind), etag(e.version)
	e.CreatedAt, e.UpdatedAt = sqldb.Time(created), sqldb.Time(updated)
	return e, nil
}

func load(ctx context.Context, q sqldb.Querier, kind link.EnrollmentKind, name string) (stored, bool, error) {
	return sqldb.Row(ctx, q, scan, "SELECT "+columns+" FROM enrollment WHERE kind = ? AND name_key = ?", string(kind), Key(name))
}

// Load finds an enrolment, as a change's own transaction sees it.
func Load(ctx context.Context, q sqldb.Querier, kind link.EnrollmentKind, name string) (link.Enrollment, bool, error) {
	e, found, err := load(ctx, q, kind, name)
	return e.Enrollment, found, err
}

// Check holds an enrolment, whose spec is complete, against the rules.
func Check(e link.Enrollment) error { return validate(e) }

// Add stores an individual enrolment that is checked and not there yet, as part
// of a larger change.
func Add(ctx context.Context, tx *sqldb.Tx, e link.Enrollment, now time.Time) error {
	e.CreatedAt, e.UpdatedAt = now, now
	return save(ctx, tx, stored{Enrollment: e, version: 1})
}

func list(ctx context.Context, q sqldb.Querier, kind link.EnrollmentKind, after string, limit int) ([]stored, error) {
	return sqldb.Rows(ctx, q, scan, "SELECT "+columns+" FROM enrollment WHERE kind = ? AND name_key > ? AND substr(name_key, 1, ?) <> ? ORDER BY name_key LIMIT ?",
		string(kind), Key(after), len(link.Probe("")), link.Probe(""), limit) // those of probes are nobody's to declare
}

func save(ctx context.Context, tx *sqldb.Tx, e stored) error {
	spec, err := json.Marshal(e.Spec)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "INSERT INTO enrollment (kind, name_key, name, version, spec, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?)"+
		" ON CONFLICT (kind, name_key) DO UPDATE SET version = excluded.version, spec = excluded.spec, updated_at = excluded.updated_at",
		string(e.Kind), Key(e.Name), e.Name, e.version, tx.Seal(keptSpec, spec, string(e.Kind), Key(e.Name)), sqldb.Micros(e.CreatedAt), sqldb.Micros(e.UpdatedAt))
	return err
}

func remove(ctx context.Context, tx *sqldb.Tx, kind link.EnrollmentKind, name string) error {
	_, err := tx.Exec(ctx, "DELETE FROM enrollment WHERE kind = ? AND name_key = ?", string(kind), Key(name))
	return err
}
