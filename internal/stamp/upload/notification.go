package upload

import (
	"context"
	"crypto/rand"
	"database/sql"
	"net/url"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

const (
	notificationTTL  = time.Hour
	notificationLock = time.Minute
)

// Notification tells a back end of a file.
type Notification struct {
	DeviceID   string
	Blob       string
	Size       int64
	UploadedAt time.Time
	At         time.Time
}

// Document is the notification as back ends read it; host is where they fetch
// files.
func (n Notification) Document(host string) any {
	return map[string]any{
		"deviceId": n.DeviceID, "blobUri": "https://" + host + BlobPath(n.Blob), "blobName": n.Blob, "blobSizeInBytes": n.Size,
		"lastUpdatedTime": n.UploadedAt.Format(time.RFC3339Nano), "enqueuedTimeUtc": n.At.Format(time.RFC3339Nano),
	}
}

// BlobPath is the path of a file on the hub's HTTPS address.
func BlobPath(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return "/" + Container + "/" + strings.Join(parts, "/")
}

func scanNotification(rows *sql.Rows) (n Notification, err error) {
	var uploaded, at int64
	err = rows.Scan(&n.DeviceID, &n.Blob, &n.Size, &uploaded, &at)
	n.UploadedAt, n.At = sqldb.Time(uploaded), sqldb.Time(at)
	return n, err
}

// ReceiveNotification lends the oldest notification out for a minute; lock is
// what settles it.
func (u *Uploads) ReceiveNotification(ctx context.Context) (n Notification, lock string, found bool, err error) {
	lock, now := rand.Text(), u.Now()
	err = u.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE file_notification SET lock = ?, locked_until = ? WHERE sequence =
			(SELECT sequence FROM file_notification WHERE locked_until <= ? AND expires_at > ? ORDER BY sequence LIMIT 1)`,
			lock, sqldb.Micros(now.Add(notificationLock)), sqldb.Micros(now), sqldb.Micros(now))
		if err != nil {
			return err
		}
		n, found, err = sqldb.Row(ctx, tx, scanNotification, "SELECT device_id, blob, size, uploaded_at, at FROM file_notification WHERE lock = ?", lock)
		return err
	})
	return n, lock, found, err
}

// CompleteNotification removes one its receiver has dealt with.
func (u *Uploads) CompleteNotification(ctx context.Context, lock string) error {
	return u.onNotification(ctx, "DELETE FROM file_notification WHERE lock = ? AND lock <> '' AND locked_until > ?", lock)
}

// AbandonNotification puts one back for the next receiver.
func (u *Uploads) AbandonNotification(ctx context.Context, lock string) error {
	defer u.Notified.Ring()
	return u.onNotification(ctx, "UPDATE file_notification SET lock = '', locked_until = 0 WHERE lock = ? AND lock <> '' AND locked_until > ?", lock)
}

func (u *Uploads) onNotification(ctx context.Context, statement, lock string) error {
	return u.DB.Commit(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		changed, err := tx.Exec(ctx, statement, lock, sqldb.Micros(u.Now()))
		if err == nil && changed == 0 {
			err = problem.New(problem.Stale, "the notification is not locked by this token any more: a lock ends after %s", notificationLock)
		}
		return err
	})
}
