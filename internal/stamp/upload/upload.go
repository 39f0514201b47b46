// Package upload takes files from devices: a device asks for a place, puts the
// file there in blocks or at once, as clients of blob storage do, and says that
// it is done. Files are streamed to disk and appear whole or not at all.
package upload

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/tasks"
)

// Container is the one container that holds every device's files.
const Container = "uploads"

// The limits of uploads.
const (
	MaxOpen   = 10 // uploads under way of one device
	maxName   = 1024
	Life      = time.Hour // of an upload under way
	MaxBlock  = 100 << 20
	maxBlocks = 50_000
	maxFile   = 10 << 30
)

// Options are what uploads need.
type Options struct {
	DB     *sqldb.DB
	Dir    string
	Quota  int64 // bytes of all files of the stamp
	Logger *slog.Logger
	Now    func() time.Time
}

// DefaultQuota is what a stamp keeps of files.
const DefaultQuota = 20 << 30

// Uploads are the files of one stamp's devices.
type Uploads struct {
	Options
	key []byte // signs the places given out
	// Notified rings when there may be a notification of a file.
	Notified tasks.Bell
}

// Open returns the uploads of a stamp.
func Open(ctx context.Context, o Options) (*Uploads, error) {
	u := &Uploads{Options: o}
	for _, dir := range []string{u.contents(), u.staging()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	var err error
	u.key, err = u.loadKey()
	return u, err
}

func (u *Uploads) contents() string { return filepath.Join(u.Dir, "contents") }
func (u *Uploads) staging() string  { return filepath.Join(u.Dir, "staging") }

// loadKey reads the key that signs places, which outlives the process so that
// an upload does too.
func (u *Uploads) loadKey() ([]byte, error) {
	file := filepath.Join(u.Dir, "key")
	key, err := os.ReadFile(file)
	if err == nil && len(key) == sha256.Size {
		return key, nil
	}
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	key = make([]byte, sha256.Size)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	return key, os.WriteFile(file, key, 0o600)
}

// Place is where a device puts its file.
type Place struct {
	CorrelationID string
	Blob          string // "device/name"
	Signature     string // the query of the URL, with its question mark
}

// Start gives a device a place for a file.
func (u *Uploads) Start(ctx context.Context, device, name string) (Place, error) {
	if err := checkName(name); err != nil {
		return Place{}, err
	}
	owner, module := link.SplitIdentity(device)
	blob := owner + "/" + name
	if module != "" {
		blob = owner + "/" + module + "/" + name
	}
	now := u.Now()
	expires := now.Add(Life)
	id := now.UTC().Format("20060102150405") + "_" + rand.Text()
	err := u.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		open, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT count(*) FROM upload WHERE device_id = ? AND status = 'open' AND expires_at > ?", device, sqldb.Micros(now))
		if err != nil {
			return err
		}
		if open >= MaxOpen {
			return problem.New(problem.Denied, "device %s has %d uploads under way, the most there may be; end one first", device, open)
		}
		used, _, err := sqldb.Row(ctx, tx, scanInt, "SELECT coalesce(sum(size), 0) FROM blob")
		if err != nil {
			return err
		}
		if used >= u.Quota {
			return problem.New(problem.Denied, "the files of this stamp take up %d bytes already, the most there may be", used)
		}
		_, err = tx.Exec(ctx, "INSERT INTO upload (correlation_id, device_id, blob, status, size, description, created_at, expires_at) VALUES (?, ?, ?, 'open', 0, '', ?, ?)",
			id, device, blob, sqldb.Micros(now), sqldb.Micros(expires))
		return err
	})
	return Place{id, blob, u.sign(blob, "rw", id, expires)}, err
}

// checkName refuses names that would not be one file of the device.
func checkName(name string) error {
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
		return problem.New(problem.Invalid, "a file's name has 1 to %d printable characters and no backslash", maxName).At("blobName")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return problem.New(problem.Invalid, "the parts of a file's name are not empty and not dots, unlike in %q", name).At("blobName")
		}
	}
	return nil
}

// sign makes the query of a place: what may be done with which file until when.
func (u *Uploads) sign(blob, rights, id string, expires time.Time) string {
	values := url.Values{"sr": {"b"}, "sp": {rights}, "se": {expires.UTC().Format(time.RFC3339)}, "scid": {id}}
	values.Set("sig", u.signature(blob, values))
	return "?" + values.Encode()
}

func (u *Uploads) signature(blob string, values url.Values) string {
	mac := hmac.New(sha256.New, u.key)
	for _, part := range []string{blob, values.Get("sp"), values.Get("se"), values.Get("scid")} {
		mac.Write([]byte(strconv.Itoa(len(part)) + ":" + part))
	}
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Grant is what a signed place allows.
type Grant struct {
	Blob          string
	CorrelationID string
	Write         bool
}

// Verify reads the query of a request for a file.
func (u *Uploads) Verify(blob string, values url.Values) (Grant, error) {
	if !hmac.Equal([]byte(values.Get("sig")), []byte(u.signature(blob, values))) {
		return Grant{}, problem.New(problem.Denied, "the signature is not one for this file")
	}
	expires, err := time.Parse(time.RFC3339, values.Get("se"))
	if err != nil || u.Now().After(expires) {
		return Grant{}, problem.New(problem.Denied, "the signature has expired")
	}
	return Grant{blob, values.Get("scid"), strings.Contains(values.Get("sp"), "w")}, nil
}

func scanInt(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }

// End notes what a device says of its upload. A file that is there is told to
// back ends.
func (u *Uploads) End(ctx context.Context, device, id string, succeeded bool, description string) error {
	now := u.Now()
	err := u.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		row, found, err := sqldb.Row(ctx, tx, scanUpload, selectUpload+" WHERE correlation_id = ? AND device_id = ?", id, device)
		if err != nil {
			return err
		}
		if !found || row.Status != "open" {
			return problem.New(problem.NotFound, "device %s has no upload %q under way", device, id)
		}
		b, there, err := sqldb.Row(ctx, tx, scanBlob, selectBlob+" WHERE name = ?", row.Blob)
		if err != nil {
			return err
		}
		if succeeded && !there {
			return problem.New(problem.Invalid, "the file %s has not arrived; put it before saying that it has", row.Blob)
		}
		status := "completed"
		if !succeeded {
			status = "failed"
		}
		if len(description) > 1024 {
			description = description[:1024]
		}
		_, err = tx.Exec(ctx, "UPDATE upload SET status = ?, size = ?, description = ?, ended_at = ? WHERE correlation_id = ?", status, b.Size, description, sqldb.Micros(now), id)
		if err != nil || !succeeded {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO file_notification (device_id, blob, size, uploaded_at, at, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
			device, row.Blob, b.Size, sqldb.Micros(b.UpdatedAt), sqldb.Micros(now), sqldb.Micros(now.Add(notificationTTL)))
		return err
	})
	if rest := os.RemoveAll(u.stageOf(id)); rest != nil {
		u.Logger.Warn("the blocks of an upload were not removed", "upload", id, "error", rest)
	}
	u.Notified.Ring()
	return err
}

const selectUpload = "SELECT correlation_id, device_id, blob, status, size, description, created_at, ended_at FROM upload"

func scanUpload(rows *sql.Rows) (l link.Upload, err error) {
	var created int64
	var ended sql.NullInt64
	err = rows.Scan(&l.CorrelationID, &l.DeviceID, &l.Blob, &l.Status, &l.Size, &l.Description, &created, &ended)
	l.CreatedAt, l.EndedAt = sqldb.Time(created), sqldb.NullTime(ended)
	return l, err
}

// List returns the newest uploads, of one device or of all.
func (u *Uploads) List(ctx context.Context, device string, limit int) ([]link.Upload, error) {
	return sqldb.Rows(ctx, u.DB, scanUpload, selectUpload+" WHERE (? = '' OR device_id = ?) ORDER BY created_at DESC, correlation_id LIMIT ?", device, device, limit)
}

// sweepEvery is how often uploads that were given up are cleared away.
const sweepEvery = time.Minute

// Run clears away what was begun and never ended, until ctx ends.
func (u *Uploads) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := u.sweep(ctx); err != nil && ctx.Err() == nil {
			u.Logger.Error("uploads not cleared away", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (u *Uploads) sweep(ctx context.Context) error {
	now := sqldb.Micros(u.Now())
	err := u.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE upload SET status = 'expired', ended_at = ? WHERE status = 'open' AND expires_at <= ?", now, now); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DELETE FROM file_notification WHERE expires_at <= ?", now)
		return err
	})
	if err != nil {
		return err
	}
	return u.sweepFiles(ctx)
}

// sweepFiles removes blocks whose upload has ended and contents no blob names:
// what a crash left between writing a file and recording it.
func (u *Uploads) sweepFiles(ctx context.Context) error {
	stages, err := os.ReadDir(u.staging())
	if err != nil {
		return err
	}
	for _, entry := range stages {
		open, _, err := sqldb.Row(ctx, u.DB, scanInt, "SELECT count(*) FROM upload WHERE correlation_id = ? AND status = 'open'", entry.Name())
		if err != nil {
			return err
		}
		if open == 0 {
			if err := os.RemoveAll(filepath.Join(u.staging(), entry.Name())); err != nil {
				return err
			}
		}
	}
	contents, err := os.ReadDir(u.contents())
	if err != nil {
		return err
	}
	for _, entry := range contents {
		info, err := entry.Info()
		if err != nil || u.Now().Sub(info.ModTime()) < Life {
			continue
		}
		used, _, err := sqldb.Row(ctx, u.DB, scanInt, "SELECT count(*) FROM blob WHERE content = ?", entry.Name())
		if err != nil {
			return err
		}
		if used == 0 {
			if err := os.Remove(filepath.Join(u.contents(), entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
