-- +goose Up
CREATE TABLE tenant (
  name       TEXT PRIMARY KEY,
  spec       TEXT    NOT NULL,
  version    INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);

-- Whose things a token sees; empty sees everything.
ALTER TABLE token ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
