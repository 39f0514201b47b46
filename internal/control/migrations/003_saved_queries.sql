-- +goose Up
CREATE TABLE saved_query (
  name       TEXT PRIMARY KEY,
  query      TEXT    NOT NULL,
  saved_by   TEXT    NOT NULL,
  updated_at INTEGER NOT NULL
);
