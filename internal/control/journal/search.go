package journal

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Filter selects lines. What is empty selects all.
type Filter struct {
	Text        string // in the message, or in what else the line says, in whatever case
	Level       string // at least as grave
	Plane       string
	Stamp       string
	Environment string
	Tenant      string
	Device      string
	Release     string
	Trace       string
	From, To    time.Time
	Before      int64 // older than this line; 0 begins at the newest
	After       int64 // newer than this line; 0 is no bound
	Limit       int

	rising bool // the oldest first
}

// MaxPage is the most lines at a time.
const MaxPage = 1000

// Entry is a line as it is kept.
type Entry struct {
	ID int64 `json:"id"`
	link.Line
}

func scanInt(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }

func insertLine(ctx context.Context, tx *sqldb.Tx, l line) error {
	_, err := tx.Exec(ctx, `INSERT INTO line (at, level, message, plane, stamp, environment, process, tenant, device, release, trace, span, more, size)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, sqldb.Micros(l.At), int(l.level), l.Message, l.Plane, l.Stamp, l.Environment, l.Process, l.Tenant, l.Device, l.Release, l.Trace, l.Span, string(l.more), l.size)
	return err
}

func scanLine(rows *sql.Rows) (e Entry, err error) {
	var at int64
	var level int
	var more string
	if err := rows.Scan(&e.ID, &at, &level, &e.Message, &e.Plane, &e.Stamp, &e.Environment, &e.Process, &e.Tenant, &e.Device, &e.Release, &e.Trace, &e.Span, &more); err != nil {
		return e, err
	}
	e.At, e.Level = sqldb.Time(at), strings.ToLower(slog.Level(level).String())
	return e, json.Unmarshal([]byte(more), &e.More)
}

// condition is a filter as SQL.
func (f Filter) condition() (text string, args []any, err error) {
	var b strings.Builder
	and := func(condition string, arg any) {
		b.WriteString(" AND " + condition)
		args = append(args, arg)
	}
	for column, value := range map[string]string{
		"plane": f.Plane, "stamp": f.Stamp, "environment": f.Environment, "tenant": f.Tenant, "device": f.Device, "release": f.Release, "trace": f.Trace,
	} {
		if value != "" {
			and(column+" = ?", value)
		}
	}
	if f.Level != "" {
		var level slog.Level
		if err := level.UnmarshalText([]byte(f.Level)); err != nil {
			return "", nil, problem.New(problem.Invalid, "a level is debug, info, warn or error, not %q", f.Level).At("level")
		}
		and("level >= ?", int(level))
	}
	if !f.From.IsZero() {
		and("at >= ?", sqldb.Micros(f.From))
	}
	if !f.To.IsZero() {
		and("at < ?", sqldb.Micros(f.To))
	}
	if f.Before > 0 {
		and("id < ?", f.Before)
	}
	if f.After > 0 {
		and("id > ?", f.After)
	}
	if f.Text != "" {
		and(`lower(message || ' ' || more) LIKE ? ESCAPE '\'`, "%"+strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(strings.ToLower(f.Text))+"%")
	}
	return b.String(), args, nil
}

// Search returns the newest lines that a filter selects, newest first.
func (j *Journal) Search(ctx context.Context, f Filter) ([]Entry, error) {
	condition, args, err := f.condition()
	if err != nil {
		return nil, err
	}
	order := "DESC"
	if f.rising {
		order = "ASC"
	}
	return sqldb.Rows(ctx, j.db, scanLine, "SELECT id, at, level, message, plane, stamp, environment, process, tenant, device, release, trace, span, more FROM line WHERE 1 = 1"+
		condition+" ORDER BY id "+order+" LIMIT ?", append(args, min(cmp.Or(max(f.Limit, 0), 100), MaxPage))...)
}

// followEvery is how long a follower waits at most before it looks again.
const followEvery = 5 * time.Second

// Follow calls each for the last lines that a filter selects, the oldest first,
// and then for those that come, until ctx ends.
func (j *Journal) Follow(ctx context.Context, f Filter, each func(Entry) error) error {
	last, err := j.Search(ctx, f)
	if err != nil {
		return err
	}
	newest, err := sqldb.Rows(ctx, j.db, scanInt, "SELECT coalesce(max(id), 0) FROM line")
	if err != nil {
		return err
	}
	for i := len(last) - 1; i >= 0; i-- {
		if err := each(last[i]); err != nil {
			return err
		}
	}
	f.After, f.Before, f.Limit, f.rising = newest[0], 0, MaxPage, true
	if len(last) > 0 {
		f.After = last[0].ID
	}
	for {
		next := j.more.Next()
		came, err := j.Search(ctx, f)
		if err != nil {
			return err
		}
		for _, one := range came {
			if err := each(one); err != nil {
				return err
			}
			f.After = one.ID
		}
		if len(came) == MaxPage {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-next:
		case <-time.After(followEvery):
		}
	}
}

func insertSpan(ctx context.Context, tx *sqldb.Tx, s link.Span) error {
	more, err := json.Marshal(s.More)
	if err != nil || len(more) > maxText {
		more = []byte("{}")
	}
	_, err = tx.Exec(ctx, "INSERT INTO span (trace, id, parent, name, plane, stamp, began, micros, problem, more) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		s.Trace, s.ID, s.Parent, s.Name, s.Plane, s.Stamp, sqldb.Micros(s.Began), s.Micros, s.Problem, string(more))
	return err
}

func scanSpan(rows *sql.Rows) (s link.Span, err error) {
	var began int64
	var more string
	if err := rows.Scan(&s.Trace, &s.ID, &s.Parent, &s.Name, &s.Plane, &s.Stamp, &began, &s.Micros, &s.Problem, &more); err != nil {
		return s, err
	}
	s.Began = sqldb.Time(began)
	return s, json.Unmarshal([]byte(more), &s.More)
}

const selectSpans = "SELECT trace, id, parent, name, plane, stamp, began, micros, problem, more FROM span"

// Trace returns the spans of a trace, each after the one it is a part of, and
// those that began first before others. Depth says how deep it lies.
func (j *Journal) Trace(ctx context.Context, id string) ([]Step, error) {
	spans, err := sqldb.Rows(ctx, j.db, scanSpan, selectSpans+" WHERE trace = ? ORDER BY began, number LIMIT 1000", id)
	if err == nil && len(spans) == 0 {
		err = problem.New(problem.NotFound, "there is no trace %s, or it is kept no more", id)
	}
	return steps(spans), err
}

// Traces returns what began traces, the newest first.
func (j *Journal) Traces(ctx context.Context, limit int) ([]link.Span, error) {
	return sqldb.Rows(ctx, j.db, scanSpan, selectSpans+" WHERE parent = '' ORDER BY began DESC LIMIT ?", min(cmp.Or(max(limit, 0), 50), MaxPage))
}

// Step is a span with its place in the trace.
type Step struct {
	Depth int `json:"depth"`
	link.Span
}

// steps puts spans in order. Those whose parent is not there, as another has it
// or it was not kept, stand at the beginning of the line.
func steps(spans []link.Span) (all []Step) {
	here, inside := map[string]bool{}, map[string][]link.Span{}
	for _, s := range spans {
		here[s.ID] = true
	}
	for _, s := range spans {
		if !here[s.Parent] || s.Parent == s.ID {
			s.Parent = ""
		}
		inside[s.Parent] = append(inside[s.Parent], s)
	}
	var add func(parent string, depth int)
	add = func(parent string, depth int) {
		children := inside[parent]
		delete(inside, parent)
		for _, s := range children {
			all = append(all, Step{depth, s})
			if s.ID != "" {
				add(s.ID, depth+1)
			}
		}
	}
	add("", 0)
	return all
}
