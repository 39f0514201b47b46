-- +goose Up
-- One row: how long things are kept, as control last said; asked is 1 while
-- somebody wants a run at once.
CREATE TABLE care_plan (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  version  INTEGER NOT NULL,
  asked    INTEGER NOT NULL,
  document TEXT    NOT NULL
);

-- What each clean-up removed, batch by batch.
CREATE TABLE care_run (
  number   INTEGER PRIMARY KEY,
  ended    INTEGER NOT NULL,
  document TEXT    NOT NULL
);

-- What erasures removed; whose it was is not said.
CREATE TABLE care_erased (
  erasure TEXT    NOT NULL,
  kind    TEXT    NOT NULL,
  count   INTEGER NOT NULL,
  bytes   INTEGER NOT NULL,
  PRIMARY KEY (erasure, kind)
);

-- One row: what people set of retention. Version grows with holds, too.
CREATE TABLE retention (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  version  INTEGER NOT NULL,
  document TEXT    NOT NULL
);
INSERT INTO retention (id, version, document) VALUES (1, 1, '{}');

CREATE TABLE legal_hold (
  id       TEXT PRIMARY KEY,
  number   INTEGER NOT NULL UNIQUE,
  lifted   INTEGER NOT NULL,
  document TEXT    NOT NULL
);

-- Up to which run of each plane the audit log speaks.
CREATE TABLE care_seen (
  peer   TEXT PRIMARY KEY,
  number INTEGER NOT NULL
);
