package incident

import (
	"context"
	"database/sql"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

const columns = "id, title, severity, state, environment, stamp, owner, opened_by, began_at, opened_at, changed_at, resolved_at, resolution"

func scanIncident(rows *sql.Rows) (i Incident, err error) {
	var began, opened, changed int64
	var resolved sql.NullInt64
	err = rows.Scan(&i.ID, &i.Title, &i.Severity, &i.State, &i.Environment, &i.Stamp, &i.Owner, &i.OpenedBy, &began, &opened, &changed, &resolved, &i.Resolution)
	i.BeganAt, i.OpenedAt, i.ChangedAt, i.ResolvedAt = sqldb.Time(began), sqldb.Time(opened), sqldb.Time(changed), sqldb.NullTime(resolved)
	return i, err
}

func list(ctx context.Context, q sqldb.Querier, where string, args ...any) ([]Incident, error) {
	return sqldb.Rows(ctx, q, scanIncident, "SELECT "+columns+" FROM incident WHERE "+where, args...)
}

func get(ctx context.Context, q sqldb.Querier, id string) (Incident, error) {
	i, found, err := sqldb.Row(ctx, q, scanIncident, "SELECT "+columns+" FROM incident WHERE id = ?", id)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no incident %s", id)
	}
	return i, err
}

func insert(ctx context.Context, tx *sqldb.Tx, i Incident) error {
	_, err := tx.Exec(ctx, "INSERT INTO incident ("+columns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, '')",
		i.ID, i.Title, i.Severity, string(i.State), i.Environment, i.Stamp, i.Owner, i.OpenedBy, sqldb.Micros(i.BeganAt), sqldb.Micros(i.OpenedAt), sqldb.Micros(i.ChangedAt))
	return err
}

func save(ctx context.Context, tx *sqldb.Tx, i Incident) error {
	_, err := tx.Exec(ctx, "UPDATE incident SET state = ?, owner = ?, changed_at = ?, resolved_at = ?, resolution = ? WHERE id = ?",
		string(i.State), i.Owner, sqldb.Micros(i.ChangedAt), nullMicros(i.ResolvedAt), i.Resolution, i.ID)
	return err
}

func nullMicros(t *time.Time) any {
	if t == nil {
		return nil
	}
	return sqldb.Micros(*t)
}

func note(ctx context.Context, tx *sqldb.Tx, incident string, n Note) error {
	_, err := tx.Exec(ctx, "INSERT INTO incident_note (incident, at, actor, kind, text) VALUES (?, ?, ?, ?, ?)", incident, sqldb.Micros(n.At), n.Actor, n.Kind, n.Text)
	return err
}

func scanNote(rows *sql.Rows) (n Note, err error) {
	var at int64
	err = rows.Scan(&at, &n.Actor, &n.Kind, &n.Text)
	n.At = sqldb.Time(at)
	return n, err
}

// maxNotes are as many as are shown of an incident.
const maxNotes = 1000

func notes(ctx context.Context, q sqldb.Querier, incident string) ([]Note, error) {
	return sqldb.Rows(ctx, q, scanNote, "SELECT at, actor, kind, text FROM incident_note WHERE incident = ? ORDER BY sequence LIMIT ?", incident, maxNotes)
}

func insertEpisode(ctx context.Context, tx *sqldb.Tx, e Episode) error {
	_, err := tx.Exec(ctx, "INSERT INTO alert_episode (fingerprint, began_at, ended_at, name, severity, environment, stamp, summary, incident) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		e.Fingerprint, sqldb.Micros(e.BeganAt), nullMicros(e.EndedAt), e.Name, e.Severity, e.Environment, e.Stamp, e.Summary, e.Incident)
	return err
}

func endEpisode(ctx context.Context, tx *sqldb.Tx, e Episode, at time.Time) error {
	_, err := tx.Exec(ctx, "UPDATE alert_episode SET ended_at = ? WHERE fingerprint = ? AND began_at = ?", sqldb.Micros(at), e.Fingerprint, sqldb.Micros(e.BeganAt))
	return err
}

func scanEpisode(rows *sql.Rows) (e Episode, err error) {
	var began int64
	var ended sql.NullInt64
	err = rows.Scan(&e.Fingerprint, &began, &ended, &e.Name, &e.Severity, &e.Environment, &e.Stamp, &e.Summary, &e.Incident)
	e.BeganAt, e.EndedAt = sqldb.Time(began), sqldb.NullTime(ended)
	return e, err
}

func episodes(ctx context.Context, q sqldb.Querier, where string, args ...any) ([]Episode, error) {
	return sqldb.Rows(ctx, q, scanEpisode, "SELECT fingerprint, began_at, ended_at, name, severity, environment, stamp, summary, incident FROM alert_episode WHERE "+where+" ORDER BY began_at, fingerprint LIMIT 1000", args...)
}

func forget(ctx context.Context, tx *sqldb.Tx, before time.Time) error {
	_, err := tx.Exec(ctx, "DELETE FROM alert_episode WHERE began_at < ? AND ended_at IS NOT NULL AND incident = ''", sqldb.Micros(before))
	return err
}
