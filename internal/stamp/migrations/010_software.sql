-- +goose Up
-- What control wants to run, one document, and how far the stamp has come with
-- it: which stretch of the ring its rollout reaches, and whether it has halted.
CREATE TABLE releases (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  version  INTEGER NOT NULL,
  document TEXT    NOT NULL,
  course   TEXT    NOT NULL
);

-- The releases that devices have orders of, so that an order can be told again
-- and taken back when control speaks of its release no more.
CREATE TABLE release (
  digest   TEXT PRIMARY KEY,
  document TEXT NOT NULL
);

-- Where each device stands with what it is to run.
CREATE TABLE software (
  device_id  TEXT PRIMARY KEY REFERENCES device (device_id) ON DELETE CASCADE,
  place      INTEGER NOT NULL,                 -- on the ring of 2^32
  rollout    TEXT    NOT NULL DEFAULT '',      -- that reaches it; empty where the base is for it
  wave       INTEGER NOT NULL DEFAULT 0,       -- that reached it
  target     TEXT    NOT NULL DEFAULT '',      -- digest of the release it is to run
  name       TEXT    NOT NULL DEFAULT '',      -- and its name
  given      TEXT    NOT NULL DEFAULT '',      -- digest of the release its twin tells of
  given_for  TEXT    NOT NULL DEFAULT '',      -- the hardware that was chosen for
  back       INTEGER NOT NULL DEFAULT 0,
  number     INTEGER NOT NULL DEFAULT 0,       -- of its last order
  attempts   INTEGER NOT NULL DEFAULT 0,
  step       TEXT    NOT NULL DEFAULT 'rests',
  state      TEXT    NOT NULL DEFAULT 'exempt',
  reason     TEXT    NOT NULL DEFAULT 'nothing is to run here yet',
  progress   INTEGER NOT NULL DEFAULT 0,
  hardware   TEXT    NOT NULL DEFAULT '',
  running    TEXT    NOT NULL DEFAULT '{}',    -- version by software
  ordered_at INTEGER,
  since      INTEGER,                          -- since when the clock of its deadline runs
  remaining  INTEGER NOT NULL DEFAULT 0,       -- of its deadline when that began
  due_at     INTEGER,                          -- when it is to be looked at again
  seen_at    INTEGER,                          -- when it last asked without a connection
  updated_at INTEGER NOT NULL,
  edition    INTEGER NOT NULL DEFAULT 1        -- grows with every change
);
CREATE INDEX software_place ON software (place, device_id);
CREATE INDEX software_unreached ON software (place, device_id) WHERE wave = 0;
CREATE INDEX software_reached ON software (rollout, target, device_id) WHERE wave > 0;
CREATE INDEX software_base ON software (target, device_id) WHERE wave = 0;
CREATE INDEX software_census ON software (rollout, wave, state, hardware);
CREATE INDEX software_state ON software (state, device_id);
CREATE INDEX software_queue ON software (rollout, attempts, device_id) WHERE step = 'queued';
CREATE INDEX software_work ON software (rollout, state) WHERE step = 'works';
CREATE INDEX software_due ON software (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX software_given ON software (given);
