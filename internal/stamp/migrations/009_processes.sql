-- +goose Up
-- The processes that serve the stamp together. One is there while its lease
-- runs, by the database's own clock.
CREATE TABLE process (
  id          TEXT PRIMARY KEY,
  name        TEXT    NOT NULL,
  version     TEXT    NOT NULL,
  started_at  INTEGER NOT NULL,
  renewed_at  INTEGER NOT NULL,
  connections INTEGER NOT NULL
);

-- Who of them does what only one may do.
CREATE TABLE leader (
  id      INTEGER PRIMARY KEY CHECK (id = 1),
  process TEXT    NOT NULL,
  until   INTEGER NOT NULL
);

-- To which process a device is connected; empty where there is but one.
ALTER TABLE device ADD COLUMN process TEXT NOT NULL DEFAULT '';
CREATE INDEX device_process ON device (process) WHERE connected = 1;
