-- +goose Up
-- Feature flags that are declared beside releases.
CREATE TABLE flag (
  name       TEXT PRIMARY KEY,
  spec       TEXT    NOT NULL,        -- JSON, as flagd defines a flag
  version    INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);

-- What environments say of flags beside their definitions.
CREATE TABLE flag_overlay (
  environment TEXT    NOT NULL REFERENCES environment (name) ON DELETE CASCADE,
  flag        TEXT    NOT NULL,
  overlay     TEXT    NOT NULL,       -- JSON
  version     INTEGER NOT NULL,
  changed_by  TEXT    NOT NULL,
  reason      TEXT    NOT NULL,
  changed_at  INTEGER NOT NULL,
  PRIMARY KEY (environment, flag)
);

CREATE TABLE flag_change (
  sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
  environment TEXT    NOT NULL,
  flag        TEXT    NOT NULL,
  before      TEXT    NOT NULL,       -- JSON overlays
  after       TEXT    NOT NULL,
  changed_by  TEXT    NOT NULL,
  reason      TEXT    NOT NULL,
  changed_at  INTEGER NOT NULL
);
CREATE INDEX flag_change_flag ON flag_change (flag, sequence);

-- How often a variant was given out on a day, while the environment had the
-- flags of a release.
CREATE TABLE flag_exposure (
  environment TEXT    NOT NULL,
  flag        TEXT    NOT NULL,
  variant     TEXT    NOT NULL,
  release     TEXT    NOT NULL,
  day         INTEGER NOT NULL,       -- since 1970
  evaluations INTEGER NOT NULL,
  last_at     INTEGER NOT NULL,
  PRIMARY KEY (environment, flag, day, variant, release)
);
CREATE INDEX flag_exposure_flag ON flag_exposure (flag, day);
