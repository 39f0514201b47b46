package gateway

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Filter selects sessions of a list.
type Filter struct {
	Environment string
	Person      string
	Grant       string
	Open        bool
	Before      int64 // sequence; 0 is from the newest
	Limit       int
}

const (
	usual = 100
	most  = 1000
)

// MayRead lets somebody read the record of a session: who did it, who decides
// on grants there, and who audits.
func (g *Gateway) MayRead(ctx context.Context, actor access.Actor, s Session) error {
	if s.Person == personOf(actor) {
		return nil
	}
	return g.mayReadIn(ctx, actor, s.Environment)
}

// mayReadIn lets somebody read every record of an environment, or of all.
func (g *Gateway) mayReadIn(ctx context.Context, actor access.Actor, environment string) error {
	if err := g.o.Check(ctx, actor, auditing, Place{Environment: environment}); err == nil {
		return nil
	}
	return g.o.Check(ctx, actor, deciding, Place{Environment: environment})
}

// List returns sessions that somebody may read, newest first, and the Before of
// the next page.
func (g *Gateway) List(ctx context.Context, actor access.Actor, f Filter) (all []Session, next int64, err error) {
	if err := g.mayReadIn(ctx, actor, f.Environment); problem.Is(err, problem.Denied) {
		if own := personOf(actor); f.Person == "" || f.Person == own {
			f.Person = own
		} else {
			return nil, 0, err
		}
	} else if err != nil {
		return nil, 0, err
	}
	where, args := []string{"sequence < ?"}, []any{f.Before}
	if f.Before <= 0 {
		args[0] = int64(1) << 62
	}
	for _, c := range []struct{ column, value string }{{"environment", f.Environment}, {"person", f.Person}, {"grant_id", f.Grant}} {
		if c.value != "" {
			where, args = append(where, c.column+" = ?"), append(args, c.value)
		}
	}
	if f.Open {
		where = append(where, "open = 1")
	}
	if f.Limit <= 0 {
		f.Limit = usual
	}
	f.Limit = min(f.Limit, most)
	type numbered struct {
		sequence int64
		Session
	}
	rows, err := sqldb.Rows(ctx, g.o.DB, func(rows *sql.Rows) (n numbered, err error) {
		var last int64
		var lines int
		var size int64
		var text []byte
		if err = rows.Scan(&n.sequence, &last, &lines, &size, &text); err != nil {
			return n, err
		}
		err = json.Unmarshal(text, &n.Session)
		n.LastAt, n.Lines, n.Bytes = sqldb.Time(last), lines, size
		return n, err
	}, "SELECT sequence, last_at, lines, bytes, document FROM recording WHERE "+strings.Join(where, " AND ")+" ORDER BY sequence DESC LIMIT ?", append(args, f.Limit)...)
	for _, r := range rows {
		all = append(all, r.Session)
	}
	if len(rows) == f.Limit {
		next = rows[len(rows)-1].sequence
	}
	return all, next, err
}

// Get returns a session.
func (g *Gateway) Get(ctx context.Context, id string) (Session, error) {
	return session(ctx, g.o.DB, id)
}

// followPage is how many lines a follower is given at once.
const followPage = 200

// Follow calls each for the lines of a session as they are recorded, until it
// is closed.
func (g *Gateway) Follow(ctx context.Context, id string, after int, each func(Line) error) (Session, error) {
	for {
		changed := g.bell.Next()
		s, err := session(ctx, g.o.DB, id)
		if err != nil {
			return s, err
		}
		lines, err := g.Lines(ctx, id, after, followPage)
		for _, l := range lines {
			if err := each(l); err != nil {
				return s, err
			}
			after = l.Number
		}
		if err != nil || len(lines) == 0 && s.ClosedAt != nil {
			return s, err
		}
		if len(lines) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return s, nil
		case <-changed:
		}
	}
}
