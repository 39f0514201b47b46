package rehearse

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
)

// solution carries out what the release does to databases of the solution.
func (x *run) solution(ctx context.Context) error {
	var all []link.Migration
	for _, m := range x.work.Release.Spec.Migrations {
		if m.Kind == "sql" {
			all = append(all, m)
		}
	}
	if len(all) == 0 {
		x.verdict("migrate", "databases", "", link.NothingToDo, "the release changes no database of the solution")
	}
	if err := x.queries(ctx, "new code", &x.work.Release, "on data as it was"); err != nil {
		return err
	}
	undo := []func() error{}
	for _, m := range all {
		back, err := x.migrateDatabase(ctx, m)
		if err != nil {
			return err
		}
		if back != nil {
			undo = append(undo, back)
		}
	}
	if len(all) == 0 {
		return nil
	}
	if err := x.queries(ctx, "new code", &x.work.Release, "on migrated data"); err != nil {
		return err
	}
	if err := x.queries(ctx, "old code", x.work.Running, "on migrated data"); err != nil {
		return err
	}
	if err := x.sizes(ctx); err != nil { // as they are before anything is taken back
		return err
	}
	for _, back := range slices.Backward(undo) {
		if err := back(); err != nil {
			return err
		}
	}
	return nil
}

// queries runs the statements that a release's program sends, and takes back
// what they change.
func (x *run) queries(ctx context.Context, name string, release *link.Release, when string) error {
	if release == nil || release.Spec.Reads == nil || len(release.Spec.Reads.Queries) == 0 {
		return nil
	}
	failed := map[string][]string{}
	ran := map[string]int{}
	err := x.step(name+": statements of "+release.Name+" "+when, func() (string, error) {
		for i, q := range release.Spec.Reads.Queries {
			b := x.others[q.Database]
			if b == nil {
				continue // it is not among those that are copied
			}
			ran[q.Database]++
			err := b.Within(ctx, false, func(w sqldb.Work) error {
				return w.Each(ctx, q.SQL, func([]any) error { return nil })
			})
			if ctx.Err() != nil {
				return "", ctx.Err()
			}
			if err != nil {
				failed[q.Database] = append(failed[q.Database], fmt.Sprintf("statement %d of %s: %s", i+1, release.Name, told(err)))
			}
		}
		return "", nil
	})
	for database, n := range ran {
		x.check(name, database, "", listed(failed[database]), fmt.Sprintf("%d statements of %s run %s", n, release.Name, when))
	}
	return err
}

// content is what is told of a table's rows: how many there are, and in how
// many each column has a value.
type content map[string]int64

// contents counts what is in the tables of a database.
func contents(ctx context.Context, b *sqldb.Bench, tables []sqldb.Table) (content, error) {
	all := content{}
	for _, t := range tables {
		read := []string{"count(*)"}
		for _, c := range t.Columns {
			read = append(read, "count("+c.SQL()+")")
		}
		err := b.Each(ctx, "SELECT "+strings.Join(read, ", ")+" FROM "+t.SQL(), func(row []any) error {
			all[t.String()] = row[0].(int64)
			for i, c := range t.Columns {
				all[t.String()+"."+c.Name] = row[i+1].(int64)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// lostContent says what is there no more that was not given up on purpose.
func lostContent(before, after content, drops []string) error {
	var lost []string
	for field, n := range before {
		now, there := after[field]
		switch {
		case n == 0 || dropped(drops, field):
		case !there && strings.Contains(field, "."):
			lost = append(lost, fmt.Sprintf("the column %s is gone, with %d values", field, n))
		case !there:
			lost = append(lost, fmt.Sprintf("the table %s is gone, with %d rows", field, n))
		case now < n:
			lost = append(lost, fmt.Sprintf("%s has %d of %d", field, now, n))
		}
	}
	slices.Sort(lost)
	return listed(lost)
}

// before is a database as it was when a migration began.
type before struct {
	tables []sqldb.Table
	rows   map[string]int64
	has    content
	say    map[string][]string // what queries of invariants answer
}

func (x *run) before(ctx context.Context, b *sqldb.Bench, m link.Migration) (s before, err error) {
	if s.tables, err = b.Tables(ctx); err != nil {
		return s, err
	}
	if s.has, err = contents(ctx, b, s.tables); err != nil {
		return s, err
	}
	s.rows = map[string]int64{}
	for _, t := range s.tables {
		s.rows[t.String()] = s.has[t.String()]
	}
	s.say, err = answers(ctx, b, m.Invariants)
	return s, err
}

// answers are what the queries of invariants answer.
func answers(ctx context.Context, b *sqldb.Bench, all []link.Invariant) (map[string][]string, error) {
	said := map[string][]string{}
	for _, one := range all {
		rows := []string{}
		err := b.Within(ctx, false, func(w sqldb.Work) error {
			return w.Each(ctx, one.Holds, func(row []any) error {
				if len(rows) < 10_000 {
					rows = append(rows, fmt.Sprint(row...))
				}
				return nil
			})
		})
		if err != nil {
			return nil, fmt.Errorf("the invariant %s: %w", one.Name, err)
		}
		said[one.Name] = rows
	}
	return said, nil
}

// outside begins a migration whose statements cannot be in one transaction.
const outside = "-- no transaction"

// script runs the SQL of a migration while others work on the database.
func (x *run) script(ctx context.Context, b *sqldb.Bench, rows map[string]int64, text string, m *link.RehearsedMigration) error {
	statements := Statements(text)
	begun := time.Now()
	w, err := x.watched(ctx, b, rows, func(pid func(uint32)) error {
		return b.Script(ctx, statements, !strings.HasPrefix(strings.TrimSpace(text), outside), pid, func(i int, took time.Duration, n int64) {
			m.Rows += n
			if len(m.Statements) < 100 {
				shown := strings.Join(strings.Fields(statements[i]), " ")
				m.Statements = append(m.Statements, link.RehearsalStep{Name: fmt.Sprintf("%.80s", shown), Milliseconds: took.Milliseconds()})
			}
		})
	})
	m.Milliseconds = time.Since(begun).Milliseconds()
	if w != nil {
		w.into(m)
	}
	return err
}

// migrateDatabase carries out a migration and looks at what it did. What it
// returns takes it back, to see whether that can be done.
func (x *run) migrateDatabase(ctx context.Context, m link.Migration) (back func() error, err error) {
	b := x.others[m.Database]
	seen := link.RehearsedMigration{Name: m.Name, Kind: m.Kind, On: m.Database}
	was, err := x.before(ctx, b, m)
	if err != nil {
		x.check("migrate", m.Database, m.Name, err, "")
		return nil, nil
	}
	seen.Before, _ = b.Size(ctx)
	failed := x.step("migrate "+m.Database+": "+m.Name, func() (string, error) { return "", x.script(ctx, b, was.rows, m.Up, &seen) })
	if ctx.Err() != nil {
		return nil, failed
	}
	seen.After, _ = b.Size(ctx)
	x.e.Migrations = append(x.e.Migrations, seen)
	x.check("migrate", m.Database, m.Name, failed, fmt.Sprintf("%d statements, %d rows", len(seen.Statements), seen.Rows))
	if failed != nil {
		return nil, nil // that is what the rehearsal has found
	}
	if err := x.judgeDatabase(ctx, b, m, was); err != nil || m.Down == "" {
		return nil, err
	}
	return func() error { return x.takeBack(ctx, b, m, was) }, nil
}

// judgeDatabase says what was found of a migration of a database.
func (x *run) judgeDatabase(ctx context.Context, b *sqldb.Bench, m link.Migration, was before) error {
	tables, err := b.Tables(ctx)
	if err != nil {
		return err
	}
	has, err := contents(ctx, b, tables)
	if err != nil {
		return err
	}
	x.check("kept", m.Database, m.Name, lostContent(was.has, has, m.Drops), "no row and no value is lost but what is dropped on purpose")
	if len(m.Invariants) > 0 {
		say, err := answers(ctx, b, m.Invariants)
		if err == nil {
			var other []string
			for _, one := range m.Invariants {
				if !reflect.DeepEqual(say[one.Name], was.say[one.Name]) {
					other = append(other, one.Name+" answers otherwise than before")
				}
			}
			err = listed(other)
		}
		x.check("invariants", m.Database, m.Name, err, fmt.Sprintf("%d queries answer as before", len(m.Invariants)))
	}
	x.contract(m, breaches(was.tables, tables))
	return nil
}

// contract says what programs of before meet with. Where the release that runs
// tells its statements, they decide; a rule that it may not touch then only
// makes it doubtful.
func (x *run) contract(m link.Migration, all []string) {
	told := false
	if running := x.work.Running; running != nil && running.Spec.Reads != nil {
		told = slices.ContainsFunc(running.Spec.Reads.Queries, func(q link.ReadQuery) bool { return q.Database == m.Database })
	}
	switch {
	case len(all) == 0:
		x.verdict("old code", m.Database, m.Name, link.Pass, "what programs of before use is there, and asks no more of them")
	case x.work.Running == nil:
		x.verdict("old code", m.Database, m.Name, link.NothingToDo, "no release runs there whose program could use the tables")
	case told:
		x.verdict("old code", m.Database, m.Name, link.Pass, "its statements decide (spec.reads.queries); beside them: "+listed(all).Error())
	default:
		x.check("old code", m.Database, m.Name, errors.New(listed(all).Error()+"; programs of before run beside it, so add first, and take away with a later release"), "")
	}
}

// takeBack carries out the way back and looks whether all is as it was.
func (x *run) takeBack(ctx context.Context, b *sqldb.Bench, m link.Migration, was before) error {
	var seen link.RehearsedMigration
	failed := x.step("take back "+m.Database+": "+m.Name, func() (string, error) { return "", x.script(ctx, b, was.rows, m.Down, &seen) })
	if ctx.Err() != nil {
		return failed
	}
	if failed == nil {
		tables, err := b.Tables(ctx)
		if err != nil {
			return err
		}
		has, err := contents(ctx, b, tables)
		if err != nil {
			return err
		}
		if all := append(breaches(was.tables, tables), breaches(tables, was.tables)...); len(all) > 0 {
			failed = listed(all)
		} else {
			failed = lostContent(was.has, has, nil)
		}
	}
	x.check("way back", m.Database, m.Name, failed, fmt.Sprintf("taken back within %d ms, tables and rows are as they were", seen.Milliseconds))
	return nil
}
