package rehearse

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/twin"
)

// copyDatabase makes the masked copy of a database of the solution, in
// PostgreSQL: its tables as pg_dump tells them, each row through the masker.
func (x *run) copyDatabase(ctx context.Context, name string) (detail string, err error) {
	from, known := x.Databases[name]
	if !known || name == "" {
		return "", problem.New(problem.Invalid, "this host was not told where the database %q is", name).At("databases")
	}
	source, err := sqldb.OpenBench(from, true)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	if source.Dialect() != sqldb.PostgreSQL {
		return "", problem.New(problem.Invalid, "a database of the solution is one of PostgreSQL, by its URL").At("databases." + name)
	}
	to, err := x.database(ctx, name)
	if err != nil {
		return "", err
	}
	target, err := x.bench(to)
	if err != nil {
		return "", err
	}
	x.others[name] = target
	data := x.data(name)
	data.Engine = string(source.Dialect())
	err = source.Still(ctx, func(m *sqldb.Moment) error {
		if err := schemaInto(ctx, from, m.ID, "pre-data", target); err != nil {
			return err
		}
		tables, err := source.Tables(ctx)
		if err != nil {
			return err
		}
		for _, t := range tables {
			if data.Rows[t.String()], err = x.copyRows(ctx, m, name, t, target); err != nil {
				return fmt.Errorf("the table %s: %w", t, err)
			}
		}
		return schemaInto(ctx, from, m.ID, "post-data", target)
	})
	if err != nil {
		return "", err
	}
	data.Before, err = target.Size(ctx)
	return fmt.Sprintf("%d tables", len(data.Rows)), err
}

// schemaInto brings the tables of a database, or their keys and indexes, into a
// copy. Views, functions and triggers come along; owners and rights do not.
func schemaInto(ctx context.Context, from, moment, section string, target *sqldb.Bench) error {
	command := exec.CommandContext(ctx, pgDump(), "--schema-only", "--section="+section, "--no-owner", "--no-privileges", "--no-publications", "--no-subscriptions", "--snapshot="+moment, "--dbname="+from)
	command.Env = []string{"PATH=/usr/bin:/bin"}
	var out, said bytes.Buffer
	command.Stdout, command.Stderr = &out, &said
	if err := command.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return problem.New(problem.NotReady, "pg_dump is not on this host; install the client of PostgreSQL, at least as new as the server")
		}
		return fmt.Errorf("pg_dump: %w: %.300s", err, said.String())
	}
	var statements []string
	for _, statement := range Statements(out.String()) {
		if !strings.HasPrefix(statement, "CREATE SCHEMA public") && !strings.HasPrefix(statement, "COMMENT ON SCHEMA public") {
			statements = append(statements, statement)
		}
	}
	statements = append(statements, "RESET ALL") // pg_dump leaves no schema to be looked for in
	return target.Script(ctx, statements, false, func(uint32) {}, func(int, time.Duration, int64) {})
}

// pgDump is the newest pg_dump of the host.
func pgDump() string {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_dump")
	if err != nil || len(found) == 0 {
		return "pg_dump"
	}
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	return found[len(found)-1]
}

func version(path string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	if err != nil {
		return 0
	}
	return n
}

// copyRows copies a table of the solution, each value by the rule of its column.
func (x *run) copyRows(ctx context.Context, m *sqldb.Moment, database string, t sqldb.Table, target *sqldb.Bench) (n int64, err error) {
	var names, read []string
	for _, c := range t.Columns {
		names = append(names, c.Name)
		read = append(read, c.SQL()+"::text")
	}
	if len(names) == 0 {
		return 0, nil
	}
	err = target.Fill(ctx, t, names, func(put func([]any) error) error {
		return m.Each(ctx, "SELECT "+strings.Join(read, ", ")+" FROM "+t.SQL(), func(row []any) error {
			n++
			masked := make([]any, len(row))
			for i, c := range t.Columns {
				var err error
				if masked[i], err = x.maskCell(append(append([]string{database + ":"}, t.Path()...), c.Name), c, row[i]); err != nil {
					return fmt.Errorf("%s: %w", c.Name, err)
				}
			}
			return put(masked)
		})
	})
	return n, err
}

var short = regexp.MustCompile(`\((\d+)\)$`)

// maskCell masks a value of a column of the solution, which stays of the
// column's type.
func (x *run) maskCell(path []string, c sqldb.Column, value any) (any, error) {
	if value == nil {
		return nil, nil
	}
	plain := fmt.Sprint(value)
	switch kind, _, _ := strings.Cut(c.Type, "("); kind {
	case "json", "jsonb":
		return x.maskJSON(path, plain)
	case "smallint", "integer", "bigint", "numeric", "real", "double precision":
		masked, kept := x.masker.Value(path, json.Number(plain))
		return orEmpty(c, masked, kept, "0"), nil
	case "boolean":
		masked, kept := x.masker.Value(path, plain == "t" || plain == "true")
		return orEmpty(c, masked, kept, "false"), nil
	case "text", "character varying", "character", "citext":
		if !c.Bound && !short.MatchString(c.Type) {
			plain = x.masker.PlantText(path, plain)
		}
		masked, kept := x.masker.Value(path, plain)
		if out, ok := masked.(string); ok && kept {
			if found := short.FindStringSubmatch(c.Type); found != nil {
				if most, err := strconv.Atoi(found[1]); err == nil && len(out) > most {
					masked = out[:most]
				}
			}
		}
		return orEmpty(c, masked, kept, ""), nil
	case "uuid":
		masked, kept := x.masker.Typed(path, plain, "uuid")
		return orEmpty(c, masked, kept, "00000000-0000-0000-0000-000000000000"), nil
	case "date", "timestamp without time zone", "timestamp with time zone", "timestamp", "timestamptz":
		masked, kept := x.masker.Typed(path, plain, "date")
		return orEmpty(c, masked, kept, "1990-01-01"), nil
	case "inet", "cidr":
		masked, kept := x.masker.Typed(path, plain, "ip")
		return orEmpty(c, masked, kept, "198.18.0.0"), nil
	case "bytea":
		masked, kept := x.masker.Value(path, plain)
		if !kept || masked != plain {
			return orEmpty(c, nil, false, `\x`), nil
		}
		return masked, nil
	}
	masked, kept := x.masker.Value(path, plain)
	if kept && masked != plain { // what a pseudonym of the type would be, nobody knows
		return orEmpty(c, nil, false, ""), nil
	}
	return orEmpty(c, masked, kept, ""), nil
}

// orEmpty is a masked value, or what stands for none in a column that wants one.
func orEmpty(c sqldb.Column, masked any, kept bool, empty string) any {
	switch {
	case kept && masked != nil:
		return fmt.Sprint(masked)
	case c.NotNull || c.Key:
		return empty
	}
	return nil
}

func (x *run) maskJSON(path []string, plain string) (any, error) {
	value, err := decodeAny(plain)
	if err != nil {
		return nil, err
	}
	masked, kept := x.masker.Value(path, value)
	if !kept {
		masked = nil
	}
	encoded, err := twin.Encode(masked)
	return string(encoded), err
}
