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

-- Whose message a dead letter is; those from before are nobody's.
ALTER TABLE dead_letter ADD COLUMN device_id TEXT NOT NULL DEFAULT '';
CREATE INDEX dead_letter_device ON dead_letter (device_id) WHERE device_id <> '';
CREATE INDEX device_job_device ON device_job (device_id);
