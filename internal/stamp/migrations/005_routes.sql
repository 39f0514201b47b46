-- +goose Up
-- The routes control wants, and how far each has come: position is the
-- sequence up to which everything in its log is delivered or dead.
CREATE TABLE route (
  name         TEXT PRIMARY KEY,
  spec         TEXT    NOT NULL,
  position     INTEGER NOT NULL,
  passed       INTEGER NOT NULL DEFAULT 0,
  delivered    INTEGER NOT NULL DEFAULT 0,
  dead         INTEGER NOT NULL DEFAULT 0,
  dropped      INTEGER NOT NULL DEFAULT 0,
  lost         INTEGER NOT NULL DEFAULT 0,
  kept         INTEGER NOT NULL DEFAULT 0, -- dead letters
  kept_bytes   INTEGER NOT NULL DEFAULT 0,
  delivered_at INTEGER
);
CREATE TABLE routes_version (
  id      INTEGER PRIMARY KEY CHECK (id = 1),
  version INTEGER NOT NULL
);
INSERT INTO routes_version VALUES (1, 0);

CREATE TABLE dead_letter (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  route    TEXT    NOT NULL REFERENCES route (name) ON DELETE CASCADE,
  message  BLOB    NOT NULL, -- JSON, enriched, as it would have gone out
  sequence INTEGER NOT NULL,
  reason   TEXT    NOT NULL,
  attempts INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  waiting  INTEGER NOT NULL DEFAULT 0 -- to be sent once more
);
CREATE INDEX dead_letter_route ON dead_letter (route, id);
CREATE INDEX dead_letter_waiting ON dead_letter (route, id) WHERE waiting = 1;

-- Groups of readers of the built-in consumer API.
CREATE TABLE consumer (
  name         TEXT    NOT NULL,
  log          TEXT    NOT NULL, -- telemetry, events
  partition    INTEGER NOT NULL, -- -1 reads everything
  position     INTEGER NOT NULL,
  updated_at   INTEGER NOT NULL,
  PRIMARY KEY (name, log, partition)
);
