-- +goose Up
CREATE TABLE upload (
  correlation_id TEXT PRIMARY KEY,
  device_id      TEXT    NOT NULL,
  blob           TEXT    NOT NULL, -- "device/name" as back ends know it
  status         TEXT    NOT NULL, -- open, completed, failed, expired
  size           INTEGER NOT NULL,
  description    TEXT    NOT NULL,
  created_at     INTEGER NOT NULL,
  expires_at     INTEGER NOT NULL,
  ended_at       INTEGER
);
CREATE INDEX upload_device ON upload (device_id, status);
CREATE INDEX upload_open ON upload (expires_at) WHERE status = 'open';

-- The files that are there: content is the name of one under the stamp's
-- directory, made anew for each upload.
CREATE TABLE blob (
  name       TEXT PRIMARY KEY,
  content    TEXT    NOT NULL,
  size       INTEGER NOT NULL,
  md5        BLOB    NOT NULL,
  type       TEXT    NOT NULL,
  updated_at INTEGER NOT NULL
);

-- Files whose upload has ended, for back ends that want to hear of it.
CREATE TABLE file_notification (
  sequence     INTEGER PRIMARY KEY AUTOINCREMENT,
  device_id    TEXT    NOT NULL,
  blob         TEXT    NOT NULL,
  size         INTEGER NOT NULL,
  uploaded_at  INTEGER NOT NULL,
  at           INTEGER NOT NULL,
  expires_at   INTEGER NOT NULL,
  lock         TEXT    NOT NULL DEFAULT '',
  locked_until INTEGER NOT NULL DEFAULT 0
);
