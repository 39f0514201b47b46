-- +goose Up
-- Certificate authorities that enrolments name, and the code whose owner
-- proves to have the key.
CREATE TABLE authority (
    name_key    TEXT PRIMARY KEY, -- the name in lower case
    name        TEXT NOT NULL,
    certificate TEXT NOT NULL,    -- PEM
    code        TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    verified_at INTEGER
);
