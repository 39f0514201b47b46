-- +goose Up
-- A record written just before each backup; what a restored database has of it
-- shows of when it is.
CREATE TABLE canary (
  id   INTEGER PRIMARY KEY CHECK (id = 1),
  mark TEXT    NOT NULL,
  at   INTEGER NOT NULL
);

-- Backups that are there or on their way, of every plane.
CREATE TABLE backup (
  id       TEXT PRIMARY KEY,           -- its moment, and its peer
  peer     TEXT    NOT NULL,
  state    TEXT    NOT NULL,           -- taking, kept, failed
  at       INTEGER NOT NULL,           -- when it was begun
  document TEXT    NOT NULL
);
CREATE INDEX backup_peer ON backup (peer, at);
CREATE INDEX backup_taking ON backup (id) WHERE state = 'taking';

-- One row: how often backups are taken, which are kept, what is promised.
CREATE TABLE backup_plan (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  document TEXT NOT NULL
);

-- Backups tried by restoring them.
CREATE TABLE drill (
  id       TEXT PRIMARY KEY,
  active   INTEGER NOT NULL,           -- 1 until it has ended
  at       INTEGER NOT NULL,
  version  INTEGER NOT NULL,           -- for compare and set
  document TEXT    NOT NULL
);
CREATE INDEX drill_at ON drill (at);
CREATE INDEX drill_active ON drill (id) WHERE active = 1;
