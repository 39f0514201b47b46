-- +goose Up
-- The feature flags of the stamp's devices, as control said last.
CREATE TABLE flags (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  version  TEXT NOT NULL,
  document TEXT NOT NULL              -- JSON
);
