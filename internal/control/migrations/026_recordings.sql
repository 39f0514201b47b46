-- +goose Up
-- Records of what people did through the gateway, and what came back.
CREATE TABLE recording (
  sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
  id          TEXT    NOT NULL UNIQUE,
  environment TEXT    NOT NULL,
  person      TEXT    NOT NULL,
  grant_id    TEXT    NOT NULL,        -- empty where roles were enough
  way         TEXT    NOT NULL,        -- shell, api, console
  open        INTEGER NOT NULL,        -- 1 until it is closed
  opened_at   INTEGER NOT NULL,
  last_at     INTEGER NOT NULL,
  lines       INTEGER NOT NULL,
  bytes       INTEGER NOT NULL,
  document    TEXT    NOT NULL
);
CREATE INDEX recording_open ON recording (open, grant_id);
CREATE INDEX recording_environment ON recording (environment, sequence);

CREATE TABLE recording_line (
  recording   TEXT    NOT NULL,
  number      INTEGER NOT NULL,
  at          INTEGER NOT NULL,        -- microseconds since it was opened
  kind        TEXT    NOT NULL,        -- i: what was asked; o: what came back
  text        TEXT    NOT NULL,
  PRIMARY KEY (recording, number)
);
