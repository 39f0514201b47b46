package readiness

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Answers are what people said of an environment, or of all where none is named;
// those that count no more are among them.
func (r *Readiness) Answers(ctx context.Context, environment string) ([]Answer, error) {
	scan := func(rows *sql.Rows) (a Answer, err error) {
		var text []byte
		if err = rows.Scan(&text); err != nil {
			return a, err
		}
		return a, json.Unmarshal(text, &a)
	}
	if environment == "" {
		return sqldb.Rows(ctx, r.DB, scan, "SELECT document FROM readiness_answer ORDER BY environment, check_id")
	}
	return sqldb.Rows(ctx, r.DB, scan, "SELECT document FROM readiness_answer WHERE environment = ? ORDER BY check_id", environment)
}

// Answer keeps what somebody says of a check, in place of what was said before.
func (r *Readiness) Answer(ctx context.Context, actor access.Actor, a Answer) (Answer, error) {
	a.By, a.At, a.Until = actor.Name, r.Now().UTC(), a.Until.UTC()
	if err := a.check(a.At); err != nil {
		return a, err
	}
	text, err := json.Marshal(a)
	if err != nil {
		return a, err
	}
	return a, r.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := mustExist(ctx, tx, a.Environment); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO readiness_answer (environment, check_id, document) VALUES (?, ?, ?) ON CONFLICT (environment, check_id) DO UPDATE SET document = excluded.document",
			a.Environment, a.Check, string(text)); err != nil {
			return err
		}
		said := "it is so"
		if !a.Applies {
			said = "it does not apply"
		}
		return r.Audit.Record(ctx, tx, audit.Entry{
			Actor: actor.Name, Action: "readiness.answer", Object: "readiness/" + a.Check, Environment: a.Environment, Reason: a.Reason, Outcome: audit.Done,
			Detail: fmt.Sprintf("%s, says %s, until %s", said, a.Owner, a.Until.Format(time.RFC3339)),
		})
	})
}

// Withdraw takes an answer back.
func (r *Readiness) Withdraw(ctx context.Context, actor access.Actor, environment, check string) error {
	return r.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Exec(ctx, "DELETE FROM readiness_answer WHERE environment = ? AND check_id = ?", environment, check)
		if err == nil && n == 0 {
			err = problem.New(problem.NotFound, "nobody has answered %s in %s", check, environment)
		}
		if err != nil {
			return err
		}
		return r.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "readiness.withdraw", Object: "readiness/" + check, Environment: environment, Outcome: audit.Done})
	})
}

func mustExist(ctx context.Context, q sqldb.Querier, environment string) error {
	_, found, err := sqldb.Row(ctx, q, func(rows *sql.Rows) (name string, err error) { return name, rows.Scan(&name) }, "SELECT name FROM environment WHERE name = ?", environment)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no environment %q", environment)
	}
	return err
}

// Owners are who answers for each topic.
func (r *Readiness) Owners(ctx context.Context) (map[Topic]string, error) {
	type owned struct {
		topic Topic
		owner string
	}
	all, err := sqldb.Rows(ctx, r.DB, func(rows *sql.Rows) (o owned, err error) { return o, rows.Scan(&o.topic, &o.owner) }, "SELECT topic, owner FROM readiness_owner")
	owners := map[Topic]string{}
	for _, o := range all {
		owners[o.topic] = o.owner
	}
	return owners, err
}

// Own says who answers for a topic; nobody, where the owner is empty.
func (r *Readiness) Own(ctx context.Context, actor access.Actor, topic Topic, owner string) error {
	if !KnownTopic(topic) {
		return problem.New(problem.NotFound, "there is no topic %q", topic).At("topic")
	}
	if len(owner) > 200 {
		return problem.New(problem.Invalid, "an owner has at most 200 characters").At("owner")
	}
	return r.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM readiness_owner WHERE topic = ?", string(topic)); err != nil {
			return err
		}
		if owner != "" {
			if _, err := tx.Exec(ctx, "INSERT INTO readiness_owner (topic, owner) VALUES (?, ?)", string(topic), owner); err != nil {
				return err
			}
		}
		return r.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "readiness.own", Object: "readiness/" + string(topic), Outcome: audit.Done, Detail: owner})
	})
}

// Point is how ready an environment was at a time.
type Point struct {
	At      time.Time `json:"at"`
	Score   int       `json:"score"`
	Ready   bool      `json:"ready"`
	Blocked int       `json:"blocked" doc:"Checks that kept it from production"`
}

func scanPoint(rows *sql.Rows) (p Point, err error) {
	var at int64
	var ready int
	err = rows.Scan(&at, &p.Score, &ready, &p.Blocked)
	p.At, p.Ready = sqldb.Time(at), ready == 1
	return p, err
}

const selectPoints = "SELECT at, score, ready, blocked FROM readiness_score WHERE environment = ?"

// maxPoints bounds what a history returns: a quarter of a year by the hour.
const maxPoints = 2500

// History is how ready an environment was since a time, oldest first.
func (r *Readiness) History(ctx context.Context, environment string, since time.Time) ([]Point, error) {
	if err := mustExist(ctx, r.DB, environment); err != nil {
		return nil, err
	}
	newest, err := sqldb.Rows(ctx, r.DB, scanPoint, selectPoints+" AND at >= ? ORDER BY at DESC LIMIT ?", environment, sqldb.Micros(since), maxPoints)
	points := make([]Point, len(newest))
	for i, p := range newest {
		points[len(newest)-1-i] = p
	}
	return points, err
}

// How often a score is kept that has not changed, and for how long any is.
const (
	keepEvery = time.Hour
	keepFor   = 400 * 24 * time.Hour
)

// keep notes how ready an environment is, where that has changed or an hour has
// passed.
func (r *Readiness) keep(ctx context.Context, v Verdict) error {
	now := Point{At: v.At, Score: v.Score, Ready: v.Ready, Blocked: v.blocked()}
	return r.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		last, found, err := sqldb.Row(ctx, tx, scanPoint, selectPoints+" ORDER BY at DESC LIMIT 1", v.Environment)
		if err != nil {
			return err
		}
		if found && last.Score == now.Score && last.Ready == now.Ready && last.Blocked == now.Blocked && now.At.Sub(last.At) < keepEvery {
			return nil
		}
		ready := 0
		if now.Ready {
			ready = 1
		}
		if _, err := tx.Exec(ctx, "INSERT INTO readiness_score (environment, at, score, ready, blocked) VALUES (?, ?, ?, ?, ?) ON CONFLICT (environment, at) DO NOTHING",
			v.Environment, sqldb.Micros(now.At), now.Score, ready, now.Blocked); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "DELETE FROM readiness_score WHERE at < ?", sqldb.Micros(now.At.Add(-keepFor)))
		return err
	})
}

func (v Verdict) blocked() (n int) {
	for _, card := range v.Scorecards {
		n += card.Blocked
	}
	return n
}
