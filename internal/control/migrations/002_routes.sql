-- +goose Up
CREATE TABLE route (
  name        TEXT PRIMARY KEY,
  environment TEXT    NOT NULL REFERENCES environment (name),
  spec        TEXT    NOT NULL,
  version     INTEGER NOT NULL,
  created_at  INTEGER NOT NULL,
  updated_at  INTEGER NOT NULL
);
