// Package recovery brings an installation, or one plane of it, back from
// backups: it chooses those of a moment, restores them beside where they are to
// be, looks through what came, and only then gives it its name. It needs
// nothing of what was lost, only what the recovery role has.
package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/backup"
	"github.com/slipway/slipway/internal/bus"
	control "github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	provisioning "github.com/slipway/slipway/internal/provisioning/migrations"
	"github.com/slipway/slipway/internal/sqldb"
	stamp "github.com/slipway/slipway/internal/stamp/migrations"
	"github.com/slipway/slipway/internal/vault"
)

// Chosen is a backup that is to be restored.
type Chosen struct {
	Index vault.Index
	vault *vault.Vault
}

// Choose finds the newest backup of each plane that is not younger than a
// moment (zero: the newest of all), as the vaults have them.
func Choose(ctx context.Context, k vault.Keys, only []string, at time.Time) ([]Chosen, error) {
	type candidate struct {
		id string
		in *vault.Vault
	}
	newest := map[string]candidate{}
	for _, v := range k.Vaults {
		ids, err := v.List(ctx)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			taken, peer, err := vault.ParseID(id)
			if err != nil || !at.IsZero() && taken.After(at) || len(only) > 0 && !slices.Contains(only, peer) && !slices.Contains(only, strings.TrimPrefix(peer, link.StampPeer(""))) {
				continue
			}
			if id > newest[peer].id {
				newest[peer] = candidate{id, v}
			}
		}
	}
	var all []Chosen
	for _, peer := range slices.Sorted(maps.Keys(newest)) {
		x, err := newest[peer].in.Find(ctx, newest[peer].id, k.Signers)
		if err != nil {
			return nil, err
		}
		all = append(all, Chosen{x, newest[peer].in})
	}
	if len(all) == 0 || len(only) > len(all) {
		return nil, problem.New(problem.NotFound, "the vaults have no backup of that%s", until(at))
	}
	return all, nil
}

func until(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return " that is not younger than " + at.UTC().Format(time.RFC3339)
}

// Target is where a restore goes.
type Target struct {
	Dir string // which is not there yet, or is empty
	// Database is the URL of PostgreSQL for planes that were kept there: of the
	// plane's schema where one plane is restored, otherwise of the database in
	// which each gets a schema.
	Database string
	One      bool // a single plane, whose directory Dir is
	Logger   *slog.Logger
	Progress func(peer string, bytes int64) // may be nil
}

// Plane is a plane that came back.
type Plane struct {
	Index    vault.Index
	Dir      string
	Database string // URL of PostgreSQL, or the file
	Bytes    int64
}

// staged is the name of what is not whole yet.
const staged = ".restoring"

// Restore brings planes back. Until all of them are whole, the target is not
// there.
func Restore(ctx context.Context, k vault.Keys, chosen []Chosen, t Target) (planes []Plane, err error) {
	if t.One && len(chosen) != 1 {
		return nil, problem.New(problem.Invalid, "one plane is restored, not %d", len(chosen))
	}
	if err := vacant(t.Dir); err != nil {
		return nil, err
	}
	stage := strings.TrimSuffix(filepath.Clean(t.Dir), "/") + staged
	if err := errors.Join(os.RemoveAll(stage), os.MkdirAll(stage, 0o700)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(stage))
		}
	}()
	for _, one := range chosen {
		p, err := t.restore(ctx, k, one, stage)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.Index.ID, err)
		}
		planes = append(planes, p)
	}
	if err := os.Remove(t.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.Rename(stage, t.Dir); err != nil {
		return nil, err
	}
	for i, p := range planes {
		planes[i].Dir = strings.Replace(p.Dir, stage, t.Dir, 1)
		if !sqldb.IsURL(p.Database) {
			planes[i].Database = strings.Replace(p.Database, stage, t.Dir, 1)
		}
	}
	return planes, nil
}

// vacant refuses a directory in which there is something.
func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(entries) > 0 {
		err = problem.New(problem.Conflict, "the directory %s is not empty; restore into one that is", dir)
	}
	return err
}

// planeDir is where a plane's files are in the directory of an installation.
func planeDir(peer string) string {
	if name, ok := link.StampOfPeer(peer); ok {
		return filepath.Join("stamps", name)
	}
	return peer
}

// Migrations are those of a plane, and its database's name.
func Migrations(peer string) (fs.FS, string) {
	switch peer {
	case link.ControlPeer:
		return control.FS, "control.db"
	case link.ProvisioningPeer:
		return provisioning.Files, "provisioning.db"
	}
	return stamp.FS, "stamp.db"
}

func (t Target) restore(ctx context.Context, k vault.Keys, one Chosen, stage string) (p Plane, err error) {
	peer := one.Index.Peer
	p = Plane{Index: one.Index, Dir: stage}
	if !t.One {
		p.Dir = filepath.Join(stage, planeDir(peer))
	}
	migrations, name := Migrations(peer)
	known, err := sqldb.Known(migrations)
	if err != nil {
		return p, err
	}
	if one.Index.Schema > known {
		return p, problem.New(problem.Conflict, "it was made by slipway %s, which has newer tables than this program; restore with that version", one.Index.Version)
	}
	copies := filepath.Join(p.Dir, "restored")
	p.Bytes, err = one.vault.Restore(ctx, one.Index, vault.Restoring{
		Identities: k.Identities,
		Place: func(path string) string {
			switch {
			case strings.HasPrefix(path, backup.Database+"/"):
				return filepath.Join(copies, filepath.Base(path))
			case strings.HasPrefix(path, "root/"):
				return filepath.Join(stage, strings.TrimPrefix(path, "root/"))
			}
			return filepath.Join(p.Dir, strings.TrimPrefix(path, "plane/"))
		},
		Progress: func(bytes int64) {
			if t.Progress != nil {
				t.Progress(peer, bytes)
			}
		},
	})
	if err != nil {
		return p, err
	}
	if p.Database, err = t.database(ctx, one.Index, migrations, copies, filepath.Join(p.Dir, name)); err != nil {
		return p, err
	}
	if err := t.logs(ctx, one.Index, copies, p.Dir); err != nil {
		return p, err
	}
	return p, os.RemoveAll(copies)
}

// database puts a database where its plane looks for it.
func (t Target) database(ctx context.Context, x vault.Index, migrations fs.FS, copies, file string) (string, error) {
	if x.Engine != string(sqldb.PostgreSQL) {
		return file, os.Rename(filepath.Join(copies, sqldb.FileCopy), file)
	}
	if t.Database == "" {
		return "", problem.New(problem.Invalid, "%s was kept in PostgreSQL; name a database to restore it into with --database", x.Peer).At("--database")
	}
	at := t.Database
	if !t.One {
		var err error
		if at, err = sqldb.InSchema(t.Database, strings.ReplaceAll(x.Peer, ".", "-")); err != nil {
			return "", err
		}
	}
	return at, sqldb.Load(ctx, at, migrations, copies, x.Schema)
}

// logs brings a stamp's logs back, into the store that its process opens.
func (t Target) logs(ctx context.Context, x vault.Index, copies, dir string) error {
	if len(x.Streams) == 0 {
		return nil
	}
	server, err := bus.Start(ctx, bus.Options{Name: "restore", Dir: filepath.Join(dir, "jetstream"), MaxStore: 1 << 50, Logger: t.Logger})
	if err != nil {
		return err
	}
	defer server.Stop()
	conn, err := server.Connect("restore")
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, stream := range x.Streams {
		if err := restoreLog(ctx, conn, stream, copies); err != nil {
			return err
		}
	}
	return nil
}

func restoreLog(ctx context.Context, conn *bus.Conn, stream link.BackupStream, copies string) (err error) {
	if filepath.Base(stream.Name) != stream.Name {
		return problem.New(problem.Conflict, "the backup is damaged: a log has the name %.40q", stream.Name)
	}
	head, err := os.ReadFile(filepath.Join(copies, backup.StreamHead(stream.Name)))
	if err != nil {
		return err
	}
	var copied bus.LogCopy
	if err := json.Unmarshal(head, &copied); err != nil {
		return err
	}
	file, err := os.Open(filepath.Join(copies, backup.StreamFile(stream.Name)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return conn.RestoreLog(ctx, copied, file)
}

// RestoreDamaged tries to restore a copy of the backup in which one bit is
// flipped, and returns what was said of it: nil where nothing was noticed.
func (c Chosen) RestoreDamaged(ctx context.Context, k vault.Keys, dir string) (said, err error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	copied, err := c.vault.CopyDamaged(ctx, c.Index, filepath.Join(dir, "vault"))
	if err != nil {
		return nil, err
	}
	again, err := copied.Find(ctx, c.Index.ID, k.Signers)
	if err != nil {
		return err, nil
	}
	_, said = copied.Restore(ctx, again, vault.Restoring{Identities: k.Identities, Place: func(path string) string { return filepath.Join(dir, "target", path) }})
	return said, nil
}
