package care

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
)

// Cut says what of a holding may go: what is from before a time and not held.
type Cut struct {
	Before time.Time
	Holds  []link.CareHold
}

// Note has what a batch removed written down with its removal.
type Note func(ctx context.Context, tx *sqldb.Tx, removed link.CareFound) error

// Holding is data of one kind.
type Holding interface {
	// Kind is its name in the list of kinds.
	Kind() string
	// Look counts what may go.
	Look(ctx context.Context, cut Cut) (link.CareFound, error)
	// Remove removes a batch of it; more says that there may be another.
	Remove(ctx context.Context, cut Cut, note Note) (more bool, err error)
	// Erase removes a batch of what there is of a device, whatever its age.
	Erase(ctx context.Context, device string, note Note) (more bool, err error)
	// Export hands out what there is of a device, without secrets.
	Export(ctx context.Context, device string, each func(link.SubjectItem) error) error
}

// Table is a holding in a table of a plane's database. Its parts are SQL that
// both engines read, written in this program and never by anybody else.
type Table struct {
	DB   *sqldb.DB
	Of   string // its kind
	Name string
	Key  string // one column, or several with commas
	At   string // microseconds; empty where age takes nothing away
	// Spare is what age may take at all.
	Spare string
	// Device and Tenant say whose a row is; a row of nobody is empty or null.
	Device, Tenant string
	// Mixed rows speak of many devices: a hold on any keeps them all.
	Mixed bool
	Size  string // bytes of a row
	// Set changes rows instead of deleting them, with Changed as what is left to
	// change.
	Set string
	// Blank has erasing change rows, too, instead of deleting them.
	Blank bool
	// Also are statements that go before, where {chosen} is the keys chosen.
	Also []string
	// Columns are what is handed out; none hands out nothing.
	Columns string
	// Lasts keeps rows from being erased: something else does that.
	Lasts bool
}

// batch is how many rows go in one transaction.
const batch = 500

// Kind is Holding's.
func (t Table) Kind() string { return t.Of }

// aged is the condition of what may go.
func (t Table) aged(cut Cut) (string, []any) {
	if t.At == "" || t.Mixed && len(cut.Holds) > 0 {
		return "1 = 0", nil
	}
	where, args := []string{t.At + " < ?"}, []any{sqldb.Micros(cut.Before)}
	if t.Spare != "" {
		where = append(where, "("+t.Spare+")")
	}
	for _, h := range cut.Holds {
		switch {
		case t.Device == "":
		case h.Device != "":
			is, of := t.ofDevice(h.Device)
			where, args = append(where, "NOT coalesce("+is+", FALSE)"), append(args, of...)
		case t.Tenant != "":
			// What is of nobody known may be theirs.
			where, args = append(where, "coalesce("+t.Tenant+", ?) <> ?"), append(args, h.Tenant, h.Tenant)
		default:
			where = append(where, "1 = 0")
		}
	}
	return strings.Join(where, " AND "), args
}

// ofDevice is the condition of rows of a device or its modules.
func (t Table) ofDevice(id string) (string, []any) {
	below := id + "/"
	return "(" + t.Device + " = ? OR substr(" + t.Device + ", 1, ?) = ?)", []any{id, len(below), below}
}

// Look is Holding's.
func (t Table) Look(ctx context.Context, cut Cut) (link.CareFound, error) {
	where, args := t.aged(cut)
	return t.count(ctx, t.DB, "FROM "+t.Name+" WHERE "+where, args)
}

func (t Table) count(ctx context.Context, q sqldb.Querier, from string, args []any) (link.CareFound, error) {
	size, at := t.Size, t.At
	if size == "" {
		size = "0"
	}
	if at == "" {
		at = "NULL"
	}
	found, _, err := sqldb.Row(ctx, q, func(rows *sql.Rows) (f link.CareFound, err error) {
		var oldest sql.NullInt64
		err = rows.Scan(&f.Count, &oldest, &f.Bytes)
		f.Oldest = sqldb.NullTime(oldest)
		return f, err
	}, "SELECT count(*), CAST(min("+at+") AS BIGINT), CAST(coalesce(sum("+size+"), 0) AS BIGINT) "+from, args...)
	found.Kind = t.Of
	return found, err
}

// Remove is Holding's.
func (t Table) Remove(ctx context.Context, cut Cut, note Note) (bool, error) {
	where, args := t.aged(cut)
	if where == "1 = 0" {
		return false, nil
	}
	return t.take(ctx, where, args, t.At+", "+t.Key, note)
}

// Erase is Holding's.
func (t Table) Erase(ctx context.Context, device string, note Note) (bool, error) {
	if t.Device == "" || t.Lasts {
		return false, nil
	}
	where, args := t.ofDevice(device)
	if !t.Blank {
		t.Set = ""
	}
	return t.take(ctx, where, args, t.Key, note)
}

// take removes a batch of the rows that a condition selects.
func (t Table) take(ctx context.Context, where string, args []any, order string, note Note) (more bool, err error) {
	chosen := "SELECT " + t.Key + " FROM " + t.Name + " WHERE " + where + " ORDER BY " + order + " LIMIT ?"
	args = append(args, batch)
	key := t.Key
	if strings.Contains(key, ",") {
		key = "(" + key + ")"
	}
	err = t.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		more = false
		found, err := t.count(ctx, tx, "FROM "+t.Name+" WHERE "+key+" IN ("+chosen+")", args)
		if err != nil || found.Count == 0 {
			return err
		}
		more = found.Count == batch
		for _, statement := range t.Also {
			var all []any
			for range strings.Count(statement, "{chosen}") {
				all = append(all, args...)
			}
			if _, err := tx.Exec(ctx, strings.ReplaceAll(statement, "{chosen}", chosen), all...); err != nil {
				return err
			}
		}
		statement := "DELETE FROM " + t.Name
		if t.Set != "" {
			statement = "UPDATE " + t.Name + " SET " + t.Set
		}
		if _, err := tx.Exec(ctx, statement+" WHERE "+key+" IN ("+chosen+")", args...); err != nil {
			return err
		}
		return note(ctx, tx, found)
	})
	return more, err
}
