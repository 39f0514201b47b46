-- +goose Up
-- The number of what stamps are told of verified authorities; it grows with
-- every change.
CREATE TABLE trusted (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL
);
INSERT INTO trusted (id, version) VALUES (1, 1);
