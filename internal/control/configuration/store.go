package configuration

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

type definition struct {
	Definition
	version int64
}

func scanDefinition(rows *sql.Rows) (d definition, err error) {
	var text []byte
	if err := rows.Scan(&text, &d.version); err != nil {
		return d, err
	}
	err = json.Unmarshal(text, &d.Definition)
	d.ETag = strconv.FormatInt(d.version, 10)
	return d, err
}

func scanVersion(rows *sql.Rows) (v Version, err error) {
	var content []byte
	var at int64
	err = rows.Scan(&v.Name, &v.Number, &content, &v.By, &v.Reason, &at)
	v.Content, v.At = content, sqldb.Time(at)
	return v, err
}

func scanChange(rows *sql.Rows) (c Change, err error) {
	var text []byte
	var sequence int64
	if err := rows.Scan(&sequence, &text); err != nil {
		return c, err
	}
	err = json.Unmarshal(text, &c)
	c.Sequence, c.ID = sequence, fmt.Sprintf("change-%d", sequence)
	return c, err
}

func scanStanding(rows *sql.Rows) (s Standing, err error) {
	var since int64
	err = rows.Scan(&s.Environment, &s.Name, &s.Number, &since, &s.Change)
	s.Since = sqldb.Time(since)
	return s, err
}

const (
	selectDefinitions = "SELECT document, version FROM configuration"
	selectVersions    = "SELECT name, number, content, changed_by, reason, at FROM configuration_version"
	selectChanges     = "SELECT sequence, document FROM configuration_change"
	selectStandings   = "SELECT environment, name, number, since, change_id FROM configuration_standing"
)

func readDefinition(ctx context.Context, q sqldb.Querier, name string) (definition, error) {
	d, found, err := sqldb.Row(ctx, q, scanDefinition, selectDefinitions+" WHERE name = ?", name)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "there is no configuration %q; slipway configuration define makes it", name)
	}
	return d, err
}

func readVersion(ctx context.Context, q sqldb.Querier, name string, number int64) (Version, error) {
	v, found, err := sqldb.Row(ctx, q, scanVersion, selectVersions+" WHERE name = ? AND number = ?", name, number)
	if err == nil && !found {
		err = problem.New(problem.NotFound, "configuration %s has no version %d", name, number)
	}
	return v, err
}

// standing is what an environment has in force; number 0 is nothing.
func standing(ctx context.Context, q sqldb.Querier, environment, name string) (Standing, error) {
	s, found, err := sqldb.Row(ctx, q, scanStanding, selectStandings+" WHERE environment = ? AND name = ?", environment, name)
	if !found {
		s = Standing{Environment: environment, Name: name}
	}
	return s, err
}

// Listing is a configuration with where which version is in force.
type Listing struct {
	Definition
	Newest    int64      `json:"newest" doc:"The newest version; 0 is none"`
	Standings []Standing `json:"standings" doc:"What environments have in force"`
}

// List returns every configuration, in order of name.
func (c *Configurations) List(ctx context.Context) ([]Listing, error) {
	all, err := sqldb.Rows(ctx, c.o.DB, scanDefinition, selectDefinitions+" ORDER BY name")
	if err != nil {
		return nil, err
	}
	standings, err := sqldb.Rows(ctx, c.o.DB, scanStanding, selectStandings+" ORDER BY environment, name")
	if err != nil {
		return nil, err
	}
	list := make([]Listing, len(all))
	for i, d := range all {
		list[i] = Listing{Definition: d.Definition, Standings: slices.Clip([]Standing{})}
		newest, _, err := sqldb.Row(ctx, c.o.DB, scanVersion, selectVersions+" WHERE name = ? ORDER BY number DESC LIMIT 1", d.Name)
		if err != nil {
			return nil, err
		}
		list[i].Newest = newest.Number
		for _, s := range standings {
			if s.Name == d.Name && s.Number != 0 {
				list[i].Standings = append(list[i].Standings, s)
			}
		}
	}
	return list, nil
}

// Get returns one configuration.
func (c *Configurations) Get(ctx context.Context, name string) (Listing, error) {
	all, err := c.List(ctx)
	if err != nil {
		return Listing{}, err
	}
	i := slices.IndexFunc(all, func(l Listing) bool { return l.Name == name })
	if i < 0 {
		return Listing{}, problem.New(problem.NotFound, "there is no configuration %q", name)
	}
	return all[i], nil
}

// Versions are the versions of a configuration, newest first.
func (c *Configurations) Versions(ctx context.Context, name string, limit int) ([]Version, error) {
	if _, err := readDefinition(ctx, c.o.DB, name); err != nil {
		return nil, err
	}
	return sqldb.Rows(ctx, c.o.DB, scanVersion, selectVersions+" WHERE name = ? ORDER BY number DESC LIMIT ?", name, limit)
}

// Version is one version of a configuration.
func (c *Configurations) Version(ctx context.Context, name string, number int64) (Version, error) {
	return readVersion(ctx, c.o.DB, name, number)
}

// Changes are the changes of a configuration, newest first; of one environment
// if one is named.
func (c *Configurations) Changes(ctx context.Context, name, environment string, limit int) ([]Change, error) {
	if environment == "" {
		return sqldb.Rows(ctx, c.o.DB, scanChange, selectChanges+" WHERE name = ? ORDER BY sequence DESC LIMIT ?", name, limit)
	}
	return sqldb.Rows(ctx, c.o.DB, scanChange, selectChanges+" WHERE name = ? AND environment = ? ORDER BY sequence DESC LIMIT ?", name, environment, limit)
}

func checkReason(reason string) error {
	if strings.TrimSpace(reason) == "" || len(reason) > maxText {
		return problem.New(problem.Invalid, "say why, in 1 to %d characters", maxText).At("reason")
	}
	return nil
}

// Define creates a configuration or changes what it may hold. What is in force
// must meet a new schema.
func (c *Configurations) Define(ctx context.Context, actor access.Actor, d Definition, ifMatch, reason string) (Definition, error) {
	d.ETag = ""
	d, err := d.check()
	if err != nil {
		return d, err
	}
	if err := checkReason(reason); err != nil {
		return d, err
	}
	text, err := json.Marshal(d)
	if err != nil {
		return d, err
	}
	err = c.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		before, _, err := sqldb.Row(ctx, tx, scanDefinition, selectDefinitions+" WHERE name = ?", d.Name)
		if err != nil {
			return err
		}
		if tag := strings.Trim(ifMatch, `"`); tag != "" && tag != strconv.FormatInt(before.version, 10) {
			return problem.New(problem.Stale, "the configuration has changed since; its ETag is %d now", before.version)
		}
		standings, err := sqldb.Rows(ctx, tx, scanStanding, selectStandings+" WHERE name = ? AND number > 0", d.Name)
		if err != nil {
			return err
		}
		for _, s := range standings {
			v, err := readVersion(ctx, tx, s.Name, s.Number)
			if err != nil {
				return err
			}
			if err := checkContent(d, v.Content); err != nil {
				return problem.New(problem.Conflict, "version %d, which is in force in %s, would not meet the schema: %s", s.Number, s.Environment, problem.Of(err).Message).At("schema")
			}
		}
		d.ETag = strconv.FormatInt(before.version+1, 10)
		if _, err := tx.Exec(ctx, "INSERT INTO configuration (name, document, version) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET document = excluded.document, version = excluded.version", d.Name, string(text), before.version+1); err != nil {
			return err
		}
		return c.o.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "configuration.define", Object: "configuration/" + d.Name, Outcome: audit.Done, Reason: reason, Detail: string(text), Before: audit.Digest(before.Definition), After: audit.Digest(json.RawMessage(text))})
	})
	if err == nil {
		c.kick()
	}
	return d, err
}

// Write adds a version. It is in force nowhere yet.
func (c *Configurations) Write(ctx context.Context, actor access.Actor, name string, content json.RawMessage, reason string) (v Version, err error) {
	if err := checkReason(reason); err != nil {
		return v, err
	}
	err = c.o.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		d, err := readDefinition(ctx, tx, name)
		if err != nil {
			return err
		}
		if err := checkContent(d.Definition, content); err != nil {
			return err
		}
		newest, _, err := sqldb.Row(ctx, tx, scanVersion, selectVersions+" WHERE name = ? ORDER BY number DESC LIMIT 1", name)
		if err != nil {
			return err
		}
		v = Version{Name: name, Number: newest.Number + 1, Content: content, By: actor.Name, Reason: reason, At: c.o.Now().UTC().Truncate(time.Microsecond)}
		if _, err := tx.Exec(ctx, "INSERT INTO configuration_version (name, number, content, changed_by, reason, at) VALUES (?, ?, ?, ?, ?, ?)", name, v.Number, string(content), v.By, reason, sqldb.Micros(v.At)); err != nil {
			return err
		}
		return c.o.Audit.Record(ctx, tx, audit.Entry{Actor: actor.Name, Action: "configuration.write", Object: "configuration/" + name, Outcome: audit.Done, Reason: reason, Detail: fmt.Sprintf("version %d: %s", v.Number, content), Before: audit.Digest(newest.Content), After: audit.Digest(content)})
	})
	return v, err
}
