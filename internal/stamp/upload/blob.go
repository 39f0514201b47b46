package upload

import (
	"bytes"
	"context"
	"crypto/md5" // what clients of blob storage check transfers with; it secures nothing
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Blob is a file that is there.
type Blob struct {
	Name      string
	Size      int64
	MD5       []byte
	Type      string
	UpdatedAt time.Time
	content   string
}

const selectBlob = "SELECT name, content, size, md5, type, updated_at FROM blob"

func scanBlob(rows *sql.Rows) (b Blob, err error) {
	var updated int64
	err = rows.Scan(&b.Name, &b.content, &b.Size, &b.MD5, &b.Type, &updated)
	b.UpdatedAt = sqldb.Time(updated)
	return b, err
}

// Find returns a file and opens it; the caller closes it.
func (u *Uploads) Find(ctx context.Context, name string) (Blob, *os.File, error) {
	b, found, err := sqldb.Row(ctx, u.DB, scanBlob, selectBlob+" WHERE name = ?", name)
	if err != nil {
		return b, nil, err
	}
	if !found {
		return b, nil, problem.New(problem.NotFound, "there is no file %q", name)
	}
	file, err := os.Open(filepath.Join(u.contents(), b.content))
	return b, file, err
}

func (u *Uploads) stageOf(id string) string { return filepath.Join(u.staging(), id) }

// underWay refuses what belongs to an upload that has ended.
func (u *Uploads) underWay(ctx context.Context, g Grant) error {
	open, _, err := sqldb.Row(ctx, u.DB, scanInt, "SELECT count(*) FROM upload WHERE correlation_id = ? AND blob = ? AND status = 'open' AND expires_at > ?",
		g.CorrelationID, g.Blob, sqldb.Micros(u.Now()))
	if err == nil && (open == 0 || !g.Write) {
		err = problem.New(problem.Denied, "the upload has ended; ask for another place")
	}
	return err
}

var errTooLarge = problem.New(problem.TooLarge, "a block has at most %d bytes, and a file %d", MaxBlock, int64(maxFile))

// PutBlock keeps a block of a file until the list that names it.
func (u *Uploads) PutBlock(ctx context.Context, g Grant, blockID string, body io.Reader, sum []byte) error {
	if err := u.underWay(ctx, g); err != nil {
		return err
	}
	if blockID == "" || len(blockID) > 256 {
		return problem.New(problem.Invalid, "a block's id has 1 to 256 characters").At("blockid")
	}
	stage := u.stageOf(g.CorrelationID)
	if err := os.MkdirAll(stage, 0o700); err != nil {
		return err
	}
	present, err := os.ReadDir(stage)
	if err != nil {
		return err
	}
	if len(present) >= maxBlocks {
		return problem.New(problem.TooLarge, "a file has at most %d blocks", maxBlocks)
	}
	if err := u.room(present); err != nil {
		return err
	}
	_, err = write(filepath.Join(stage, hex.EncodeToString([]byte(blockID))), body, MaxBlock, sum, false)
	return err
}

// room holds the blocks of one upload to what a file may have.
func (u *Uploads) room(blocks []os.DirEntry) error {
	var total int64
	for _, block := range blocks {
		info, err := block.Info()
		if err != nil {
			return err
		}
		total += info.Size()
	}
	if total >= maxFile {
		return errTooLarge
	}
	return nil
}

// PutBlockList makes the file of the blocks named, in that order.
func (u *Uploads) PutBlockList(ctx context.Context, g Grant, blockIDs []string, kind string) (Blob, error) {
	if err := u.underWay(ctx, g); err != nil {
		return Blob{}, err
	}
	if len(blockIDs) > maxBlocks {
		return Blob{}, problem.New(problem.TooLarge, "a file has at most %d blocks, not %d", maxBlocks, len(blockIDs))
	}
	var parts []io.Reader
	for _, id := range blockIDs {
		name := filepath.Join(u.stageOf(g.CorrelationID), hex.EncodeToString([]byte(id)))
		if _, err := os.Stat(name); err != nil {
			return Blob{}, problem.New(problem.Invalid, "the block %q has not arrived", id).At("BlockList")
		}
		parts = append(parts, &lazyFile{name: name})
	}
	return u.store(ctx, g.Blob, io.MultiReader(parts...), kind, nil)
}

// PutBlob makes the file of one request's body.
func (u *Uploads) PutBlob(ctx context.Context, g Grant, body io.Reader, kind string, sum []byte) (Blob, error) {
	if err := u.underWay(ctx, g); err != nil {
		return Blob{}, err
	}
	return u.store(ctx, g.Blob, body, kind, sum)
}

// store writes a file's content down durably and then names it: whoever reads
// sees the old file or the new one.
func (u *Uploads) store(ctx context.Context, name string, body io.Reader, kind string, sum []byte) (Blob, error) {
	content := rand.Text()
	path := filepath.Join(u.contents(), content)
	b := Blob{Name: name, Type: kind, UpdatedAt: u.Now(), content: content}
	digest := md5.New()
	var err error
	if b.Size, err = write(path, io.TeeReader(body, digest), maxFile, nil, true); err != nil {
		return b, err
	}
	b.MD5 = digest.Sum(nil)
	if sum != nil && !bytes.Equal(sum, b.MD5) {
		return b, errors.Join(errSum, os.Remove(path))
	}
	var replaced string
	err = u.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		old, _, err := sqldb.Row(ctx, tx, scanBlob, selectBlob+" WHERE name = ?", name)
		if err != nil {
			return err
		}
		replaced = old.content
		used, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT coalesce(sum(size), 0) FROM blob")
		if err != nil {
			return err
		}
		if used-old.Size+b.Size > u.Quota {
			return problem.New(problem.Denied, "with this file the files of this stamp would take up more than %d bytes", u.Quota)
		}
		_, err = tx.Exec(ctx, `INSERT INTO blob (name, content, size, md5, type, updated_at) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET content = excluded.content, size = excluded.size, md5 = excluded.md5, type = excluded.type, updated_at = excluded.updated_at`,
			name, b.content, b.Size, b.MD5, b.Type, sqldb.Micros(b.UpdatedAt))
		return err
	})
	if err != nil {
		return b, errors.Join(err, os.Remove(path))
	}
	if replaced != "" {
		if err := os.Remove(filepath.Join(u.contents(), replaced)); err != nil {
			u.Logger.Warn("an old file was not removed", "file", name, "error", err)
		}
	}
	return b, nil
}

var errSum = problem.New(problem.Invalid, "what arrived is not what its Content-MD5 says; send it again")

// write streams a body to a file, durably where asked, and leaves none behind
// when it fails.
func write(path string, body io.Reader, limit int64, sum []byte, durable bool) (size int64, err error) {
	draft := path + ".part"
	file, err := os.OpenFile(draft, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	digest := md5.New()
	size, err = io.Copy(file, io.TeeReader(io.LimitReader(body, limit+1), digest))
	switch {
	case err != nil:
	case size > limit:
		err = errTooLarge
	case sum != nil && !bytes.Equal(sum, digest.Sum(nil)):
		err = errSum
	case durable:
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return 0, errors.Join(err, os.Remove(draft))
	}
	if err := os.Rename(draft, path); err != nil || !durable {
		return size, err
	}
	return size, syncDir(filepath.Dir(path))
}

// syncDir makes the name of a file as durable as its content.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// lazyFile opens a block when its turn comes: a file may have more of them
// than a process has descriptors.
type lazyFile struct {
	name string
	file *os.File
	done bool
}

// Read reads the block and closes it at its end.
func (l *lazyFile) Read(b []byte) (int, error) {
	if l.done {
		return 0, io.EOF
	}
	if l.file == nil {
		var err error
		if l.file, err = os.Open(l.name); err != nil {
			return 0, err
		}
	}
	n, err := l.file.Read(b)
	if err != nil {
		l.done = true
		if closing := l.file.Close(); closing != nil && errors.Is(err, io.EOF) {
			err = closing
		}
	}
	return n, err
}
