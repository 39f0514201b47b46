package audit

import (
	"cmp"
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Filter selects entries. A text that ends in * is one that they begin with.
type Filter struct {
	Actor       string
	Action      string
	Object      string
	Environment string
	Grant       string
	Request     string
	From, To    time.Time // from one moment until before the other; zero is no bound
	Before      int64     // older than this sequence; 0 begins at the newest
	Limit       int
}

// MaxPage is the most that a page of entries has.
const MaxPage = 1000

// selectEntries joins entries with what became of them.
const selectEntries = `SELECT a.sequence, a.at, a.kind, a.person, a.token, a.grant_id, a.action, a.environment, a.request,
	p.actor, p.object, p.reason, p.detail, p.before, p.after, a.outcome,
	COALESCE(o.sequence, 0), COALESCE(o.outcome, ''), COALESCE(op.detail, ''), COALESCE(op.after, '')
	FROM audit a LEFT JOIN audit_payload p ON p.sequence = a.sequence
	LEFT JOIN audit o ON o.entry = a.sequence AND o.kind = 'outcome'
	LEFT JOIN audit_payload op ON op.sequence = o.sequence
	WHERE a.kind <> 'outcome'`

func scanEntry(rows *sql.Rows) (e Entry, err error) {
	var at int64
	var kind, outcome, detail, after string
	var actor, object, reason, text, before, next sql.NullString
	if err := rows.Scan(&e.Sequence, &at, &kind, &e.Person, &e.Token, &e.Grant, &e.Action, &e.Environment, &e.Request,
		&actor, &object, &reason, &text, &before, &next, &e.Outcome, &e.OutcomeAt, &outcome, &detail, &after); err != nil {
		return e, err
	}
	e.At, e.Consequence = sqldb.Time(at), kind == kindConsequence
	e.Actor, e.Object, e.Reason, e.Detail, e.Before = actor.String, object.String, reason.String, text.String, before.String
	e.Outcome, e.After = cmp.Or(outcome, e.Outcome), cmp.Or(after, next.String)
	if detail != "" {
		e.Detail = strings.TrimPrefix(e.Detail+": "+detail, ": ")
	}
	if !actor.Valid {
		e.Erased = append(e.Erased, "who")
	}
	if !object.Valid {
		e.Erased = append(e.Erased, "what")
	}
	return e, nil
}

// condition is a filter as SQL.
func (f Filter) condition() (text string, args []any) {
	var b strings.Builder
	and := func(column, value string) {
		begins, open := strings.CutSuffix(value, "*")
		switch {
		case value == "":
		case open:
			b.WriteString(" AND substr(" + column + ", 1, ?) = ?")
			args = append(args, len([]rune(begins)), begins)
		default:
			b.WriteString(" AND " + column + " = ?")
			args = append(args, value)
		}
	}
	and("p.actor", f.Actor)
	and("a.action", f.Action)
	and("p.object", f.Object)
	and("a.environment", f.Environment)
	and("a.grant_id", f.Grant)
	and("a.request", f.Request)
	if !f.From.IsZero() {
		b.WriteString(" AND a.at >= ?")
		args = append(args, sqldb.Micros(f.From))
	}
	if !f.To.IsZero() {
		b.WriteString(" AND a.at < ?")
		args = append(args, sqldb.Micros(f.To))
	}
	if f.Before > 0 {
		b.WriteString(" AND a.sequence < ?")
		args = append(args, f.Before)
	}
	return b.String(), args
}

// describe says what a filter selects, for the entry about who looked.
func (f Filter) describe() string {
	var parts []string
	for _, p := range [][2]string{{"actor", f.Actor}, {"action", f.Action}, {"object", f.Object}, {"environment", f.Environment}, {"grant", f.Grant}, {"request", f.Request}} {
		if p[1] != "" {
			parts = append(parts, p[0]+" "+p[1])
		}
	}
	if !f.From.IsZero() {
		parts = append(parts, "from "+f.From.UTC().Format(time.RFC3339))
	}
	if !f.To.IsZero() {
		parts = append(parts, "to "+f.To.UTC().Format(time.RFC3339))
	}
	return cmp.Or(strings.Join(parts, ", "), "everything")
}

// List returns entries with what became of them, newest first. That somebody
// looked is an entry itself, which comes after those that are shown.
func (l *Log) List(ctx context.Context, actor string, f Filter) ([]Entry, error) {
	found, err := l.find(ctx, f)
	if err != nil {
		return nil, err
	}
	return found, l.Write(ctx, Entry{Actor: actor, Action: "audit.read", Object: "audit", Detail: f.describe()})
}

// Changes returns entries, newest first, for what shows no more of them than that
// something was done: why and in detail is for whoever may read the log.
func (l *Log) Changes(ctx context.Context, f Filter) ([]Entry, error) { return l.find(ctx, f) }

// Newest finds the newest entry of an action, as evidence for control itself:
// nobody has looked, and so it is no entry.
func (l *Log) Newest(ctx context.Context, action string) (Entry, bool, error) {
	found, err := l.find(ctx, Filter{Action: action, Limit: 1})
	if err != nil || len(found) == 0 {
		return Entry{}, false, err
	}
	return found[0], true, nil
}

func (l *Log) find(ctx context.Context, f Filter) ([]Entry, error) {
	condition, args := f.condition()
	return sqldb.Rows(ctx, l.db, scanEntry, selectEntries+condition+" ORDER BY a.sequence DESC LIMIT ?", append(args, min(cmp.Or(max(f.Limit, 0), 100), MaxPage))...)
}

func (l *Log) get(ctx context.Context, sequence int64) (Entry, error) {
	e, found, err := sqldb.Row(ctx, l.db, scanEntry, selectEntries+" AND a.sequence = ?", sequence)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no entry %d in the audit log", sequence)
	}
	return e, err
}
