-- +goose Up
CREATE TABLE token (
  id         TEXT PRIMARY KEY,
  name       TEXT    NOT NULL,
  hash       TEXT    NOT NULL UNIQUE, -- hex SHA-256; the token itself is shown once and kept nowhere
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  created_by TEXT    NOT NULL
);

CREATE TABLE session (
  hash       TEXT PRIMARY KEY,        -- of the cookie
  token_id   TEXT    NOT NULL REFERENCES token (id) ON DELETE CASCADE,
  csrf       TEXT    NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
);

CREATE TABLE environment (
  name       TEXT PRIMARY KEY,
  spec       TEXT    NOT NULL,
  version    INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);

CREATE TABLE stamp (
  name        TEXT PRIMARY KEY,
  environment TEXT    NOT NULL REFERENCES environment (name),
  spec        TEXT    NOT NULL,
  version     INTEGER NOT NULL,
  host        TEXT    NOT NULL,       -- what its driver last said devices are told
  created_at  INTEGER NOT NULL,
  updated_at  INTEGER NOT NULL
);

-- One row: the version of the directory, which grows with every change of
-- environments and stamps.
CREATE TABLE directory (
  id      INTEGER PRIMARY KEY CHECK (id = 1),
  version INTEGER NOT NULL
);
INSERT INTO directory (id, version) VALUES (1, 1);

CREATE TABLE audit (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  at       INTEGER NOT NULL,
  actor    TEXT    NOT NULL,
  action   TEXT    NOT NULL,
  object   TEXT    NOT NULL,
  outcome  TEXT    NOT NULL,          -- done, asked (on another plane; what came of it follows), failed
  detail   TEXT    NOT NULL
);
