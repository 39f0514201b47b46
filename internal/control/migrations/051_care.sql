-- +goose Up
-- Devices taken out of use.
CREATE TABLE decommission (
  id        TEXT PRIMARY KEY,
  number    INTEGER NOT NULL UNIQUE,
  device_id TEXT    NOT NULL,
  active    INTEGER NOT NULL,        -- 1 while there is something left to do
  version   INTEGER NOT NULL,        -- for compare and set
  document  TEXT    NOT NULL
);
CREATE INDEX decommission_device ON decommission (device_id, number);
CREATE INDEX decommission_active ON decommission (number) WHERE active = 1;

-- What was, or is to be, forgotten on every plane.
CREATE TABLE erasure (
  id       TEXT PRIMARY KEY,
  number   INTEGER NOT NULL UNIQUE,
  active   INTEGER NOT NULL,
  version  INTEGER NOT NULL,         -- for compare and set
  document TEXT    NOT NULL
);

-- What is left to do of it: a device on a plane.
CREATE TABLE erasure_part (
  erasure   TEXT    NOT NULL,
  device_id TEXT    NOT NULL,
  peer      TEXT    NOT NULL,
  stage     INTEGER NOT NULL,
  PRIMARY KEY (erasure, device_id, peer)
);
CREATE INDEX erasure_part_stage ON erasure_part (erasure, stage);

-- Whose a legal hold is.
ALTER TABLE legal_hold ADD COLUMN device_id TEXT NOT NULL DEFAULT '';
