package grant

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// record is a grant as it is stored.
type record struct {
	version int64
	text    string
	Grant
}

const selectGrants = "SELECT version, document FROM access_grant"

func scanRecord(rows *sql.Rows) (r record, err error) {
	if err = rows.Scan(&r.version, &r.text); err != nil {
		return r, err
	}
	return r, json.Unmarshal([]byte(r.text), &r.Grant)
}

func read(ctx context.Context, q sqldb.Querier, id string) (record, error) {
	r, found, err := sqldb.Row(ctx, q, scanRecord, selectGrants+" WHERE id = ?", id)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no grant %q", id)
	}
	return r, err
}

// due is when time changes a grant next; nil if it does not.
func (g Grant) due() *time.Time {
	switch g.State {
	case Draft, Pending:
		return &g.DecideBy
	case Scheduled:
		return g.StartsAt
	case Active:
		return g.Until
	}
	return nil
}

// micros is a time for a column that may be empty.
func micros(t *time.Time) any {
	if t == nil {
		return nil
	}
	return sqldb.Micros(*t)
}

// insert stores a grant under the next id, with its entry in the audit log.
func (gs *Grants) insert(ctx context.Context, tx *sqldb.Tx, g *Grant, action, actor string) error {
	n, _, err := sqldb.Row(ctx, tx, func(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }, "SELECT coalesce(max(sequence), 0) + 1 FROM access_grant")
	if err != nil {
		return err
	}
	g.ID = fmt.Sprintf("grant-%d", n)
	text, err := json.Marshal(g)
	if err != nil {
		return err
	}
	var alarm any
	if g.BreakGlass {
		alarm = sqldb.Micros(g.CreatedAt)
	}
	if _, err := tx.Exec(ctx, "INSERT INTO access_grant (id, environment, person, state, due_at, alarm_at, version, document) VALUES (?, ?, ?, ?, ?, ?, 1, ?)",
		g.ID, g.Environment, g.Person, string(g.State), micros(g.due()), alarm, string(text)); err != nil {
		return err
	}
	return gs.o.Audit.Record(ctx, tx, audit.Entry{Actor: actor, Action: action, Object: "grant/" + g.ID, Environment: g.Environment, Grant: g.ID, Reason: g.Reason, Outcome: audit.Done, Detail: g.summary()})
}

// save stores what became of a grant, with one entry in the audit log.
func (gs *Grants) save(ctx context.Context, tx *sqldb.Tx, before record, next Grant, action, actor, detail string) error {
	return gs.store(ctx, tx, before, next, audit.Entry{Actor: actor, Action: action, Object: "grant/" + next.ID, Environment: next.Environment, Grant: next.ID, Outcome: audit.Done, Detail: detail})
}

func (gs *Grants) store(ctx context.Context, tx *sqldb.Tx, before record, next Grant, entry audit.Entry) error {
	text, err := json.Marshal(next)
	if err != nil || string(text) == before.text {
		return err
	}
	n, err := tx.Exec(ctx, "UPDATE access_grant SET state = ?, due_at = ?, version = version + 1, document = ? WHERE id = ? AND version = ?",
		string(next.State), micros(next.due()), string(text), next.ID, before.version)
	if err == nil && n == 0 {
		err = problem.New(problem.Stale, "the grant has changed meanwhile; look again")
	}
	if err != nil {
		return err
	}
	return gs.o.Audit.Record(ctx, tx, entry)
}

// summary says in a line what a grant is for.
func (g Grant) summary() string {
	text := fmt.Sprintf("%s in %s for %s: %s for %s", g.Name, g.Environment, g.Duration(), strings.Join(g.Scope.Permissions, " "), g.Purpose)
	for _, bound := range []struct {
		what string
		list []string
	}{{"stamps", g.Scope.Stamps}, {"tenants", g.Scope.Tenants}, {"devices", g.Scope.Devices}} {
		if len(bound.list) > 0 {
			text += fmt.Sprintf(", %s %s", bound.what, strings.Join(bound.list, " "))
		}
	}
	if g.Ticket != "" {
		text += ", " + g.Ticket
	}
	return text + ": " + g.Reason
}

// Filter selects grants of a list.
type Filter struct {
	Environment string
	Person      string
	State       State
	Before      int64 // sequence; 0 is from the newest
	Limit       int
}

const (
	usual = 100
	most  = 1000
)

// list reads grants, newest first, with the sequence of the last if there are
// more.
func (f Filter) list(ctx context.Context, q sqldb.Querier) (all []Grant, next int64, err error) {
	where, args := []string{"sequence < ?"}, []any{f.Before}
	if f.Before <= 0 {
		args[0] = int64(1) << 62
	}
	for _, c := range []struct{ column, value string }{{"environment", f.Environment}, {"person", f.Person}, {"state", string(f.State)}} {
		if c.value != "" {
			where, args = append(where, c.column+" = ?"), append(args, c.value)
		}
	}
	if f.Limit <= 0 {
		f.Limit = usual
	}
	f.Limit = min(f.Limit, most)
	type numbered struct {
		sequence int64
		record
	}
	rows, err := sqldb.Rows(ctx, q, func(rows *sql.Rows) (n numbered, err error) {
		if err = rows.Scan(&n.sequence, &n.text); err != nil {
			return n, err
		}
		return n, json.Unmarshal([]byte(n.text), &n.Grant)
	}, "SELECT sequence, document FROM access_grant WHERE "+strings.Join(where, " AND ")+" ORDER BY sequence DESC LIMIT ?", append(args, f.Limit)...)
	for _, r := range rows {
		all = append(all, r.Grant)
	}
	if len(rows) == f.Limit {
		next = rows[len(rows)-1].sequence
	}
	return all, next, err
}
