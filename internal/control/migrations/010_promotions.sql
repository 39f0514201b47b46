-- +goose Up
CREATE TABLE promotion (
  id          TEXT PRIMARY KEY,
  environment TEXT    NOT NULL,
  digest      TEXT    NOT NULL,        -- of its release
  state       TEXT    NOT NULL,
  waiting     INTEGER NOT NULL,        -- 1 until it runs
  running     INTEGER NOT NULL,        -- 1 while it runs or is verified
  version     INTEGER NOT NULL,        -- for compare and set
  document    TEXT    NOT NULL,
  created_at  INTEGER NOT NULL
);
CREATE UNIQUE INDEX promotion_waiting ON promotion (environment) WHERE waiting = 1;
CREATE UNIQUE INDEX promotion_running ON promotion (environment) WHERE running = 1;
CREATE INDEX promotion_environment ON promotion (environment, created_at);

-- The verdicts on releases where they ran; the last of each counts.
CREATE TABLE verification (
  sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
  environment TEXT    NOT NULL,
  digest      TEXT    NOT NULL,
  passed      INTEGER NOT NULL,
  at          INTEGER NOT NULL,
  document    TEXT    NOT NULL
);
CREATE INDEX verification_digest ON verification (environment, digest, sequence);

-- Releases that may not enter an environment until somebody lifts that.
CREATE TABLE rejection (
  sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
  environment TEXT    NOT NULL,
  digest      TEXT    NOT NULL,
  lifted      INTEGER NOT NULL,
  document    TEXT    NOT NULL
);
CREATE INDEX rejection_digest ON rejection (environment, digest, lifted);

CREATE TABLE hold (
  id          TEXT PRIMARY KEY,
  environment TEXT    NOT NULL,
  ended       INTEGER NOT NULL,
  document    TEXT    NOT NULL
);
CREATE INDEX hold_environment ON hold (environment, ended);

CREATE TABLE waiver (
  id          TEXT PRIMARY KEY,
  environment TEXT    NOT NULL,
  digest      TEXT    NOT NULL,
  document    TEXT    NOT NULL
);
CREATE INDEX waiver_digest ON waiver (environment, digest);

-- What webhooks are still to be told.
CREATE TABLE promotion_notice (
  sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
  environment TEXT    NOT NULL,
  webhook     TEXT    NOT NULL,
  url         TEXT    NOT NULL,
  body        TEXT    NOT NULL,
  attempts    INTEGER NOT NULL,
  next_at     INTEGER NOT NULL,
  last_error  TEXT    NOT NULL
);
CREATE INDEX promotion_notice_next ON promotion_notice (next_at);

-- When a release ran well in an environment, and when not: what soaks count.
CREATE TABLE stretch (
  sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
  environment TEXT    NOT NULL,
  digest      TEXT    NOT NULL,
  from_at     INTEGER NOT NULL,
  to_at       INTEGER NOT NULL,
  healthy     INTEGER NOT NULL
);
CREATE INDEX stretch_digest ON stretch (environment, digest, sequence);
