package control

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// AuditWhole reports how many entries the audit log has, and fails where some
// are missing between its first and its last.
func (p *Plane) AuditWhole(ctx context.Context) (entries int64, err error) {
	type span struct{ n, first, last int64 }
	s, _, err := sqldb.Row(ctx, p.db, func(rows *sql.Rows) (s span, err error) { return s, rows.Scan(&s.n, &s.first, &s.last) },
		"SELECT count(*), coalesce(min(sequence), 0), coalesce(max(sequence), 0) FROM audit")
	if err != nil {
		return 0, err
	}
	// PostgreSQL leaves numbers out where a change was taken back.
	if p.db.Dialect() == sqldb.SQLite && s.n > 0 && s.last-s.first+1 != s.n {
		return s.n, fmt.Errorf("of the entries %d to %d there are %d", s.first, s.last, s.n)
	}
	return s.n, nil
}

// NothingToDo asks each environment to take the release that it runs: where
// nothing was lost there is nothing to do, and that is said.
func (p *Plane) NothingToDo(ctx context.Context) (asked int, err error) {
	lanes, err := p.promotions.Board(ctx)
	if err != nil {
		return 0, err
	}
	for _, lane := range lanes {
		if lane.Current == nil || lane.Running != nil || lane.Waiting != nil {
			continue
		}
		asked++
		got, err := p.promotions.Start(ctx, access.Actor{Name: "drill"}, lane.Environment, lane.Current.Release, "a drill")
		switch {
		case err == nil:
			return asked, fmt.Errorf("%s would take release %s once more, as %s", lane.Environment, lane.Current.Release, got.ID)
		case !problem.Is(err, problem.Conflict):
			return asked, err
		}
	}
	return asked, nil
}
