package rehearse

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/migrations"
)

// onSlipway is how checks of Slipway's own tables are told.
const onSlipway = "slipway"

// slipway brings the stamp's own tables up to date with this program, as
// starting it would.
func (x *run) slipway(ctx context.Context) error {
	data := x.data(stampData)
	known, err := sqldb.Known(migrations.FS)
	if err != nil {
		return err
	}
	if data.Schema == known {
		x.verdict("migrate", onSlipway, "", link.NothingToDo, fmt.Sprintf("the stamp's tables are of migration %d, which this program's are, too", known))
		return nil
	}
	before, err := x.stamp.Tables(ctx)
	if err != nil {
		return err
	}
	rows, err := counted(ctx, x.stamp)
	if err != nil {
		return err
	}
	var steps []sqldb.Upgraded
	var w *watch
	m := link.RehearsedMigration{Name: fmt.Sprintf("migrations %d to %d", data.Schema+1, known), Kind: onSlipway, On: stampData}
	m.Before, _ = x.stamp.Size(ctx)
	failed := x.step("migrate Slipway's tables", func() (string, error) {
		begun := time.Now()
		w, err = x.watched(ctx, x.stamp, rows, func(func(uint32)) (err error) {
			steps, err = sqldb.Upgrade(ctx, x.stamp.At, migrations.FS)
			return err
		})
		m.Milliseconds = time.Since(begun).Milliseconds()
		return fmt.Sprintf("%d migrations", len(steps)), err
	})
	if ctx.Err() != nil {
		return failed
	}
	for _, s := range steps {
		m.Statements = append(m.Statements, link.RehearsalStep{Name: path.Base(s.Name), Milliseconds: s.Took.Milliseconds()})
	}
	if w != nil {
		w.into(&m)
	}
	m.After, _ = x.stamp.Size(ctx)
	x.e.Migrations = append(x.e.Migrations, m)
	x.check("migrate", onSlipway, "", failed, fmt.Sprintf("%d migrations were carried out", len(steps)))
	if failed != nil {
		return nil // that is what the rehearsal has found
	}
	return x.slipwayAfter(ctx, before, rows)
}

func (x *run) slipwayAfter(ctx context.Context, before []sqldb.Table, rows map[string]int64) error {
	after, err := x.stamp.Tables(ctx)
	if err != nil {
		return err
	}
	var broken error
	if all := breaches(before, after); len(all) > 0 {
		broken = errors.New(strings.Join(all[:min(len(all), 5)], "; "))
	}
	x.check("old code", onSlipway, "", broken, "processes of the version before find every table and column that they use")
	now, err := counted(ctx, x.stamp)
	if err != nil {
		return err
	}
	x.check("kept", onSlipway, "", fewer(rows, now, nil), "no row is lost")
	return nil
}

// fewer says which tables have lost rows; those that were given up on purpose
// may.
func fewer(before, after map[string]int64, drops []string) error {
	var lost []string
	for table, n := range before {
		if table == "goose_db_version" || dropped(drops, table) {
			continue
		}
		if now, there := after[table]; !there {
			lost = append(lost, fmt.Sprintf("the table %s is gone, with %d rows", table, n))
		} else if now < n {
			lost = append(lost, fmt.Sprintf("the table %s has %d rows of %d", table, now, n))
		}
	}
	return listed(lost)
}

// listed is a failure of all that was found; nil where nothing was.
func listed(found []string) error {
	if len(found) == 0 {
		return nil
	}
	more := ""
	if len(found) > 5 {
		more = fmt.Sprintf("; and %d more", len(found)-5)
	}
	return errors.New(strings.Join(found[:min(len(found), 5)], "; ") + more)
}

// dropped reports whether something was given up on purpose, by itself or with
// what it is in.
func dropped(drops []string, field string) bool {
	for _, d := range drops {
		if field == d || strings.HasPrefix(field, d+".") {
			return true
		}
	}
	return false
}
