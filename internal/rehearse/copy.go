package rehearse

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/recovery"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/stamp/migrations"
	"github.com/slipway/slipway/internal/stamp/twin"
)

// copies makes the masked copies of the stamp's database and the solution's.
func (x *run) copies(ctx context.Context) error {
	at := x.Database
	x.e.Source, x.e.TakenAt = "database", time.Now().UTC()
	if at == "" {
		err := x.step("restore the newest backup", func() (string, error) {
			plane, err := x.restored(ctx)
			at = plane.Database
			return plane.Index.ID, err
		})
		if err != nil {
			return err
		}
	}
	err := x.step("copy and mask the stamp", func() (string, error) { return x.copyStamp(ctx, at) })
	if err == nil && x.e.Source == "backup" {
		err = x.unmaskedGone(ctx, at)
	}
	if err != nil {
		return err
	}
	for _, name := range x.databases() {
		err := x.step("copy and mask "+name, func() (string, error) { return x.copyDatabase(ctx, name) })
		if err != nil {
			return err
		}
	}
	return nil
}

// databases are those of the solution that are copied: the environment's, and
// those that migrations are for.
func (x *run) databases() []string {
	all := slices.Clone(x.work.Databases)
	for _, m := range x.work.Release.Spec.Migrations {
		if m.Kind == "sql" {
			all = append(all, m.Database)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// restored brings the newest backup of the stamp back, as it is, where nobody
// else can read it.
func (x *run) restored(ctx context.Context) (p recovery.Plane, err error) {
	chosen, err := recovery.Choose(ctx, x.Keys, []string{link.StampPeer(x.work.Stamp)}, time.Time{})
	if err != nil {
		return p, err
	}
	target := recovery.Target{Dir: filepath.Join(x.dir, "restored"), One: true, Logger: x.Logger}
	if chosen[0].Index.Engine == string(sqldb.PostgreSQL) {
		if target.Database, err = x.database(ctx, "restored"); err != nil {
			return p, err
		}
	}
	planes, err := recovery.Restore(ctx, x.Keys, chosen, target)
	if err != nil {
		return p, err
	}
	x.e.Source, x.e.Backup, x.e.TakenAt = "backup", planes[0].Index.ID, planes[0].Index.TakenAt
	return planes[0], nil
}

// database makes an empty database on the server for copies.
func (x *run) database(ctx context.Context, name string) (string, error) {
	if x.Server == "" {
		return "", problem.New(problem.Invalid, "%s is kept in PostgreSQL; name a server on which copies can be made, with --server", name).At("--server")
	}
	return sqldb.CreateDatabase(ctx, x.Server, x.name+strings.ReplaceAll(name, "-", "_"))
}

// unmaskedGone takes away what was restored as soon as it is copied.
func (x *run) unmaskedGone(ctx context.Context, at string) error {
	err := os.RemoveAll(filepath.Join(x.dir, "restored"))
	if sqldb.IsURL(at) {
		_, dropping := sqldb.DropDatabases(ctx, x.Server, x.name+"restored")
		err = errors.Join(err, dropping)
	}
	return err
}

// bench opens a copy.
func (x *run) bench(at string) (*sqldb.Bench, error) {
	b, err := sqldb.OpenBench(at, false)
	if err == nil {
		x.open = append(x.open, b)
	}
	return b, err
}

// copyStamp makes the masked copy of a stamp's database: tables of the same
// version, filled with nothing but what the masker passed.
func (x *run) copyStamp(ctx context.Context, from string) (detail string, err error) {
	source, err := sqldb.OpenBench(from, true)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	err = source.Still(ctx, func(m *sqldb.Moment) error {
		var version int64
		err := m.Each(ctx, "SELECT max(version_id) FROM goose_db_version", func(row []any) error {
			version, _ = row[0].(int64)
			return nil
		})
		if err != nil {
			return err
		}
		known, err := sqldb.Known(migrations.FS)
		if err != nil {
			return err
		}
		if version > known {
			return problem.New(problem.Conflict, "the stamp has tables of migration %d, and this program knows them up to %d; rehearse with a newer one", version, known)
		}
		to := filepath.Join(x.dir, "stamp.db")
		if source.Dialect() == sqldb.PostgreSQL {
			if to, err = x.database(ctx, stampData); err != nil {
				return err
			}
		}
		if err := sqldb.Prepare(ctx, to, migrations.FS, version); err != nil {
			return err
		}
		if x.stamp, err = x.bench(to); err != nil {
			return err
		}
		data := x.data(stampData)
		data.Engine, data.Schema = string(source.Dialect()), version
		return x.copyTables(ctx, m, data)
	})
	if err != nil {
		return "", err
	}
	data := x.data(stampData)
	data.Before, err = x.stamp.Size(ctx)
	return fmt.Sprintf("%d devices", x.e.Devices), err
}

// copied are the tables of a stamp that the copy has rows of, those first that
// others refer to. The rest has no rows: nothing of them is needed.
var copied = []string{"device", "twin", "software", "tombstone", "command"}

func (x *run) copyTables(ctx context.Context, m *sqldb.Moment, data *link.RehearsedData) error {
	tables, err := x.stamp.Tables(ctx)
	if err != nil {
		return err
	}
	for _, name := range copied {
		i := slices.IndexFunc(tables, func(t sqldb.Table) bool { return t.Name == name })
		if i < 0 {
			continue
		}
		n, err := x.copyTable(ctx, m, tables[i])
		if err != nil {
			return fmt.Errorf("the table %s: %w", name, err)
		}
		data.Rows[name] = n
	}
	err = x.stamp.Each(ctx, "SELECT count(*) FROM device WHERE module_of IS NULL", func(row []any) error {
		x.e.Devices, _ = row[0].(int64)
		return nil
	})
	if err != nil {
		return err
	}
	for _, t := range tables {
		if t.Name == "tag" {
			if data.Rows["tag"], err = x.indexTags(ctx, t); err != nil {
				return err
			}
		} else if !slices.Contains(copied, t.Name) && t.Name != "goose_db_version" {
			data.Empty = append(data.Empty, t.String())
		}
	}
	return nil
}

// copyTable copies the rows of one table of a stamp.
func (x *run) copyTable(ctx context.Context, m *sqldb.Moment, t sqldb.Table) (n int64, err error) {
	var names, read []string
	for _, c := range t.Columns {
		names = append(names, c.Name)
		text := c.SQL()
		if m.Dialect() == sqldb.PostgreSQL {
			text += "::text"
		}
		read = append(read, text)
	}
	order := ""
	if t.Name == "device" { // modules behind the devices that they belong to
		order = " ORDER BY module_of IS NOT NULL, device_id"
	}
	err = x.stamp.Fill(ctx, t, names, func(put func([]any) error) error {
		return m.Each(ctx, "SELECT "+strings.Join(read, ", ")+" FROM "+t.SQL()+order, func(row []any) error {
			n++
			masked, err := x.maskRow(t, row)
			if err != nil {
				return err
			}
			return put(masked)
		})
	})
	return n, err
}

// maskRow masks a row of one of Slipway's own tables.
func (x *run) maskRow(t sqldb.Table, row []any) ([]any, error) {
	masked := make([]any, len(row))
	if t.Name == "twin" {
		return x.maskTwin(t, row, masked)
	}
	for i, c := range t.Columns {
		masked[i] = x.maskColumn(t.Name, c, row[i])
	}
	return masked, nil
}

// kept are the columns of text of copied tables that say nothing of anybody:
// words of Slipway's own.
var kept = map[string]bool{
	"device.status": true, "device.auth_type": true, "device.connected": true, "software.step": true, "software.state": true, "command.ack": true, "command.content_type": false,
}

// identities are columns that name a device or a module.
var identities = []string{"device_id", "module_of"}

// maskColumn masks a value of one of Slipway's own columns. Numbers are counts
// and times; texts become pseudonyms; documents and bytes lose what is in them.
func (x *run) maskColumn(table string, c sqldb.Column, value any) any {
	switch kind := strings.ToUpper(c.Type); {
	case value == nil:
		return nil
	case slices.Contains(identities, c.Name):
		return x.masker.Identity(fmt.Sprint(value))
	case strings.Contains(kind, "INT") || kept[table+"."+c.Name]:
		return value
	case kind == "BLOB" || kind == "BYTEA":
		noise := make([]byte, min(length(value), 4096))
		_, _ = rand.Read(noise) // never fails
		return noise
	}
	text := fmt.Sprint(value)
	switch {
	case strings.HasPrefix(text, "{"):
		return "{}"
	case strings.HasPrefix(text, "["):
		return "[]"
	}
	return x.masker.Pseudonym(text)
}

func length(value any) int {
	switch value := value.(type) {
	case []byte:
		return len(value)
	case string:
		return (len(value) - 2) / 2 // \x and hex
	}
	return 0
}

// maskTwin masks the documents of a twin; what its metadata says is made anew,
// as it has the same names.
func (x *run) maskTwin(t sqldb.Table, row, masked []any) ([]any, error) {
	at := map[string]int{}
	for i, c := range t.Columns {
		at[c.Name] = i
		masked[i] = x.maskColumn(t.Name, c, row[i])
	}
	for _, section := range []string{"tags", "desired", "reported"} {
		document, err := decode(fmt.Sprint(text(row[at[section]])))
		if err != nil {
			return nil, err
		}
		x.masker.Plant([]string{section}, document)
		clean := x.masker.Document([]string{section}, document)
		encoded, err := twin.Encode(clean)
		if err != nil {
			return nil, err
		}
		masked[at[section]] = string(encoded)
		if section == "tags" {
			continue
		}
		meta, err := twin.Encode(metadata(clean))
		if err != nil {
			return nil, err
		}
		masked[at[section+"_meta"]] = string(meta)
	}
	return masked, nil
}

// metadata is what stands beside a document, of one moment.
func metadata(document map[string]any) map[string]any {
	node := map[string]any{"$lastUpdated": "2026-01-01T00:00:00.0000000Z"}
	for key, value := range document {
		below, _ := value.(map[string]any)
		node[key] = metadata(below)
	}
	return node
}

func text(value any) any {
	if b, ok := value.([]byte); ok {
		return string(b)
	}
	return value
}

// indexTags fills the index of tags from the masked twins.
func (x *run) indexTags(ctx context.Context, t sqldb.Table) (n int64, err error) {
	err = x.stamp.Fill(ctx, t, []string{"path", "value", "device_id"}, func(put func([]any) error) error {
		return x.stamp.Each(ctx, "SELECT device_id, tags FROM twin", func(row []any) error {
			tags, err := decode(fmt.Sprint(text(row[1])))
			if err != nil {
				return err
			}
			rows, err := tagRows(x.stamp.Dialect(), fmt.Sprint(text(row[0])), nil, tags)
			for _, one := range rows {
				if err := put(one); err != nil {
					return err
				}
				n++
			}
			return err
		})
	})
	return n, err
}

// tagRows are the rows of the index of tags of one twin.
func tagRows(dialect sqldb.Dialect, device string, keys []string, tags map[string]any) (rows [][]any, err error) {
	for key, value := range tags {
		path := append(keys[:len(keys):len(keys)], key)
		if below, ok := value.(map[string]any); ok {
			more, err := tagRows(dialect, device, path, below)
			if err != nil {
				return nil, err
			}
			rows = append(rows, more...)
			continue
		}
		indexed, ok := twin.Indexed(value)
		if !ok {
			continue
		}
		stored, err := twin.IndexedFor(dialect, indexed)
		if err != nil {
			return nil, err
		}
		rows = append(rows, []any{twin.TagPath(path), stored, device})
	}
	return rows, nil
}
