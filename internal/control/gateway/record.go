package gateway

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/grant"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

const selectSessions = "SELECT last_at, lines, bytes, document FROM recording"

func scanSession(rows *sql.Rows) (s Session, err error) {
	var last, size int64
	var lines int
	var text []byte
	if err = rows.Scan(&last, &lines, &size, &text); err != nil {
		return s, err
	}
	err = json.Unmarshal(text, &s)
	s.LastAt, s.Lines, s.Bytes = sqldb.Time(last), lines, size
	return s, err
}

func (g *Gateway) sessions(ctx context.Context, where string, args ...any) ([]Session, error) {
	return sqldb.Rows(ctx, g.o.DB, scanSession, selectSessions+" WHERE "+where, args...)
}

func session(ctx context.Context, q sqldb.Querier, id string) (Session, error) {
	s, found, err := sqldb.Row(ctx, q, scanSession, selectSessions+" WHERE id = ?", id)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no session %q", id)
	}
	return s, err
}

// begin stores a new session under the next id, before anything is done in it.
func (g *Gateway) begin(ctx context.Context, tx *sqldb.Tx, s *Session) error {
	count := func(query string) (n int, err error) {
		n, _, err = sqldb.Row(ctx, tx, func(rows *sql.Rows) (n int, err error) { return n, rows.Scan(&n) }, query)
		return n, err
	}
	open, err := count("SELECT count(*) FROM recording WHERE open = 1")
	if err != nil {
		return err
	}
	if open >= maxOpen {
		return problem.New(problem.Busy, "%d sessions are open, the most there may be; close some", open).After(time.Minute)
	}
	number, err := count("SELECT coalesce(max(sequence), 0) + 1 FROM recording")
	if err != nil {
		return err
	}
	s.ID, s.OpenedAt = fmt.Sprintf("session-%d", number), g.now()
	s.LastAt = s.OpenedAt
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO recording (id, environment, person, grant_id, way, open, opened_at, last_at, lines, bytes, document) VALUES (?, ?, ?, ?, ?, 1, ?, ?, 0, 0, ?)",
		s.ID, s.Environment, s.Person, s.Grant, s.Way, sqldb.Micros(s.OpenedAt), sqldb.Micros(s.OpenedAt), string(text)); err != nil {
		return err
	}
	by := s.Name
	if s.Way != Shell {
		by = grant.Robot // it follows from a request, which has an entry of its own
	}
	return g.o.Audit.Record(ctx, tx, audit.Entry{Actor: by, Action: "session.open", Object: "session/" + s.ID, Environment: s.Environment, Grant: s.Grant, Outcome: audit.Done, Detail: s.summary()})
}

// summary says in a line what a session is.
func (s Session) summary() string {
	text := s.Way + " in " + s.Environment
	for _, part := range []struct{ word, of string }{{"under", s.Grant}, {"on stamp", s.Stamp}, {"on device", s.Device}} {
		if part.of != "" {
			text += " " + part.word + " " + part.of
		}
	}
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return text
}

// errFull says that a record has no room for another line.
var errFull = problem.New(problem.Conflict, "the session's record is full (%d lines, %d MiB); open another session", maxLines, maxBytes>>20)

// errClosed says that a session is closed.
var errClosed = problem.New(problem.Conflict, "the session is closed; open another")

// write records a line; it is durable when write returns.
func (g *Gateway) write(ctx context.Context, id, kind, text string) error {
	// Who asked may be gone by now; what was done is recorded all the same.
	err := g.o.DB.Commit(context.WithoutCancel(ctx), func(ctx context.Context, tx *sqldb.Tx) error {
		return g.append(ctx, tx, id, kind, text)
	})
	g.bell.Ring()
	return err
}

func (g *Gateway) append(ctx context.Context, tx *sqldb.Tx, id, kind, text string) error {
	s, err := session(ctx, tx, id)
	if err != nil {
		return err
	}
	text = bounded(mask(text))
	switch {
	case s.ClosedAt != nil:
		return errClosed
	case kind == In && (s.Lines >= maxLines || s.Bytes >= maxBytes):
		return errFull // an answer always has room: what it answers was recorded
	}
	now := g.now()
	if now.Before(s.LastAt) {
		now = s.LastAt // the clock was set back; a record goes forward
	}
	if _, err := tx.Exec(ctx, "INSERT INTO recording_line (recording, number, at, kind, text, request) VALUES (?, ?, ?, ?, ?, ?)", id, s.Lines+1, now.Sub(s.OpenedAt).Microseconds(), kind, text, audit.RequestOf(ctx)); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "UPDATE recording SET lines = lines + 1, bytes = bytes + ?, last_at = ? WHERE id = ?", len(text), sqldb.Micros(now), id)
	return err
}

// bounded cuts a text that is too long for a line of a record, and makes it
// text if it is not.
func bounded(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD") // PostgreSQL takes no zero
	if len(text) <= maxText {
		return text
	}
	cut := maxText
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return fmt.Sprintf("%s… (%d bytes more)", text[:cut], len(text)-cut)
}

// Lines returns lines of a record after a number, and whether there are more.
func (g *Gateway) Lines(ctx context.Context, id string, after, limit int) ([]Line, error) {
	return sqldb.Rows(ctx, g.o.DB, func(rows *sql.Rows) (l Line, err error) {
		return l, rows.Scan(&l.Number, &l.At, &l.Kind, &l.Text, &l.Request)
	}, "SELECT number, at, kind, text, request FROM recording_line WHERE recording = ? AND number > ? ORDER BY number LIMIT ?", id, after, limit)
}

// Mark is a line of a session's record.
type Mark struct {
	Session string `json:"session"`
	Number  int    `json:"number"`
}

// Recorded finds what a request did in the records of sessions: the line by
// which it came, in each.
func (g *Gateway) Recorded(ctx context.Context, request string) ([]Mark, error) {
	if request == "" {
		return nil, nil
	}
	return sqldb.Rows(ctx, g.o.DB, func(rows *sql.Rows) (m Mark, err error) {
		return m, rows.Scan(&m.Session, &m.Number)
	}, "SELECT recording, min(number) FROM recording_line WHERE request = ? AND request <> '' GROUP BY recording ORDER BY recording LIMIT 20", request)
}

// close closes a session and puts the digest of its record into the audit log.
func (g *Gateway) close(ctx context.Context, id, actor, outcome string) error {
	err := g.o.DB.Commit(context.WithoutCancel(ctx), func(ctx context.Context, tx *sqldb.Tx) error {
		return g.seal(ctx, tx, id, actor, outcome)
	})
	g.bell.Ring()
	return err
}

func (g *Gateway) seal(ctx context.Context, tx *sqldb.Tx, id, actor, outcome string) error {
	s, err := session(ctx, tx, id)
	if err != nil || s.ClosedAt != nil {
		return err
	}
	sum := sha256.New()
	if err := cast(ctx, tx, s, sum); err != nil {
		return err
	}
	now := g.now()
	s.ClosedAt, s.Outcome, s.Digest = &now, outcome, hex.EncodeToString(sum.Sum(nil))
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "UPDATE recording SET open = 0, document = ? WHERE id = ?", string(text), id); err != nil {
		return err
	}
	return g.o.Audit.Record(ctx, tx, audit.Entry{
		Actor: actor, Action: "session.close", Object: "session/" + id, Environment: s.Environment, Grant: s.Grant, Outcome: audit.Done, Detail: fmt.Sprintf("%s; %d lines, sha256 %s", outcome, s.Lines, s.Digest),
	})
}

// castPage is how many lines of a record are read at once.
const castPage = 200

// cast writes a record as an asciicast: a line of JSON that describes it, and
// then one for each line of it. It depends on nothing that changes later.
func cast(ctx context.Context, q sqldb.Querier, s Session, out io.Writer) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(map[string]any{
		"version": 2, "width": 120, "height": 40, "timestamp": s.OpenedAt.Unix(), "title": s.ID + ": " + s.Name + ", " + s.summary(),
	}); err != nil {
		return err
	}
	for after := 0; ; {
		lines, err := sqldb.Rows(ctx, q, func(rows *sql.Rows) (l Line, err error) {
			return l, rows.Scan(&l.Number, &l.At, &l.Kind, &l.Text)
		}, "SELECT number, at, kind, text FROM recording_line WHERE recording = ? AND number > ? ORDER BY number LIMIT ?", s.ID, after, castPage)
		if err != nil || len(lines) == 0 {
			return err
		}
		for _, l := range lines {
			if err := encoder.Encode([]any{json.Number(fmt.Sprintf("%d.%06d", l.At/1e6, l.At%1e6)), l.Kind, l.shown()}); err != nil {
				return err
			}
		}
		after = lines[len(lines)-1].Number
	}
}

// shown is a line as a terminal shows it.
func (l Line) shown() string {
	text := strings.ReplaceAll(strings.TrimRight(l.Text, "\n"), "\n", "\r\n") + "\r\n"
	if l.Kind == In {
		return "> " + text
	}
	return text
}

// Cast writes the record of a session as an asciicast, version 2. The SHA-256
// of what it writes of a closed session is the digest in the audit log.
func (g *Gateway) Cast(ctx context.Context, id string, out io.Writer) error {
	s, err := session(ctx, g.o.DB, id)
	if err != nil {
		return err
	}
	return cast(ctx, g.o.DB, s, out)
}

// Verify reads a record anew and reports whether it still has the digest that
// the audit log was given.
func (g *Gateway) Verify(ctx context.Context, id string) (bool, error) {
	s, err := session(ctx, g.o.DB, id)
	if err != nil || s.Digest == "" {
		return false, err
	}
	sum := sha256.New()
	err = cast(ctx, g.o.DB, s, sum)
	return hex.EncodeToString(sum.Sum(nil)) == s.Digest, err
}
