-- +goose Up
-- What environments made from it have in common. An environment's own spec, and
-- its stamps and routes, are kept as they come out of it.
CREATE TABLE blueprint (
  name       TEXT PRIMARY KEY,
  spec       TEXT    NOT NULL,        -- JSON
  version    INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);

-- The secrets that routes of an environment name, encrypted.
CREATE TABLE secret (
  environment TEXT    NOT NULL REFERENCES environment (name) ON DELETE CASCADE,
  name        TEXT    NOT NULL,
  sealed      TEXT    NOT NULL,
  changed_by  TEXT    NOT NULL,
  changed_at  INTEGER NOT NULL,
  PRIMARY KEY (environment, name)
);
