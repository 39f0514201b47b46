-- +goose Up
-- A record written just before each backup; what a restored database has of it
-- shows of when it is.
CREATE TABLE canary (
  id   INTEGER PRIMARY KEY CHECK (id = 1),
  mark TEXT    NOT NULL,
  at   INTEGER NOT NULL
);
