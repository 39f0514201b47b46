package configuration

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

const selectConfiguration = "SELECT document, edition, created_at, updated_at FROM configuration"

// precedence puts the configuration that wins first.
const precedence = " ORDER BY priority DESC, created_at DESC, id"

func scanConfiguration(rows *sql.Rows) (c Configuration, err error) {
	var text []byte
	var edition, created, updated int64
	if err := rows.Scan(&text, &edition, &created, &updated); err != nil {
		return c, err
	}
	var d Document
	if err := json.Unmarshal(text, &d); err != nil {
		return c, fmt.Errorf("stored configuration: %w", err)
	}
	if c, err = d.check(); err != nil {
		return c, fmt.Errorf("stored configuration: %w", err)
	}
	c.Edition, c.CreatedAt, c.UpdatedAt = edition, sqldb.Time(created), sqldb.Time(updated)
	return c, nil
}

func load(ctx context.Context, q sqldb.Querier, id string) (Configuration, error) {
	c, found, err := sqldb.Row(ctx, q, scanConfiguration, selectConfiguration+" WHERE id = ?", id)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no configuration %q", id)
	}
	return c, err
}

// Get returns one configuration.
func (e *Engine) Get(ctx context.Context, id string) (Configuration, error) {
	return load(ctx, e.db, id)
}

// List returns configurations, the one that wins first.
func (e *Engine) List(ctx context.Context, limit int) ([]Configuration, error) {
	return sqldb.Rows(ctx, e.db, scanConfiguration, selectConfiguration+precedence+" LIMIT ?", limit)
}

// Create adds a configuration; devices follow it shortly after.
func (e *Engine) Create(ctx context.Context, d Document, now time.Time) (c Configuration, err error) {
	if c, err = d.check(); err != nil {
		return c, err
	}
	text, err := json.Marshal(d)
	if err != nil {
		return c, err
	}
	err = e.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT count(*) FROM configuration")
		if err != nil {
			return err
		}
		if n >= Max {
			return problem.New(problem.TooLarge, "a stamp has at most %d configurations; delete one first", Max)
		}
		_, err = tx.Exec(ctx, "INSERT INTO configuration (id, edition, document, target, priority, created_at, updated_at) VALUES (?, 1, ?, ?, ?, ?, ?)",
			d.ID, string(text), d.TargetCondition, d.Priority, sqldb.Micros(now), sqldb.Micros(now))
		if sqldb.IsUnique(err) {
			return problem.New(problem.Conflict, "there is a configuration %q already", d.ID)
		}
		return err
	})
	c.Edition, c.CreatedAt, c.UpdatedAt = 1, now, now
	e.changed()
	return c, err
}

// Change replaces a configuration but for its content, which stays what it was
// when devices began to follow it.
func (e *Engine) Change(ctx context.Context, d Document, ifMatch string, now time.Time) (c Configuration, err error) {
	checked, err := d.check()
	if err != nil {
		return c, err
	}
	err = e.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		before, err := load(ctx, tx, d.ID)
		if err != nil {
			return err
		}
		if !before.matches(ifMatch) {
			return problem.New(problem.Stale, "the configuration has changed since; its ETag is %q now", before.ETag())
		}
		if !reflect.DeepEqual(before.Content, checked.Content) && !checked.Content.empty() {
			return problem.New(problem.Invalid, "the content of a configuration stays as it was created; create another one with a higher priority").At("content")
		}
		c = checked
		c.Content, c.Edition, c.CreatedAt, c.UpdatedAt = before.Content, before.Edition+1, before.CreatedAt, now
		text, err := json.Marshal(c.Document)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE configuration SET edition = ?, document = ?, target = ?, priority = ?, updated_at = ? WHERE id = ?",
			c.Edition, string(text), c.TargetCondition, c.Priority, sqldb.Micros(now), c.ID)
		return err
	})
	e.changed()
	return c, err
}

func (c Content) empty() bool { return c.Device == nil && c.Module == nil && c.Modules == nil }

// Delete takes a configuration away; its devices fall to the next one.
func (e *Engine) Delete(ctx context.Context, id, ifMatch string) error {
	err := e.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		c, err := load(ctx, tx, id)
		if err != nil {
			return err
		}
		if !c.matches(ifMatch) {
			return problem.New(problem.Stale, "the configuration has changed since; its ETag is %q now", c.ETag())
		}
		_, err = tx.Exec(ctx, "DELETE FROM configuration WHERE id = ?", id)
		return err
	})
	e.changed()
	return err
}

// Counts are how many devices a configuration targets, and how many of them
// follow it.
type Counts struct{ Targeted, Applied int64 }

// Count returns the counts of a configuration.
func (e *Engine) Count(ctx context.Context, id string) (c Counts, err error) {
	c.Applied, _, err = sqldb.Row(ctx, e.db, scanInt, "SELECT count(*) FROM applied_configuration WHERE configuration_id = ?", id)
	if err != nil {
		return c, err
	}
	targets, name := "json_type(configurations, ?) IS NOT NULL", `$."`+id+`"`
	if e.db.Dialect() == sqldb.PostgreSQL {
		targets, name = "jsonb_exists(configurations::jsonb, ?)", id
	}
	c.Targeted, _, err = sqldb.Row(ctx, e.db, scanInt, "SELECT count(*) FROM device WHERE configurations <> '{}' AND "+targets, name)
	return c, err
}

func scanInt(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }

// applied is what an identity has from which configuration.
type applied struct {
	id      string
	edition int64
	content []byte
}

func scanApplied(rows *sql.Rows) (a applied, err error) {
	return a, rows.Scan(&a.id, &a.edition, &a.content)
}

func (e *Engine) applied(ctx context.Context, device string) (applied, bool, error) {
	return sqldb.Row(ctx, e.db, scanApplied, "SELECT configuration_id, edition, content FROM applied_configuration WHERE device_id = ?", device)
}

// note writes down which configurations target an identity, and which of them
// it follows with what content.
func (e *Engine) note(ctx context.Context, device string, first *Configuration, content []byte, targeting []string) error {
	status := map[string]any{}
	for i, id := range targeting {
		status[id] = map[string]string{"status": "Targeted"}
		if i == 0 {
			status[id] = map[string]string{"status": "Applied"}
		}
	}
	text, err := json.Marshal(status)
	if err != nil {
		return err
	}
	return e.db.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		changed, err := tx.Exec(ctx, "UPDATE device SET configurations = ? WHERE device_id = ?", string(text), device)
		if err != nil || changed == 0 {
			return err // it has gone meanwhile
		}
		if first == nil {
			_, err := tx.Exec(ctx, "DELETE FROM applied_configuration WHERE device_id = ?", device)
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO applied_configuration (device_id, configuration_id, edition, content) VALUES (?, ?, ?, ?)
			ON CONFLICT (device_id) DO UPDATE SET configuration_id = excluded.configuration_id, edition = excluded.edition, content = excluded.content`,
			device, first.ID, first.Edition, string(content))
		return err
	})
}
