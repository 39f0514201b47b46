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

-- Devices that may not register: decommissioned, or erased. Of an erased one
-- only the keyed hash of its registration id is known.
CREATE TABLE bar (
    hash            TEXT PRIMARY KEY,
    registration_id TEXT    NOT NULL,
    device_id       TEXT    NOT NULL,
    tenant          TEXT    NOT NULL,
    reason          TEXT    NOT NULL,
    at              INTEGER NOT NULL
);
CREATE INDEX bar_device ON bar (device_id) WHERE device_id <> '';
