-- +goose Up
-- What devices are configured with beside releases.
CREATE TABLE configuration (
  name     TEXT PRIMARY KEY,
  document TEXT    NOT NULL,          -- JSON: schema, target, priority
  version  INTEGER NOT NULL
);

CREATE TABLE configuration_version (
  name       TEXT    NOT NULL REFERENCES configuration (name) ON DELETE CASCADE,
  number     INTEGER NOT NULL,
  content    TEXT    NOT NULL,        -- JSON
  changed_by TEXT    NOT NULL,
  reason     TEXT    NOT NULL,
  at         INTEGER NOT NULL,
  PRIMARY KEY (name, number)
);

-- Versions that asked to be in force in an environment, and what became of it.
CREATE TABLE configuration_change (
  sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
  name        TEXT NOT NULL,
  environment TEXT NOT NULL,
  state       TEXT NOT NULL,
  document    TEXT NOT NULL           -- JSON
);
CREATE INDEX configuration_change_of ON configuration_change (name, environment, sequence);
CREATE INDEX configuration_change_state ON configuration_change (state, sequence);

-- What is in force; number 0 is nothing.
CREATE TABLE configuration_standing (
  environment TEXT    NOT NULL REFERENCES environment (name) ON DELETE CASCADE,
  name        TEXT    NOT NULL,
  number      INTEGER NOT NULL,
  since       INTEGER NOT NULL,
  change_id   TEXT    NOT NULL,
  PRIMARY KEY (environment, name)
);
