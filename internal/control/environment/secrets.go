package environment

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/sqldb"
)

// maxSecret bounds a secret, in bytes.
const maxSecret = 8192

// Secret tells of a secret of an environment, without it.
type Secret struct {
	Environment string    `json:"environment"`
	Name        string    `json:"name"`
	By          string    `json:"by"`
	At          time.Time `json:"at"`
}

// Secrets tells which secrets an environment keeps.
func (e *Environments) Secrets(ctx context.Context, environment string) ([]Secret, error) {
	if _, err := e.Get(ctx, environment); err != nil {
		return nil, err
	}
	return sqldb.Rows(ctx, e.db, func(rows *sql.Rows) (s Secret, err error) {
		var at int64
		err = rows.Scan(&s.Environment, &s.Name, &s.By, &at)
		s.At = sqldb.Time(at)
		return s, err
	}, "SELECT environment, name, changed_by, changed_at FROM secret WHERE environment = ? ORDER BY name", environment)
}

// SetSecret gives an environment a secret that its routes name. It goes to
// the stamps with them, and is never shown.
func (e *Environments) SetSecret(ctx context.Context, actor access.Actor, environment, name, value string) error {
	if err := resource.CheckSecretName(name); err != nil {
		return err
	}
	switch {
	case value == "" || len(value) > maxSecret:
		return problem.New(problem.Invalid, "a secret has 1 to %d bytes, not %d", maxSecret, len(value)).At("value")
	case value == resource.Mask:
		return problem.New(problem.Invalid, "%s stands for a secret and is none", resource.Mask).At("value")
	case e.Box == nil:
		return problem.New(problem.NotReady, "this process cannot keep secrets")
	}
	sealed := e.Box.Seal(sealedAs(environment, name), []byte(value))
	return e.editSecret(ctx, actor, "secret.set", environment, name, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO secret (environment, name, sealed, changed_by, changed_at) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (environment, name) DO UPDATE SET sealed = excluded.sealed, changed_by = excluded.changed_by, changed_at = excluded.changed_at`,
			environment, name, sealed, actor.Name, sqldb.Micros(e.now()))
		return err
	})
}

// DeleteSecret takes a secret from an environment. Routes that name it are not
// on its stamps until it is set again.
func (e *Environments) DeleteSecret(ctx context.Context, actor access.Actor, environment, name string) error {
	return e.editSecret(ctx, actor, "secret.delete", environment, name, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Exec(ctx, "DELETE FROM secret WHERE environment = ? AND name = ?", environment, name)
		if err == nil && n == 0 {
			err = problem.New(problem.NotFound, "%s has no secret %q", environment, name)
		}
		return err
	})
}

func (e *Environments) editSecret(ctx context.Context, actor access.Actor, action, environment, name string, apply func(ctx context.Context, tx *sqldb.Tx) error) error {
	err := e.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := readOne(ctx, tx, selectEnvironments, "environment", environment); err != nil {
			return err
		}
		if err := apply(ctx, tx); err != nil {
			return err
		}
		if err := e.Raise(ctx, tx); err != nil {
			return err
		}
		return e.audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: action, Object: "secret/" + name, Environment: environment, Outcome: audit.Done})
	})
	if err == nil {
		e.Kick()
	}
	return err
}

// sealedAs is the name under which a secret is sealed, so that none is of use
// in another's place.
func sealedAs(environment, name string) string { return "secret " + environment + "/" + name }

// errUnset says that a route names a secret that its environment does not keep.
var errUnset = errors.New("a secret is not set")

// Resolved is a route with the secrets that it names in their places.
func (e *Environments) Resolved(ctx context.Context, route link.Route) (link.Route, error) {
	spec, err := resource.Secrets(route.Spec, func(secret string) (string, error) {
		name, named := resource.IsReference(secret)
		if !named {
			return secret, nil
		}
		sealed, found, err := sqldb.Row(ctx, e.db, func(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s) },
			"SELECT sealed FROM secret WHERE environment = ? AND name = ?", route.Spec.Environment, name)
		if err != nil {
			return "", err
		}
		if !found || e.Box == nil {
			return "", problem.New(problem.NotReady, "route %s names secret %s, which %s does not keep: %w; slipway secret set %s --environment %s sets it", route.Name, name, route.Spec.Environment, errUnset, name, route.Spec.Environment)
		}
		plain, err := e.Box.Open(sealedAs(route.Spec.Environment, name), sealed)
		return string(plain), err
	})
	route.Spec = spec
	return route, err
}

// Unset reports whether an error is of a secret that is not set.
func Unset(err error) bool { return errors.Is(err, errUnset) }
