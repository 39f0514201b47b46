package gate

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

const (
	maxHalts  = 100 // on at once
	seenHalts = 500 // in a list
)

// Halt stops releases now; life is how long it lasts, 0 until it is lifted.
func (g *Gates) Halt(ctx context.Context, actor access.Actor, h Halt, life time.Duration) (Halt, error) {
	if err := checkReason(h.Reason); err != nil {
		return h, err
	}
	if err := resource.CheckExempt(h.Exempt); err != nil {
		return h, err
	}
	if life < 0 {
		return h, problem.New(problem.Invalid, "a halt cannot have ended before it begins").At("expiresIn")
	}
	h = Halt{ID: "h-" + strings.ToLower(rand.Text()[:10]), Environment: h.Environment, Reason: h.Reason, Exempt: h.Exempt, Actor: actor.Name, At: g.Now().UTC().Truncate(time.Microsecond)}
	var until any
	if life > 0 {
		end := h.At.Add(life)
		h.Until, until = &end, sqldb.Micros(end)
	}
	exempt, err := json.Marshal(h.Exempt)
	if err != nil {
		return h, err
	}
	err = g.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := g.mayHalt(ctx, tx, h.Environment); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO halt (id, environment, reason, exempt, actor, at, until, lifted_by) VALUES (?, ?, ?, ?, ?, ?, ?, '')",
			h.ID, h.Environment, h.Reason, string(exempt), h.Actor, sqldb.Micros(h.At), until); err != nil {
			return err
		}
		return g.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "halt", Object: haltOf(h.Environment), Environment: h.Environment, Outcome: audit.Done, Reason: h.Reason})
	})
	return h, err
}

// mayHalt refuses an environment that is not there, and one halt too many.
func (g *Gates) mayHalt(ctx context.Context, tx *sqldb.Tx, environment string) error {
	if err := g.mustExist(ctx, tx, environment); err != nil {
		return err
	}
	n, _, err := sqldb.Row(ctx, tx, scanCount, "SELECT count(*) FROM halt WHERE lifted_at IS NULL AND (until IS NULL OR until > ?)", sqldb.Micros(g.Now()))
	if err == nil && n >= maxHalts {
		err = problem.New(problem.Conflict, "%d halts are on, the most there may be; lift some", n)
	}
	return err
}

func haltOf(environment string) string {
	if environment == "" {
		return "every environment"
	}
	return "environment/" + environment
}

// Lift ends a halt.
func (g *Gates) Lift(ctx context.Context, actor access.Actor, id, reason string) (h Halt, err error) {
	if err := checkReason(reason); err != nil {
		return h, err
	}
	err = g.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		var found bool
		h, found, err = sqldb.Row(ctx, tx, scanHalt, selectHalts+" WHERE id = ?", id)
		if err != nil {
			return err
		}
		now := g.Now().UTC().Truncate(time.Microsecond)
		switch {
		case !found:
			return problem.New(problem.NotFound, "there is no halt %q", id)
		case h.ended(now):
			return problem.New(problem.Conflict, "the halt %s has ended already", id)
		}
		h.LiftedBy, h.LiftedAt = actor.Name, &now
		if _, err := tx.Exec(ctx, "UPDATE halt SET lifted_by = ?, lifted_at = ? WHERE id = ?", actor.Name, sqldb.Micros(now), id); err != nil {
			return err
		}
		return g.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "halt.lift", Object: haltOf(h.Environment), Environment: h.Environment, Outcome: audit.Done, Reason: reason})
	})
	return h, err
}

const selectHalts = "SELECT id, environment, reason, exempt, actor, at, until, lifted_by, lifted_at FROM halt"

func scanHalt(rows *sql.Rows) (h Halt, err error) {
	var exempt []byte
	var at int64
	var until, lifted sql.NullInt64
	if err := rows.Scan(&h.ID, &h.Environment, &h.Reason, &exempt, &h.Actor, &at, &until, &h.LiftedBy, &lifted); err != nil {
		return h, err
	}
	h.At, h.Until, h.LiftedAt = sqldb.Time(at), sqldb.NullTime(until), sqldb.NullTime(lifted)
	return h, json.Unmarshal(exempt, &h.Exempt)
}

// Halts returns the halts that are on for an environment, those of every
// environment among them, oldest first; an empty environment returns all that
// are on.
func (g *Gates) Halts(ctx context.Context, environment string) ([]Halt, error) {
	return sqldb.Rows(ctx, g.DB, scanHalt, selectHalts+` WHERE lifted_at IS NULL AND (until IS NULL OR until > ?)
		AND (? = '' OR environment = '' OR environment = ?) ORDER BY at, id`, sqldb.Micros(g.Now()), environment, environment)
}

// PastHalts returns all halts, newest first, those that have ended among them.
func (g *Gates) PastHalts(ctx context.Context) ([]Halt, error) {
	return sqldb.Rows(ctx, g.DB, scanHalt, selectHalts+" ORDER BY at DESC, id LIMIT ?", seenHalts)
}

// ahead is how far calendars show what comes.
const ahead = 60 * 24 * time.Hour

func freezesOf(environment resource.Environment) []resource.Freeze {
	if environment.Spec.Promotion == nil {
		return []resource.Freeze{}
	}
	return environment.Spec.Promotion.Freeze
}

// Calendars are those of every environment, in order of promotion.
func (g *Gates) Calendars(ctx context.Context) ([]Calendar, error) {
	environments, err := g.Environments(ctx)
	if err != nil {
		return nil, err
	}
	now, all := g.Now(), make([]Calendar, len(environments))
	for i, e := range environments {
		c := Calendar{Environment: e.Metadata.Name, Freezes: freezesOf(e)}
		if c.Halts, err = g.Halts(ctx, c.Environment); err != nil {
			return nil, err
		}
		c.Opening = Open(now, c.Freezes, c.Halts, resource.WorkRelease)
		if c.Windows, err = Windows(now, now.Add(ahead), c.Freezes); err != nil {
			return nil, err
		}
		all[i] = c
	}
	return all, nil
}
