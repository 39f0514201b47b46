package configuration

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// Gates judge changes.
type Gates interface {
	Judge(ctx context.Context, now time.Time, gates []resource.Gate, s gate.Subject) ([]gate.Result, error)
	Approve(ctx context.Context, actor access.Actor, s gate.Subject, reason string) error
	Halts(ctx context.Context, environment string) ([]gate.Halt, error)
}

// Options are what configurations work with.
type Options struct {
	DB    *sqldb.DB
	Audit *audit.Log
	Gates Gates
	// Environment finds an environment by its name.
	Environment func(ctx context.Context, name string) (resource.Environment, error)
	Stamps      func(ctx context.Context) ([]resource.Stamp, error)
	// Put gives a stamp the configurations that it is to have.
	Put    func(ctx context.Context, stamp string, all link.WantedConfigurations) error
	Logger *slog.Logger
	Now    func() time.Time
}

// Configurations are those of an installation.
type Configurations struct {
	o    Options
	look chan struct{}
}

// New returns the configurations kept in a database.
func New(o Options) *Configurations { return &Configurations{o: o, look: make(chan struct{}, 1)} }

func (c *Configurations) kick() {
	select {
	case c.look <- struct{}{}:
	default:
	}
}

// Ask is a version that is to be in force in an environment.
type Ask struct {
	Environment, Name string
	Number            int64 // 0 is the newest, or upstream's where there is one
	Reason            string
}

// Promote asks for a version to be in force in an environment. It is, once it
// is in the environment before and the environment's gates let it in.
func (c *Configurations) Promote(ctx context.Context, actor access.Actor, ask Ask) (Change, error) {
	env, err := c.o.Environment(ctx, ask.Environment)
	if err != nil {
		return Change{}, err
	}
	if ask.Number == 0 {
		if ask.Number, err = c.candidate(ctx, env, ask.Name); err != nil {
			return Change{}, err
		}
	}
	change, err := c.begin(ctx, actor, ask, false)
	if err != nil {
		return change, err
	}
	return c.stepped(ctx, change)
}

// stepped takes a change as far as it may come and returns it as it is then.
func (c *Configurations) stepped(ctx context.Context, change Change) (Change, error) {
	if err := c.Step(ctx); err != nil {
		return change, err
	}
	after, _, err := sqldb.Row(ctx, c.o.DB, scanChange, selectChanges+" WHERE sequence = ?", change.Sequence)
	return after, err
}

// candidate is the version that comes next: what the environment before has, or
// the newest where nothing comes before.
func (c *Configurations) candidate(ctx context.Context, env resource.Environment, name string) (int64, error) {
	if from := env.Spec.PromotesFrom; from != "" {
		s, err := standing(ctx, c.o.DB, from, name)
		if err == nil && s.Number == 0 {
			err = problem.New(problem.Conflict, "%s has no version of %s in force; promote it there first", from, name)
		}
		return s.Number, err
	}
	newest, found, err := sqldb.Row(ctx, c.o.DB, scanVersion, selectVersions+" WHERE name = ? ORDER BY number DESC LIMIT 1", name)
	if err == nil && !found {
		err = problem.New(problem.Conflict, "configuration %s has no version yet; slipway configuration write makes one", name)
	}
	return newest.Number, err
}

// Rollback has an environment go back to the version that was in force before,
// at once: no gate is asked.
func (c *Configurations) Rollback(ctx context.Context, actor access.Actor, ask Ask) (Change, error) {
	if _, err := c.o.Environment(ctx, ask.Environment); err != nil {
		return Change{}, err
	}
	change, err := c.begin(ctx, actor, ask, true)
	if err == nil {
		c.kick()
	}
	return change, err
}

// begin records a change; one that leads back is in force with that.
func (c *Configurations) begin(ctx context.Context, actor access.Actor, ask Ask, back bool) (change Change, err error) {
	if err := checkReason(ask.Reason); err != nil {
		return change, err
	}
	now := c.o.Now().UTC().Truncate(time.Microsecond)
	err = c.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := readDefinition(ctx, tx, ask.Name); err != nil {
			return err
		}
		has, err := standing(ctx, tx, ask.Environment, ask.Name)
		if err != nil {
			return err
		}
		number := ask.Number
		if back && number == 0 {
			if number, err = before(ctx, tx, has); err != nil {
				return err
			}
		}
		if number == has.Number {
			return problem.New(problem.Conflict, "%s has version %d of %s in force already", ask.Environment, number, ask.Name)
		}
		if number != 0 {
			if _, err := readVersion(ctx, tx, ask.Name, number); err != nil {
				return err
			}
		}
		change = Change{Environment: ask.Environment, Name: ask.Name, Number: number, From: has.Number, Back: back, State: Waiting, By: actor.Name, Person: personOf(actor), Reason: ask.Reason, At: now}
		if back {
			change.State, change.EndedAt, change.EndedBy = InForce, &now, actor.Name
		}
		if change, err = insert(ctx, tx, change); err != nil {
			return err
		}
		action := "configuration.promote"
		if back {
			action = "configuration.rollback"
			if err := settle(ctx, tx, change); err != nil {
				return err
			}
		}
		return c.o.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: action, Object: "configuration/" + ask.Name, Environment: ask.Environment, Outcome: audit.Done, Reason: ask.Reason, Detail: fmt.Sprintf("version %d, after %d", number, has.Number)})
	})
	return change, err
}

// personOf is who answers for a program.
func personOf(actor access.Actor) string {
	if who := actor.Who(); who != actor.Name {
		return who
	}
	return ""
}

// before is the version that was in force before the one that is; 0 where
// nothing was.
func before(ctx context.Context, tx *sqldb.Tx, has Standing) (int64, error) {
	if has.Number == 0 {
		return 0, problem.New(problem.Conflict, "%s has no version of %s in force that it could go back from", has.Environment, has.Name)
	}
	changes, err := sqldb.Rows(ctx, tx, scanChange, selectChanges+" WHERE name = ? AND environment = ? ORDER BY sequence DESC LIMIT 1000", has.Name, has.Environment)
	for _, one := range changes {
		if one.ID == has.Change {
			return one.From, err
		}
	}
	return 0, err
}

func insert(ctx context.Context, tx *sqldb.Tx, c Change) (Change, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return c, err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO configuration_change (name, environment, state, document) VALUES (?, ?, ?, ?)", c.Name, c.Environment, string(c.State), string(text)); err != nil {
		return c, err
	}
	stored, _, err := sqldb.Row(ctx, tx, scanChange, selectChanges+" WHERE name = ? AND environment = ? ORDER BY sequence DESC LIMIT 1", c.Name, c.Environment)
	return stored, err
}

func update(ctx context.Context, tx *sqldb.Tx, c Change) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	n, err := tx.Exec(ctx, "UPDATE configuration_change SET state = ?, document = ? WHERE sequence = ? AND state = ?", string(c.State), string(text), c.Sequence, string(Waiting))
	if err == nil && n == 0 {
		err = problem.New(problem.Conflict, "%s is over", c.ID)
	}
	return err
}

// settle has the version of a change be what is in force.
func settle(ctx context.Context, tx *sqldb.Tx, c Change) error {
	_, err := tx.Exec(ctx, `INSERT INTO configuration_standing (environment, name, number, since, change_id) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (environment, name) DO UPDATE SET number = excluded.number, since = excluded.since, change_id = excluded.change_id`,
		c.Environment, c.Name, c.Number, sqldb.Micros(*c.EndedAt), c.ID)
	return err
}

// find is a change that waits in an environment.
func (c *Configurations) find(ctx context.Context, environment, name string) (Change, error) {
	waiting, found, err := sqldb.Row(ctx, c.o.DB, scanChange, selectChanges+" WHERE name = ? AND environment = ? AND state = ? ORDER BY sequence DESC LIMIT 1", name, environment, string(Waiting))
	if err == nil && !found {
		err = problem.New(problem.NotFound, "no change of %s waits in %s", name, environment)
	}
	return waiting, err
}

// Approve records that somebody agrees to the change of a configuration that
// waits in an environment. Who asked for it cannot.
func (c *Configurations) Approve(ctx context.Context, actor access.Actor, environment, name, reason string) (Change, error) {
	waiting, err := c.find(ctx, environment, name)
	if err != nil {
		return waiting, err
	}
	if err := c.o.Gates.Approve(ctx, actor, subject(waiting, "", nil), reason); err != nil {
		return waiting, err
	}
	return c.stepped(ctx, waiting)
}

// Withdraw ends a change that waits.
func (c *Configurations) Withdraw(ctx context.Context, actor access.Actor, environment, name, reason string) (Change, error) {
	if err := checkReason(reason); err != nil {
		return Change{}, err
	}
	waiting, err := c.find(ctx, environment, name)
	if err != nil {
		return waiting, err
	}
	now := c.o.Now().UTC()
	waiting.State, waiting.EndedAt, waiting.EndedBy, waiting.Blocks = Withdrawn, &now, actor.Name, nil
	return waiting, c.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := update(ctx, tx, waiting); err != nil {
			return err
		}
		return c.o.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "configuration.withdraw", Object: "configuration/" + name, Environment: environment, Outcome: audit.Done, Reason: reason})
	})
}

// subject is a change as gates judge it: as a release that has nothing but it.
func subject(c Change, upstream string, since *time.Time) gate.Subject {
	s := gate.Subject{
		Environment: c.Environment, Promotion: "configuration-" + c.ID, Requester: cmp.Or(c.Person, c.By), Since: c.At, Upstream: upstream, VerifiedAt: since,
		Release: link.Release{Name: fmt.Sprintf("%s-%d", c.Name, c.Number)},
	}
	if since != nil {
		s.Ran = []gate.Stretch{{From: *since, Healthy: true}}
	}
	return s
}

// Step takes every change that waits as far as it may come.
func (c *Configurations) Step(ctx context.Context) error {
	waiting, err := sqldb.Rows(ctx, c.o.DB, scanChange, selectChanges+" WHERE state = ? ORDER BY sequence", string(Waiting))
	if err != nil {
		return err
	}
	var failed error
	for _, change := range waiting {
		failed = errors.Join(failed, c.stepOne(ctx, change))
	}
	return failed
}

func (c *Configurations) stepOne(ctx context.Context, change Change) error {
	env, err := c.o.Environment(ctx, change.Environment)
	if err != nil {
		return err
	}
	f := facts{upstream: env.Spec.PromotesFrom}
	var since *time.Time
	if f.upstream != "" {
		up, err := standing(ctx, c.o.DB, f.upstream, change.Name)
		if err != nil {
			return err
		}
		if f.inForceUp = up.Number; up.Number == change.Number {
			since = &up.Since
		}
	}
	now := c.o.Now().UTC()
	if policy := env.Spec.Configuration; policy != nil && len(policy.Gates) > 0 {
		if f.gates, err = c.o.Gates.Judge(ctx, now, policy.Gates, subject(change, f.upstream, since)); err != nil {
			return err
		}
	}
	halts, err := c.o.Gates.Halts(ctx, change.Environment)
	if err != nil {
		return err
	}
	var freezes []resource.Freeze
	if env.Spec.Promotion != nil {
		freezes = env.Spec.Promotion.Freeze
	}
	f.opening = gate.Open(now, freezes, halts, "")
	newer, _, err := sqldb.Row(ctx, c.o.DB, scanChange, selectChanges+" WHERE name = ? AND environment = ? ORDER BY sequence DESC LIMIT 1", change.Name, change.Environment)
	if err != nil {
		return err
	}
	f.newer = newer.Sequence
	return c.save(ctx, change, step(change, f, now))
}

// save writes down what became of a change, if anything did.
func (c *Configurations) save(ctx context.Context, was, is Change) error {
	if was.State == is.State && slices.Equal(was.Blocks, is.Blocks) && len(was.Gates) == len(is.Gates) {
		return nil
	}
	err := c.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := update(ctx, tx, is); err != nil || is.State == Waiting {
			return err
		}
		if is.State == InForce {
			if err := settle(ctx, tx, is); err != nil {
				return err
			}
		}
		return c.o.Audit.Record(ctx, tx, audit.Entry{Actor: "slipway", Action: "configuration." + string(is.State), Object: "configuration/" + is.Name, Environment: is.Environment, Outcome: audit.Done, Detail: fmt.Sprintf("version %d, asked for by %s", is.Number, is.By)})
	})
	if problem.Is(err, problem.Conflict) {
		return nil // somebody else was faster
	}
	if err == nil && is.State == InForce {
		c.kick()
	}
	return err
}
