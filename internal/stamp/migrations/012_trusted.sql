-- +goose Up
-- The authorities that provisioning says were proven, one document.
CREATE TABLE trusted (
  id      INTEGER PRIMARY KEY CHECK (id = 1),
  version INTEGER NOT NULL,
  der     BLOB    NOT NULL -- of all, one after the other
);
