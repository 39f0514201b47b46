// Package backup takes the backup of a plane: a copy of its database at one
// moment, of its logs just after, and of its files, onto its own disk and from
// there into a vault. It knows nothing of when that is done and what becomes of
// it; control does.
package backup

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/vault"
)

// Log is a log of the plane.
type Log struct {
	Name string
	Copy func(ctx context.Context, to io.Writer) (bus.LogCopy, error)
}

// Source is a plane as it is backed up.
type Source struct {
	Peer    string
	Version string // of the program
	Dir     string // the plane's directory: the small files in it are part of the backup
	// Root is the directory of the whole installation, where it has one besides:
	// its small files go along.
	Root   string
	DB     *sqldb.DB
	Logs   []Log
	Files  func(ctx context.Context, each func(vault.Item) error) error // that never change; may be nil
	Logger *slog.Logger
	Now    func() time.Time
}

// Taker takes backups of a plane, one at a time.
type Taker struct {
	Source
	asked chan link.TakeBackup

	mu    sync.Mutex
	state link.BackupState // of the newest
}

// New returns what takes backups of a plane, from Run on.
func New(s Source) *Taker { return &Taker{Source: s, asked: make(chan link.TakeBackup, 1)} }

// Take begins a backup; Status tells how far it is. Asked for again it is the
// same backup.
func (t *Taker) Take(_ context.Context, req link.TakeBackup) (link.BackupState, error) {
	if _, peer, err := vault.ParseID(req.ID); err != nil || peer != t.Peer {
		return link.BackupState{}, problem.New(problem.Invalid, "%.80q is no backup of %s", req.ID, t.Peer).At("id")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state.ID == req.ID {
		return t.state, nil
	}
	if t.state.ID != "" && t.state.Phase != link.BackupWritten && t.state.Phase != link.BackupFailed {
		return link.BackupState{}, problem.New(problem.Busy, "the backup %s is being taken", t.state.ID).After(time.Minute)
	}
	t.state = link.BackupState{ID: req.ID, Phase: link.BackupWaiting}
	t.asked <- req // there is room: nothing is being taken
	return t.state, nil
}

// Status tells how far a backup is.
func (t *Taker) Status(_ context.Context, ref link.BackupRef) (link.BackupState, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state.ID != ref.ID {
		return link.BackupState{}, problem.New(problem.NotFound, "the backup %s is not being taken; the process may have ended meanwhile", ref.ID)
	}
	return t.state, nil
}

func (t *Taker) now(change func(*link.BackupState)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.state)
}

func (t *Taker) phase(phase string) { t.now(func(s *link.BackupState) { s.Phase = phase }) }

// Run takes the backups that are asked for until ctx ends.
func (t *Taker) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case req := <-t.asked:
			digest, err := t.take(ctx, req)
			if err != nil {
				t.Logger.Warn("a backup failed", "backup", req.ID, "error", err)
			}
			t.now(func(s *link.BackupState) {
				s.Phase, s.Digest = link.BackupWritten, digest
				if err != nil {
					s.Phase, s.Failure = link.BackupFailed, told(err)
				}
			})
		}
	}
}

// told is a failure as people read it: they see it where they look after
// backups, and nobody else does.
func told(err error) string {
	if known := problem.Of(err); known.Kind != problem.Internal {
		return known.Error()
	}
	return err.Error()
}

// scratch is where copies are before they are in the vault, in the plane's
// directory; what a process that died has left there is cleared away.
const scratch = "backup-scratch"

func (t *Taker) take(ctx context.Context, req link.TakeBackup) (digest string, err error) {
	into, err := vault.Open(req.Vault)
	if err != nil {
		return "", err
	}
	recipients, err := vault.ParseRecipients(req.Recipients)
	if err != nil {
		return "", err
	}
	if err := into.CheckLock(ctx); err != nil {
		return "", err
	}
	dir := filepath.Join(t.Dir, scratch)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	t.phase(link.BackupCopying)
	x := vault.Index{ID: req.ID, Peer: t.Peer, Environment: req.Environment, Region: req.Region, Version: t.Version, Recipients: req.Recipients}
	if err := t.copy(ctx, dir, &x); err != nil {
		return "", err
	}
	t.phase(link.BackupWriting)
	x, err = into.Write(ctx, vault.Writing{
		Secret: req.Secret, Recipients: recipients, Rate: req.Rate, Anew: req.Anew, Now: t.Now,
		Progress: func(bytes int64) { t.now(func(s *link.BackupState) { s.Bytes = bytes }) },
	}, x, func(each func(vault.Item) error) error { return t.items(ctx, dir, each) })
	if err != nil {
		return "", err
	}
	return into.Hand(ctx, x)
}

// copy takes the database first and the logs after it: so the logs have all
// that the database speaks of.
func (t *Taker) copy(ctx context.Context, dir string, x *vault.Index) (err error) {
	if x.Canary, err = t.mark(ctx); err != nil {
		return err
	}
	x.TakenAt = t.Now().UTC().Truncate(time.Microsecond)
	copied, err := t.DB.Copy(ctx, dir)
	if err != nil {
		return err
	}
	x.Engine, x.Schema, x.Rows = string(copied.Engine), copied.Schema, copied.Rows
	for _, log := range t.Logs {
		one, err := copyLog(ctx, log, dir)
		if err != nil {
			return err
		}
		x.Streams = append(x.Streams, one)
	}
	return nil
}

// mark writes the canary.
func (t *Taker) mark(ctx context.Context) (link.Canary, error) {
	c := link.Canary{Mark: rand.Text(), At: t.Now().UTC().Truncate(time.Microsecond)}
	return c, t.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO canary (id, mark, at) VALUES (1, ?, ?) ON CONFLICT (id) DO UPDATE SET mark = excluded.mark, at = excluded.at", c.Mark, sqldb.Micros(c.At))
		return err
	})
}

// StreamFile and StreamHead are the files of a log's copy.
func StreamFile(name string) string { return "stream-" + name }

// StreamHead is the file that says what the copy is of.
func StreamHead(name string) string { return "stream-" + name + ".json" }

func copyLog(ctx context.Context, log Log, dir string) (of link.BackupStream, err error) {
	file, err := os.OpenFile(filepath.Join(dir, StreamFile(log.Name)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return of, err
	}
	copied, err := log.Copy(ctx, file)
	if err = errors.Join(err, file.Close()); err != nil {
		return of, err
	}
	head, err := json.Marshal(copied)
	if err != nil {
		return of, err
	}
	n, err := copied.Counts()
	if err != nil {
		return of, err
	}
	return link.BackupStream{Name: log.Name, Messages: n.Messages, First: n.First, Last: n.Last}, os.WriteFile(filepath.Join(dir, StreamHead(log.Name)), head, 0o600)
}

// Database is the directory, in a backup, of the copies of database and logs.
const Database = "plane/" + scratch

// items are all files of the backup.
func (t *Taker) items(ctx context.Context, dir string, each func(vault.Item) error) error {
	copies, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, one := range copies {
		if err := each(file(Database+"/"+one.Name(), filepath.Join(dir, one.Name()))); err != nil {
			return err
		}
	}
	if err := small(t.Dir, "plane", each); err != nil {
		return err
	}
	if t.Root != "" {
		if err := errors.Join(small(t.Root, "root", each), small(filepath.Join(t.Root, "stamps"), "root/stamps", each)); err != nil {
			return err
		}
	}
	if t.Files == nil {
		return nil
	}
	return t.Files(ctx, each)
}

func file(path, at string) vault.Item {
	return vault.Item{Path: path, Open: func(context.Context) (io.ReadCloser, error) { return os.Open(at) }}
}

// maxSmall is how large a file is at most that is part of a backup because it
// stands in the directory: keys, certificates, configurations.
const maxSmall = 1 << 20

var (
	plainName = regexp.MustCompile(`^[A-Za-z0-9._@-]+$`)
	// passing are files of this process, or copied in another way.
	passing = regexp.MustCompile(`^(lock|log|ready\.json|.*\.db(-wal|-shm)?|.*\.tmp|.*\.log)$`)
)

// small passes on the small files in a directory.
func small(dir, beginning string, each func(vault.Item) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) || !entry.Type().IsRegular() || passing.MatchString(entry.Name()) || !plainName.MatchString(entry.Name()) {
			continue
		}
		if err != nil {
			return err
		}
		if info.Size() > maxSmall {
			continue
		}
		if err := each(file(beginning+"/"+entry.Name(), filepath.Join(dir, entry.Name()))); err != nil {
			return err
		}
	}
	return nil
}

// Key passes on a file of keys, which path is the name of in the backup.
func Key(from, path string, each func(vault.Item) error) error { return each(file(path, from)) }

// Lasting passes on the files in a directory of which none ever changes, such
// as those that are named by what is in them; path is how they begin in the
// backup. One that goes away meanwhile is left out.
func Lasting(dir, path string, each func(vault.Item) error) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) || !entry.Type().IsRegular() || !plainName.MatchString(entry.Name()) || strings.HasSuffix(entry.Name(), ".part") {
			continue
		}
		if err != nil {
			return err
		}
		at := filepath.Join(dir, entry.Name())
		err = each(vault.Item{Path: path + "/" + entry.Name(), Size: info.Size(), Key: path + "/" + entry.Name(), Open: func(context.Context) (io.ReadCloser, error) { return os.Open(at) }})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
