-- +goose Up
-- Migrations of releases tried on masked copies of an environment's data.
CREATE TABLE rehearsal (
  id          TEXT PRIMARY KEY,
  environment TEXT    NOT NULL,
  release     TEXT    NOT NULL,
  digest      TEXT    NOT NULL,        -- of the release
  active      INTEGER NOT NULL,        -- 1 until it has ended
  at          INTEGER NOT NULL,
  version     INTEGER NOT NULL,        -- for compare and set
  document    TEXT    NOT NULL
);
CREATE INDEX rehearsal_at ON rehearsal (at);
CREATE INDEX rehearsal_of ON rehearsal (environment, digest, at);
CREATE INDEX rehearsal_active ON rehearsal (id) WHERE active = 1;
