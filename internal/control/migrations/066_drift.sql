-- +goose Up
-- Where what is so is not what is declared, as it was last seen.
CREATE TABLE drift (
  id          TEXT PRIMARY KEY,
  environment TEXT NOT NULL,
  class       TEXT NOT NULL,
  finding     TEXT NOT NULL            -- JSON
);

-- Differences that somebody answers for, for a time.
CREATE TABLE drift_acceptance (
  id          TEXT PRIMARY KEY,
  environment TEXT NOT NULL,
  acceptance  TEXT NOT NULL            -- JSON
);

-- How alike environments were.
CREATE TABLE parity (
  from_environment TEXT    NOT NULL,
  to_environment   TEXT    NOT NULL,
  score            REAL    NOT NULL,
  compared         INTEGER NOT NULL,
  unexplained      INTEGER NOT NULL,
  at               INTEGER NOT NULL,
  PRIMARY KEY (from_environment, to_environment, at)
);

-- What enrolments were declared as; provisioning keeps what is so.
CREATE TABLE declared_enrollment (
  kind        TEXT    NOT NULL,
  name        TEXT    NOT NULL,
  spec        TEXT    NOT NULL,        -- JSON, with digests of keys
  declared_at INTEGER NOT NULL,
  PRIMARY KEY (kind, name)
);
