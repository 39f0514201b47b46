-- +goose Up
CREATE TABLE configuration (
  id         TEXT PRIMARY KEY,
  edition    INTEGER NOT NULL,
  document   TEXT    NOT NULL, -- what the back end sent, checked
  target     TEXT    NOT NULL,
  priority   INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);

-- Which configuration an identity's desired properties come from, and which
-- properties those are, so that they can be taken back.
CREATE TABLE applied_configuration (
  device_id        TEXT PRIMARY KEY REFERENCES device (device_id) ON DELETE CASCADE,
  configuration_id TEXT    NOT NULL,
  edition          INTEGER NOT NULL,
  content          TEXT    NOT NULL
);
CREATE INDEX applied_configuration_id ON applied_configuration (configuration_id);

CREATE TABLE job (
  id            TEXT PRIMARY KEY,
  type          TEXT    NOT NULL,
  status        TEXT    NOT NULL,
  document      TEXT    NOT NULL, -- what the back end sent, checked
  condition     TEXT    NOT NULL,
  actor         TEXT    NOT NULL,
  created_at    INTEGER NOT NULL,
  start_at      INTEGER NOT NULL,
  end_at        INTEGER,
  deadline      INTEGER NOT NULL,
  failure       TEXT    NOT NULL
);
CREATE INDEX job_due ON job (status, start_at);

CREATE TABLE device_job (
  job_id     TEXT    NOT NULL REFERENCES job (id) ON DELETE CASCADE,
  device_id  TEXT    NOT NULL,
  status     TEXT    NOT NULL,
  outcome    TEXT    NOT NULL, -- JSON, or empty
  failure    TEXT    NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (job_id, device_id)
) WITHOUT ROWID;
CREATE INDEX device_job_status ON device_job (job_id, status);
