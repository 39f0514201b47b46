package audit

import (
	"context"
	"time"

	"github.com/slipway/slipway/internal/sqldb"
)

const (
	eraseWho  = "UPDATE audit_payload SET who_salt = NULL, actor = NULL WHERE actor IS NOT NULL"
	eraseWhat = "UPDATE audit_payload SET what_salt = NULL, object = NULL, reason = NULL, detail = NULL, before = NULL, after = NULL WHERE object IS NOT NULL"
)

// EraseActor forgets who it was in all entries of a name, and tells how many
// there were. Who counts them still sees that it was one person, by the id.
func (l *Log) EraseActor(ctx context.Context, tx *sqldb.Tx, actor string) (int64, error) {
	return tx.Exec(ctx, eraseWho+" AND actor = ?", actor)
}

// EraseObject forgets what it was in all entries about an object and what is
// below it, such as a device's modules.
func (l *Log) EraseObject(ctx context.Context, tx *sqldb.Tx, object string) (int64, error) {
	below := object + "/"
	return tx.Exec(ctx, eraseWhat+" AND (object = ? OR substr(object, 1, ?) = ?)", object, len([]rune(below)), below)
}

// Forget erases both of entries of an environment, or of none, that are older
// than a moment; dry only counts them.
func (l *Log) Forget(ctx context.Context, tx *sqldb.Tx, environment string, before time.Time, dry bool) (int64, error) {
	const old = " IN (SELECT sequence FROM audit WHERE environment = ? AND at < ?)"
	if dry {
		n, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT count(*) FROM audit_payload WHERE (actor IS NOT NULL OR object IS NOT NULL) AND sequence"+old, environment, sqldb.Micros(before))
		return n, err
	}
	n, err := tx.Exec(ctx, eraseWhat+" AND sequence"+old, environment, sqldb.Micros(before))
	if err != nil {
		return n, err
	}
	m, err := tx.Exec(ctx, eraseWho+" AND sequence"+old, environment, sqldb.Micros(before))
	return max(n, m), err
}
